//! What is too long is refused, and what is just long enough is not.

use crate::limits::{CLIENT_FRAME_BYTES_MAX, TOKEN_FRAME_BYTES_MAX};
use crate::{ClientToRelay, DecodeError, FrameError, PING, TokenFrame, decode};

#[test]
fn a_control_frame_over_its_limit_is_refused_before_it_is_read() {
    assert_eq!(decode(PING, PING.len()), Ok(ClientToRelay::Ping));
    let refused = decode::<ClientToRelay>(PING, PING.len() - 1);
    assert_eq!(
        refused,
        Err(DecodeError::TooLong {
            bytes: PING.len(),
            bytes_max: PING.len() - 1
        })
    );
    // Not even JSON: the length comes first.
    let long = "x".repeat(CLIENT_FRAME_BYTES_MAX + 1);
    let refused = decode::<ClientToRelay>(&long, CLIENT_FRAME_BYTES_MAX);
    assert!(matches!(refused, Err(DecodeError::TooLong { .. })));
}

#[test]
fn a_decode_error_never_quotes_the_frame() {
    let marker = "secret-7f3a";
    for text in [
        marker.to_owned(),
        format!(r#"{{"type":"cancel","job":"{marker}"}}"#),
        format!(r#"{{"type":"submit","model":"{marker}","request":"{marker}"}}"#),
        format!(r#"{{"type":"submit","{marker}""#),
        format!(r#"{{"type":"hello","key":["{marker}"]}}"#),
    ] {
        let error = decode::<ClientToRelay>(&text, CLIENT_FRAME_BYTES_MAX).unwrap_err();
        assert!(!error.to_string().contains(marker), "{error}");
        assert!(!format!("{error:?}").contains(marker), "{error:?}");
    }
}

#[test]
fn a_token_frame_over_its_limit_is_refused() {
    let long = vec![0; TOKEN_FRAME_BYTES_MAX + 1];
    let refused = TokenFrame::decode(&long).unwrap_err();
    assert_eq!(refused, FrameError::TooLong(TOKEN_FRAME_BYTES_MAX + 1));
}
