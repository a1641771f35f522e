//! Rows of contents, and who refers to them.

use model::contents::Content;
use model::{ContentId, Timestamp};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros, size};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx, strays};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, project, length, head, created_at";

/// Adds a content, after its bytes became durable.
pub async fn insert(tx: &mut Tx, content: &Content) -> Result<()> {
    let query = sql("INSERT INTO contents (id, project, length, head, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(content.id.to_string())
        .bind(content.project.to_string())
        .bind(size(content.length)?)
        .bind(&*content.head)
        .bind(micros(content.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Adds a content that was kept by its session, which this ends. Returns whether it was still kept: if not, its bytes
/// may be gone.
pub async fn commit(tx: &mut Tx, content: &Content) -> Result<bool> {
    let query = sql("DELETE FROM sessions WHERE content = $1 AND state = 'kept'");
    if !tx.changed(query.bind(content.id.to_string())).await? {
        return Ok(false);
    }
    insert(tx, content).await?;
    Ok(true)
}

/// Returns the content with this id.
pub async fn get(tx: &mut Tx, id: ContentId) -> Result<Option<Content>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM contents WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(content).transpose()
}

/// Removes a content; returns whether it existed. One that is referred to is a conflict. Its head is noted as one to be
/// removed, so that a crash before that leaves nothing.
pub async fn delete(tx: &mut Tx, id: ContentId) -> Result<bool> {
    let existed = tx.changed(sql("DELETE FROM contents WHERE id = $1").bind(id.to_string())).await?;
    if existed {
        strays::doom_head(tx, &id.to_string()).await?;
    }
    Ok(existed)
}

/// Returns the heads of all contents, in no order.
pub async fn heads(tx: &mut Tx) -> Result<Vec<Vec<u8>>> {
    tx.rows(sql("SELECT head FROM contents")).await?.iter().map(|row| row.field("head")).collect()
}

/// Returns whether an image, an object, an upload's part, a server or an export holds the content.
pub async fn is_referenced(tx: &mut Tx, id: ContentId) -> Result<bool> {
    let query = sql("SELECT 1 AS held WHERE EXISTS (SELECT 1 FROM images WHERE content = $1) \
         OR EXISTS (SELECT 1 FROM objects WHERE content = $1) \
         OR EXISTS (SELECT 1 FROM parts WHERE content = $1) \
         OR EXISTS (SELECT 1 FROM servers WHERE content = $1) \
         OR EXISTS (SELECT 1 FROM exports WHERE content = $1)");
    Ok(tx.row(query.bind(id.to_string())).await?.is_some())
}

/// Returns up to `limit` contents made before `older_than` that nothing holds, oldest first.
///
/// What an interrupted request leaves is among them, and so is what a running one has not yet
/// tied to its record: `older_than` has to lie further back than any request takes.
pub async fn list_unreferenced(tx: &mut Tx, older_than: Timestamp, limit: u32) -> Result<Vec<Content>> {
    let query = sql_text(format!(
        "SELECT {COLUMNS} FROM contents WHERE created_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM images WHERE images.content = contents.id) \
         AND NOT EXISTS (SELECT 1 FROM objects WHERE objects.content = contents.id) \
         AND NOT EXISTS (SELECT 1 FROM parts WHERE parts.content = contents.id) \
         AND NOT EXISTS (SELECT 1 FROM servers WHERE servers.content = contents.id) \
         AND NOT EXISTS (SELECT 1 FROM exports WHERE exports.content = contents.id) \
         ORDER BY created_at, id LIMIT $2"
    ));
    tx.rows(query.bind(micros(older_than)).bind(i64::from(limit))).await?.iter().map(content).collect()
}

fn content(row: &AnyRow) -> Result<Content> {
    Ok(Content {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        length: row.number("length")?,
        head: row.field("head")?,
        created_at: row.time("created_at")?,
    })
}
