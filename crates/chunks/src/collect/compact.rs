//! Compaction: what is live in packs that are mostly dead is copied together, sealed as it is; the rest becomes garbage.
//!
//! From packs that a scrub found damaged, all that is whole is copied, however much that is.

use bytes::Bytes;
use model::packs::PackState;
use uuid::Uuid;

use super::live::Live;
use super::pace::Pacer;
use super::report::Collected;
use super::{CollectOptions, FOOTER};
use crate::backend::Backend;
use crate::index::{Moved, PackRow, Session, Snapshot};
use crate::pack::{self, PackBuilder, PackEntry, SealedBlob};
use crate::store::Store;
use crate::writer::{Writing, given_up};
use crate::{Error, ErrorKind, Result};

/// A pack being filled from others.
struct Copying<'a> {
    store: &'a Store,
    session: Session,
    pacer: &'a Pacer,
    open: PackBuilder,
    /// Where the blobs of the open pack come from, in its order.
    from: Vec<Uuid>,
}

impl Store {
    /// Copies the live blobs of mostly dead packs, the deadest first. Those packs are garbage for the next run.
    pub(super) async fn compact(
        &self,
        snapshot: &Snapshot,
        live: &Live,
        (options, pacer): (&CollectOptions, &Pacer),
        collected: &mut Collected,
    ) -> Result<()> {
        let mut candidates: Vec<(u64, &PackRow)> = snapshot
            .packs
            .iter()
            .map(|row| (live.bytes(row.id), row))
            .filter(|(live, row)| is_movable(*live, row, snapshot.oldest_session))
            .filter(|(live, row)| row.damaged || is_sparse(*live, row, options.compact_below))
            .collect();
        // Two packs at least: one alone would be copied for little, again and again.
        if candidates.len() < 2 && !candidates.iter().any(|(_, row)| row.damaged) {
            return Ok(());
        }
        candidates.sort_by_key(|(live, row)| live.saturating_mul(1000) / row.size.max(1));
        let writing = Writing::begin(self, Uuid::now_v7()).await?;
        let mut copying =
            Copying { store: self, session: writing.session, pacer, open: self.new_pack(), from: Vec::new() };
        for (bytes, row) in candidates {
            if collected.compacted.bytes + bytes > options.compact_bytes {
                break;
            }
            match copying.pack(row, live).await {
                Ok(0) => {}
                Ok(copied) => collected.compacted.add(copied),
                // Damage stays where it is, for `verify` and `scrub` to tell.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(pack = %row.id, %error, "a pack is damaged and was not compacted");
                }
                Err(error) => return Err(error),
            }
        }
        copying.close().await
    }
}

/// Returns whether a pack is worth copying.
fn is_sparse(live: u64, row: &PackRow, below: u8) -> bool {
    live.saturating_mul(100) < row.size.saturating_mul(below.into())
}

/// Returns whether a pack has something to copy, and nobody can still be referring to it without being seen.
fn is_movable(live: u64, row: &PackRow, oldest_session: u64) -> bool {
    row.standing.state == PackState::Sealed && row.writer < oldest_session && live > 0
}

async fn read_blob(backend: &dyn Backend, entry: &PackEntry) -> Result<Bytes> {
    let (name, offset) = (pack::name(entry.location.pack), u64::from(entry.location.offset));
    let stored = backend.get_range(&name, offset, entry.location.stored as usize).await?;
    if blake3::hash(&stored) != entry.outer {
        return Err(Error::corrupt(format!("the blob at offset {offset} was changed")));
    }
    Ok(stored)
}

impl Copying<'_> {
    /// Copies what is live in a pack, and returns how many bytes; what is damaged stays, where that is known.
    async fn pack(&mut self, row: &PackRow, live: &Live) -> Result<u64> {
        let mut copied = 0;
        let backend = self.store.backend();
        self.pacer.take(FOOTER.0, FOOTER.1).await;
        let (_, entries) = pack::read_footer(backend, row.id, self.store.descriptor().store).await?;
        for entry in entries.iter().filter(|entry| live.contains(row.id, entry.location.offset)) {
            self.pacer.take(1, entry.location.stored.into()).await;
            match read_blob(backend, entry).await {
                Ok(stored) => self.blob(entry, stored).await?,
                Err(error) if row.damaged && error.kind() == ErrorKind::Corrupt => continue,
                Err(error) => return Err(error),
            }
            copied += u64::from(entry.location.stored);
        }
        Ok(copied)
    }

    async fn blob(&mut self, entry: &PackEntry, stored: Bytes) -> Result<()> {
        if !self.open.fits(stored.len()) {
            self.close().await?;
        }
        self.from.push(entry.location.pack);
        self.open.push(SealedBlob {
            kind: entry.kind,
            domain: entry.domain,
            id: entry.id,
            generation: entry.location.generation,
            plain: entry.location.plain,
            outer: entry.outer,
            stored,
        });
        Ok(())
    }

    /// Makes the open pack durable and lets the index lead to it.
    async fn close(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.open, self.store.new_pack()).finish();
        let from = std::mem::take(&mut self.from);
        self.pacer.take(1, full.size).await;
        self.store.backend().put(&pack::name(full.id), full.parts).await?;
        let moved: Vec<Moved> = full
            .entries
            .iter()
            .zip(from)
            .map(|(entry, from)| Moved { domain: entry.domain, id: entry.id, from, to: entry.location })
            .collect();
        let done = self.store.index().relocate(self.session, full.id, full.size, &moved).await;
        if done.map_err(|e| Error::index("record a compacted pack", e))? { Ok(()) } else { Err(given_up()) }
    }
}
