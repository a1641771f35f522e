//! The versions document, with which clients find out what is spoken here.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::ApiState;

/// Newest minor version whose every core call is here; 2.8 and later speak of several stores.
const NEWEST: u32 = 7;

pub(super) async fn choices(State(state): State<ApiState>) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, Json(document(&state.endpoints.api)))
}

pub(super) async fn list(State(state): State<ApiState>) -> Json<Value> {
    Json(document(&state.endpoints.api))
}

fn document(api: &str) -> Value {
    let version = |minor: u32| {
        let status = if minor == NEWEST { "CURRENT" } else { "SUPPORTED" };
        json!({"id": format!("v2.{minor}"), "status": status, "links": [{"rel": "self", "href": format!("{api}/v2/")}]})
    };
    json!({"versions": (0..=NEWEST).rev().map(version).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_current_and_links_are_absolute() {
        let document = document("http://h:1");
        let versions = document["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|version| version["status"] == "CURRENT").count(), 1);
        assert!(versions.iter().all(|version| version["links"][0]["href"] == "http://h:1/v2/"));
    }
}
