//! Content reader: any range of a content, with every byte verified by its seal.
//!
//! head -> data key -> root (held) -> segment (a few held) -> chunk. Memory of one reader: the root (64 bytes
//! per 512 MiB of content), [`SEGMENTS_HELD`] segments of about 110 KiB, [`NODES_HELD`] of 64 KiB before their
//! chunks are located, [`CHUNKS_HELD`] opened chunks; that is 6 MiB at 1 TiB. A stream adds what `stream.rs` says.

mod stream;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::blob::{BlobId, Kind, ZERO_ID};
use crate::cache::Cache;
use crate::fetch::{Place, misplaced, not_indexed};
use crate::head::HeadFields;
use crate::node::{Entry, Node};
use crate::store::Store;
use crate::{Error, ErrorKind, Result};

/// Segments that a reader holds, so that a walk in several places does not fetch them again and again.
const SEGMENTS_HELD: usize = 16;
/// Segments whose entries a reader holds apart from where they lie: what works on manifests walks in order.
const NODES_HELD: usize = 2;
/// Opened chunks that a reader holds, so that many small reads of one chunk open it once.
const CHUNKS_HELD: usize = 8;

/// A content that is open for reading; cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    store: Store,
    head: HeadFields,
    root: Entry,
    /// The entries of the root; none when the whole content is zero.
    root_entries: Vec<Entry>,
    segments: Cache<u64, Arc<Segment>>,
    nodes: Cache<u64, Arc<Vec<Entry>>>,
    chunks: Cache<u64, Bytes>,
}

/// A segment and where its chunks lie; nothing where they are zero.
struct Segment {
    places: Vec<Option<Place>>,
}

impl Store {
    /// Opens a content by its head.
    ///
    /// # Errors
    /// `KeyRefused` when the key service does not open it, `Corrupt` when the head or its root is damaged.
    pub async fn reader(&self, head: &[u8]) -> Result<Reader> {
        Reader::open(self.clone(), head).await
    }

    /// Opens a head of this store down to the root's key.
    pub(crate) async fn open_head(&self, head: &[u8]) -> Result<(HeadFields, Entry)> {
        let (head, root) = HeadFields::open(head, self.kms()).await?;
        if head.chunk_size != self.chunk_size() || head.length > self.length_max() {
            return Err(Error::corrupt(format!("the head of {} is that of another store", head.content)));
        }
        Ok((head, root))
    }
}

impl Reader {
    pub(crate) async fn open(store: Store, head: &[u8]) -> Result<Self> {
        let (head, root) = store.open_head(head).await?;
        let mut entries = Vec::new();
        if !root.is_zero() {
            let (node, place) = store.fetch_node(&head, Kind::Root, &root).await?;
            check(&node, head.chunk_size, head.length, store.segment_size())
                .map_err(|e| misplaced(Kind::Root, &place, e))?;
            entries = node.entries;
        }
        let (segments, nodes) = (Cache::new(SEGMENTS_HELD), Cache::new(NODES_HELD));
        let chunks = Cache::new(CHUNKS_HELD);
        Ok(Self(Arc::new(Inner { store, head, root, root_entries: entries, segments, nodes, chunks })))
    }

    /// Returns the length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.head.length
    }

    /// Returns whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the id of the content.
    #[must_use]
    pub fn content(&self) -> Uuid {
        self.0.head.content
    }

    /// Returns `length` bytes from `offset`, all in memory: bound `length`, or use [`Reader::stream`].
    ///
    /// # Errors
    /// `Invalid` when the range goes past the end, `Corrupt` when stored bytes are not what was written.
    pub async fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let range = self.check_range(offset, length as u64)?;
        let chunk_size = self.chunk_size();
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if range.start / chunk_size == (range.end - 1) / chunk_size {
            return Ok(self.window(range).await?.remove(0));
        }
        let mut buf = Vec::with_capacity(length);
        for window in self.windows(range) {
            for piece in self.window(window).await? {
                buf.extend_from_slice(&piece);
            }
        }
        Ok(buf.into())
    }

    /// Fills `buf` with the bytes at `offset` and returns true, if they are at hand: no backend is asked and nothing waited
    /// for but a local file. Meant for small reads from threads that may block; see [`Reader::wanted_small`].
    #[must_use]
    pub fn read_at_hand(&self, offset: u64, buf: &mut [u8]) -> bool {
        let (Some(opened), chunk_size) = (self.0.store.opened(), self.chunk_size()) else { return false };
        let inside = (offset % chunk_size) as usize;
        if inside + buf.len() > chunk_size as usize || self.check_range(offset, buf.len() as u64).is_err() {
            return false;
        }
        let Some(id) = self.held_id(offset / chunk_size) else { return false };
        if id == ZERO_ID {
            buf.fill(0);
            return true;
        }
        opened.read(&id, inside, buf)
    }

    /// Tells that a small part was wanted of the chunk that begins at `start` and has the bytes `plain`, so that it is at
    /// hand when that happens again. For threads that may block.
    pub fn wanted_small(&self, start: u64, plain: &[u8]) {
        let length = self.chunk_size().min(self.len().saturating_sub(start));
        if let Some(opened) = self.0.store.opened()
            && start.is_multiple_of(self.chunk_size())
            && plain.len() as u64 == length
            && let Some(id) = self.held_id(start / self.chunk_size())
            && id != ZERO_ID
        {
            opened.want(&id, plain);
        }
    }

    /// Returns the id of a chunk, if its segment is held; that of zeros is [`ZERO_ID`].
    fn held_id(&self, chunk: u64) -> Option<BlobId> {
        let per_segment = u64::from(self.0.store.descriptor().segment_chunks);
        let index = chunk / per_segment;
        if self.is_zero_segment(index) {
            return Some(ZERO_ID);
        }
        let segment = self.0.segments.held(index)?;
        let place = segment.places.get((chunk % per_segment) as usize)?;
        Some(place.as_ref().map_or(ZERO_ID, |place| place.entry.id))
    }

    /// Returns whether the run of bytes at `offset` (below [`Reader::len`]) is known to be zero, and how long
    /// the run is. Reads at most one segment and no data, so neighbouring runs may be of one kind.
    pub async fn extent(&self, offset: u64) -> Result<(bool, u64)> {
        if offset >= self.len() {
            return Err(self.past_the_end(offset, 1));
        }
        let (chunk_size, segment_size) = (self.chunk_size(), self.0.store.segment_size());
        let (index, segment_start) = (offset / segment_size, offset / segment_size * segment_size);
        let (mut zero, mut end) = (true, segment_start + segment_size);
        if let Some(segment) = self.segment(index).await? {
            let first = ((offset - segment_start) / chunk_size) as usize;
            zero = segment.places[first].is_none();
            let run = segment.places[first..].iter().take_while(|place| place.is_none() == zero).count();
            end = segment_start + (first + run) as u64 * chunk_size;
        }
        // Segments that are all zero are seen in the root.
        while zero && end < self.len() && end.is_multiple_of(segment_size) && self.is_zero_segment(end / segment_size) {
            end += segment_size;
        }
        Ok((zero, end.min(self.len()) - offset))
    }

    /// Returns pieces of `range`, which lies in at most one window.
    async fn window(&self, range: Range<u64>) -> Result<Vec<Bytes>> {
        match self.pieces(range.clone()).await {
            // Compaction may have moved the chunks since the places were looked up.
            Err(error) if error.kind() == ErrorKind::Corrupt && self.has_moved(&range).await? => {
                self.pieces(range).await
            }
            pieces => pieces,
        }
    }

    /// Looks up anew where the chunks of `range` lie, and returns whether any lies elsewhere than was known.
    async fn has_moved(&self, range: &Range<u64>) -> Result<bool> {
        let segment_size = self.0.store.segment_size();
        let mut moved = false;
        for index in range.start / segment_size..=(range.end - 1) / segment_size {
            let before = self.0.segments.take(index);
            let after = self.segment(index).await?;
            let places = |segment: &Segment| {
                segment.places.iter().map(|place| place.as_ref().map(|place| place.location)).collect::<Vec<_>>()
            };
            moved |= before.as_deref().map(places) != after.as_deref().map(places);
        }
        Ok(moved)
    }

    /// Whole chunks are fetched together; a part of a chunk comes from the chunks that are held.
    async fn pieces(&self, range: Range<u64>) -> Result<Vec<Bytes>> {
        let chunk_size = self.chunk_size();
        let (mut pieces, mut wanted, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for index in range.start / chunk_size..=(range.end - 1) / chunk_size {
            let chunk = index * chunk_size..((index + 1) * chunk_size).min(self.len());
            let part = range.start.max(chunk.start)..range.end.min(chunk.end);
            let inside = (part.start - chunk.start) as usize..(part.end - chunk.start) as usize;
            match self.place(index).await? {
                None => pieces.push(self.0.store.zeros(inside.len())),
                Some(place) if part == chunk => {
                    slots.push(pieces.len());
                    wanted.push(place);
                    pieces.push(Bytes::new());
                }
                Some(place) => pieces.push(self.held_chunk(index, place).await?.slice(inside)),
            }
        }
        let opened = self.0.store.fetch_chunks(self.0.head.domain, wanted).await?;
        for (slot, chunk) in slots.into_iter().zip(opened) {
            pieces[slot] = chunk;
        }
        Ok(pieces)
    }

    async fn held_chunk(&self, index: u64, place: Place) -> Result<Bytes> {
        let load = async { Ok(self.0.store.fetch_chunks(self.0.head.domain, vec![place]).await?.remove(0)) };
        self.0.chunks.get(index, load).await
    }

    /// Returns where a chunk lies; nothing when it is zero.
    async fn place(&self, chunk: u64) -> Result<Option<Place>> {
        let per_segment = u64::from(self.0.store.descriptor().segment_chunks);
        let segment = self.segment(chunk / per_segment).await?;
        Ok(segment.and_then(|segment| segment.places[(chunk % per_segment) as usize].clone()))
    }

    /// Returns what the head says.
    pub(crate) fn head(&self) -> HeadFields {
        self.0.head
    }

    pub(crate) fn domain(&self) -> Uuid {
        self.0.head.domain
    }

    /// Returns the entry of the root blob.
    pub(crate) fn root(&self) -> &Entry {
        &self.0.root
    }

    pub(crate) fn segment_count(&self) -> u64 {
        self.len().div_ceil(self.0.store.segment_size())
    }

    pub(crate) fn is_zero_segment(&self, index: u64) -> bool {
        self.segment_entry(index).is_zero()
    }

    /// Returns the entry of a segment in the root.
    pub(crate) fn segment_entry(&self, index: u64) -> Entry {
        self.0.root_entries.get(index as usize).cloned().unwrap_or_else(Entry::zero)
    }

    pub(crate) fn chunk_count(&self) -> u64 {
        self.len().div_ceil(self.chunk_size())
    }

    pub(crate) fn chunks_per_segment(&self) -> u64 {
        self.0.store.descriptor().segment_chunks.into()
    }

    /// Returns how many chunks a segment has.
    pub(crate) fn segment_chunks(&self, index: u64) -> u64 {
        self.segment_length(index).div_ceil(self.chunk_size())
    }

    fn segment_length(&self, index: u64) -> u64 {
        let segment_size = self.0.store.segment_size();
        (self.len() - index * segment_size).min(segment_size)
    }

    /// Returns the places of a segment's chunks; nothing when all are zero.
    pub(crate) async fn segment_places(&self, index: u64) -> Result<Option<Vec<Option<Place>>>> {
        Ok(self.segment(index).await?.map(|segment| segment.places.clone()))
    }

    async fn segment(&self, index: u64) -> Result<Option<Arc<Segment>>> {
        let entry = self.segment_entry(index);
        if entry.is_zero() {
            return Ok(None);
        }
        self.0.segments.get(index, self.load_segment(index)).await.map(Some)
    }

    /// Returns the entries of a segment that is not all zero, without asking the index where its chunks lie.
    pub(crate) async fn segment_entries(&self, index: u64) -> Result<Arc<Vec<Entry>>> {
        let load = async {
            let (store, head) = (&self.0.store, &self.0.head);
            let (node, place) = store.fetch_node(head, Kind::Segment, &self.segment_entry(index)).await?;
            check(&node, head.chunk_size, self.segment_length(index), self.chunk_size())
                .map_err(|e| misplaced(Kind::Segment, &place, e))?;
            Ok(Arc::new(node.entries))
        };
        self.0.nodes.get(index, load).await
    }

    async fn load_segment(&self, index: u64) -> Result<Arc<Segment>> {
        let (entries, length) = (self.segment_entries(index).await?, self.segment_length(index));
        let ids: Vec<_> = entries.iter().filter(|entry| !entry.is_zero()).map(|entry| entry.id).collect();
        let mut found = self.0.store.locate(self.domain(), self.content(), &ids).await?.into_iter();
        let mut places = Vec::with_capacity(entries.len());
        for (number, entry) in entries.iter().cloned().enumerate() {
            if entry.is_zero() {
                places.push(None);
                continue;
            }
            let location = found.next().flatten().ok_or_else(|| not_indexed(Kind::Chunk, &entry.id))?;
            let place = Place { entry, location };
            let expected = (length - number as u64 * self.chunk_size()).min(self.chunk_size());
            if u64::from(location.plain) != expected {
                return Err(misplaced(Kind::Chunk, &place, Error::corrupt("its length in the index is wrong")));
            }
            places.push(Some(place));
        }
        Ok(Arc::new(Segment { places }))
    }

    fn chunk_size(&self) -> u64 {
        u64::from(self.0.head.chunk_size)
    }

    /// Refuses a range that is reversed or goes past the end.
    pub(crate) fn checked(&self, range: Range<u64>) -> Result<Range<u64>> {
        match range.end.checked_sub(range.start) {
            Some(length) => self.check_range(range.start, length),
            None => Err(Error::invalid(format!("the range from {} to {} is reversed", range.start, range.end))),
        }
    }

    fn check_range(&self, offset: u64, length: u64) -> Result<Range<u64>> {
        match offset.checked_add(length) {
            Some(end) if end <= self.len() => Ok(offset..end),
            _ => Err(self.past_the_end(offset, length)),
        }
    }

    fn past_the_end(&self, offset: u64, length: u64) -> Error {
        let (content, size) = (self.content(), self.len());
        Error::invalid(format!("content {content} has {size} bytes, not {length} more from offset {offset}"))
    }
}

/// Refuses a manifest that does not cover `length` bytes with entries of `step` bytes each.
fn check(node: &Node, chunk_size: u32, length: u64, step: u64) -> Result<()> {
    if node.chunk_size == chunk_size && node.length == length && node.entries.len() as u64 == length.div_ceil(step) {
        return Ok(());
    }
    Err(Error::corrupt(format!("it does not cover the {length} bytes that it stands for")))
}
