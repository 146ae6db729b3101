//! Nodes that come back with answers of an earlier connection.

use protocol::{AnswerHash, ErrorCode, Failure, NodeToRelay, RelayToClient, RelayToNode};

use super::world::*;
use crate::{Input, NodeHello, SocketId};

fn back(slots: u32, announces: u32) -> NodeHello {
    NodeHello {
        announces,
        ..hello(slots, vec![offer(MODEL)])
    }
}

/// A job of which the relay passed on "abcd"; then its memory is lost.
fn lost_relay() -> World {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1, 2], "abcd")]);
    world.restart();
    world
}

fn adopted(world: &mut World, node: SocketId) -> (protocol::Alias, u32, u32, AnswerHash) {
    let orders = world.ordered(node);
    let found = orders.iter().find_map(|order| {
        let RelayToNode::Adopt {
            alias,
            offset,
            tokens,
            hash,
            ..
        } = order
        else {
            return None;
        };
        Some((*alias, *offset, *tokens, *hash))
    });
    found.unwrap_or_else(|| panic!("{orders:?}"))
}

fn is_fenced(world: &mut World, node: SocketId) -> bool {
    let orders = world.ordered(node);
    orders.iter().any(|order| {
        matches!(order, RelayToNode::Fence { failure, .. } if failure.code == ErrorCode::UnknownJob)
    })
}

fn goes_on(world: &mut World, client: SocketId, node: SocketId) {
    let (alias, offset, tokens, hash) = adopted(world, node);
    assert_eq!((offset, tokens, hash), (4, 2, AnswerHash::of(b"abcd")));
    let told = world.told(client);
    assert!(matches!(
        told[..],
        [RelayToClient::Assigned {
            attempt: 1,
            offset: 4,
            ..
        }]
    ));
    world.accept(node, alias);
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    world.complete(node, alias, 6, 3);
    assert_eq!(world.text(client), "ef");
}

#[test]
fn after_a_restart_the_node_that_has_the_answer_goes_on_with_it() {
    let mut world = lost_relay();
    let node = world.node_with(9, back(1, 1));
    world.announce(node, (1, 1), (0, "abcdef"), false);
    let client = world.client(2);
    world.resume(client, 1, "abcd", &[1, 2]);
    goes_on(&mut world, client, node);
    assert_eq!(world.counters().adopted, 1);
}

#[test]
fn the_client_may_come_back_before_the_node() {
    let mut world = lost_relay();
    let client = world.client(2);
    world.resume(client, 1, "abcd", &[1, 2]);
    world.advance(1_900);
    let node = world.node_with(9, back(1, 1));
    world.announce(node, (1, 1), (2, "abcdef"), false);
    goes_on(&mut world, client, node);
    world.advance(10_000);
}

#[test]
fn a_whole_answer_needs_no_slot() {
    let mut world = lost_relay();
    let node = world.node_with(9, back(1, 1));
    world.announce(node, (1, 1), (0, "abcdef"), true);
    let other = world.client(3);
    world.submit(other, 3);
    assert_eq!(world.assigned(node).len(), 1);
    let client = world.client(2);
    world.resume(client, 1, "abcd", &[1, 2]);
    goes_on(&mut world, client, node);
}

#[test]
fn a_node_that_comes_back_gets_no_work_before_it_has_said_what_it_has() {
    let mut world = lost_relay();
    let other = world.client(3);
    world.submit(other, 3);
    let node = world.node_with(9, back(1, 1));
    assert_eq!(world.assigned(node), []);
    world.announce(node, (1, 1), (0, "abcd"), false);
    assert_eq!(world.assigned(node), [], "its only slot is taken");
    world.advance(5_000);
    assert_eq!(world.assigned(node).len(), 1, "nobody came for the answer");
}

#[test]
fn an_answer_that_nobody_comes_for_is_fenced_after_the_grace_period() {
    let mut world = lost_relay();
    let node = world.node_with(9, back(1, 1));
    world.announce(node, (1, 1), (0, "abcd"), false);
    world.advance(4_999);
    assert!(!is_fenced(&mut world, node));
    world.advance(1);
    assert!(is_fenced(&mut world, node));
    assert!(world.is_clean());
}

#[test]
fn a_node_whose_answer_is_another_says_so_and_the_clients_text_counts() {
    let mut world = lost_relay();
    let node = world.node_with(9, back(1, 1));
    world.announce(node, (1, 1), (0, "abXYef"), false);
    let client = world.client(2);
    world.resume(client, 1, "abcd", &[1, 2]);
    let (alias, ..) = adopted(&mut world, node);
    let failure = Failure::new(ErrorCode::UnknownJob, "another answer");
    world.node_says(node, NodeToRelay::Failed { alias, failure });
    let orders = world.ordered(node);
    let Some(RelayToNode::Assign {
        answer: Some(answer),
        ..
    }) = orders.last()
    else {
        panic!("{orders:?}")
    };
    assert_eq!(answer.bytes(), 4);
}

#[test]
fn stale_attempts_forged_tickets_and_other_nodes_are_fenced_alike() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.input(Input::NodeLeft { socket: node });
    let other = world.node(10, 1);
    assert_eq!(world.assigned(other).len(), 1);
    // Its job runs elsewhere by now.
    let node = world.node_with(11, back(1, 3));
    world.announce(node, (1, 1), (0, "abcd"), false);
    assert!(is_fenced(&mut world, node));
    // Not its attempt: the ticket names another number.
    let ticket = world.node_tickets[&(job(1), 2)].clone();
    world.node_tickets.insert((job(1), 3), ticket);
    world.announce(node, (1, 3), (0, "abcd"), false);
    assert!(is_fenced(&mut world, node));
    world.announce(node, (7, 1), (0, "abcd"), false);
    assert!(is_fenced(&mut world, node));
    let thief = SocketId(12);
    world.input(Input::NodeJoined {
        socket: thief,
        account: "another".into(),
        hello: back(1, 1),
    });
    world.announce(thief, (1, 2), (0, "abcd"), false);
    assert!(is_fenced(&mut world, thief));
    assert_eq!(world.counters().fenced, 4);
    // The slots that they did not get are free.
    world.submit(client, 2);
    world.submit(client, 3);
    assert_eq!(world.assigned(node).len() + world.assigned(thief).len(), 2);
}

#[test]
fn a_node_with_a_new_socket_goes_on_before_the_old_one_is_known_to_be_dead() {
    let mut world = World::new();
    let client = world.client(1);
    let ghost = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(ghost);
    world.accept(ghost, alias);
    world.tokens(ghost, &[(alias, 0, &[1, 2], "abcd")]);
    world.told(client);
    let node = world.node_with(10, back(1, 1));
    world.announce(node, (1, 1), (0, "abcdef"), false);
    world.frames(client);
    goes_on(&mut world, client, node);
    // The old socket gets no work, and is closed for its silence.
    world.submit(client, 2);
    assert_eq!(world.assigned(ghost), []);
    assert_eq!(world.assigned(node).len(), 1);
}

#[test]
fn what_comes_late_from_a_socket_that_its_node_left_takes_nothing_from_the_new_one() {
    let mut world = lost_relay();
    let (late, node) = (
        world.node_with(9, back(1, 1)),
        world.node_with(10, back(1, 1)),
    );
    world.announce(node, (1, 1), (0, "abcdef"), false);
    let client = world.client(2);
    world.resume(client, 1, "abcd", &[1, 2]);
    // Said before the node came back on its newer socket, and arrived after.
    world.announce(late, (1, 1), (0, "abcde"), false);
    assert!(is_fenced(&mut world, late));
    goes_on(&mut world, client, node);
    // One for each socket: nobody knows yet that the older one is dead.
    world.submit(client, 2);
    world.submit(client, 3);
    assert_eq!(world.assigned(node).len(), 1, "it gets work as before");
}

#[test]
fn two_nodes_of_one_name_both_keep_what_they_have() {
    let mut world = lost_relay();
    let older = world.node_with(9, back(1, 1));
    world.node(10, 1);
    world.announce(older, (1, 1), (0, "abcdef"), false);
    assert!(!is_fenced(&mut world, older));
}

#[test]
fn a_node_that_changes_its_socket_before_its_client_comes_keeps_the_answer() {
    let mut world = lost_relay();
    let ghost = world.node_with(9, back(1, 1));
    world.announce(ghost, (1, 1), (0, "abcdef"), false);
    let node = world.node_with(10, back(1, 1));
    world.announce(node, (1, 1), (0, "abcdef"), false);
    assert!(!is_fenced(&mut world, node));
    let client = world.client(2);
    world.submit(client, 2);
    assert_eq!(world.assigned(ghost), [], "a dead socket gets no work");
    world.resume(client, 1, "abcd", &[1, 2]);
    world.told(client);
    adopted(&mut world, node);
}

#[test]
fn an_answer_that_its_own_node_lost_goes_to_no_node_that_cannot_go_on_with_it() {
    let mut world = World::new();
    let mut plain = offer(MODEL);
    plain.capabilities.continuation = false;
    let hello = |announces| NodeHello {
        announces,
        ..hello(1, vec![plain.clone()])
    };
    let client = world.client(1);
    let ghost = world.node_with(9, hello(0));
    world.submit(client, 1);
    let alias = world.only_assigned(ghost);
    world.accept(ghost, alias);
    world.tokens(ghost, &[(alias, 0, &[1, 2], "abcd")]);
    let node = world.node_with(10, hello(1));
    world.announce(node, (1, 1), (0, "abcdef"), true);
    let (alias, ..) = adopted(&mut world, node);
    let failure = Failure::new(ErrorCode::UnknownJob, "it broke meanwhile");
    world.node_says(node, NodeToRelay::Failed { alias, failure });
    assert_eq!(world.assigned(node), []);
    let able = world.node(11, 1);
    assert_eq!(world.assigned(able).len(), 1);
}

#[test]
fn a_node_that_was_away_for_a_moment_goes_on_with_a_job_that_still_waits() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1, 2], "abcd")]);
    world.input(Input::NodeLeft { socket: node });
    world.told(client);
    world.frames(client);
    let node = world.node_with(10, back(1, 1));
    world.announce(node, (1, 1), (0, "abcdef"), false);
    goes_on(&mut world, client, node);
}

#[test]
fn an_announcement_of_a_job_that_is_over_is_fenced() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.answer(node, alias);
    world.has_whole(client, 1, 2);
    let node = world.node_with(10, back(1, 1));
    world.announce(node, (1, 1), (0, "hi"), true);
    assert!(is_fenced(&mut world, node));
    assert!(world.is_clean());
}
