//! SDK-HMAC-SHA256, the request signature of Huawei Cloud SDKs.
//!
//! ```text
//!   Authorization: SDK-HMAC-SHA256 Access=<key>, SignedHeaders=<a;b>, Signature=<hex>
//!   signature = HMAC-SHA256(secret, "SDK-HMAC-SHA256\n" date "\n" hex(SHA-256(canonical request)))
//! ```
//! A signature is good for 15 minutes around its date, and within them as often as it is sent. `UNSIGNED-PAYLOAD`
//! leaves the body out, as those SDKs do for every media type but JSON.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use hmac::{Hmac, KeyInit, Mac};
use http_body::Body as _;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::identity::Principal;
use model::{ProjectId, Timestamp};
use service::{Error, ErrorKind};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{ApiState, body};

const ALGORITHM: &str = "SDK-HMAC-SHA256";
/// Longest body that a signature may cover, in bytes (Huawei's own limit).
const SIGNED_BODY_MAX: usize = 12 * 1024 * 1024;
/// Largest distance between a signature's date and now.
const AGE_MAX: SignedDuration = SignedDuration::from_mins(15);
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const MISMATCH: &str = "the access key is not known, or the signature is not the one that its secret key makes";

/// Returns whether the request claims to be signed in this way.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(ALGORITHM.as_bytes()))
}

/// Verifies the signature and returns who signed; the request comes back with its body whole.
pub(super) async fn verify(state: &ApiState, request: Request) -> Result<(Principal, Request), Error> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let claim = Claim::parse(headers)?;
    let date = claim.date(headers, state.service.now())?;
    let (secret, principal) = state.service.identity().signer(claim.access).await.map_err(hide_unknown)?;
    let (payload, body) = payload(headers, body).await?;
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let canonical = canonical_request(parts.method.as_str(), uri, headers, claim.signed_headers, &payload)?;
    if !bool::from(signature(&secret, date, &canonical).as_slice().ct_eq(&claim.signature)) {
        return Err(refused(MISMATCH));
    }
    check_project(headers, &principal)?;
    Ok((principal, Request::from_parts(parts, body)))
}

/// What the `Authorization` header claims.
struct Claim<'h> {
    access: &'h str,
    signed_headers: &'h str,
    signature: Vec<u8>,
}

impl<'h> Claim<'h> {
    fn parse(headers: &'h HeaderMap) -> Result<Self, Error> {
        let malformed = || {
            refused("the Authorization header is not whole")
                .with_hint(format!("expected `{ALGORITHM} Access=..., SignedHeaders=..., Signature=...`"))
        };
        let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(malformed)?;
        let fields = text.strip_prefix(ALGORITHM).ok_or_else(malformed)?;
        if !fields.starts_with(' ') {
            return Err(refused(format!("only {ALGORITHM} signatures are understood")));
        }
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('=')).ok_or_else(malformed)
        };
        let (access, signed_headers) = (field("Access")?, field("SignedHeaders")?);
        let signature = hex::decode(field("Signature")?).map_err(|_| malformed())?;
        for needed in ["host", "x-sdk-date"] {
            if !signed_headers.split(';').any(|name| name == needed) {
                return Err(refused(format!("the signature must cover the header {needed}")));
            }
        }
        Ok(Self { access, signed_headers, signature })
    }

    /// Returns `X-Sdk-Date` as it stands in the header, if it is near enough to `now`.
    fn date(&self, headers: &'h HeaderMap, now: Timestamp) -> Result<&'h str, Error> {
        let text = headers.get("x-sdk-date").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", text)
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map_err(|_| refused("X-Sdk-Date is no date of the form 20261122T195333Z"))?
            .timestamp();
        if now.duration_since(signed_at).abs() > AGE_MAX {
            let hint = format!("the clock here says {}", now.strftime("%Y%m%dT%H%M%SZ"));
            return Err(refused("the signature's date is more than 15 minutes away from now").with_hint(hint));
        }
        Ok(text)
    }
}

/// Returns the payload's line in the canonical request, and the body again.
async fn payload(headers: &HeaderMap, body: Body) -> Result<(String, Body), Error> {
    let empty = || hex::encode(Sha256::digest(b""));
    if body.is_end_stream() {
        return Ok((empty(), body));
    }
    let declared = headers.get("x-sdk-content-sha256").map(|value| value.to_str().unwrap_or_default());
    if declared == Some(UNSIGNED) {
        return Ok((UNSIGNED.into(), body));
    }
    let bytes = body::read(body, SIGNED_BODY_MAX).await?;
    let actual = hex::encode(Sha256::digest(&bytes));
    if !bytes.is_empty() && declared.is_some_and(|declared| !declared.eq_ignore_ascii_case(&actual)) {
        return Err(refused("the body is not the one that X-Sdk-Content-Sha256 tells"));
    }
    let line = declared.filter(|_| !bytes.is_empty()).map_or(actual, ToOwned::to_owned);
    Ok((line, Body::from(bytes)))
}

fn canonical_request(
    method: &str,
    uri: &Uri,
    headers: &HeaderMap,
    signed_headers: &str,
    payload: &str,
) -> Result<Vec<u8>, Error> {
    let mut text = format!("{method}\n{}\n{}\n", canonical_path(uri.path()), canonical_query(uri.query())).into_bytes();
    for name in signed_headers.split(';') {
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(refused(format!("the signed header `{name}` must be there once")));
        };
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes().trim_ascii());
        text.push(b'\n');
    }
    text.extend_from_slice(format!("\n{signed_headers}\n{payload}").as_bytes());
    Ok(text)
}

/// Decodes before it splits, as the SDK does: an escaped slash becomes a real one.
fn canonical_path(path: &str) -> String {
    let decoded = decode(path);
    let mut text = decoded.split(|byte| *byte == b'/').map(encode).collect::<Vec<_>>().join("/");
    if !text.ends_with('/') {
        text.push('/');
    }
    text
}

fn canonical_query(query: Option<&str>) -> String {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut decoded: Vec<_> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    decoded.sort();
    decoded.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect::<Vec<_>>().join("&")
}

/// Decodes `%xx`; whatever is no escape stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        let value = escape.and_then(|digits| {
            let (high, low) = (char::from(digits[0]).to_digit(16)?, char::from(digits[1]).to_digit(16)?);
            u8::try_from(high * 16 + low).ok()
        });
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    decoded
}

/// Encodes everything but the unreserved characters of RFC 3986.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes everything");
        }
    }
    text
}

fn signature(secret: &str, date: &str, canonical: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{ALGORITHM}\n{date}\n{}", hex::encode(Sha256::digest(canonical))).as_bytes());
    mac.finalize().into_bytes().into()
}

/// An access key acts in one project; a client that means another one must hear so.
fn check_project(headers: &HeaderMap, principal: &Principal) -> Result<(), Error> {
    let Some(wanted) = headers.get("x-project-id") else { return Ok(()) };
    let wanted = wanted.to_str().unwrap_or_default();
    if wanted.parse() == Ok::<ProjectId, _>(principal.project.id) {
        return Ok(());
    }
    let message = format!("this access key acts in project {}, not in the one of X-Project-Id", principal.project.id);
    Err(Error::new(ErrorKind::Forbidden, message).with_hint("give the client that project id"))
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unauthorized, message)
}

/// Lets an unknown access key look like a wrong signature.
fn hide_unknown(error: Error) -> Error {
    if error.kind() == ErrorKind::Unauthorized { refused(MISMATCH).caused_by(error) } else { error }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    /// Signed by huaweicloudsdkcore 3.1.219 with this secret; each list is what it sent.
    const SECRET: &str = "SKTESTabcdefghijklmnopqrstuvwxyz01234567";
    const DATE: &str = "20261122T195333Z";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const HEADERS: &[(&str, &str)] = &[
        ("x-sdk-date", DATE),
        ("x-project-id", "0c61004714024f9586705d090530f9fa"),
        ("user-agent", "huaweicloud-usdk-python/3.0"),
        ("host", "127.0.0.1:9292"),
    ];
    const SIGNED: &str = "content-type;host;user-agent;x-project-id;x-sdk-date";

    fn headers(more: &[(&str, &str)]) -> HeaderMap {
        let all = HEADERS.iter().chain(more);
        all.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn check(method: &str, uri: &str, media: &str, payload: &str, expect: &str) {
        let (more, signed) = if payload == UNSIGNED {
            let signed = "content-type;host;user-agent;x-project-id;x-sdk-content-sha256;x-sdk-date";
            (vec![("content-type", media), ("x-sdk-content-sha256", UNSIGNED)], signed)
        } else {
            (vec![("content-type", media)], SIGNED)
        };
        let canonical = canonical_request(method, &uri.parse().unwrap(), &headers(&more), signed, payload).unwrap();
        let text = String::from_utf8_lossy(&canonical);
        assert_eq!(hex::encode(signature(SECRET, DATE, &canonical)), expect, "{text}");
    }

    #[test]
    fn signatures_of_the_sdk() {
        let body = hex::encode(Sha256::digest(br#"{"name":"x","image_url":"b:o.qcow2","min_disk":40}"#));
        check(
            "POST",
            "/v2/cloudimages/action",
            "application/json;charset=UTF-8",
            &body,
            "39344186f76f6c850c297243ce069969134b72c8df8174f1edf21d661b864466",
        );
        check(
            "GET",
            "/v2/cloudimages?__isregistered=true&limit=2&marker=&name=a%20b%2A%2F%C3%A9&tag=a~b&tag=z%3D1",
            "application/json",
            EMPTY,
            "7852ce1b7868598a6a60d8c0a3bdea1f65cfc034dc07854eee329020fec07990",
        );
        check(
            "DELETE",
            "/v2/images/7/tags/k%3Dv%2F%C3%A9",
            "application/json",
            EMPTY,
            "92aac2f4b52d4d42ed2c360af07aeda67c098509608945e1377feef037fca028",
        );
        check(
            "PATCH",
            "/v2/images/7",
            "application/openstack-images-v2.1-json-patch",
            UNSIGNED,
            "a8b94cd21eca4f593414bd5eaa584d85b1c7743507df7d3cacaf3046fb9f9a6a",
        );
        check(
            "GET",
            "/",
            "application/json",
            EMPTY,
            "7fb6d4a6953eb07f026f2b072f065bff112c195cd99ce25b2e4d4de6d2634234",
        );
    }

    #[test]
    fn order_and_escapes_of_the_wire_do_not_matter() {
        assert_eq!(canonical_query(Some("b=2&a=%7e&a=!&c")), "a=%21&a=~&b=2&c=");
        assert_eq!(canonical_query(None), "");
        assert_eq!(canonical_path("/a%2fb/%zz"), "/a/b/%25zz/");
    }

    #[test]
    fn payloads() {
        let run = |more: &[(&str, &str)], body: &'static str| {
            futures::executor::block_on(payload(&headers(more), Body::from(body))).map(|(line, _)| line)
        };
        let hash = hex::encode(Sha256::digest(b"[]"));
        assert_eq!(run(&[], "[]").unwrap(), hash);
        assert_eq!(run(&[("x-sdk-content-sha256", UNSIGNED)], "[]").unwrap(), UNSIGNED);
        assert_eq!(run(&[("x-sdk-content-sha256", UNSIGNED)], "").unwrap(), EMPTY);
        let upper = hash.to_uppercase();
        assert_eq!(run(&[("x-sdk-content-sha256", &upper)], "[]").unwrap(), upper);
        let error = run(&[("x-sdk-content-sha256", &hash)], "{}").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    }

    #[test]
    fn claims() {
        let parse = |text: &str| Claim::parse(&headers(&[("authorization", text)])).map(|claim| claim.signature);
        let signed = format!("SDK-HMAC-SHA256 Access=AK, SignedHeaders={SIGNED}, Signature=00ff");
        assert_eq!(parse(&signed).unwrap(), [0, 255]);
        for bad in [
            "SDK-HMAC-SHA256",
            "SDK-HMAC-SHA256X Access=AK, SignedHeaders=host;x-sdk-date, Signature=00",
            "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date",
            "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature=xy",
            "SDK-HMAC-SHA256 Access=AK, SignedHeaders=x-sdk-date, Signature=00",
            "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=00",
        ] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::Unauthorized, "{bad}");
        }
        let missing = canonical_request("GET", &"/".parse().unwrap(), &headers(&[]), "host;x-none", EMPTY);
        assert_eq!(missing.unwrap_err().to_string(), "the signed header `x-none` must be there once");
    }

    #[test]
    fn dates_far_from_now_are_refused() {
        let headers = headers(&[]);
        let claim = Claim { access: "", signed_headers: "", signature: vec![] };
        let at = |now: &str| claim.date(&headers, now.parse().unwrap()).is_ok();
        assert!(at("2026-11-22T20:08:33Z") && at("2026-11-22T19:38:33Z"));
        assert!(!at("2026-11-22T20:08:34Z") && !at("2026-11-22T19:38:32Z"));
    }
}
