//! Rows of identity domains.

use model::DomainId;
use model::identity::Domain;
use sqlx::any::AnyRow;

use crate::fields::Fields as _;
use crate::statement::sql;
use crate::{Result, Tx};

/// Adds a domain. A name that is taken is a conflict.
pub async fn insert(tx: &mut Tx, domain: &Domain) -> Result<()> {
    let query = sql("INSERT INTO domains (id, name) VALUES ($1, $2)");
    tx.execute(query.bind(domain.id.to_string()).bind(&*domain.name)).await?;
    Ok(())
}

/// Returns the domain with this id.
pub async fn get(tx: &mut Tx, id: DomainId) -> Result<Option<Domain>> {
    let query = sql("SELECT id, name FROM domains WHERE id = $1");
    tx.row(query.bind(id.to_string())).await?.as_ref().map(domain).transpose()
}

/// Returns the domain with this name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<Domain>> {
    let query = sql("SELECT id, name FROM domains WHERE name = $1");
    tx.row(query.bind(name)).await?.as_ref().map(domain).transpose()
}

fn domain(row: &AnyRow) -> Result<Domain> {
    Ok(Domain { id: row.parsed("id")?, name: row.field("name")? })
}
