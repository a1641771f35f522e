//! Contents: immutable byte sequences of the chunk store, as records know them.

use crate::{ContentId, ProjectId, Timestamp};

/// A byte sequence that a bucket object, an upload's part or an image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its id.
    pub id: ContentId,
    /// The project whose dedup domain it was written in.
    pub project: ProjectId,
    /// Its length in bytes.
    pub length: u64,
    /// The sealed head of its manifest, opaque here (`docs/formats/store.md`).
    pub head: Vec<u8>,
    /// When it became durable.
    pub created_at: Timestamp,
}
