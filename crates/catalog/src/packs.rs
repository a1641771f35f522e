//! Rows of packs: how each stands, moved by `model::packs` alone.

use model::packs::{PackEvent, Standing};
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::fields::{Fields as _, size};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// A pack that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pack {
    /// Its id.
    pub id: Uuid,
    /// Length of its object in bytes.
    pub size: u64,
    /// The session that made it; 0 for one that was found in the store.
    pub writer: u64,
    /// How it stands.
    pub standing: Standing,
    /// It was found to be damaged.
    pub damaged: bool,
}

/// Returns all packs, in no order.
pub async fn list(tx: &mut Tx) -> Result<Vec<Pack>> {
    tx.rows(sql("SELECT id, size, writer, state, marks, watermark, damage FROM packs"))
        .await?
        .iter()
        .map(pack)
        .collect()
}

/// Returns how a pack stands, and keeps others from moving it until the transaction ends.
pub async fn standing(tx: &mut Tx, id: Uuid) -> Result<Option<Standing>> {
    let query = sql_text(format!("SELECT state, marks, watermark FROM packs WHERE id = $1{}", tx.lock()));
    tx.row(query.bind(id.as_bytes().to_vec())).await?.as_ref().map(standing_of).transpose()
}

/// Moves a pack by the event that `event` makes of the last session number that was given out, if it stands as
/// `expected`; returns how it stands then, nothing when that has changed or the move is refused.
///
/// No session begins until the transaction ends. When the pack goes to deleting, its chunks have to be forgotten in the same
/// transaction (`chunks::forget`, `forget_all`).
pub async fn judge(
    tx: &mut Tx,
    id: Uuid,
    expected: Standing,
    event: impl FnOnce(u64) -> PackEvent + Send,
) -> Result<Option<Standing>> {
    let query = sql_text(format!("SELECT last_session FROM store_state WHERE id = 1{}", tx.lock()));
    let last_session = tx.rows(query).await?.first().map_or(Ok(0), |row| row.number("last_session"))?;
    if standing(tx, id).await? != Some(expected) {
        return Ok(None);
    }
    let Some(after) = expected.after(event(last_session)) else { return Ok(None) };
    set(tx, id, after).await?;
    Ok(Some(after))
}

/// Revives a pack because a chunk of it is needed; returns whether it is there and sealed now.
pub async fn revive(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let before = standing(tx, id).await?;
    let Some(after) = before.and_then(|standing| standing.after(PackEvent::Used)) else { return Ok(false) };
    set(tx, id, after).await?;
    Ok(true)
}

/// Forgets a pack.
pub async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    tx.execute(sql("DELETE FROM packs WHERE id = $1").bind(id.as_bytes().to_vec())).await?;
    Ok(())
}

/// Returns why collection was stopped, if it was.
pub async fn alarm(tx: &mut Tx) -> Result<Option<String>> {
    let rows = tx.rows(sql("SELECT alarm FROM store_state WHERE id = 1")).await?;
    rows.first().map_or(Ok(None), |row| row.field("alarm"))
}

/// Stops collection for the reason given, or allows it again.
pub async fn set_alarm(tx: &mut Tx, reason: Option<&str>) -> Result<()> {
    tx.execute(sql("UPDATE store_state SET alarm = $1 WHERE id = 1").bind(reason)).await?;
    Ok(())
}

async fn set(tx: &mut Tx, id: Uuid, standing: Standing) -> Result<()> {
    let query = sql("UPDATE packs SET state = $2, marks = $3, watermark = $4 WHERE id = $1")
        .bind(id.as_bytes().to_vec())
        .bind(standing.state.as_str())
        .bind(i64::from(standing.marks))
        .bind(size(standing.watermark)?);
    tx.execute(query).await?;
    Ok(())
}

fn pack(row: &AnyRow) -> Result<Pack> {
    Ok(Pack {
        id: Uuid::from_bytes(row.bytes("id")?),
        size: row.number("size")?,
        writer: row.number("writer")?,
        standing: standing_of(row)?,
        damaged: row.field::<Option<String>>("damage")?.is_some(),
    })
}

fn standing_of(row: &AnyRow) -> Result<Standing> {
    Ok(Standing { state: row.parsed("state")?, marks: row.number("marks")?, watermark: row.number("watermark")? })
}
