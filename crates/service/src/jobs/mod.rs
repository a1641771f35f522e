//! Jobs: look at them, cancel them; and beside, the work that each kind does and the runner that carries it out.
//!
//! ```text
//!   verb: image row + job row in one transaction
//!   runner: claim -> for each step not yet recorded: run, record -> end
//!   end:   what the job made becomes visible and the job is Done, in one transaction that holds the lease
//! ```
//! A step may run any number of times: a crash between its effect and its record repeats it. Effects outside the
//! catalog therefore use names that were recorded by an earlier step.

pub(crate) mod create_image;
pub(crate) mod create_server;
pub(crate) mod export_image;
pub(crate) mod lease;
pub(crate) mod run;
pub mod runner;
pub(crate) mod uploading;

use catalog::jobs::{self, JobFilter};
use model::identity::{Principal, Role};
use model::jobs::{Job, JobKind, JobLine, JobState};
use model::{ImageId, JobId, ServerId};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::policy;
use crate::service::Service;

/// Why a step did not end well.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something was away that may come back: the job is begun again later.
    Retry(Error),
    /// It will never work: the job fails with the error's sentence.
    Fail(Error),
    /// Somebody asked to cancel the job.
    Cancelled,
    /// Another node has the job now; this one must not touch it any more.
    Lost,
}

impl From<Error> for Stop {
    /// What does not answer or is full may come back; everything else stays as it is.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable => Self::Retry(error),
            _ => Self::Fail(error),
        }
    }
}

impl From<catalog::Error> for Stop {
    fn from(error: catalog::Error) -> Self {
        Error::from(error).into()
    }
}

/// Which jobs to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Every project's, for administrators.
    pub all_projects: bool,
    /// Only these states; empty means all.
    pub states: Vec<JobState>,
    /// After this one.
    pub marker: Option<JobId>,
    /// At most this many, 1 to 1000.
    pub limit: u32,
}

/// Verbs of jobs.
pub struct Jobs<'s>(pub(crate) &'s Service);

impl Jobs<'_> {
    /// Returns a job of the project.
    pub async fn get(&self, who: &Principal, id: JobId) -> Result<Job> {
        let mut tx = self.0.parts.catalog.read().await?;
        find(who, id, jobs::get(&mut tx, id).await?)
    }

    /// Lists jobs, newest first.
    pub async fn list(&self, who: &Principal, query: JobQuery) -> Result<Vec<Job>> {
        if query.all_projects {
            policy::require(who, Role::Admin, "list every project's jobs")?;
        }
        let project = (!query.all_projects).then_some(who.project.id);
        let limit = query.limit.clamp(1, 1000);
        let filter = JobFilter { project, states: query.states, marker: query.marker, limit, ..JobFilter::default() };
        let mut tx = self.0.parts.catalog.read().await?;
        if let Some(marker) = filter.marker {
            let seen = find(who, marker, jobs::get(&mut tx, marker).await?);
            seen.map_err(|_| Error::invalid("the marker is no job of this list"))?;
        }
        Ok(jobs::list(&mut tx, &filter).await?)
    }

    /// Asks a job to stop; `Conflict` if it has ended.
    pub async fn cancel(&self, who: &Principal, id: JobId) -> Result<Job> {
        policy::require(who, Role::Member, "cancel jobs")?;
        let mut tx = self.0.parts.catalog.write().await?;
        let job = find(who, id, jobs::get(&mut tx, id).await?)?;
        if job.state.is_ended() {
            return Err(Error::conflict(format!("job {id} has ended: {}", job.state)));
        }
        let waiting = job.state == JobState::Queued;
        jobs::request_cancel(&mut tx, id).await?;
        let job = find(who, id, jobs::get(&mut tx, id).await?)?;
        if waiting && job.state == JobState::Cancelled {
            run::give_up(self.0, &mut tx, &job, "it was cancelled before it began").await?;
        }
        tx.commit().await?;
        Ok(job)
    }

    /// Returns the lines a job wrote without the first `after`, at most 1000.
    pub async fn lines(&self, who: &Principal, id: JobId, after: u64) -> Result<Vec<JobLine>> {
        let mut tx = self.0.parts.catalog.read().await?;
        find(who, id, jobs::get(&mut tx, id).await?)?;
        Ok(jobs::lines(&mut tx, id, after.checked_sub(1), 1000).await?)
    }
}

fn find(who: &Principal, id: JobId, job: Option<Job>) -> Result<Job> {
    job.filter(|job| policy::owns(who, job.project)).ok_or_else(|| Error::not_found("job", id))
}

/// Makes the record of a job that waits for a worker.
pub(crate) fn new_job(
    service: &Service,
    who: &Principal,
    kind: JobKind,
    image: Option<ImageId>,
    server: Option<ServerId>,
    params: &impl Serialize,
) -> Result<Job> {
    let params =
        serde_json::to_string(params).map_err(|bad| Error::internal("cannot write a job's parameters", bad))?;
    Ok(Job {
        id: JobId::new(),
        project: who.project.id,
        user: who.user.id,
        kind,
        state: JobState::Queued,
        step: None,
        percent: 0,
        attempt: 0,
        cancel_requested: false,
        error: None,
        params,
        image,
        server,
        created_at: service.now(),
        started_at: None,
        ended_at: None,
    })
}
