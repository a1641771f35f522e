//! Where blobs lie: the trait that the catalog implements, and an index in memory.
//!
//! The index is a cache of what the pack footers say: `Store::reindex` fills an empty one from them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use crate::blob::BlobId;

/// Where a blob lies and how it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack that holds it.
    pub pack: Uuid,
    /// First byte inside the pack.
    pub offset: u32,
    /// Stored length in bytes, sealed.
    pub stored: u32,
    /// Plain length in bytes.
    pub plain: u32,
    /// Generation of the domain's secret under which it was sealed.
    pub generation: u32,
}

/// Why an index failed: whatever error its database has.
pub type IndexError = Box<dyn std::error::Error + Send + Sync>;

/// Knows where each blob of each domain lies. Must be durable when a call returns.
#[async_trait]
pub trait Index: Send + Sync {
    /// Returns where the blobs `ids` of `domain` lie, in the same order.
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Location>>, IndexError>;

    /// Records a durable pack of `size` bytes and its blobs, each as domain, id, location.
    ///
    /// Recording the same pack again changes nothing. When a blob is known already, its first location stays.
    async fn add_pack(&self, pack: Uuid, size: u64, blobs: &[(Uuid, BlobId, Location)]) -> Result<(), IndexError>;
}

/// An index that goes away with the process, for tests.
#[derive(Default)]
pub struct MemoryIndex {
    blobs: Mutex<HashMap<(Uuid, BlobId), Location>>,
}

impl MemoryIndex {
    /// Makes an index that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many blobs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[async_trait]
impl Index for MemoryIndex {
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Location>>, IndexError> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ids.iter().map(|id| blobs.get(&(domain, *id)).copied()).collect())
    }

    async fn add_pack(&self, _pack: Uuid, _size: u64, blobs: &[(Uuid, BlobId, Location)]) -> Result<(), IndexError> {
        let mut known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        for (domain, id, location) in blobs {
            known.entry((*domain, *id)).or_insert(*location);
        }
        Ok(())
    }
}
