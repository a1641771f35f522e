//! A bound on the frames of an `aws-chunked` body.
//!
//! `s3s` holds a whole frame in memory before it checks and hands it on, and a frame may claim 4 GiB. This body
//! reads the sizes as they pass and ends the request at one that is too large. It changes nothing: whether the
//! framing is right is still decided by `s3s`.
//!
//! ```text
//!   frame = size in hex [";chunk-signature=" ...] CR LF, bytes of that size, CR LF; the last has size 0
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Largest frame, in bytes. SDKs send 64 KiB to 1 MiB, some a whole part of 5 to 16 MiB.
const FRAME_MAX: u64 = 32 * 1024 * 1024;

/// A body whose frames are bounded.
pub(super) struct Framed {
    inner: Body,
    place: Place,
}

/// Where in the framing the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the digits of a size.
    Size(u64),
    /// After them, before the end of the line.
    Extension(u64),
    /// In the bytes of a frame and the CR LF after them.
    Data(u64),
    /// Behind the last frame: trailers, which `s3s` bounds itself.
    Trailers,
}

/// The failure of a body with a frame that is too large.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of an aws-chunked body has at most {FRAME_MAX} bytes here")]
pub(super) struct FrameTooLarge;

impl Framed {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, place: Place::Size(0) }
    }
}

impl Place {
    /// Returns the place behind `data`.
    fn after(mut self, mut data: &[u8]) -> Result<Self, FrameTooLarge> {
        while let Some((&byte, rest)) = data.split_first() {
            self = match self {
                Self::Trailers => return Ok(self),
                Self::Data(left) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
                    data = &data[step..];
                    match left - step as u64 {
                        0 => self = Self::Size(0),
                        left => self = Self::Data(left),
                    }
                    continue;
                }
                Self::Size(size) => match char::from(byte).to_digit(16) {
                    // FRAME_MAX is far below 2^60, so the product cannot overflow.
                    Some(digit) => match size * 16 + u64::from(digit) {
                        size if size > FRAME_MAX => return Err(FrameTooLarge),
                        size => Self::Size(size),
                    },
                    None => Self::Extension(size).at_line_end(byte),
                },
                Self::Extension(_) => self.at_line_end(byte),
            };
            data = rest;
        }
        Ok(self)
    }

    fn at_line_end(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Extension(0), b'\n') => Self::Trailers,
            (Self::Extension(size), b'\n') => Self::Data(size + 2),
            (place, _) => place,
        }
    }
}

impl http_body::Body for Framed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            match this.place.after(data) {
                Ok(place) => this.place = place,
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"5;chunk-signature=00ff\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-amz-checksum-crc32:ffffffffff\r\n\r\n";

    /// Walks `body` in pieces of `step` bytes.
    fn walk(body: &[u8], step: usize) -> Result<Place, FrameTooLarge> {
        body.chunks(step).try_fold(Place::Size(0), Place::after)
    }

    #[test]
    fn sizes_are_read_wherever_the_network_cuts() {
        for step in 1..=BODY.len() {
            assert_eq!(walk(BODY, step), Ok(Place::Trailers), "{step}");
        }
        assert_eq!(walk(&BODY[..26], 3), Ok(Place::Data(5)));
    }

    #[test]
    fn a_large_frame_is_refused_before_its_bytes_come() {
        assert_eq!(walk(b"2000000\r\n", 4), Ok(Place::Data(FRAME_MAX + 2)));
        assert_eq!(walk(b"2000001\r\n", 4), Err(FrameTooLarge));
        assert_eq!(walk(b"ffffffffffffffffffffffffffffffff", 5), Err(FrameTooLarge));
        assert_eq!(walk(b"1\r\nx\r\nFFFFFFFF", 2), Err(FrameTooLarge));
    }
}
