//! `/v2/info`: ways to import, and stores.

use axum::Json;
use serde_json::{Value, json};
use service::Error;

use super::error::Failure;

/// Interoperable import has no method here: bytes come by `PUT file`, or by a job from a bucket.
pub(super) async fn import() -> Json<Value> {
    Json(json!({"import-methods": {"description": "Import methods available.", "type": "array", "value": []}}))
}

/// Glance answers 404 where it has one store only.
pub(super) async fn stores() -> Failure {
    Error::not_found("list", "of stores: there is one store only").into()
}
