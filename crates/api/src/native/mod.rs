//! Molde's own API, `/molde/v1`: what the other dialects have no words for. The CLI and the console use it.

mod error;
mod exports;
mod identity;
mod images;
mod jobs;
mod objects;
mod quotas;
mod servers;
mod store;
mod transfer;
mod wire;

use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use service::Error;

use self::error::Failure;
use crate::{ApiState, auth};

pub(crate) fn router(state: ApiState) -> Router {
    let signed_in = Router::new()
        .route("/molde/v1/images", post(images::create))
        .route("/molde/v1/images/{id}/export", post(images::export))
        .route("/molde/v1/images/{id}/inspect", get(images::inspect))
        .route("/molde/v1/images/{id}/check", get(images::check))
        .route("/molde/v1/images/{id}/report", get(images::report))
        .route("/molde/v1/images/{id}/prepare", post(images::prepare))
        .route("/molde/v1/images/{id}/undo-prepare", post(images::undo_prepare))
        .route("/molde/v1/images/{id}/chunks", get(transfer::image_chunks))
        .route("/molde/v1/objects/inspect", post(objects::inspect))
        .route("/molde/v1/objects/check", post(objects::check))
        .route("/molde/v1/jobs", get(jobs::list))
        .route("/molde/v1/jobs/{id}", get(jobs::show))
        .route("/molde/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/molde/v1/jobs/{id}/log", get(jobs::log))
        .route("/molde/v1/servers", get(servers::list).post(servers::create))
        .route("/molde/v1/servers/{id}", get(servers::show).delete(servers::delete))
        .route("/molde/v1/servers/{id}/start", post(servers::start))
        .route("/molde/v1/servers/{id}/stop", post(servers::stop))
        .route("/molde/v1/servers/{id}/console", get(servers::console))
        .route("/molde/v1/flavors", get(servers::flavors))
        .route("/molde/v1/exports", get(exports::list).post(exports::open))
        .route("/molde/v1/exports/{id}", delete(exports::close))
        .route("/molde/v1/projects", get(identity::projects).post(identity::create_project))
        .route("/molde/v1/projects/{id}", delete(identity::delete_project))
        .route("/molde/v1/quota", get(quotas::own))
        .route("/molde/v1/projects/{id}/quota", get(quotas::show).put(quotas::set))
        .route("/molde/v1/users", get(identity::users).post(identity::create_user))
        .route("/molde/v1/users/{id}", delete(identity::delete_user))
        .route("/molde/v1/projects/{project}/users/{user}/roles/{role}", put(identity::grant).delete(identity::revoke))
        .route("/molde/v1/access-keys", get(identity::access_keys).post(identity::create_access_key))
        .route("/molde/v1/access-keys/{key}", delete(identity::delete_access_key))
        .route("/molde/v1/store", get(store::show))
        .route("/molde/v1/store/collect", post(store::collect))
        .route("/molde/v1/store/clear-alarm", post(store::clear_alarm))
        .route("/molde/v1/store/stats", get(store::stats))
        .route("/molde/v1/store/verify", post(store::verify))
        .route("/molde/v1/store/rebuild", post(store::rebuild))
        .route("/molde/v1/transfer", get(transfer::terms))
        .route("/molde/v1/transfer/offer", post(transfer::offer))
        .route("/molde/v1/transfer/parts/{number}", put(transfer::put_part))
        .route("/molde/v1/transfer/images/{id}", put(transfer::put_image))
        .route_layer(from_fn_with_state(state.clone(), guard));
    Router::new()
        .route("/molde/v1", get(about))
        .route("/molde/v1/{*rest}", axum::routing::any(no_such_path))
        .merge(signed_in)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Result<Response, Failure> {
    Ok(next.run(auth::authenticate(&state, request).await?).await)
}

/// Tells what server this is and where its other doors are.
async fn about(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "region": state.service.settings().region,
        "api": state.endpoints.api,
        "s3": state.endpoints.s3,
    }))
}

async fn no_such_path(uri: Uri) -> Failure {
    Failure::from(Error::not_found("path", format_args!("`{}`", uri.path())))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Failure::method(format!("`{}` does not take {method}", uri.path()))
}
