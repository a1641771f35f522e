//! Rows of buckets.

use model::buckets::Bucket;
use model::{BucketId, ProjectId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, project, name, created_at";

/// Adds a bucket. A name that the project has already is a conflict.
pub async fn insert(tx: &mut Tx, bucket: &Bucket) -> Result<()> {
    let query = sql("INSERT INTO buckets (id, project, name, created_at) VALUES ($1, $2, $3, $4)")
        .bind(bucket.id.to_string())
        .bind(bucket.project.to_string())
        .bind(&*bucket.name)
        .bind(micros(bucket.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns a project's bucket by its name.
pub async fn get(tx: &mut Tx, project: ProjectId, name: &str) -> Result<Option<Bucket>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM buckets WHERE project = $1 AND name = $2"));
    tx.row(query.bind(project.to_string()).bind(name)).await?.as_ref().map(bucket).transpose()
}

/// Returns the bucket with this id.
pub async fn by_id(tx: &mut Tx, id: BucketId) -> Result<Option<Bucket>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM buckets WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(bucket).transpose()
}

/// Returns the buckets of a project, by name.
pub async fn list(tx: &mut Tx, project: ProjectId) -> Result<Vec<Bucket>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM buckets WHERE project = $1 ORDER BY name"));
    tx.rows(query.bind(project.to_string())).await?.iter().map(bucket).collect()
}

/// Removes a bucket; returns whether it existed. One with objects or uploads in it is a conflict.
pub async fn delete(tx: &mut Tx, id: BucketId) -> Result<bool> {
    tx.changed(sql("DELETE FROM buckets WHERE id = $1").bind(id.to_string())).await
}

/// Returns whether a bucket has neither objects nor uploads in it, which is when it can be deleted.
pub async fn is_empty(tx: &mut Tx, id: BucketId) -> Result<bool> {
    let query = sql("SELECT 1 AS filled WHERE EXISTS (SELECT 1 FROM objects WHERE bucket = $1) \
         OR EXISTS (SELECT 1 FROM uploads WHERE bucket = $1)");
    Ok(tx.row(query.bind(id.to_string())).await?.is_none())
}

fn bucket(row: &AnyRow) -> Result<Bucket> {
    Ok(Bucket {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        name: row.field("name")?,
        created_at: row.time("created_at")?,
    })
}
