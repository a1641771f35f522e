//! Failures as Glance clients read them: always JSON, in one of two shapes.
//!
//! Who asks for JSON by name gets Glance's own `{"code", "title", "message"}`. Others, glanceclient among them, would
//! get HTML from Glance, and look into JSON for objects that have a message: they get `{"error": {...}}`.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
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

/// The sentence of a failure, on its way from a handler to [`write_failures`].
#[derive(Clone)]
struct Sentence(String);

fn render(status: StatusCode, message: &str) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(Sentence(message.to_owned()));
    response
}

/// Middleware: writes the body of a failed answer in the shape that the client can read.
pub(super) async fn write_failures(request: Request, next: Next) -> Response {
    let by_name = names_json(request.headers());
    let mut response = next.run(request).await;
    let Some(Sentence(message)) = response.extensions_mut().remove() else { return response };
    let (parts, _) = response.into_parts();
    (parts.status, parts.headers, Json(body(parts.status, &message, by_name))).into_response()
}

fn body(status: StatusCode, message: &str, by_name: bool) -> Value {
    let title = match status {
        // As Glance, whose clients look at the number alone, still calls it.
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        status => status.canonical_reason().unwrap_or("Error"),
    };
    let error = json!({"code": status.as_u16(), "title": title, "message": message});
    if by_name { error } else { json!({"error": error}) }
}

fn names_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media_type| media_type.trim().starts_with("application/json"))
}

/// Answers a verb that a known path does not take; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response {
    render(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method; the Allow header names those it takes")
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[track_caller]
    fn check(failure: Failure, status: u16, message: &str) {
        let mut response = failure.into_response();
        assert_eq!(response.status(), status);
        assert_eq!(response.extensions_mut().remove::<Sentence>().map(|sentence| sentence.0).as_deref(), Some(message));
    }

    #[test]
    fn statuses_and_sentences() {
        check(Error::not_found("image", "x").with_hint("list them").into(), 404, "no image x; list them");
        check(Error::new(ErrorKind::StorageFull, "no room").into(), 413, "no room");
        check(Error::new(ErrorKind::QuotaExceeded, "no more").with_hint("ask").into(), 413, "no more; ask");
        assert_eq!(body(StatusCode::PAYLOAD_TOO_LARGE, "no more", true)["title"], "Request Entity Too Large");
        check(Error::conflict("it is active").into(), 409, "it is active");
        check(Failure::MediaType("text/plain"), 415, "the body must be sent as Content-Type: text/plain");
        assert_eq!(Failure::PatchType.into_response().headers()["accept-patch"], PATCH_TYPES);
    }

    async fn answer(accept: Option<&str>) -> Value {
        let refuse = || async { Failure::from(Error::conflict("it is active")) };
        let router = Router::new().route("/", get(refuse)).layer(from_fn(write_failures));
        let request = Request::get("/");
        let request = if let Some(accept) = accept { request.header(header::ACCEPT, accept) } else { request };
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::CONFLICT, &"application/json".parse().unwrap())
        );
        serde_json::from_slice(&axum::body::to_bytes(response.into_body(), 1024).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn shapes() {
        let error = json!({"code": 409, "title": "Conflict", "message": "it is active"});
        assert_eq!(answer(Some("text/html, application/json;q=0.9")).await, error);
        assert_eq!(answer(Some("*/*")).await, json!({"error": error}));
        assert_eq!(answer(None).await, json!({"error": error}));
    }
}
