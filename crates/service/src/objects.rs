//! Objects: files in buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::objects;
use disk::{Deny, Source};
use model::buckets::Object;
use model::identity::{Principal, Role};
use model::names::{OBJECT_KEY_MAX, check_object_key};

use crate::buckets::find;
use crate::content::{self, ContentSource, Kept};
use crate::digest::Wanted;
use crate::error::{Error, Result};
use crate::service::Service;
use crate::streams::{Download, Incoming};
use crate::{policy, quotas};

/// Most bytes of all metadata keys and values of an object (S3).
const METADATA_MAX: usize = 2048;

/// What a client says about an object it puts.
#[derive(Debug, Clone, Default)]
pub struct PutObject {
    /// Media type.
    pub content_type: Option<String>,
    /// Keys in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

impl PutObject {
    pub(crate) fn check(&self) -> Result<()> {
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > METADATA_MAX {
            return Err(Error::invalid(format!("the metadata has {bytes} bytes, at most {METADATA_MAX} are kept")));
        }
        Ok(())
    }
}

/// Which objects to list.
#[derive(Debug, Clone)]
pub struct ListObjects {
    /// Only keys that begin with it.
    pub prefix: String,
    /// Keys that have it after the prefix are folded into one common prefix.
    pub delimiter: Option<String>,
    /// Only keys (and common prefixes) after this one.
    pub after: Option<String>,
    /// Most keys and prefixes together, 1 to 1000.
    pub limit: usize,
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub struct ObjectPage {
    /// Objects in bytewise order of their keys.
    pub objects: Vec<Object>,
    /// Common prefixes in bytewise order.
    pub prefixes: Vec<String>,
    /// Where the next page begins (`after`), if there is one.
    pub next: Option<String>,
}

/// Verbs of objects.
pub struct Objects<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of objects.
    #[must_use]
    pub fn objects(&self) -> Objects<'_> {
        Objects(self)
    }
}

impl Objects<'_> {
    /// Keeps an object; it replaces one of the same key in the moment it is whole and durable.
    pub async fn put(
        &self,
        who: &Principal,
        bucket: &str,
        key: &str,
        put: PutObject,
        body: Incoming,
    ) -> Result<Object> {
        policy::require(who, Role::Member, "put objects")?;
        check_object_key(key)?;
        put.check()?;
        // Asked before the bytes flow, so that a wrong bucket or one too many costs no upload; and again with the row.
        let mut tx = self.0.parts.catalog.read().await?;
        let bucket = find(&mut tx, who, bucket).await?;
        quotas::room_for_object(&mut tx, &bucket, key).await?;
        drop(tx);
        let Kept { content, digests } = content::keep_stream(self.0, who.project.id, body, Wanted::Md5).await?;
        let object = Object {
            bucket: bucket.id,
            key: key.into(),
            content: content.id,
            size: content.length,
            etag: hex::encode(digests.md5),
            content_type: put.content_type,
            metadata: put.metadata,
            created_at: self.0.now(),
        };
        // The bucket may have gone while the bytes came.
        let published = self.publish(Some(&content), &object).await;
        content::or_forget(self.0, content.id, published).await?;
        Ok(object)
    }

    /// Returns an object's record.
    pub async fn head(&self, who: &Principal, bucket: &str, key: &str) -> Result<Object> {
        let mut tx = self.0.parts.catalog.read().await?;
        let found = find(&mut tx, who, bucket).await?;
        objects::get(&mut tx, found.id, key).await?.ok_or_else(|| no_object(bucket, key))
    }

    /// Opens an object for reading.
    pub async fn get(&self, who: &Principal, bucket: &str, key: &str) -> Result<(Object, Download)> {
        let object = self.head(who, bucket, key).await?;
        let reader = content::open(self.0, object.content).await?;
        Ok((object, Download { reader }))
    }

    /// Looks inside the disk in an object, before an image is made of it.
    pub async fn inspect(&self, who: &Principal, bucket: &str, key: &str) -> Result<guest::Report> {
        self.look(who, bucket, key, guest::Sandbox::inspect).await
    }

    /// Tells what keeps the disk in an object from starting elsewhere or from being a cloud's server, and what prepare
    /// would change. Changes nothing.
    pub async fn check(&self, who: &Principal, bucket: &str, key: &str) -> Result<guest::Plan> {
        let choice = self.0.choice(guest::Choice::default());
        self.look(who, bucket, key, move |sandbox, disk| sandbox.plan(disk, &choice)).await
    }

    /// Opens the disk in an object, in whichever format it is, and gives it to `look`.
    async fn look<T: Send + 'static>(
        &self,
        who: &Principal,
        bucket: &str,
        key: &str,
        look: impl FnOnce(&guest::Sandbox, Arc<dyn Source>) -> disk::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (_, download) = self.get(who, bucket, key).await?;
        let file: Arc<dyn Source> = Arc::new(ContentSource::new(download.reader));
        let sandbox = self.0.parts.sandbox.clone();
        let work = move || {
            let format = disk::probe(&file)?;
            Ok(look(&sandbox, disk::open(file, format, &Deny)?.disk)?)
        };
        self.0.permits.run(work).await?
    }

    /// Lists objects in bytewise order of their keys.
    pub async fn list(&self, who: &Principal, bucket: &str, list: ListObjects) -> Result<ObjectPage> {
        let limit = list.limit.clamp(1, 1000);
        let mut tx = self.0.parts.catalog.read().await?;
        let bucket = find(&mut tx, who, bucket).await?;
        let mut page = ObjectPage { objects: Vec::new(), prefixes: Vec::new(), next: None };
        // A marker that is a common prefix itself stands for everything below it.
        let mut after = list.after.map(|after| match &list.delimiter {
            Some(delimiter) if common_prefix(&after, &list.prefix, delimiter) == Some(&after) => last_below(&after),
            _ => after,
        });
        let mut last = None;
        'pages: loop {
            let rows = objects::list(&mut tx, bucket.id, &list.prefix, after.as_deref(), limit as u32 + 1).await?;
            let ended = rows.len() <= limit;
            for object in rows {
                let folded =
                    list.delimiter.as_deref().and_then(|delimiter| common_prefix(&object.key, &list.prefix, delimiter));
                if folded.is_some() && folded == page.prefixes.last().map(String::as_str) {
                    continue;
                }
                if page.objects.len() + page.prefixes.len() == limit {
                    page.next = last;
                    break 'pages;
                }
                if let Some(folded) = folded {
                    let folded = folded.to_owned();
                    after = Some(last_below(&folded));
                    last = Some(folded.clone());
                    page.prefixes.push(folded);
                    if !ended {
                        continue 'pages;
                    }
                } else {
                    after = Some(object.key.clone());
                    last = after.clone();
                    page.objects.push(object);
                }
            }
            if ended {
                break;
            }
        }
        Ok(page)
    }

    /// Removes an object; absent is fine (S3).
    pub async fn delete(&self, who: &Principal, bucket: &str, key: &str) -> Result<()> {
        policy::require(who, Role::Member, "delete objects")?;
        let mut tx = self.0.parts.catalog.write().await?;
        let bucket = find(&mut tx, who, bucket).await?;
        let released = match objects::delete(&mut tx, bucket.id, key).await? {
            Some(object) => content::release(&mut tx, object.content).await?,
            None => None,
        };
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }

    /// Makes a second object of the same content; no bytes move. `put` replaces the metadata.
    pub async fn copy(
        &self,
        who: &Principal,
        from: (&str, &str),
        to: (&str, &str),
        put: Option<PutObject>,
    ) -> Result<Object> {
        policy::require(who, Role::Member, "put objects")?;
        check_object_key(to.1)?;
        let source = self.head(who, from.0, from.1).await?;
        let bucket = self.0.buckets().get(who, to.0).await?;
        let PutObject { content_type, metadata } =
            put.unwrap_or(PutObject { content_type: source.content_type.clone(), metadata: source.metadata.clone() });
        let object =
            Object { bucket: bucket.id, key: to.1.into(), content_type, metadata, created_at: self.0.now(), ..source };
        self.publish(None, &object).await?;
        Ok(object)
    }

    /// Makes an object visible whose content is durable; `content` is its record if it is a new one.
    pub(crate) async fn publish(&self, content: Option<&model::contents::Content>, object: &Object) -> Result<()> {
        let mut tx = self.0.parts.catalog.write().await?;
        if let Some(content) = content {
            content::commit(&mut tx, content).await?;
        }
        let replaced = objects::put(&mut tx, object).await?;
        let released = match replaced.filter(|replaced| *replaced != object.content) {
            Some(replaced) => content::release(&mut tx, replaced).await?,
            None => None,
        };
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }
}

/// The one sentence for an object that is absent.
pub(crate) fn no_object(bucket: &str, key: &str) -> Error {
    Error::not_found("object", format_args!("`{key}` in bucket `{bucket}`"))
}

/// Returns the part of `key` up to and with the first `delimiter` after `prefix`.
fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: &str) -> Option<&'k str> {
    let rest = key.strip_prefix(prefix)?;
    let end = rest.find(delimiter)? + delimiter.len();
    Some(&key[..prefix.len() + end])
}

/// Returns a text that sorts after every key that begins with `prefix`, and before every other key that follows them.
fn last_below(prefix: &str) -> String {
    // The greatest character, as often as a longest key could have it.
    let last = char::MAX;
    format!("{prefix}{}", last.to_string().repeat(OBJECT_KEY_MAX / last.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes() {
        assert_eq!(common_prefix("a/b/c", "", "/"), Some("a/"));
        assert_eq!(common_prefix("a/b/c", "a/", "/"), Some("a/b/"));
        assert_eq!(common_prefix("a/b", "a/", "/"), None);
        assert_eq!(common_prefix("äö--x", "ä", "--"), Some("äö--"));
    }
}
