//! Uploads: objects that arrive in parts, in any order, over any time.
//!
//! Each part is a content of its own. Completing joins their manifests: no byte is read or written where every part
//! but the last is a whole number of chunks, which holds for every client's default part size.

use catalog::{Tx, contents, parts, uploads};
use md5::{Digest, Md5};
use model::buckets::{Object, Part, Upload};
use model::contents::Content;
use model::identity::{Principal, Role};
use model::names::check_object_key;
use model::{ContentId, UploadId};

use crate::buckets::find;
use crate::content::{self, Kept};
use crate::digest::Wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::objects::PutObject;
use crate::service::Service;
use crate::streams::Incoming;
use crate::{policy, quotas};

/// Highest number of a part (S3).
pub(crate) const PART_MAX: u32 = 10_000;

/// A part as the client lists it when it completes an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTag {
    /// Its number.
    pub number: u32,
    /// Its ETag without quotes.
    pub etag: String,
}

/// Verbs of uploads in parts.
pub struct Uploads<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of uploads in parts.
    #[must_use]
    pub fn uploads(&self) -> Uploads<'_> {
        Uploads(self)
    }
}

impl Uploads<'_> {
    /// Begins an upload.
    pub async fn begin(&self, who: &Principal, bucket: &str, key: &str, put: PutObject) -> Result<Upload> {
        policy::require(who, Role::Member, "put objects")?;
        check_object_key(key)?;
        put.check()?;
        let mut tx = self.0.parts.catalog.write().await?;
        let bucket = find(&mut tx, who, bucket).await?;
        quotas::room_for_object(&mut tx, &bucket, key).await?;
        let upload = Upload {
            id: UploadId::new(),
            bucket: bucket.id,
            key: key.into(),
            content_type: put.content_type,
            metadata: put.metadata,
            created_at: self.0.now(),
        };
        uploads::insert(&mut tx, &upload).await?;
        tx.commit().await?;
        Ok(upload)
    }

    /// Keeps a part; it replaces an earlier one of the same number.
    pub async fn put_part(&self, who: &Principal, at: UploadAt<'_>, number: u32, body: Incoming) -> Result<Part> {
        policy::require(who, Role::Member, "put objects")?;
        check_number(number)?;
        self.find(who, at).await?;
        let Kept { content, digests } = content::keep_stream(self.0, who.project.id, body, Wanted::Md5).await?;
        let part = Part {
            number,
            content: content.id,
            size: content.length,
            etag: hex::encode(digests.md5),
            created_at: self.0.now(),
        };
        let added = self.add_part(who, at, &content, &part).await;
        content::or_forget(self.0, content.id, added).await?;
        Ok(part)
    }

    /// Lists the parts that have arrived, by number.
    pub async fn parts(&self, who: &Principal, at: UploadAt<'_>) -> Result<Vec<Part>> {
        let mut tx = self.0.parts.catalog.read().await?;
        at.find(&mut tx, who).await?;
        Ok(parts::list(&mut tx, at.upload).await?)
    }

    /// Lists a bucket's unfinished uploads.
    pub async fn list(&self, who: &Principal, bucket: &str) -> Result<Vec<Upload>> {
        let mut tx = self.0.parts.catalog.read().await?;
        let bucket = find(&mut tx, who, bucket).await?;
        Ok(uploads::list(&mut tx, bucket.id).await?)
    }

    /// Makes the object. Part numbers must rise; `Invalid` names the part that is missing or differs.
    pub async fn complete(&self, who: &Principal, at: UploadAt<'_>, tags: Vec<PartTag>) -> Result<Object> {
        policy::require(who, Role::Member, "put objects")?;
        let mut tx = self.0.parts.catalog.read().await?;
        let upload = at.find(&mut tx, who).await?;
        let arrived = parts::list(&mut tx, at.upload).await?;
        let chosen = choose(&arrived, &tags)?;
        let mut heads = Vec::with_capacity(chosen.len());
        for part in &chosen {
            let content = contents::get(&mut tx, part.content).await?;
            heads.push(
                content
                    .ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("part {} has no content", part.number)))?
                    .head,
            );
        }
        drop(tx);
        let id = ContentId::new();
        let joined = self.0.parts.store.concat(who.project.id.uuid(), id.uuid(), &heads).await;
        if joined.as_ref().is_err_and(|error| error.kind() == chunks::ErrorKind::Conflict) {
            // Its parts are gone, most likely because the upload is: then that is the answer.
            at.find(&mut self.0.parts.catalog.read().await?, who).await?;
        }
        let head = joined?;
        let content = content::record(self.0, who.project.id, id, head);
        let object = Object {
            bucket: upload.bucket,
            key: upload.key,
            content: id,
            size: content.length,
            etag: joined_etag(&chosen),
            content_type: upload.content_type,
            metadata: upload.metadata,
            created_at: self.0.now(),
        };
        let finished = self.finish(who, at, &content, &object).await;
        content::or_forget(self.0, id, finished).await?;
        Ok(object)
    }

    /// Drops an unfinished upload and its parts.
    pub async fn abort(&self, who: &Principal, at: UploadAt<'_>) -> Result<()> {
        policy::require(who, Role::Member, "put objects")?;
        let mut tx = self.0.parts.catalog.write().await?;
        at.find(&mut tx, who).await?;
        let released = remove_upload(&mut tx, at.upload).await?;
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }

    /// Returns an upload that is not finished.
    pub(crate) async fn find(&self, who: &Principal, at: UploadAt<'_>) -> Result<Upload> {
        at.find(&mut self.0.parts.catalog.read().await?, who).await
    }

    /// Records a part whose content is durable.
    pub(crate) async fn add_part(
        &self,
        who: &Principal,
        at: UploadAt<'_>,
        content: &Content,
        part: &Part,
    ) -> Result<()> {
        let mut tx = self.0.parts.catalog.write().await?;
        // Asked again: the upload may have been completed or aborted while the part was on its way.
        at.find(&mut tx, who).await?;
        content::commit(&mut tx, content).await?;
        let released = match parts::put(&mut tx, at.upload, part).await? {
            Some(replaced) => content::release(&mut tx, replaced).await?,
            None => None,
        };
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }

    /// Swaps the upload for its object in one transaction.
    async fn finish(&self, who: &Principal, at: UploadAt<'_>, content: &Content, object: &Object) -> Result<()> {
        let mut tx = self.0.parts.catalog.write().await?;
        at.find(&mut tx, who).await?;
        content::commit(&mut tx, content).await?;
        let replaced = catalog::objects::put(&mut tx, object).await?;
        let mut released = remove_upload(&mut tx, at.upload).await?;
        if let Some(replaced) = replaced {
            released.extend(content::release(&mut tx, replaced).await?);
        }
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }
}

/// Which upload a request means: S3 names bucket, key and id, and all must fit.
#[derive(Debug, Clone, Copy)]
pub struct UploadAt<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The object's key.
    pub key: &'a str,
    /// The upload's id.
    pub upload: UploadId,
}

impl UploadAt<'_> {
    async fn find(&self, tx: &mut Tx, who: &Principal) -> Result<Upload> {
        let bucket = find(tx, who, self.bucket).await?;
        let upload = uploads::get(tx, self.upload).await?;
        upload.filter(|upload| upload.bucket == bucket.id && upload.key == self.key).ok_or_else(|| {
            let name = format!("{} of `{}` in bucket `{}`", self.upload, self.key, self.bucket);
            Error::not_found("upload", name).with_hint("it may have been completed or aborted")
        })
    }
}

/// Fails unless a part may have this number.
pub(crate) fn check_number(number: u32) -> Result<()> {
    if (1..=PART_MAX).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid(format!("a part has a number from 1 to {PART_MAX}, not {number}")))
}

/// Removes an upload with its parts; returns the contents that nothing refers to any more.
async fn remove_upload(tx: &mut Tx, upload: UploadId) -> Result<Vec<ContentId>> {
    let arrived = parts::list(tx, upload).await?;
    uploads::delete(tx, upload).await?;
    let mut released = Vec::new();
    for part in arrived {
        released.extend(content::release(tx, part.content).await?);
    }
    Ok(released)
}

/// Picks the parts that the client listed; their numbers must rise and their ETags fit.
fn choose<'p>(arrived: &'p [Part], tags: &[PartTag]) -> Result<Vec<&'p Part>> {
    if tags.is_empty() {
        return Err(Error::invalid("the list of parts is empty"));
    }
    if !tags.is_sorted_by(|left, right| left.number < right.number) {
        return Err(Error::new(ErrorKind::BadOrder, "the part numbers of the list do not rise"));
    }
    let find = |tag: &PartTag| {
        let part = arrived.iter().find(|part| part.number == tag.number && part.etag == tag.etag);
        let missing = || {
            format!("part {} with ETag {} has not arrived", tag.number, tag.etag.chars().take(64).collect::<String>())
        };
        part.ok_or_else(|| Error::invalid(missing()).with_hint("list the parts and send what is missing"))
    };
    tags.iter().map(find).collect()
}

/// S3's ETag of an object in parts: MD5 of the parts' MD5s, `-`, their count.
fn joined_etag(parts: &[&Part]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(hex::decode(&part.etag).unwrap_or_default());
    }
    format!("{}-{}", hex::encode(digest.finalize()), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, etag: &str) -> Part {
        Part { number, content: ContentId::new(), size: 1, etag: etag.into(), created_at: jiff::Timestamp::UNIX_EPOCH }
    }

    fn tag(number: u32, etag: &str) -> PartTag {
        PartTag { number, etag: etag.into() }
    }

    #[test]
    fn parts_are_chosen_in_order() {
        let arrived = [part(1, "aa"), part(2, "bb"), part(7, "cc")];
        let numbers = |tags: &[PartTag]| {
            choose(&arrived, tags).map(|parts| parts.iter().map(|part| part.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&[tag(1, "aa"), tag(7, "cc")]).unwrap(), [1, 7]);
        assert_eq!(numbers(&[tag(7, "cc"), tag(1, "aa")]).unwrap_err().kind(), ErrorKind::BadOrder);
        assert_eq!(numbers(&[tag(1, "aa"), tag(1, "aa")]).unwrap_err().kind(), ErrorKind::BadOrder);
        assert_eq!(numbers(&[]).unwrap_err().kind(), ErrorKind::Invalid);
        let wrong = numbers(&[tag(2, "aa")]).unwrap_err();
        assert!(wrong.to_string().contains("part 2"), "{wrong}");
    }

    #[test]
    fn joined_etag_is_what_s3_computes() {
        // Two parts of one byte, `a` and `b`: md5(md5("a") + md5("b")) by Python's hashlib.
        let (a, b) = (part(1, "0cc175b9c0f1b6a831c399e269772661"), part(2, "92eb5ffee6ae2fec3ad71c777531578f"));
        assert_eq!(joined_etag(&[&a, &b]), "96e024ba2074fe77e8e965ba43a704be-2");
    }
}
