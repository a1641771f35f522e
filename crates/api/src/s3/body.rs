//! Bodies of objects and parts: counted and checked against what the client declared, while they pass.
//!
//! The service gets a failed stream, so nothing is kept; what S3 calls the failure is left in a [`Verdict`], since
//! a verb's error has fewer words for it than the protocol.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, crypto};
use service::{ErrorKind, Incoming};

use super::error::say;
use super::framing::FrameTooLarge;
use super::wire;

/// Largest body of one request, in bytes (S3).
const BODY_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// What a client declares about a body.
pub(super) struct Declared {
    /// `Content-Length`, or the decoded length of an `aws-chunked` body.
    pub(super) length: Option<i64>,
    /// `Content-MD5`.
    pub(super) md5: Option<String>,
    /// `x-amz-checksum-*` among the headers.
    pub(super) checksum: Checksum,
    /// Names in `x-amz-trailer`, and where their values will be.
    pub(super) trailers: Option<(String, TrailingHeaders)>,
}

/// What was wrong with a body, once it has been read.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<S3Error>>>);

impl Verdict {
    /// Takes what was wrong, if anything was.
    pub(super) fn take(&self) -> Option<S3Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: S3Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Makes a body that a verb can take, and the place where its verdict will be.
pub(super) fn receive(body: Option<StreamingBlob>, declared: Declared) -> S3Result<(Incoming, Verdict)> {
    let length = match declared.length {
        Some(length) => {
            u64::try_from(length).map_err(|_| say(S3ErrorCode::InvalidArgument, "a length is not negative"))?
        }
        None if body.is_none() => 0,
        None => return Err(say(S3ErrorCode::MissingContentLength, "Content-Length is required")),
    };
    if length > BODY_MAX {
        let message = "one request carries at most 5 GiB; send a larger object in parts";
        return Err(say(S3ErrorCode::EntityTooLarge, message));
    }
    let md5 = declared.md5.as_deref().map(wire::md5).transpose()?;
    let (names, trailers) = declared.trailers.unzip();
    let names = names.map(|names| announced(&names)).transpose()?.unwrap_or_default();
    let body = body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()));
    let hasher = hasher(&declared.checksum, &names);
    let verdict = Verdict::default();
    let reader = Reader { body, left: length, hasher: Some(hasher), declared: declared.checksum, names, trailers };
    let stream = stream::unfold((Some(reader), verdict.clone()), |(reader, verdict)| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), (Some(reader), verdict))),
            Ok(None) => None,
            Err(error) => {
                let message = error.message().unwrap_or("the body cannot be used").to_owned();
                verdict.set(error);
                Some((Err(service::Error::new(ErrorKind::BadContent, message)), (None, verdict)))
            }
        }
    });
    Ok((Incoming { stream: stream.boxed(), length: Some(length), md5 }, verdict))
}

struct Reader {
    body: StreamingBlob,
    /// Bytes that are still to come.
    left: u64,
    hasher: Option<ChecksumHasher>,
    declared: Checksum,
    /// Checksums that come behind the body.
    names: Vec<&'static str>,
    trailers: Option<TrailingHeaders>,
}

impl Reader {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        let Some(bytes) = self.body.next().await else { return self.end().map(|()| None) };
        let bytes = bytes.map_err(|error| broken(error.as_ref()))?;
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(say(S3ErrorCode::IncompleteBody, "the body is longer than was declared")),
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        Ok(Some(bytes))
    }

    fn end(&mut self) -> S3Result<()> {
        if self.left > 0 {
            let message = format!("the body ended {} bytes before the length that was declared", self.left);
            return Err(say(S3ErrorCode::IncompleteBody, message));
        }
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finalize();
        for name in CHECKSUMS {
            let Some(found) = value(&found, name) else { continue };
            let in_trailer = self.names.contains(&name).then(|| self.trailer(name)).transpose()?;
            for sent in [value(&self.declared, name), in_trailer.as_deref()].into_iter().flatten() {
                if sent != found {
                    let message = format!("{name} is {sent}, but that of the bytes that came is {found}");
                    return Err(say(S3ErrorCode::BadDigest, message));
                }
            }
        }
        Ok(())
    }

    fn trailer(&self, name: &str) -> S3Result<String> {
        let read =
            |headers: &http::HeaderMap| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let value = self.trailers.as_ref().and_then(|trailers| trailers.read(read)).flatten();
        value.ok_or_else(|| say(S3ErrorCode::IncompleteBody, format!("{name} was announced and did not come")))
    }
}

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";
const CHECKSUMS: [&str; 5] = [CRC32, CRC32C, CRC64NVME, SHA1, SHA256];

fn value<'c>(checksum: &'c Checksum, name: &str) -> Option<&'c str> {
    match name {
        CRC32 => checksum.checksum_crc32.as_deref(),
        CRC32C => checksum.checksum_crc32c.as_deref(),
        CRC64NVME => checksum.checksum_crc64nvme.as_deref(),
        SHA1 => checksum.checksum_sha1.as_deref(),
        SHA256 => checksum.checksum_sha256.as_deref(),
        _ => None,
    }
}

/// Returns the checksums that an `x-amz-trailer` announces; one that cannot be checked is refused.
fn announced(names: &str) -> S3Result<Vec<&'static str>> {
    let known = |name: &str| CHECKSUMS.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    let mut found = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match known(name) {
            Some(known) => found.push(known),
            None => {
                let name: String = name.chars().take(64).collect();
                return Err(say(S3ErrorCode::InvalidRequest, format!("the trailer `{name}` is not known")));
            }
        }
    }
    Ok(found)
}

fn hasher(declared: &Checksum, trailers: &[&str]) -> ChecksumHasher {
    let wanted = |name: &str| value(declared, name).is_some() || trailers.contains(&name);
    ChecksumHasher {
        crc32: wanted(CRC32).then(crypto::Crc32::new),
        crc32c: wanted(CRC32C).then(crypto::Crc32c::new),
        crc64nvme: wanted(CRC64NVME).then(crypto::Crc64Nvme::new),
        sha1: wanted(SHA1).then(crypto::Sha1::new),
        sha256: wanted(SHA256).then(crypto::Sha256::new),
    }
}

/// Names what broke a body. The kinds of `s3s` are private to it, so they are known by their text (0.14.1).
fn broken(error: &(dyn StdError + Send + Sync + 'static)) -> S3Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<io::Error>().filter(|error| error.kind() == io::ErrorKind::TimedOut) {
            return say(S3ErrorCode::RequestTimeout, error.to_string());
        }
        cause = found.source();
    }
    let text = error.to_string();
    if text.contains(&FrameTooLarge.to_string()) {
        return say(S3ErrorCode::InvalidRequest, FrameTooLarge.to_string());
    }
    if text.contains("Sha256Mismatch") {
        return say(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            "x-amz-content-sha256 is not the SHA-256 of the bytes that came",
        );
    }
    if text.contains("SignatureMismatch") {
        return say(S3ErrorCode::SignatureDoesNotMatch, "the signature of a chunk does not match its bytes");
    }
    if text.contains("FormatError") || text.contains("TooLarge") || text.contains("TooMany") {
        return say(S3ErrorCode::InvalidRequest, "the body is no well-formed aws-chunked encoding");
    }
    say(S3ErrorCode::IncompleteBody, "the body ended before it was whole")
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn declared(length: i64) -> Declared {
        Declared { length: Some(length), md5: None, checksum: Checksum::default(), trailers: None }
    }

    /// Reads a body of `text` to its end; returns the bytes or the code of what was wrong.
    async fn read(text: &'static str, declared: Declared) -> Result<Vec<u8>, String> {
        let body = StreamingBlob::from(s3s::Body::from(Bytes::from_static(text.as_bytes())));
        let code = |error: &S3Error| error.code().as_str().to_owned();
        let (incoming, verdict) = receive(Some(body), declared).map_err(|error| code(&error))?;
        let read: Result<Vec<Bytes>, _> = incoming.stream.try_collect().await;
        read.map(|pieces| pieces.concat()).map_err(|_| code(&verdict.take().expect("a failed body has a verdict")))
    }

    #[tokio::test]
    async fn the_length_is_kept() {
        assert_eq!(read("hello", declared(5)).await, Ok(b"hello".to_vec()));
        assert_eq!(read("hello", declared(6)).await, Err("IncompleteBody".into()));
        assert_eq!(read("hello", declared(4)).await, Err("IncompleteBody".into()));
        assert_eq!(read("hello", declared(-1)).await, Err("InvalidArgument".into()));
        assert_eq!(read("hello", declared(6 << 30)).await, Err("EntityTooLarge".into()));
        assert_eq!(read("hello", Declared { length: None, ..declared(0) }).await, Err("MissingContentLength".into()));
    }

    #[tokio::test]
    async fn every_checksum_is_checked() {
        // Of b"hello", by zlib and hashlib of Python and, for CRC32C and CRC64/NVME, by a bitwise loop there.
        let good = [
            Checksum { checksum_crc32: Some("NhCmhg==".into()), ..Checksum::default() },
            Checksum { checksum_crc32c: Some("mnG7TA==".into()), ..Checksum::default() },
            Checksum { checksum_crc64nvme: Some("M3eFcAZSQlc=".into()), ..Checksum::default() },
            Checksum { checksum_sha1: Some("qvTGHdzF6KLavt4PO0gs2a6pQ00=".into()), ..Checksum::default() },
            Checksum {
                checksum_sha256: Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=".into()),
                ..Checksum::default()
            },
        ];
        for checksum in good {
            assert_eq!(
                read("hello", Declared { checksum: checksum.clone(), ..declared(5) }).await,
                Ok(b"hello".to_vec())
            );
            let wrong = read("hallo", Declared { checksum, ..declared(5) }).await;
            assert_eq!(wrong, Err("BadDigest".into()));
        }
    }

    #[test]
    fn unknown_trailers_are_refused() {
        assert_eq!(announced("x-amz-checksum-crc32, X-Amz-Checksum-SHA1").unwrap(), [CRC32, SHA1]);
        assert_eq!(*announced("x-amz-checksum-md6").unwrap_err().code(), S3ErrorCode::InvalidRequest);
    }

    #[test]
    fn what_broke_a_body_is_named() {
        for (error, code) in [
            (io::Error::new(io::ErrorKind::TimedOut, "late"), "RequestTimeout"),
            (io::Error::other("UploadStreamError: Sha256Mismatch"), "XAmzContentSHA256Mismatch"),
            (io::Error::other("AwsChunkedStreamError: SignatureMismatch"), "SignatureDoesNotMatch"),
            (io::Error::other("AwsChunkedStreamError: FormatError"), "InvalidRequest"),
            (io::Error::other("UploadStreamError: Incomplete"), "IncompleteBody"),
            (io::Error::other(FrameTooLarge), "InvalidRequest"),
        ] {
            assert_eq!(broken(&error).code().as_str(), code, "{error}");
        }
    }
}
