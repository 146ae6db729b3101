//! Jobs outlive connections: announced, adopted, fenced, or dropped because nobody came back for them.

use protocol::{AnswerHash, ErrorCode, NodeToRelay, RelayToNode};

use super::stage::*;
use crate::{Input, JobKey, Output};

/// A running job of which the client has acknowledged "abc" of "abcdef".
fn half_acknowledged() -> (Stage, JobKey) {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.step(vec![advance(key, &[2, 3], "def")]);
    stage.hears(&acknowledge(1, 3));
    stage.said();
    stage.frames.clear();
    (stage, key)
}

fn announcement(offset: u32, is_ended: bool) -> NodeToRelay {
    NodeToRelay::Announce {
        job: job_id(1),
        attempt: 1,
        ticket: "ticket 1".into(),
        from: 3,
        hash: AnswerHash::of(b"abc"),
        offset,
        ended: is_ended,
    }
}

#[test]
fn a_lost_connection_keeps_its_jobs_and_the_next_one_hears_of_them() {
    let (mut stage, key) = half_acknowledged();
    stage.input(Input::Closed { code: None });
    assert_eq!(stage.wanted(), []);
    stage.step(vec![advance(key, &[4], "ghi")]);
    stage.come_back();
    assert_eq!(stage.said(), [config(1).hello(1), announcement(9, false)]);
    assert!(stage.frames.is_empty());
    // Not wanted by anybody yet, so nothing is said of it; its slot is taken.
    stage.step(vec![advance(key, &[5], "jkl")]);
    assert!(stage.frames.is_empty());
    stage.hears(&assign(2));
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Failed { alias: 2, .. }]
    ));
    stage.hears(&adopt(1, 6, "abcdef", 3));
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Accepted {
            alias: 6,
            prompt_tokens: 7,
            context_tokens: 4_096
        }]
    ));
    assert_eq!(stage.entries(), [[(6, 6, vec![4, 5], "ghijkl".to_owned())]]);
    stage.step(vec![advance(key, &[6], "m")]);
    assert_eq!(stage.entries(), [[(6, 12, vec![6], "m".to_owned())]]);
    stage.finish(key);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Completed {
            alias: 6,
            offset: 13,
            ..
        }]
    ));
}

#[test]
fn an_answer_that_ended_without_a_connection_is_handed_over_whole() {
    let (mut stage, key) = half_acknowledged();
    stage.input(Input::Closed { code: None });
    stage.step(vec![advance(key, &[4], "ghi")]);
    stage.finish(key);
    stage.come_back();
    assert_eq!(stage.said(), [config(1).hello(1), announcement(9, true)]);
    // It holds no slot.
    stage.start(2);
    stage.order.clear();
    stage.hears(&adopt(1, 6, "abc", 1));
    assert_eq!(stage.order, ["message", "frame", "message"]);
    assert_eq!(
        stage.entries(),
        [[(6, 3, vec![2, 3, 4], "defghi".to_owned())]]
    );
    assert!(matches!(
        stage.said()[..],
        [
            NodeToRelay::Accepted { alias: 6, .. },
            NodeToRelay::Completed {
                alias: 6,
                offset: 9,
                usage: USAGE,
                ..
            }
        ]
    ));
    // Wanted again, and so kept as long as one that has just ended.
    stage.wait(10_000);
    stage.hears(&RelayToNode::Pong);
    stage.hears(&acknowledge_whole(6, 9));
    assert_eq!(stage.session.jobs.len(), 1);
}

#[test]
fn an_adopted_end_is_kept_as_long_as_a_new_one_and_no_longer() {
    let (mut stage, key) = half_acknowledged();
    stage.finish(key);
    for _ in 0..5 {
        stage.wait(10_000);
        stage.hears(&RelayToNode::Pong);
    }
    stage.fall_and_return();
    stage.hears(&adopt(1, 6, "abc", 1));
    stage.wait(1);
    for _ in 0..6 {
        assert_eq!(stage.session.jobs.len(), 1);
        stage.wait(10_000);
        stage.hears(&RelayToNode::Pong);
    }
    assert_eq!(stage.session.jobs.len(), 0);
}

#[test]
fn a_drain_gives_the_client_of_an_adopted_end_its_time_too() {
    let (mut stage, key) = half_acknowledged();
    stage.finish(key);
    stage.wait(10_000);
    stage.fall_and_return();
    stage.hears(&adopt(1, 6, "abc", 1));
    stage.input(Input::DrainRequested);
    stage.wanted();
    stage.wait(4_999);
    assert_eq!(stage.wanted(), []);
    stage.wait(1);
    assert_eq!(stage.wanted().len(), 2);
}

#[test]
fn an_announcement_tells_what_became_of_the_answer_while_the_node_said_hello() {
    let (mut stage, key) = half_acknowledged();
    stage.input(Input::Closed { code: None });
    stage.wait_for_timeout();
    stage.input(Input::Connected);
    stage.step(vec![advance(key, &[4], "ghi")]);
    stage.finish(key);
    stage.hears(&RelayToNode::Welcome {
        node: "n".into(),
        heartbeat_ms: 15_000,
    });
    assert_eq!(stage.said(), [config(1).hello(1), announcement(9, true)]);
}

#[test]
fn an_end_that_was_said_but_not_acknowledged_is_said_again_to_the_next_relay() {
    let (mut stage, key) = half_acknowledged();
    stage.finish(key);
    stage.hears(&acknowledge(1, 6));
    stage.fall_and_return();
    assert!(matches!(
        stage.said()[..],
        [
            NodeToRelay::Hello { announces: 1, .. },
            NodeToRelay::Announce {
                from: 6,
                offset: 6,
                ended: true,
                ..
            }
        ]
    ));
    stage.hears(&adopt(1, 6, "abcdef", 3));
    assert!(matches!(
        stage.said()[..],
        [
            NodeToRelay::Accepted { alias: 6, .. },
            NodeToRelay::Completed { alias: 6, .. }
        ]
    ));
    assert!(stage.frames.is_empty());
}

#[test]
fn an_adoption_that_does_not_agree_with_the_answer_is_refused_and_ends_the_attempt() {
    let wrong = [
        adopt(1, 6, "abX", 1),
        // Released already.
        adopt(1, 6, "ab", 1),
        // Never made.
        adopt(1, 6, "abcdefg", 3),
        adopt(1, 6, "abcdef", 4),
        // Of another attempt, and another job.
        RelayToNode::Adopt {
            job: job_id(1),
            attempt: 2,
            alias: 6,
            lease_ms: 1,
            window_bytes: 1,
            offset: 3,
            tokens: 1,
            hash: AnswerHash::of(b"abc"),
        },
        adopt(2, 6, "abc", 1),
    ];
    for (index, message) in wrong.iter().enumerate() {
        let (mut stage, key) = half_acknowledged();
        stage.fall_and_return();
        stage.said();
        stage.hears(message);
        let said = stage.said();
        assert!(
            matches!(&said[..], [NodeToRelay::Failed { alias: 6, failure }] if failure.code == ErrorCode::UnknownJob),
            "{said:?}"
        );
        assert!(stage.frames.is_empty());
        let is_stopped = index < 4;
        assert_eq!(stage.wanted().contains(&Output::Stop { key }), is_stopped);
        assert_eq!(stage.session.unacknowledged_bytes() == 0, is_stopped);
    }
}

#[test]
fn an_adoption_may_cut_an_entry_that_the_client_has_in_part() {
    let (mut stage, _) = half_acknowledged();
    stage.fall_and_return();
    stage.hears(&adopt(1, 6, "abcd", 2));
    assert_eq!(stage.entries(), [[(6, 4, vec![3], "ef".to_owned())]]);
}

#[test]
fn a_fenced_attempt_is_stopped_and_forgotten_and_its_slot_is_free() {
    let (mut stage, key) = half_acknowledged();
    stage.fall_and_return();
    stage.said();
    stage.hears(&fence(1));
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
    // The engine still stops the old one in its place.
    stage.hears(&assign(2));
    assert_eq!((stage.wanted(), stage.said()), (vec![], vec![]));
    stage.step(vec![advance(key, &[4], "late")]);
    stage.stopped(key);
    assert!(matches!(stage.wanted()[..], [Output::Start { .. }]));
    assert_eq!(stage.said(), []);
    assert!(stage.frames.is_empty());
    stage.hears(&adopt(1, 6, "abc", 1));
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Failed { alias: 6, .. }]
    ));
}

#[test]
fn an_attempt_with_a_name_on_this_connection_is_not_fenced_but_cancelled() {
    let (mut stage, _) = half_acknowledged();
    stage.hears(&fence(1));
    assert_eq!(stage.wanted(), []);
    assert_eq!(stage.session.ignored(), 1);
}

#[test]
fn what_nobody_adopts_is_dropped_after_a_minute_however_many_relays_come() {
    let (mut stage, key) = half_acknowledged();
    stage.fall_and_return();
    let fell_at = stage.now;
    stage.wait(10_000);
    stage.fall_and_return();
    stage.wanted.clear();
    while stage.session.job_count() > 0 {
        stage.hears(&RelayToNode::Pong);
        stage.wait(1_000);
    }
    assert!((58_000..=60_000).contains(&(stage.now - fell_at)));
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    stage.stopped(key);
    stage.start(2);
}

#[test]
fn an_adopted_job_is_not_dropped() {
    let (mut stage, key) = half_acknowledged();
    stage.fall_and_return();
    stage.hears(&adopt(1, 6, "abc", 1));
    stage.said();
    for _ in 0..100 {
        stage.hears(&RelayToNode::Pong);
        stage.wait(1_000);
    }
    stage.finish(key);
    assert!(matches!(
        stage.said().last(),
        Some(NodeToRelay::Completed { alias: 6, .. })
    ));
}

#[test]
fn an_attempt_that_broke_without_a_connection_is_not_announced() {
    let (mut stage, key) = half_acknowledged();
    stage.input(Input::Closed { code: None });
    stage.stopped(key);
    stage.come_back();
    assert_eq!(stage.said(), [config(1).hello(0)]);
    stage.start(2);
}

#[test]
fn as_many_announcements_come_as_hello_promised_though_one_broke_in_between() {
    let (mut stage, key) = half_acknowledged();
    stage.input(Input::Closed { code: None });
    stage.wait_for_timeout();
    stage.input(Input::Connected);
    stage.stopped(key);
    stage.hears(&RelayToNode::Welcome {
        node: "n".into(),
        heartbeat_ms: 15_000,
    });
    assert_eq!(stage.said(), [config(1).hello(1), announcement(6, true)]);
    stage.hears(&adopt(1, 6, "abc", 1));
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Failed { alias: 6, .. }]
    ));
}

#[test]
fn a_cancelled_job_is_not_announced_and_nothing_is_said_of_its_end() {
    let (mut stage, key) = half_acknowledged();
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    stage.fall_and_return();
    assert_eq!(stage.said(), [config(1).hello(0)]);
    stage.stopped(key);
    assert_eq!(stage.said(), []);
}

#[test]
fn words_about_an_alias_of_an_earlier_connection_mean_nothing() {
    let (mut stage, key) = half_acknowledged();
    stage.fall_and_return();
    stage.hears(&adopt(1, 6, "abc", 1));
    stage.wanted.clear();
    stage.hears(&acknowledge(1, 6));
    stage.hears(&acknowledge_whole(1, 6));
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    assert_eq!(stage.wanted(), []);
    assert_eq!(stage.session.unacknowledged_bytes(), 3);
    assert_eq!(stage.session.ignored(), 3);
    // Taken over again on the same connection: the newer name counts.
    stage.hears(&adopt(1, 7, "abcdef", 3));
    stage.hears(&RelayToNode::Cancel { alias: 6 });
    assert_eq!(stage.wanted(), []);
    stage.hears(&RelayToNode::Cancel { alias: 7 });
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
}

#[test]
fn a_timed_out_job_whose_node_is_never_told_can_be_assigned_to_it_again() {
    for is_lost in [false, true] {
        let (mut stage, old) = half_acknowledged();
        if is_lost {
            stage.fall_and_return();
        }
        stage.said();
        let mut again = assign(1);
        if let RelayToNode::Assign { alias, attempt, .. } = &mut again {
            (*alias, *attempt) = (8, 2);
        }
        stage.hears(&again);
        assert_eq!(stage.wanted(), [Output::Stop { key: old }]);
        assert_eq!(stage.session.job_count(), 1);
        // What the old attempt still says is nobody's, and its place is waited for.
        stage.step(vec![advance(old, &[4], "ghost")]);
        assert!(stage.frames.is_empty());
        stage.stopped(old);
        let wanted = stage.wanted();
        let [Output::Start { key, .. }] = wanted[..] else {
            panic!("{wanted:?}")
        };
        stage.accept(key);
        stage.step(vec![advance(key, &[1], "abc")]);
        assert_eq!(stage.entries(), [[(8, 0, vec![1], "abc".to_owned())]]);
        assert!(matches!(
            stage.said()[..],
            [NodeToRelay::Accepted { alias: 8, .. }]
        ));
        stage.hears(&RelayToNode::Cancel { alias: 1 });
        assert_eq!(stage.wanted(), []);
    }
}

#[test]
fn a_job_that_waits_for_a_place_can_be_cancelled_and_outlives_its_connection() {
    for is_cancelled in [false, true] {
        let (mut stage, old) = half_acknowledged();
        stage.fall_and_return();
        stage.hears(&fence(1));
        stage.hears(&assign(2));
        stage.wanted();
        stage.said();
        if is_cancelled {
            stage.hears(&RelayToNode::Cancel { alias: 2 });
            assert!(matches!(
                stage.said()[..],
                [NodeToRelay::Cancelled { alias: 2, .. }]
            ));
        } else {
            stage.fall_and_return();
            assert_eq!(stage.said().len(), 2);
            stage.hears(&adopt(2, 6, "", 0));
            assert_eq!(stage.said(), []);
        }
        stage.stopped(old);
        assert_eq!(stage.wanted().len(), usize::from(!is_cancelled));
    }
}
