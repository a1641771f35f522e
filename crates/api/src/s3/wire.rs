//! Small conversions between the records' words and the protocol's.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::identity::Principal;
use s3s::dto::{ETag, Initiator, Metadata, Owner, Timestamp};
use s3s::{S3ErrorCode, S3Result};
use service::PutObject;

use super::error::say;

/// Renders a moment.
pub(super) fn timestamp(moment: model::Timestamp) -> Timestamp {
    Timestamp::from(SystemTime::from(moment))
}

/// Renders a moment cut to whole seconds, which is all that an HTTP date tells.
pub(super) fn timestamp_in_seconds(moment: model::Timestamp) -> Timestamp {
    timestamp(model::Timestamp::from_second(moment.as_second()).unwrap_or(moment))
}

/// Renders an entity tag; quotes are the protocol's.
pub(super) fn etag(text: &str) -> ETag {
    ETag::Strong(text.to_owned())
}

/// Renders a count of bytes; nothing kept is as long as 2^63.
pub(super) fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Renders who owns what the principal sees: its project.
pub(super) fn owner(who: &Principal) -> Owner {
    Owner { id: Some(who.project.id.to_string()), display_name: Some(who.project.name.clone()) }
}

/// Renders who began an upload, which S3 shows beside the owner.
pub(super) fn initiator(who: &Principal) -> Initiator {
    Initiator { id: Some(who.project.id.to_string()), display_name: Some(who.project.name.clone()) }
}

/// Parses a `Content-MD5`.
pub(super) fn md5(header: &str) -> S3Result<[u8; 16]> {
    STANDARD
        .decode(header)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| say(S3ErrorCode::InvalidDigest, "Content-MD5 is not the base64 of 16 bytes"))
}

/// Collects what is kept beside the bytes of a new object.
pub(super) fn put_object(content_type: Option<String>, metadata: Option<Metadata>) -> PutObject {
    let lower = |(key, value): (String, String)| (key.to_ascii_lowercase(), value);
    PutObject { content_type, metadata: metadata.unwrap_or_default().into_iter().map(lower).collect() }
}

/// Refuses what was asked for and is not offered: a promise that is not kept is worse than an error.
pub(super) fn refuse_asked(asked: &[(bool, &str)]) -> S3Result<()> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(say(S3ErrorCode::NotImplemented, format!("{what} is not available here"))),
        None => Ok(()),
    }
}

/// Returns whether an access control list asks for more than the owner's project; it is the only one there is.
pub(super) fn is_foreign_acl(acl: Option<&str>) -> bool {
    !matches!(acl, None | Some("private" | "bucket-owner-full-control" | "bucket-owner-read"))
}

/// Returns whether encryption other than the one every object has is asked for.
pub(super) fn is_foreign_encryption(algorithm: Option<&str>) -> bool {
    !matches!(algorithm, None | Some("AES256"))
}

/// Returns whether a storage class other than the only one is asked for.
pub(super) fn is_foreign_class(class: Option<&str>) -> bool {
    !matches!(class, None | Some("STANDARD"))
}

/// Checks the version that a request names: objects have one version, which S3 calls `null`.
pub(super) fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null" | "") => Ok(()),
        Some(_) => Err(say(S3ErrorCode::NoSuchVersion, "buckets keep one version of an object, `null`")),
    }
}

/// Percent-encodes a key for `encoding-type=url`; `/` stays, a space is `%20`, so that both ways to decode agree.
pub(super) fn encode_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_so_that_every_decoder_agrees() {
        assert_eq!(encode_key("a b/ü+~.txt"), "a%20b/%C3%BC%2B~.txt");
    }

    #[test]
    fn a_content_md5_is_sixteen_bytes() {
        assert_eq!(md5("1B2M2Y8AsgTpgAmY7PhCfg==").unwrap()[0], 0xd4);
        assert_eq!(*md5("AAAA").unwrap_err().code(), S3ErrorCode::InvalidDigest);
        assert_eq!(*md5("not base64").unwrap_err().code(), S3ErrorCode::InvalidDigest);
    }

    #[test]
    fn metadata_keys_are_lower_case() {
        let metadata = Metadata::from([("Key".to_owned(), "V".to_owned())]);
        assert_eq!(put_object(None, Some(metadata)).metadata["key"], "V");
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let error = refuse_asked(&[(false, "a tag"), (true, "an object lock")]).unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::NotImplemented);
        assert_eq!(error.message(), Some("an object lock is not available here"));
    }
}
