//! One transaction: all of it happens, or nothing.
//!
//! Rows that quotas count are counted here, where the transaction commits, and not where they are written:
//! ```text
//!   count(project, resource, change) ... commit: usage + change --within the limit?--> committed
//!                                                               --no-----------------> nothing happened
//! ```
//! So all that write for a project wait for each other at its counters only, shortly, and nobody who holds a counter waits
//! for any other row: counting adds no deadlock to whatever order the rows are written in.

use std::collections::BTreeMap;

use model::ProjectId;
use model::quotas::{Quota, Resource};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Transaction};

use crate::dialect::Dialect;
use crate::fields::Fields as _;
use crate::statement::sql_text;
use crate::{Error, ErrorKind, Result};

/// A transaction; dropping it takes back whatever was written in it.
///
/// After any error the transaction can only be dropped, on both databases.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Any>,
    dialect: Dialect,
    writes: bool,
    failed: bool,
    /// By how much what projects have changes with this transaction.
    counts: BTreeMap<(ProjectId, Resource), i64>,
    unlimited: bool,
}

impl Tx {
    pub(crate) fn new(inner: Transaction<'static, Any>, dialect: Dialect, writes: bool) -> Self {
        Self { inner, dialect, writes, failed: false, counts: BTreeMap::new(), unlimited: false }
    }

    /// Makes everything written in the transaction durable and visible.
    ///
    /// Fails after any statement of it failed: PostgreSQL would silently roll back instead. Fails with
    /// [`ErrorKind::Quota`] where a project would have more than it may; then nothing was written.
    pub async fn commit(mut self) -> Result<()> {
        if self.failed {
            return Err(Error::new(ErrorKind::Other, "the transaction has failed and cannot be committed"));
        }
        for ((project, resource), change) in std::mem::take(&mut self.counts) {
            self.settle(project, resource, change).await?;
        }
        Ok(self.inner.commit().await?)
    }

    /// Records what is there already, such as the packs of a store whose index was lost, whatever the quotas say.
    pub fn lift_limits(&mut self) {
        self.unlimited = true;
    }

    /// Notes that a project has so much more of a resource, or less, when this is committed.
    pub(crate) fn count(&mut self, project: ProjectId, resource: Resource, change: i64) {
        let count = self.counts.entry((project, resource)).or_default();
        *count = count.saturating_add(change);
    }

    /// Changes what a project has, which keeps others from changing it until the transaction ends.
    async fn settle(&mut self, project: ProjectId, resource: Resource, change: i64) -> Result<()> {
        if change == 0 {
            return Ok(());
        }
        let column = resource.as_str();
        let text = format!(
            "INSERT INTO usage (project, {column}) VALUES ($1, $2) \
             ON CONFLICT (project) DO UPDATE SET {column} = usage.{column} + excluded.{column} RETURNING {column} AS used"
        );
        let row = self.row(sql_text(text).bind(project.to_string()).bind(change)).await?;
        let more = match u64::try_from(change) {
            Ok(more) if !self.unlimited => more,
            // What goes is never refused, even where more is left than a lowered limit allows.
            _ => return Ok(()),
        };
        let used: u64 = row.map_or(Ok(0), |row| row.number("used"))?;
        let text = format!("SELECT {column} AS most FROM quotas WHERE project = $1");
        let row = self.row(sql_text(text).bind(project.to_string())).await?;
        let limit = row.map_or(Ok(None), |row| row.number_option("most"))?;
        let before = Quota { resource, limit, used: used.saturating_sub(more) };
        if before.allows(more) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Quota, before.refusal(more)))
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the end of a `SELECT` whose row the caller may be about to change.
    pub(crate) fn lock(&self) -> &'static str {
        if self.writes { self.dialect.lock() } else { "" }
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<u64> {
        let done = query.execute(&mut *self.inner).await;
        self.judge(done.map(|done| done.rows_affected()))
    }

    /// Runs a statement that changes one row or none, and returns whether it changed one.
    pub(crate) async fn changed(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<bool> {
        Ok(self.execute(query).await? > 0)
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn rows(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<AnyRow>> {
        let done = query.fetch_all(&mut *self.inner).await;
        self.judge(done)
    }

    /// Runs a statement that returns one row or none.
    pub(crate) async fn row(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Option<AnyRow>> {
        // Not `fetch_optional`: it stops after the row, and a changing statement has to run to its end.
        Ok(self.rows(query).await?.into_iter().next())
    }

    fn judge<T>(&mut self, done: std::result::Result<T, sqlx::Error>) -> Result<T> {
        self.failed |= done.is_err();
        Ok(done?)
    }
}
