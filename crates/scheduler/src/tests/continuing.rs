//! A node dies and another goes on from that very byte.

use protocol::{Capabilities, DeltaKind, ErrorCode, JobId, RelayToClient, RelayToNode};

use super::world::*;
use crate::{Config, Input, SocketId};

/// The answer that a node was told to go on with: text, tokens, and whose they are.
fn carried(world: &mut World, node: SocketId) -> Option<(String, Vec<u32>, Option<String>)> {
    let orders = world.ordered(node);
    orders.into_iter().find_map(|order| {
        let RelayToNode::Assign { answer, .. } = order else {
            return None;
        };
        let answer = answer?;
        let text = answer.pieces.iter().map(|piece| piece.text.as_str());
        let tokens = answer.pieces.iter().flat_map(|piece| piece.tokens.clone());
        Some((text.collect(), tokens.collect(), answer.model))
    })
}

fn begun(world: &mut World, text: &str, tokens: &[u32]) -> (SocketId, SocketId) {
    let client = world.client(1);
    let node = world.node(8, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, tokens, text)]);
    (client, node)
}

#[test]
fn a_reply_goes_on_where_its_node_died_and_does_not_begin_anew() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "Red, ", &[7, 8]);
    let other = world.node(9, 1);
    world.told(client);
    world.input(Input::NodeLeft { socket: node });
    let given = carried(&mut world, other).unwrap();
    assert_eq!(given, ("Red, ".into(), vec![7, 8], Some(MODEL.into())));
    let alias = *world.scheduler.attempts.keys().next().unwrap();
    let RelayToClient::Assigned {
        attempt: 2,
        offset: 5,
        ..
    } = world.told(client)[0]
    else {
        panic!("the client hears where the new attempt begins")
    };
    world.accept(other, alias);
    world.tokens(other, &[(alias, 5, &[9], "green")]);
    world.complete(other, alias, 10, 3);
    assert_eq!(world.text(client), "Red, green");
    let told = world.told(client);
    let Some(RelayToClient::Completed { offset, usage, .. }) = told.last() else {
        panic!("{told:?}")
    };
    // The tokens of both attempts count once.
    assert_eq!((*offset, usage.completion_tokens), (10, 3));
    assert_eq!(world.counters().nodes_lost, 1);
}

#[test]
fn an_attempt_that_begins_anew_is_a_misfit_and_no_byte_of_it_is_passed_on() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "Red, ", &[7, 8]);
    let other = world.node(9, 1);
    world.input(Input::NodeLeft { socket: node });
    world.ordered(other);
    let alias = *world.scheduler.attempts.keys().next().unwrap();
    world.accept(other, alias);
    world.tokens(other, &[(alias, 0, &[7], "Red")]);
    assert_eq!(world.text(client), "Red, ");
    assert_eq!(world.ordered(other), [RelayToNode::Cancel { alias }]);
}

#[test]
fn nothing_of_a_lost_attempt_is_passed_on_after_it_was_lost() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "ab", &[1]);
    let alias = *world.scheduler.attempts.keys().next().unwrap();
    world.advance(30_000);
    let other = world.node(9, 1);
    world.ordered(other);
    world.tokens(node, &[(alias, 2, &[1], "late")]);
    assert_eq!(world.text(client), "ab");
    assert_eq!(world.counters().stale_messages, 1);
}

#[test]
fn an_answer_that_has_begun_goes_only_to_nodes_that_can_go_on_with_it() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "ab", &[1]);
    let mut plain = offer(MODEL);
    plain.capabilities = Capabilities::default();
    let beginner = world.node_with(9, hello(1, vec![plain]));
    world.input(Input::NodeLeft { socket: node });
    assert_eq!(world.assigned(beginner), []);
    // It blocks nobody who only begins.
    world.submit(client, 2);
    assert_eq!(world.assigned(beginner)[0].0, job(2));
    let able = world.node(10, 1);
    assert_eq!(world.assigned(able)[0].0, job(1));
}

#[test]
fn an_answer_that_nobody_can_go_on_with_does_not_wait_for_ever() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "ab", &[1]);
    let mut plain = offer(MODEL);
    plain.capabilities = Capabilities::default();
    let beginner = world.node_with(9, hello(1, vec![plain]));
    world.input(Input::NodeLeft { socket: node });
    world.advance(30_000);
    world.node_says(beginner, protocol::NodeToRelay::Ping);
    world.advance(29_999);
    assert_eq!(world.failures(client), []);
    world.advance(1);
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
    assert!(world.is_clean());
}

#[test]
fn the_job_runs_again_at_once_when_a_slot_is_free_and_nothing_else_happens() {
    let mut world = World::new();
    let (_, node) = begun(&mut world, "ab", &[1]);
    let other = world.node(9, 1);
    world.input(Input::NodeLeft { socket: node });
    // In the very step in which it was lost.
    assert_eq!(world.assigned(other).len(), 1);
}

#[test]
fn answers_of_several_models_are_carried_as_text_alone() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(8, 1);
    world.submit_to(client, 1, TIER, request());
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    let other = world.node_with(9, hello(1, vec![offer(OTHER)]));
    world.input(Input::NodeLeft { socket: node });
    let (_, _, model) = carried(&mut world, other).unwrap();
    assert_eq!(
        model,
        Some(MODEL.into()),
        "the other node sees whose tokens they are"
    );
    let alias = *world.scheduler.attempts.keys().next().unwrap();
    world.accept(other, alias);
    world.tokens(other, &[(alias, 2, &[1], "cd")]);
    let third = world.node(10, 1);
    world.input(Input::NodeLeft { socket: other });
    let (text, _, model) = carried(&mut world, third).unwrap();
    assert_eq!((text.as_str(), model), ("abcd", None));
}

#[test]
fn attempts_that_add_nothing_are_limited_and_those_that_do_are_not() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    for (offset, number) in (0..).zip(10..16) {
        let node = world.node(number, 1);
        let alias = world.only_assigned(node);
        world.accept(node, alias);
        world.tokens(node, &[(alias, offset, &[1], "a")]);
        world.input(Input::NodeLeft { socket: node });
    }
    assert_eq!(world.failures(client), []);
    // The last of those was lost, too.
    for number in 20..22 {
        let node = world.node(number, 1);
        world.only_assigned(node);
        world.input(Input::NodeLeft { socket: node });
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
    assert!(world.is_clean());
}

#[test]
fn a_job_that_outlives_every_node_ends_after_a_number_of_attempts() {
    let mut world = World::with(Config {
        attempts_in_all_max: 4,
        ..config()
    });
    let client = world.client(1);
    world.submit(client, 1);
    for (offset, number) in (0..4).zip(10..) {
        let node = world.node(number, 1);
        let alias = world.only_assigned(node);
        world.accept(node, alias);
        world.tokens(node, &[(alias, offset, &[1], "a")]);
        world.input(Input::NodeLeft { socket: node });
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
}

#[test]
fn an_answer_too_long_to_be_carried_fails_when_its_node_is_lost() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(8, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    let piece = "a".repeat(100 << 10);
    for step in 0..3 {
        let offset = step * (100 << 10);
        world.tokens(node, &[(alias, offset, &[1], &piece)]);
        let acknowledged = protocol::ClientToRelay::Acknowledge {
            job: job(1),
            offset: offset + (100 << 10),
            whole: false,
        };
        world.says(client, acknowledged);
    }
    world.input(Input::NodeLeft { socket: node });
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
    assert!(world.is_clean());
}

#[test]
fn kinds_are_carried_in_their_order() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(8, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    let mut writer = protocol::TokenFrameWriter::new();
    assert!(writer.push(alias, 0, DeltaKind::Reasoning, &[1], b"hm"));
    assert!(writer.push(alias, 2, DeltaKind::Reasoning, &[2], b", "));
    assert!(writer.push(alias, 4, DeltaKind::ToolCall, &[3], b"{\"a"));
    let frame = writer.finish();
    world.input(Input::NodeTokens {
        socket: node,
        frame: &frame,
    });
    let other = world.node(9, 1);
    world.input(Input::NodeLeft { socket: node });
    let orders = world.ordered(other);
    let Some(RelayToNode::Assign {
        answer: Some(answer),
        ..
    }) = orders.last()
    else {
        panic!("{orders:?}")
    };
    let pieces: Vec<(protocol::PieceKind, &str, &[u32])> = answer
        .pieces
        .iter()
        .map(|piece| (piece.kind, piece.text.as_str(), &piece.tokens[..]))
        .collect();
    assert_eq!(
        pieces,
        [
            (protocol::PieceKind::Reasoning, "hm, ", &[1, 2][..]),
            (protocol::PieceKind::ToolCall, "{\"a", &[3][..]),
        ]
    );
    let _: JobId = job(1);
}

#[test]
fn a_request_that_a_node_took_is_not_invalid_because_the_next_one_says_so() {
    let mut world = World::new();
    let (client, node) = begun(&mut world, "Red, ", &[7, 8]);
    let other = world.node(9, 1);
    world.input(Input::NodeLeft { socket: node });
    let alias = world.only_assigned(other);
    world.told(client);
    let able = world.node(10, 1);
    world.node_says(
        other,
        protocol::NodeToRelay::Failed {
            alias,
            failure: protocol::Failure::new(ErrorCode::InvalidRequest, "not that field"),
        },
    );
    assert_eq!(world.failures(client), []);
    assert_eq!(carried(&mut world, able).unwrap().0, "Red, ");
}
