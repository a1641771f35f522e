//! Failures as Glance clients read them: `{"code", "title", "message"}`, always JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service::{Error, ErrorKind};

use crate::failure;

/// Media types that `PATCH /v2/images/{id}` takes, newest last.
const PATCH_TYPES: &str = "application/openstack-images-v2.0-json-patch, application/openstack-images-v2.1-json-patch";

/// A request that failed, on its way to the client.
#[derive(Debug)]
pub(super) enum Failure {
    /// A verb, or the reading of its input, failed.
    Verb(Error),
    /// The body is of another media type than this one.
    MediaType(&'static str),
    /// The body is no kind of patch.
    PatchType,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Verb(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Verb(error) => {
                failure::log(&error);
                let status = match error.kind() {
                    // What Glance answers, and its clients understand, when its store is full.
                    ErrorKind::StorageFull => StatusCode::PAYLOAD_TOO_LARGE,
                    kind => failure::status(kind),
                };
                render(status, &failure::sentence(&error))
            }
            Self::MediaType(wanted) => {
                render(StatusCode::UNSUPPORTED_MEDIA_TYPE, &format!("the body must be sent as Content-Type: {wanted}"))
            }
            Self::PatchType => {
                let message = format!("a change must be sent as Content-Type: one of {PATCH_TYPES}");
                let mut response = render(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
                response.headers_mut().insert("accept-patch", HeaderValue::from_static(PATCH_TYPES));
                response
            }
        }
    }
}

fn render(status: StatusCode, message: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    (status, Json(json!({"code": status.as_u16(), "title": title, "message": message}))).into_response()
}

/// Answers a verb that a known path does not take; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response {
    render(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method; the Allow header names those it takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failure: Failure, status: u16, message: &str) {
        let response = failure.into_response();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 1024)).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["code"], &body["message"]), (&json!(status), &json!(message)));
    }

    #[test]
    fn shapes() {
        check(Error::not_found("image", "x").with_hint("list them").into(), 404, "no image x; list them");
        check(Error::new(ErrorKind::StorageFull, "no room").into(), 413, "no room");
        check(Error::conflict("it is active").into(), 409, "it is active");
        check(Failure::MediaType("text/plain"), 415, "the body must be sent as Content-Type: text/plain");
        assert_eq!(Failure::PatchType.into_response().headers()["accept-patch"], PATCH_TYPES);
    }
}
