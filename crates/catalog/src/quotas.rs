//! Rows of quotas, and of what projects use. What they use is counted by `Tx`, in the transaction that changes the rows.

use model::ProjectId;
use model::quotas::{Quota, Resource};

use crate::fields::{Fields as _, size_option};
use crate::statement::{sql, sql_text};
use crate::{Result, Tx};

/// Returns a project's quotas, one for each resource.
pub async fn list(tx: &mut Tx, project: ProjectId) -> Result<Vec<Quota>> {
    let id = project.to_string();
    let limits = tx.row(sql("SELECT stored_bytes, objects, images FROM quotas WHERE project = $1").bind(&*id)).await?;
    let usage = tx.row(sql("SELECT stored_bytes, objects, images FROM usage WHERE project = $1").bind(&*id)).await?;
    let quota = |&resource: &Resource| {
        Ok(Quota {
            resource,
            limit: limits.as_ref().map_or(Ok(None), |row| row.number_option(resource.as_str()))?,
            used: usage.as_ref().map_or(Ok(0), |row| row.number(resource.as_str()))?,
        })
    };
    Resource::ALL.iter().map(quota).collect()
}

/// Sets how much a project may have of a resource, or lifts the limit; other limits stay. What is there stays as well.
pub async fn set(tx: &mut Tx, project: ProjectId, resource: Resource, limit: Option<u64>) -> Result<()> {
    let column = resource.as_str();
    let text = format!(
        "INSERT INTO quotas (project, {column}) VALUES ($1, $2) \
         ON CONFLICT (project) DO UPDATE SET {column} = excluded.{column}"
    );
    tx.execute(sql_text(text).bind(project.to_string()).bind(size_option(limit)?)).await?;
    Ok(())
}

/// Counts from all rows how much a project has of a resource (slow): what [`list`] says, unless there is a fault.
pub async fn recount(tx: &mut Tx, project: ProjectId, resource: Resource) -> Result<u64> {
    let query = match resource {
        Resource::StoredBytes => {
            sql("SELECT CAST(COALESCE(SUM(stored), 0) AS BIGINT) AS used FROM chunks WHERE domain = $1")
                .bind(project.uuid().as_bytes().to_vec())
        }
        Resource::Objects => sql("SELECT COUNT(*) AS used FROM objects JOIN buckets ON buckets.id = objects.bucket \
             WHERE buckets.project = $1")
        .bind(project.to_string()),
        Resource::Images => sql("SELECT COUNT(*) AS used FROM images WHERE project = $1").bind(project.to_string()),
    };
    tx.row(query).await?.map_or(Ok(0), |row| row.number("used"))
}
