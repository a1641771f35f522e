//! The listener: connections, their time-outs and their end, and what is done for every request.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::body::WireBody;

/// How long a client may take to send the head of a request, idle time before it included.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Pause after a failed accept: mostly out of file descriptors, which only other connections can free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const OPENSTACK_REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves `router` on `listener` until `shutdown` is ready, then lets running requests end for at most `drain`.
///
/// Every answer carries a request id; a handler that panics answers 500 and the connection goes on.
/// Returns an error only if the listener itself is unusable.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    listener.local_addr()?;
    let router = router.layer(from_fn(observe));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let handlers = TaskTracker::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_ended(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = graceful.watch(connection(stream, router.clone(), handlers.clone()));
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(error = %error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests still running after the drain time are cut off");
    }
    connections.shutdown().await;
    // The bodies that the handlers read have failed now, so that they end soon.
    handlers.close();
    tokio::time::timeout(drain, handlers.wait()).await.ok();
    Ok(())
}

fn log_ended(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = %error, "a response body panicked; its connection is closed");
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
    handlers: TaskTracker,
) -> http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>,
> {
    // Answers are written whole; waiting for more to send only adds delay. A failure costs speed alone.
    stream.set_nodelay(true).ok();
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, handlers) = (router.clone(), handlers.clone());
        async move {
            // Reading the leftover of a client that waits for `100 Continue` would invite it to send all.
            let waits = request.headers().contains_key(header::EXPECT);
            let (parts, body) = request.into_parts();
            let (body, leftover) = WireBody::new(body);
            // A task of its own: when the client leaves, the verb sees its body fail and cleans up after itself,
            // instead of stopping where it stands.
            let handler = handlers.spawn(router.oneshot(Request::from_parts(parts, body)));
            let Ok(mut response) = handler.await.unwrap_or_else(|_| Ok(panicked()));
            if !waits {
                leftover.discard().await;
            } else if !response.status().is_success() {
                // Refused, such a client sends its next request where the body would have been; the connection
                // must not take one for the other.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
}

/// Gives each request an id, a span and one log line, and turns a panic into an answer.
async fn observe(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    // The path only: a query may hold a signature that still works.
    let span = tracing::info_span!("request", id = %id, method = %request.method(), path = request.uri().path());
    let begun = Instant::now();
    async {
        let mut response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(panic = text.unwrap_or("not a text"), "a handler panicked");
            panicked()
        });
        let (status, ms) = (response.status().as_u16(), begun.elapsed().as_millis());
        tracing::info!(status, ms, "answered");
        let headers = response.headers_mut();
        for (name, text) in [(OPENSTACK_REQUEST_ID, format!("req-{id}")), (REQUEST_ID, id.to_string())] {
            headers.insert(name, HeaderValue::from_str(&text).expect("a UUID is a valid header value"));
        }
        response
    }
    .instrument(span)
    .await
}

fn panicked() -> Response {
    let message = "a fault of the server; its log tells more under the request id of this answer";
    let body = serde_json::json!({"error": {"code": 500, "title": "Internal Server Error", "message": message}});
    (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::routing::{get, put};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::body;

    /// What handlers tell the test, and wait for.
    #[derive(Default)]
    struct Signals {
        begun: Notify,
        go_on: Notify,
        counted: Mutex<Option<Result<usize, String>>>,
    }

    /// Routes that do what the server has to cope with.
    fn router(signals: &Arc<Signals>) -> Router {
        let (counting, waiting) = (Arc::clone(signals), Arc::clone(signals));
        let count = move |body: Body| async move {
            counting.begun.notify_one();
            let read = body::read(body, 1 << 20).await.map(|bytes| bytes.len()).map_err(|error| error.to_string());
            *counting.counted.lock().unwrap() = Some(read);
        };
        let wait = move || async move {
            waiting.begun.notify_one();
            waiting.go_on.notified().await;
            "waited"
        };
        async fn panics() {
            panic!("on purpose");
        }
        async fn refuses() -> StatusCode {
            StatusCode::CONFLICT
        }
        Router::new()
            .route("/", get(|| async { "here" }))
            .route("/panics", get(panics))
            .route("/waits", get(wait))
            .route("/refuses", put(refuses))
            .route("/counts", put(count))
    }

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<io::Result<()>>,
        signals: Arc<Signals>,
    }

    async fn start(drain: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let signals = Arc::<Signals>::default();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let ended = tokio::spawn(serve(listener, router(&signals), shutdown, drain));
        Server { address, stop, ended, signals }
    }

    async fn exchange(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_connection_goes_on() {
        let server = start(Duration::from_secs(5)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let answer = exchange(&mut stream, "GET /panics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("x-openstack-request-id: req-") && answer.contains("x-request-id: "), "{answer}");
        assert!(!answer.contains("on purpose"), "{answer}");
        let answer = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn a_refused_upload_is_read_so_that_the_client_sees_the_answer() {
        let server = start(Duration::from_secs(5)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let length = 32 << 20;
        let head = format!("PUT /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Fails with a broken pipe where the server closes after its answer.
        stream.write_all(&vec![0; length]).await.unwrap();
        let answer = exchange(&mut stream, "").await;
        assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
        let answer = exchange(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_waits_for_100_continue_is_answered_at_once() {
        let server = start(Duration::from_secs(5)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head =
            |path| format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        let answer = exchange(&mut stream, &head("/refuses")).await;
        assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let answer = exchange(&mut stream, &head("/counts")).await;
        assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
        let answer = exchange(&mut stream, "abc").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(*server.signals.counted.lock().unwrap(), Some(Ok(3)));
    }

    #[tokio::test]
    async fn a_handler_outlives_a_client_that_leaves() {
        let server = start(Duration::from_secs(5)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"PUT /counts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc").await.unwrap();
        server.signals.begun.notified().await;
        drop(stream);
        server.stop.send(()).unwrap();
        server.ended.await.unwrap().unwrap();
        assert_eq!(*server.signals.counted.lock().unwrap(), Some(Err("the body ended before it was whole".into())));
    }

    #[tokio::test]
    async fn running_requests_end_before_the_server_does() {
        let server = start(Duration::from_secs(5)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        server.signals.begun.notified().await;
        server.stop.send(()).unwrap();
        // New connections are refused from now on; only then may the request end.
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        server.signals.go_on.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("waited"), "{answer}");
        server.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_drain_has_an_end() {
        let server = start(Duration::from_millis(50)).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"PUT /counts HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc").await.unwrap();
        server.signals.begun.notified().await;
        server.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap().unwrap();
    }
}
