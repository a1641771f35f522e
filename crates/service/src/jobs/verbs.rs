//! Verbs of jobs: look at them, cancel them.

use catalog::jobs::{self, JobFilter};
use model::JobId;
use model::identity::{Principal, Role};
use model::jobs::{Job, JobLine, JobState};

use crate::content;
use crate::error::{Error, Result};
use crate::jobs::run;
use crate::policy;
use crate::service::Service;

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

impl Service {
    /// Returns the verbs of jobs.
    #[must_use]
    pub fn jobs(&self) -> Jobs<'_> {
        Jobs(self)
    }
}

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
        let unseen = run::cancel(self.0, &mut tx, id).await?;
        let job = find(who, id, jobs::get(&mut tx, id).await?)?;
        tx.commit().await?;
        content::forget(self.0, unseen).await;
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
