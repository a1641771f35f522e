//! Images as OpenStack Glance v2 speaks of them.

mod data;
mod error;
mod images;
mod info;
mod members;
mod patch;
mod path;
mod query;
mod report;
mod schemas;
mod tags;
mod versions;
mod wire;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};

use crate::{ApiState, auth};
use error::Failure;

pub(crate) fn router(state: ApiState) -> Router {
    let signed_in = Router::new()
        .route("/v2", get(versions::choices))
        .route("/v2/", get(versions::choices))
        .route("/v2/images", get(images::list).post(images::create))
        .route("/v2/images/{id}", get(images::show).patch(images::update).delete(images::delete))
        .route("/v2/images/{id}/file", get(data::download).put(data::upload))
        .route("/v2/images/{id}/tags/{tag}", put(tags::add).delete(tags::remove))
        .route("/v2/images/{id}/molde/report", get(report::show))
        .route("/v2/images/{id}/members", get(members::list).post(members::create))
        .route("/v2/images/{id}/members/{member}", get(members::absent).put(members::absent).delete(members::absent))
        .route("/v2/schemas/{name}", get(schemas::show))
        .route("/v2/info/import", get(info::import))
        .route("/v2/info/stores", get(info::stores))
        .route_layer(from_fn_with_state(state.clone(), guard));
    Router::new()
        .route("/", get(versions::choices))
        .route("/versions", get(versions::list))
        .merge(signed_in)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(from_fn(error::write_failures))
        .with_state(state)
}

async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match auth::authenticate(&state, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => {
            let mut response = Failure::from(error).into_response();
            if response.status() == StatusCode::UNAUTHORIZED
                && let Ok(challenge) = HeaderValue::from_str(&format!("Keystone uri=\"{}/v3\"", state.endpoints.api))
            {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        }
    }
}
