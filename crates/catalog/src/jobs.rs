//! Rows of jobs: who works on which, and until when.
//!
//! ```text
//!   insert -> queued --claim--> running --finish--> done | failed | cancelled
//!                ^                 |  renew: the lease lasts longer
//!                +----requeue------+  lease ran out: the next claim takes it, attempt + 1
//! ```
//! Whoever claims a job gets its `attempt`, and gives it with every write. A write for an attempt that
//! is no longer the running one changes nothing and returns `false`: the caller must stop. Leases are
//! measured by the database's clock alone. `image` and `server` may name rows that are gone.

mod log;
mod run;

use model::jobs::{Job, JobKind, JobState};
use model::{ImageId, JobId, ProjectId, ServerId};
use sqlx::any::AnyRow;

pub use self::log::{lines, log};
pub use self::run::{
    claim, finish, progress, record_step, release_owned, renew, request_cancel, requeue, set_params, steps, take,
};
use crate::fields::{Fields as _, micros, micros_option, text_option};
use crate::statement::{Statement, sql_text};
use crate::{Error, ErrorKind, Result, Tx};

const COLUMNS: &str = "id, project, user_id, kind, state, step, percent, attempt, cancel_requested, error, params, \
    image, server, created_at, started_at, ended_at";

/// Most values in one list of a filter.
const VALUES_MAX: usize = 1000;

/// Which jobs to list. An empty list and a `None` ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of one of these kinds.
    pub kinds: Vec<JobKind>,
    /// That make or read this image.
    pub image: Option<ImageId>,
    /// That make this server.
    pub server: Option<ServerId>,
    /// The job after which the page begins; one that does not exist is [`ErrorKind::Missing`].
    pub marker: Option<JobId>,
    /// Most jobs to return.
    pub limit: u32,
}

impl Default for JobFilter {
    /// Asks for the 25 newest jobs.
    fn default() -> Self {
        Self {
            project: None,
            states: Vec::new(),
            kinds: Vec::new(),
            image: None,
            server: None,
            marker: None,
            limit: 25,
        }
    }
}

/// Adds a job, which may run from now on. Do it in the transaction that adds what the job serves.
pub async fn insert(tx: &mut Tx, job: &Job) -> Result<()> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "INSERT INTO jobs ({COLUMNS}, run_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, {now})"
    ))
    .bind(job.id.to_string())
    .bind(job.project.to_string())
    .bind(job.user.to_string())
    .bind(job.kind.as_str())
    .bind(job.state.as_str())
    .bind(job.step.as_deref())
    .bind(i64::from(job.percent))
    .bind(job.attempt)
    .bind(i64::from(job.cancel_requested))
    .bind(job.error.as_deref())
    .bind(&*job.params)
    .bind(text_option(job.image))
    .bind(text_option(job.server))
    .bind(micros(job.created_at))
    .bind(micros_option(job.started_at))
    .bind(micros_option(job.ended_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the job with this id.
pub async fn get(tx: &mut Tx, id: JobId) -> Result<Option<Job>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM jobs WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(job).transpose()
}

/// Returns a page of jobs, newest first.
pub async fn list(tx: &mut Tx, filter: &JobFilter) -> Result<Vec<Job>> {
    if filter.states.len().max(filter.kinds.len()) > VALUES_MAX {
        return Err(Error::new(ErrorKind::Invalid, format!("a filter takes at most {VALUES_MAX} values")));
    }
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM jobs WHERE 1 = 1"));
    statement.any_of(" AND project", text_option(filter.project));
    statement.any_of(" AND state", filter.states.iter().map(|state| state.as_str()));
    statement.any_of(" AND kind", filter.kinds.iter().map(|kind| kind.as_str()));
    statement.any_of(" AND image", text_option(filter.image));
    statement.any_of(" AND server", text_option(filter.server));
    if let Some(marker) = filter.marker {
        let Some(job) = get(tx, marker).await? else {
            return Err(Error::new(ErrorKind::Missing, format!("there is no job {marker} to go on after")));
        };
        statement.push(" AND (created_at < ").bind(micros(job.created_at));
        statement.push(" OR (created_at = ").bind(micros(job.created_at));
        statement.push(" AND id < ").bind(job.id.to_string()).push("))");
    }
    statement.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(i64::from(filter.limit));
    tx.rows(statement.query()).await?.iter().map(job).collect()
}

fn job(row: &AnyRow) -> Result<Job> {
    Ok(Job {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        user: row.parsed("user_id")?,
        kind: row.parsed("kind")?,
        state: row.parsed("state")?,
        step: row.field("step")?,
        percent: row.number("percent")?,
        attempt: row.field("attempt")?,
        cancel_requested: row.flag("cancel_requested")?,
        error: row.field("error")?,
        params: row.field("params")?,
        image: row.parsed_option("image")?,
        server: row.parsed_option("server")?,
        created_at: row.time("created_at")?,
        started_at: row.time_option("started_at")?,
        ended_at: row.time_option("ended_at")?,
    })
}
