//! The store: opening it, and its domains. Writing and reading add their own doors to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use keys::Kms;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::backend::{Backend, BackendStats};
use crate::blocking::Threads;
use crate::descriptor::Descriptor;
use crate::domain::Domain;
use crate::head::{self, Head, HeadFields};
use crate::index::Index;
use crate::node::ROOT_ENTRIES_MAX;
use crate::opened::{Opened, OpenedOptions, OpenedStats};
use crate::pack::{self, PackBuilder};
use crate::{Error, ErrorKind, Result};

/// Bytes of all packs of full length that writers have in memory; further ones are closed when they are small.
const PACKS_LENGTH: usize = 96 * 1024 * 1024;
/// Bytes of all chunks that writers have cut and not packed yet, beside one or two of each writer.
const CHUNKS_LENGTH: usize = 32 * 1024 * 1024;

/// How a store is made and used.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a chunk: a power of two from 4 KiB to 4 MiB. A store that exists keeps its own.
    pub chunk_size: u32,
    /// Chunks of a segment, from 2 to 16384. A store that exists keeps its own.
    pub segment_chunks: u32,
    /// Bytes of blobs at which a pack is closed, at most 32 MiB. A writer holds two such packs.
    pub pack_length: u32,
    /// Where opened chunks are kept for small reads; nowhere without.
    pub opened: Option<OpenedOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self { chunk_size: 512 * 1024, segment_chunks: 1024, pack_length: pack::BLOBS_LENGTH, opened: None }
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
    /// Packs of full length that are in memory.
    pack_rooms: Arc<Semaphore>,
    /// Chunks that are in memory between being cut and being packed.
    chunk_rooms: Arc<Semaphore>,
    /// Open domains; a project has one, so there are as many as projects that wrote since the start.
    domains: Mutex<HashMap<Uuid, Arc<Domain>>>,
    zeros: Bytes,
    opened: Option<Opened>,
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
        let pack_rooms = Arc::new(Semaphore::new(PACKS_LENGTH / pack_length.max(1) as usize));
        let chunk_rooms = Arc::new(Semaphore::new(CHUNKS_LENGTH / descriptor.chunk_size as usize));
        let opened = options.opened.map(|opened| Opened::create(&opened, descriptor.chunk_size)).transpose()?;
        Ok(Self(Arc::new(Inner {
            backend,
            index,
            kms,
            descriptor,
            pack_length,
            cpu,
            pack_rooms,
            chunk_rooms,
            domains,
            zeros,
            opened,
        })))
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
        let packs = self.packs_there().await?;
        for id in &packs {
            self.record_pack(*id).await?;
        }
        Ok(packs.len() as u64)
    }

    /// Returns the packs that lie in the backend, recorded or not.
    pub async fn packs_there(&self) -> Result<Vec<Uuid>> {
        let names = self.backend().list("packs/").await?;
        let id =
            |name: &String| pack::id_of(name).ok_or_else(|| Error::corrupt(format!("`{name}` is no name for a pack")));
        names.iter().map(id).collect()
    }

    /// Records one pack and its blobs in the index, by its footer; a recorded one stays as it is.
    ///
    /// # Errors
    /// `Corrupt` when the footer is damaged.
    pub async fn record_pack(&self, pack: Uuid) -> Result<()> {
        let (size, entries) = pack::read_footer(self.backend(), pack, self.descriptor().store).await?;
        let blobs: Vec<_> = entries.iter().map(|entry| (entry.domain, entry.id, entry.location)).collect();
        let added = self.index().add_pack(None, pack, size, &blobs).await;
        added.map_err(|e| Error::index("record a pack", e))?;
        // Whoever removed it meanwhile says so to the index as well: one of the two comes after the other.
        match self.backend().size(&pack::name(pack)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => self.mark_gone(pack).await,
            other => other.map(drop),
        }
    }

    /// Tells the index that a pack was removed which nobody was to refer to, in case somebody has just recorded it.
    pub(crate) async fn mark_gone(&self, pack: Uuid) -> Result<()> {
        let marked = self.index().scrubbed(pack, Some("it was removed as garbage when it was recorded")).await;
        marked.map_err(|e| Error::index("record that a pack is gone", e))
    }

    /// Returns the contents that have a head, in no order.
    pub async fn heads_there(&self) -> Result<Vec<Uuid>> {
        let names = self.backend().list("heads/").await?;
        Ok(names.iter().filter_map(|name| Uuid::try_parse(name.strip_prefix("heads/")?).ok()).collect())
    }

    /// Returns what the backend did since it was opened.
    #[must_use]
    pub fn counted(&self) -> BackendStats {
        self.backend().counted()
    }

    /// Returns how small reads were answered since the store was opened; nothing where no opened chunks are kept.
    #[must_use]
    pub fn small_reads(&self) -> Option<OpenedStats> {
        self.opened().map(Opened::stats)
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

    /// Returns room in memory for `chunks` more, if there is any now.
    pub(crate) fn chunk_rooms(&self, chunks: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.chunk_rooms).try_acquire_many_owned(u32::try_from(chunks).ok()?).ok()
    }

    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.0.opened.as_ref()
    }

    /// Gives back what is only kept to be faster, because the disk is full.
    pub(crate) fn give_back_room(&self) {
        if let Some(opened) = self.opened() {
            opened.clear();
        }
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    pub(crate) fn new_pack(&self) -> PackBuilder {
        PackBuilder::new(self.0.descriptor.store, self.0.pack_length, Arc::clone(&self.0.pack_rooms))
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
