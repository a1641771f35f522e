//! A bucket in memory that speaks S3 under `object_store`, and a wire to it that fails as it is told or by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Protocol, RemoteBackend, RemoteConfig, RemoteLimits};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use keys::Secret;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};

use crate::support::random;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is refused before anything is done.
    Refused(u16),
    /// Nobody listens.
    Connect,
    /// It is done, and the answer is lost on the way.
    AnswerLost,
    /// It is done, and the answer says that it was not.
    DoneAndRefused,
    /// It takes so many seconds.
    Slow(u64),
    /// The connection breaks in the middle of the answer.
    BrokenBody,
    /// The answer ends early and says nothing about it.
    ShortBody,
    /// It arrives twice, and the first answer counts.
    Twice,
    /// It arrives twice, and the second answer counts.
    TwiceLate,
    /// The answer is longer than it announces.
    LongBody,
    /// The answer announces another length.
    Announces(u64),
    /// A bit of the answer is another.
    WrongBit,
    /// The answer has no sense.
    Nonsense(u16),
}

/// A bucket, and what happens on the way to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    objects: Mutex<BTreeMap<String, Bytes>>,
    script: Mutex<VecDeque<Fault>>,
    seed: AtomicU64,
    kinds: Mutex<&'static [Fault]>,
    at_once: AtomicUsize,
    pub(crate) most_at_once: AtomicUsize,
}

impl Bucket {
    /// Returns a backend in the bucket.
    pub(crate) fn backend(&self, limits: RemoteLimits) -> Arc<RemoteBackend> {
        let config = RemoteConfig {
            protocol: Protocol::S3,
            bucket: "bucket".into(),
            prefix: "molde".into(),
            endpoint: Some("http://s3.test".into()),
            region: None,
            access_key: Some("key".into()),
            secret: Some(Secret::new(b"secret".to_vec())),
            allow_http: true,
            limits,
        };
        Arc::new(RemoteBackend::with_connector(&config, self.clone()).unwrap())
    }

    /// Lets the next requests meet these faults, in order.
    pub(crate) fn script(&self, faults: &[Fault]) {
        *self.0.script.lock().unwrap() = faults.iter().copied().collect();
    }

    /// Lets one request of four meet one of `kinds`, by a seed; none when there are no kinds.
    pub(crate) fn fail(&self, kinds: &'static [Fault], seed: u64) {
        self.0.seed.store(seed, Ordering::SeqCst);
        *self.0.kinds.lock().unwrap() = kinds;
    }

    /// Puts an object there behind the back of everybody.
    pub(crate) fn insert(&self, name: &str, bytes: &'static [u8]) {
        self.0.objects.lock().unwrap().insert(format!("molde/{name}"), Bytes::from_static(bytes));
    }

    /// Returns the most requests that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.0.most_at_once.load(Ordering::SeqCst)
    }

    fn next_fault(&self) -> Fault {
        if let Some(fault) = self.0.script.lock().unwrap().pop_front() {
            return fault;
        }
        let kinds = *self.0.kinds.lock().unwrap();
        let number = self.0.seed.fetch_add(1, Ordering::SeqCst);
        let random = random(number);
        match random % 4 {
            0 if !kinds.is_empty() => kinds[(random / 4) as usize % kinds.len()],
            _ => Fault::None,
        }
    }

    /// Does what a request asks for, as S3 does.
    fn serve(&self, request: &HttpRequest, body: &Bytes) -> http::Response<Bytes> {
        let path = request.uri().path().strip_prefix("/bucket").unwrap().trim_start_matches('/').to_owned();
        let mut objects = self.0.objects.lock().unwrap();
        let answer = |status: u16| http::Response::builder().status(status).header("etag", "\"e\"");
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        let found = objects.get(&path).cloned();
        match (request.method().as_str(), found) {
            ("PUT", Some(_)) if header("if-none-match") == Some("*") => answer(412).body("exists".into()),
            ("PUT", _) => {
                objects.insert(path, body.clone());
                answer(200).body(Bytes::new())
            }
            ("DELETE", _) => {
                objects.remove(&path);
                answer(204).body(Bytes::new())
            }
            ("GET", _) if path.is_empty() => answer(200).body(list(&objects, request.uri().query().unwrap()).into()),
            ("GET" | "HEAD", None) => answer(404).body("<Code>NoSuchKey</Code>".into()),
            ("HEAD", Some(object)) => dated(answer(200)).header("content-length", object.len()).body(Bytes::new()),
            ("GET", Some(object)) => match header("range") {
                None => dated(answer(200)).header("content-length", object.len()).body(object),
                Some(range) => part(&object, range, dated(answer(206)), answer(416)),
            },
            (method, _) => panic!("{method} {}", request.uri()),
        }
        .unwrap()
    }
}

fn dated(answer: http::response::Builder) -> http::response::Builder {
    answer.header("last-modified", "Thu, 26 Nov 2026 10:00:00 GMT")
}

fn part(
    object: &Bytes,
    range: &str,
    part: http::response::Builder,
    refusal: http::response::Builder,
) -> http::Result<http::Response<Bytes>> {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= object.len() {
        return refusal.body("<Code>InvalidRange</Code>".into());
    }
    let last = last.min(object.len() - 1);
    let part = part.header("content-range", format!("bytes {first}-{last}/{}", object.len()));
    part.header("content-length", last + 1 - first).body(object.slice(first..=last))
}

fn list(objects: &BTreeMap<String, Bytes>, query: &str) -> String {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
    let listed = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, bytes)| {
        let date = "<LastModified>2026-11-26T10:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>";
        format!("<Contents><Key>{key}</Key>{date}<Size>{}</Size></Contents>", bytes.len())
    });
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>", listed.collect::<String>())
}

impl HttpConnector for Bucket {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Bucket {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let now = self.0.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_at_once.fetch_max(now, Ordering::SeqCst);
        let fault = self.next_fault();
        let answer = self.meet(fault, request).await;
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

impl Bucket {
    async fn meet(&self, fault: Fault, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let cut = |kind| HttpError::new(kind, std::io::Error::other("the wire was cut"));
        let say = |status: u16, text: &'static str| {
            let answer = http::Response::builder().status(status).header("content-length", text.len());
            Ok(answer.body(HttpResponseBody::from(Bytes::from_static(text.as_bytes()))).unwrap())
        };
        match fault {
            Fault::Refused(503) => return say(503, "<Code>SlowDown</Code>"),
            Fault::Refused(status) | Fault::Nonsense(status) => return say(status, "no \u{1f4a9} answer"),
            Fault::Connect => return Err(cut(HttpErrorKind::Connect)),
            Fault::Slow(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            _ => tokio::task::yield_now().await,
        }
        let body = request.body_mut().collect().await?.to_bytes();
        let first = self.serve(&request, &body);
        let answer = match fault {
            Fault::AnswerLost => return Err(cut(HttpErrorKind::Timeout)),
            Fault::DoneAndRefused => return say(500, "<Code>InternalError</Code>"),
            Fault::Twice | Fault::TwiceLate => {
                let second = self.serve(&request, &body);
                if fault == Fault::Twice { first } else { second }
            }
            _ => first,
        };
        let (mut parts, body) = answer.into_parts();
        let half = body.len() / 2;
        let body = match fault {
            Fault::BrokenBody => {
                let frames = [Ok(Frame::data(body.slice(..half))), Err(cut(HttpErrorKind::Interrupted))];
                return Ok(HttpResponse::from_parts(
                    parts,
                    HttpResponseBody::new(StreamBody::new(stream::iter(frames))),
                ));
            }
            // Where no length was announced, the end of a body is marked, and its lack is seen below us.
            Fault::ShortBody if parts.headers.contains_key("content-length") => body.slice(..half),
            Fault::LongBody => [&body[..], b"more than was said"].concat().into(),
            Fault::WrongBit => {
                let mut body = body.to_vec();
                body.iter_mut().skip(half).take(1).for_each(|byte| *byte ^= 4);
                body.into()
            }
            Fault::Announces(length) => {
                parts.headers.insert("content-length", length.into());
                if let Some(range) = parts.headers.get_mut("content-range") {
                    *range = format!("bytes 0-{}/{length}", length.wrapping_sub(1)).parse().unwrap();
                }
                body
            }
            _ => body,
        };
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}
