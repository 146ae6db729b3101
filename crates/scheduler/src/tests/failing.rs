//! Lost leases, lost nodes, broken engines, streams that do not fit.

use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX};
use protocol::{
    Alias, ClientToRelay, CloseCode, ErrorCode, Failure, NodeToRelay, RelayToClient, RelayToNode,
};

use super::world::*;
use crate::{Config, Input, SocketId};

fn fails(world: &mut World, node: SocketId, alias: Alias, code: ErrorCode) {
    let failure = Failure::new(code, "because");
    world.node_says(node, NodeToRelay::Failed { alias, failure });
}

#[test]
fn a_lapsed_lease_stops_the_attempt_and_requeues_the_job_once() {
    let mut world = World::new();
    let client = world.client(1);
    let slow = world.node(8, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(slow);
    world.told(client);
    world.advance(10_000);
    let other = world.node(9, 1);
    world.advance(20_000);
    assert_eq!(world.ordered(slow), [RelayToNode::Cancel { alias }]);
    assert_eq!(world.assigned(other)[0].0, job(1));
    assert!(matches!(
        world.told(client)[..],
        [RelayToClient::Assigned { attempt: 2, .. }]
    ));
    assert_eq!(world.counters().leases_expired, 1);
    // The slot comes back only when the node says so.
    assert_eq!(world.scheduler.availability()[0].free_slots, 0);
    world.cancelled(slow, alias);
    assert_eq!(world.scheduler.availability()[0].free_slots, 1);
}

#[test]
fn a_node_that_does_not_stop_within_a_second_lease_is_closed() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    for _ in 0..6 {
        world.advance(10_000);
        world.node_says(node, NodeToRelay::Ping);
    }
    assert_eq!(world.closed, [(node, CloseCode::HeartbeatLost)]);
    // The second attempt was on its other slot, and went back to the queue with the node.
    assert_eq!(world.places(client).last(), Some(&(job(1), 1, 0)));
    assert_eq!(world.counters().requeued, 2);
}

#[test]
fn a_lease_that_lapses_mid_answer_moves_the_job_and_stops_the_node() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.told(client);
    world.advance(30_000);
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias }]);
    assert_eq!(world.places(client), [(job(1), 1, 1)]);
    let other = world.node(8, 1);
    assert_eq!(world.assigned(other)[0].0, job(1));
    world.cancelled(node, alias);
}

#[test]
fn node_lost_before_its_first_byte_requeues_at_the_head() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(8, 1);
    world.submit(client, 1);
    world.submit(client, 2);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.told(client);
    world.input(Input::NodeLeft { socket: node });
    assert_eq!(world.places(client), [(job(1), 1, 0), (job(2), 2, 0)]);
    let other = world.node(9, 1);
    assert_eq!(world.assigned(other)[0].0, job(1));
}

#[test]
fn attempts_are_limited() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    for number in 7..=9 {
        let node = world.node(number, 1);
        world.told(client);
        world.input(Input::NodeLeft { socket: node });
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
    assert!(world.is_clean());
}

#[test]
fn a_fault_of_the_request_goes_to_the_client_as_it_is() {
    for code in [
        ErrorCode::ContextLengthExceeded,
        ErrorCode::InvalidRequest,
        ErrorCode::CapabilityMissing,
    ] {
        let mut world = World::new();
        let client = world.client(1);
        let node = world.node(9, 1);
        world.submit(client, 1);
        let alias = world.only_assigned(node);
        fails(&mut world, node, alias, code);
        let told = world.told(client);
        assert!(
            matches!(told.last(), Some(RelayToClient::Failed { failure, .. }) if failure.code == code && failure.message == "because"),
            "{told:?}"
        );
        assert!(world.is_clean());
    }
}

#[test]
fn a_fault_of_the_node_is_tried_elsewhere() {
    let mut world = World::new();
    let client = world.client(1);
    let nodes = [world.node(8, 1), world.node(9, 1)];
    world.submit(client, 1);
    let first = (0..2).find(|i| !world.assigned(nodes[*i]).is_empty());
    let first = first.unwrap();
    let alias = *world.scheduler.attempts.keys().next().unwrap();
    fails(&mut world, nodes[first], alias, ErrorCode::EngineFailed);
    // Never the node that has just failed, where there is another.
    assert_eq!(world.assigned(nodes[first]), []);
    assert_eq!(world.assigned(nodes[1 - first]).len(), 1);
}

#[test]
fn an_engine_that_keeps_failing_fails_the_job_in_the_end() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    for _ in 0..3 {
        let alias = world.only_assigned(node);
        // Not a node's to say: taken as its engine's fault.
        fails(&mut world, node, alias, ErrorCode::Unauthorized);
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::EngineFailed)]);
    assert_eq!(world.counters().requeued, 2);
    assert!(world.is_clean());
}

#[test]
fn a_draining_node_finishes_but_gets_nothing_new() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.node_says(node, NodeToRelay::Draining);
    world.told(client);
    world.submit(client, 2);
    assert_eq!(world.places(client), [(job(2), 1, 0)]);
    world.answer(node, alias);
    assert_eq!(world.assigned(node), []);
    assert_eq!(world.counters().completed, 1);
}

#[test]
fn a_job_that_met_a_drain_on_its_way_is_placed_elsewhere() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    fails(&mut world, node, alias, ErrorCode::Draining);
    assert_eq!(world.assigned(node), []);
    let other = world.node(8, 1);
    assert_eq!(world.assigned(other)[0].0, job(1));
}

#[test]
fn refusals_of_draining_nodes_cost_a_job_nothing() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    for number in 10..20 {
        let node = world.node(number, 1);
        let alias = world.only_assigned(node);
        fails(&mut world, node, alias, ErrorCode::Draining);
    }
    assert_eq!(world.failures(client), []);
    // Real losses are counted as ever, those of a node that had begun and drains among them.
    for number in 20..23 {
        let node = world.node(number, 1);
        let alias = world.only_assigned(node);
        world.accept(node, alias);
        fails(&mut world, node, alias, ErrorCode::Draining);
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::Draining)]);
    assert!(world.is_clean());
}

#[test]
fn a_second_accepted_and_empty_entries_do_not_renew_the_lease() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.advance(10_000);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[], "")]);
    world.advance(19_999);
    assert_eq!(world.counters().leases_expired, 0);
    world.advance(1);
    assert_eq!(world.counters().leases_expired, 1);
}

#[test]
fn the_same_progress_again_does_not_renew_the_lease() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    for prefilled_tokens in [5, 5, 4, 0] {
        world.advance(9_000);
        world.node_says(
            node,
            NodeToRelay::Progress {
                alias,
                prefilled_tokens,
            },
        );
    }
    assert_eq!(world.counters().leases_expired, 0);
    world.advance(3_000);
    assert_eq!(world.counters().leases_expired, 1);
}

#[test]
fn tokens_without_bytes_and_bytes_without_tokens_are_progress() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    for tokens in [&[][..], &[7], &[]] {
        world.advance(29_000);
        let text = if tokens.is_empty() { "a" } else { "" };
        let offset = world.scheduler.attempts[&alias].offset;
        world.tokens(node, &[(alias, offset, tokens, text)]);
    }
    world.advance(29_000);
    assert_eq!(world.counters().leases_expired, 0);
}

#[test]
fn a_gap_in_the_stream_loses_the_attempt_and_harms_no_other() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    world.submit(client, 2);
    let aliases = world.assigned(node);
    let (bad, good) = (aliases[0].1, aliases[1].1);
    world.accept(node, bad);
    world.accept(node, good);
    world.told(client);
    let text: &[(Alias, u32, &[u32], &str)] = &[
        (bad, 0, &[1], "ab"),
        (good, 0, &[1], "xy"),
        (bad, 3, &[1], "d"),
        (bad, 2, &[1], "c"),
    ];
    world.tokens(node, text);
    assert_eq!(world.text(client), "abxy");
    assert_eq!(world.places(client), [(aliases[0].0, 1, 1)]);
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias: bad }]);
    world.complete(node, good, 2, 1);
    assert_eq!(world.counters().completed, 1);
}

#[test]
fn tokens_before_the_prompt_was_accepted_lose_the_attempt() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    assert!(world.frames(client).is_empty());
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias }]);
    assert_eq!(world.counters().requeued, 1);
}

#[test]
fn an_answer_over_its_limit_loses_the_attempt() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    let piece = "a".repeat(ENTRY_BYTES_MAX);
    let step = u32::try_from(ENTRY_BYTES_MAX).unwrap();
    for offset in (0..ANSWER_BYTES_MAX).step_by(ENTRY_BYTES_MAX) {
        world.tokens(node, &[(alias, offset, &[1], &piece)]);
        assert_eq!(world.frames(client).len(), 1);
        let (job, offset) = (job(1), offset + step);
        world.says(
            client,
            ClientToRelay::Acknowledge {
                job,
                offset,
                whole: false,
            },
        );
    }
    assert_eq!(ANSWER_BYTES_MAX % step, 0);
    world.tokens(node, &[(alias, ANSWER_BYTES_MAX, &[1], "b")]);
    // Nobody could go on with so long an answer.
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
}

#[test]
fn an_end_that_does_not_fit_the_stream_is_no_end() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.told(client);
    world.complete(node, alias, 1, 1);
    assert_eq!(world.counters().completed, 0);
    // It said itself that the slot is free: the same node goes on, being the only one.
    assert_eq!(world.assigned(node)[0].0, job(1));
}

#[test]
fn a_completed_prompt_that_was_never_accepted_is_tried_again() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.complete(node, alias, 0, 0);
    assert_eq!(world.counters().requeued, 1);
    assert_eq!(world.counters().completed, 0);
}

#[test]
fn late_words_about_an_ended_attempt_are_ignored() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.answer(node, alias);
    world.told(client);
    world.frames(client);
    world.tokens(node, &[(alias, 2, &[1], "late")]);
    world.complete(node, alias, 2, 1);
    fails(&mut world, node, alias, ErrorCode::EngineFailed);
    assert!(world.is_open(node));
    assert_eq!(world.told(client), []);
    assert!(world.frames(client).is_empty());
    assert_eq!(world.counters().stale_messages, 3);
}

#[test]
fn naming_another_nodes_attempt_closes_the_node_and_harms_nobody() {
    let mut world = World::new();
    let client = world.client(1);
    let honest = world.node(8, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(honest);
    world.accept(honest, alias);
    for (number, is_frame) in [(9, true), (10, false)] {
        let liar = world.node(number, 1);
        if is_frame {
            world.tokens(liar, &[(alias, 0, &[1], "lies")]);
        } else {
            world.complete(liar, alias, 0, 0);
        }
        assert_eq!(world.closed.pop(), Some((liar, CloseCode::ProtocolError)));
    }
    assert!(world.frames(client).is_empty());
    world.tokens(honest, &[(alias, 0, &[5], "hi")]);
    world.complete(honest, alias, 2, 1);
    assert_eq!(world.text(client), "hi");
    assert_eq!(world.counters().completed, 1);
}

#[test]
fn a_frame_that_is_none_closes_the_node() {
    let mut world = World::new();
    let node = world.node(9, 1);
    world.input(Input::NodeTokens {
        socket: node,
        frame: b"nonsense",
    });
    assert_eq!(world.closed.pop(), Some((node, CloseCode::ProtocolError)));
    let node = world.node(9, 1);
    world.input(Input::NodeTokens {
        socket: node,
        frame: &vec![1; (1 << 20) + 1],
    });
    assert_eq!(world.closed.pop(), Some((node, CloseCode::FrameTooLarge)));
}

#[test]
fn attempts_max_of_one_never_requeues() {
    let mut world = World::with(Config {
        attempts_max: 1,
        ..config()
    });
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    world.input(Input::NodeLeft { socket: node });
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
}
