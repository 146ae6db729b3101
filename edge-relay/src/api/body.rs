//! Reading a request's body without trusting its length.

use futures_util::StreamExt;
use openai_api::ApiError;
use protocol::limits::HTTP_BODY_BYTES_MAX;
use worker::{Request, Result};

/// How much of a refused body is read and dropped. A client that is still sending when the connection closes sees a
/// broken pipe and not the status; one that sends more than this never asked in earnest.
const DROPPED_BYTES_MAX: usize = 32 << 20;

/// What the request announces, or the most that it may be; refused where it says itself that it is too long.
pub(crate) fn announced_bytes(request: &Request) -> std::result::Result<usize, ApiError> {
    let header = request.headers().get("Content-Length").ok().flatten();
    match header.and_then(|length| length.parse::<usize>().ok()) {
        Some(bytes) if bytes > HTTP_BODY_BYTES_MAX => Err(ApiError::too_large(HTTP_BODY_BYTES_MAX)),
        Some(bytes) => Ok(bytes),
        None => Ok(HTTP_BODY_BYTES_MAX),
    }
}

/// The whole body; what is over the limit is not kept.
pub(crate) async fn read(request: &mut Request) -> Result<std::result::Result<Vec<u8>, ApiError>> {
    let mut body = Vec::new();
    let read = take(request, HTTP_BODY_BYTES_MAX, |chunk| {
        body.extend_from_slice(chunk);
    })
    .await?;
    if read > HTTP_BODY_BYTES_MAX {
        return Ok(Err(ApiError::too_large(HTTP_BODY_BYTES_MAX)));
    }
    Ok(Ok(body))
}

/// Reads and drops the body of a request that is refused already.
pub(crate) async fn drop_body(request: &mut Request) {
    // A client that breaks off meanwhile needs no answer.
    drop(take(request, 0, |_| {}).await);
}

/// Hands on what lies within `kept_bytes_max`, drops what comes after, and tells how much came.
async fn take(
    request: &mut Request,
    kept_bytes_max: usize,
    mut keep: impl FnMut(&[u8]),
) -> Result<usize> {
    let mut read = 0;
    let Ok(mut stream) = request.stream() else {
        return Ok(read); // no body at all
    };
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        read += chunk.len();
        if read <= kept_bytes_max {
            keep(&chunk);
        } else if read > DROPPED_BYTES_MAX {
            break;
        }
    }
    Ok(read)
}
