//! Projects, users, roles and access keys.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::identity::{AccessKey, Project, User};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

type Created = (StatusCode, Json<Value>);

#[derive(Debug, Deserialize)]
struct NewProject {
    name: String,
}

#[derive(Deserialize)]
struct NewUser {
    name: String,
    password: String,
}

#[derive(Debug, Default, Deserialize)]
struct NewAccessKey {
    #[serde(default)]
    description: String,
}

pub(super) async fn projects(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let projects = state.service.identity().projects(&who).await?;
    Ok(Json(json!({"projects": projects.iter().map(project).collect::<Vec<_>>()})))
}

pub(super) async fn create_project(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Created, Failure> {
    let NewProject { name } = wire::json(body).await?;
    let made = state.service.identity().create_project(&who, &name).await?;
    Ok((StatusCode::CREATED, Json(json!({"project": project(&made)}))))
}

pub(super) async fn delete_project(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    state.service.identity().delete_project(&who, wire::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn users(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let users = state.service.identity().users(&who).await?;
    Ok(Json(json!({"users": users.iter().map(user).collect::<Vec<_>>()})))
}

pub(super) async fn create_user(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Created, Failure> {
    let NewUser { name, password } = wire::json(body).await?;
    let made = state.service.identity().create_user(&who, &name, &password).await?;
    Ok((StatusCode::CREATED, Json(json!({"user": user(&made)}))))
}

pub(super) async fn delete_user(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    state.service.identity().delete_user(&who, wire::parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn grant(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path((project, user, role)): Path<(String, String, String)>,
) -> Result<StatusCode, Failure> {
    let (user, project, role) = (wire::parse(&user)?, wire::parse(&project)?, wire::parse(&role)?);
    state.service.identity().grant(&who, user, project, role).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revoke(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path((project, user, role)): Path<(String, String, String)>,
) -> Result<StatusCode, Failure> {
    let (user, project, role) = (wire::parse(&user)?, wire::parse(&project)?, wire::parse(&role)?);
    state.service.identity().revoke_role(&who, user, project, role).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn access_keys(State(state): State<ApiState>, Caller(who): Caller) -> Result<Json<Value>, Failure> {
    let keys = state.service.identity().access_keys(&who).await?;
    Ok(Json(json!({"access_keys": keys.iter().map(access_key).collect::<Vec<_>>()})))
}

pub(super) async fn create_access_key(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Created, Failure> {
    let NewAccessKey { description } = wire::json_or_default(body).await?;
    let (made, secret) = state.service.identity().create_access_key(&who, &description).await?;
    let mut shown = access_key(&made);
    shown["secret_key"] = json!(secret);
    Ok((StatusCode::CREATED, Json(json!({"access_key": shown}))))
}

pub(super) async fn delete_access_key(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Path(key): Path<String>,
) -> Result<StatusCode, Failure> {
    state.service.identity().delete_access_key(&who, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn project(project: &Project) -> Value {
    json!({
        "id": project.id.to_string(),
        "name": project.name,
        "domain": project.domain.to_string(),
        "enabled": project.enabled,
        "created_at": project.created_at.to_string(),
    })
}

fn user(user: &User) -> Value {
    json!({
        "id": user.id.to_string(),
        "name": user.name,
        "domain": user.domain.to_string(),
        "enabled": user.enabled,
        "created_at": user.created_at.to_string(),
    })
}

fn access_key(key: &AccessKey) -> Value {
    json!({
        "access_key": key.access_key,
        "user": key.user.to_string(),
        "project": key.project.to_string(),
        "description": key.description,
        "created_at": key.created_at.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use model::{ProjectId, UserId};

    use super::*;

    #[test]
    fn a_key_is_shown_without_its_secret() {
        let key = AccessKey {
            access_key: "AK".into(),
            user: UserId::new(),
            project: ProjectId::new(),
            description: "ci".into(),
            created_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        };
        let expect = json!({
            "access_key": "AK", "user": key.user.to_string(), "project": key.project.to_string(),
            "description": "ci", "created_at": "2026-11-22T10:00:00Z",
        });
        assert_eq!(access_key(&key), expect);
    }
}
