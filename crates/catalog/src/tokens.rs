//! Rows of tokens: only their hash is kept, so that a stolen catalog lets nobody in.

use model::{ProjectId, Timestamp, UserId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros, text_option};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
const COLUMNS: &str = "hash, user_id, project, methods, audit_id, issued_at, expires_at";

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Hash of the token that its bearer shows.
    pub hash: [u8; 32],
    /// The user it acts for.
    pub user: UserId,
    /// The project it acts in; none for a token that only says who somebody is.
    pub project: Option<ProjectId>,
    /// How the user proved who it is, in the service's own notation.
    pub methods: String,
    /// A name for the token that may be logged.
    pub audit_id: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// Adds a token.
pub async fn insert(tx: &mut Tx, token: &TokenRow) -> Result<()> {
    let query = sql("INSERT INTO tokens (hash, user_id, project, methods, audit_id, issued_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)")
    .bind(token.hash.to_vec())
    .bind(token.user.to_string())
    .bind(text_option(token.project))
    .bind(&*token.methods)
    .bind(&*token.audit_id)
    .bind(micros(token.issued_at))
    .bind(micros(token.expires_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the token with this hash, expired or not.
pub async fn get(tx: &mut Tx, hash: &[u8; 32]) -> Result<Option<TokenRow>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM tokens WHERE hash = $1"));
    tx.row(query.bind(hash.to_vec())).await?.as_ref().map(token).transpose()
}

/// Revokes a token; returns whether it existed.
pub async fn delete(tx: &mut Tx, hash: &[u8; 32]) -> Result<bool> {
    tx.changed(sql("DELETE FROM tokens WHERE hash = $1").bind(hash.to_vec())).await
}

/// Revokes all tokens of a user; returns how many there were.
pub async fn delete_of_user(tx: &mut Tx, user: UserId) -> Result<u64> {
    tx.execute(sql("DELETE FROM tokens WHERE user_id = $1").bind(user.to_string())).await
}

/// Removes the tokens that expired at `now` or before; returns how many there were.
pub async fn delete_expired(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    tx.execute(sql("DELETE FROM tokens WHERE expires_at <= $1").bind(micros(now))).await
}

fn token(row: &AnyRow) -> Result<TokenRow> {
    Ok(TokenRow {
        hash: row.bytes("hash")?,
        user: row.parsed("user_id")?,
        project: row.parsed_option("project")?,
        methods: row.field("methods")?,
        audit_id: row.field("audit_id")?,
        issued_at: row.time("issued_at")?,
        expires_at: row.time("expires_at")?,
    })
}
