//! The mark: a walk from heads over roots and segments to every blob that is referred to, without any key.
//!
//! What it reads decides what is removed, so each manifest is checked against the outer hash in the footer of its pack.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::FOOTER;
use super::live::Live;
use super::pace::Pacer;
use crate::blob::{BlobId, Kind, ZERO_ID};
use crate::cache::Cache;
use crate::fetch::{misplaced, not_indexed};
use crate::head::HeadFields;
use crate::index::Location;
use crate::node::{Entry, Refs};
use crate::pack::{self, PackEntry};
use crate::store::Store;
use crate::{Error, Result};

/// Segments that are followed at once. Each holds 66 KiB and 1024 places, and keeps a connection to the catalog and a
/// processor busy: with two at once, who writes beside a mark waits longer.
const SEGMENTS: usize = 1;
/// Footers that are held: manifests of one time lie in few packs.
const FOOTERS_HELD: usize = 32;

struct Walker<'a> {
    store: &'a Store,
    pacer: &'a Pacer,
    footers: Cache<Uuid, Arc<Vec<PackEntry>>>,
}

struct Marker<'a> {
    walker: Walker<'a>,
    live: Live,
    /// Roots and segments that were followed: contents share them.
    followed: HashSet<(Uuid, BlobId)>,
}

/// Returns everything that `heads` lead to.
///
/// # Errors
/// `Corrupt` names the content and the first blob that cannot be followed.
pub(super) async fn mark(store: &Store, heads: &[&[u8]], pacer: &Pacer) -> Result<Live> {
    let walker = Walker { store, pacer, footers: Cache::new(FOOTERS_HELD) };
    let mut marker = Marker { walker, live: Live::default(), followed: HashSet::new() };
    for bytes in heads {
        let head = HeadFields::parse(bytes)?;
        marker.content(&head).await.map_err(|cause| {
            Error::new(cause.kind(), format!("content {} cannot be followed", head.content)).with_source(cause)
        })?;
    }
    marker.live.finish();
    Ok(marker.live)
}

impl Marker<'_> {
    async fn content(&mut self, head: &HeadFields) -> Result<()> {
        if head.root == ZERO_ID || !self.followed.insert((head.domain, head.root)) {
            return Ok(());
        }
        let (place, segments) = self.walker.refs(head.domain, Kind::Root, head.root).await?;
        self.live.add(&place);
        let new: Vec<BlobId> =
            segments.into_iter().filter(|id| *id != ZERO_ID && self.followed.insert((head.domain, *id))).collect();
        let walker = &self.walker;
        let segments = stream::iter(new).map(|id| walker.segment(head.domain, id)).buffered(SEGMENTS);
        let mut segments = std::pin::pin!(segments);
        while let Some(places) = segments.try_next().await? {
            places.iter().for_each(|place| self.live.add(place));
        }
        Ok(())
    }
}

impl Walker<'_> {
    /// Returns where a segment and all its chunks lie.
    async fn segment(&self, domain: Uuid, id: BlobId) -> Result<Vec<Location>> {
        let (place, chunks) = self.refs(domain, Kind::Segment, id).await?;
        let chunks: Vec<BlobId> = chunks.into_iter().filter(|id| *id != ZERO_ID).collect();
        let mut places = vec![place];
        for (id, found) in chunks.iter().zip(self.store.find(domain, &chunks).await?) {
            places.push(found.ok_or_else(|| not_indexed(Kind::Chunk, id))?.location);
        }
        Ok(places)
    }

    /// Returns where a root or segment lies and which ids it lists.
    async fn refs(&self, domain: Uuid, kind: Kind, id: BlobId) -> Result<(Location, Vec<BlobId>)> {
        let location = self.store.find(domain, &[id]).await?[0].ok_or_else(|| not_indexed(kind, &id))?.location;
        let entry = Entry { id, ..Entry::zero() };
        self.pacer.take(1, location.stored.into()).await;
        let (place, stored) = self.store.fetch_stored_node(kind, &entry, location).await?;
        let wrong = |message: &str| misplaced(kind, &place, Error::corrupt(message));
        let (backend, store) = (self.store.backend(), self.store.descriptor().store);
        let load = async {
            self.pacer.take(FOOTER.0, FOOTER.1).await;
            Ok(Arc::new(pack::read_footer(backend, location.pack, store).await?.1))
        };
        let entries = self.footers.get(location.pack, load).await.map_err(|e| misplaced(kind, &place, e))?;
        let found = entries.binary_search_by_key(&location.offset, |entry| entry.location.offset);
        let entry = found.ok().map(|at| entries[at]).ok_or_else(|| wrong("the footer does not list it there"))?;
        if (entry.kind, entry.domain, entry.id) != (kind, domain, id) || blake3::hash(&stored) != entry.outer {
            return Err(wrong("its bytes are not those that the footer lists"));
        }
        let refs = Refs::parse(kind, &stored).map_err(|e| misplaced(kind, &place, e))?;
        Ok((location, refs.ids))
    }
}
