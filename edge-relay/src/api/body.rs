//! Reading a request's body without trusting its length.

use futures_util::StreamExt;
use openai_api::ApiError;
use protocol::limits::HTTP_BODY_BYTES_MAX;
use worker::{Request, Result};

/// What the request announces, or the most that it may be; refused where it says itself that it is too long.
pub(crate) fn announced_bytes(request: &Request) -> std::result::Result<usize, ApiError> {
    let header = request.headers().get("Content-Length").ok().flatten();
    match header.and_then(|length| length.parse::<usize>().ok()) {
        Some(bytes) if bytes > HTTP_BODY_BYTES_MAX => Err(ApiError::too_large(HTTP_BODY_BYTES_MAX)),
        Some(bytes) => Ok(bytes),
        None => Ok(HTTP_BODY_BYTES_MAX),
    }
}

/// The whole body; stops reading where it goes over the limit.
pub(crate) async fn read(request: &mut Request) -> Result<std::result::Result<Vec<u8>, ApiError>> {
    let mut body = Vec::new();
    let Ok(mut stream) = request.stream() else {
        return Ok(Ok(body)); // no body at all
    };
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > HTTP_BODY_BYTES_MAX {
            return Ok(Err(ApiError::too_large(HTTP_BODY_BYTES_MAX)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Ok(body))
}
