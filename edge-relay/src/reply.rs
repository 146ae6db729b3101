//! Errors over HTTP, in `OpenAI`'s shape everywhere, so that one client code reads them all.

use openai_api::ApiError;
use protocol::{ErrorCode, Failure};
use worker::{Method, Response, Result};

/// Any API error.
pub(crate) fn error(error: &ApiError) -> Result<Response> {
    let mut response = Response::ok(error.body())?.with_status(error.status);
    for (name, value) in error.headers() {
        response.headers_mut().set(name, &value)?;
    }
    Ok(response)
}

/// A failure as the protocol says it.
pub(crate) fn failure(failure: Failure) -> Result<Response> {
    error(&ApiError::from(failure))
}

/// No key, or a wrong one.
pub(crate) fn unauthorized(reason: &str) -> Result<Response> {
    failure(Failure::new(ErrorCode::Unauthorized, reason))
}

/// A fault of our own.
pub(crate) fn internal() -> Result<Response> {
    failure(Failure::new(
        ErrorCode::Internal,
        "the relay met a fault of its own; try again",
    ))
}

/// The operator has to mend a binding first.
pub(crate) fn misconfigured(reason: &str) -> Result<Response> {
    worker::console_error!("misconfigured: {reason}");
    let response = failure(Failure::new(
        ErrorCode::Internal,
        "this relay is misconfigured; its operator finds the reason in its log",
    ))?;
    Ok(response.with_status(503))
}

/// Not a WebSocket request of ours.
pub(crate) fn upgrade_required(reason: &str) -> Result<Response> {
    let mut response = failure(Failure::new(ErrorCode::InvalidRequest, reason))?.with_status(426);
    response.headers_mut().set("Upgrade", "websocket")?;
    Ok(response)
}

/// The route is there, but not for this method.
pub(crate) fn method_not_allowed(allowed: &str) -> Result<Response> {
    let mut response = error(&ApiError::method_not_allowed(allowed))?;
    response.headers_mut().set("Allow", allowed)?;
    Ok(response)
}

/// Nothing here.
pub(crate) fn no_such_route(method: &Method, path: &str) -> Result<Response> {
    error(&ApiError::route_not_found(method.as_ref(), path))
}
