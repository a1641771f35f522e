//! Rows of objects: the newest state of each key of a bucket.

use model::buckets::Object;
use model::quotas::Resource;
use model::{BucketId, ContentId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, map_json, micros, size};
use crate::statement::{Statement, sql, sql_text};
use crate::{Error, ErrorKind, Result, Tx, buckets};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "bucket, key, content, size, etag, content_type, metadata, created_at";

/// How often a put starts over because the key appears and vanishes under it.
const PUT_TRIES: u32 = 10;

/// Adds an object or replaces the one with its key; returns the content that no longer has this key. A new key counts as
/// one more object of the project.
pub async fn put(tx: &mut Tx, object: &Object) -> Result<Option<ContentId>> {
    for _ in 0..PUT_TRIES {
        if write(
            tx,
            object,
            "INSERT INTO objects (content, size, etag, content_type, metadata, created_at, bucket, key) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .await?
        {
            count(tx, object.bucket, 1).await?;
            return Ok(None);
        }
        let text = format!("SELECT content FROM objects WHERE bucket = $1 AND key = $2{}", tx.lock());
        let query = sql_text(text).bind(object.bucket.to_string()).bind(&*object.key);
        let Some(row) = tx.row(query).await? else { continue };
        let replaced: ContentId = row.parsed("content")?;
        write(
            tx,
            object,
            "UPDATE objects SET content = $1, size = $2, etag = $3, content_type = $4, metadata = $5, \
             created_at = $6 WHERE bucket = $7 AND key = $8",
        )
        .await?;
        return Ok((replaced != object.content).then_some(replaced));
    }
    Err(Error::new(ErrorKind::Unavailable, "the object is being written and deleted by others at the same time"))
}

async fn write(tx: &mut Tx, object: &Object, text: &'static str) -> Result<bool> {
    let query = sql(text)
        .bind(object.content.to_string())
        .bind(size(object.size)?)
        .bind(&*object.etag)
        .bind(object.content_type.as_deref())
        .bind(map_json(&object.metadata))
        .bind(micros(object.created_at))
        .bind(object.bucket.to_string())
        .bind(&*object.key);
    tx.changed(query).await
}

/// Returns the object with this key.
pub async fn get(tx: &mut Tx, bucket: BucketId, key: &str) -> Result<Option<Object>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM objects WHERE bucket = $1 AND key = $2"));
    tx.row(query.bind(bucket.to_string()).bind(key)).await?.as_ref().map(object).transpose()
}

/// Returns up to `limit` objects whose key begins with `prefix` and sorts after `start_after`, in bytewise order of keys.
pub async fn list(
    tx: &mut Tx,
    bucket: BucketId,
    prefix: &str,
    start_after: Option<&str>,
    limit: u32,
) -> Result<Vec<Object>> {
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM objects WHERE bucket = "));
    statement.bind(bucket.to_string()).push(" AND key >= ").bind(prefix);
    if let Some(end) = after_prefix(prefix) {
        statement.push(" AND key < ").bind(end);
    }
    if let Some(start_after) = start_after {
        statement.push(" AND key > ").bind(start_after);
    }
    statement.push(" ORDER BY key LIMIT ").bind(i64::from(limit));
    tx.rows(statement.query()).await?.iter().map(object).collect()
}

/// Removes an object and returns it.
pub async fn delete(tx: &mut Tx, bucket: BucketId, key: &str) -> Result<Option<Object>> {
    let query = sql_text(format!("DELETE FROM objects WHERE bucket = $1 AND key = $2 RETURNING {COLUMNS}"));
    let gone = tx.row(query.bind(bucket.to_string()).bind(key)).await?.as_ref().map(object).transpose()?;
    if gone.is_some() {
        count(tx, bucket, -1).await?;
    }
    Ok(gone)
}

async fn count(tx: &mut Tx, bucket: BucketId, change: i64) -> Result<()> {
    if let Some(bucket) = buckets::by_id(tx, bucket).await? {
        tx.count(bucket.project, Resource::Objects, change);
    }
    Ok(())
}

/// Returns the first text that sorts after every text that begins with `prefix`; none if there is no such text.
///
/// UTF-8 sorts as its code points do, so the last character that has a successor is raised to it.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn object(row: &AnyRow) -> Result<Object> {
    Ok(Object {
        bucket: row.parsed("bucket")?,
        key: row.field("key")?,
        content: row.parsed("content")?,
        size: row.number("size")?,
        etag: row.field("etag")?,
        content_type: row.field("content_type")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(""), None);
        assert_eq!(after_prefix("a"), Some("b".into()));
        assert_eq!(after_prefix("a/%"), Some("a/&".into()));
        assert_eq!(after_prefix("x\u{D7FF}"), Some("x\u{E000}".into()));
        assert_eq!(after_prefix("x\u{10FFFF}\u{10FFFF}"), Some("y".into()));
        assert_eq!(after_prefix("\u{10FFFF}"), None);
    }
}
