//! Rows of access keys, with their sealed secret.

use model::UserId;
use model::identity::AccessKey;
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "access_key, user_id, project, description, sealed_secret, created_at";

/// Adds an access key and its secret, which the caller has sealed.
pub async fn insert(tx: &mut Tx, key: &AccessKey, sealed_secret: &[u8]) -> Result<()> {
    let query = sql("INSERT INTO access_keys (access_key, user_id, project, description, sealed_secret, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)")
    .bind(&*key.access_key)
    .bind(key.user.to_string())
    .bind(key.project.to_string())
    .bind(&*key.description)
    .bind(sealed_secret)
    .bind(micros(key.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns an access key and its sealed secret.
pub async fn get(tx: &mut Tx, access_key: &str) -> Result<Option<(AccessKey, Vec<u8>)>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM access_keys WHERE access_key = $1"));
    let row = tx.row(query.bind(access_key)).await?;
    row.map(|row| Ok((key(&row)?, row.field("sealed_secret")?))).transpose()
}

/// Returns the access keys of a user, oldest first.
pub async fn list(tx: &mut Tx, user: UserId) -> Result<Vec<AccessKey>> {
    let query =
        sql_text(format!("SELECT {COLUMNS} FROM access_keys WHERE user_id = $1 ORDER BY created_at, access_key"));
    tx.rows(query.bind(user.to_string())).await?.iter().map(key).collect()
}

/// Removes an access key; returns whether it existed.
pub async fn delete(tx: &mut Tx, access_key: &str) -> Result<bool> {
    tx.changed(sql("DELETE FROM access_keys WHERE access_key = $1").bind(access_key)).await
}

fn key(row: &AnyRow) -> Result<AccessKey> {
    Ok(AccessKey {
        access_key: row.field("access_key")?,
        user: row.parsed("user_id")?,
        project: row.parsed("project")?,
        description: row.field("description")?,
        created_at: row.time("created_at")?,
    })
}
