//! Failures as this API tells them: `{"error":{"kind":"not_found","message":"...","hint":"..."}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service::{Error, ErrorKind};

use crate::failure;

/// A request that failed, on its way to the client.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Makes the failure of a path that does not take a method.
    pub(super) fn method(message: String) -> Self {
        Self { status: StatusCode::METHOD_NOT_ALLOWED, kind: "invalid", message, hint: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        failure::log(&error);
        Self {
            status: failure::status(error.kind()),
            kind: kind(error.kind()),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::Invalid => "invalid",
        ErrorKind::BadDigest => "bad_digest",
        ErrorKind::BadContent => "bad_content",
        ErrorKind::BadOrder => "bad_order",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unauthorized => "unauthorized",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::QuotaExceeded => "quota_exceeded",
        ErrorKind::BadRange => "bad_range",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::StorageFull => "storage_full",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Internal => "internal",
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.kind, "message": self.message, "hint": self.hint}});
        (self.status, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, status: u16, body: &str) {
        let response = failure.into_response();
        assert_eq!(response.status(), status);
        let read = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 1024)).unwrap();
        assert_eq!(std::str::from_utf8(&read).unwrap(), body);
    }

    #[test]
    fn failures_are_told_as_written() {
        check(
            Error::not_found("image", "1234").into(),
            404,
            r#"{"error":{"hint":null,"kind":"not_found","message":"no image 1234"}}"#,
        );
        check(
            Error::new(ErrorKind::StorageFull, "no room").with_hint("free some").into(),
            507,
            r#"{"error":{"hint":"free some","kind":"storage_full","message":"no room"}}"#,
        );
        check(
            Error::new(ErrorKind::QuotaExceeded, "no more").into(),
            413,
            r#"{"error":{"hint":null,"kind":"quota_exceeded","message":"no more"}}"#,
        );
        check(Failure::method("no".into()), 405, r#"{"error":{"hint":null,"kind":"invalid","message":"no"}}"#);
    }
}
