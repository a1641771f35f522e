//! Failures as Keystone writes them: `{"error": {"code", "title", "message"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service::Error;

use crate::failure;

/// A failed verb on its way to the client.
pub(super) struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        failure::log(&self.0);
        render(failure::status(self.0.kind()), &failure::sentence(&self.0))
    }
}

fn render(status: StatusCode, message: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"error": {"code": status.as_u16(), "title": title, "message": message}});
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 wants a challenge with every 401; Keystone names itself as the scheme.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Keystone uri=\"/v3\""));
    }
    response
}

/// Answers a verb that a known path does not take; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response {
    render(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method; the Allow header names those it takes")
}

#[cfg(test)]
mod tests {
    use service::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn shape() {
        let error = Error::new(ErrorKind::Unauthorized, "no such user").with_hint("try another");
        let response = Failure(error).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expect = json!({"error": {"code": 401, "title": "Unauthorized", "message": "no such user; try another"}});
        assert_eq!(body, expect);
    }
}
