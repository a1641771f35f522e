//! Failures as IMS clients read them: `{"error":{"code":"IMG.0027","message":"..."}}`, mostly with status 400.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use service::{Error, ErrorKind};

use crate::failure;

/// What a verb was asked for, where that and not only the kind of its failure decides the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To write a file of a format into a bucket.
    Export,
    /// Anything else.
    Other,
}

/// A request that failed, on its way to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    /// Makes a failure of the request with one of the codes that IMS publishes.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    /// Turns the failure of a verb into what the client reads, and logs it.
    pub(super) fn of(error: &Error, asked: Asked) -> Self {
        failure::log(error);
        let status = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::TooLarge | ErrorKind::QuotaExceeded => {
                StatusCode::BAD_REQUEST
            }
            kind => failure::status(kind),
        };
        Self { status, code: code(error.kind(), error.noun(), asked), message: failure::sentence(error) }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

/// Returns the published code; `noun` is what was not found.
fn code(kind: ErrorKind, noun: Option<&str>, asked: Asked) -> &'static str {
    match (kind, asked) {
        (ErrorKind::NotFound, _) => match noun {
            Some("image") => "IMG.0027",
            Some("bucket") => "IMG.0069",
            Some("object") => "IMG.0057",
            Some("job") => "IMG.0023",
            _ => "IMG.0031",
        },
        (ErrorKind::Conflict, Asked::Export) => "IMG.0070",
        (ErrorKind::Conflict, Asked::Other) => "IMG.0046",
        (ErrorKind::Invalid, Asked::Export) => "IMG.0072",
        (ErrorKind::Invalid | ErrorKind::BadRange | ErrorKind::BadOrder, _) => "IMG.0001",
        (ErrorKind::BadContent | ErrorKind::BadDigest, _) => "IMG.0057",
        (ErrorKind::Unauthorized, _) => "IMG.0087",
        (ErrorKind::Forbidden, _) => "IMG.0026",
        (ErrorKind::TooLarge, _) => "IMG.0059",
        (ErrorKind::QuotaExceeded, _) => "IMG.0015",
        (ErrorKind::Unavailable, _) => "IMG.0060",
        // IMS has one code for all that is not the client's doing; the message tells them apart.
        (ErrorKind::StorageFull | ErrorKind::Corrupt | ErrorKind::Internal, _) => "IMG.0061",
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": {"code": self.code, "message": self.message}}))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_published_codes() {
        for (kind, asked, status, code) in [
            (ErrorKind::Conflict, Asked::Other, 400, "IMG.0046"),
            (ErrorKind::Conflict, Asked::Export, 400, "IMG.0070"),
            (ErrorKind::Invalid, Asked::Other, 400, "IMG.0001"),
            (ErrorKind::Invalid, Asked::Export, 400, "IMG.0072"),
            (ErrorKind::BadContent, Asked::Other, 400, "IMG.0057"),
            (ErrorKind::Unauthorized, Asked::Other, 401, "IMG.0087"),
            (ErrorKind::Forbidden, Asked::Other, 403, "IMG.0026"),
            (ErrorKind::QuotaExceeded, Asked::Other, 400, "IMG.0015"),
            (ErrorKind::StorageFull, Asked::Other, 507, "IMG.0061"),
            (ErrorKind::Unavailable, Asked::Other, 503, "IMG.0060"),
            (ErrorKind::Internal, Asked::Other, 500, "IMG.0061"),
        ] {
            let failure = Failure::of(&Error::new(kind, "it is so").with_hint("do that"), asked);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(failure, Failure { status, code, message: "it is so; do that".into() }, "{kind:?} {asked:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (noun, code) in [("image", "IMG.0027"), ("bucket", "IMG.0069"), ("object", "IMG.0057"), ("job", "IMG.0023")]
        {
            let failure = Failure::of(&Error::not_found(noun, "x"), Asked::Other);
            assert_eq!((failure.status, failure.code), (StatusCode::BAD_REQUEST, code));
        }
    }

    #[test]
    fn the_body_is_what_the_sdk_parses() {
        let response = Failure::new("IMG.0017", "no").into_response();
        assert_eq!(response.status(), 400);
        let body = futures::executor::block_on(axum::body::to_bytes(response.into_body(), 1024)).unwrap();
        assert_eq!(&body[..], br#"{"error":{"code":"IMG.0017","message":"no"}}"#);
    }
}
