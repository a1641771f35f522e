//! One run of one job: what a step sees, and how a job ends.

use std::collections::BTreeMap;

use async_trait::async_trait;
use catalog::{Tx, contents, images, jobs, servers};
use model::images::ImageState;
use model::jobs::{Job, JobKind, JobState};
use model::servers::ServerState;
use model::{ContentId, JobId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::content;
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::lease::{Held, LEASE_SECONDS};
use crate::jobs::sealed;
use crate::jobs::stop::Stop;
use crate::service::Service;

/// A step of a kind of job.
pub(crate) struct Step {
    /// Its name in records, logs and progress.
    pub(crate) name: &'static str,
    /// The job's percent when it begins; the next step's (or 100) when it ends.
    pub(crate) from: u8,
}

/// What a kind of job does.
#[async_trait]
pub(crate) trait Work: Sync {
    /// Returns its steps in order.
    fn steps(&self) -> &'static [Step];

    /// Runs one step and returns what later steps and the end need to know of it, as JSON.
    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop>;

    /// Makes visible what the job made, in the transaction that ends the job; returns contents that became free.
    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop>;
}

/// A job that is being run.
pub(crate) struct Run<'r> {
    pub(crate) service: &'r Service,
    pub(crate) job: &'r Job,
    pub(crate) held: &'r Held,
    outputs: BTreeMap<String, String>,
}

impl<'r> Run<'r> {
    pub(crate) fn new(service: &'r Service, job: &'r Job, held: &'r Held, outputs: BTreeMap<String, String>) -> Self {
        Self { service, job, held, outputs }
    }

    /// Returns the job's parameters.
    pub(crate) fn params<T: DeserializeOwned>(&self) -> Result<T> {
        read_json(&self.job.params)
    }

    /// Returns whether a step is recorded as done.
    pub(crate) fn is_done(&self, step: &str) -> bool {
        self.outputs.contains_key(step)
    }

    /// Returns what an earlier step left.
    pub(crate) fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T> {
        let missing = || Error::new(ErrorKind::Internal, format!("step `{step}` of job {} left nothing", self.job.id));
        read_json(self.outputs.get(step).ok_or_else(missing)?)
    }

    /// Records a step as done, fenced by the lease.
    pub(crate) async fn record(&mut self, step: &str, output: &serde_json::Value) -> Result<(), Stop> {
        let text = output.to_string();
        let mut tx = self.service.parts.catalog.write().await?;
        if !jobs::record_step(&mut tx, self.job.id, self.held.lease.attempt, step, &text).await? {
            return Err(Stop::Lost);
        }
        tx.commit().await?;
        self.outputs.insert(step.into(), text);
        Ok(())
    }

    /// Fails unless the lease is held at this moment by the database's own word; asked right before something
    /// outside the catalog is removed, which a stalled attempt must not do to what a newer one made.
    pub(crate) async fn fence(&self) -> Result<(), Stop> {
        let mut tx = self.service.parts.catalog.write().await?;
        if !jobs::renew(&mut tx, self.job.id, self.held.lease.attempt, LEASE_SECONDS).await? {
            return Err(Stop::Lost);
        }
        Ok(tx.commit().await?)
    }

    /// Writes a line into the job's log, for people.
    pub(crate) async fn log(&self, step: &str, text: &str) -> Result<()> {
        tracing::info!(job = %self.job.id, step, text, "job");
        let mut tx = self.service.parts.catalog.write().await?;
        jobs::log(&mut tx, self.job.id, step, text).await?;
        Ok(tx.commit().await?)
    }

    /// Ends the process here if tests asked for it: a crash at a known place.
    pub(crate) fn point(&self, place: &str) {
        let here = format!("{}/{place}", self.job.kind);
        if self.service.parts.settings.abort_at.as_deref() == Some(here.as_str()) {
            tracing::error!(place = here, "ending the process, as `--abort-at` asked");
            #[expect(clippy::disallowed_methods, reason = "a crash is what the test asked for")]
            std::process::abort();
        }
    }
}

/// Makes the JSON of a step's output.
pub(crate) fn output(value: &impl Serialize) -> Result<serde_json::Value, Stop> {
    serde_json::to_value(value).map_err(|bad| Stop::Fail(Error::internal("cannot write a step's output", bad)))
}

fn read_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|bad| Error::internal("cannot read a job's record", bad))
}

/// Ends a job badly: what it was making says why, in the same transaction. Returns `false` if the lease is lost.
pub(crate) async fn end_badly(service: &Service, job: &Job, attempt: i64, state: JobState, why: &str) -> Result<bool> {
    let mut tx = service.parts.catalog.write().await?;
    if !jobs::finish(&mut tx, job.id, attempt, state, Some(why)).await? {
        return Ok(false);
    }
    give_up(service, &mut tx, job, why).await?;
    let unseen = clear(&mut tx, job).await?;
    tx.commit().await?;
    content::forget(service, unseen).await;
    Ok(true)
}

/// Asks a job to stop. One that no worker has ends here; returns contents to be forgotten after the commit.
pub(crate) async fn cancel(service: &Service, tx: &mut Tx, id: JobId) -> Result<Vec<ContentId>> {
    if !jobs::request_cancel(tx, id).await? {
        return Ok(Vec::new());
    }
    let Some(job) = jobs::get(tx, id).await?.filter(|job| job.state == JobState::Cancelled) else {
        return Ok(Vec::new());
    };
    give_up(service, tx, &job, "it was cancelled before it began").await?;
    clear(tx, &job).await
}

/// Clears up after a job that ended without what it was to make: its passphrase goes, and the contents that its steps
/// had names for (`to`, `temporary`) are returned where they never got a record.
async fn clear(tx: &mut Tx, job: &Job) -> Result<Vec<ContentId>> {
    sealed::erase(tx, job).await?;
    let mut unseen = Vec::new();
    for (_, output) in jobs::steps(tx, job.id).await? {
        // A damaged record must not keep the job from its end.
        let output = serde_json::from_str::<serde_json::Value>(&output).unwrap_or_default();
        let temporary = output["temporary"].as_array().into_iter().flatten();
        for id in temporary.chain(output.get("to")).filter_map(|id| id.as_str()?.parse().ok()) {
            if contents::get(tx, id).await?.is_none() {
                unseen.push(id);
            }
        }
    }
    Ok(unseen)
}

/// Moves what a job was making into its Error state with the reason.
pub(crate) async fn give_up(service: &Service, tx: &mut Tx, job: &Job, why: &str) -> Result<()> {
    match (job.kind, job.image, job.server) {
        (JobKind::CreateImage | JobKind::UploadImage, Some(id), _) => {
            let Some(mut image) = images::get(tx, id).await?.filter(|image| image.job == Some(job.id)) else {
                return Ok(());
            };
            let from = image.state;
            if matches!(from, ImageState::Queued | ImageState::Saving) {
                image.state = ImageState::Error;
                image.reason = Some(why.into());
                image.updated_at = service.now();
                images::update(tx, &image, from).await?;
            }
        }
        (JobKind::CreateServer, _, Some(id)) => {
            let Some(mut server) = servers::get(tx, id).await?.filter(|server| server.state == ServerState::Build)
            else {
                return Ok(());
            };
            server.state = ServerState::Error;
            server.reason = Some(why.into());
            server.updated_at = service.now();
            servers::update(tx, &server, ServerState::Build).await?;
        }
        _ => {}
    }
    Ok(())
}
