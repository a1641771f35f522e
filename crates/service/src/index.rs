//! The chunk store's index over the catalog: where each chunk lies, who writes, what is kept, how packs stand.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use catalog::{Catalog, Tx, chunks as rows, contents, packs, scrubs, sessions, strays};
use chunks::{
    BlobId, Found, Index, IndexError, Judgement, Keeping, Location, Moved, PackRow, Recording, Session, Snapshot,
    Strays,
};
use model::packs::{PackState, Standing};
use uuid::Uuid;

/// How long a process may be silent unless told otherwise, in seconds.
const LEASE_SECONDS: u32 = 120;
/// How long a whole content may wait for its record unless told otherwise, in seconds.
const KEPT_SECONDS: u32 = 3600;

/// How long a pack that is being scrubbed is given to nobody else, in seconds.
const SCRUB_SECONDS: u32 = 3600;

/// Answers the chunk store from the catalog.
pub struct CatalogIndex {
    catalog: Catalog,
    /// Names this run of this program, so that its sessions end with it.
    process: String,
    /// How long it may be silent before what it writes is given up, in seconds.
    lease_seconds: u32,
    /// How long a content that is whole may wait for its record, unless a job is on its way to commit it, in seconds.
    kept_seconds: u32,
    /// How long a head without a record stays, in seconds.
    stray_seconds: u32,
    abandoned: Mutex<Vec<u64>>,
}

impl CatalogIndex {
    /// Makes an index over `catalog`; heads that no record names are removed after `stray_seconds`.
    #[must_use]
    pub fn new(catalog: Catalog, stray_seconds: u32) -> Self {
        let (process, abandoned) = (Uuid::new_v4().to_string(), Mutex::default());
        let (lease_seconds, kept_seconds) = (LEASE_SECONDS, KEPT_SECONDS);
        Self { catalog, process, lease_seconds, kept_seconds, stray_seconds, abandoned }
    }

    /// Gives up what a process wrote that is silent for `lease_seconds`, and a whole content that has no record
    /// `kept_seconds` later.
    #[must_use]
    pub fn with_leases(self, lease_seconds: u32, kept_seconds: u32) -> Self {
        Self { lease_seconds, kept_seconds, ..self }
    }

    /// Says that this process lives, and ends what its writers gave up; to be called several times in a lease.
    ///
    /// # Errors
    /// Fails when the catalog does.
    pub async fn tend(&self) -> Result<(), catalog::Error> {
        let abandoned = std::mem::take(&mut *self.abandoned());
        let mut tx = self.catalog.write().await?;
        sessions::end(&mut tx, &abandoned).await?;
        sessions::renew(&mut tx, &self.process, self.lease_seconds).await?;
        tx.commit().await
    }

    fn abandoned(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_over(&self, tx: &mut Tx, session: Option<Session>) -> Result<bool, catalog::Error> {
        match session {
            Some(session) => Ok(!sessions::is_open(tx, session.0).await?),
            None => Ok(false),
        }
    }
}

#[async_trait]
impl Index for CatalogIndex {
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Found>>, IndexError> {
        let mut tx = self.catalog.read().await?;
        let found = rows::find(&mut tx, domain, ids).await?;
        let found = found.into_iter();
        Ok(found.map(|found| found.map(from_found)).collect())
    }

    async fn begin(&self, content: Uuid) -> Result<Option<Session>, IndexError> {
        let mut tx = self.catalog.write().await?;
        let number = sessions::begin(&mut tx, &content.to_string(), &self.process, self.lease_seconds).await?;
        tx.commit().await?;
        Ok(number.map(Session))
    }

    fn abandon(&self, session: Session) {
        self.abandoned().push(session.0);
    }

    async fn add_pack(
        &self,
        session: Option<Session>,
        pack: Uuid,
        size: u64,
        blobs: &[(Uuid, BlobId, Location)],
    ) -> Result<Recording, IndexError> {
        let blobs: Vec<_> = blobs.iter().map(|(domain, id, location)| (*domain, *id, to_row(*location))).collect();
        let mut tx = self.catalog.write().await?;
        if self.is_over(&mut tx, session).await? {
            return Ok(Recording::GivenUp);
        }
        if session.is_none() {
            tx.lift_limits();
        }
        let writer = session.map_or(0, |session| session.0);
        rows::add_pack(&mut tx, writer, pack, size, &blobs).await?;
        match tx.commit().await {
            Ok(()) => Ok(Recording::Recorded),
            Err(error) if error.kind() == catalog::ErrorKind::Quota => Ok(Recording::OverQuota(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn revive(&self, pack: Uuid) -> Result<bool, IndexError> {
        let mut tx = self.catalog.write().await?;
        let revived = packs::revive(&mut tx, pack).await?;
        tx.commit().await?;
        Ok(revived)
    }

    async fn tripped(&self, pack: Uuid, content: Uuid) -> Result<(), IndexError> {
        let mut tx = self.catalog.write().await?;
        if !sessions::is_kept(&mut tx, &content.to_string()).await? {
            return Ok(());
        }
        let standing = packs::standing(&mut tx, pack).await?;
        if standing.is_some_and(|standing| standing.marks > 0) {
            let reason = format!("content {content} leads to pack {pack}, which was about to be removed");
            tracing::error!(%content, %pack, "a kept content leads to a pack that was about to be removed");
            packs::set_alarm(&mut tx, Some(&reason)).await?;
        }
        packs::revive(&mut tx, pack).await?;
        Ok(tx.commit().await?)
    }

    async fn keep(&self, session: Session, head: &[u8], sources: &[Uuid]) -> Result<Keeping, IndexError> {
        // In the order of their ids, so that two of them with the same sources wait for each other.
        let mut sources: Vec<String> = sources.iter().map(Uuid::to_string).collect();
        sources.sort_unstable();
        sources.dedup();
        let mut tx = self.catalog.write().await?;
        let kept = sessions::keep(&mut tx, session.0, head, &sources, self.kept_seconds).await?;
        tx.commit().await?;
        Ok(match kept {
            sessions::Keeping::Kept => Keeping::Kept,
            sessions::Keeping::GivenUp => Keeping::GivenUp,
            sessions::Keeping::SourceGone(source) => Keeping::SourceGone(source.parse()?),
        })
    }

    async fn forget(&self, content: Uuid) -> Result<(), IndexError> {
        let mut tx = self.catalog.write().await?;
        sessions::forget(&mut tx, &content.to_string()).await?;
        Ok(tx.commit().await?)
    }

    async fn end_silent(&self) -> Result<u64, IndexError> {
        self.tend().await?;
        let mut tx = self.catalog.write().await?;
        let ended = sessions::end_silent(&mut tx).await?;
        tx.commit().await?;
        Ok(ended)
    }

    async fn snapshot(&self) -> Result<Snapshot, IndexError> {
        // One transaction that reads one moment: what is kept before and what replaces it are seen together.
        let mut tx = self.catalog.read().await?;
        let mut heads = contents::heads(&mut tx).await?;
        heads.extend(sessions::heads(&mut tx).await?);
        Ok(Snapshot {
            oldest_session: sessions::oldest(&mut tx).await?,
            heads,
            packs: packs::list(&mut tx).await?.into_iter().map(pack_row).collect(),
        })
    }

    async fn judge(&self, judged: &[Judgement]) -> Result<Vec<Option<Standing>>, IndexError> {
        // Rows are locked in the order of their keys, so that nobody waits in a circle.
        let mut order: Vec<usize> = (0..judged.len()).collect();
        order.sort_unstable_by_key(|at| judged[*at].row.id);
        let (mut standings, mut forgotten) = (vec![None; judged.len()], Vec::new());
        let mut tx = self.catalog.write().await?;
        for at in order {
            let Judgement { row, verdict, blobs } = &judged[at];
            let standing = packs::judge(&mut tx, row.id, row.standing, |last| row.event(*verdict, last)).await?;
            standings[at] = standing;
            if standing.is_none_or(|standing| standing.state != PackState::Deleting) {
                continue;
            }
            forgotten.extend(blobs.iter().map(|(domain, id)| (*domain, *id, row.id)));
            if blobs.is_empty() {
                rows::forget_all(&mut tx, row.id).await?;
            }
        }
        rows::forget(&mut tx, &forgotten).await?;
        tx.commit().await?;
        Ok(standings)
    }

    async fn remove_packs(&self, removed: &[Uuid]) -> Result<(), IndexError> {
        let mut removed = removed.to_vec();
        removed.sort_unstable();
        let mut tx = self.catalog.write().await?;
        for pack in removed {
            packs::delete(&mut tx, pack).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn relocate(&self, session: Session, pack: Uuid, size: u64, moved: &[Moved]) -> Result<bool, IndexError> {
        let moved: Vec<_> = moved.iter().map(|moved| (moved.domain, moved.id, moved.from, to_row(moved.to))).collect();
        let mut tx = self.catalog.write().await?;
        if self.is_over(&mut tx, Some(session)).await? {
            return Ok(false);
        }
        rows::add_pack(&mut tx, session.0, pack, size, &[]).await?;
        rows::relocate(&mut tx, &moved).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn strays(&self, packs: &[Uuid], heads: &[Uuid]) -> Result<Strays, IndexError> {
        let mut tx = self.catalog.write().await?;
        let oldest = sessions::oldest(&mut tx).await?;
        let strays = Strays {
            packs: strays::packs(&mut tx, packs, oldest).await?,
            heads: strays::heads(&mut tx, heads, self.stray_seconds).await?,
        };
        tx.commit().await?;
        Ok(strays)
    }

    async fn remove_strays(&self, removed: &Strays) -> Result<(), IndexError> {
        let mut tx = self.catalog.write().await?;
        for pack in &removed.packs {
            strays::delete_pack(&mut tx, *pack).await?;
        }
        for content in &removed.heads {
            strays::delete_head(&mut tx, *content).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn next_to_scrub(&self, seconds: u64) -> Result<Option<(Uuid, u64)>, IndexError> {
        let mut tx = self.catalog.write().await?;
        let next = scrubs::claim(&mut tx, seconds, SCRUB_SECONDS).await?;
        tx.commit().await?;
        Ok(next)
    }

    async fn scrubbed(&self, pack: Uuid, damage: Option<&str>) -> Result<(), IndexError> {
        let mut tx = self.catalog.write().await?;
        scrubs::record(&mut tx, pack, damage).await?;
        Ok(tx.commit().await?)
    }

    async fn alarm(&self) -> Result<Option<String>, IndexError> {
        let mut tx = self.catalog.read().await?;
        Ok(packs::alarm(&mut tx).await?)
    }
}

fn pack_row(packs::Pack { id, size, writer, standing, damaged }: packs::Pack) -> PackRow {
    PackRow { id, size, writer, standing, damaged }
}

fn from_found(rows::Found { location, state, damaged }: rows::Found) -> Found {
    Found { location: from_row(location), state, damaged }
}

fn from_row(rows::Location { pack, offset, stored, plain, generation }: rows::Location) -> Location {
    Location { pack, offset, stored, plain, generation }
}

fn to_row(Location { pack, offset, stored, plain, generation }: Location) -> rows::Location {
    rows::Location { pack, offset, stored, plain, generation }
}
