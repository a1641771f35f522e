//! Tracing: whether everything that a head leads to is where the index says, by manifests alone and without a key.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::blob::{BlobId, Kind, ZERO_ID};
use crate::fetch::not_indexed;
use crate::head::HeadFields;
use crate::index::Location;
use crate::store::Store;
use crate::{Error, ErrorKind, Result, pack};

/// Segments that are followed at once.
const SEGMENTS: usize = 8;

/// The packs that are recorded, and whether they are there, at one moment; 32 bytes for each and what a table costs.
#[derive(Debug)]
pub struct PackList(HashMap<Uuid, ListedPack>);

#[derive(Debug, Clone, Copy)]
struct ListedPack {
    size: u64,
    is_there: bool,
    damaged: bool,
}

impl PackList {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Store {
    /// Lists the packs that are recorded and looks which are there, for [`Store::trace`].
    pub async fn pack_list(&self) -> Result<PackList> {
        // Recorded first: what is written meanwhile is no part of either, and what is removed has nobody who needs it.
        let recorded = self.index().snapshot().await.map_err(|e| Error::index("read the records", e))?.packs;
        let names = self.backend().list("packs/").await?;
        let there: HashSet<Uuid> = names.iter().filter_map(|name| pack::id_of(name)).collect();
        let packs = recorded.iter().map(|row| {
            let listed = ListedPack { size: row.size, is_there: there.contains(&row.id), damaged: row.damaged };
            (row.id, listed)
        });
        Ok(PackList(packs.collect()))
    }

    /// Follows a head down to the place of every chunk, without reading data. Returns whether all of it lies in packs that
    /// were never found to be damaged; what does not may still be whole, which [`Store::verify`] tells.
    ///
    /// `packs` may be older than the content: packs that it does not know or that were not there are asked for.
    ///
    /// # Errors
    /// `Corrupt` names the first blob that the index does not know, that is not there, or that is no manifest.
    pub async fn trace(&self, head: &[u8], packs: &PackList) -> Result<bool> {
        let head = HeadFields::parse(head)?;
        if head.root == ZERO_ID {
            return Ok(true);
        }
        let (root, place) = self.fetch_refs(head.domain, Kind::Root, head.root).await?;
        let mut sound = self.is_sound(Kind::Root, &head.root, &place, packs).await?;
        let new: HashSet<BlobId> = root.ids.into_iter().filter(|id| *id != ZERO_ID).collect();
        let segments = stream::iter(new).map(|id| self.trace_segment(head.domain, id, packs)).buffered(SEGMENTS);
        let mut segments = std::pin::pin!(segments);
        while let Some(segment) = segments.try_next().await? {
            sound &= segment;
        }
        Ok(sound)
    }

    /// Scrubs every pack that a head leads to, as far as it can be followed, and records what was found.
    ///
    /// # Errors
    /// When the backend or the index fails, which tells nothing of the packs.
    pub async fn scrub_content(&self, head: &[u8], packs: &PackList) -> Result<()> {
        for pack in self.packs_of(&HeadFields::parse(head)?).await? {
            if let Some(listed) = packs.0.get(&pack) {
                self.scrub_and_record(pack, listed.size).await?;
            }
        }
        Ok(())
    }

    /// Returns the packs that a head leads to, without those below a manifest that cannot be read.
    async fn packs_of(&self, head: &HeadFields) -> Result<BTreeSet<Uuid>> {
        let mut packs = BTreeSet::new();
        let mut nodes = vec![(Kind::Root, head.root)];
        while let Some((kind, id)) = nodes.pop() {
            let Some(found) = self.find(head.domain, &[id]).await?[0] else { continue };
            packs.insert(found.location.pack);
            let mut ids = match self.fetch_refs(head.domain, kind, id).await {
                Ok((refs, _)) => refs.ids,
                Err(error) if error.kind() == ErrorKind::Corrupt => continue,
                Err(error) => return Err(error),
            };
            ids.retain(|id| *id != ZERO_ID);
            match kind {
                Kind::Root => nodes.extend(ids.into_iter().map(|id| (Kind::Segment, id))),
                _ => {
                    packs.extend(self.find(head.domain, &ids).await?.iter().flatten().map(|found| found.location.pack));
                }
            }
        }
        Ok(packs)
    }

    async fn trace_segment(&self, domain: Uuid, id: BlobId, packs: &PackList) -> Result<bool> {
        let (refs, place) = self.fetch_refs(domain, Kind::Segment, id).await?;
        let mut sound = self.is_sound(Kind::Segment, &id, &place, packs).await?;
        let chunks: Vec<BlobId> = refs.ids.into_iter().filter(|id| *id != ZERO_ID).collect();
        for (id, found) in chunks.iter().zip(self.find(domain, &chunks).await?) {
            let place = found.ok_or_else(|| not_indexed(Kind::Chunk, id))?.location;
            sound &= self.is_sound(Kind::Chunk, id, &place, packs).await?;
        }
        Ok(sound)
    }

    async fn is_sound(&self, kind: Kind, id: &BlobId, place: &Location, packs: &PackList) -> Result<bool> {
        if let Some(listed) = packs.0.get(&place.pack).filter(|listed| listed.is_there) {
            return Ok(!listed.damaged);
        }
        // Newer than the list, or lost.
        let size = self.backend().size(&pack::name(place.pack)).await;
        size.map(|_| true).map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => {
                let (id, pack) = (hex::encode(id), place.pack);
                Error::corrupt(format!("{kind} {id} lies in pack {pack}, which is missing")).with_source(cause)
            }
            _ => cause,
        })
    }
}
