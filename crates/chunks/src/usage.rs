//! What contents cost: the bytes they refer to, what they share, and what deleting each would free.
//!
//! Walks roots and segments by their refs parts, so it needs no key. A blob that two contents refer to is recognized by
//! the first half of its id.
//!
//! Memory: some 300 bytes for each content; [`BLOBS_SEEN`] blobs at 33 bytes in a hash table, 104 MB while it grows.
//! With more unique blobs than that (0.9 TiB of data in chunks of 512 KiB), the ids are divided by their first bits
//! and the manifests are walked once for each part: 64 KiB are read for 512 MiB of content. Each blob is looked up in
//! the index once, and again for each time that a part had to be halved.

use std::collections::HashMap;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::blob::{BlobId, Kind, ZERO_ID};
use crate::fetch::not_indexed;
use crate::head::HeadFields;
use crate::index::Location;
use crate::store::Store;
use crate::{Error, Result};

/// Blobs that are remembered at once: a table of 2^21 places, as full as it gets before it would double. One place is
/// kept for the root or segment at hand.
const BLOBS_SEEN: usize = (7 << 18) - 1;
/// Manifest blobs that are fetched ahead, up to 66 KB each for a segment and 64 bytes per 512 MiB for a root.
const READ_AHEAD: usize = 8;

/// An amount of different blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Chunks.
    pub chunks: u64,
    /// Plain bytes of the chunks.
    pub plain: u64,
    /// Stored bytes, of the chunks and of the segments and roots over them.
    pub stored: u64,
}

/// What one content costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentUsage {
    /// Its id.
    pub content: Uuid,
    /// Its dedup domain.
    pub domain: Uuid,
    /// Its length in bytes.
    pub length: u64,
    /// Its chunks, of every kind, each as often as it occurs.
    pub chunks: u64,
    /// Those that are zero and not stored.
    pub zero: u64,
    /// The different blobs that it refers to.
    pub held: Share,
    /// Those of them that no other counted content refers to: what collection frees when it alone is deleted.
    pub freed: Share,
}

/// What a set of contents costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Each content, in the order in which they were added.
    pub contents: Vec<ContentUsage>,
    /// The sum of their lengths in bytes.
    pub length: u64,
    /// The different blobs that they refer to together.
    pub held: Share,
}

/// Contents that are to be counted together.
pub struct Tally {
    store: Store,
    limit: usize,
    contents: Vec<ContentUsage>,
    /// For each content its place in `trees`; nothing when it is empty or all zero.
    tree_of: Vec<Option<u32>>,
    trees: Vec<Tree>,
    known: HashMap<(Uuid, BlobId), u32>,
}

/// A root and all below it, which copies have in common.
struct Tree {
    domain: Uuid,
    root: BlobId,
    contents: u64,
}

impl Store {
    /// Starts counting what contents cost.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally::new(self.clone(), BLOBS_SEEN)
    }
}

impl Tally {
    fn new(store: Store, limit: usize) -> Self {
        let (contents, tree_of, trees) = (Vec::new(), Vec::new(), Vec::new());
        Self { store, limit, contents, tree_of, trees, known: HashMap::new() }
    }

    /// Adds a content by its head, each content once.
    ///
    /// # Errors
    /// `Corrupt` when the head is damaged or that of another store.
    pub fn add(&mut self, head: &[u8]) -> Result<()> {
        let HeadFields { content, domain, length, chunk_size, root } = HeadFields::parse(head)?;
        if chunk_size != self.store.chunk_size() {
            return Err(Error::corrupt(format!("the head of {content} is that of another store")));
        }
        let chunks = length.div_ceil(chunk_size.into());
        let (held, freed) = (Share::default(), Share::default());
        self.contents.push(ContentUsage { content, domain, length, chunks, zero: chunks, held, freed });
        let tree = if root == ZERO_ID { None } else { Some(self.tree(domain, root)?) };
        self.tree_of.push(tree);
        Ok(())
    }

    fn tree(&mut self, domain: Uuid, root: BlobId) -> Result<u32> {
        let next = u32::try_from(self.trees.len()).ok().filter(|next| *next != SHARED);
        let next = next.ok_or_else(|| Error::invalid("too many contents are counted together"))?;
        let number = *self.known.entry((domain, root)).or_insert(next);
        if number == next {
            self.trees.push(Tree { domain, root, contents: 0 });
        }
        self.trees[number as usize].contents += 1;
        Ok(number)
    }

    /// Walks the manifests of all contents and returns what they cost.
    ///
    /// # Errors
    /// `Corrupt` names a blob that is missing; a content that is deleted and collected meanwhile causes this too.
    pub async fn count(mut self) -> Result<Usage> {
        let mut held = Share::default();
        let mut sums = vec![Sums::default(); self.trees.len()];
        let mut part = Part { bits: 0, number: 0 };
        while part.number < 1 << part.bits {
            let Some(counted) = self.count_part(part).await? else {
                part = Part { bits: part.bits + 1, number: part.number * 2 };
                continue;
            };
            part.number += 1;
            held.add(&counted.held());
            for (sum, more) in sums.iter_mut().zip(counted.finish()) {
                sum.held.add(&more.held);
                sum.freed.add(&more.freed);
                sum.data = more.data;
            }
        }
        for (content, tree) in self.contents.iter_mut().zip(self.tree_of) {
            let Some(tree) = tree.map(|tree| tree as usize) else { continue };
            content.zero = content.chunks.saturating_sub(sums[tree].data);
            content.held = sums[tree].held;
            if self.trees[tree].contents == 1 {
                content.freed = sums[tree].freed;
            }
        }
        let length = self.contents.iter().map(|content| content.length).sum();
        Ok(Usage { contents: self.contents, length, held })
    }

    /// Counts the blobs of one part of all ids; nothing when they are too many.
    async fn count_part(&self, part: Part) -> Result<Option<Counting>> {
        let mut counting = Counting { part, seen: HashMap::new(), sums: vec![Sums::default(); self.trees.len()] };
        let mut nodes = std::pin::pin!(self.nodes());
        while let Some(node) = nodes.try_next().await? {
            let unknown = counting.node(&node);
            if counting.seen.len() + unknown.len() > self.limit && part.bits < Part::BITS_MAX {
                return Ok(None);
            }
            let found = self.store.find(self.trees[node.tree as usize].domain, &unknown).await?;
            for (id, location) in unknown.iter().zip(found) {
                let location = location.ok_or_else(|| not_indexed(Kind::Chunk, id))?.location;
                counting.add(node.tree, id, Kind::Chunk, location);
            }
        }
        Ok(Some(counting))
    }

    /// Returns the roots and segments, tree by tree.
    fn nodes(&self) -> impl Stream<Item = Result<Node>> + Send {
        let roots = stream::iter(0..).zip(stream::iter(&self.trees));
        let roots = roots.map(|(tree, Tree { root, .. })| self.fetch(tree, Kind::Root, *root)).buffered(READ_AHEAD);
        let steps = roots.map_ok(|mut root| {
            let (tree, segments) = (root.tree, std::mem::take(&mut root.ids));
            let segments = segments.into_iter().map(move |id| Ok(Step::Fetch(tree, id)));
            stream::iter(std::iter::once(Ok(Step::Root(root))).chain(segments))
        });
        let nodes = steps.try_flatten().map(async |step| match step? {
            Step::Root(root) => Ok(root),
            Step::Fetch(tree, id) => self.fetch(tree, Kind::Segment, id).await,
        });
        nodes.buffered(READ_AHEAD)
    }

    async fn fetch(&self, tree: u32, kind: Kind, id: BlobId) -> Result<Node> {
        let (refs, location) = self.store.fetch_refs(self.trees[tree as usize].domain, kind, id).await?;
        let mut ids = refs.ids;
        ids.retain(|id| *id != ZERO_ID);
        Ok(Node { tree, kind, id, location, ids })
    }
}

enum Step {
    Root(Node),
    Fetch(u32, BlobId),
}

/// A root without its segments, or a segment with the ids of its chunks that are not zero.
struct Node {
    tree: u32,
    kind: Kind,
    id: BlobId,
    location: Location,
    ids: Vec<BlobId>,
}

/// The ids whose first `bits` bits are `number`.
#[derive(Clone, Copy)]
struct Part {
    bits: u32,
    number: u64,
}

impl Part {
    const BITS_MAX: u32 = 63;

    fn holds(self, id: &BlobId) -> bool {
        let first = u64::from_be_bytes(*id.first_chunk().expect("an id is longer"));
        first.checked_shr(u64::BITS - self.bits).unwrap_or(0) == self.number
    }
}

/// The owner of a blob that several trees refer to.
const SHARED: u32 = u32::MAX;

/// A blob that was met.
struct Seen {
    /// The tree that met it first, or [`SHARED`].
    owner: u32,
    /// The tree that met it last, so that a tree counts it once.
    last: u32,
    stored: u32,
    /// Zero for a segment or root.
    plain: u32,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    held: Share,
    freed: Share,
    /// Chunks that are not zero, of every part, each as often as it occurs.
    data: u64,
}

struct Counting {
    part: Part,
    seen: HashMap<[u8; 16], Seen>,
    /// For each tree.
    sums: Vec<Sums>,
}

impl Counting {
    /// Counts a root or segment and those of its chunks that were met before, and returns the others.
    fn node(&mut self, node: &Node) -> Vec<BlobId> {
        if self.part.holds(&node.id) && !self.meet(node.tree, &node.id) {
            self.add(node.tree, &node.id, node.kind, node.location);
        }
        self.sums[node.tree as usize].data += node.ids.len() as u64;
        let part = self.part;
        node.ids.iter().filter(|id| part.holds(id)).filter(|id| !self.meet(node.tree, id)).copied().collect()
    }

    /// Counts a blob for a tree if it is known, and returns whether it is.
    fn meet(&mut self, tree: u32, id: &BlobId) -> bool {
        let Some(seen) = self.seen.get_mut(&prefix(id)) else { return false };
        if std::mem::replace(&mut seen.last, tree) != tree {
            self.sums[tree as usize].held.add(&seen.share());
            seen.owner = SHARED;
        }
        true
    }

    /// Counts a blob that is met for the first time, unless the same node names it twice.
    fn add(&mut self, tree: u32, id: &BlobId, kind: Kind, location: Location) {
        if self.meet(tree, id) {
            return;
        }
        let plain = if kind == Kind::Chunk { location.plain } else { 0 };
        let seen = Seen { owner: tree, last: tree, stored: location.stored, plain };
        self.sums[tree as usize].held.add(&seen.share());
        self.seen.insert(prefix(id), seen);
    }

    /// Returns what was met, by whomever.
    fn held(&self) -> Share {
        let mut held = Share::default();
        self.seen.values().for_each(|seen| held.add(&seen.share()));
        held
    }

    /// Returns the sums of each tree.
    fn finish(mut self) -> Vec<Sums> {
        for seen in self.seen.values().filter(|seen| seen.owner != SHARED) {
            self.sums[seen.owner as usize].freed.add(&seen.share());
        }
        self.sums
    }
}

impl Seen {
    fn share(&self) -> Share {
        Share { chunks: u64::from(self.plain != 0), plain: self.plain.into(), stored: self.stored.into() }
    }
}

impl Share {
    fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.plain += other.plain;
        self.stored += other.stored;
    }
}

fn prefix(id: &BlobId) -> [u8; 16] {
    *id.first_chunk().expect("an id is longer")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use keys::LocalKms;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::index::MemoryIndex;
    use crate::store::Options;

    #[tokio::test]
    async fn in_parts_the_same_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let kms = Arc::new(LocalKms::open_or_create(&folder.path().join("k")).unwrap());
        let options = Options { chunk_size: 4096, segment_chunks: 4, ..Options::default() };
        let store = Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms, options);
        let store = store.await.unwrap();
        let mut heads = Vec::new();
        // Each content shares the chunks of the one before and adds some.
        for length in 1..20_u8 {
            let mut writer = store.writer(Uuid::nil(), Uuid::now_v7()).await.unwrap();
            for number in length / 2..length {
                writer.write(Bytes::from(vec![number + 1; 4096])).await.unwrap();
            }
            writer.write_zeros(9000).await.unwrap();
            heads.push(writer.finish().await.unwrap());
        }
        let count = async |limit| {
            let mut tally = Tally::new(store.clone(), limit);
            heads.iter().for_each(|head| tally.add(&head.bytes).unwrap());
            tally.count().await.unwrap()
        };
        let whole = count(BLOBS_SEEN).await;
        assert_eq!(whole.held.chunks, 19);
        for limit in [1, 2, 5, 20, 40] {
            assert_eq!(count(limit).await, whole, "{limit} at once");
        }
    }

    #[test]
    fn the_parts_hold_each_id_once() {
        for bits in [0, 1, 5, 8] {
            for first in 0..=u8::MAX {
                let id = [first; 32];
                let holders = (0..1 << bits).filter(|number| Part { bits, number: *number }.holds(&id));
                assert_eq!(holders.collect::<Vec<_>>(), [u64::from(first).unbounded_shr(8 - bits)]);
            }
        }
    }
}
