//! Who sends a request: a token (`X-Auth-Token`) or a signature (SDK-HMAC-SHA256).

mod sdk_hmac;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use model::identity::Principal;
use service::{Error, ErrorKind};

use crate::ApiState;

/// How a request showed who sends it; shared paths choose their dialect's defaults by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `X-Auth-Token`: an OpenStack client.
    Token,
    /// SDK-HMAC-SHA256: a Huawei Cloud client.
    Signature,
}

/// Extractor of the [`Principal`] that [`authenticate`] found.
pub(crate) struct Caller(pub(crate) Principal);

/// Verifies the token or signature and puts the [`Principal`] and the [`Scheme`] into the request's extensions.
///
/// The body is read for a signature that covers it, and for nothing else; the request that is returned has it whole.
pub(crate) async fn authenticate(state: &ApiState, request: Request) -> Result<Request, Error> {
    if let Some(secret) = token(request.headers(), "x-auth-token")? {
        let principal = state.service.identity().principal(secret).await?;
        return Ok(with(request, principal, Scheme::Token));
    }
    if !sdk_hmac::is_signed(request.headers()) {
        let hint = "send X-Auth-Token, or sign with SDK-HMAC-SHA256 and an access key";
        return Err(Error::new(ErrorKind::Unauthorized, "this request needs to show who sends it").with_hint(hint));
    }
    let (principal, request) = sdk_hmac::verify(state, request).await?;
    Ok(with(request, principal, Scheme::Signature))
}

/// Returns the token in the header `name`, if there is one; `Unauthorized` if it is no text.
pub(crate) fn token<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let unreadable = || Error::new(ErrorKind::Unauthorized, format!("the token in {name} is no plain text"));
    value.to_str().map(Some).map_err(|_| unreadable())
}

fn with(mut request: Request, principal: Principal, scheme: Scheme) -> Request {
    request.extensions_mut().insert(principal);
    request.extensions_mut().insert(scheme);
    request
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Without a principal the route lacks its authentication layer: our fault, not the client's.
        parts.extensions.get::<Principal>().cloned().map(Self).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
