//! Faults of a remote backend: which object of which bucket, what kind, and what a person can do.

use object_store::Error as Cause;

use crate::{Error, ErrorKind};

/// A fault that is known by what services write into their refusals.
struct Known {
    signs: &'static [&'static str],
    kind: ErrorKind,
    says: &'static str,
    hint: &'static str,
}

const KNOWN: [Known; 6] = [
    Known {
        signs: &["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"],
        kind: ErrorKind::Io,
        says: "it does not exist",
        hint: "make the bucket, or correct `url` or `endpoint` in the section [store]",
    },
    Known {
        signs: &["RequestTimeTooSkewed", "RequestExpired", "Request date header too old"],
        kind: ErrorKind::Io,
        says: "the clocks of this machine and of the service differ too much",
        hint: "set the clock of this machine, with NTP",
    },
    Known {
        signs: &["QuotaExceeded", "quotaExceeded", "StorageFull", "InsufficientStorage", "507 Insufficient"],
        kind: ErrorKind::StorageFull,
        says: "no space is left there",
        hint: "free space or raise the quota, then try again; what was stored before is intact",
    },
    Known {
        signs: &["PermanentRedirect", "AuthorizationHeaderMalformed", "incorrectly configured region"],
        kind: ErrorKind::Io,
        says: "it lies in another region",
        hint: "correct `region` or `endpoint` in the section [store]",
    },
    Known {
        signs: &["InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidAuthenticationInfo"],
        kind: ErrorKind::Io,
        says: "the keys were refused",
        hint: "correct `access_key` and the file named by `secret_key_file` in the section [store]",
    },
    Known {
        signs: &["SlowDown", "503 Service Unavailable", "429 Too Many Requests", "ServerBusy"],
        kind: ErrorKind::Io,
        says: "the service is too busy",
        hint: "try again later; if it lasts, ask for a higher rate of requests",
    },
];

/// Makes the error of a call that failed; `doing` completes "cannot ...".
pub(super) fn error(doing: &str, place: &str, cause: Cause) -> Error {
    let text = cause.to_string();
    let known = KNOWN.iter().find(|known| known.signs.iter().any(|sign| text.contains(sign)));
    let (kind, says, hint) = match (known, &cause) {
        (Some(known), _) => (known.kind, known.says, Some(known.hint)),
        (None, Cause::NotFound { .. }) => (ErrorKind::NotFound, "not found", None),
        (None, Cause::AlreadyExists { .. } | Cause::Precondition { .. }) => {
            (ErrorKind::Exists, "it exists already", None)
        }
        (None, Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. }) => {
            let hint = "give the keys of the section [store] the right to read, write, list and delete there";
            (ErrorKind::Io, "it is not allowed", Some(hint))
        }
        _ if text.contains("error sending request") => {
            let hint = "is `endpoint` in the section [store] right, and does the service run?";
            (ErrorKind::Io, "the service does not answer", Some(hint))
        }
        _ => (ErrorKind::Io, "the service failed", None),
    };
    let error = Error::new(kind, format!("cannot {doing} {place}: {says}")).with_source(cause);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> (ErrorKind, bool) {
        let cause = Cause::Generic { store: "S3", source: text.into() };
        let error = error("write `packs/x` to", "s3 bucket `b`", cause);
        assert!(error.to_string().starts_with("cannot write `packs/x` to s3 bucket `b`: "), "{error}");
        (error.kind(), error.hint().is_some())
    }

    #[test]
    fn what_a_person_can_change_is_told() {
        assert_eq!(kind_of("403 Forbidden: <Code>QuotaExceeded</Code>"), (ErrorKind::StorageFull, true));
        assert_eq!(kind_of("507 Insufficient Storage: "), (ErrorKind::StorageFull, true));
        for known in ["<Code>RequestTimeTooSkewed</Code>", "<Code>NoSuchBucket</Code>", "503 Service Unavailable"] {
            assert_eq!(kind_of(known), (ErrorKind::Io, true), "{known}");
        }
        assert_eq!(kind_of("418 I'm a teapot"), (ErrorKind::Io, false));
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing = |text: &str| {
            let cause = Cause::NotFound { path: "packs/x".into(), source: text.into() };
            error("read `packs/x` of", "s3 bucket `b`", cause).kind()
        };
        assert_eq!(missing("404 Not Found: <Code>NoSuchKey</Code>"), ErrorKind::NotFound);
        assert_eq!(missing("404 Not Found: <Code>NoSuchBucket</Code>"), ErrorKind::Io);
    }
}
