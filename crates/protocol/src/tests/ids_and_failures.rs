//! Job ids have one spelling; failures are short; close codes say whether to come back.

use proptest::prelude::*;

use super::strategies::failure;
use crate::limits::{FAILURE_MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
use crate::{CloseCode, ErrorCode, Failure, JobId};

#[test]
fn a_job_id_has_exactly_one_spelling() {
    let canonical = "000000000000000000000000000000ff";
    assert_eq!(canonical.parse::<JobId>().unwrap().to_string(), canonical);
    for other in [
        "",
        "ff",
        "000000000000000000000000000000FF",
        "0000000000000000000000000000000ff",
        "+00000000000000000000000000000ff",
        " 00000000000000000000000000000ff",
        "0x0000000000000000000000000000ff",
        "0000000000000000000000000000000g",
        // 32 bytes, 31 characters.
        "00000000000000000000000000000fö",
    ] {
        assert!(other.parse::<JobId>().is_err(), "{other}");
        assert!(
            serde_json::from_value::<JobId>(other.into()).is_err(),
            "{other}"
        );
    }
}

#[test]
fn a_job_id_shows_its_random_bytes_in_order() {
    let id = JobId::from_random([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
    assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
    assert_eq!(format!("{id:?}"), "JobId(000102030405060708090a0b0c0d0eff)");
}

#[test]
fn a_long_sentence_is_cut_between_characters() {
    // 1 + 2n bytes: the limit falls into the middle of an "ö".
    let long = format!("x{}", "ö".repeat(FAILURE_MESSAGE_BYTES_MAX));
    let failure = Failure::new(ErrorCode::Internal, long.clone());
    assert_eq!(failure.message.len(), FAILURE_MESSAGE_BYTES_MAX - 1);
    assert!(long.starts_with(&failure.message));
    let exact = "y".repeat(FAILURE_MESSAGE_BYTES_MAX);
    assert_eq!(
        Failure::new(ErrorCode::Internal, exact.clone()).message,
        exact
    );
}

proptest! {
    #[test]
    fn a_bounded_failure_is_short_and_otherwise_the_same(sent in failure(), times in 1_usize..40) {
        let sent = Failure {
            message: sent.message.repeat(times),
            param: sent.param.map(|param| param.repeat(times)),
            ..sent
        };
        let bounded = sent.clone().bounded();
        prop_assert!(bounded.message.len() <= FAILURE_MESSAGE_BYTES_MAX);
        prop_assert!(sent.message.starts_with(&bounded.message));
        prop_assert!(bounded.param.as_ref().is_none_or(|param| param.len() <= NAME_BYTES_MAX));
        prop_assert_eq!(bounded.param.is_some(), sent.param.is_some());
        prop_assert_eq!(bounded.code, sent.code);
        prop_assert_eq!(bounded.retry_after_ms, sent.retry_after_ms);
        prop_assert_eq!(bounded.clone().bounded(), bounded);
    }
}

#[test]
fn a_peer_comes_back_unless_somebody_must_mend_something() {
    for (code, number, may_retry) in [
        (CloseCode::GoingAway, 1001, true),
        (CloseCode::ProtocolError, 4000, false),
        (CloseCode::Unauthorized, 4001, false),
        (CloseCode::HelloTimeout, 4002, true),
        (CloseCode::FrameTooLarge, 4003, false),
        (CloseCode::HeartbeatLost, 4004, true),
    ] {
        assert_eq!(code.number(), number);
        assert_eq!(CloseCode::may_retry(number), may_retry, "{number}");
    }
    // A network that broke (1006) and codes of later versions: try again.
    assert!(CloseCode::may_retry(1006));
    assert!(CloseCode::may_retry(4999));
}
