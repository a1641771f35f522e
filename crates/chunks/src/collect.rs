//! Collection of garbage: finds out what nothing refers to, and removes it without ever waiting on a clock.
//!
//! ```text
//!   list objects -> snapshot of the records -> mark from all heads -> judge each pack -> delete -> compact
//! ```
//! A pass moves each pack by at most one step of `model::packs`; a run makes a second pass when the first condemned
//! anything, so garbage is gone after two runs. Whatever cannot be read ends the run before anything is removed: it might refer to anything. Runs on any node, beside writers,
//! readers and other runs; what one leaves undone the next one does. No key is needed.

mod compact;
mod live;
mod mark;
mod pace;
mod report;

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use model::packs::PackState;
use tokio::time::Instant;
use uuid::Uuid;

use self::live::Live;
use self::mark::mark;
pub use self::pace::Pace;
use self::pace::Pacer;
pub use self::report::{Collected, Fate, PackFate, Sum};
use crate::backend::Backend;
use crate::blob::BlobId;
use crate::head::{self, HeadFields};
use crate::index::{Judgement, PackRow, Snapshot, Strays, Verdict};
use crate::store::Store;
use crate::{Error, ErrorKind, Result, pack};

/// Small objects that are fetched at once.
const FETCHES: usize = 16;
/// Packs that are moved in one transaction. No session begins meanwhile, so it has to be short; and each costs a sync.
const JUDGED_AT_ONCE: usize = 16;
/// Blobs that are forgotten in one transaction, unless a single pack has more.
const FORGOTTEN_AT_ONCE: usize = 128;
/// Requests and bytes of reading a footer: its length, then its end.
const FOOTER: (u32, u64) = (2, 16 << 10);
/// Bytes of a head, about.
const HEAD: u64 = 512;

/// How a collection runs.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Only find out; nothing is changed or removed.
    pub dry_run: bool,
    /// Packs of which less than this many percent are live are copied together; 0 for none.
    pub compact_below: u8,
    /// Bytes that one run may copy for that.
    pub compact_bytes: u64,
    /// How much of the backend it takes at most.
    pub pace: Pace,
}

impl Default for CollectOptions {
    /// Copies packs that are half dead, up to 16 GiB in a run, as fast as it can.
    fn default() -> Self {
        Self { dry_run: false, compact_below: 50, compact_bytes: 16 << 30, pace: Pace::default() }
    }
}

/// What lies in the backend and what the records say of it.
struct Inventory {
    snapshot: Snapshot,
    /// Packs that no record names.
    packs: Vec<Uuid>,
    /// Heads that no record names, as they lie there.
    heads: Vec<(Uuid, Bytes)>,
}

impl Store {
    /// Runs one collection.
    ///
    /// # Errors
    /// `Conflict` when an alarm has stopped collection; `Corrupt` when something that is kept cannot be followed, with its
    /// name. In both cases nothing was removed.
    pub async fn collect(&self, options: &CollectOptions) -> Result<Collected> {
        if let Some(alarm) = self.index().alarm().await.map_err(|e| Error::index("look for alarms", e))? {
            return Err(Error::new(ErrorKind::Conflict, format!("collection is stopped: {alarm}"))
                .with_hint("verify the store, keep a copy of the catalog, and only then clear the alarm"));
        }
        let pacer = Pacer::new(options.pace);
        let mut collected = self.pass(options, &pacer).await?;
        if collected.is_unfinished() && !options.dry_run {
            collected.follow(self.pass(options, &pacer).await?);
        }
        Ok(collected)
    }

    /// Marks once and acts on it.
    async fn pass(&self, options: &CollectOptions, pacer: &Pacer) -> Result<Collected> {
        let mut collected = Collected::default();
        if !options.dry_run {
            let ended = self.index().end_silent().await.map_err(|e| Error::index("end silent sessions", e))?;
            collected.sessions_ended = ended;
        }
        let inventory = self.take_inventory(pacer).await?;
        let mut heads: Vec<&[u8]> = inventory.snapshot.heads.iter().map(Vec::as_slice).collect();
        heads.extend(inventory.heads.iter().map(|(_, bytes)| &**bytes));
        let live = mark(self, &heads, pacer).await.map_err(|cause| {
            Error::new(cause.kind(), "collection cannot tell what is garbage, and has removed nothing")
                .with_hint("verify the store; if the catalog was lost or is an old copy, rebuild it from the store")
                .with_source(cause)
        })?;
        collected.contents = heads.len() as u64;
        collected.live = live.sum();
        let doomed = self.judge_packs(&inventory.snapshot, &live, (options, pacer), &mut collected).await?;
        self.remove_strays(&inventory, (options, pacer), &mut collected).await?;
        if !options.dry_run {
            self.remove_packs(&doomed, pacer, &mut collected).await?;
            self.compact(&inventory.snapshot, &live, (options, pacer), &mut collected).await?;
        }
        Ok(collected)
    }

    /// Lists first and reads the records after: what is listed and not recorded then is not about to be recorded by
    /// anybody who had already ended.
    async fn take_inventory(&self, pacer: &Pacer) -> Result<Inventory> {
        let packs = ids(self.backend(), "packs/").await?;
        let heads = ids(self.backend(), "heads/").await?;
        let snapshot = self.index().snapshot().await.map_err(|e| Error::index("read the records", e))?;
        let recorded: HashSet<Uuid> = snapshot.packs.iter().map(|row| row.id).collect();
        let kept: HashSet<Uuid> = snapshot
            .heads
            .iter()
            .map(|bytes| HeadFields::parse(bytes).map(|head| head.content))
            .collect::<Result<_>>()?;
        let packs = packs.into_iter().filter(|id| !recorded.contains(id)).collect();
        let unnamed = heads.into_iter().filter(|id| !kept.contains(id));
        let heads = stream::iter(unnamed)
            .map(async |id| {
                pacer.take(1, HEAD).await;
                match self.backend().get(&head::name(id)).await {
                    Ok(bytes) => Ok(Some((id, bytes))),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffered(FETCHES)
            .try_filter_map(async |found| Ok(found))
            .try_collect()
            .await?;
        Ok(Inventory { snapshot, packs, heads })
    }

    /// Moves every pack by what the mark found; returns those that are to be removed now.
    async fn judge_packs(
        &self,
        snapshot: &Snapshot,
        live: &Live,
        (options, pacer): (&CollectOptions, &Pacer),
        collected: &mut Collected,
    ) -> Result<Vec<PackRow>> {
        let (mut doomed, mut judging, mut blobs) = (Vec::new(), Vec::new(), 0);
        for row in &snapshot.packs {
            let verdict = match live.bytes(row.id) {
                0 => Verdict::Unreferenced { oldest_session: snapshot.oldest_session },
                _ => Verdict::Referenced,
            };
            // As if no session had begun since: only the watermark depends on it.
            let expected = row.judged(verdict, snapshot.oldest_session).unwrap_or(row.standing);
            if options.dry_run || expected == row.standing {
                if expected.state == PackState::Deleting {
                    doomed.push(*row);
                }
                collected.add(row, expected, live.bytes(row.id), snapshot.oldest_session);
                continue;
            }
            let forgotten =
                if expected.state == PackState::Deleting { self.blobs_of(row.id, pacer).await? } else { Vec::new() };
            blobs += forgotten.len();
            judging.push(Judgement { row: *row, verdict, blobs: forgotten });
            if judging.len() >= JUDGED_AT_ONCE || blobs >= FORGOTTEN_AT_ONCE {
                doomed.extend(self.judge(&std::mem::take(&mut judging), snapshot, live, collected).await?);
                blobs = 0;
            }
        }
        doomed.extend(self.judge(&judging, snapshot, live, collected).await?);
        Ok(doomed)
    }

    /// Moves some packs, and returns those that are to be removed now.
    async fn judge(
        &self,
        judging: &[Judgement],
        snapshot: &Snapshot,
        live: &Live,
        collected: &mut Collected,
    ) -> Result<Vec<PackRow>> {
        if judging.is_empty() {
            return Ok(Vec::new());
        }
        let mut doomed = Vec::new();
        let begun = Instant::now();
        let judged = self.index().judge(judging).await.map_err(|e| Error::index("judge packs", e))?;
        // A content is recorded in several transactions, and each of them would wait for one of these.
        tokio::time::sleep(begun.elapsed()).await;
        for (Judgement { row, .. }, standing) in judging.iter().zip(judged) {
            let standing = standing.unwrap_or(row.standing);
            if standing.state == PackState::Deleting {
                doomed.push(*row);
            }
            collected.add(row, standing, live.bytes(row.id), snapshot.oldest_session);
        }
        Ok(doomed)
    }

    /// Returns what the footer of a pack lists; nothing when it is gone or damaged, for then it cannot tell.
    async fn blobs_of(&self, pack: Uuid, pacer: &Pacer) -> Result<Vec<(Uuid, BlobId)>> {
        pacer.take(FOOTER.0, FOOTER.1).await;
        match pack::read_footer(self.backend(), pack, self.descriptor().store).await {
            Ok((_, entries)) => Ok(entries.iter().map(|entry| (entry.domain, entry.id)).collect()),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn remove_packs(&self, doomed: &[PackRow], pacer: &Pacer, collected: &mut Collected) -> Result<()> {
        for rows in doomed.chunks(JUDGED_AT_ONCE) {
            if self.index().alarm().await.map_err(|e| Error::index("look for alarms", e))?.is_some() {
                return Ok(());
            }
            for row in rows {
                pacer.take(1, 0).await;
                self.backend().delete(&pack::name(row.id)).await?;
                collected.removed.add(row.size);
            }
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            self.index().remove_packs(&ids).await.map_err(|e| Error::index("forget packs", e))?;
        }
        Ok(())
    }

    /// Removes objects that no record names and none ever will.
    async fn remove_strays(
        &self,
        inventory: &Inventory,
        (options, pacer): (&CollectOptions, &Pacer),
        collected: &mut Collected,
    ) -> Result<()> {
        collected.stray_packs = inventory.packs.len() as u64;
        collected.stray_heads = inventory.heads.len() as u64;
        if options.dry_run || collected.stray_packs + collected.stray_heads == 0 {
            return Ok(());
        }
        let heads: Vec<Uuid> = inventory.heads.iter().map(|(id, _)| *id).collect();
        let strays: Strays =
            self.index().strays(&inventory.packs, &heads).await.map_err(|e| Error::index("note strays", e))?;
        for id in &strays.packs {
            pacer.take(2, 0).await;
            let size = self.backend().size(&pack::name(*id)).await.unwrap_or(0);
            self.backend().delete(&pack::name(*id)).await?;
            self.mark_gone(*id).await?;
            collected.removed.add(size);
        }
        for id in &strays.heads {
            pacer.take(1, 0).await;
            self.backend().delete(&head::name(*id)).await?;
            collected.heads_removed += 1;
        }
        self.index().remove_strays(&strays).await.map_err(|e| Error::index("forget strays", e))
    }
}

/// Lists the ids of the objects in a folder.
async fn ids(backend: &dyn Backend, prefix: &str) -> Result<Vec<Uuid>> {
    let names = backend.list(prefix).await?;
    // What does not look like ours is not ours to judge.
    Ok(names.iter().filter_map(|name| Uuid::try_parse(name.strip_prefix(prefix)?).ok()).collect())
}
