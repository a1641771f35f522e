//! When garbage was collected last, so that of several nodes one does.

use model::Timestamp;

use crate::fields::Fields as _;
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

const SECOND: i64 = 1_000_000;

/// Notes that a collection begins now, if the last one began `every_seconds` ago or earlier; returns whether it did.
pub async fn begin_if_due(tx: &mut Tx, every_seconds: u32) -> Result<bool> {
    let now = tx.dialect().now();
    let query =
        sql_text(format!("UPDATE store_state SET collected_at = {now} WHERE id = 1 AND collected_at <= {now} - $1"));
    tx.changed(query.bind(i64::from(every_seconds) * SECOND)).await
}

/// Returns when the last collection began.
pub async fn begun_at(tx: &mut Tx) -> Result<Option<Timestamp>> {
    let rows = tx.rows(sql("SELECT collected_at FROM store_state WHERE id = 1 AND collected_at > 0")).await?;
    rows.first().map(|row| row.time("collected_at")).transpose()
}
