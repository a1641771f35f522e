//! Rows of sessions: contents that are being written, and those that are whole and have no record yet.
//!
//! ```text
//!   begin -> open --keep--> kept --contents::commit--> (a content)
//!              |              |
//!              +---- end -----+---- silent for too long, and no job on its way to commit it
//! ```
//! Their numbers rise. Leases are measured by the database's clock; they decide only when a session that says nothing
//! is given up, and whoever was given up can record nothing any more.

use crate::fields::{Fields as _, size};
use crate::statement::{Statement, sql, sql_text};
use crate::{Result, Tx, strays};

const SECOND: i64 = 1_000_000;
/// Numbers in one statement.
const BATCH: usize = 500;

/// What came of keeping a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept.
    Kept,
    /// Its session is over.
    GivenUp,
    /// This content, of which it reuses chunks, is no longer kept.
    SourceGone(String),
}

/// Begins a session of `process` that writes `content`; nothing when a content of that id is being removed.
///
/// Nobody judges a pack until the transaction ends.
pub async fn begin(tx: &mut Tx, content: &str, process: &str, lease_seconds: u32) -> Result<Option<u64>> {
    // First, since it is the lock that judging waits for.
    let query = sql("UPDATE store_state SET last_session = last_session + 1 WHERE id = 1 RETURNING last_session");
    let rows = tx.rows(query).await?;
    let number: i64 = rows.first().map_or(Ok(0), |row| row.field("last_session"))?;
    if strays::is_doomed(tx, content).await? {
        return Ok(None);
    }
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "INSERT INTO sessions (number, content, process, state, lease_until) VALUES ($1, $2, $3, 'open', {now} + $4)"
    ));
    tx.execute(query.bind(number).bind(content).bind(process).bind(i64::from(lease_seconds) * SECOND)).await?;
    Ok(u64::try_from(number).ok())
}

/// Makes the leases of the open sessions of `process` last `lease_seconds` from now.
pub async fn renew(tx: &mut Tx, process: &str, lease_seconds: u32) -> Result<()> {
    let now = tx.dialect().now();
    let query = sql_text(format!("UPDATE sessions SET lease_until = {now} + $2 WHERE process = $1 AND state = 'open'"));
    tx.execute(query.bind(process).bind(i64::from(lease_seconds) * SECOND)).await?;
    Ok(())
}

/// Ends open sessions that keep nothing.
pub async fn end(tx: &mut Tx, numbers: &[u64]) -> Result<()> {
    for numbers in numbers.chunks(BATCH) {
        let numbers = numbers.iter().map(|number| size(*number)).collect::<Result<Vec<_>>>()?;
        let mut statement = Statement::new("DELETE FROM sessions WHERE state = 'open'");
        statement.any_of(" AND number", numbers);
        tx.execute(statement.query()).await?;
    }
    Ok(())
}

/// Returns whether a session is open, and keeps it so until the transaction ends.
pub async fn is_open(tx: &mut Tx, number: u64) -> Result<bool> {
    let query = sql_text(format!("SELECT number FROM sessions WHERE number = $1 AND state = 'open'{}", tx.lock()));
    Ok(tx.row(query.bind(size(number)?)).await?.is_some())
}

/// Keeps the content of an open session under its head, for `lease_seconds` or as long as a job may still commit it.
///
/// All of `sources` must be kept, which holds until the transaction ends: so at any moment one or the other is.
pub async fn keep(tx: &mut Tx, number: u64, head: &[u8], sources: &[String], lease_seconds: u32) -> Result<Keeping> {
    for source in sources {
        let lock = tx.lock();
        let content = sql_text(format!("SELECT id FROM contents WHERE id = $1{lock}"));
        let session = sql_text(format!("SELECT number FROM sessions WHERE content = $1 AND state = 'kept'{lock}"));
        if tx.row(content.bind(&**source)).await?.is_none() && tx.row(session.bind(&**source)).await?.is_none() {
            return Ok(Keeping::SourceGone(source.clone()));
        }
    }
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "UPDATE sessions SET state = 'kept', head = $2, lease_until = {now} + $3 WHERE number = $1 AND state = 'open'"
    ));
    let query = query.bind(size(number)?).bind(head).bind(i64::from(lease_seconds) * SECOND);
    Ok(if tx.changed(query).await? { Keeping::Kept } else { Keeping::GivenUp })
}

/// Forgets that a content is kept, if it is and has no record.
pub async fn forget(tx: &mut Tx, content: &str) -> Result<()> {
    tx.execute(sql("DELETE FROM sessions WHERE content = $1 AND state = 'kept'").bind(content)).await?;
    Ok(())
}

/// Returns whether a content is kept: it has a record, or its session says so.
pub async fn is_kept(tx: &mut Tx, content: &str) -> Result<bool> {
    let query = sql("SELECT 1 AS kept WHERE EXISTS (SELECT 1 FROM contents WHERE id = $1) \
         OR EXISTS (SELECT 1 FROM sessions WHERE content = $1 AND state = 'kept')");
    Ok(tx.row(query.bind(content)).await?.is_some())
}

/// Returns whether a content has a record or a session, open or kept.
pub async fn is_named(tx: &mut Tx, content: &str) -> Result<bool> {
    let query = sql("SELECT 1 AS named WHERE EXISTS (SELECT 1 FROM contents WHERE id = $1) \
         OR EXISTS (SELECT 1 FROM sessions WHERE content = $1)");
    Ok(tx.row(query.bind(content)).await?.is_some())
}

/// Ends the sessions whose lease has run out; returns how many. What they kept is removed, unless a job that has not
/// ended recorded it and will commit it.
pub async fn end_silent(tx: &mut Tx) -> Result<u64> {
    let now = tx.dialect().now();
    let query = sql_text(format!("DELETE FROM sessions WHERE state = 'open' AND lease_until < {now}"));
    let mut ended = tx.execute(query).await?;
    let query = sql_text(format!(
        "SELECT number, content FROM sessions WHERE state = 'kept' AND lease_until < {now}{}",
        tx.lock()
    ));
    for row in tx.rows(query).await? {
        let (number, content): (i64, String) = (row.field("number")?, row.field("content")?);
        if is_promised(tx, &content).await? {
            continue;
        }
        tx.execute(sql("DELETE FROM sessions WHERE number = $1").bind(number)).await?;
        strays::doom_head(tx, &content).await?;
        ended += 1;
    }
    Ok(ended)
}

/// Returns whether a job that has not ended recorded the content as what a step of it makes.
async fn is_promised(tx: &mut Tx, content: &str) -> Result<bool> {
    let query = sql("SELECT jobs.id FROM jobs JOIN job_steps ON job_steps.job = jobs.id \
         WHERE jobs.state IN ('queued', 'running') AND job_steps.output LIKE '%' || $1 || '%' LIMIT 1");
    Ok(tx.row(query.bind(content)).await?.is_some())
}

/// Returns the oldest open session, or the next one to be.
pub async fn oldest(tx: &mut Tx) -> Result<u64> {
    let query =
        sql("SELECT COALESCE((SELECT MIN(number) FROM sessions WHERE state = 'open'), last_session + 1) AS oldest \
         FROM store_state WHERE id = 1");
    tx.rows(query).await?.first().map_or(Ok(0), |row| row.number("oldest"))
}

/// Returns the heads of contents that are kept and have no record, in no order.
pub async fn heads(tx: &mut Tx) -> Result<Vec<Vec<u8>>> {
    let rows = tx.rows(sql("SELECT head FROM sessions WHERE state = 'kept'")).await?;
    rows.iter().map(|row| row.field("head")).collect()
}
