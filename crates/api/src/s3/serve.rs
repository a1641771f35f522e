//! The S3 listener: every request goes through the guard and then to an `s3s` service of its own.

use std::future::Future;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use s3s::{HttpResponse, S3Error};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::asker::Gateway;
use super::error::{Asked, explain, refusal};
use super::framing::Framed;
use super::guard;
use crate::ApiState;

/// Longest XML body, in bytes: 1000 keys to delete, each of 1024 bytes that XML spells with five.
const XML_MAX: usize = 6 * 1024 * 1024;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

static CONFIG: LazyLock<Arc<StaticConfigProvider>> = LazyLock::new(|| {
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_MAX;
    Arc::new(StaticConfigProvider::new(Arc::new(config)))
});

/// Serves the S3 dialect on `listener` until `shutdown` is ready, then lets running requests end for at most `drain`.
///
/// Returns an error only if the listener itself is unusable.
pub async fn serve_s3(
    listener: TcpListener,
    state: ApiState,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    crate::serve(listener, router(state), shutdown, drain).await
}

/// Returns the router: one handler, since S3 tells its operations apart by query and headers.
fn router(state: ApiState) -> Router {
    Router::new().fallback(answer).with_state(state)
}

async fn answer(State(state): State<ApiState>, request: Request) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let answered = serve_one(&state, request).await;
    let mut response = match answered.or_else(S3Error::to_http_response) {
        Ok(response) => explain(response, &id).map(Body::new).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn serve_one(state: &ApiState, request: Request) -> Result<HttpResponse, S3Error> {
    let (parts, body) = request.into_parts();
    let access_key = guard::access_key(&parts, &state.service.settings().region)?;
    let found = state.service.identity().signer(&access_key).await;
    let (secret_key, who) = found.map_err(|error| refusal(&error, Asked::Other))?;

    let mut builder = S3ServiceBuilder::new(Gateway { service: state.service.clone(), who });
    builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
    builder.set_config(CONFIG.clone());
    let body = if guard::is_framed(&parts.headers) {
        s3s::Body::http_body_unsync(Framed::new(body))
    } else {
        s3s::Body::http_body_unsync(body)
    };
    let answered = builder.build().call(http::Request::from_parts(parts, body)).await;
    answered.map_err(|error| S3Error::with_source(s3s::S3ErrorCode::InternalError, error.into()))
}
