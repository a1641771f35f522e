//! Conditions on reading: `If-Match` and its kin, in the order of RFC 9110, 13.2.2.

use http::{HeaderMap, HeaderValue, header};
use model::buckets::Object;
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::error::say;
use super::wire;

/// What a request wants to be true of an object before it is read.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// Checks a read: `PreconditionFailed`, or `NotModified` where the client's copy is still good.
    pub(super) fn check_read(&self, object: &Object) -> S3Result<()> {
        match self.judge(object) {
            Verdict::Holds => Ok(()),
            Verdict::Failed => Err(failed()),
            Verdict::Unchanged => {
                let mut error = S3Error::new(S3ErrorCode::NotModified);
                let mut headers = HeaderMap::new();
                if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", object.etag)) {
                    headers.insert(header::ETAG, etag);
                }
                error.set_headers(headers);
                Err(error)
            }
        }
    }

    /// Checks the source of a copy, where an unchanged source is a failure too.
    pub(super) fn check_source(&self, object: &Object) -> S3Result<()> {
        match self.judge(object) {
            Verdict::Holds => Ok(()),
            Verdict::Failed | Verdict::Unchanged => Err(failed()),
        }
    }

    fn judge(&self, object: &Object) -> Verdict {
        // HTTP dates count whole seconds; the object's moment is cut the same way before they are compared.
        let changed = wire::timestamp_in_seconds(object.created_at);
        if let Some(wanted) = &self.if_match {
            if !matches(wanted, object) {
                return Verdict::Failed;
            }
        } else if self.if_unmodified_since.as_ref().is_some_and(|moment| changed > *moment) {
            return Verdict::Failed;
        }
        if let Some(unwanted) = &self.if_none_match {
            if matches(unwanted, object) {
                return Verdict::Unchanged;
            }
        } else if self.if_modified_since.as_ref().is_some_and(|moment| changed <= *moment) {
            return Verdict::Unchanged;
        }
        Verdict::Holds
    }
}

enum Verdict {
    Holds,
    Failed,
    Unchanged,
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    let own = wire::etag(&object.etag);
    condition.is_any() || condition.as_etag().is_some_and(|etag| etag.weak_cmp(&own))
}

fn failed() -> S3Error {
    say(S3ErrorCode::PreconditionFailed, "the object does not meet a condition of the request")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{BucketId, ContentId};
    use s3s::dto::TimestampFormat;

    use super::*;

    fn object() -> Object {
        Object {
            bucket: BucketId::new(),
            key: "k".into(),
            content: ContentId::new(),
            size: 1,
            etag: "abc".into(),
            content_type: None,
            metadata: BTreeMap::new(),
            created_at: "2026-11-22T10:00:00.5Z".parse().unwrap(),
        }
    }

    fn etag(text: &str) -> Option<ETagCondition> {
        Some(ETagCondition::parse_http_header(text.as_bytes()).unwrap())
    }

    fn date(text: &str) -> Option<Timestamp> {
        Some(Timestamp::parse(TimestampFormat::HttpDate, text).unwrap())
    }

    fn told(conditions: &Conditions) -> String {
        conditions.check_read(&object()).map_or_else(|error| error.code().as_str().to_owned(), |()| "holds".into())
    }

    #[test]
    fn conditions_of_a_read() {
        let same_second = "Sun, 22 Nov 2026 10:00:00 GMT";
        let earlier = "Sun, 22 Nov 2026 09:59:59 GMT";
        let none = Conditions::default;
        for (conditions, expect) in [
            (none(), "holds"),
            (Conditions { if_match: etag("\"abc\""), ..none() }, "holds"),
            (Conditions { if_match: etag("*"), ..none() }, "holds"),
            (Conditions { if_match: etag("\"other\""), ..none() }, "PreconditionFailed"),
            (Conditions { if_none_match: etag("\"abc\""), ..none() }, "NotModified"),
            (Conditions { if_none_match: etag("\"other\""), ..none() }, "holds"),
            (Conditions { if_modified_since: date(same_second), ..none() }, "NotModified"),
            (Conditions { if_modified_since: date(earlier), ..none() }, "holds"),
            (Conditions { if_unmodified_since: date(same_second), ..none() }, "holds"),
            (Conditions { if_unmodified_since: date(earlier), ..none() }, "PreconditionFailed"),
            // A tag outranks a date.
            (Conditions { if_match: etag("\"abc\""), if_unmodified_since: date(earlier), ..none() }, "holds"),
        ] {
            assert_eq!(told(&conditions), expect, "{conditions:?}");
        }
    }

    #[test]
    fn a_copy_of_an_unchanged_source_fails() {
        let conditions = Conditions { if_none_match: etag("\"abc\""), ..Conditions::default() };
        assert_eq!(*conditions.check_source(&object()).unwrap_err().code(), S3ErrorCode::PreconditionFailed);
    }
}
