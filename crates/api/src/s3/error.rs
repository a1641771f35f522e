//! From a failed verb to an S3 error: one table, by kind and by what the request was about.

use http::StatusCode;
use s3s::{HttpResponse, S3Error, S3ErrorCode};
use service::ErrorKind;

use crate::failure;

/// What a verb was asked for, where that and not only the kind of its failure decides the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To make a bucket.
    NewBucket,
    /// To remove a bucket.
    DeleteBucket,
    /// To complete an upload.
    Complete,
    /// Anything else.
    Other,
}

/// Returns the code, and the status where the code alone does not tell it. `noun` is what was not found.
fn code(kind: ErrorKind, noun: Option<&str>, asked: Asked) -> (S3ErrorCode, Option<StatusCode>) {
    use S3ErrorCode as Code;
    let code = match (kind, asked) {
        (ErrorKind::NotFound, _) => match noun {
            Some("bucket") => Code::NoSuchBucket,
            Some("upload") => Code::NoSuchUpload,
            _ => Code::NoSuchKey,
        },
        (ErrorKind::Invalid, Asked::NewBucket) => Code::InvalidBucketName,
        (ErrorKind::Invalid, Asked::Complete) => Code::InvalidPart,
        (ErrorKind::Invalid, _) => Code::InvalidArgument,
        (ErrorKind::BadDigest, _) => Code::BadDigest,
        (ErrorKind::BadContent, _) => Code::IncompleteBody,
        (ErrorKind::BadOrder, _) => Code::InvalidPartOrder,
        (ErrorKind::Conflict, Asked::NewBucket) => Code::BucketAlreadyOwnedByYou,
        (ErrorKind::Conflict, Asked::DeleteBucket) => Code::BucketNotEmpty,
        (ErrorKind::Conflict, _) => Code::OperationAborted,
        (ErrorKind::Unauthorized, _) => Code::InvalidAccessKeyId,
        (ErrorKind::Forbidden, _) => Code::AccessDenied,
        (ErrorKind::TooLarge, _) => Code::EntityTooLarge,
        (ErrorKind::BadRange, _) => Code::InvalidRange,
        (ErrorKind::Unavailable, _) => Code::SlowDown,
        (ErrorKind::Internal, _) => Code::InternalError,
        // AWS has no quotas; this is what Ceph answers.
        (ErrorKind::QuotaExceeded, _) => {
            return (Code::Custom("QuotaExceeded".into()), Some(StatusCode::FORBIDDEN));
        }
        // AWS has no code for these two: its disks are never full or damaged. 507 keeps SDKs from trying again.
        (ErrorKind::StorageFull, _) => {
            return (Code::Custom("InsufficientStorage".into()), Some(StatusCode::INSUFFICIENT_STORAGE));
        }
        (ErrorKind::Corrupt, _) => {
            return (Code::Custom("ContentCorrupt".into()), Some(StatusCode::INTERNAL_SERVER_ERROR));
        }
    };
    (code, None)
}

/// Turns a failure into what the client reads, and logs it.
pub(super) fn refusal(error: &service::Error, asked: Asked) -> S3Error {
    let (code, status) = code(error.kind(), error.noun(), asked);
    failure::log(error);
    let mut refusal = S3Error::with_message(code, failure::sentence(error));
    if let Some(status) = status {
        refusal.set_status_code(status);
    }
    refusal
}

/// Makes an error of `code` that says `message`.
pub(super) fn say(code: S3ErrorCode, message: impl Into<String>) -> S3Error {
    S3Error::with_message(code, message.into())
}

/// Completes an error that `s3s` made: it tells codes of its own without a sentence, and knows no request id.
pub(super) fn explain(response: HttpResponse, id: &str) -> HttpResponse {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let text = response.body().bytes().and_then(|bytes| String::from_utf8(bytes.into()).ok()).unwrap_or_default();
    let Some((before, after)) = text.split_once("</Code>") else { return response };
    let code = before.rsplit_once("<Code>").map_or("", |(_, code)| code);
    let message = match after.contains("<Message>") {
        true => String::new(),
        false => format!("<Message>{}</Message>", sentence(code)),
    };
    let Some((details, end)) = after.split_once("</Error>") else { return response };
    let text = format!("{before}</Code>{message}{details}<RequestId>{id}</RequestId></Error>{end}");
    response.map(|_| s3s::Body::from(text))
}

fn sentence(code: &str) -> &'static str {
    match code {
        "SignatureDoesNotMatch" => "the signature is not the one that the secret key makes; check the secret key",
        "InvalidAccessKeyId" => "the access key is not known",
        "InvalidBucketName" => {
            "a bucket name has 3 to 63 characters of a-z, 0-9, `-` and `.`, begins and ends with a letter or digit"
        }
        "KeyTooLongError" => "an object key has at most 1024 bytes",
        "InvalidURI" => "the path or the query of the request is not well-formed",
        "MalformedXML" => "the body is not the XML that this operation takes",
        "MissingContentLength" => "Content-Length is required",
        "IncompleteBody" => "the body is not as long as was declared",
        "MaxMessageLengthExceeded" => "the body is longer than this operation takes",
        "MethodNotAllowed" => "this resource does not take that method",
        _ => "the request cannot be served",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: service::Error, asked: Asked) -> (String, u16) {
        let refusal = refusal(&error.with_hint("do that"), asked);
        assert!(refusal.message().unwrap().ends_with("; do that"));
        (refusal.code().as_str().to_owned(), refusal.status_code().map_or(0, |status| status.as_u16()))
    }

    #[test]
    fn each_kind_has_the_code_that_clients_know() {
        for (kind, asked, code, status) in [
            (ErrorKind::Invalid, Asked::NewBucket, "InvalidBucketName", 400),
            (ErrorKind::Invalid, Asked::Complete, "InvalidPart", 400),
            (ErrorKind::Invalid, Asked::Other, "InvalidArgument", 400),
            (ErrorKind::BadDigest, Asked::Other, "BadDigest", 400),
            (ErrorKind::BadContent, Asked::Other, "IncompleteBody", 400),
            (ErrorKind::BadOrder, Asked::Complete, "InvalidPartOrder", 400),
            (ErrorKind::Conflict, Asked::NewBucket, "BucketAlreadyOwnedByYou", 409),
            (ErrorKind::Conflict, Asked::DeleteBucket, "BucketNotEmpty", 409),
            (ErrorKind::Conflict, Asked::Other, "OperationAborted", 409),
            (ErrorKind::Unauthorized, Asked::Other, "InvalidAccessKeyId", 403),
            (ErrorKind::Forbidden, Asked::Other, "AccessDenied", 403),
            (ErrorKind::TooLarge, Asked::Other, "EntityTooLarge", 400),
            (ErrorKind::QuotaExceeded, Asked::Complete, "QuotaExceeded", 403),
            (ErrorKind::BadRange, Asked::Other, "InvalidRange", 416),
            (ErrorKind::Unavailable, Asked::Other, "SlowDown", 503),
            (ErrorKind::Internal, Asked::Other, "InternalError", 500),
            (ErrorKind::StorageFull, Asked::Other, "InsufficientStorage", 507),
            (ErrorKind::Corrupt, Asked::Other, "ContentCorrupt", 500),
        ] {
            assert_eq!(told(service::Error::new(kind, "so"), asked), (code.to_owned(), status), "{kind:?} {asked:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (noun, code) in [("bucket", "NoSuchBucket"), ("object", "NoSuchKey"), ("upload", "NoSuchUpload")] {
            assert_eq!(told(service::Error::not_found(noun, "x"), Asked::Other), (code.to_owned(), 404));
        }
    }

    #[test]
    fn errors_of_the_adapter_get_a_sentence_and_an_id() {
        let text = |error: S3Error| {
            let response = explain(error.to_http_response().unwrap(), "r1");
            String::from_utf8(response.body().bytes().unwrap().into()).unwrap()
        };
        let bare = text(S3Error::new(S3ErrorCode::KeyTooLongError));
        let expect = "<Error><Code>KeyTooLongError</Code><Message>an object key has at most 1024 bytes</Message>\
            <RequestId>r1</RequestId></Error>";
        assert!(bare.ends_with(expect), "{bare}");
        let told = text(say(S3ErrorCode::NoSuchKey, "no object `k`"));
        assert!(told.ends_with("<Message>no object `k`</Message><RequestId>r1</RequestId></Error>"), "{told}");
    }
}
