//! Objects: what is inside the disk in a file of a bucket, and what is the matter with it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use service::Result;

use super::error::Failure;
use super::wire;
use crate::ApiState;
use crate::auth::Caller;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    bucket: String,
    key: String,
}

pub(super) async fn inspect(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let Named { bucket, key } = wire::json(body).await?;
    Ok(Json(state.service.objects().inspect(&who, &bucket, &key).await?.to_json()))
}

pub(super) async fn check(
    State(state): State<ApiState>,
    Caller(who): Caller,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let Named { bucket, key } = wire::json(body).await?;
    Ok(Json(state.service.objects().check(&who, &bucket, &key).await?.to_json()))
}
