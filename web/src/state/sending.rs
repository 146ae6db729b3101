//! What is sent to be answered, and whether the relay would take it.

use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{ChatRequest, ClientToRelay, ErrorCode, Failure, JobId, encode};

use super::Message;
use super::history::history;

/// Tokens of an answer on this page. Small models may go round in circles until their context is full; who wants more
/// asks for it.
const ANSWER_TOKENS_MAX: u32 = 2048;

/// The request for an answer to these messages; `Err` where the relay would refuse it. It closes the connection on a
/// frame that is too long, and with the connection goes the reason.
pub(super) fn request(
    job: JobId,
    model: &str,
    messages: &[Message],
) -> Result<Box<ChatRequest>, Failure> {
    let request = ChatRequest {
        messages: history(messages),
        max_tokens: Some(ANSWER_TOKENS_MAX),
        ..ChatRequest::default()
    };
    // The frame and not the text: escapes in JSON take up to six bytes for one.
    let frame = encode(&ClientToRelay::Submit {
        job,
        model: model.to_owned(),
        request: request.clone().into(),
    });
    if frame.len() > CLIENT_FRAME_BYTES_MAX || request.validate().is_err() {
        // All that a request of this page can break is a limit on length, in bytes or in messages.
        return Err(Failure::new(
            ErrorCode::TooLarge,
            "This conversation has grown too long to send.",
        ));
    }
    Ok(Box::new(request))
}
