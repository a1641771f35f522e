//! Running a job: claim, renew, record, end. Every write but the claim is fenced by the attempt.

use model::JobId;
use model::jobs::{Job, JobState};

use super::{COLUMNS, job};
use crate::fields::Fields as _;
use crate::statement::{sql, sql_text};
use crate::{Error, ErrorKind, Result, Tx};

const SECOND: i64 = 1_000_000;

/// Takes the job that has waited longest: queued and due, or running with a lease that ran out.
///
/// The job comes back as running, with one attempt more, leased to `owner` for `lease_seconds`. Commit
/// before working on it.
pub async fn claim(tx: &mut Tx, owner: &str, lease_seconds: u32) -> Result<Option<Job>> {
    let (now, skip_locked) = (tx.dialect().now(), tx.dialect().skip_locked());
    let query = sql_text(format!(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, owner = $1, lease_until = {now} + $2, \
         started_at = COALESCE(started_at, {now}) \
         WHERE id = (SELECT id FROM jobs WHERE state IN ('queued', 'running') AND run_at <= {now} \
         AND (state = 'queued' OR lease_until < {now}) ORDER BY run_at, id LIMIT 1{skip_locked}) \
         RETURNING {COLUMNS}"
    ));
    tx.row(query.bind(owner).bind(i64::from(lease_seconds) * SECOND)).await?.as_ref().map(job).transpose()
}

/// Makes the lease last `lease_seconds` from now.
pub async fn renew(tx: &mut Tx, id: JobId, attempt: i64, lease_seconds: u32) -> Result<bool> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE jobs SET lease_until = {now} + $3 WHERE id = $1 AND attempt = $2 AND state = 'running'"
    ));
    tx.changed(query.bind(id.to_string()).bind(attempt).bind(i64::from(lease_seconds) * SECOND)).await
}

/// Shows which step runs and how far the whole job is, 0 to 100.
pub async fn progress(tx: &mut Tx, id: JobId, attempt: i64, step: &str, percent: u8) -> Result<bool> {
    let query = sql("UPDATE jobs SET step = $3, percent = $4 WHERE id = $1 AND attempt = $2 AND state = 'running'");
    tx.changed(query.bind(id.to_string()).bind(attempt).bind(step).bind(i64::from(percent.min(100)))).await
}

/// Records that a step is done, and what came out of it as JSON. Doing it again replaces the output.
pub async fn record_step(tx: &mut Tx, id: JobId, attempt: i64, step: &str, output: &str) -> Result<bool> {
    let fence = sql("UPDATE jobs SET step = $3 WHERE id = $1 AND attempt = $2 AND state = 'running'");
    if !tx.changed(fence.bind(id.to_string()).bind(attempt).bind(step)).await? {
        return Ok(false);
    }
    // The update above holds the job's row, so nobody else counts its steps meanwhile.
    let query = sql("INSERT INTO job_steps (job, step, number, output) \
         VALUES ($1, $2, (SELECT COUNT(*) FROM job_steps WHERE job = $1), $3) \
         ON CONFLICT (job, step) DO UPDATE SET output = excluded.output");
    tx.changed(query.bind(id.to_string()).bind(step).bind(output)).await
}

/// Returns the recorded steps with their output, in the order in which they were recorded first.
pub async fn steps(tx: &mut Tx, id: JobId) -> Result<Vec<(String, String)>> {
    let query = sql("SELECT step, output FROM job_steps WHERE job = $1 ORDER BY number");
    let rows = tx.rows(query.bind(id.to_string())).await?;
    rows.iter().map(|row| Ok((row.field("step")?, row.field("output")?))).collect()
}

/// Ends the job in `state`, which must be one that ends a job, with a sentence if it ended badly.
pub async fn finish(tx: &mut Tx, id: JobId, attempt: i64, state: JobState, error: Option<&str>) -> Result<bool> {
    if !state.is_ended() {
        return Err(Error::new(ErrorKind::Invalid, format!("`{state}` does not end a job")));
    }
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE jobs SET state = $3, error = $4, ended_at = {now}, owner = NULL, lease_until = NULL, \
         percent = CASE WHEN $5 = 1 THEN 100 ELSE percent END \
         WHERE id = $1 AND attempt = $2 AND state = 'running'"
    ));
    let done = i64::from(state == JobState::Done);
    tx.changed(query.bind(id.to_string()).bind(attempt).bind(state.as_str()).bind(error).bind(done)).await
}

/// Gives the job back, to be claimed again after `delay_seconds`, or at once if it is to be cancelled.
pub async fn requeue(tx: &mut Tx, id: JobId, attempt: i64, delay_seconds: u32) -> Result<bool> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE jobs SET state = 'queued', owner = NULL, lease_until = NULL, \
         run_at = {now} + CASE WHEN cancel_requested = 1 THEN 0 ELSE $3 END \
         WHERE id = $1 AND attempt = $2 AND state = 'running'"
    ));
    tx.changed(query.bind(id.to_string()).bind(attempt).bind(i64::from(delay_seconds) * SECOND)).await
}

/// Asks for the end of a job: a queued one is cancelled at once, a running one gets the flag.
///
/// Returns whether the job exists and had not ended. Who cancels a queued job has to undo in the same
/// transaction what the job's earlier attempts left, as no worker will.
pub async fn request_cancel(tx: &mut Tx, id: JobId) -> Result<bool> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE jobs SET cancel_requested = 1, \
         ended_at = CASE WHEN state = 'queued' THEN {now} ELSE ended_at END, \
         state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END \
         WHERE id = $1 AND state IN ('queued', 'running')"
    ));
    tx.changed(query.bind(id.to_string())).await
}

/// Replaces the parameters of a job, so that a secret among them need not outlive it.
pub async fn set_params(tx: &mut Tx, id: JobId, params: &str) -> Result<bool> {
    let query = sql("UPDATE jobs SET params = $2 WHERE id = $1");
    tx.changed(query.bind(id.to_string()).bind(params)).await
}

/// Claims one queued job for `owner`, whatever else waits; returns its attempt, or `None` if it is not queued.
///
/// For work that its caller carries out itself: insert and take it in one transaction, and no worker sees it.
pub async fn take(tx: &mut Tx, id: JobId, owner: &str, lease_seconds: u32) -> Result<Option<i64>> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, owner = $2, lease_until = {now} + $3, \
         started_at = COALESCE(started_at, {now}) WHERE id = $1 AND state = 'queued' RETURNING attempt"
    ));
    let row = tx.row(query.bind(id.to_string()).bind(owner).bind(i64::from(lease_seconds) * SECOND)).await?;
    row.map(|row| row.field("attempt")).transpose()
}

/// Ends the leases of every running job of `owner` at once; returns how many. Only for an owner that no longer runs
/// them, such as a node that starts again under its own name.
pub async fn release_owned(tx: &mut Tx, owner: &str) -> Result<u64> {
    let query = sql("UPDATE jobs SET lease_until = 0 WHERE owner = $1 AND state = 'running' RETURNING id");
    Ok(tx.rows(query.bind(owner)).await?.len() as u64)
}
