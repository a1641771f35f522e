//! What a job says about itself while it runs.

use model::JobId;
use model::jobs::JobLine;

use crate::fields::Fields as _;
use crate::statement::{sql, sql_text};
use crate::{Error, ErrorKind, Result, Tx};

/// Adds a line to a job's log, with the database's time. A job that does not exist is [`ErrorKind::Missing`].
///
/// It is not fenced: what a worker that lost its lease did is worth reading too.
pub async fn log(tx: &mut Tx, id: JobId, step: &str, text: &str) -> Result<()> {
    // The count lives in the job's row, so that two writers wait for each other instead of taking one number.
    let count = sql("UPDATE jobs SET line_count = line_count + 1 WHERE id = $1 RETURNING line_count");
    let Some(row) = tx.row(count.bind(id.to_string())).await? else {
        return Err(Error::new(ErrorKind::Missing, format!("there is no job {id}")));
    };
    let number = row.field::<i64>("line_count")? - 1;
    let now = tx.dialect().now();
    let query = sql_text(format!("INSERT INTO job_lines (job, number, at, step, text) VALUES ($1, $2, {now}, $3, $4)"));
    tx.execute(query.bind(id.to_string()).bind(number).bind(step).bind(text)).await?;
    Ok(())
}

/// Returns up to `limit` lines of a job's log, from the first, or from the one that follows line `after`.
///
/// Lines are counted from 0 without gaps.
pub async fn lines(tx: &mut Tx, id: JobId, after: Option<u64>, limit: u32) -> Result<Vec<JobLine>> {
    let after = after.map_or(-1, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let query = sql("SELECT at, step, text FROM job_lines WHERE job = $1 AND number > $2 ORDER BY number LIMIT $3");
    let rows = tx.rows(query.bind(id.to_string()).bind(after).bind(i64::from(limit))).await?;
    rows.iter()
        .map(|row| Ok(JobLine { at: row.time("at")?, step: row.field("step")?, text: row.field("text")? }))
        .collect()
}
