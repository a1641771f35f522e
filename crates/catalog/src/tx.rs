//! One transaction: all of it happens, or nothing.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Transaction};

use crate::dialect::Dialect;
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
}

impl Tx {
    pub(crate) fn new(inner: Transaction<'static, Any>, dialect: Dialect, writes: bool) -> Self {
        Self { inner, dialect, writes, failed: false }
    }

    /// Makes everything written in the transaction durable and visible.
    ///
    /// Fails after any statement of it failed: PostgreSQL would silently roll back instead.
    pub async fn commit(self) -> Result<()> {
        if self.failed {
            return Err(Error::new(ErrorKind::Other, "the transaction has failed and cannot be committed"));
        }
        Ok(self.inner.commit().await?)
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
