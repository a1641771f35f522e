//! Rows of users, with the hash of their password.

use model::identity::User;
use model::{DomainId, UserId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "id, domain, name, enabled, created_at";

/// Adds a user. A name that is taken in its domain is a conflict.
pub async fn insert(tx: &mut Tx, user: &User, password_hash: &str) -> Result<()> {
    let query =
        sql("INSERT INTO users (id, domain, name, enabled, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(user.id.to_string())
            .bind(user.domain.to_string())
            .bind(&*user.name)
            .bind(i64::from(user.enabled))
            .bind(password_hash)
            .bind(micros(user.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the user with this id.
pub async fn get(tx: &mut Tx, id: UserId) -> Result<Option<User>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM users WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(user).transpose()
}

/// Returns the user with this name in a domain.
pub async fn by_name(tx: &mut Tx, domain: DomainId, name: &str) -> Result<Option<User>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM users WHERE domain = $1 AND name = $2"));
    tx.row(query.bind(domain.to_string()).bind(name)).await?.as_ref().map(user).transpose()
}

/// Returns the hash of a user's password.
pub async fn password_hash(tx: &mut Tx, id: UserId) -> Result<Option<String>> {
    let query = sql("SELECT password_hash FROM users WHERE id = $1");
    tx.row(query.bind(id.to_string())).await?.map(|row| row.field("password_hash")).transpose()
}

/// Replaces the hash of a user's password; returns whether the user exists.
pub async fn set_password_hash(tx: &mut Tx, id: UserId, password_hash: &str) -> Result<bool> {
    let query = sql("UPDATE users SET password_hash = $2 WHERE id = $1");
    tx.changed(query.bind(id.to_string()).bind(password_hash)).await
}

/// Lets a user in or keeps it out; returns whether the user exists.
pub async fn set_enabled(tx: &mut Tx, id: UserId, enabled: bool) -> Result<bool> {
    let query = sql("UPDATE users SET enabled = $2 WHERE id = $1");
    tx.changed(query.bind(id.to_string()).bind(i64::from(enabled))).await
}

/// Returns all users, by name.
pub async fn list(tx: &mut Tx) -> Result<Vec<User>> {
    tx.rows(sql_text(format!("SELECT {COLUMNS} FROM users ORDER BY name, id"))).await?.iter().map(user).collect()
}

/// Removes a user with its roles, tokens and access keys; returns whether it existed.
pub async fn delete(tx: &mut Tx, id: UserId) -> Result<bool> {
    tx.changed(sql("DELETE FROM users WHERE id = $1").bind(id.to_string())).await
}

pub(crate) fn user(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: row.parsed("id")?,
        domain: row.parsed("domain")?,
        name: row.field("name")?,
        enabled: row.flag("enabled")?,
        created_at: row.time("created_at")?,
    })
}
