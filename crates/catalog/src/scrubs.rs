//! Scrubbing in the rows of packs: which one is next, what was found, and how old the oldest check is.

use model::Timestamp;
use uuid::Uuid;

use crate::fields::Fields as _;
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

const SECOND: i64 = 1_000_000;

/// What is known of the packs from being written and read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Packs that are recorded.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the one was written or read back for which that is longest ago.
    pub oldest: Option<Timestamp>,
    /// Those that were found to be damaged.
    pub damaged: u64,
}

/// A pack that was found to be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its id.
    pub pack: Uuid,
    /// What is wrong with it, as a sentence.
    pub damage: String,
    /// When it was read back.
    pub checked_at: Timestamp,
}

/// Returns the pack, and its size in bytes, that was written or read back longest ago if that was at least `age_seconds`
/// ago; nobody else is given it for `claim_seconds`.
pub async fn claim(tx: &mut Tx, age_seconds: u64, claim_seconds: u32) -> Result<Option<(Uuid, u64)>> {
    let now = tx.dialect().now();
    let query = sql_text(format!(
        "SELECT id, size FROM packs WHERE checked_at <= {now} - $1 AND claimed_until <= {now} AND state <> 'deleting' \
         ORDER BY checked_at LIMIT 1{}",
        tx.lock()
    ));
    // What lies further back than any clock is as good as for ever.
    let age = i64::try_from(age_seconds).unwrap_or(i64::MAX).saturating_mul(SECOND).min(i64::MAX / 4);
    let Some(row) = tx.row(query.bind(age)).await? else { return Ok(None) };
    let (pack, size) = (Uuid::from_bytes(row.bytes("id")?), row.number("size")?);
    let query =
        sql_text(format!("UPDATE packs SET claimed_until = {now} + $2 WHERE id = $1 AND claimed_until <= {now}"));
    let query = query.bind(pack.as_bytes().to_vec()).bind(i64::from(claim_seconds) * SECOND);
    Ok(tx.changed(query).await?.then_some((pack, size)))
}

/// Records that a pack was read back now, and what was wrong with it.
pub async fn record(tx: &mut Tx, pack: Uuid, damage: Option<&str>) -> Result<()> {
    let now = tx.dialect().now();
    let query = sql_text(format!("UPDATE packs SET checked_at = {now}, claimed_until = 0, damage = $2 WHERE id = $1"));
    tx.execute(query.bind(pack.as_bytes().to_vec()).bind(damage)).await?;
    Ok(())
}

/// Returns what is known of all packs.
pub async fn checked(tx: &mut Tx) -> Result<Checked> {
    let query = sql("SELECT COUNT(*) AS packs, CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes, \
         COALESCE(MIN(checked_at), 0) AS oldest, COUNT(damage) AS damaged FROM packs WHERE state <> 'deleting'");
    let Some(row) = tx.row(query).await? else { return Ok(Checked::default()) };
    let packs = row.number("packs")?;
    let oldest = if packs == 0 { None } else { Some(row.time("oldest")?) };
    Ok(Checked { packs, bytes: row.number("bytes")?, oldest, damaged: row.number("damaged")? })
}

/// Returns up to `limit` packs that were found to be damaged, the newest finding first.
pub async fn damaged(tx: &mut Tx, limit: u32) -> Result<Vec<Damaged>> {
    let query = sql("SELECT id, damage, checked_at FROM packs WHERE damage IS NOT NULL AND state <> 'deleting' \
         ORDER BY checked_at DESC, id LIMIT $1");
    let rows = tx.rows(query.bind(i64::from(limit))).await?;
    let damaged = rows.iter().map(|row| {
        Ok(Damaged {
            pack: Uuid::from_bytes(row.bytes("id")?),
            damage: row.field("damage")?,
            checked_at: row.time("checked_at")?,
        })
    });
    damaged.collect()
}
