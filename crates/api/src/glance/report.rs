//! `GET /v2/images/{id}/molde/report`: what was found inside an image and done about it. Glance has no such path.

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::error::Failure;
use super::path::ImagePath;
use crate::ApiState;
use crate::auth::Caller;

pub(super) async fn show(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
) -> Result<Json<Value>, Failure> {
    Ok(Json(state.service.images().report(&who, id).await?))
}
