//! What goes over the wire: between `object_store` and its HTTP client, each request is counted and bounded.
//!
//! Every object is written once, so any request may be sent again, also one whose answer was lost. Who sent
//! it is told how often it was, because then "it exists already" may speak of our own object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::BytesMut;
use futures::StreamExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientOptions, Extensions};

use super::stats::Counters;

/// Bytes of an answer that is no object: a page of names has some hundred KiB. What is longer is cut, and
/// then is no answer.
const ANSWER_LENGTH_MAX: usize = 8 * 1024 * 1024;
/// A request that is sent so often is worth a line in the log.
const SENDS_TOLD: u32 = 5;
/// Bytes of a refusal that are worth keeping.
const REFUSAL_LENGTH_MAX: usize = 4 * 1024;

/// What became of one call's requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    sent: AtomicU32,
    status: AtomicU16,
}

impl Trail {
    /// Returns what leads a request of the call here.
    pub(super) fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.clone());
        extensions
    }

    /// Returns how many requests were sent.
    pub(super) fn sent(&self) -> u32 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Returns the status of the last answer, 0 before there is one.
    pub(super) fn status(&self) -> u16 {
        self.0.status.load(Ordering::Relaxed)
    }
}

/// Makes HTTP clients whose requests leave a trail.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) connector: Box<dyn HttpConnector>,
    pub(super) counters: Arc<Counters>,
    /// How the log names the bucket.
    pub(super) place: String,
}

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = self.connector.connect(options)?;
        Ok(HttpClient::new(Client { inner, counters: Arc::clone(&self.counters), place: self.place.clone() }))
    }
}

#[derive(Debug)]
struct Client {
    inner: HttpClient,
    counters: Arc<Counters>,
    place: String,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let trail = request.extensions().get::<Trail>().cloned();
        self.counters.requests.add(1);
        let sent = trail.as_ref().map_or(0, |Trail(marks)| marks.sent.fetch_add(1, Ordering::Relaxed));
        if sent > 0 {
            self.counters.retries.add(1);
        }
        if sent == SENDS_TOLD {
            tracing::warn!("requests to the {} fail and are repeated", self.place);
        }
        let is_get = request.method().as_str() == "GET";
        let answer = self.inner.execute(request).await.map_err(may_be_sent_again)?;
        let (mut parts, body) = answer.into_parts();
        let range = parts.headers.get("content-range");
        if range.is_some_and(|range| !range.to_str().is_ok_and(is_possible)) {
            // `object_store` computes with the numbers and would overflow; without them it refuses the answer.
            parts.headers.remove("content-range");
        }
        if let Some(Trail(marks)) = &trail {
            marks.status.store(parts.status.as_u16(), Ordering::Relaxed);
        }
        // The bytes of an object are bounded by who reads them. Everything else is collected by `object_store`
        // in memory that it takes by the length that the other side announces.
        let body = match parts.status.is_success() {
            true if is_get && trail.is_some() => body,
            true => collect(body, ANSWER_LENGTH_MAX).await?,
            false => collect(body, REFUSAL_LENGTH_MAX).await?,
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// Returns whether all numbers of a Content-Range are lengths that something can have.
fn is_possible(range: &str) -> bool {
    let mut numbers = range.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.all(|digits| digits.parse::<i64>().is_ok())
}

/// Returns the first bytes of a body, at most `most`.
async fn collect(body: HttpResponseBody, most: usize) -> Result<HttpResponseBody, HttpError> {
    let (mut frames, mut bytes) = (body.bytes_stream(), BytesMut::new());
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(may_be_sent_again)?;
        bytes.extend_from_slice(&frame[..frame.len().min(most - bytes.len())]);
        if bytes.len() == most {
            break;
        }
    }
    Ok(bytes.freeze().into())
}

/// `object_store` repeats a write only where it surely was not done.
fn may_be_sent_again(error: HttpError) -> HttpError {
    match error.kind() {
        HttpErrorKind::Timeout | HttpErrorKind::Interrupted => HttpError::new(HttpErrorKind::Request, error),
        _ => error,
    }
}
