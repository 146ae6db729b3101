//! Joining, heartbeats, words out of order.

use protocol::{
    ClientToRelay, CloseCode, ErrorCode, NodeClass, NodeToRelay, RelayToClient, RelayToNode,
};

use super::world::*;
use crate::{Input, SocketId};

#[test]
fn both_sides_are_welcomed() {
    let mut world = World::new();
    world.input(Input::ClientJoined {
        socket: SocketId(1),
        account: "ada".into(),
    });
    assert_eq!(
        world.told(SocketId(1)),
        [RelayToClient::Welcome {
            account: "ada".into()
        }]
    );
    let node = world.node(2, 1);
    assert_eq!(
        world.ordered(node),
        [RelayToNode::Welcome {
            node: "2".into(),
            heartbeat_ms: 15_000
        }]
    );
}

#[test]
fn heartbeats_are_answered() {
    let mut world = World::new();
    let (client, node) = (world.client(1), world.node(2, 1));
    world.ordered(node);
    world.says(client, ClientToRelay::Ping);
    world.node_says(node, NodeToRelay::Ping);
    assert_eq!(world.told(client), [RelayToClient::Pong]);
    assert_eq!(world.ordered(node), [RelayToNode::Pong]);
}

#[test]
fn a_silent_node_is_closed_and_its_job_goes_on_elsewhere() {
    let mut world = World::new();
    let client = world.client(1);
    let silent = world.node(8, 1);
    world.advance(44_000);
    world.submit(client, 1);
    let other = world.node(9, 1);
    world.advance(1_000);
    assert_eq!(world.closed, [(silent, CloseCode::HeartbeatLost)]);
    assert_eq!(world.assigned(other)[0].0, job(1));
}

#[test]
fn a_node_that_the_platform_heard_is_not_silent() {
    let mut world = World::new();
    let node = world.node(9, 1);
    for _ in 0..5 {
        world.advance(40_000);
        world.input(Input::Heard {
            socket: node,
            at: world.now - 1_000,
        });
    }
    assert!(world.is_open(node));
    // Nobody is heard in the future.
    world.input(Input::Heard {
        socket: node,
        at: world.now + 1_000_000,
    });
    world.advance(45_000);
    assert!(!world.is_open(node));
}

#[test]
fn unknown_words_are_counted_and_refused() {
    let mut world = World::new();
    let (client, node) = (world.client(1), world.node(2, 1));
    world.ordered(node);
    world.says(client, ClientToRelay::Unknown);
    world.node_says(node, NodeToRelay::Unknown);
    let told = world.told(client);
    assert!(
        matches!(&told[..], [RelayToClient::Refused { failure }] if failure.code == ErrorCode::ProtocolError)
    );
    assert!(matches!(
        world.ordered(node)[..],
        [RelayToNode::Refused { .. }]
    ));
    assert_eq!(world.counters().unknown_messages, 2);
}

#[test]
fn a_second_hello_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let (client, node) = (world.client(1), world.node(2, 1));
    world.ordered(node);
    world.says(client, ClientToRelay::Hello { key: None });
    world.node_says(
        node,
        NodeToRelay::Hello {
            key: None,
            name: "again".into(),
            class: NodeClass::Rig,
            software: "test 1".into(),
            slots: 100,
            models: vec![offer(OTHER)],
        },
    );
    assert!(matches!(
        world.told(client)[..],
        [RelayToClient::Refused { .. }]
    ));
    assert!(matches!(
        world.ordered(node)[..],
        [RelayToNode::Refused { .. }]
    ));
    assert_eq!(world.scheduler.availability()[0].slots, 1);
}

#[test]
fn a_second_accepted_is_refused() {
    let mut world = World::new();
    let (client, node) = (world.client(1), world.node(2, 1));
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.accept(node, alias);
    assert!(matches!(
        world.ordered(node)[..],
        [RelayToNode::Refused { .. }]
    ));
}

#[test]
fn offers_outside_the_catalog_are_ignored_and_a_node_without_any_is_turned_away() {
    let mut world = World::new();
    let node = world.node_with(8, hello(1, vec![offer("nonesuch"), offer(MODEL)]));
    assert!(world.is_open(node));
    let stranger = world.node_with(9, hello(1, vec![offer("nonesuch")]));
    assert_eq!(
        world.closed.pop(),
        Some((stranger, CloseCode::ProtocolError))
    );
    let mut browser = hello(1, vec![offer(MODEL)]);
    browser.class = NodeClass::Browser;
    let browser = world.node_with(10, browser);
    assert_eq!(
        world.closed.pop(),
        Some((browser, CloseCode::ProtocolError))
    );
    assert_eq!(world.counters().offers_ignored, 3);
    assert_eq!(world.scheduler.availability()[0].nodes, 1);
}

#[test]
fn words_of_strangers_are_ignored() {
    let mut world = World::new();
    let stranger = SocketId(77);
    world.says(stranger, ClientToRelay::Ping);
    world.submit(stranger, 1);
    world.node_says(stranger, NodeToRelay::Ping);
    world.tokens(stranger, &[(1, 0, &[1], "a")]);
    world.input(Input::ClientLeft { socket: stranger });
    world.input(Input::NodeLeft { socket: stranger });
    assert!(world.is_clean());
}

#[test]
fn an_idle_pool_is_not_busy() {
    let mut world = World::new();
    let client = world.client(1);
    world.node(9, 1);
    assert!(!world.scheduler.is_busy());
    world.submit(client, 1);
    assert!(world.scheduler.is_busy());
}
