//! Bytes that flow in and out of a verb.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::error::{Error, ErrorKind, Result};

/// Bytes as they arrive or leave, in pieces of any size.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A body that a client sends, and what it said about it.
pub struct Incoming {
    /// The bytes. An error in it ends the request and leaves nothing behind.
    pub stream: ByteStream,
    /// Their count, if the client told; fewer or more bytes fail the request.
    pub length: Option<u64>,
    /// Their MD5 as the client computed it; another value fails the request.
    pub md5: Option<[u8; 16]>,
}

/// A byte range of a content, already checked against its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Count of bytes.
    pub length: u64,
}

impl Range {
    /// Parses an HTTP `Range` value against a content's length in bytes (RFC 9110, section 14.1.2).
    ///
    /// Returns `None` for a value that is to be ignored: another unit, several ranges, bad syntax.
    /// Fails with `BadRange` where no byte of the content lies inside.
    pub fn parse(header: &str, length: u64) -> Result<Option<Self>> {
        let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|set| set.split_once('-')) else {
            return Ok(None);
        };
        let (first, last) = (first.trim(), last.trim());
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
            return Ok(None);
        }
        // More digits than a u64 holds is a position far past the end, not a syntax error.
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let (offset, end) = if first.is_empty() {
            (length.saturating_sub(number(last)), length)
        } else if last.is_empty() {
            (number(first), length)
        } else if number(last) < number(first) {
            return Ok(None);
        } else {
            (number(first), number(last).saturating_add(1).min(length))
        };
        if offset >= end {
            let message = format!("the range `{}` lies outside the {length} bytes of the content", header.trim());
            return Err(Error::new(ErrorKind::BadRange, message));
        }
        Ok(Some(Self { offset, length: end - offset }))
    }
}

/// A content that may be read.
#[derive(Clone)]
pub struct Download {
    pub(crate) reader: chunks::Reader,
}

impl Download {
    /// Returns the whole length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.reader.len()
    }

    /// Reads a range as it is needed; the range must lie inside the content.
    #[must_use]
    pub fn stream(&self, range: Range) -> ByteStream {
        let pieces = self.reader.stream(range.offset..range.offset + range.length);
        Box::pin(pieces.map(|piece| piece.map_err(Error::from)))
    }

    /// Reads the whole content as it is needed.
    #[must_use]
    pub fn stream_all(&self) -> ByteStream {
        self.stream(Range { offset: 0, length: self.length() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expect: Option<(u64, u64)>) {
        let range = Range::parse(header, 100).unwrap();
        assert_eq!(range.map(|range| (range.offset, range.length)), expect, "{header}");
    }

    #[test]
    fn ranges() {
        check("bytes=0-0", Some((0, 1)));
        check("bytes=10-19", Some((10, 10)));
        check("bytes=90-", Some((90, 10)));
        check("bytes=-5", Some((95, 5)));
        check("bytes=-500", Some((0, 100)));
        check("bytes=50-99999999999999999999999", Some((50, 50)));
        check("bytes=0-1,5-6", None);
        check("lines=0-1", None);
        check("bytes=5-2", None);
        check("bytes=-", None);
        check("bytes=a-b", None);
    }

    #[test]
    fn ranges_outside() {
        for header in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(Range::parse(header, 100).unwrap_err().kind(), ErrorKind::BadRange, "{header}");
        }
        assert_eq!(Range::parse("bytes=0-", 0).unwrap_err().kind(), ErrorKind::BadRange);
    }
}
