//! From assignment to the end: tokens, usage, acknowledgement, cancel, grace.

use protocol::{
    ClientToRelay, CloseCode, ErrorCode, FinishReason, NodeToRelay, RelayToClient, RelayToNode,
    Speed,
};

use super::world::*;
use crate::Input;

#[test]
fn a_prompt_travels_there_and_back() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.advance(40);
    let node = world.node(9, 1);
    world.told(client);
    let alias = world.only_assigned(node);
    world.advance(100);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[5, 6], "red, ")]);
    world.advance(500);
    world.tokens(node, &[(alias, 5, &[7], "blue")]);
    world.tokens(node, &[(alias, 9, &[2], "")]);
    world.complete(node, alias, 9, 4);
    assert_eq!(world.text(client), "red, blue");
    let told = world.told(client);
    let [
        RelayToClient::Started {
            prompt_tokens: 7, ..
        },
        RelayToClient::Completed {
            offset: 9,
            finish_reason: FinishReason::Stop,
            usage: counted,
            speed,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(*counted, usage(4));
    assert_eq!(
        *speed,
        Speed {
            queued_ms: 40,
            first_token_ms: 100,
            decode_tokens_per_second: 4.0
        }
    );
    world.has_whole(client, 1, 9);
    assert!(!world.scheduler.is_busy());
}

#[test]
fn a_frame_for_one_client_is_forwarded_as_it_is() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    world.submit(client, 2);
    let aliases = world.assigned(node);
    for (_, alias) in &aliases {
        world.accept(node, *alias);
    }
    let both = frame(&[
        (aliases[0].1, 0, &[1], "a"),
        (aliases[1].1, 0, &[2, 3], "bc"),
    ]);
    world.input(Input::NodeTokens {
        socket: node,
        frame: &both,
    });
    assert_eq!(world.frames(client), [both]);
}

#[test]
fn a_frame_for_two_clients_becomes_one_frame_each() {
    let mut world = World::new();
    let (one, two) = (world.client(1), world.client(2));
    let node = world.node(9, 3);
    world.submit(one, 1);
    world.submit(two, 2);
    world.submit(one, 3);
    let aliases: Vec<_> = world
        .assigned(node)
        .into_iter()
        .map(|(_, alias)| alias)
        .collect();
    for alias in &aliases {
        world.accept(node, *alias);
    }
    let (a, b, c) = (aliases[0], aliases[1], aliases[2]);
    world.tokens(
        node,
        &[(a, 0, &[1], "a"), (b, 0, &[2], "b"), (c, 0, &[3], "c")],
    );
    assert_eq!(
        world.frames(one),
        [frame(&[(a, 0, &[1], "a"), (c, 0, &[3], "c")])]
    );
    assert_eq!(world.frames(two), [frame(&[(b, 0, &[2], "b")])]);
}

#[test]
fn usage_is_what_the_relay_counted() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1, 2, 3], "abc")]);
    world.complete(node, alias, 3, 1_000_000);
    let told = world.told(client);
    assert!(
        matches!(told.last(), Some(RelayToClient::Completed { usage: counted, .. }) if *counted == usage(3)),
        "{told:?}"
    );
    assert_eq!(world.counters().usage_mismatches, 1);
}

#[test]
fn acknowledgements_reach_the_node_until_the_whole_is_released() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    let acknowledge = |world: &mut World, offset| {
        world.says(
            client,
            ClientToRelay::Acknowledge {
                job: job(1),
                offset,
                whole: false,
            },
        );
        world.ordered(node)
    };
    assert_eq!(
        acknowledge(&mut world, 2),
        [RelayToNode::Acknowledge {
            alias,
            offset: 2,
            whole: false
        }]
    );
    assert_eq!(acknowledge(&mut world, 1), []);
    world.complete(node, alias, 4, 1);
    assert_eq!(
        acknowledge(&mut world, 4),
        [RelayToNode::Acknowledge {
            alias,
            offset: 4,
            whole: false
        }]
    );
    // It may not have heard that this was the end.
    assert!(!world.is_clean());
    world.has_whole(client, 1, 4);
    assert_eq!(
        world.ordered(node),
        [RelayToNode::Acknowledge {
            alias,
            offset: 4,
            whole: true
        }]
    );
    assert!(world.is_clean());
}

#[test]
fn an_unacknowledged_answer_is_forgotten_after_a_while() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.answer(node, alias);
    assert!(!world.is_clean());
    world.advance(186_000);
    assert!(world.is_clean());
}

#[test]
fn acknowledging_more_than_was_sent_closes_the_client() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    world.says(
        client,
        ClientToRelay::Acknowledge {
            job: job(1),
            offset: 5,
            whole: false,
        },
    );
    assert_eq!(world.closed, [(client, CloseCode::ProtocolError)]);
}

#[test]
fn cancel_ends_a_waiting_job_at_once() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.told(client);
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    assert_eq!(world.failures(client), [(job(1), ErrorCode::Cancelled)]);
    assert!(world.is_clean());
}

#[test]
fn cancel_ends_a_running_job_for_its_client_and_frees_the_slot_when_the_node_stopped() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    world.submit(client, 2);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    assert_eq!(world.failures(client), [(job(1), ErrorCode::Cancelled)]);
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias }]);
    // A step that was under way is nobody's any more.
    world.frames(client);
    world.tokens(node, &[(alias, 2, &[1], "cd")]);
    assert!(world.frames(client).is_empty());
    assert_eq!(world.scheduler.availability()[0].free_slots, 0);
    world.cancelled(node, alias);
    assert_eq!(world.assigned(node)[0].0, job(2));
    assert_eq!(world.counters().cancelled, 1);
}

#[test]
fn a_job_that_finished_before_it_heard_cancel_frees_its_slot_too() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    assert!(world.scheduler.is_busy(), "a node has still to stop");
    world.complete(node, alias, 0, 0);
    assert!(world.is_clean());
    assert_eq!(world.counters().completed, 0);
}

#[test]
fn a_client_that_left_is_waited_for_and_then_its_jobs_stop() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    world.submit(client, 2);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.input(Input::ClientLeft { socket: client });
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.advance(4_999);
    assert_eq!(world.ordered(node), []);
    world.advance(1);
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias }]);
    world.cancelled(node, alias);
    assert!(world.is_clean());
    assert_eq!(world.counters().cancelled, 2);
}

#[test]
fn a_job_may_end_well_in_its_grace_period() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.input(Input::ClientLeft { socket: client });
    world.answer(node, alias);
    world.advance(186_000);
    assert!(world.is_clean());
    assert_eq!(world.counters().completed, 1);
    assert_eq!(world.counters().cancelled, 0);
}

#[test]
fn progress_and_tokens_renew_the_lease() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.advance(29_000);
    world.node_says(
        node,
        NodeToRelay::Progress {
            alias,
            prefilled_tokens: 3,
        },
    );
    world.advance(29_000);
    world.accept(node, alias);
    world.advance(29_000);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.advance(29_000);
    world.complete(node, alias, 2, 1);
    let told = world.told(client);
    assert!(
        matches!(told.last(), Some(RelayToClient::Completed { .. })),
        "{told:?}"
    );
}
