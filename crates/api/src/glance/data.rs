//! `/v2/images/{id}/file`: the bytes of an image, in and out.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::TryStreamExt;
use http_body::Body as _;
use model::images::Image;
use service::{Download, Error, ErrorKind, Incoming, Range};

use super::error::Failure;
use super::path::ImagePath;
use crate::auth::Caller;
use crate::{ApiState, body, failure};

const OCTETS: &str = "application/octet-stream";
const SIZE: &str = "x-openstack-image-size";

pub(super) async fn upload(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
    request: Request,
) -> Result<StatusCode, Failure> {
    let (parts, body) = request.into_parts();
    if super::images::media_type(&parts.headers) != OCTETS {
        return Err(Failure::MediaType(OCTETS));
    }
    let incoming =
        Incoming { length: length(&parts.headers, &body)?, md5: md5(&parts.headers)?, stream: body::stream(body) };
    state.service.images().upload(&who, id, incoming).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn download(
    State(state): State<ApiState>,
    Caller(who): Caller,
    ImagePath(id): ImagePath,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Some((image, download)) = state.service.images().download(&who, id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    match wanted_range(&headers, download.length()) {
        Ok(None) => Ok(whole(&image, &download)),
        Ok(Some(range)) => Ok(part(&download, range)),
        Err(error) => {
            let mut response = Failure::from(error).into_response();
            let total = format!("bytes */{}", download.length());
            if let Ok(value) = HeaderValue::from_str(&total) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            Ok(response)
        }
    }
}

/// Returns the length that the client told, by framing or by Glance's own header.
fn length(headers: &HeaderMap, body: &Body) -> Result<Option<u64>, Error> {
    let framed = body.size_hint().exact();
    let Some(told) = headers.get(SIZE) else { return Ok(framed) };
    let told = told.to_str().ok().and_then(|text| text.parse().ok());
    let told: u64 = told.ok_or_else(|| Error::invalid(format!("{SIZE} is no number of bytes")))?;
    if framed.is_some_and(|framed| framed != told) {
        return Err(Error::new(ErrorKind::BadContent, format!("{SIZE} and Content-Length tell different lengths")));
    }
    Ok(Some(told))
}

fn md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Error> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = BASE64_STANDARD.decode(value.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or_else(|| Error::invalid("Content-MD5 is no MD5 in base64"))
}

/// Nothing here has an entity tag, so no `If-Range` can match; then the whole is sent (RFC 9110, 13.1.5).
fn wanted_range(headers: &HeaderMap, length: u64) -> Result<Option<Range>, Error> {
    match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) if !headers.contains_key(header::IF_RANGE) => Range::parse(text, length),
        _ => Ok(None),
    }
}

fn whole(image: &Image, download: &Download) -> Response {
    let length = download.length();
    let mut response = send(StatusCode::OK, download, Range { offset: 0, length });
    // Hexadecimal, other than RFC 1864 wants: what Glance sends and its clients compare with.
    let md5 = image.checksums.as_ref().and_then(|checksums| HeaderValue::from_str(&checksums.md5).ok());
    if let Some(md5) = md5 {
        response.headers_mut().insert("content-md5", md5);
    }
    response
}

fn part(download: &Download, range: Range) -> Response {
    let mut response = send(StatusCode::PARTIAL_CONTENT, download, range);
    let last = range.offset + range.length - 1;
    let value = HeaderValue::from_str(&format!("bytes {}-{last}/{}", range.offset, download.length()));
    response.headers_mut().insert(header::CONTENT_RANGE, value.expect("digits are a valid header value"));
    response
}

fn send(status: StatusCode, download: &Download, range: Range) -> Response {
    // The head is sent by then: a failure can only cut the body short, which the length makes visible.
    let stream = download.stream(range).inspect_err(failure::log);
    let mut response = (status, Body::from_stream(stream)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(header::CONTENT_LENGTH, range.length.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(SIZE, download.length().into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn lengths() {
        let sized = Body::from("abc");
        let unsized_body = || Body::from_stream(futures::stream::empty::<Result<bytes::Bytes, std::io::Error>>());
        assert_eq!(length(&headers(&[]), &sized).unwrap(), Some(3));
        assert_eq!(length(&headers(&[]), &unsized_body()).unwrap(), None);
        assert_eq!(length(&headers(&[(SIZE, "7")]), &unsized_body()).unwrap(), Some(7));
        assert_eq!(length(&headers(&[(SIZE, "7")]), &sized).unwrap_err().kind(), ErrorKind::BadContent);
        assert_eq!(length(&headers(&[(SIZE, "-7")]), &sized).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn digests() {
        let expect = Some([0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0, 0xb2, 4, 0xe9, 0x80, 9, 0x98, 0xec, 0xf8, 0x42, 0x7e]);
        assert_eq!(md5(&headers(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")])).unwrap(), expect);
        assert_eq!(md5(&headers(&[])).unwrap(), None);
        assert!(md5(&headers(&[("content-md5", "d41d8cd98f00b204e9800998ecf8427e")])).is_err());
    }

    #[test]
    fn ranges() {
        let range = |pairs: &[_]| wanted_range(&headers(pairs), 10);
        assert_eq!(range(&[("range", "bytes=2-3")]).unwrap(), Some(Range { offset: 2, length: 2 }));
        assert_eq!(range(&[("range", "bytes=2-3"), ("if-range", "\"tag\"")]).unwrap(), None);
        assert_eq!(range(&[("range", "lines=2-3")]).unwrap(), None);
        assert_eq!(range(&[("range", "bytes=10-")]).unwrap_err().kind(), ErrorKind::BadRange);
    }
}
