//! Rows of projects.

use model::identity::Project;
use model::{DomainId, ProjectId};
use sqlx::any::AnyRow;

use crate::fields::{Fields as _, micros};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// What a record is made of, by name: a newer release may have added columns.
pub(crate) const COLUMNS: &str = "id, domain, name, enabled, created_at";

/// Adds a project. A name that is taken in its domain is a conflict.
pub async fn insert(tx: &mut Tx, project: &Project) -> Result<()> {
    let query = sql("INSERT INTO projects (id, domain, name, enabled, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(project.id.to_string())
        .bind(project.domain.to_string())
        .bind(&*project.name)
        .bind(i64::from(project.enabled))
        .bind(micros(project.created_at));
    tx.execute(query).await?;
    Ok(())
}

/// Returns the project with this id.
pub async fn get(tx: &mut Tx, id: ProjectId) -> Result<Option<Project>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM projects WHERE id = $1"));
    tx.row(query.bind(id.to_string())).await?.as_ref().map(project).transpose()
}

/// Returns the project with this name in a domain.
pub async fn by_name(tx: &mut Tx, domain: DomainId, name: &str) -> Result<Option<Project>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM projects WHERE domain = $1 AND name = $2"));
    tx.row(query.bind(domain.to_string()).bind(name)).await?.as_ref().map(project).transpose()
}

/// Returns all projects, by name.
pub async fn list(tx: &mut Tx) -> Result<Vec<Project>> {
    tx.rows(sql_text(format!("SELECT {COLUMNS} FROM projects ORDER BY name, id"))).await?.iter().map(project).collect()
}

/// Returns the projects of all domains that have this name.
pub async fn list_named(tx: &mut Tx, name: &str) -> Result<Vec<Project>> {
    let query = sql_text(format!("SELECT {COLUMNS} FROM projects WHERE name = $1 ORDER BY id"));
    tx.rows(query.bind(name)).await?.iter().map(project).collect()
}

/// Opens or closes a project; returns whether it exists.
pub async fn update_enabled(tx: &mut Tx, id: ProjectId, enabled: bool) -> Result<bool> {
    let query = sql("UPDATE projects SET enabled = $2 WHERE id = $1");
    tx.changed(query.bind(id.to_string()).bind(i64::from(enabled))).await
}

/// Removes a project with its roles, tokens, access keys and past jobs; returns whether it existed.
///
/// A project that still owns an image, a bucket, a content or a server is a conflict.
pub async fn delete(tx: &mut Tx, id: ProjectId) -> Result<bool> {
    tx.changed(sql("DELETE FROM projects WHERE id = $1").bind(id.to_string())).await
}

pub(crate) fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: row.parsed("id")?,
        domain: row.parsed("domain")?,
        name: row.field("name")?,
        enabled: row.flag("enabled")?,
        created_at: row.time("created_at")?,
    })
}
