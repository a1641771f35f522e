//! The guard before `s3s`: refuses what that crate would let through, and finds whose secret checks the signature.
//!
//! Nothing here trusts the request: the signature is verified after it, against the key that is named here.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use s3s::{S3Error, S3ErrorCode};
use url::form_urlencoded;

use super::error::say;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest life of a presigned URL, in seconds: seven days (AWS).
const EXPIRES_MAX: u32 = 604_800;
const VERSION_2: &str = "this request is signed with Signature Version 2, which is not accepted: sign with Signature \
    Version 4 (AWS4-HMAC-SHA256); boto3 presigns with version 2 for custom endpoints in us-east-1 unless the client is \
    made with Config(signature_version='s3v4')";

/// Returns the access key that the request says it is signed with.
///
/// Refuses requests that are anonymous, signed with version 2, signed twice, signed for another region or service,
/// presigned for longer than seven days, or forms (`POST` policies).
pub(super) fn access_key(parts: &Parts, region: &str) -> Result<String, S3Error> {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let in_query = query.iter().any(|(name, _)| name == "X-Amz-Signature" || name == "X-Amz-Credential");
    if query.iter().any(|(name, _)| name == "AWSAccessKeyId" || name == "Signature") {
        return Err(say(S3ErrorCode::InvalidRequest, VERSION_2));
    }
    if is_form(&parts.headers) {
        return Err(say(S3ErrorCode::NotImplemented, "uploads by HTML form are not available here"));
    }
    let mut authorizations = parts.headers.get_all(header::AUTHORIZATION).iter();
    match (in_query, authorizations.next(), authorizations.next()) {
        (false, Some(value), None) => from_header(value, region),
        (true, None, None) => from_query(&query, region),
        (false, None, None) => Err(say(
            S3ErrorCode::AccessDenied,
            "anonymous requests are not accepted: sign with an access key (AWS4-HMAC-SHA256)",
        )),
        _ => Err(say(S3ErrorCode::InvalidRequest, "a request is signed once: by one header or by its query")),
    }
}

/// Returns whether the body comes in `aws-chunked` frames.
pub(super) fn is_framed(headers: &HeaderMap) -> bool {
    headers.get("x-amz-content-sha256").is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"))
}

fn is_form(headers: &HeaderMap) -> bool {
    let form = "multipart/form-data";
    let is = |value: &HeaderValue| {
        value.as_bytes().get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form.as_bytes()))
    };
    headers.get(header::CONTENT_TYPE).is_some_and(is)
}

fn from_header(value: &HeaderValue, region: &str) -> Result<String, S3Error> {
    let malformed = |message: &str| say(S3ErrorCode::AuthorizationHeaderMalformed, message);
    let text = value.to_str().map_err(|_| malformed("the authorization header is no plain text"))?;
    let (scheme, fields) = text.split_once(' ').unwrap_or((text, ""));
    if scheme == "AWS" || scheme == "OBS" {
        return Err(say(S3ErrorCode::InvalidRequest, VERSION_2));
    }
    if scheme != ALGORITHM {
        return Err(malformed("the authorization header has to begin with AWS4-HMAC-SHA256"));
    }
    let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name));
    let credential = field("Credential=").ok_or_else(|| malformed("the authorization header has no Credential"))?;
    let signed = field("SignedHeaders=").ok_or_else(|| malformed("the authorization header has no SignedHeaders"))?;
    if !signed.split(';').any(|name| name == "host") {
        return Err(malformed("the header `host` has to be among the SignedHeaders"));
    }
    scope(credential, region, S3ErrorCode::AuthorizationHeaderMalformed)
}

fn from_query(query: &[(String, String)], region: &str) -> Result<String, S3Error> {
    let malformed = |message: String| say(S3ErrorCode::AuthorizationQueryParametersError, message);
    let one = |name: &str| {
        let mut values = query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(malformed(format!("a presigned request has {name} once"))),
        }
    };
    if one("X-Amz-Algorithm")? != ALGORITHM {
        return Err(malformed(format!("X-Amz-Algorithm has to be {ALGORITHM}")));
    }
    let expires = one("X-Amz-Expires")?;
    if !expires.parse().is_ok_and(|seconds: u32| (1..=EXPIRES_MAX).contains(&seconds)) {
        return Err(malformed(format!("X-Amz-Expires is 1 to {EXPIRES_MAX} seconds (seven days)")));
    }
    if !one("X-Amz-SignedHeaders")?.split(';').any(|name| name == "host") {
        return Err(malformed("the header `host` has to be among X-Amz-SignedHeaders".into()));
    }
    scope(one("X-Amz-Credential")?, region, S3ErrorCode::AuthorizationQueryParametersError)
}

/// Checks `key/date/region/s3/aws4_request` and returns the key.
fn scope(credential: &str, region: &str, code: S3ErrorCode) -> Result<String, S3Error> {
    let fields: Vec<&str> = credential.split('/').collect();
    let [key, _date, asked, service, "aws4_request"] = fields[..] else {
        return Err(say(code, "the credential is not of the form KEY/DATE/REGION/s3/aws4_request"));
    };
    if service != "s3" {
        return Err(say(code, "the request is signed for another service than `s3`"));
    }
    if asked != region {
        let asked: String = asked.chars().take(64).collect();
        let message = format!("the request is signed for the region `{asked}`; this is `{region}`");
        let mut error = say(code, message);
        let mut headers = HeaderMap::new();
        if let Ok(region) = HeaderValue::from_str(region) {
            // SDKs read it and sign again.
            headers.insert("x-amz-bucket-region", region);
        }
        error.set_headers(headers);
        return Err(error);
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const GOOD: &str =
        "AWS4-HMAC-SHA256 Credential=KEY/20261122/home/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00";

    /// Returns the key, or the code of the refusal.
    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<String, (String, String)> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        access_key(&parts, "home")
            .map_err(|error| (error.code().as_str().to_owned(), error.message().unwrap_or_default().to_owned()))
    }

    fn code(uri: &str, headers: &[(&str, &str)]) -> String {
        check(uri, headers).unwrap_err().0
    }

    #[test]
    fn a_version_4_signature_names_its_key() {
        assert_eq!(check("/b/k", &[("authorization", GOOD)]), Ok("KEY".into()));
        let tight = GOOD.replace(", ", ",");
        assert_eq!(check("/b/k", &[("authorization", &tight)]), Ok("KEY".into()));
    }

    #[test]
    fn version_2_is_refused_with_the_way_out() {
        let (code, message) = check("/b/k", &[("authorization", "AWS KEY:c2ln")]).unwrap_err();
        assert_eq!(code, "InvalidRequest");
        assert!(message.contains("Signature Version 4") && message.contains("s3v4"), "{message}");
        let (code, message) = check("/b/k?AWSAccessKeyId=KEY&Signature=c2ln&Expires=1", &[]).unwrap_err();
        assert_eq!(code, "InvalidRequest");
        assert!(message.contains("boto3"), "{message}");
    }

    #[test]
    fn what_is_not_signed_for_us_is_refused() {
        assert_eq!(code("/", &[]), "AccessDenied");
        let (code_, message) = check("/", &[("authorization", &GOOD.replace("/home/", "/us-east-1/"))]).unwrap_err();
        assert_eq!(code_, "AuthorizationHeaderMalformed");
        assert!(message.contains("`home`"), "{message}");
        assert_eq!(code("/", &[("authorization", &GOOD.replace("/s3/", "/sts/"))]), "AuthorizationHeaderMalformed");
        assert_eq!(code("/", &[("authorization", &GOOD.replace("host;", ""))]), "AuthorizationHeaderMalformed");
        assert_eq!(code("/", &[("authorization", "Bearer x")]), "AuthorizationHeaderMalformed");
        assert_eq!(code("/", &[("authorization", GOOD), ("authorization", GOOD)]), "InvalidRequest");
        let form = ("content-type", "Multipart/Form-Data; boundary=x");
        assert_eq!(code("/b", &[form]), "NotImplemented");
    }

    fn presigned(expires: &str) -> String {
        format!(
            "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=KEY%2F20261122%2Fhome%2Fs3%2Faws4_request\
             &X-Amz-Date=20261122T000000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
        )
    }

    #[test]
    fn presigned_requests_live_for_a_bounded_time() {
        for good in ["1", "3600", "604800"] {
            assert_eq!(check(&presigned(good), &[]), Ok("KEY".into()), "{good}");
        }
        for bad in ["0", "604801", "-1", "", "x", "99999999999"] {
            assert_eq!(code(&presigned(bad), &[]), "AuthorizationQueryParametersError", "{bad}");
        }
        let twice = presigned("10") + "&X-Amz-Expires=20";
        assert_eq!(code(&twice, &[]), "AuthorizationQueryParametersError");
        assert_eq!(code(&presigned("10"), &[("authorization", GOOD)]), "InvalidRequest");
    }
}
