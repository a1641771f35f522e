//! Rows of exports: of a name only its hash is kept, so that a stolen catalog opens no disk.

use model::exports::{Export, Exported};
use model::{ExportId, ProjectId, Timestamp};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros, text_option};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, project, user_id, content, format, image, bucket, object_key, created_at, expires_at";

/// Adds an export, whose name has this hash.
pub async fn insert(tx: &mut Tx, export: &Export, name_hash: &[u8; 32]) -> Result<()> {
    let (image, object) = match &export.of {
        Exported::Image(image) => (Some(*image), None),
        Exported::Object { bucket, key } => (None, Some((&**bucket, &**key))),
    };
    let query =
        sql("INSERT INTO exports (id, name_hash, project, user_id, content, format, image, bucket, object_key, \
         created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
        .bind(export.id.to_string())
        .bind(name_hash.to_vec())
        .bind(export.project.to_string())
        .bind(export.user.to_string())
        .bind(export.content.to_string())
        .bind(&*export.format)
        .bind(text_option(image))
        .bind(object.map(|(bucket, _)| bucket))
        .bind(object.map(|(_, key)| key))
        .bind(micros(export.created_at))
        .bind(micros(export.expires_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the export with this id.
pub async fn get(tx: &mut Tx, id: ExportId) -> Result<Option<Export>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM exports WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(export).transpose()
}

/// Returns the export whose name has this hash, expired or not.
pub async fn by_name(tx: &mut Tx, name_hash: &[u8; 32]) -> Result<Option<Export>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM exports WHERE name_hash = $1"));
    tx.row(query.bind(name_hash.to_vec())).await?.as_ref().map(export).transpose()
}

/// Returns the exports of a project, oldest first.
pub async fn list(tx: &mut Tx, project: ProjectId) -> Result<Vec<Export>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM exports WHERE project = $1 ORDER BY id"));
    tx.rows(query.bind(project.to_string())).await?.iter().map(export).collect()
}

/// Returns up to `limit` exports that expired at `now` or before.
pub async fn list_expired(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<Export>> {
    let query =
        sql_text(format!("SELECT {COLUMNS} FROM exports WHERE expires_at <= $1 ORDER BY expires_at, id LIMIT $2"));
    tx.rows(query.bind(micros(now)).bind(i64::from(limit))).await?.iter().map(export).collect()
}

/// Removes an export; returns whether it existed.
pub async fn delete(tx: &mut Tx, id: ExportId) -> Result<bool> {
    tx.changed(sql("DELETE FROM exports WHERE id = $1").bind(id.to_string())).await
}

fn export(row: &AnyRow) -> Result<Export> {
    let of = match row.parsed_option("image")? {
        Some(image) => Exported::Image(image),
        None => Exported::Object { bucket: row.field("bucket")?, key: row.field("object_key")? },
    };
    Ok(Export {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        user: row.parsed("user_id")?,
        of,
        content: row.parsed("content")?,
        format: row.field("format")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}
