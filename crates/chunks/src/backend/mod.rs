//! Where objects lie: the trait, and what every backend promises.
//!
//! The store keeps only immutable objects that are written once under a name of their own, because that is
//! what every object store does right. Names are parts of `a-z 0-9 -` joined by `/`.

mod cached;
mod dir;
mod files;
mod memory;
mod remote;

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

pub use cached::{CacheOptions, CacheStats, CachedBackend};
pub use dir::DirBackend;
pub use files::Files;
pub use memory::MemoryBackend;
pub use remote::{Protocol, RemoteBackend, RemoteConfig, RemoteLimits, RemoteStats};

use crate::{Error, Result};

/// Largest object that is ever written or read whole, in bytes.
pub const OBJECT_LENGTH_MAX: u64 = 64 * 1024 * 1024;

/// A place for write-once objects. Every promise is checked by one contract suite (`tests/backends.rs`).
#[async_trait]
pub trait Backend: Send + Sync {
    /// Writes the object `name`, made of `parts` in order, and returns when it is durable: it survives a
    /// crash of the machine. It appears whole or not at all.
    ///
    /// # Errors
    /// `Exists` when there is one of that name, which is left as it is; of several at once one succeeds.
    /// `StorageFull` when there is no room; nothing is left behind.
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()>;

    /// Returns the object, of at most [`OBJECT_LENGTH_MAX`] bytes. `NotFound` when there is none.
    async fn get(&self, name: &str) -> Result<Bytes>;

    /// Returns `length` bytes from `offset`. `NotFound` when there is no such object, `Corrupt` when the
    /// range goes past its end: callers ask only for what was written.
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes>;

    /// Returns `length` bytes from `offset`, or fewer where the object ends before. `NotFound` when there is no
    /// such object.
    async fn get_up_to(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        match self.size(name).await?.saturating_sub(offset) {
            0 => Ok(Bytes::new()),
            left => self.get_range(name, offset, length.min(usize::try_from(left).unwrap_or(usize::MAX))).await,
        }
    }

    /// Returns the length of the object in bytes. `NotFound` when there is none.
    async fn size(&self, name: &str) -> Result<u64>;

    /// Returns the names that begin with `prefix`, sorted. A prefix is empty or ends with `/`. What is listed is durable,
    /// even if who wrote it was never told: whoever lists builds on it.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes the object durably; it is no error when there is none.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Returns where the objects themselves lie, if this is a cache before that.
    fn origin(&self) -> Option<&dyn Backend> {
        None
    }

    /// Returns what it did since it was opened, as far as it counts.
    fn counted(&self) -> BackendStats {
        BackendStats::default()
    }
}

/// What a backend and a cache before it did since they were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Calls to a service, if the objects lie in one.
    pub remote: Option<RemoteStats>,
    /// The cache, if there is one.
    pub cache: Option<CacheStats>,
}

/// Refuses a name that no backend should ever see, such as one that leaves a folder.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if name.len() <= 200 && name.split('/').all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!("`{name}` is no name for an object of the store")))
}

/// Refuses a prefix that is not the beginning of names at a `/`.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(folder) => check_name(folder),
        None if prefix.is_empty() => Ok(()),
        None => Err(Error::invalid(format!("`{prefix}` is no prefix: it does not end with `/`"))),
    }
}

pub(crate) fn past_the_end(name: &str, offset: u64, length: usize, size: u64) -> Error {
    Error::corrupt(format!("`{name}` has {size} bytes, so {length} bytes at offset {offset} are missing"))
}

pub(crate) fn too_large(name: &str, size: u64) -> Error {
    Error::corrupt(format!("`{name}` has {size} bytes; no object of the store is that large"))
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
