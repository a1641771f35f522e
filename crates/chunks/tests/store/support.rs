//! Stores of small geometry, bytes to write, and wrappers that count and fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Backend, Error, ErrorKind, Head, Options, Result, Store};
use futures::TryStreamExt;
use keys::{Kms, LocalKms};
use uuid::Uuid;

use crate::watched_index::Watch;

pub(crate) const CHUNK: usize = 4096;
pub(crate) const SEGMENT: usize = 4 * CHUNK;
pub(crate) const DOMAIN: Uuid = Uuid::from_u128(0xd0);

/// Chunks of 4 KiB, segments of 4 chunks, packs of 64 KiB: every border is near.
pub(crate) fn small() -> Options {
    Options { chunk_size: CHUNK as u32, segment_chunks: 4, pack_length: 64 * 1024, opened: None }
}

pub(crate) fn kms() -> Arc<dyn Kms> {
    let folder = tempfile::tempdir().unwrap();
    Arc::new(LocalKms::open_or_create(&folder.path().join("master.key")).unwrap())
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A number that looks random, the same for the same seed.
pub(crate) fn random(seed: u64) -> u64 {
    u64::from_le_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes().first_chunk().unwrap())
}

/// Numbers that look random, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(random(seed))
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = random(self.0);
        self.0 % sides
    }
}

pub(crate) async fn write(store: &Store, domain: Uuid, bytes: &[u8]) -> Head {
    let mut writer = store.writer(domain, Uuid::now_v7()).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.finish().await.unwrap()
}

pub(crate) async fn read_all(store: &Store, head: &[u8]) -> Result<Vec<u8>> {
    let reader = store.reader(head).await?;
    let pieces: Vec<Bytes> = reader.stream(0..reader.len()).try_collect().await?;
    Ok(pieces.concat())
}

/// Fails every call after a number of them, as a machine that dies does. With `late`, the call at which it
/// dies takes effect and is still reported as failed.
pub(crate) struct Mortal {
    left: AtomicU64,
    late: bool,
}

impl Mortal {
    pub(crate) fn new(calls: u64, late: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(calls), late })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Returns whether the call takes effect, and whether it is reported as done.
    fn call(&self) -> (bool, bool) {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match before {
            Err(_) => (false, false),
            Ok(1) => (self.late, false),
            Ok(_) => (true, true),
        }
    }
}

fn dead() -> Error {
    Error::new(ErrorKind::Io, "the machine died")
}

pub(crate) struct MortalBackend {
    pub(crate) inner: Arc<dyn Backend>,
    pub(crate) life: Arc<Mortal>,
}

#[async_trait]
impl Backend for MortalBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        let (happens, told) = self.life.call();
        if happens {
            self.inner.put(name, parts).await?;
        }
        if told { Ok(()) } else { Err(dead()) }
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        if self.life.call().1 { self.inner.get(name).await } else { Err(dead()) }
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        if self.life.call().1 { self.inner.get_range(name, offset, length).await } else { Err(dead()) }
    }

    async fn size(&self, name: &str) -> Result<u64> {
        if self.life.call().1 { self.inner.size(name).await } else { Err(dead()) }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        if self.life.call().1 { self.inner.list(prefix).await } else { Err(dead()) }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        if self.life.call().1 { self.inner.delete(name).await } else { Err(dead()) }
    }
}

impl Watch for Mortal {
    fn call(&self) -> (bool, bool) {
        Mortal::call(self)
    }
}

/// Counts the bytes that are written and read, and is full at `room`.
pub(crate) struct CountingBackend {
    pub(crate) inner: Arc<dyn Backend>,
    pub(crate) written: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) room: AtomicU64,
}

impl CountingBackend {
    pub(crate) fn new(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self { inner, written: AtomicU64::new(0), read: AtomicU64::new(0), room: AtomicU64::new(u64::MAX) })
    }

    /// Returns the bytes written and read since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.written.swap(0, Ordering::SeqCst), self.read.swap(0, Ordering::SeqCst))
    }
}

#[async_trait]
impl Backend for CountingBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        if self.written.load(Ordering::SeqCst) + length as u64 > self.room.load(Ordering::SeqCst) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::io("write to", std::path::Path::new("/the/folder"), full));
        }
        self.inner.put(name, parts).await?;
        self.written.fetch_add(length as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let bytes = self.inner.get(name).await?;
        self.read.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(bytes)
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.read.fetch_add(length as u64, Ordering::SeqCst);
        self.inner.get_range(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }
}
