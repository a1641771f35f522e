//! `/v3/projects`, `/v3/users`, `/v3/domains`: what the caller may know of, to turn names into ids.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::{Extension, Json};
use model::identity::{Domain, Principal, Project};
use model::{DomainId, UserId};
use serde_json::{Value, json};
use service::Error;

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::{Caller, Scheme};

/// Extractor of `{id}`.
pub(super) struct IdPath(String);

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let absent =
            |rejection: PathRejection| Error::not_found("path", "can be other than UTF-8").caused_by(rejection);
        let Path(id) = Path::from_request_parts(parts, state).await.map_err(absent)?;
        Ok(Self(id))
    }
}

/// Filters of a listing, by name; unknown ones are ignored, as Keystone does.
type Filter = BTreeMap<String, String>;

pub(super) async fn list(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Extension(scheme): Extension<Scheme>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Failure> {
    // Huawei's SDKs look for the one project that is named like the region, to sign for it: that is the key's own.
    let wants_region = filter.get("name") == Some(&state.service.settings().region);
    let projects = if scheme == Scheme::Signature && wants_region {
        vec![who.project]
    } else {
        let mut projects = state.service.identity().projects(&who).await?;
        projects.retain(|project| matches(&filter, &project.name, project.domain));
        projects
    };
    Ok(Json(render(&projects, &state.endpoints.api, "projects")))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    IdPath(id): IdPath,
) -> Result<Json<Value>, Failure> {
    // Clients try names as ids before they search by name.
    let wanted = id.parse().map_err(|_| Error::not_found("project", format_args!("with the id `{id}`")))?;
    let project = state.service.identity().project(&who, wanted).await?;
    Ok(Json(json!({"project": wire::project(&project, &state.endpoints.api)})))
}

pub(super) async fn show_user(
    State(state): State<ApiState>,
    Caller(who): Caller,
    IdPath(id): IdPath,
) -> Result<Json<Value>, Failure> {
    let user = state.service.identity().user(&who, user_id(&id)?).await?;
    Ok(Json(json!({"user": wire::user(&user, &state.endpoints.api)})))
}

pub(super) async fn list_of_user(
    State(state): State<ApiState>,
    Caller(who): Caller,
    IdPath(id): IdPath,
) -> Result<Json<Value>, Failure> {
    let identity = state.service.identity();
    let user = identity.user(&who, user_id(&id)?).await?;
    let projects = identity.projects_of_user(&user).await?;
    Ok(Json(render(&projects, &state.endpoints.api, &format!("users/{}/projects", user.id))))
}

/// Lists the caller's domains: that of its user and that of its project.
pub(super) async fn domains(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Failure> {
    let mut domains = known_domains(&state, &who).await?;
    domains.retain(|domain| filter.get("name").is_none_or(|name| *name == domain.name));
    let api = &state.endpoints.api;
    let items: Vec<_> = domains.iter().map(|domain| wire::domain(domain, api)).collect();
    Ok(Json(wire::listing("domains", &items, &format!("{api}/v3/domains"))))
}

pub(super) async fn show_domain(
    State(state): State<ApiState>,
    Caller(who): Caller,
    IdPath(id): IdPath,
) -> Result<Json<Value>, Failure> {
    let absent = || Error::not_found("domain", format_args!("with the id `{id}`"));
    let wanted: DomainId = id.parse().map_err(|_| absent())?;
    let known = known_domains(&state, &who).await?;
    let domain = known.iter().find(|domain| domain.id == wanted).ok_or_else(absent)?;
    Ok(Json(json!({"domain": wire::domain(domain, &state.endpoints.api)})))
}

async fn known_domains(state: &ApiState, who: &Principal) -> Result<Vec<Domain>, Error> {
    let mut domains = vec![state.service.identity().domain(who.user.domain).await?];
    if who.project.domain != who.user.domain {
        domains.push(state.service.identity().domain(who.project.domain).await?);
    }
    Ok(domains)
}

fn user_id(id: &str) -> Result<UserId, Error> {
    id.parse().map_err(|_| Error::not_found("user", format_args!("with the id `{id}`")))
}

fn matches(filter: &Filter, name: &str, domain: DomainId) -> bool {
    let same_domain = |wanted: &String| wanted.parse() == Ok::<DomainId, _>(domain);
    filter.get("name").is_none_or(|wanted| wanted == name) && filter.get("domain_id").is_none_or(same_domain)
}

fn render(projects: &[Project], api: &str, path: &str) -> Value {
    let items: Vec<_> = projects.iter().map(|project| wire::project(project, api)).collect();
    wire::listing("projects", &items, &format!("{api}/v3/{path}"))
}
