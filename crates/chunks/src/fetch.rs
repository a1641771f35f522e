//! Fetching blobs: from the index to a range of a pack to opened bytes, each failure naming the place.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::try_join_all;
use keys::cipher;
use model::packs::PackState;
use uuid::Uuid;

use crate::blob::{Binding, BlobId, CHUNK_OVERHEAD, Kind, open_chunk};
use crate::head::HeadFields;
use crate::index::{Found, Location};
use crate::node::{Entry, NODE_LENGTH_MAX, Node, Refs};
use crate::store::Store;
use crate::{Error, ErrorKind, Result, pack};

/// Blobs that lie side by side are read together up to this many bytes.
const RANGE_LENGTH_MAX: usize = 4 * 1024 * 1024;

/// A chunk that is wanted: where it lies and what opens it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) entry: Entry,
    pub(crate) location: Location,
}

impl Store {
    /// Returns where `ids` lie, for a reader of `content`; the order is kept.
    pub(crate) async fn locate(&self, domain: Uuid, content: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Location>>> {
        let found = self.find(domain, ids).await?;
        for pack in condemned(&found) {
            tracing::debug!(%pack, %content, "a content that is read leads to a condemned pack");
            self.index().tripped(pack, content).await.map_err(|e| Error::index("revive a pack", e))?;
        }
        Ok(found.into_iter().map(|found| found.map(|found| found.location)).collect())
    }

    /// Returns where `ids` lie, for a writer that is going to refer to them: what is condemned is revived, and what
    /// cannot be revived any more or lies in a damaged pack counts as unknown.
    pub(crate) async fn claim(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Location>>> {
        let mut found = self.find(domain, ids).await?;
        // Written again they are whole again.
        found.iter_mut().filter(|place| place.is_some_and(|place| place.damaged)).for_each(|place| *place = None);
        for pack in condemned(&found) {
            if !self.index().revive(pack).await.map_err(|e| Error::index("revive a pack", e))? {
                for lost in found.iter_mut().filter(|place| place.is_some_and(|place| place.location.pack == pack)) {
                    *lost = None;
                }
            }
        }
        Ok(found.into_iter().map(|found| found.map(|found| found.location)).collect())
    }

    /// Returns what the index knows of `ids`, in the same order.
    pub(crate) async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Found>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.index().find(domain, ids).await.map_err(|e| Error::index("find chunks", e))?;
        if found.len() != ids.len() {
            let message = format!("the chunk index gave {} answers to {} questions", found.len(), ids.len());
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(found)
    }

    /// Fetches and opens a segment or root of the content that `head` opens; also returns its place.
    pub(crate) async fn fetch_node(&self, head: &HeadFields, kind: Kind, entry: &Entry) -> Result<(Node, Place)> {
        let found = self.locate(head.domain, head.content, &[entry.id]).await?;
        let location = found[0].ok_or_else(|| not_indexed(kind, &entry.id))?;
        let (place, stored) = self.fetch_stored_node(kind, entry, location).await?;
        let (opened, task_place) = (binding(head.domain, kind, &place), place.clone());
        let opening = move || Node::open(&stored, &opened, &task_place.entry.key);
        let node = self.cpu().run(opening).await.map_err(|e| misplaced(kind, &place, e))?;
        Ok((node, place))
    }

    /// Fetches what a segment or root says without its key. Nothing proves that it is what was written; also
    /// returns where it lies.
    pub(crate) async fn fetch_refs(&self, domain: Uuid, kind: Kind, id: BlobId) -> Result<(Refs, Location)> {
        let location = self.find(domain, &[id]).await?[0].ok_or_else(|| not_indexed(kind, &id))?.location;
        let (place, stored) = self.fetch_stored_node(kind, &Entry { id, ..Entry::zero() }, location).await?;
        let refs = Refs::parse(kind, &stored).map_err(|e| misplaced(kind, &place, e))?;
        Ok((refs, place.location))
    }

    /// Reads a stored segment or root, of a length that it may have.
    pub(crate) async fn fetch_stored_node(
        &self,
        kind: Kind,
        entry: &Entry,
        location: Location,
    ) -> Result<(Place, Bytes)> {
        let place = Place { entry: entry.clone(), location };
        if location.plain as usize > NODE_LENGTH_MAX
            || u64::from(location.stored) != u64::from(location.plain) + cipher::OVERHEAD as u64
        {
            return Err(misplaced(kind, &place, Error::corrupt("its length in the index is impossible")));
        }
        let stored = self.fetch_stored(kind, std::slice::from_ref(&place)).await?.remove(0);
        Ok((place, stored))
    }

    /// Fetches and opens chunks of at most `chunk_size` plain bytes each, in order.
    pub(crate) async fn fetch_chunks(&self, domain: Uuid, places: Vec<Place>) -> Result<Vec<Bytes>> {
        let stored = self.fetch_stored(Kind::Chunk, &places).await?;
        let opening = places.into_iter().zip(stored).map(|(place, stored)| async move {
            let binding = binding(domain, Kind::Chunk, &place);
            let open =
                move || open_chunk(&stored, &binding, &place.entry.key).map_err(|e| misplaced(Kind::Chunk, &place, e));
            self.cpu().run(open).await.map(Bytes::from)
        });
        try_join_all(opening).await
    }

    /// Reads the stored bytes of blobs, in order; neighbours in a pack are read together.
    pub(crate) async fn fetch_stored(&self, kind: Kind, places: &[Place]) -> Result<Vec<Bytes>> {
        for place in places.iter().filter(|_| kind == Kind::Chunk) {
            let Location { plain, stored, .. } = place.location;
            if plain > self.chunk_size() || stored as usize > plain as usize + CHUNK_OVERHEAD {
                return Err(misplaced(kind, place, Error::corrupt("its length in the index is impossible")));
            }
        }
        let runs = places.chunk_by(|a, b| follows(&a.location, &b.location)).flat_map(split_run);
        let reading = runs.map(async |run| {
            let (first, length) = (&run[0], run.iter().map(|place| place.location.stored as usize).sum());
            let name = pack::name(first.location.pack);
            let range = self.backend().get_range(&name, first.location.offset.into(), length).await;
            let mut range = range.map_err(|e| misplaced(kind, first, e))?;
            if range.len() != length {
                return Err(misplaced(kind, first, Error::corrupt("the backend returned another number of bytes")));
            }
            Ok(run.iter().map(|place| range.split_to(place.location.stored as usize)).collect::<Vec<_>>())
        });
        Ok(try_join_all(reading).await?.concat())
    }
}

/// Returns the packs of `found` that are not sealed.
fn condemned(found: &[Option<Found>]) -> BTreeSet<Uuid> {
    let unsealed = found.iter().flatten().filter(|found| found.state != PackState::Sealed);
    unsealed.map(|found| found.location.pack).collect()
}

pub(crate) fn binding(domain: Uuid, kind: Kind, place: &Place) -> Binding {
    let Location { generation, plain, .. } = place.location;
    Binding { kind, domain, generation, id: place.entry.id, plain }
}

fn follows(a: &Location, b: &Location) -> bool {
    a.pack == b.pack && a.offset.checked_add(a.stored) == Some(b.offset)
}

/// Splits neighbours into runs of at most [`RANGE_LENGTH_MAX`] bytes, or one blob.
fn split_run(mut run: &[Place]) -> Vec<&[Place]> {
    let mut runs = Vec::new();
    while !run.is_empty() {
        let mut length = 0;
        let fitting = run.iter().take_while(|place| {
            length += place.location.stored as usize;
            length <= RANGE_LENGTH_MAX
        });
        let (first, rest) = run.split_at(fitting.count().max(1));
        runs.push(first);
        run = rest;
    }
    runs
}

/// Says at which place a failure happened. What is missing there makes the content corrupt.
pub(crate) fn misplaced(kind: Kind, place: &Place, cause: Error) -> Error {
    let Place { entry, location } = place;
    let error_kind = if cause.kind() == ErrorKind::NotFound { ErrorKind::Corrupt } else { cause.kind() };
    let (id, offset, pack) = (hex::encode(entry.id), location.offset, location.pack);
    Error::new(error_kind, format!("cannot read {kind} {id} at offset {offset} of pack {pack}")).with_source(cause)
}

pub(crate) fn not_indexed(kind: Kind, id: &BlobId) -> Error {
    Error::corrupt(format!("{kind} {} is not in the index", hex::encode(id)))
        .with_hint("rebuild the index from the packs; if that does not help, a pack was lost")
}
