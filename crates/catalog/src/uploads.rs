//! Rows of uploads that arrive in parts.

use model::buckets::Upload;
use model::{BucketId, UploadId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, map_json, micros};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, bucket, key, content_type, metadata, created_at";

/// Adds an upload.
pub async fn insert(tx: &mut Tx, upload: &Upload) -> Result<()> {
    let query = sql(
        "INSERT INTO uploads (id, bucket, key, content_type, metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(upload.id.to_string())
    .bind(upload.bucket.to_string())
    .bind(&*upload.key)
    .bind(upload.content_type.as_deref())
    .bind(map_json(&upload.metadata))
    .bind(micros(upload.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the upload with this id; in a transaction that writes, no other may change it meanwhile.
pub async fn get(tx: &mut Tx, id: UploadId) -> Result<Option<Upload>> {
    let text = format!("SELECT {COLUMNS} FROM uploads WHERE id = $1{}", tx.lock());
    let query = sql_text(text).bind(id.to_string());
    tx.row(query).await?.as_ref().map(upload).transpose()
}

/// Returns the uploads into a bucket, by key, then by the time they began.
pub async fn list(tx: &mut Tx, bucket: BucketId) -> Result<Vec<Upload>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM uploads WHERE bucket = $1 ORDER BY key, id"));
    tx.rows(query.bind(bucket.to_string())).await?.iter().map(upload).collect()
}

/// Removes an upload and its parts, whose contents are then free; returns whether it existed.
pub async fn delete(tx: &mut Tx, id: UploadId) -> Result<bool> {
    tx.changed(sql("DELETE FROM uploads WHERE id = $1").bind(id.to_string())).await
}

fn upload(row: &AnyRow) -> Result<Upload> {
    Ok(Upload {
        id: row.parsed("id")?,
        bucket: row.parsed("bucket")?,
        key: row.field("key")?,
        content_type: row.field("content_type")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
    })
}
