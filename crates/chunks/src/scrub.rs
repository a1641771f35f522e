//! Scrubbing: reading packs back where they lie, past any cache, and checking every stored byte without a key.

use bytes::Bytes;
use uuid::Uuid;

use crate::backend::Backend;
use crate::pack::{self, PackEntry};
use crate::store::Store;
use crate::{Error, ErrorKind, Result};

/// Changed blobs that are told by their place; others are counted.
const TOLD: usize = 5;

/// What a scrub of all packs read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Packs read.
    pub packs: u64,
    /// Blobs whose stored bytes were hashed.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// What a scrub found of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackScrub {
    /// The pack.
    pub pack: Uuid,
    /// Length of its object in bytes, as it was recorded.
    pub size: u64,
    /// Blobs whose stored bytes were hashed.
    pub blobs: u64,
    /// What is wrong with it, as a sentence.
    pub damage: Option<String>,
}

impl Store {
    /// Scrubs the pack that was written or scrubbed longest ago, if that was at least `seconds` ago, and records what was
    /// found; returns nothing when there is none.
    ///
    /// # Errors
    /// When the backend or the index fails, which tells nothing of the pack.
    pub async fn scrub_next(&self, seconds: u64) -> Result<Option<PackScrub>> {
        let next = self.index().next_to_scrub(seconds).await;
        let Some((pack, size)) = next.map_err(|e| Error::index("find a pack to scrub", e))? else { return Ok(None) };
        self.scrub_and_record(pack, size).await.map(Some)
    }

    /// Scrubs one pack of `size` bytes and records what was found.
    pub(crate) async fn scrub_and_record(&self, pack: Uuid, size: u64) -> Result<PackScrub> {
        let scrub = self.scrub_pack(pack, size).await?;
        let recorded = self.index().scrubbed(pack, scrub.damage.as_deref()).await;
        recorded.map_err(|e| Error::index("record a scrub", e))?;
        Ok(scrub)
    }

    /// Scrubs every pack that lies in the backend and records nothing.
    ///
    /// # Errors
    /// `Corrupt` names the first pack, blob and offset that is not what was written.
    pub async fn scrub(&self) -> Result<Scrubbed> {
        let mut scrubbed = Scrubbed::default();
        for name in self.backend().list("packs/").await? {
            let id = pack::id_of(&name).ok_or_else(|| Error::corrupt(format!("`{name}` is no name for a pack")))?;
            let size = self.origin().size(&name).await?;
            let scrub = self.scrub_pack(id, size).await?;
            if let Some(damage) = scrub.damage {
                return Err(Error::corrupt(format!("pack {id}: {damage}")));
            }
            scrubbed.packs += 1;
            scrubbed.blobs += scrub.blobs;
            scrubbed.bytes += size;
        }
        Ok(scrubbed)
    }

    /// Reads a pack of `size` bytes and checks its footer and the outer hash of each blob.
    async fn scrub_pack(&self, pack: Uuid, size: u64) -> Result<PackScrub> {
        let mut scrub = PackScrub { pack, size, blobs: 0, damage: None };
        match self.changed_blobs(pack, size).await {
            Ok((blobs, changed)) => {
                scrub.blobs = blobs as u64;
                scrub.damage = sentence(blobs, &changed);
            }
            // A pack of a newer release is none: whoever understands it reads it back.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                scrub.damage = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(scrub)
    }

    /// Returns how many blobs a pack has, and the offsets of those that are not what was written.
    async fn changed_blobs(&self, pack: Uuid, size: u64) -> Result<(usize, Vec<u32>)> {
        let backend = self.origin();
        let (found, entries) = pack::read_footer(backend, pack, self.descriptor().store).await?;
        if found != size {
            return Err(Error::corrupt(format!("it has {found} bytes and had {size} when it was written")));
        }
        let stored = backend.get(&pack::name(pack)).await?;
        if stored.len() as u64 != size {
            return Err(Error::corrupt(format!("{} of its {size} bytes could be read", stored.len())));
        }
        let count = entries.len();
        Ok((count, self.cpu().run(move || changed(&stored, &entries)).await))
    }

    fn origin(&self) -> &dyn Backend {
        self.backend().origin().unwrap_or_else(|| self.backend())
    }
}

/// Returns the offsets of the blobs whose bytes are not those that were hashed. The footer has proved their ranges.
fn changed(pack: &Bytes, entries: &[PackEntry]) -> Vec<u32> {
    let is_changed = |entry: &&PackEntry| {
        let (from, length) = (entry.location.offset as usize, entry.location.stored as usize);
        pack.get(from..from + length).is_none_or(|stored| blake3::hash(stored) != entry.outer)
    };
    entries.iter().filter(is_changed).map(|entry| entry.location.offset).collect()
}

fn sentence(blobs: usize, changed: &[u32]) -> Option<String> {
    if changed.is_empty() {
        return None;
    }
    let places: Vec<String> = changed.iter().take(TOLD).map(u32::to_string).collect();
    let more = if changed.len() > TOLD { ", ..." } else { "" };
    let count = changed.len();
    Some(format!("{count} of its {blobs} blobs were changed, at offsets {}{more}", places.join(", ")))
}
