//! Quotas: what a project may have and has; the limits are set by administrators.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use model::ProjectId;
use model::quotas::{Quota, Resource};
use serde_json::{Value, json};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

/// Tells the caller's own project's quotas.
pub(super) async fn own(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let quotas = state.service.quotas().get(&who, who.project.id).await?;
    Ok(Json(told(who.project.id, &quotas)))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let project = wire::parse(&id)?;
    let quotas = state.service.quotas().get(&who, project).await?;
    Ok(Json(told(project, &quotas)))
}

/// Sets the limits that the body names: a number, or null for none.
pub(super) async fn set(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let project = wire::parse(&id)?;
    let named: BTreeMap<String, Option<u64>> = wire::json(body).await?;
    let limits = named.into_iter().map(|(name, limit)| Ok((wire::parse::<Resource>(&name)?, limit)));
    let limits = limits.collect::<service::Result<BTreeMap<_, _>>>()?;
    let quotas = state.service.quotas().set(&who, project, &limits).await?;
    Ok(Json(told(project, &quotas)))
}

fn told(project: ProjectId, quotas: &[Quota]) -> Value {
    let mut told = json!({"project": project.to_string()});
    for quota in quotas {
        told[quota.resource.as_str()] = json!({"limit": quota.limit, "used": quota.used, "left": quota.left()});
    }
    json!({ "quota": told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_shown_as_written() {
        let project = ProjectId::new();
        let quotas = [
            Quota { resource: Resource::StoredBytes, limit: Some(100), used: 120 },
            Quota { resource: Resource::Objects, limit: None, used: 7 },
            Quota { resource: Resource::Images, limit: Some(5), used: 2 },
        ];
        let expect = json!({"quota": {
            "project": project.to_string(),
            "stored_bytes": {"limit": 100, "used": 120, "left": 0},
            "objects": {"limit": null, "used": 7, "left": null},
            "images": {"limit": 5, "used": 2, "left": 3},
        }});
        assert_eq!(told(project, &quotas), expect);
    }
}
