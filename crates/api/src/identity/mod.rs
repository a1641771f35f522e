//! Identity as OpenStack Keystone v3 speaks it: tokens, and who and what there is to have them for.

mod error;
mod projects;
mod tokens;
mod wire;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::{ApiState, auth};
use error::Failure;

pub(crate) fn router(state: ApiState) -> Router {
    let signed_in = Router::new()
        .route("/v3/projects", get(projects::list))
        .route("/v3/projects/{id}", get(projects::show))
        .route("/v3/users/{id}", get(projects::show_user))
        .route("/v3/users/{id}/projects", get(projects::list_of_user))
        .route("/v3/domains", get(projects::domains))
        .route("/v3/domains/{id}", get(projects::show_domain))
        .route("/v3/auth/domains", get(projects::domains))
        .route_layer(from_fn_with_state(state.clone(), guard));
    Router::new()
        .route("/v3", get(version))
        .route("/v3/", get(version))
        .route("/v3/auth/tokens", get(tokens::show).post(tokens::create).delete(tokens::delete))
        // A token that is not scoped yet may ask these two, to find out what for.
        .route("/v3/auth/projects", get(tokens::projects))
        .route("/v3/auth/catalog", get(tokens::catalog))
        .merge(signed_in)
        .method_not_allowed_fallback(error::method_not_allowed)
        .with_state(state)
}

async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Result<Response, Failure> {
    Ok(next.run(auth::authenticate(&state, request).await?).await)
}

async fn version(State(state): State<ApiState>) -> Json<Value> {
    Json(json!({"version": {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/v3/", state.endpoints.api)}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }}))
}
