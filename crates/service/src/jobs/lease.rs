//! The hold that this node has on a running job: renewed while the work goes on, noticed when it is lost.
//!
//! The database's clock alone decides when a lease ends. The attempt is the fencing token: a node that lost its
//! lease can still think, but no write of it to the job or to what the job makes is taken any more.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::{Tx, jobs};
use model::JobId;
use model::jobs::JobState;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result};
use crate::jobs::stop::Stop;
use crate::service::Service;

/// How long a lease lasts without being renewed, in seconds: the longest that a dead node's job waits.
pub(crate) const LEASE_SECONDS: u32 = 30;
/// How often progress is written and a cancellation is looked for.
const BEAT: Duration = Duration::from_secs(1);
/// A lease is renewed at every so manieth beat at the latest.
const BEATS_A_RENEWAL: u32 = 5;

/// A claim on one attempt of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) job: JobId,
    pub(crate) attempt: i64,
}

impl Lease {
    /// Claims a job that was inserted in the same transaction.
    pub(crate) async fn take(service: &Service, tx: &mut Tx, job: JobId) -> Result<Self> {
        let attempt = jobs::take(tx, job, &service.parts.settings.node, LEASE_SECONDS).await?;
        let attempt = attempt.ok_or_else(|| Error::conflict(format!("job {job} is taken already")))?;
        Ok(Self { job, attempt })
    }

    /// Begins to renew the lease, until the returned value is dropped.
    pub(crate) fn keep(self, service: Service) -> Held {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(beat(service, self, Arc::clone(&shared)));
        Held { lease: self, shared, task }
    }
}

/// What the work and the heartbeat tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    lost: AtomicBool,
    cancelled: AtomicBool,
    percent: AtomicU8,
    step: Mutex<String>,
}

impl Shared {
    /// Tells how far the job is; written at the next beat. The percent never falls: a step may begin below the end of
    /// one before it that is not always there.
    pub(crate) fn tell(&self, step: &str, percent: u8) {
        step.clone_into(&mut self.step.lock().unwrap_or_else(PoisonError::into_inner));
        self.percent.fetch_max(percent.min(100), Ordering::Relaxed);
    }

    /// Fails when the job was cancelled or the lease is lost; long work asks it often.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Stop::Lost);
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        Ok(())
    }
}

/// A lease that is being renewed.
pub(crate) struct Held {
    pub(crate) lease: Lease,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Held {
    /// Returns what blocking work tells and asks.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Tells how far the job is; written at the next beat.
    pub(crate) fn tell(&self, step: &str, percent: u8) {
        self.shared.tell(step, percent);
    }

    /// Fails when the job was cancelled or the lease is lost.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        self.shared.check()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn beat(service: Service, lease: Lease, shared: Arc<Shared>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = (String::new(), 0);
    for count in 0_u32.. {
        ticks.tick().await;
        let now = (
            shared.step.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            shared.percent.load(Ordering::Relaxed),
        );
        let news = (now != told && !now.0.is_empty()).then_some(&now);
        match look(&service, lease, news, count.is_multiple_of(BEATS_A_RENEWAL)).await {
            Ok(Look::Held) => {}
            Ok(Look::Cancelled) => shared.cancelled.store(true, Ordering::Relaxed),
            Ok(Look::Lost) => {
                shared.lost.store(true, Ordering::Relaxed);
                return;
            }
            // The lease outlives a few failed beats; if the catalog stays away it runs out, which `look` then sees.
            Err(error) => tracing::warn!(job = %lease.job, %error, "could not renew the lease of a job"),
        }
        told = now;
    }
}

enum Look {
    Held,
    Cancelled,
    Lost,
}

async fn look(service: &Service, lease: Lease, news: Option<&(String, u8)>, renew: bool) -> Result<Look> {
    if renew || news.is_some() {
        let mut tx = service.parts.catalog.write().await?;
        let mut held = jobs::renew(&mut tx, lease.job, lease.attempt, LEASE_SECONDS).await?;
        if let Some((step, percent)) = news {
            held &= jobs::progress(&mut tx, lease.job, lease.attempt, step, *percent).await?;
        }
        tx.commit().await?;
        if !held {
            return Ok(Look::Lost);
        }
    }
    let mut tx = service.parts.catalog.read().await?;
    let job = jobs::get(&mut tx, lease.job).await?;
    let held = |job: &model::jobs::Job| job.state == JobState::Running && job.attempt == lease.attempt;
    Ok(match job.filter(held) {
        None => Look::Lost,
        Some(job) if job.cancel_requested => Look::Cancelled,
        Some(_) => Look::Held,
    })
}
