//! An S3 client that sends exactly the bytes it is given: paths are not tidied, signatures can be wrong.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::SOON;

/// An endpoint and the key that requests are signed with (AWS Signature Version 4).
#[derive(Clone)]
pub struct S3 {
    /// `HOST:PORT`.
    pub host: String,
    /// Region that the signature names.
    pub region: String,
    /// Public half of the key.
    pub access_key: String,
    /// Secret half of the key.
    pub secret_key: String,
}

/// A request of the S3 endpoint.
#[derive(Clone, Copy, Default)]
pub struct Request<'r> {
    /// The HTTP method.
    pub method: &'r str,
    /// The bucket; empty for the list of buckets.
    pub bucket: &'r str,
    /// The key as it is, unescaped; empty for the bucket itself.
    pub key: &'r str,
    /// Query, names in order, escaped.
    pub query: &'r str,
    /// Content-Length; what is sent beside it is the caller's.
    pub length: u64,
}

/// An answer of the S3 endpoint.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Head, as it came.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the text of the first XML element of that name, unescaped by nobody.
    #[must_use]
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }
}

impl S3 {
    /// Sends a request with a whole body.
    #[track_caller]
    pub fn send(&self, request: Request<'_>, body: &[u8]) -> Answer {
        let mut stream = self.begin(Request { length: body.len() as u64, ..request });
        // A refusal may come before the body is read, and then the rest cannot be sent.
        let sent = stream.write_all(body);
        answer(stream).unwrap_or_else(|error| panic!("no answer: {error}; sending: {sent:?}"))
    }

    /// Puts an object and returns the answer.
    #[track_caller]
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Answer {
        self.send(Request { method: "PUT", bucket, key, ..Request::default() }, body)
    }

    /// Gets an object; panics unless the answer is 200.
    #[track_caller]
    pub fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let answer = self.send(Request { method: "GET", bucket, key, ..Request::default() }, b"");
        assert_eq!(answer.status, 200, "{bucket}/{key}: {}", answer.text());
        answer.body
    }

    /// Sends the head of a request; the caller sends the body and reads the answer with [`answer`].
    #[track_caller]
    pub fn begin(&self, request: Request<'_>) -> TcpStream {
        self.try_begin(request).unwrap_or_else(|error| panic!("{}: {error}", self.host))
    }

    /// Sends the head of a request to a server that may be gone.
    pub fn try_begin(&self, request: Request<'_>) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        stream.write_all(self.head(request).as_bytes())?;
        Ok(stream)
    }

    fn head(&self, Request { method, bucket, key, query, length }: Request<'_>) -> String {
        let path = match key {
            "" => format!("/{bucket}"),
            key => format!("/{bucket}/{}", escape(key)),
        };
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let (host, payload, signed) = (&self.host, "UNSIGNED-PAYLOAD", "host;x-amz-content-sha256;x-amz-date");
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{time}\n\n{signed}\n{payload}"
        );
        let scope = format!("{}/{}/s3/aws4_request", &time[..8], self.region);
        let hash = hex::encode(Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
        let steps = [&time[..8], &self.region, "s3", "aws4_request"];
        let first = format!("AWS4{}", self.secret_key).into_bytes();
        let key = steps.iter().fold(first, |key, step| hmac(&key, step));
        let signature = hex::encode(hmac(&key, &text));
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             x-amz-content-sha256: {payload}\r\nx-amz-date: {time}\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}\r\n\r\n",
            self.access_key
        )
    }
}

/// Reads an answer to the end of its connection.
pub fn answer(mut stream: TcpStream) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::other(what.to_owned());
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A server that refuses a body may close the connection while the body is on its way.
        Err(error) if bytes.is_empty() => return Err(error),
        _ => {}
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| bad("no head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("no status"))?;
    let mut body = bytes.split_off(end + 4);
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body).ok_or_else(|| bad("the body is cut off"))?;
    } else if let Some(length) = length(&head)
        && length != body.len()
    {
        return Err(bad("the body is cut off"));
    }
    Ok(Answer { status, head, body })
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
    })
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 4 + length..)?;
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Escapes a key as Signature Version 4 does: all but unreserved characters and `/`.
fn escape(key: &str) -> String {
    key.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_in_chunks() {
        assert_eq!(unchunk(b"3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n").unwrap(), b"abc0123456789");
        assert_eq!(unchunk(b"3\r\nab"), None);
    }

    #[test]
    fn keys_are_escaped_but_not_tidied() {
        assert_eq!(escape("../a b//ü%"), "../a%20b//%C3%BC%25");
    }
}
