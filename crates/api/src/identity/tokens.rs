//! `/v3/auth/tokens`: sign in, look at a token, end it; and what a token that is not scoped may ask.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::identity::Role;
use serde_json::{Value, json};
use service::{Error, ErrorKind, Token};

use super::error::Failure;
use super::wire::{self, SignIn};
use crate::{ApiState, auth, body};

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");

pub(super) async fn create(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    request: Body,
) -> Result<Response, Failure> {
    let (credentials, scope) = body::json::<SignIn>(request).await.map_err(hide_values)?.into_parts()?;
    let issued = state.service.identity().sign_in(credentials, scope).await?;
    let value = HeaderValue::from_str(&issued.secret)
        .map_err(|error| Error::internal("the token does not fit into a header", error))?;
    Ok(describe(&state, StatusCode::CREATED, &issued.token, value, query.as_deref()))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (secret, token) = subject(&state, &headers).await?;
    let value = HeaderValue::from_str(secret).map_err(|_| no_such_token())?;
    Ok(describe(&state, StatusCode::OK, &token, value, query.as_deref()))
}

pub(super) async fn delete(State(state): State<ApiState>, headers: HeaderMap) -> Result<StatusCode, Failure> {
    let (secret, _) = subject(&state, &headers).await?;
    state.service.identity().revoke(secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn projects(State(state): State<ApiState>, headers: HeaderMap) -> Result<Json<Value>, Failure> {
    let holder = holder(&state, &headers).await?;
    let api = &state.endpoints.api;
    let projects = state.service.identity().projects_of_user(&holder.user).await?;
    let items: Vec<_> = projects.iter().map(|project| wire::project(project, api)).collect();
    Ok(Json(wire::listing("projects", &items, &format!("{api}/v3/auth/projects"))))
}

pub(super) async fn catalog(State(state): State<ApiState>, headers: HeaderMap) -> Result<Json<Value>, Failure> {
    holder(&state, &headers).await?;
    let catalog = wire::catalog(&state.endpoints, &state.service.settings().region);
    let url = format!("{}/v3/auth/catalog", state.endpoints.api);
    Ok(Json(json!({"catalog": catalog, "links": {"self": url, "next": null, "previous": null}})))
}

/// What is wrong with a value is told by showing the value, and that may be a password.
fn hide_values(error: Error) -> Error {
    if error.kind() != ErrorKind::Invalid {
        return error;
    }
    Error::invalid("the body is no JSON of a sign-in").with_hint("see `POST /v3/auth/tokens` of the Keystone v3 API")
}

/// Returns the token that the request is made with, scoped or not.
async fn holder(state: &ApiState, headers: &HeaderMap) -> Result<Token, Error> {
    let missing = || Error::new(ErrorKind::Unauthorized, "this request needs a token in X-Auth-Token");
    let secret = auth::token(headers, "x-auth-token")?.ok_or_else(missing)?;
    state.service.identity().token(secret).await
}

/// Returns the token that the request is about: one's own, one of the same user, or any for an administrator.
async fn subject<'h>(state: &ApiState, headers: &'h HeaderMap) -> Result<(&'h str, Token), Error> {
    let holder = holder(state, headers).await?;
    let missing = || Error::invalid("the token to look at belongs in X-Subject-Token");
    let secret = auth::token(headers, "x-subject-token")?.ok_or_else(missing)?;
    let absent = |error: Error| if error.kind() == ErrorKind::Unauthorized { no_such_token() } else { error };
    let token = state.service.identity().token(secret).await.map_err(absent)?;
    if token.user.id == holder.user.id || holder.roles.contains(&Role::Admin) {
        return Ok((secret, token));
    }
    Err(no_such_token())
}

fn no_such_token() -> Error {
    Error::not_found("token", "like the one in X-Subject-Token")
}

fn describe(state: &ApiState, status: StatusCode, token: &Token, secret: HeaderValue, query: Option<&str>) -> Response {
    let with_catalog =
        !query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("nocatalog")));
    let body = wire::token(token, &state.endpoints, &state.service.settings().region, with_catalog);
    let headers = [(SUBJECT, secret), (header::VARY, HeaderValue::from_static("X-Auth-Token"))];
    (status, headers, Json(body)).into_response()
}
