//! Buckets, the objects in them, and uploads that arrive in parts.
//!
//! A bucket name belongs to its project: two projects may each have a bucket `images`, and neither can
//! learn of the other's (every S3 request is signed by an access key, which belongs to one project).

use std::collections::BTreeMap;

use crate::{BucketId, ContentId, ProjectId, Timestamp, UploadId};

/// A named set of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its id.
    pub id: BucketId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its name, unique in the project.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A file in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bucket it is in.
    pub bucket: BucketId,
    /// Its key, unique in the bucket.
    pub key: String,
    /// Its bytes.
    pub content: ContentId,
    /// Its length in bytes.
    pub size: u64,
    /// MD5 in hexadecimal, or `md5-of-md5s` + `-parts` for multipart, without quotes.
    pub etag: String,
    /// Media type, if the client gave one.
    pub content_type: Option<String>,
    /// The client's own `x-amz-meta-*`, keys in lower case without the prefix.
    pub metadata: BTreeMap<String, String>,
    /// When it became visible.
    pub created_at: Timestamp,
}

/// An object that is arriving in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id, which clients send with every part.
    pub id: UploadId,
    /// The bucket the object will be in.
    pub bucket: BucketId,
    /// The key the object will have.
    pub key: String,
    /// Media type of the object to be.
    pub content_type: Option<String>,
    /// Metadata of the object to be.
    pub metadata: BTreeMap<String, String>,
    /// When it was begun.
    pub created_at: Timestamp,
}

/// One part of an [`Upload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// 1 to 10 000.
    pub number: u32,
    /// Its bytes.
    pub content: ContentId,
    /// Its length in bytes.
    pub size: u64,
    /// MD5 in hexadecimal.
    pub etag: String,
    /// When it became durable.
    pub created_at: Timestamp,
}
