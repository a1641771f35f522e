//! What each protocol says: one folder per dialect, and the listener that they share.
//!
//! A handler parses, calls one verb of `service`, renders. Wire types live in their dialect's folder and are
//! converted by hand, so that the words inside stay free to change. No dialect imports another.
//!
//! ```text
//!   listener -> server (request id, span, panic -> 500) -> dialect router -> auth -> handler -> service verb
//! ```
//! Not here: who may do what (`service`), and any decision about a state.
#![forbid(unsafe_code)]

pub mod auth;
mod body;
mod failure;
pub mod glance;
pub mod identity;
pub mod ims;
pub mod native;
pub mod s3;
mod server;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use service::Service;

pub use server::serve;

/// What every handler can reach.
#[derive(Clone)]
pub struct ApiState {
    /// The verbs.
    pub service: Service,
    /// Where clients find this server.
    pub endpoints: Arc<Endpoints>,
}

/// Addresses as they are told to clients: absolute URLs without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The REST dialects, for example `http://127.0.0.1:9292`.
    pub api: String,
    /// The S3 dialect, for example `http://127.0.0.1:9000`.
    pub s3: String,
    /// Exports over NBD: the URI of the one without a name, for example `nbds://192.0.2.1:10809/` or
    /// `nbd+unix:///?socket=/var/lib/molde/nbd.sock`.
    pub nbd: String,
}

/// Returns the router of all REST dialects and `GET /healthz`.
pub fn rest(service: Service, endpoints: Endpoints) -> Router {
    let state = ApiState { service, endpoints: Arc::new(endpoints) };
    Router::new()
        .route("/healthz", get(health))
        .with_state(state.clone())
        .merge(identity::router(state.clone()))
        .merge(glance::router(state.clone()))
        .merge(ims::router(state.clone()))
        .merge(native::router(state))
        .fallback(no_such_path)
}

async fn health(State(state): State<ApiState>) -> Response {
    if state.service.healthy().await {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the catalog does not answer\n").into_response()
}

async fn no_such_path() -> Response {
    let message = "no such path; `GET /` lists the image API, `GET /v3` the identity API";
    let body = serde_json::json!({"error": {"code": 404, "title": "Not Found", "message": message}});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}
