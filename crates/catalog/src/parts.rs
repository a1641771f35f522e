//! Rows of an upload's parts.

use model::buckets::Part;
use model::{ContentId, UploadId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros, size};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx, uploads};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "number, content, size, etag, created_at";

/// Adds a part or replaces the one with its number; returns the content that is no longer a part.
///
/// A part of an upload that does not exist is a conflict.
pub async fn put(tx: &mut Tx, upload: UploadId, part: &Part) -> Result<Option<ContentId>> {
    // Reading the upload makes two puts of the same number follow each other.
    uploads::get(tx, upload).await?;
    let replaced = get(tx, upload, part.number).await?.map(|old| old.content);
    let query =
        sql("INSERT INTO parts (upload, number, content, size, etag, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (upload, number) DO UPDATE SET content = excluded.content, size = excluded.size, \
         etag = excluded.etag, created_at = excluded.created_at")
        .bind(upload.to_string())
        .bind(i64::from(part.number))
        .bind(part.content.to_string())
        .bind(size(part.size)?)
        .bind(&*part.etag)
        .bind(micros(part.created_at));
    tx.execute(query).await?;
    Ok(replaced.filter(|old| *old != part.content))
}

/// Returns the parts of an upload, by number.
pub async fn list(tx: &mut Tx, upload: UploadId) -> Result<Vec<Part>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM parts WHERE upload = $1 ORDER BY number"));
    tx.rows(query.bind(upload.to_string())).await?.iter().map(part).collect()
}

/// Returns one part of an upload.
pub async fn get(tx: &mut Tx, upload: UploadId, number: u32) -> Result<Option<Part>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM parts WHERE upload = $1 AND number = $2"));
    tx.row(query.bind(upload.to_string()).bind(i64::from(number))).await?.as_ref().map(part).transpose()
}

fn part(row: &AnyRow) -> Result<Part> {
    Ok(Part {
        number: row.number("number")?,
        content: row.parsed("content")?,
        size: row.number("size")?,
        etag: row.field("etag")?,
        created_at: row.time("created_at")?,
    })
}
