//! Errors in `OpenAI`'s shape: a status, headers, and `{"error": {message, type, param, code}}`.

use protocol::{ErrorCode, Failure, InvalidRequest};
use serde_json::json;

/// The request is at fault.
const INVALID_REQUEST: &str = "invalid_request_error";
/// The network is at fault, or busy.
const SERVER_ERROR: &str = "server_error";

/// One error as an HTTP answer, or as the event that ends a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// `OpenAI`'s broad class: `invalid_request_error` or `server_error`.
    pub kind: &'static str,
    /// For programs; `OpenAI`'s word where there is one, else the relay's.
    pub code: &'static str,
    /// The field at fault, such as `messages[2].content`.
    pub param: Option<String>,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Wait this long before trying again, where waiting helps.
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// A fault of the request in one of its fields: status 400.
    pub fn invalid(
        code: &'static str,
        param: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(400, INVALID_REQUEST, code, message)
        }
    }

    /// The body is no JSON: status 400. `place` says where, and quotes nothing.
    pub(crate) fn malformed(place: &str) -> Self {
        let message = format!("We could not parse the JSON body of your request: {place}.");
        Self::new(400, INVALID_REQUEST, "invalid_json", message)
    }

    /// No such model or tier: status 404.
    pub fn model_not_found(model: &str) -> Self {
        let message = format!(
            "The model `{}` does not exist. `GET /v1/models` lists the models and tiers.",
            shortened(model)
        );
        Self {
            param: Some("model".to_owned()),
            ..Self::new(404, INVALID_REQUEST, "model_not_found", message)
        }
    }

    /// No such page or route: status 404.
    pub fn route_not_found(method: &str, path: &str) -> Self {
        let message = format!("Unknown request URL: {method} {}.", shortened(path));
        Self::new(404, INVALID_REQUEST, "unknown_url", message)
    }

    /// The route exists, but not for this method: status 405.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let message = format!("Only {allowed} is allowed here.");
        Self::new(405, INVALID_REQUEST, "method_not_allowed", message)
    }

    /// No key, or a wrong one: status 401.
    pub fn unauthorized(key_given: bool) -> Self {
        let message = if key_given {
            "Incorrect API key provided."
        } else {
            "You didn't provide an API key. Send it in an Authorization header: `Authorization: Bearer hg-…`."
        };
        Self::new(401, INVALID_REQUEST, "invalid_api_key", message)
    }

    /// The body is over the limit: status 413.
    pub fn too_large(bytes_max: usize) -> Self {
        let message = format!("The request body is over the limit of {bytes_max} bytes.");
        Self::new(413, INVALID_REQUEST, "request_too_large", message)
    }

    fn new(
        status: u16,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> String {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
        .to_string()
    }

    /// The headers that go with the body. `OpenAI`'s libraries read both forms of the waiting time.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if let Some(ms) = self.retry_after_ms {
            headers.push(("retry-after", ms.div_ceil(1000).to_string()));
            headers.push(("retry-after-ms", ms.to_string()));
        }
        if self.status == 401 {
            headers.push(("www-authenticate", "Bearer".to_owned()));
        }
        headers
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let (status, kind, code) = classified(failure.code);
        let param = failure.param.or_else(|| match failure.code {
            ErrorCode::UnknownModel => Some("model".to_owned()),
            ErrorCode::ContextLengthExceeded => Some("messages".to_owned()),
            ErrorCode::InvalidRequest
            | ErrorCode::CapabilityMissing
            | ErrorCode::QueueFull
            | ErrorCode::MemoryFull
            | ErrorCode::TooLarge
            | ErrorCode::Unauthorized
            | ErrorCode::UnknownJob
            | ErrorCode::DuplicateJob
            | ErrorCode::ProtocolError
            | ErrorCode::NodeLost
            | ErrorCode::LeaseExpired
            | ErrorCode::EngineFailed
            | ErrorCode::Draining
            | ErrorCode::Cancelled
            | ErrorCode::ClientGone
            | ErrorCode::SlowReader
            | ErrorCode::Internal
            | ErrorCode::Unknown => None,
        });
        Self {
            param,
            retry_after_ms: failure.retry_after_ms,
            ..Self::new(status, kind, code, failure.message)
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(invalid: InvalidRequest) -> Self {
        Self::invalid("invalid_request", invalid.param, invalid.message)
    }
}

/// Status, type and code of each code of the wire.
fn classified(code: ErrorCode) -> (u16, &'static str, &'static str) {
    match code {
        ErrorCode::InvalidRequest => (400, INVALID_REQUEST, "invalid_request"),
        ErrorCode::UnknownModel => (404, INVALID_REQUEST, "model_not_found"),
        ErrorCode::ContextLengthExceeded => (400, INVALID_REQUEST, "context_length_exceeded"),
        ErrorCode::CapabilityMissing => (400, INVALID_REQUEST, "unsupported_parameter"),
        ErrorCode::QueueFull => (503, SERVER_ERROR, "queue_full"),
        ErrorCode::MemoryFull => (503, SERVER_ERROR, "memory_full"),
        ErrorCode::TooLarge => (413, INVALID_REQUEST, "request_too_large"),
        ErrorCode::Unauthorized => (401, INVALID_REQUEST, "invalid_api_key"),
        ErrorCode::UnknownJob => (404, INVALID_REQUEST, "unknown_job"),
        ErrorCode::DuplicateJob => (409, INVALID_REQUEST, "duplicate_job"),
        // The HTTP user speaks no frames: whoever broke the protocol, it was one of ours.
        ErrorCode::ProtocolError => (500, SERVER_ERROR, "protocol_error"),
        ErrorCode::NodeLost => (502, SERVER_ERROR, "node_lost"),
        ErrorCode::LeaseExpired => (504, SERVER_ERROR, "lease_expired"),
        ErrorCode::EngineFailed => (502, SERVER_ERROR, "engine_failed"),
        ErrorCode::Draining => (503, SERVER_ERROR, "draining"),
        // Nobody reads these two: the one who asked has gone. 499 is what proxies log then.
        ErrorCode::Cancelled => (499, INVALID_REQUEST, "cancelled"),
        ErrorCode::ClientGone => (499, INVALID_REQUEST, "client_gone"),
        ErrorCode::SlowReader => (408, INVALID_REQUEST, "slow_reader"),
        ErrorCode::Internal => (500, SERVER_ERROR, "internal_error"),
        ErrorCode::Unknown => (500, SERVER_ERROR, "unknown_error"),
    }
}

/// A name from the request, short enough to stand in a sentence.
pub(crate) fn shortened(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut short: String = name
        .chars()
        .take(CHARS_MAX)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}
