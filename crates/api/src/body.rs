//! Request bodies: the idle time-out of every body, capped reading, and the stream that a verb takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use service::{ByteStream, Error, ErrorKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Longest JSON body, in bytes.
pub(crate) const JSON_MAX: usize = 1024 * 1024;
/// A client that sends nothing for so long has gone.
const IDLE: Duration = Duration::from_secs(60);
/// What is read and thrown away of a body that no handler wanted, so that the client sees the answer
/// instead of a broken connection: most clients read the answer only when they have sent everything.
const LEFTOVER_MAX: u64 = 64 * 1024 * 1024;
/// How long that may take.
const LEFTOVER_TIME: Duration = Duration::from_secs(10);

/// A body from the wire that fails when the client stalls, and gives back what was not read.
pub(crate) struct WireBody {
    inner: Option<Incoming>,
    idle: Pin<Box<Sleep>>,
    waiting: bool,
    leftover: Option<oneshot::Sender<Incoming>>,
}

/// The other end of a [`WireBody`].
pub(crate) struct Leftover(oneshot::Receiver<Incoming>);

impl WireBody {
    pub(crate) fn new(inner: Incoming) -> (Self, Leftover) {
        let (sender, receiver) = oneshot::channel();
        let idle = Box::pin(tokio::time::sleep(IDLE));
        (Self { inner: Some(inner), idle, waiting: false, leftover: Some(sender) }, Leftover(receiver))
    }
}

impl http_body::Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        // The clock runs only while we wait for the client, never while the client waits for us.
        if !this.waiting {
            this.waiting = true;
            this.idle.as_mut().reset(Instant::now() + IDLE);
        }
        match this.idle.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                this.inner = None;
                let message = format!("the client sent nothing for {} s", IDLE.as_secs());
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, message))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for WireBody {
    fn drop(&mut self) {
        if let (Some(inner), Some(leftover)) = (self.inner.take(), self.leftover.take())
            && !http_body::Body::is_end_stream(&inner)
        {
            // Nobody listening means that the connection is gone, and the rest of the body with it.
            leftover.send(inner).ok();
        }
    }
}

impl Leftover {
    /// Reads and drops what the handler left of the body, within bounds. A body still being read is left alone.
    pub(crate) async fn discard(mut self) {
        let Ok(mut body) = self.0.try_recv() else { return };
        let read = async {
            let mut seen = 0_u64;
            while let Some(Ok(frame)) = body.frame().await {
                seen = seen.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if seen > LEFTOVER_MAX {
                    break;
                }
            }
        };
        tokio::time::timeout(LEFTOVER_TIME, read).await.ok();
    }
}

/// Reads a whole body of at most `max` bytes.
pub(crate) async fn read(body: Body, max: usize) -> Result<Bytes, Error> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Error::new(ErrorKind::TooLarge, format!("the body is longer than the {max} bytes allowed here")))
        }
        Err(error) => Err(Error::invalid("the body ended before it was whole").caused_by(error)),
    }
}

/// Reads a JSON body of at most [`JSON_MAX`] bytes.
pub(crate) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Error> {
    let bytes = read(body, JSON_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::invalid(format!("the body is not the JSON expected here: {error}")))
}

/// Returns the bytes of a body as a verb takes them.
pub(crate) fn stream(body: Body) -> ByteStream {
    let cut = |error| Error::new(ErrorKind::BadContent, "the body ended before it was whole").caused_by(error);
    body.into_data_stream().map(move |piece| piece.map_err(cut)).boxed()
}
