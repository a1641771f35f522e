//! `/v2/images` and `/v2/images/{id}`: the records of images.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use model::images::Visibility;
use serde_json::{Map, Value, json};

use super::error::Failure;
use super::patch::{self, Version};
use super::path::ImagePath;
use super::query::Listing;
use super::wire;
use crate::auth::{Caller, Scheme};
use crate::{ApiState, body};

pub(super) async fn create(
    State(state): State<ApiState>,
    Caller(who): Caller,
    Extension(scheme): Extension<Scheme>,
    request: Body,
) -> Result<Response, Failure> {
    let fields: Map<String, Value> = body::json(request).await?;
    // The two dialects share this path and differ in this default.
    let visibility = match scheme {
        Scheme::Token => Visibility::Shared,
        Scheme::Signature => Visibility::Private,
    };
    let new = wire::new_image(fields, who.project.id, visibility)?;
    let image = state.service.images().create(&who, new).await?;
    let mut response = (StatusCode::CREATED, Json(wire::image(&image))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("{}/v2/images/{}", state.endpoints.api, image.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn list(
    State(state): State<ApiState>,
    Caller(who): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let mut listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let mut images = if listing.nothing {
        Vec::new()
    } else {
        state.service.images().list(&who, std::mem::take(&mut listing.filter)).await?
    };
    let more = images.len() > listing.limit;
    images.truncate(listing.limit);
    let items: Vec<_> = images.iter().map(wire::image).collect();
    let mut page = json!({"images": items, "first": listing.first(), "schema": "/v2/schemas/images"});
    if let Some(last) = images.last().filter(|_| more) {
        page["next"] = json!(listing.next(last.id));
    }
    Ok(Json(page))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
) -> Result<Json<Value>, Failure> {
    Ok(Json(wire::image(&state.service.images().get(&who, id).await?)))
}

pub(super) async fn update(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<Value>, Failure> {
    let version = Version::of(&media_type(&headers)).ok_or(Failure::PatchType)?;
    let steps = patch::parse(version, body::json(request).await?)?;
    let images = state.service.images();
    let change = patch::apply(&images.get(&who, id).await?, steps)?;
    Ok(Json(wire::image(&images.update(&who, id, change).await?)))
}

/// A body, such as Huawei's `{"delete_backup": ...}`, is ignored: there are no backups behind an image.
pub(super) async fn delete(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
) -> Result<StatusCode, Failure> {
    state.service.images().delete(&who, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the media type of a body in lower case, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
