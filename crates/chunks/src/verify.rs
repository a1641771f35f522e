//! Verification: every byte of one content, down to the ids.

use std::sync::Arc;

use uuid::Uuid;

use crate::blob::{BlobId, Kind, open_chunk};
use crate::cache::Cache;
use crate::domain::Domain;
use crate::fetch::{Place, binding, misplaced};
use crate::head::HeadFields;
use crate::node::{Entry, NODE_LENGTH_MAX};
use crate::pack::{self, PackEntry};
use crate::store::Store;
use crate::{Error, Result};

/// Chunks that are read and opened together.
const WINDOW_CHUNKS: usize = 8;
/// Footers that are held; chunks come in the order of writing, so few packs alternate.
const FOOTERS_HELD: usize = 8;

/// What a verification of a content read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of content.
    pub length: u64,
    /// Chunks that were read, opened and hashed.
    pub chunks: u64,
    /// Chunks that are zero and not stored.
    pub zero: u64,
    /// Stored bytes that were read, of chunks and manifests.
    pub stored_bytes: u64,
}

struct Verifier<'a> {
    store: &'a Store,
    head: HeadFields,
    domain: Arc<Domain>,
    footers: Cache<Uuid, Arc<Vec<PackEntry>>>,
    verified: Verified,
}

impl Store {
    /// Reads and opens everything that a head leads to: the seal and the id of every blob, and that the
    /// footer of its pack says the same as the index.
    ///
    /// # Errors
    /// `Corrupt` names the first blob, pack and offset that is not what was written.
    pub async fn verify(&self, head: &[u8]) -> Result<Verified> {
        let reader = self.reader(head).await?;
        let domain = self.domain(reader.domain()).await?;
        let verified = Verified { length: reader.len(), ..Verified::default() };
        let mut verifier =
            Verifier { store: self, head: reader.head(), domain, footers: Cache::new(FOOTERS_HELD), verified };
        verifier.node(Kind::Root, reader.root()).await?;
        for index in 0..reader.segment_count() {
            verifier.node(Kind::Segment, &reader.segment_entry(index)).await?;
            let Some(places) = reader.segment_places(index).await? else {
                verifier.verified.zero += reader.segment_chunks(index);
                continue;
            };
            let stored: Vec<Place> = places.iter().flatten().cloned().collect();
            verifier.verified.zero += (places.len() - stored.len()) as u64;
            for window in stored.chunks(WINDOW_CHUNKS) {
                verifier.chunks(window).await?;
            }
        }
        Ok(verifier.verified)
    }
}

impl Verifier<'_> {
    async fn node(&mut self, kind: Kind, entry: &Entry) -> Result<()> {
        if entry.is_zero() {
            return Ok(());
        }
        let (node, place) = self.store.fetch_node(&self.head, kind, entry).await?;
        debug_assert!(place.location.plain as usize <= NODE_LENGTH_MAX);
        let stored = self.store.fetch_stored(kind, std::slice::from_ref(&place)).await?.remove(0);
        let footer = self.footer_entry(kind, &place).await?;
        let id = self.domain.blob_id(kind, &node.plain());
        if id != entry.id || blake3::hash(&stored) != footer.outer {
            return Err(misplaced(kind, &place, changed()));
        }
        self.verified.stored_bytes += stored.len() as u64;
        Ok(())
    }

    async fn chunks(&mut self, places: &[Place]) -> Result<()> {
        let stored = self.store.fetch_stored(Kind::Chunk, places).await?;
        let mut checks = Vec::with_capacity(places.len());
        for (place, stored) in places.iter().cloned().zip(stored) {
            let footer = self.footer_entry(Kind::Chunk, &place).await?;
            self.verified.chunks += 1;
            self.verified.stored_bytes += stored.len() as u64;
            let domain = Arc::clone(&self.domain);
            let check = move || check_chunk(&domain, &place, &stored, &footer.outer);
            checks.push(self.store.cpu().run(check));
        }
        futures::future::try_join_all(checks).await.map(|_| ())
    }

    /// Returns what the footer of its pack says of a blob, which must be what the index says.
    async fn footer_entry(&self, kind: Kind, place: &Place) -> Result<PackEntry> {
        let (backend, pack, store) = (self.store.backend(), place.location.pack, self.store.descriptor().store);
        let load = async { Ok(Arc::new(pack::read_footer(backend, pack, store).await?.1)) };
        let entries = self.footers.get(pack, load).await.map_err(|e| misplaced(kind, place, e))?;
        let found = entries.binary_search_by_key(&place.location.offset, |entry| entry.location.offset);
        let listed = found.ok().map(|at| entries[at]).filter(|entry| {
            (entry.kind, entry.domain, entry.id, entry.location)
                == (kind, self.domain.id, place.entry.id, place.location)
        });
        listed.ok_or_else(|| misplaced(kind, place, Error::corrupt("the footer of the pack does not list it there")))
    }
}

fn check_chunk(domain: &Domain, place: &Place, stored: &[u8], outer: &BlobId) -> Result<()> {
    let checked = || {
        let plain = open_chunk(stored, &binding(domain.id, Kind::Chunk, place), &place.entry.key)?;
        let same = blake3::hash(stored) == *outer && domain.blob_id(Kind::Chunk, &plain) == place.entry.id;
        if same { Ok(()) } else { Err(changed()) }
    };
    checked().map_err(|e| misplaced(Kind::Chunk, place, e))
}

fn changed() -> Error {
    Error::corrupt("its bytes were changed after they were written")
}
