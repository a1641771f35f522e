//! IMS: images as the Huawei Cloud SDKs speak of them (v1, v2 and v2.1 of the Image Management Service).
//!
//! Paths below `/v2/images` are Glance's and are served there. An image made here is private and carries the
//! attributes that these clients look for as plain properties (`__os_type`, `virtual_env_type`, ...), so that every
//! dialect can filter by them; what follows from the record itself (`__imagetype`, `__image_size`, ...) is computed.

mod create;
mod error;
mod export;
mod image;
mod jobs;
mod list;
mod patch;
mod quota;
mod wire;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, patch, post};

use self::error::{Asked, Failure};
use crate::{ApiState, auth};

pub(crate) fn router(state: ApiState) -> Router {
    Router::new()
        .route("/v2/cloudimages", get(list::list))
        .route("/v2/cloudimages/action", post(create::create))
        .route("/v2.1/cloudimages/action", post(create::create))
        .route("/v2/cloudimages/{id}", patch(patch::update))
        .route("/v1/cloudimages/{id}/file", post(export::export))
        .route("/v2.1/cloudimages/{id}/file", post(export::export))
        .route("/v1/cloudimages/quota", get(quota::show))
        .route("/v1/cloudimages/job/{id}", get(jobs::progress))
        .route("/v1/{project}/jobs/{id}", get(jobs::show))
        .route_layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Result<Response, Failure> {
    let request = auth::authenticate(&state, request).await.map_err(|error| Failure::of(&error, Asked::Other))?;
    Ok(next.run(request).await)
}
