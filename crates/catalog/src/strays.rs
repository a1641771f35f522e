//! Rows of strays: objects of the chunk store that no record names, and what is known about their removal.

use uuid::Uuid;

use crate::fields::{Fields as _, size};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

const SECOND: i64 = 1_000_000;

/// Notes packs that were listed and may have no record. Returns those that have none and that nobody can come to record:
/// every session that was open when they were seen first is over, as `oldest_session` is the oldest open one.
pub async fn packs(tx: &mut Tx, listed: &[Uuid], oldest_session: u64) -> Result<Vec<Uuid>> {
    let oldest = size(oldest_session)?;
    tx.execute(sql("DELETE FROM stray_packs WHERE id IN (SELECT id FROM packs)")).await?;
    for pack in listed {
        let query = sql("INSERT INTO stray_packs (id, watermark) \
             SELECT $1, last_session FROM store_state WHERE id = 1 AND NOT EXISTS (SELECT 1 FROM packs WHERE packs.id = $1) \
             ON CONFLICT DO NOTHING");
        tx.execute(query.bind(pack.as_bytes().to_vec())).await?;
    }
    let query = sql("SELECT id FROM stray_packs WHERE watermark < $1").bind(oldest);
    tx.rows(query).await?.iter().map(|row| Ok(Uuid::from_bytes(row.bytes("id")?))).collect()
}

/// Returns the packs that were seen without a record.
pub async fn noted_packs(tx: &mut Tx) -> Result<Vec<Uuid>> {
    let rows = tx.rows(sql("SELECT id FROM stray_packs")).await?;
    rows.iter().map(|row| Ok(Uuid::from_bytes(row.bytes("id")?))).collect()
}

/// Forgets a stray pack whose object is gone.
pub async fn delete_pack(tx: &mut Tx, pack: Uuid) -> Result<()> {
    tx.execute(sql("DELETE FROM stray_packs WHERE id = $1").bind(pack.as_bytes().to_vec())).await?;
    Ok(())
}

/// Notes heads that were listed and may have no record. Returns those, by their contents, that have had none for
/// `grace_seconds`, and those that are doomed.
pub async fn heads(tx: &mut Tx, listed: &[Uuid], grace_seconds: u32) -> Result<Vec<Uuid>> {
    const NAMED: &str = "(EXISTS (SELECT 1 FROM contents WHERE contents.id = stray_heads.content) \
        OR EXISTS (SELECT 1 FROM sessions WHERE sessions.content = stray_heads.content))";
    let now = tx.dialect().now();
    for content in listed {
        let query = sql_text(format!(
            "INSERT INTO stray_heads (content, remove_at) VALUES ($1, {now} + $2) ON CONFLICT DO NOTHING"
        ));
        tx.execute(query.bind(content.to_string()).bind(i64::from(grace_seconds) * SECOND)).await?;
    }
    tx.execute(sql_text(format!("DELETE FROM stray_heads WHERE {NAMED}"))).await?;
    let query = sql_text(format!("SELECT content FROM stray_heads WHERE remove_at <= {now}"));
    tx.rows(query).await?.iter().map(|row| row.parsed("content")).collect()
}

/// Notes that the head of a content is to be removed, now that nothing leads to it.
pub(crate) async fn doom_head(tx: &mut Tx, content: &str) -> Result<()> {
    let query = sql("INSERT INTO stray_heads (content, remove_at) VALUES ($1, 0) \
         ON CONFLICT (content) DO UPDATE SET remove_at = 0");
    tx.execute(query.bind(content)).await?;
    Ok(())
}

/// Returns whether the head of a content is to be removed.
pub async fn is_doomed(tx: &mut Tx, content: &str) -> Result<bool> {
    let now = tx.dialect().now();
    let query = sql_text(format!("SELECT content FROM stray_heads WHERE content = $1 AND remove_at <= {now}"));
    Ok(tx.row(query.bind(content)).await?.is_some())
}

/// Forgets a stray head whose object is gone.
pub async fn delete_head(tx: &mut Tx, content: Uuid) -> Result<()> {
    tx.execute(sql("DELETE FROM stray_heads WHERE content = $1").bind(content.to_string())).await?;
    Ok(())
}
