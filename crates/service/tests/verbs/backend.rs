//! The store's objects in memory, with doors in front of reading and behind writing.

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Backend, MemoryBackend, Result};

use crate::gate::Door;

/// A [`MemoryBackend`] that can be held and measured.
#[derive(Default)]
pub(crate) struct WatchedBackend {
    objects: MemoryBackend,
    /// Passed before an object is read.
    pub(crate) reading: Door,
    /// Passed after an object is written and before its writer hears of it.
    pub(crate) written: Door,
}

impl WatchedBackend {
    /// Returns the bytes of all packs: every stored chunk and node.
    pub(crate) async fn pack_bytes(&self) -> u64 {
        let mut total = 0;
        for name in self.objects.list("packs/").await.unwrap() {
            total += self.objects.size(&name).await.unwrap();
        }
        total
    }

    /// Returns the names of all packs.
    pub(crate) async fn packs(&self) -> Vec<String> {
        self.objects.list("packs/").await.unwrap()
    }

    /// Changes one byte of an object, as a bad disk does.
    pub(crate) async fn spoil(&self, name: &str, at: usize) {
        let mut bytes = self.objects.get(name).await.unwrap().to_vec();
        bytes[at] ^= 1;
        self.objects.overwrite(name, bytes.into());
    }

    /// Returns the names of all heads.
    pub(crate) async fn heads(&self) -> Vec<String> {
        self.objects.list("heads/").await.unwrap()
    }
}

#[async_trait]
impl Backend for WatchedBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.objects.put(name, parts).await?;
        self.written.pass(name).await;
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.reading.pass(name).await;
        self.objects.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.reading.pass(name).await;
        self.objects.get_range(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.objects.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.objects.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.objects.delete(name).await
    }
}
