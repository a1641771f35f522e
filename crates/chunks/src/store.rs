//! The store: opening it, and its domains. Writing and reading add their own doors to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use keys::Kms;
use uuid::Uuid;

use crate::backend::Backend;
use crate::blocking::Threads;
use crate::descriptor::Descriptor;
use crate::domain::Domain;
use crate::head::{self, Head, HeadFields};
use crate::index::Index;
use crate::node::ROOT_ENTRIES_MAX;
use crate::pack::{self, PackBuilder};
use crate::{Error, Result};

/// How a store is made and used.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a chunk: a power of two from 4 KiB to 4 MiB. A store that exists keeps its own.
    pub chunk_size: u32,
    /// Chunks of a segment, from 2 to 16384. A store that exists keeps its own.
    pub segment_chunks: u32,
    /// Bytes of blobs at which a pack is closed, at most 32 MiB. A writer holds two such packs.
    pub pack_length: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { chunk_size: 512 * 1024, segment_chunks: 1024, pack_length: pack::BLOBS_LENGTH }
    }
}

/// A chunk store; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    index: Arc<dyn Index>,
    kms: Arc<dyn Kms>,
    descriptor: Descriptor,
    pack_length: u32,
    cpu: Threads,
    /// Open domains; a project has one, so there are as many as projects that wrote since the start.
    domains: Mutex<HashMap<Uuid, Arc<Domain>>>,
    zeros: Bytes,
}

impl Store {
    /// Opens the store in `backend`, or makes one there.
    ///
    /// # Errors
    /// `Version` when a newer release made it, `Corrupt` when its descriptor is damaged or lost.
    pub async fn open(
        backend: Arc<dyn Backend>,
        index: Arc<dyn Index>,
        kms: Arc<dyn Kms>,
        options: Options,
    ) -> Result<Self> {
        let descriptor = Descriptor::open(&backend, options.chunk_size, options.segment_chunks).await?;
        let zeros = Bytes::from(vec![0; descriptor.chunk_size as usize]);
        let (cpu, domains) = (Threads::per_core(), Mutex::default());
        let pack_length = options.pack_length.min(pack::BLOBS_LENGTH_MAX);
        Ok(Self(Arc::new(Inner { backend, index, kms, descriptor, pack_length, cpu, domains, zeros })))
    }

    /// Returns the stored head of a content. `NotFound` when there is none.
    pub async fn head(&self, content: Uuid) -> Result<Head> {
        let bytes = self.backend().get(&head::name(content)).await?;
        let fields = HeadFields::parse(&bytes)?;
        if fields.content != content {
            return Err(Error::corrupt(format!("the head of {content} is that of {}", fields.content)));
        }
        Ok(Head { content, domain: fields.domain, length: fields.length, bytes: bytes.into() })
    }

    /// Removes the head of a content; it is no error when there is none. Whoever holds a copy of the head
    /// can still read the content until its chunks are collected.
    pub async fn forget(&self, content: Uuid) -> Result<()> {
        self.index().forget(content).await.map_err(|e| Error::index("forget a content", e))?;
        self.backend().delete(&head::name(content)).await
    }

    /// Records every pack in the index, which rebuilds an index that was lost. Needs no key and reads only
    /// footers. Returns the number of packs.
    ///
    /// # Errors
    /// `Corrupt` names the first pack whose footer is damaged; the packs before it are recorded.
    pub async fn reindex(&self) -> Result<u64> {
        let names = self.backend().list("packs/").await?;
        for name in &names {
            let Some(id) = pack::id_of(name) else {
                return Err(Error::corrupt(format!("`{name}` is no name for a pack")));
            };
            let (size, entries) = pack::read_footer(self.backend(), id, self.descriptor().store).await?;
            let blobs: Vec<_> = entries.iter().map(|entry| (entry.domain, entry.id, entry.location)).collect();
            let added = self.index().add_pack(None, id, size, &blobs).await;
            added.map_err(|e| Error::index("record a pack", e))?;
        }
        Ok(names.len() as u64)
    }

    /// Returns the bytes of every chunk but the last of a content.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        self.0.descriptor.chunk_size
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    pub(crate) fn index(&self) -> &dyn Index {
        &*self.0.index
    }

    pub(crate) fn shared_index(&self) -> Arc<dyn Index> {
        Arc::clone(&self.0.index)
    }

    pub(crate) fn kms(&self) -> &dyn Kms {
        &*self.0.kms
    }

    pub(crate) fn cpu(&self) -> &Threads {
        &self.0.cpu
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    pub(crate) fn new_pack(&self) -> PackBuilder {
        PackBuilder::new(self.0.descriptor.store, self.0.pack_length)
    }

    /// Returns `length` zeros, at most a chunk, without a copy.
    pub(crate) fn zeros(&self, length: usize) -> Bytes {
        self.0.zeros.slice(..length)
    }

    /// Returns the bytes that a full segment covers.
    pub(crate) fn segment_size(&self) -> u64 {
        u64::from(self.0.descriptor.chunk_size) * u64::from(self.0.descriptor.segment_chunks)
    }

    /// Returns the longest content that a root can list.
    pub(crate) fn length_max(&self) -> u64 {
        self.segment_size() * ROOT_ENTRIES_MAX as u64
    }

    /// Returns the domain, opening it on first use.
    pub(crate) async fn domain(&self, id: Uuid) -> Result<Arc<Domain>> {
        let open = self.domains().get(&id).cloned();
        if let Some(domain) = open {
            return Ok(domain);
        }
        let domain = Arc::new(Domain::open(&self.0.backend, &self.0.kms, id).await?);
        Ok(Arc::clone(self.domains().entry(id).or_insert(domain)))
    }

    fn domains(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Domain>>> {
        self.0.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
