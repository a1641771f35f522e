//! A backend that notes every call, and one content that goes away when another is made of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Backend, Error, ErrorKind, Index, MemoryBackend, MemoryIndex, Result};
use uuid::Uuid;

/// A call: what was done, to which object, and how many bytes went either way.
pub(crate) type Call = (&'static str, String, u64);

#[derive(Default)]
pub(crate) struct WatchedBackend {
    pub(crate) inner: MemoryBackend,
    calls: Mutex<Vec<Call>>,
    /// Forgotten just before the next head is written.
    doomed: Mutex<Option<(Arc<MemoryIndex>, Uuid)>>,
    pub(crate) refuses_deletes: AtomicBool,
}

impl WatchedBackend {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the calls since the last time.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(crate) fn doom(&self, index: &Arc<MemoryIndex>, content: Uuid) {
        *self.doomed.lock().unwrap() = Some((Arc::clone(index), content));
    }

    fn note(&self, verb: &'static str, name: &str, length: usize) {
        self.calls.lock().unwrap().push((verb, name.to_owned(), length as u64));
    }
}

#[async_trait]
impl Backend for WatchedBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.note("put", name, parts.iter().map(Bytes::len).sum());
        let doomed = if name.starts_with("heads/") { self.doomed.lock().unwrap().take() } else { None };
        if let Some((index, doomed)) = doomed {
            index.forget(doomed).await.unwrap();
            self.inner.delete(&format!("heads/{doomed}")).await?;
        }
        self.inner.put(name, parts).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let got = self.inner.get(name).await;
        self.note("get", name, got.as_ref().map_or(0, Bytes::len));
        got
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.note("get", name, length);
        self.inner.get_range(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.note("size", name, 0);
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.note("list", prefix, 0);
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.note("delete", name, 0);
        if self.refuses_deletes.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "nothing can be removed"));
        }
        self.inner.delete(name).await
    }
}
