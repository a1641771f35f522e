//! Objects in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, check_name, check_prefix, past_the_end};
use crate::{Error, ErrorKind, Result};

/// A backend whose objects go away with it.
#[derive(Default)]
pub struct MemoryBackend {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryBackend {
    /// Makes a backend that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces or makes an object, which no backend does for the store: tests damage bytes with it.
    pub fn overwrite(&self, name: &str, bytes: Bytes) {
        self.objects().insert(name.to_owned(), bytes);
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Bytes> {
        check_name(name)?;
        let found = self.objects().get(name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no object `{name}`")))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        check_name(name)?;
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(Error::new(ErrorKind::Exists, format!("the object `{name}` exists already")));
        }
        objects.insert(name.to_owned(), parts.concat().into());
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.find(name)
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        let object = self.find(name)?;
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(length)).filter(|end| *end <= object.len());
        match (start, end) {
            (Some(start), Some(end)) => Ok(object.slice(start..end)),
            _ => Err(past_the_end(name, offset, length, object.len() as u64)),
        }
    }

    async fn size(&self, name: &str) -> Result<u64> {
        Ok(self.find(name)?.len() as u64)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        check_prefix(prefix)?;
        Ok(self.objects().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.objects().remove(name);
        Ok(())
    }
}
