//! What every dialect does alike with a failure: its HTTP status, its sentence, and the line in the log.

use std::error::Error as _;

use axum::http::StatusCode;
use service::{Error, ErrorKind};

/// Returns the HTTP status of a failure.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid | ErrorKind::BadDigest | ErrorKind::BadContent | ErrorKind::BadOrder => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::TooLarge | ErrorKind::QuotaExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::BadRange => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns what the client reads: the sentence and, behind it, what can be done.
pub(crate) fn sentence(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// Writes the failure with its whole chain of causes to the log, once, where the request ends.
pub(crate) fn log(error: &Error) {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        chain.push_str(": ");
        chain.push_str(&next.to_string());
        cause = next.source();
    }
    if status(error.kind()).is_server_error() {
        tracing::error!(kind = ?error.kind(), "{chain}");
    } else {
        tracing::debug!(kind = ?error.kind(), "{chain}");
    }
}
