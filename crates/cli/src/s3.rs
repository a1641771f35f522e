//! The S3 endpoint: buckets and objects, signed by the access key.
//!
//! A large file goes in parts, a few at a time, and what has arrived is found again after an interruption: the id of
//! the upload is kept in a small file until the object is whole. A server that takes chunks gets each part as chunks, of
//! which it has those that arrived; another one tells which parts it has.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use jiff::Timestamp;
use md5::{Digest, Md5};
use reqwest::header::{CONTENT_LENGTH, ETAG};
use reqwest::{Body, Method, Response};
use rusty_s3::actions::{CompleteMultipartUpload, CreateMultipartUpload, ListObjectsV2, ListParts};
use rusty_s3::signing::sign;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use url::Url;

use crate::client::{Client, between, send, unreachable};
use crate::error::{Failure, Result};
use crate::transfer::{self, FileOrigin, Origin, Sent, Transfer};

/// How long a signed request may take to begin.
const SIGNED_FOR: Duration = Duration::from_secs(3600);
/// Files up to this many bytes go in one request.
const WHOLE_MAX: u64 = 32 << 20;
/// Bytes of a part, unless the file needs larger ones; a whole number of the store's chunks, so that the server joins
/// parts without touching their bytes.
const PART: u64 = 16 << 20;
/// Most parts of an upload (S3).
const PARTS_MAX: u64 = 10_000;
/// Parts sent at once.
const AT_ONCE: usize = 4;
/// Bytes read from a file at once while it is sent.
const READ: usize = 256 << 10;

/// The S3 endpoint of a server.
pub(crate) struct S3<'c> {
    client: &'c Client,
    endpoint: Url,
    credentials: Credentials,
}

impl<'c> S3<'c> {
    pub(crate) fn new(client: &'c Client) -> Result<Self> {
        let known = &client.credentials;
        if let Some(project) = client.project.as_ref().filter(|project| **project != known.project_name) {
            let message = format!(
                "buckets and files are reached by an access key, and yours is for project `{}`, not for `{project}`",
                known.project_name
            );
            return Err(Failure::new(message).with_hint(
                "make a key there with `molde --project NAME key create`, and pass credentials that have it",
            ));
        }
        let endpoint = known
            .s3_endpoint
            .parse()
            .map_err(|error| Failure::new(format!("`{}` is no address", known.s3_endpoint)).caused_by(&error))?;
        Ok(Self { client, endpoint, credentials: Credentials::new(&known.access_key, &known.secret_key) })
    }

    fn bucket(&self, name: &str) -> Result<Bucket> {
        Bucket::new(self.endpoint.clone(), UrlStyle::Path, name.to_owned(), self.client.credentials.region.clone())
            .map_err(|error| Failure::new(format!("`{name}` is no bucket name")).caused_by(&error))
    }

    pub(crate) async fn create_bucket(&self, name: &str) -> Result<()> {
        let bucket = self.bucket(name)?;
        let url = bucket.create_bucket(&self.credentials).sign(SIGNED_FOR);
        send(self.client.http.put(url)).await.map(drop)
    }

    pub(crate) async fn delete_bucket(&self, name: &str) -> Result<()> {
        let bucket = self.bucket(name)?;
        let url = bucket.delete_bucket(&self.credentials).sign(SIGNED_FOR);
        send(self.client.http.delete(url)).await.map(drop)
    }

    pub(crate) async fn buckets(&self) -> Result<Vec<Value>> {
        let none = std::iter::empty();
        let (key, secret) = (self.credentials.key(), self.credentials.secret());
        let (region, seconds) = (&self.client.credentials.region, SIGNED_FOR.as_secs());
        let now = Timestamp::now();
        let method = rusty_s3::Method::Get;
        let url = sign(&now, method, self.endpoint.clone(), key, secret, None, region, seconds, none.clone(), none);
        let answer = text(send(self.client.http.get(url)).await?).await?;
        // Bucket names and times have no character that XML escapes.
        let bucket = |text: &str| {
            let (name, made) =
                (between(text, "<Name>", "</Name>")?, between(text, "<CreationDate>", "</CreationDate>")?);
            Some(json!({"name": name, "created_at": made}))
        };
        let buckets = answer.split("<Bucket>").skip(1).map(bucket).collect::<Option<Vec<_>>>();
        buckets.ok_or_else(|| Failure::new("the server's answer is not what S3 says"))
    }

    pub(crate) async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<Value>> {
        let bucket = self.bucket(bucket)?;
        let mut token: Option<String> = None;
        let mut objects = Vec::new();
        loop {
            let mut action: ListObjectsV2<'_> = bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(prefix);
            if let Some(token) = &token {
                action.with_continuation_token(token.as_str());
            }
            let text = text(send(self.client.http.get(action.sign(SIGNED_FOR))).await?).await?;
            let page = ListObjectsV2::parse_response(&text).map_err(|error| odd(&error))?;
            for object in page.contents {
                objects.push(json!({"key": object.key, "size": object.size, "etag": object.etag, "modified_at": object.last_modified}));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    pub(crate) async fn remove(&self, bucket: &str, key: &str) -> Result<()> {
        let bucket = self.bucket(bucket)?;
        let url = bucket.delete_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        send(self.client.http.delete(url)).await.map(drop)
    }

    /// Begins to read an object.
    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Result<Response> {
        let bucket = self.bucket(bucket)?;
        let url = bucket.get_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        send(self.client.http.get(url)).await
    }

    /// Sends a file; `bar` hears of every byte.
    pub(crate) async fn put(
        &self,
        bucket: &str,
        key: &str,
        path: &Path,
        length: u64,
        bar: &ProgressBar,
    ) -> Result<Sent> {
        if length > transfer::WHOLE_MAX
            && let Some(transfer) = Transfer::open(self.client).await?
        {
            return self.put_chunks(&transfer, bucket, key, path, length, bar).await;
        }
        if length > WHOLE_MAX {
            return self.put_parts(bucket, key, path, length, bar).await;
        }
        let bucket = self.bucket(bucket)?;
        let url = bucket.put_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        self.send_range(url, path, 0, length, bar).await?;
        Ok(Sent { sent: length, known: 0 })
    }

    /// Sends a file as parts of chunks. All parts are sent again when an upload is resumed: what arrived is only named.
    async fn put_chunks(
        &self,
        transfer: &Transfer<'_>,
        bucket_name: &str,
        key: &str,
        path: &Path,
        length: u64,
        bar: &ProgressBar,
    ) -> Result<Sent> {
        let bucket = self.bucket(bucket_name)?;
        let note = Note::of(&self.endpoint, bucket_name, key, path, length);
        let (upload, _) = self.begin_or_resume(&bucket, key, &note).await?;
        let chunks = length.div_ceil(transfer.chunk_size().into());
        let file = FileOrigin::open(path)?;
        let groups = file.groups(transfer.chunk_size(), transfer::GROUP.max(chunks.div_ceil(PARTS_MAX)));
        let origin: Arc<dyn Origin> = Arc::new(file);
        let parts = stream::iter((1..).zip(groups)).map(|(number, group)| {
            let (origin, at) = (&origin, (bucket_name, key, upload.as_str()));
            async move {
                let group = group?;
                let bytes = group.iter().map(transfer::Run::length).sum();
                let put = transfer.put_part(at, number, origin, group).await?;
                bar.inc(bytes);
                Ok(put)
            }
        });
        let parts: Vec<(String, Sent)> = parts.buffered(AT_ONCE).try_collect().await.map_err(again)?;
        self.complete(&bucket, key, &upload, &parts).await?;
        note.forget();
        Ok(Sent::sum(parts.into_iter().map(|(_, sent)| sent)))
    }

    async fn send_range(&self, url: Url, path: &Path, offset: u64, length: u64, bar: &ProgressBar) -> Result<Response> {
        let mut file = open(path).await?;
        file.seek(std::io::SeekFrom::Start(offset)).await?;
        let bar = bar.clone();
        let bytes =
            ReaderStream::with_capacity(file.take(length), READ).inspect_ok(move |piece| bar.inc(piece.len() as u64));
        let request = self.client.http.request(Method::PUT, url).header(CONTENT_LENGTH, length);
        send(request.body(Body::wrap_stream(bytes))).await
    }

    async fn put_parts(
        &self,
        bucket_name: &str,
        key: &str,
        path: &Path,
        length: u64,
        bar: &ProgressBar,
    ) -> Result<Sent> {
        let bucket = self.bucket(bucket_name)?;
        let size = part_size(length);
        let note = Note::of(&self.endpoint, bucket_name, key, path, length);
        let (upload, arrived) = self.begin_or_resume(&bucket, key, &note).await?;
        let count = length.div_ceil(size);
        // Parts are numbered from 1 and at most 10 000, so they fit.
        let parts = stream::iter(1..=count).map(|number| {
            let (offset, bytes) = ((number - 1) * size, size.min(length - (number - 1) * size));
            let (bucket, upload, arrived) = (&bucket, &upload, &arrived);
            async move {
                let number = number as u16;
                if let Some((_, etag)) = arrived.iter().find(|(known, _)| *known == number)
                    && md5_of(path, offset, bytes).await? == *etag
                {
                    bar.inc(bytes);
                    return Ok((etag.clone(), Sent { sent: 0, known: bytes }));
                }
                let url = bucket.upload_part(Some(&self.credentials), key, number, upload).sign(SIGNED_FOR);
                let answer = self.send_range(url, path, offset, bytes, bar).await?;
                let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
                let etag = etag.ok_or_else(|| Failure::new(format!("the server gave no ETag for part {number}")))?;
                Ok((etag.trim_matches('"').to_owned(), Sent { sent: bytes, known: 0 }))
            }
        });
        let parts: Vec<(String, Sent)> = parts.buffered(AT_ONCE).try_collect().await.map_err(again)?;
        self.complete(&bucket, key, &upload, &parts).await?;
        note.forget();
        Ok(Sent::sum(parts.into_iter().map(|(_, sent)| sent)))
    }

    /// Makes the object of its parts, in order.
    async fn complete(&self, bucket: &Bucket, key: &str, upload: &str, parts: &[(String, Sent)]) -> Result<()> {
        let etags = parts.iter().map(|(etag, _)| etag.as_str());
        let complete = CompleteMultipartUpload::new(bucket, Some(&self.credentials), key, upload, etags);
        let (url, body) = (complete.sign(SIGNED_FOR), complete.body());
        let answer = text(send(self.client.http.post(url).body(body)).await?).await?;
        // S3 may answer 200 and tell the failure in the body.
        if answer.contains("<Error>") {
            return Err(Failure::new("the server could not join the parts").with_hint("run the same command again"));
        }
        Ok(())
    }

    /// Returns the upload's id and the parts that have arrived: of an earlier try of the same file where there is one.
    async fn begin_or_resume(&self, bucket: &Bucket, key: &str, note: &Note) -> Result<(String, Vec<(u16, String)>)> {
        if let Some(upload) = note.read()
            && let Ok(arrived) = self.arrived(bucket, key, &upload).await
        {
            return Ok((upload, arrived));
        }
        let action = CreateMultipartUpload::new(bucket, Some(&self.credentials), key);
        let answer = text(send(self.client.http.post(action.sign(SIGNED_FOR))).await?).await?;
        let begun = CreateMultipartUpload::parse_response(&answer).map_err(|error| odd(&error))?;
        note.write(begun.upload_id());
        Ok((begun.upload_id().to_owned(), Vec::new()))
    }

    async fn arrived(&self, bucket: &Bucket, key: &str, upload: &str) -> Result<Vec<(u16, String)>> {
        let mut parts = Vec::new();
        let mut marker = None;
        loop {
            let mut action = ListParts::new(bucket, Some(&self.credentials), key, upload);
            if let Some(marker) = marker {
                action.set_part_number_marker(marker);
            }
            let answer = text(send(self.client.http.get(action.sign(SIGNED_FOR))).await?).await?;
            let page = ListParts::parse_response(&answer).map_err(|error| odd(&error))?;
            parts.extend(page.parts.into_iter().map(|part| (part.number, part.etag.trim_matches('"').to_owned())));
            marker = page.next_part_number_marker;
            if marker.is_none() {
                return Ok(parts);
            }
        }
    }
}

/// Where the id of an unfinished upload is kept: named by all that makes it the same upload.
struct Note(Option<PathBuf>);

impl Note {
    fn of(endpoint: &Url, bucket: &str, key: &str, path: &Path, length: u64) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let changed = path.metadata().and_then(|metadata| metadata.modified()).ok();
        let identity = format!("{endpoint}\n{bucket}\n{key}\n{}\n{length}\n{changed:?}", full.display());
        Self(cache.map(|cache| cache.join("molde/uploads").join(hex::encode(Md5::digest(identity)))))
    }

    fn read(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.as_ref()?).ok()?;
        (text.len() <= 64 && !text.is_empty()).then_some(text)
    }

    /// A note that cannot be written costs the resuming, not the upload.
    fn write(&self, upload: &str) {
        if let Some(path) = &self.0 {
            let _ = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, upload));
        }
    }

    fn forget(&self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Adds what to do after an upload that broke off, unless the server knows better.
fn again(failure: Failure) -> Failure {
    failure.or_hint("run the same command again: what has arrived is not sent twice")
}

/// Bytes of a part: a multiple of 1 MiB that needs at most 10 000 parts.
fn part_size(length: u64) -> u64 {
    PART.max(length.div_ceil(PARTS_MAX).next_multiple_of(1 << 20))
}

async fn md5_of(path: &Path, offset: u64, length: u64) -> Result<String> {
    let mut file = open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut pieces = ReaderStream::with_capacity(file.take(length), READ);
    let mut digest = Md5::new();
    while let Some(piece) = pieces.next().await {
        digest.update(piece?);
    }
    Ok(hex::encode(digest.finalize()))
}

async fn open(path: &Path) -> Result<File> {
    File::open(path).await.map_err(|error| Failure::new(format!("cannot read `{}`", path.display())).caused_by(&error))
}

async fn text(answer: Response) -> Result<String> {
    answer.text().await.map_err(|error| unreachable(&error))
}

fn odd(error: &dyn std::error::Error) -> Failure {
    Failure::new("the server's answer is not what S3 says").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_their_number() {
        assert_eq!(part_size(100 << 20), PART);
        for length in [1_u64 << 38, 1 << 42, (1 << 42) + 1] {
            let size = part_size(length);
            assert!(length.div_ceil(size) <= PARTS_MAX, "{length}");
            assert!(size.is_multiple_of(1 << 20), "{length}");
        }
    }
}
