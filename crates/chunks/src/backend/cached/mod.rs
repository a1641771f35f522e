//! A cache before a remote backend: blocks of packs in a local directory.
//!
//! ```text
//! read -> blocks of the range -> under way already? wait for that : local and intact? : ask the backend, keep
//!      -> the one before was read as well? the next ones are fetched meanwhile
//! ```
//! Only packs are kept: they are most of the bytes, and what was once read of one is right for ever. Everything
//! else goes through. What is kept is what the backend returned, so it is sealed, and is verified when it is read.

mod blocks;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, try_join_all};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Backend, BackendStats, Counter, OBJECT_LENGTH_MAX, past_the_end};
use crate::blocking::Threads;
use crate::{Error, Result};
use blocks::{BlockId, Blocks};

/// Local reads and writes at once.
const PARALLEL_CALLS: usize = 8;
/// Blocks that are fetched ahead of who reads in order.
const AHEAD: u32 = 4;
/// Readers that are read ahead for at once; each holds one block more.
const AHEAD_READERS: usize = 8;
/// Places of reads that are remembered, to see which go on.
const PLACES: usize = 64;

/// How a cache is made.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The directory, which no other process may use.
    pub folder: PathBuf,
    /// Most bytes of all files in it.
    pub size: u64,
    /// Bytes that are fetched and kept together.
    pub block: usize,
}

impl CacheOptions {
    /// Bytes of a block unless told otherwise: smaller ones cost a request each where reads are near each other,
    /// larger ones fetch what nobody wants and are slow to verify. Measured in `docs/store.md`.
    pub const BLOCK: usize = 1024 * 1024;
}

/// What a cache did since it was opened, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were here.
    pub hits: u64,
    /// Blocks that were fetched, read-ahead among them.
    pub misses: u64,
    /// Blocks that somebody else was fetching already.
    pub shared: u64,
    /// Bytes of blocks that were here.
    pub hit_bytes: u64,
    /// Bytes that were fetched.
    pub miss_bytes: u64,
    /// Blocks that were fetched before anybody asked for them.
    pub ahead: u64,
    /// Blocks that went to make room.
    pub evictions: u64,
    /// Blocks whose file was damaged; they were fetched again.
    pub damaged: u64,
    /// Blocks that could not be kept because the disk failed or was full.
    pub unwritten: u64,
    /// Blocks that are here now.
    pub blocks: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// A backend with a cache before it; cheap to clone.
#[derive(Clone)]
pub struct CachedBackend(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    blocks: Blocks,
    block: usize,
    threads: Threads,
    flights: Mutex<Flights>,
    /// The last blocks of the latest reads.
    places: Mutex<VecDeque<BlockId>>,
    ahead: Arc<Semaphore>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    hits: Counter,
    misses: Counter,
    shared: Counter,
    hit_bytes: Counter,
    miss_bytes: Counter,
    ahead: Counter,
}

type Loading = BoxFuture<'static, std::result::Result<Bytes, Arc<Error>>>;

/// Blocks that are being loaded, each with a number of its own.
#[derive(Default)]
struct Flights {
    under_way: HashMap<BlockId, (u64, WeakShared<Loading>)>,
    last: u64,
}

impl CachedBackend {
    /// Opens a cache before `backend`, with what an earlier run left in its directory.
    pub async fn open(backend: Arc<dyn Backend>, options: CacheOptions) -> Result<Self> {
        let CacheOptions { folder, size, block } = options;
        if block == 0 || block as u64 > OBJECT_LENGTH_MAX {
            return Err(Error::invalid(format!("blocks of a cache cannot have {block} bytes")));
        }
        let threads = Threads::new(PARALLEL_CALLS);
        let blocks = threads.run(move || Blocks::open(&folder, size, block)).await?;
        Ok(Self(Arc::new(Inner {
            backend,
            blocks,
            block,
            threads,
            flights: Mutex::default(),
            places: Mutex::default(),
            ahead: Arc::new(Semaphore::new(AHEAD_READERS)),
            counters: Counters::default(),
        })))
    }

    /// Returns what the cache did and what it holds.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let Inner { blocks, counters, .. } = &*self.0;
        let (count, bytes) = blocks.usage();
        CacheStats {
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            shared: counters.shared.get(),
            hit_bytes: counters.hit_bytes.get(),
            miss_bytes: counters.miss_bytes.get(),
            ahead: counters.ahead.get(),
            evictions: blocks.evictions.get(),
            damaged: blocks.damaged.get(),
            unwritten: blocks.unwritten.get(),
            blocks: count,
            bytes,
        }
    }
}

impl Inner {
    /// Returns a block, loading it once however many ask.
    async fn load(self: &Arc<Self>, id: BlockId) -> Result<Bytes> {
        let loading = self.join(id);
        loading.await.map_err(|error| again(&error))
    }

    fn join(self: &Arc<Self>, id: BlockId) -> Shared<Loading> {
        let mut flights = self.flights();
        if let Some(loading) = flights.under_way.get(&id).and_then(|(_, loading)| loading.upgrade()) {
            self.counters.shared.add(1);
            return loading;
        }
        flights.last += 1;
        let landing = Landing { inner: Arc::clone(self), id, number: flights.last };
        let loading = async move { landing.inner.find_or_fetch(id).await.map_err(Arc::new) }.boxed().shared();
        if let Some(weak) = loading.downgrade() {
            let number = flights.last;
            flights.under_way.insert(id, (number, weak));
        }
        loading
    }

    async fn find_or_fetch(self: &Arc<Self>, id: BlockId) -> Result<Bytes> {
        let inner = Arc::clone(self);
        if let Some(bytes) = self.threads.run(move || inner.blocks.read(id)).await {
            self.counters.hits.add(1);
            self.counters.hit_bytes.add(bytes.len() as u64);
            return Ok(bytes.into());
        }
        let offset = u64::from(id.number) * self.block as u64;
        let bytes = self.backend.get_up_to(&format!("packs/{}", id.pack), offset, self.block).await?;
        self.counters.misses.add(1);
        self.counters.miss_bytes.add(bytes.len() as u64);
        self.keep(id, bytes.clone()).await;
        Ok(bytes)
    }

    async fn keep(self: &Arc<Self>, id: BlockId, bytes: Bytes) {
        if !bytes.is_empty() {
            let inner = Arc::clone(self);
            self.threads.run(move || inner.blocks.write(id, &bytes)).await;
        }
    }

    /// Remembers a read, and returns whether it goes on where another ended.
    fn goes_on(&self, pack: Uuid, first: u32, last: u32) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |place: &BlockId| place.pack == pack && (place.number + 1 == first || place.number == first);
        let found = places.iter().position(before).and_then(|at| places.remove(at));
        places.push_front(BlockId { pack, number: last });
        places.truncate(PLACES);
        found.is_some_and(|place| place.number < last)
    }

    /// Fetches the blocks after `last` while the reader is busy with it, until the pack ends.
    fn read_ahead(self: &Arc<Self>, pack: Uuid, last: u32) {
        let Ok(permit) = Arc::clone(&self.ahead).try_acquire_owned() else { return };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            for number in last + 1..=last.saturating_add(AHEAD) {
                let id = BlockId { pack, number };
                let length = match inner.blocks.length(id) {
                    Some(length) => length,
                    None => {
                        inner.counters.ahead.add(1);
                        // Whoever needs the block meets the failure itself.
                        inner.load(id).await.map_or(0, |bytes| bytes.len())
                    }
                };
                if length < inner.block {
                    break;
                }
            }
            drop(permit);
        });
    }

    /// Returns the blocks of a range of a pack, or nothing when no pack is that long.
    fn blocks_of(&self, offset: u64, length: usize) -> Option<(u32, u32)> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= OBJECT_LENGTH_MAX && length > 0)?;
        let number = |at: u64| u32::try_from(at / self.block as u64).ok();
        Some((number(offset)?, number(end - 1)?))
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a flight, also one that everybody gave up.
struct Landing {
    inner: Arc<Inner>,
    id: BlockId,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        if flights.under_way.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            flights.under_way.remove(&self.id);
        }
    }
}

#[async_trait]
impl Backend for CachedBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        let Some(pack) = pack_of(name) else { return self.0.backend.put(name, parts).await };
        self.0.backend.put(name, parts.clone()).await?;
        // What was just written is often read soon: an upload becomes an image.
        let mut number = 0;
        let mut block = BytesMut::with_capacity(self.0.block);
        for mut part in parts {
            while !part.is_empty() {
                block.extend_from_slice(&part.split_to(part.len().min(self.0.block - block.len())));
                if block.len() == self.0.block {
                    self.0.keep(BlockId { pack, number }, block.split().freeze()).await;
                    number += 1;
                }
            }
        }
        self.0.keep(BlockId { pack, number }, block.freeze()).await;
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.0.backend.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        let (Some(pack), Some((first, last))) = (pack_of(name), self.0.blocks_of(offset, length)) else {
            return self.0.backend.get_range(name, offset, length).await;
        };
        let goes_on = self.0.goes_on(pack, first, last);
        let blocks = try_join_all((first..=last).map(|number| self.0.load(BlockId { pack, number }))).await?;
        let is_the_end = blocks.last().is_none_or(|block| block.len() < self.0.block);
        if goes_on && !is_the_end {
            self.0.read_ahead(pack, last);
        }
        let start = (offset - u64::from(first) * self.0.block as u64) as usize;
        let bytes = match &blocks[..] {
            [block] => block.clone(),
            _ => blocks.concat().into(),
        };
        if bytes.len() < start + length {
            return Err(past_the_end(name, offset, length, self.0.backend.size(name).await?));
        }
        Ok(bytes.slice(start..start + length))
    }

    async fn get_up_to(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.0.backend.get_up_to(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.0.backend.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.backend.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.backend.delete(name).await?;
        if let Some(pack) = pack_of(name) {
            let inner = Arc::clone(&self.0);
            self.0.threads.run(move || inner.blocks.forget(pack)).await;
        }
        Ok(())
    }

    fn origin(&self) -> Option<&dyn Backend> {
        Some(&*self.0.backend)
    }

    fn counted(&self) -> BackendStats {
        BackendStats { cache: Some(self.stats()), ..self.0.backend.counted() }
    }
}

/// Returns the id of the pack that has this name.
fn pack_of(name: &str) -> Option<Uuid> {
    let text = name.strip_prefix("packs/")?;
    let id = Uuid::try_parse(text).ok()?;
    (id.to_string() == text).then_some(id)
}

/// Tells a failure to one of several who waited for the same bytes.
fn again(error: &Arc<Error>) -> Error {
    let mut told = Error::new(error.kind(), error.to_string());
    if let Some(hint) = error.hint() {
        told = told.with_hint(hint);
    }
    match std::error::Error::source(&**error) {
        Some(_) => told.with_source(SharedCause(Arc::clone(error))),
        None => told,
    }
}

/// The cause of a failure that was told to several.
#[derive(Debug)]
struct SharedCause(Arc<Error>);

impl SharedCause {
    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause().map_or(Ok(()), |cause| fmt::Display::fmt(cause, f))
    }
}

impl std::error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().and_then(std::error::Error::source)
    }
}
