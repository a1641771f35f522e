//! Rows of contents, and who refers to them.

use model::contents::Content;
use model::{ContentId, ProjectId, Timestamp};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros, size};
use crate::statement::{Statement, sql, sql_text};
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

/// A record that holds a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `image`, `object`, `upload`, `server` or `export`.
    pub kind: String,
    /// Its id; of an object its bucket and key, of an upload those that it is for.
    pub id: String,
    /// What people call it, if it has a name beside its id.
    pub name: Option<String>,
}

/// Returns up to `limit` contents in the order of their ids, those after `after`; of one project or of all.
pub async fn page(
    tx: &mut Tx,
    project: Option<ProjectId>,
    after: Option<ContentId>,
    limit: u32,
) -> Result<Vec<Content>> {
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM contents WHERE id > "));
    statement.bind(after.map(|id| id.to_string()).unwrap_or_default());
    if let Some(project) = project {
        statement.push(" AND project = ").bind(project.to_string());
    }
    statement.push(" ORDER BY id LIMIT ").bind(i64::from(limit));
    tx.rows(statement.query()).await?.iter().map(content).collect()
}

/// Returns how many contents there are, and their bytes.
pub async fn sum(tx: &mut Tx) -> Result<(u64, u64)> {
    let query = sql("SELECT COUNT(*) AS contents, CAST(COALESCE(SUM(length), 0) AS BIGINT) AS length FROM contents");
    tx.row(query).await?.map_or(Ok((0, 0)), |row| Ok((row.number("contents")?, row.number("length")?)))
}

/// Returns the records that hold a content.
pub async fn holders(tx: &mut Tx, id: ContentId) -> Result<Vec<Holder>> {
    let query = sql("SELECT 'image' AS kind, id, name FROM images WHERE content = $1 \
         UNION ALL SELECT 'image', images.id, images.name \
             FROM reports JOIN images ON images.id = reports.image WHERE reports.original = $1 \
         UNION ALL SELECT 'object', buckets.name || '/' || objects.key, NULL \
             FROM objects JOIN buckets ON buckets.id = objects.bucket WHERE objects.content = $1 \
         UNION ALL SELECT 'upload', buckets.name || '/' || uploads.key, NULL \
             FROM parts JOIN uploads ON uploads.id = parts.upload JOIN buckets ON buckets.id = uploads.bucket \
             WHERE parts.content = $1 \
         UNION ALL SELECT 'server', id, name FROM servers WHERE content = $1 \
         UNION ALL SELECT 'export', id, NULL FROM exports WHERE content = $1");
    let rows = tx.rows(query.bind(id.to_string())).await?;
    let holder = |row: &AnyRow| Ok(Holder { kind: row.field("kind")?, id: row.field("id")?, name: row.field("name")? });
    rows.iter().map(holder).collect()
}

/// Returns the heads of all contents, in no order.
pub async fn heads(tx: &mut Tx) -> Result<Vec<Vec<u8>>> {
    tx.rows(sql("SELECT head FROM contents")).await?.iter().map(|row| row.field("head")).collect()
}

/// Returns whether an image, by what it has or had before it was prepared, an object, an upload's part, a server or an export holds the content.
pub async fn is_referenced(tx: &mut Tx, id: ContentId) -> Result<bool> {
    let query = sql("SELECT 1 AS held WHERE EXISTS (SELECT 1 FROM images WHERE content = $1) \
         OR EXISTS (SELECT 1 FROM reports WHERE original = $1) \
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
         AND NOT EXISTS (SELECT 1 FROM reports WHERE reports.original = contents.id) \
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
