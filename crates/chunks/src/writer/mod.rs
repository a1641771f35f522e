//! Content writer: turns a byte stream into sealed chunks in packs, manifest blobs and one head.
//!
//! cut -> batch: zero? id, known? -> compress, seal -> pack -> durable -> index rows -> ... -> root -> head
//!
//! Invariants: chunks keep the order of the stream. The head is written only when every blob that it leads to
//! is durable and indexed. A call that failed or was given up half way leaves a writer that only fails.
//!
//! Memory with 512 KiB chunks, whatever the length of the content: the chunk being cut and a batch of 4,
//! 2 batches being identified, 8 chunks being sealed (each twice while it is sealed), one pack being filled
//! and one being written, 16 MiB each: below 48 MiB. A root being built adds 64 bytes per 512 MiB of content.
//!
//! All writers of a store share 32 MiB of rooms for chunks between being cut and being packed, and 96 MiB for packs. Where
//! there is none left, a writer goes on with one chunk at a time, and closes packs at 1 MiB: so it adds at most 4 MiB
//! to what the rooms take, and none ever waits for another, whose client may send nothing.

mod append;
mod finish;
mod known;
mod packer;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use self::packer::Packer;
pub(crate) use self::writing::{Writing, given_up};
use crate::blob::{Binding, BlobId, Kind, is_zero, seal_chunk};
use crate::blocking::Job;
use crate::domain::Domain;
use crate::index::Location;
use crate::node::Entry;
use crate::pack::SealedBlob;
use crate::store::Store;
use crate::{Error, Result};

/// Chunks that are identified together and looked up in one question to the index.
const BATCH_CHUNKS: usize = 4;
/// Batches that are being identified at once.
const BATCHES_MAX: usize = 2;
/// Chunks that are being compressed and sealed at once.
const SEALING_MAX: usize = 8;

/// Room in memory for one chunk or several; none of one that goes without.
type Room = Option<OwnedSemaphorePermit>;

/// What a writer did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Chunks of the content, of every kind.
    pub chunks: u64,
    /// Chunks that are all zero, which cost nothing.
    pub zero: u64,
    /// Chunks that the domain had already.
    pub known: u64,
    /// Bytes of new blobs, sealed, of chunks and manifests.
    pub stored_bytes: u64,
}

/// Writes one content. Dropping it gives up: what is stored by then belongs to nothing and can be collected.
pub struct Writer {
    store: Store,
    domain: Arc<Domain>,
    writing: Writing,
    length: u64,
    stats: WriteStats,
    broken: bool,
    /// The chunk being cut, shorter than a chunk.
    cutting: Vec<u8>,
    /// What the chunk being cut came as, if all of it came as one zstd frame.
    frame: Option<Bytes>,
    /// Chunks that wait to be a batch.
    batch: Vec<Cut>,
    /// Room for the batch.
    rooms: Room,
    identifying: VecDeque<Identifying>,
    sealing: VecDeque<Sealing>,
    packer: Packer,
    /// Chunks of the segment being filled.
    entries: Vec<Entry>,
    segments: Vec<Entry>,
}

/// A chunk that was cut.
struct Cut {
    plain: Vec<u8>,
    frame: Option<Bytes>,
}

enum Identifying {
    Zeros(u64),
    Batch(Job<Result<Vec<Identified>>>),
    Known(Vec<Entry>),
    Segment(Entry),
}

enum Identified {
    Zero,
    Data { id: BlobId, cut: Cut, location: Option<Location>, room: Room },
}

enum Sealing {
    Zeros(u64),
    Known(Entry),
    Segment(Entry),
    New(Entry, Job<Result<SealedBlob>>, Room),
}

impl Store {
    /// Starts writing the content `content` into the dedup domain `domain`, which is made when it is new.
    pub async fn writer(&self, domain: Uuid, content: Uuid) -> Result<Writer> {
        let domain = self.domain(domain).await?;
        Ok(Writer::new(self.clone(), domain, Writing::begin(self, content).await?))
    }
}

impl Writer {
    fn new(store: Store, domain: Arc<Domain>, writing: Writing) -> Self {
        let packer = Packer::new(store.clone(), domain.id, writing.session);
        Self {
            store,
            domain,
            writing,
            length: 0,
            stats: WriteStats::default(),
            broken: false,
            cutting: Vec::new(),
            frame: None,
            batch: Vec::new(),
            rooms: None,
            identifying: VecDeque::new(),
            sealing: VecDeque::new(),
            packer,
            entries: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Appends `bytes`. Waits while the pipeline is full, which holds back the sender.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.begin(bytes.len() as u64)?;
        self.cut(bytes).await
    }

    /// Cuts bytes that were counted into chunks.
    async fn cut(&mut self, mut bytes: Bytes) -> Result<()> {
        let chunk_size = self.store.chunk_size() as usize;
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(chunk_size - self.cutting.len()));
            if part.len() + self.cutting.len() == chunk_size {
                self.cutting.reserve_exact(part.len());
            }
            self.cutting.extend_from_slice(&part);
            self.cut_full().await?;
        }
        self.broken = false;
        Ok(())
    }

    /// Appends `length` zeros, which costs next to nothing where they fill whole chunks.
    pub async fn write_zeros(&mut self, length: u64) -> Result<()> {
        self.begin(length)?;
        let chunk_size = u64::from(self.store.chunk_size());
        let mut left = length;
        if !self.cutting.is_empty() {
            let filling = left.min(chunk_size - self.cutting.len() as u64);
            self.cutting.resize(self.cutting.len() + filling as usize, 0);
            self.cut_full().await?;
            left -= filling;
        }
        let whole = left / chunk_size;
        if whole > 0 {
            self.submit().await?;
            self.stats.chunks += whole;
            self.stats.zero += whole;
            self.identifying.push_back(Identifying::Zeros(whole));
        }
        if left > whole * chunk_size {
            self.cutting.resize((left - whole * chunk_size) as usize, 0);
        }
        self.broken = false;
        Ok(())
    }

    /// Returns how many bytes were appended.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns what was done so far; chunks still in the pipeline count when they leave it.
    #[must_use]
    pub fn stats(&self) -> WriteStats {
        WriteStats { stored_bytes: self.packer.stored_bytes, ..self.stats }
    }

    /// Marks the writer broken until the call that begins here succeeds, and counts `length` bytes.
    fn begin(&mut self, length: u64) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            let message = format!("the writer of content {} failed before and cannot go on", self.writing.content);
            return Err(Error::invalid(message).with_hint("write the content again from its beginning"));
        }
        self.length = match self.length.checked_add(length) {
            Some(sum) if sum <= self.store.length_max() => sum,
            _ => return Err(Error::invalid(format!("a content has at most {} bytes", self.store.length_max()))),
        };
        // What follows may belong to the same chunk.
        self.frame = None;
        Ok(())
    }

    async fn cut_full(&mut self) -> Result<()> {
        if self.cutting.len() == self.store.chunk_size() as usize {
            self.add_cut().await?;
        }
        Ok(())
    }

    /// Puts the chunk that was cut into the batch. Without room in memory it is a batch of its own.
    async fn add_cut(&mut self) -> Result<()> {
        let room = self.store.chunk_rooms(1);
        if room.is_none() {
            self.submit().await?;
        }
        self.batch.push(Cut { plain: std::mem::take(&mut self.cutting), frame: self.frame.take() });
        match (&mut self.rooms, room) {
            (Some(rooms), Some(room)) => rooms.merge(room),
            (rooms, room) => *rooms = room,
        }
        if self.rooms.is_none() || self.batch.len() == BATCH_CHUNKS {
            self.submit().await?;
        }
        Ok(())
    }

    /// Starts identifying the batch, and moves the pipeline on when it is full.
    async fn submit(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            let rooms = self.rooms.take();
            if rooms.is_none() {
                self.clear().await?;
            }
            let batch = std::mem::take(&mut self.batch);
            let job = identify(self.store.clone(), Arc::clone(&self.domain), batch, rooms);
            self.identifying.push_back(Identifying::Batch(Job::spawn(job)));
        }
        while self.identifying.len() > BATCHES_MAX {
            self.step().await?;
        }
        Ok(())
    }

    /// Takes the oldest batch out of identification and starts sealing what is new in it.
    async fn step(&mut self) -> Result<()> {
        match self.identifying.pop_front() {
            None => {}
            Some(Identifying::Zeros(count)) => self.advance(Sealing::Zeros(count)).await?,
            Some(Identifying::Segment(entry)) => self.advance(Sealing::Segment(entry)).await?,
            Some(Identifying::Known(entries)) => {
                for entry in entries {
                    self.advance(Sealing::Known(entry)).await?;
                }
            }
            Some(Identifying::Batch(mut job)) => {
                for identified in job.wait().await? {
                    self.stats.chunks += 1;
                    let next = self.decide(identified).await?;
                    self.advance(next).await?;
                }
            }
        }
        Ok(())
    }

    async fn decide(&mut self, identified: Identified) -> Result<Sealing> {
        let Identified::Data { id, cut, location, room } = identified else {
            self.stats.zero += 1;
            return Ok(Sealing::Zeros(1));
        };
        if let Some(location) = location {
            self.stats.known += 1;
            let key = self.domain.stored_key(location.generation, &id).await?;
            return Ok(Sealing::Known(Entry { id, key }));
        }
        let entry = Entry { id, key: self.domain.new_key(&id) };
        if self.packer.promise(id) {
            self.stats.known += 1;
            return Ok(Sealing::Known(entry));
        }
        let (cpu, binding, key) =
            (self.store.cpu().clone(), self.binding(Kind::Chunk, id, cut.plain.len()), entry.key.clone());
        let job = Job::spawn(async move { cpu.run(move || seal(&cut, &binding, &key)).await });
        Ok(Sealing::New(entry, job, room))
    }

    /// Puts a piece at the end of the sealing queue, taking out the oldest while it is full.
    async fn advance(&mut self, piece: Sealing) -> Result<()> {
        while self.sealing.len() >= SEALING_MAX {
            self.pack_oldest().await?;
        }
        self.sealing.push_back(piece);
        Ok(())
    }

    async fn pack_oldest(&mut self) -> Result<()> {
        match self.sealing.pop_front() {
            None => Ok(()),
            Some(Sealing::Zeros(count)) => self.list_zeros(count).await,
            Some(Sealing::Known(entry)) => self.list(entry).await,
            Some(Sealing::Segment(entry)) => {
                self.segments.push(entry);
                Ok(())
            }
            Some(Sealing::New(entry, mut job, room)) => {
                let blob = job.wait().await?;
                self.packer.push(blob).await?;
                drop(room);
                self.list(entry).await
            }
        }
    }

    /// Empties the pipeline; a chunk that is being cut stays where it is.
    async fn drain(&mut self) -> Result<()> {
        self.submit().await?;
        self.clear().await
    }

    /// Packs all that is being identified and sealed.
    async fn clear(&mut self) -> Result<()> {
        while !self.identifying.is_empty() {
            self.step().await?;
        }
        while !self.sealing.is_empty() {
            self.pack_oldest().await?;
        }
        Ok(())
    }

    /// What the seal of a new blob binds.
    fn binding(&self, kind: Kind, id: BlobId, plain: usize) -> Binding {
        let plain = u32::try_from(plain).expect("chunks and manifests are far below 4 GiB");
        Binding { kind, domain: self.domain.id, generation: self.domain.generation, id, plain }
    }
}

/// Finds out which chunks are zero and which are known.
async fn identify(store: Store, domain: Arc<Domain>, batch: Vec<Cut>, mut rooms: Room) -> Result<Vec<Identified>> {
    let domain_id = domain.id;
    let hash = move |cut: Cut| match is_zero(&cut.plain) {
        true => Identified::Zero,
        false => {
            let room = rooms.as_mut().and_then(|rooms| rooms.split(1));
            Identified::Data { id: domain.blob_id(Kind::Chunk, &cut.plain), cut, location: None, room }
        }
    };
    let mut batch: Vec<_> = store.cpu().run(move || batch.into_iter().map(hash).collect()).await;
    let data = batch.iter_mut().filter_map(|identified| match identified {
        Identified::Zero => None,
        Identified::Data { id, location, .. } => Some((*id, location)),
    });
    let (ids, places): (Vec<_>, Vec<_>) = data.unzip();
    for (place, found) in places.into_iter().zip(store.claim(domain_id, &ids).await?) {
        *place = found;
    }
    Ok(batch)
}

fn seal(cut: &Cut, binding: &Binding, key: &crate::blob::BlobKey) -> Result<SealedBlob> {
    Ok(sealed_blob(seal_chunk(&cut.plain, cut.frame.as_deref(), binding, key)?, binding))
}

fn sealed_blob(stored: Vec<u8>, binding: &Binding) -> SealedBlob {
    SealedBlob {
        kind: binding.kind,
        domain: binding.domain,
        id: binding.id,
        generation: binding.generation,
        plain: binding.plain,
        outer: *blake3::hash(&stored).as_bytes(),
        stored: stored.into(),
    }
}
