//! Dialling, greeting, heartbeat, back-off, draining.

use protocol::{CloseCode, ErrorCode, Failure, NodeToRelay, PrefixHash, RelayToNode};

use super::stage::*;
use crate::{End, EngineEvent, Input, Output};

#[test]
fn a_new_session_dials_and_says_who_it_is() {
    let mut stage = Stage::new(2);
    assert_eq!(stage.wanted(), [Output::Connect]);
    stage.input(Input::Connected);
    assert_eq!(stage.said(), [config(2).hello(0)]);
    stage.hears(&RelayToNode::Welcome {
        node: "n7".into(),
        heartbeat_ms: 15_000,
    });
    assert_eq!(stage.wanted(), [Output::Welcomed { node: "n7".into() }]);
}

#[test]
fn a_heartbeat_is_sent_when_nothing_else_was() {
    let mut stage = Stage::up(1);
    stage.wait(14_999);
    assert_eq!(stage.said(), []);
    stage.wait(1);
    assert_eq!(stage.said(), [NodeToRelay::Ping]);
    stage.hears(&RelayToNode::Pong);
    stage.wait(14_999);
    assert_eq!(stage.said(), []);
    stage.wait(1);
    assert_eq!(stage.said(), [NodeToRelay::Ping]);
}

#[test]
fn a_relay_that_does_not_answer_a_heartbeat_is_given_up() {
    let mut stage = Stage::up(1);
    stage.wait(29_999);
    assert_eq!(stage.wanted(), []);
    stage.wait(1);
    let code = CloseCode::HeartbeatLost.number();
    assert_eq!(stage.wanted(), [Output::CloseSocket { code }]);
    stage.wait(30_000);
    assert_eq!(stage.wanted(), [Output::Connect]);
}

#[test]
fn a_ghost_behind_a_half_open_connection_finds_out_and_comes_back_with_its_answer() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    for _ in 0..30 {
        stage.wait(1_000);
        stage.step(vec![advance(key, &[1], "a")]);
    }
    let code = CloseCode::HeartbeatLost.number();
    assert_eq!(stage.wanted(), [Output::CloseSocket { code }]);
    stage.come_back();
    assert!(matches!(
        stage.said()[..],
        [
            NodeToRelay::Hello { announces: 1, .. },
            NodeToRelay::Announce {
                from: 0,
                offset: 30,
                ..
            }
        ]
    ));
}

#[test]
fn a_relay_that_does_not_welcome_is_given_up() {
    let mut stage = Stage::new(1);
    stage.input(Input::Connected);
    stage.wanted();
    stage.wait(15_000);
    let code = CloseCode::HeartbeatLost.number();
    assert_eq!(stage.wanted(), [Output::CloseSocket { code }]);
}

#[test]
fn pauses_grow_with_jitter_within_their_bounds_and_differ_between_nodes() {
    let pauses = |seed| {
        let mut stage = Stage::with(config(1), seed);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            stage.input(Input::Closed { code: None });
            stage.wanted.clear();
            pauses.push(stage.wait_for_timeout());
            assert_eq!(stage.wanted(), [Output::Connect]);
        }
        pauses
    };
    let (one, two) = (pauses(1), pauses(2));
    assert_ne!(one, two);
    assert_eq!(one, pauses(1));
    assert!(
        one.iter().all(|pause| (250..=30_000).contains(pause)),
        "{one:?}"
    );
    assert!(one[0] <= 750, "{one:?}");
    assert!(one.iter().max() > Some(&3_000), "{one:?}");
}

#[test]
fn after_a_good_connection_the_first_pause_is_short_and_differs_between_nodes() {
    let pauses: Vec<_> = (0..40)
        .map(|seed| {
            let mut stage = Stage::with(config(1), seed);
            while {
                stage.input(Input::Closed { code: None });
                stage.wait_for_timeout() < 5_000
            } {}
            stage.welcome();
            stage.wait(1_000);
            stage.input(Input::Closed { code: Some(1001) });
            let first = stage.wait_for_timeout();
            stage.input(Input::Closed { code: None });
            let second = stage.wait_for_timeout();
            assert!((250..=750).contains(&second), "{second}");
            first
        })
        .collect();
    assert!(
        pauses.iter().all(|pause| (50..=500).contains(pause)),
        "{pauses:?}"
    );
    let different: std::collections::BTreeSet<_> = pauses.iter().collect();
    assert!(different.len() > 30, "{pauses:?}");
}

#[test]
fn a_relay_that_falls_at_each_welcome_is_not_hammered() {
    let mut stage = Stage::new(1);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        stage.welcome();
        stage.wait(500);
        stage.input(Input::Closed { code: None });
        pauses.push(stage.wait_for_timeout());
    }
    assert!(pauses.iter().all(|pause| *pause >= 250), "{pauses:?}");
    assert!(pauses.iter().any(|pause| *pause > 1_500), "{pauses:?}");
}

#[test]
fn a_node_that_the_relay_will_not_have_ends_instead_of_hammering() {
    for code in [4000, 4001, 4003] {
        let mut stage = Stage::new(1);
        stage.input(Input::Connected);
        stage.wanted();
        stage.input(Input::Closed { code: Some(code) });
        assert_eq!(stage.wanted(), [Output::Exit(End::Refused { code })]);
        assert_eq!(stage.session.poll_timeout(), None);
        stage.input(Input::Tick);
        stage.input(Input::Connected);
        assert_eq!(stage.wanted(), []);
        assert_eq!(stage.said().len(), 1);
    }
}

#[test]
fn a_relay_that_forgot_our_jobs_is_come_back_to_but_not_one_that_takes_our_key_away() {
    let mut stage = Stage::up(1);
    stage.input(Input::Closed { code: Some(4000) });
    stage.wait(30_000);
    assert_eq!(stage.wanted(), [Output::Connect]);
    stage.welcome();
    stage.input(Input::Closed { code: Some(4001) });
    assert_eq!(stage.wanted(), [Output::Exit(End::Refused { code: 4001 })]);
}

#[test]
fn other_ends_of_the_socket_are_come_back_from() {
    for code in [
        None,
        Some(1001),
        Some(1006),
        Some(4002),
        Some(4004),
        Some(4005),
    ] {
        let mut stage = Stage::up(1);
        stage.input(Input::Closed { code });
        stage.wait(30_000);
        assert_eq!(stage.wanted(), [Output::Connect], "{code:?}");
        stage.welcome();
        assert!(stage.session.poll_timeout().is_some());
    }
}

#[test]
fn a_refusal_is_told_to_the_operator() {
    let mut stage = Stage::new(1);
    stage.input(Input::Connected);
    stage.wanted();
    let failure = Failure::new(ErrorCode::UnknownModel, "not in the catalog");
    stage.hears(&RelayToNode::Refused {
        failure: failure.clone(),
    });
    assert_eq!(stage.wanted(), [Output::Refused(failure)]);
}

#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    let mut stage = Stage::up(2);
    let key = stage.start(1);
    stage.accept(key);
    stage.said();
    stage.input(Input::DrainRequested);
    stage.input(Input::DrainRequested);
    assert_eq!(stage.said(), [NodeToRelay::Draining]);
    stage.hears(&assign(2));
    let said = stage.said();
    assert!(
        matches!(&said[..], [NodeToRelay::Failed { alias: 2, failure }] if failure.code == ErrorCode::Draining)
    );
    stage.step(vec![advance(key, &[1], "a")]);
    stage.wanted();
    stage.finish(key);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Completed { alias: 1, .. }]
    ));
    // The client may not have it yet, and the relay could fall.
    assert_eq!(stage.wanted(), []);
    stage.hears(&acknowledge_whole(1, 1));
    assert_eq!(stage.wanted(), drained());
}

fn drained() -> [Output; 2] {
    [
        Output::CloseSocket { code: 1000 },
        Output::Exit(End::Drained),
    ]
}

#[test]
fn draining_ends_with_the_last_job_that_broke_or_was_stopped() {
    let mut stage = Stage::up(2);
    let (one, two) = (stage.start(1), stage.start(2));
    stage.input(Input::DrainRequested);
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    let failure = Failure::new(ErrorCode::EngineFailed, "broke");
    stage.engine(EngineEvent::Failed { key: two, failure });
    stage.wanted();
    stage.said();
    stage.wait(1_000);
    assert_eq!(stage.wanted(), []);
    stage.stopped(one);
    assert_eq!(stage.said().len(), 1);
    assert_eq!(stage.wanted(), drained());
}

#[test]
fn draining_does_not_wait_long_for_a_client_that_does_not_acknowledge() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.input(Input::DrainRequested);
    stage.finish(key);
    stage.wanted();
    stage.wait(4_999);
    assert_eq!(stage.wanted(), []);
    stage.wait(1);
    assert_eq!(stage.wanted(), drained());
}

#[test]
fn draining_an_idle_node_ends_at_once() {
    let mut stage = Stage::up(1);
    stage.input(Input::DrainRequested);
    assert_eq!(stage.said(), [NodeToRelay::Draining]);
    assert_eq!(
        stage.wanted(),
        [
            Output::CloseSocket { code: 1000 },
            Output::Exit(End::Drained)
        ]
    );
}

#[test]
fn draining_without_a_connection_ends_at_once() {
    let mut stage = Stage::up(1);
    stage.input(Input::Closed { code: None });
    stage.wanted();
    stage.input(Input::DrainRequested);
    assert_eq!(stage.wanted(), [Output::Exit(End::Drained)]);
}

#[test]
fn draining_without_a_connection_keeps_what_runs_until_it_is_done() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.input(Input::Closed { code: None });
    stage.input(Input::DrainRequested);
    stage.come_back();
    let said = stage.said();
    assert!(matches!(
        said[..],
        [
            NodeToRelay::Hello { announces: 1, .. },
            NodeToRelay::Announce { ended: false, .. },
            NodeToRelay::Draining
        ]
    ));
    stage.hears(&adopt(1, 5, "", 0));
    stage.finish(key);
    assert_eq!(stage.wanted(), []);
    stage.hears(&acknowledge_whole(5, 0));
    assert_eq!(stage.wanted(), drained());
}

#[test]
fn draining_without_a_connection_hands_a_whole_answer_over_first() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.input(Input::Closed { code: None });
    stage.finish(key);
    stage.wait(6_000);
    stage.wanted();
    stage.input(Input::DrainRequested);
    assert_eq!(stage.wanted(), []);
    stage.input(Input::Connected);
    stage.hears(&RelayToNode::Welcome {
        node: "n".into(),
        heartbeat_ms: 15_000,
    });
    stage.hears(&adopt(1, 2, "", 0));
    stage.wait(4_999);
    stage.wanted();
    stage.hears(&acknowledge_whole(2, 0));
    assert_eq!(stage.wanted(), drained());
}

#[test]
fn draining_ends_when_what_was_kept_is_fenced_or_wanted_by_nobody() {
    for is_fenced in [false, true] {
        let mut stage = Stage::up(1);
        let key = stage.start(1);
        stage.accept(key);
        stage.input(Input::Closed { code: None });
        stage.input(Input::DrainRequested);
        if is_fenced {
            stage.come_back();
            stage.hears(&fence(1));
        } else {
            stage.wanted();
            stage.input(Input::Connected);
            stage.wait(60_000);
        }
        let wanted = stage.wanted();
        assert!(wanted.contains(&Output::Exit(End::Drained)), "{wanted:?}");
    }
}

#[test]
fn each_relay_hears_what_is_cached_once_it_has_said_welcome() {
    let mut stage = Stage::new(1);
    let cached = |names: &[u64]| {
        let prefixes = names.iter().copied().map(PrefixHash).collect();
        NodeToRelay::Cached { prefixes }
    };
    stage.engine(EngineEvent::Cached(Vec::new()));
    stage.input(Input::Connected);
    assert_eq!(stage.said(), [config(1).hello(0)]);
    stage.hears(&RelayToNode::Welcome {
        node: "n".into(),
        heartbeat_ms: 15_000,
    });
    assert_eq!(stage.said(), [cached(&[])]);
    stage.wanted();
    stage.engine(EngineEvent::Cached(vec![PrefixHash(3)]));
    assert_eq!(stage.said(), [cached(&[3])]);
    stage.fall_and_return();
    let said = stage.said();
    assert_eq!(said.last(), Some(&cached(&[3])));
    assert_eq!(said.len(), 2, "hello and this: {said:?}");
}
