//! The packer: fills one pack while the one before is written and indexed.

use std::collections::HashSet;

use uuid::Uuid;

use crate::blob::BlobId;
use crate::blocking::Job;
use crate::index::{Recording, Session};
use crate::pack::{self, FullPack, PackBuilder, SealedBlob};
use crate::store::Store;
use crate::writer::given_up;
use crate::{Error, ErrorKind, Result};

/// Ids that are remembered at least; above two packs of blobs, so that nothing is forgotten before it is
/// indexed.
const RECENT_MIN: usize = 4 * pack::BLOBS_MAX;

/// Takes sealed blobs in order and makes them durable.
pub(super) struct Packer {
    store: Store,
    domain: Uuid,
    session: Session,
    open: PackBuilder,
    in_flight: Option<Job<Result<()>>>,
    recent: Recent,
    /// Stored bytes of all blobs taken.
    pub(super) stored_bytes: u64,
}

impl Packer {
    pub(super) fn new(store: Store, domain: Uuid, session: Session) -> Self {
        let open = store.new_pack();
        Self { store, domain, session, open, in_flight: None, recent: Recent::default(), stored_bytes: 0 }
    }

    /// Returns whether this packer was promised the blob before; if not, the caller now promises it.
    pub(super) fn promise(&mut self, id: BlobId) -> bool {
        self.recent.insert(id)
    }

    /// Takes a blob. Returns at once unless it needs a new pack while the last is still being written.
    pub(super) async fn push(&mut self, blob: SealedBlob) -> Result<()> {
        if !self.open.fits(blob.stored.len()) {
            self.start_writing().await?;
        }
        self.stored_bytes += blob.stored.len() as u64;
        self.open.push(blob);
        Ok(())
    }

    /// Returns when all blobs taken are durable and indexed.
    pub(super) async fn settle(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.start_writing().await?;
        }
        self.wait().await
    }

    async fn start_writing(&mut self) -> Result<()> {
        self.wait().await?;
        let next = self.store.new_pack();
        let full = std::mem::replace(&mut self.open, next).finish();
        self.in_flight = Some(Job::spawn(write_pack(self.store.clone(), self.domain, self.session, full)));
        Ok(())
    }

    async fn wait(&mut self) -> Result<()> {
        match self.in_flight.take() {
            Some(mut job) => job.wait().await,
            None => Ok(()),
        }
    }
}

/// Makes a pack durable, then its index rows.
async fn write_pack(store: Store, domain: Uuid, session: Session, pack: FullPack) -> Result<()> {
    if let Err(error) = store.backend().put(&pack::name(pack.id), pack.parts).await {
        if error.kind() == ErrorKind::StorageFull {
            store.give_back_room();
        }
        return Err(error);
    }
    let blobs: Vec<_> = pack.entries.iter().map(|entry| (entry.domain, entry.id, entry.location)).collect();
    let recorded = store.index().add_pack(Some(session), pack.id, pack.size, &blobs).await;
    match recorded.map_err(|e| Error::index("record a pack", e))? {
        Recording::Recorded => {}
        Recording::GivenUp => return Err(given_up()),
        Recording::OverQuota(sentence) => return Err(take_back(&store, pack.id, sentence).await),
    }
    // Another writer may have stored one of the blobs meanwhile. That is no harm unless the domain's secret
    // was rotated between the two: then the index leads to a blob that our keys do not open.
    let ids: Vec<_> = pack.entries.iter().map(|entry| entry.id).collect();
    let found = store.find(domain, &ids).await?;
    for (entry, found) in pack.entries.iter().zip(found) {
        let Some(found) = found else {
            let message = format!("the chunk index forgot what it was told about pack {}", pack.id);
            return Err(Error::new(ErrorKind::Io, message));
        };
        if found.location.generation != entry.location.generation {
            return Err(Error::new(ErrorKind::Conflict, "the secret of the dedup domain was rotated during a write")
                .with_hint("write the content again"));
        }
    }
    Ok(())
}

/// Removes a pack that a quota refused, and returns that refusal. Collection would find the pack as well, but much later:
/// whoever is refused again and again must not fill the store with what nobody counts.
async fn take_back(store: &Store, pack: Uuid, sentence: String) -> Error {
    let taken = async {
        store.backend().delete(&pack::name(pack)).await?;
        store.mark_gone(pack).await
    };
    if let Err(error) = taken.await {
        tracing::warn!(%pack, %error, "a pack that a quota refused stays until garbage is collected");
    }
    Error::new(ErrorKind::Quota, sentence)
}

/// Remembers the last [`RECENT_MIN`] ids and up to twice as many, in bounded memory.
#[derive(Default)]
struct Recent {
    young: HashSet<BlobId>,
    old: HashSet<BlobId>,
}

impl Recent {
    /// Returns whether the id was remembered; it is from now on.
    fn insert(&mut self, id: BlobId) -> bool {
        let known = self.old.contains(&id) || !self.young.insert(id);
        if self.young.len() >= RECENT_MIN {
            self.old = std::mem::take(&mut self.young);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_ids_are_remembered_in_bounded_memory() {
        let mut recent = Recent::default();
        let id = |number: usize| *blake3::hash(&number.to_le_bytes()).as_bytes();
        for number in 0..5 * RECENT_MIN {
            assert!(!recent.insert(id(number)));
            assert!(number < 100 || recent.insert(id(number - 100)));
            assert!(recent.young.len() + recent.old.len() <= 2 * RECENT_MIN);
        }
    }
}
