//! The runner: workers that claim jobs and carry them out until they end.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use catalog::jobs;
use futures::FutureExt;
use model::ContentId;
use model::jobs::{Job, JobKind, JobState};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::content;
use crate::error::{Error, ErrorKind, Result};
use crate::exports;
use crate::jobs::create_image::CreateImageWork;
use crate::jobs::create_server::CreateServerWork;
use crate::jobs::export_image::ExportImageWork;
use crate::jobs::lease::{Held, LEASE_SECONDS, Lease};
use crate::jobs::prepare_image::PrepareImageWork;
use crate::jobs::rebuild_store::RebuildStoreWork;
use crate::jobs::run::{Run, Work, end_badly};
use crate::jobs::sealed;
use crate::jobs::stop::Stop;
use crate::jobs::uploading::UploadImageWork;
use crate::jobs::verify_store::VerifyStoreWork;
use crate::scrubbing;
use crate::service::Service;
use crate::store;

/// How often a job is begun before it is given up.
const ATTEMPTS_MAX: i64 = 8;
/// Longest wait before a job is begun again, in seconds.
const BACK_OFF_MAX: u32 = 60;
/// How long an idle worker waits before it looks again; a new job on this node wakes one at once.
const IDLE: Duration = Duration::from_secs(1);
/// How often running servers and expired exports are looked at.
const WATCH: Duration = Duration::from_secs(10);

/// Workers that carry out jobs, until they are stopped.
pub struct Runner {
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Runner {
    /// Starts the workers. Jobs that this node held when it died are free again at once.
    pub async fn start(service: Service) -> Result<Self> {
        let mut tx = service.parts.catalog.write().await?;
        let freed = jobs::release_owned(&mut tx, &service.parts.settings.node).await?;
        tx.commit().await?;
        if freed > 0 {
            tracing::info!(jobs = freed, "resuming jobs that the last run of this node left");
        }
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        workers.spawn(watch(service.clone(), stopped.clone()));
        workers.spawn(store::tend(service.clone(), stopped.clone()));
        workers.spawn(store::collect_when_due(service.clone(), stopped.clone()));
        workers.spawn(scrubbing::scrub(service.clone(), stopped.clone()));
        for _ in 0..service.parts.settings.job_workers.max(1) {
            workers.spawn(work(service.clone(), stopped.clone()));
        }
        Ok(Self { workers, stop })
    }

    /// Stops claiming, interrupts running jobs and frees them for the next node to resume.
    pub async fn stop(mut self, service: &Service) -> Result<()> {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        let mut tx = service.parts.catalog.write().await?;
        jobs::release_owned(&mut tx, &service.parts.settings.node).await?;
        Ok(tx.commit().await?)
    }
}

async fn work(service: Service, mut stopped: watch::Receiver<bool>) {
    loop {
        let claimed = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            claimed = claim(&service) => claimed,
        };
        match claimed {
            Ok(Some(job)) => {
                let span = tracing::info_span!("job", id = %job.id, kind = %job.kind, attempt = job.attempt);
                let end = carry_out(&service, &job, &mut stopped).instrument(span.clone()).await;
                settle(&service, &job, end).instrument(span).await;
            }
            Ok(None) => idle(&service, &mut stopped).await,
            Err(error) => {
                tracing::warn!(%error, "cannot look for jobs");
                idle(&service, &mut stopped).await;
            }
        }
    }
}

/// Looks now and then at running servers, so that one that went off by itself is known without anybody asking, and at
/// exports, so that an expired one holds nothing any more.
async fn watch(service: Service, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(WATCH) => {}
        }
        if let Err(error) = service.servers().look_at_all().await {
            tracing::warn!(%error, "cannot look at the servers");
        }
        if let Err(error) = exports::sweep(&service).await {
            tracing::warn!(%error, "cannot remove the expired exports");
        }
    }
}

async fn idle(service: &Service, stopped: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = service.wake.notified() => {}
        () = tokio::time::sleep(IDLE) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
}

async fn claim(service: &Service) -> Result<Option<Job>> {
    let mut tx = service.parts.catalog.write().await?;
    let job = jobs::claim(&mut tx, &service.parts.settings.node, LEASE_SECONDS).await?;
    tx.commit().await?;
    Ok(job)
}

fn work_of(kind: JobKind) -> &'static dyn Work {
    match kind {
        JobKind::UploadImage => &UploadImageWork,
        JobKind::CreateImage => &CreateImageWork,
        JobKind::PrepareImage => &PrepareImageWork,
        JobKind::ExportImage => &ExportImageWork,
        JobKind::CreateServer => &CreateServerWork,
        JobKind::VerifyStore => &VerifyStoreWork,
        JobKind::RebuildStore => &RebuildStoreWork,
    }
}

/// Returns every place where `--abort-at` can end the process: `KIND/STEP/before`, `middle` (of a step that copies or recovers),
/// `joining` (where a stream's head and the rest are written) and `after`, and `KIND/end/before` and `after`.
#[must_use]
pub fn abort_places() -> Vec<String> {
    let kinds = [
        JobKind::CreateImage,
        JobKind::PrepareImage,
        JobKind::ExportImage,
        JobKind::CreateServer,
        JobKind::RebuildStore,
    ];
    let steps = kinds.iter().flat_map(|kind| {
        work_of(*kind).steps().iter().map(|step| step.name).chain(["end"]).map(move |step| (kind, step))
    });
    let places = steps.flat_map(|(kind, step)| {
        let moments: &[&str] = match (kind, step) {
            (JobKind::CreateImage, "unpack" | "copy")
            | (JobKind::PrepareImage, "prepare")
            | (JobKind::RebuildStore, "contents") => &["before", "middle", "after"],
            (JobKind::ExportImage, "write") => &["before", "middle", "joining", "after"],
            _ => &["before", "after"],
        };
        moments.iter().map(move |moment| format!("{kind}/{step}/{moment}"))
    });
    places.collect()
}

/// Runs a claimed job until it is done; returns the contents that this made free. A node that stops interrupts the steps,
/// and never the end: nobody else clears up after a job whose end is recorded.
async fn carry_out(service: &Service, job: &Job, stopped: &mut watch::Receiver<bool>) -> Result<Vec<ContentId>, Stop> {
    let lease = Lease { job: job.id, attempt: job.attempt };
    if job.attempt > ATTEMPTS_MAX {
        let message = format!("the job was begun {ATTEMPTS_MAX} times and never came to an end");
        return Err(Stop::Fail(Error::new(ErrorKind::Internal, message)));
    }
    // A panic is a fault of this job: it must not take the worker with it, and then the next one.
    AssertUnwindSafe(run_to_end(service, job, lease, stopped))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Stop::Fail(Error::new(ErrorKind::Internal, "a step of the job ended unexpectedly"))))
}

async fn run_to_end(
    service: &Service,
    job: &Job,
    lease: Lease,
    stopped: &mut watch::Receiver<bool>,
) -> Result<Vec<ContentId>, Stop> {
    let held = lease.keep(service.clone());
    let work = work_of(job.kind);
    let mut tx = service.parts.catalog.read().await?;
    let outputs: BTreeMap<_, _> = jobs::steps(&mut tx, job.id).await?.into_iter().collect();
    drop(tx);
    let mut run = Run::new(service, job, &held, outputs);
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop) => return Err(Stop::Interrupted),
        ran = run_steps(work, &mut run, &held) => ran?,
    }
    held.check()?;
    run.point("end/before");
    let mut tx = service.parts.catalog.write().await?;
    // A cancellation that was accepted before this counts, even if no beat has seen it.
    if jobs::get(&mut tx, job.id).await?.is_some_and(|job| job.cancel_requested) {
        return Err(Stop::Cancelled);
    }
    let released = work.finish(&mut tx, &run).await?;
    if !jobs::finish(&mut tx, job.id, lease.attempt, JobState::Done, None).await? {
        return Err(Stop::Lost);
    }
    sealed::erase(&mut tx, job).await?;
    tx.commit().await?;
    run.point("end/after");
    Ok(released)
}

async fn run_steps(work: &dyn Work, run: &mut Run<'_>, held: &Held) -> Result<(), Stop> {
    for step in work.steps() {
        if run.is_done(step.name) {
            continue;
        }
        held.check()?;
        held.tell(step.name, step.from);
        run.point(&format!("{}/before", step.name));
        let output = work.run(step.name, run).await?;
        run.record(step.name, &output).await?;
        run.point(&format!("{}/after", step.name));
    }
    Ok(())
}

/// Ends a job that was carried out; never fails, every failure ends in the job's record.
async fn settle(service: &Service, job: &Job, end: Result<Vec<ContentId>, Stop>) {
    let stop = match end {
        Ok(released) => {
            content::forget(service, released).await;
            tracing::info!("job done");
            return;
        }
        Err(stop) => stop,
    };
    if let Err(error) = end_early(service, job, stop).await {
        // The lease runs out and the job is claimed again, so nothing is stuck.
        tracing::error!(%error, "cannot record the end of a job");
    }
}

async fn end_early(service: &Service, job: &Job, stop: Stop) -> Result<()> {
    match stop {
        Stop::Lost => tracing::warn!("the job is somebody else's now"),
        Stop::Interrupted => tracing::info!("job interrupted: this node stops"),
        Stop::Cancelled => {
            tracing::info!("job cancelled");
            end_badly(service, job, job.attempt, JobState::Cancelled, "it was cancelled").await?;
        }
        Stop::Retry(error) if job.attempt < ATTEMPTS_MAX => {
            let delay = (1_u32 << job.attempt.clamp(0, 6)).min(BACK_OFF_MAX);
            tracing::warn!(error = %error.chain(), delay, "job will be begun again");
            let mut tx = service.parts.catalog.write().await?;
            let step = job.step.as_deref().unwrap_or("begin");
            jobs::log(&mut tx, job.id, step, &format!("{error}; trying again in {delay} s")).await?;
            jobs::requeue(&mut tx, job.id, job.attempt, delay).await?;
            tx.commit().await?;
        }
        Stop::Retry(error) | Stop::Fail(error) => {
            tracing::warn!(error = %error.chain(), "job failed");
            end_badly(service, job, job.attempt, JobState::Failed, &error.sentence()).await?;
        }
    }
    Ok(())
}
