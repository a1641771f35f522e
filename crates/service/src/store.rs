//! The chunk store as an operator sees it: how it stands, collection of garbage and its alarm, verification, rebuilding.

use std::time::Duration;

use catalog::scrubs::{Checked, Damaged};
use catalog::{collections, jobs, packs, scrubs};
use chunks::{BackendStats, CollectOptions, Collected, OpenedStats};
use model::Timestamp;
use model::identity::{Principal, Role};
use model::jobs::{Job, JobKind};
use serde::Serialize;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::jobs::record::new_job;
use crate::jobs::verify_store::VerifyStore;
use crate::policy;
use crate::service::Service;

/// How often this process says that it lives.
const TEND: Duration = Duration::from_secs(20);
/// How often it is asked whether a collection is due.
const LOOK: Duration = Duration::from_secs(60);

/// Damaged packs that are shown.
const DAMAGED_SHOWN: u32 = 100;

/// The verbs of the store.
pub struct Store<'s>(pub(crate) &'s Service);

/// How the store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreState {
    /// Why collection was stopped, if it was.
    pub alarm: Option<String>,
    /// When the last collection by itself began, if any did.
    pub collection_begun_at: Option<Timestamp>,
    /// Its packs, and how long ago they were read back.
    pub checked: Checked,
    /// Packs that were found to be damaged, the newest finding first; at most a hundred.
    pub damaged: Vec<Damaged>,
    /// What this node's backend and cache did since the start.
    pub backend: BackendStats,
    /// How this node answered small reads; nothing where it keeps no opened chunks.
    pub small_reads: Option<OpenedStats>,
}

impl Service {
    /// Returns the verbs of the store.
    #[must_use]
    pub fn store(&self) -> Store<'_> {
        Store(self)
    }
}

impl Store<'_> {
    /// Collects garbage, or only finds out what would go.
    pub async fn collect(&self, who: &Principal, dry_run: bool) -> Result<Collected> {
        policy::require(who, Role::Admin, "collect garbage")?;
        self.run(dry_run).await
    }

    /// Returns how the store stands.
    pub async fn state(&self, who: &Principal) -> Result<StoreState> {
        policy::require(who, Role::Admin, "look at the store")?;
        let mut tx = self.0.parts.catalog.read().await?;
        Ok(StoreState {
            alarm: packs::alarm(&mut tx).await?,
            collection_begun_at: collections::begun_at(&mut tx).await?,
            checked: scrubs::checked(&mut tx).await?,
            damaged: scrubs::damaged(&mut tx, DAMAGED_SHOWN).await?,
            backend: self.0.parts.store.counted(),
            small_reads: self.0.parts.store.small_reads(),
        })
    }

    /// Asks for a job that follows every content that has a record down to its chunks; with `deep` it reads, opens and
    /// hashes every byte. The job fails if any content is damaged, and its log names each.
    pub async fn verify(&self, who: &Principal, deep: bool) -> Result<Job> {
        policy::require(who, Role::Admin, "verify the store")?;
        self.begin(who, JobKind::VerifyStore, &VerifyStore { deep }).await
    }

    /// Asks for a job that records the packs and contents that lie in the store and have no record, as after the loss of
    /// the catalog.
    pub async fn rebuild(&self, who: &Principal) -> Result<Job> {
        policy::require(who, Role::Admin, "rebuild the catalog")?;
        self.begin(who, JobKind::RebuildStore, &()).await
    }

    async fn begin(&self, who: &Principal, kind: JobKind, params: &impl Serialize) -> Result<Job> {
        let job = new_job(self.0, who, kind, None, None, params)?;
        let mut tx = self.0.parts.catalog.write().await?;
        jobs::insert(&mut tx, &job).await?;
        tx.commit().await?;
        self.0.wake.notify_one();
        Ok(job)
    }

    /// Allows collection again after an alarm.
    pub async fn clear_alarm(&self, who: &Principal) -> Result<()> {
        policy::require(who, Role::Admin, "clear an alarm")?;
        let mut tx = self.0.parts.catalog.write().await?;
        packs::set_alarm(&mut tx, None).await?;
        Ok(tx.commit().await?)
    }

    async fn run(&self, dry_run: bool) -> Result<Collected> {
        let pace = self.0.parts.settings.collect_pace;
        let options = CollectOptions { dry_run, pace, ..CollectOptions::default() };
        let collected = self.0.parts.store.collect(&options).await.map_err(|error| {
            let hint = error.hint().unwrap_or("look into the server's log").to_owned();
            let stopped = error.kind() == chunks::ErrorKind::Conflict;
            let failed = Error::from(error);
            // Whoever asks is the operator, who needs the cause.
            if stopped { failed } else { failed.with_causes() }.with_hint(hint)
        })?;
        if !dry_run {
            let (removed, copied) = (collected.removed, collected.compacted);
            tracing::info!(
                contents = collected.contents,
                live_bytes = collected.live.bytes,
                packs_removed = removed.count,
                bytes_removed = removed.bytes,
                packs_compacted = copied.count,
                heads_removed = collected.heads_removed,
                "collected garbage"
            );
        }
        Ok(collected)
    }
}

/// Says that this process lives, so that what it writes is not given up.
pub(crate) async fn tend(service: Service, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = service.parts.index.tend().await {
            tracing::warn!(%error, "cannot renew the sessions of this process");
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TEND) => {}
        }
    }
}

/// Collects garbage when it is due; of several nodes one does.
pub(crate) async fn collect_when_due(service: Service, mut stopped: watch::Receiver<bool>) {
    let every = service.parts.settings.collect_seconds;
    if every == 0 {
        return;
    }
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let collecting = async {
            let mut tx = service.parts.catalog.write().await?;
            let due = collections::begin_if_due(&mut tx, every).await?;
            tx.commit().await?;
            if due { service.store().run(false).await.map(drop) } else { Ok(()) }
        };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            done = collecting => if let Err(error) = done {
                tracing::error!(error = %error.chain(), "collection of garbage failed");
            }
        }
    }
}
