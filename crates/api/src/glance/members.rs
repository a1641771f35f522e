//! Members of an image: the projects it is shared with. An image has none so far, as no verb adds one.

use axum::Json;
use axum::extract::State;
use model::images::Visibility;
use serde_json::{Value, json};
use service::{Error, ErrorKind};

use super::error::Failure;
use super::path::{ImagePath, ImageWordPath};
use crate::ApiState;
use crate::auth::Caller;

pub(super) async fn list(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
) -> Result<Json<Value>, Failure> {
    let image = state.service.images().get(&who, id).await?;
    if image.visibility != Visibility::Shared {
        let message = format!("only an image of visibility `shared` has members, this one is `{}`", image.visibility);
        return Err(Error::new(ErrorKind::Forbidden, message).into());
    }
    Ok(Json(json!({"members": [], "schema": "/v2/schemas/members"})))
}

pub(super) async fn create(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
) -> Result<Json<Value>, Failure> {
    state.service.images().get(&who, id).await?;
    let error = Error::new(ErrorKind::Forbidden, "this server does not share images with single projects");
    Err(error.with_hint("visibility `public` or `community` shows the image to everybody").into())
}

pub(super) async fn absent(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImageWordPath(id, member): ImageWordPath,
) -> Result<Json<Value>, Failure> {
    state.service.images().get(&who, id).await?;
    let member: String = member.chars().take(64).collect();
    Err(Error::not_found("member", format_args!("`{member}` of image {id}")).into())
}
