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
            announces: 0,
            machine: None,
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

fn restore(world: &mut World, number: u32, heard_at: u64, draining: bool) -> SocketId {
    let socket = SocketId(number);
    world.input(Input::NodeRestored {
        socket,
        account: "local".into(),
        hello: hello(1, vec![offer(MODEL)]),
        heard_at,
        draining,
    });
    socket
}

#[test]
fn after_a_sleep_peers_go_on_without_a_second_welcome() {
    let mut world = World::new();
    let client = SocketId(1);
    world.input(Input::ClientRestored {
        socket: client,
        account: "local".into(),
        heard_at: None,
    });
    let node = restore(&mut world, 9, 900, false);
    assert_eq!((world.told(client), world.ordered(node)), (vec![], vec![]));
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.answer(node, alias);
    assert_eq!(world.counters().completed, 1);
}

#[test]
fn a_node_that_fell_silent_in_the_pools_sleep_is_closed_at_the_next_tick() {
    let mut world = World::new();
    world.now = 100_000;
    let silent = restore(&mut world, 8, 55_000, false);
    let heard = restore(&mut world, 9, 55_001, false);
    assert_eq!(world.scheduler.poll_timeout(), Some(100_000));
    world.input(Input::Tick);
    assert_eq!(world.closed, [(silent, CloseCode::HeartbeatLost)]);
    assert!(world.is_open(heard));
    world.advance(1);
    assert!(!world.is_open(heard));
}

#[test]
fn a_node_that_drained_before_the_pools_sleep_gets_no_work_after_it() {
    let mut world = World::new();
    let node = restore(&mut world, 9, 1_000, true);
    let client = world.client(1);
    world.submit(client, 1);
    assert_eq!(world.assigned(node), []);
    assert_eq!(world.scheduler.availability()[0].nodes, 0);
}

#[test]
fn a_restored_node_whose_models_left_the_catalog_is_turned_away() {
    let mut world = World::new();
    world.input(Input::NodeRestored {
        socket: SocketId(9),
        account: "local".into(),
        hello: hello(1, vec![offer("nonesuch")]),
        heard_at: 1_000,
        draining: false,
    });
    assert_eq!(world.closed, [(SocketId(9), CloseCode::ProtocolError)]);
}

#[test]
fn a_pool_with_a_job_and_no_node_is_busy_though_nothing_falls_due() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    assert!(world.scheduler.is_busy());
    assert_eq!(world.scheduler.poll_timeout(), None);
}

#[test]
fn a_client_that_sent_a_heartbeat_and_fell_silent_is_closed_and_its_jobs_enter_grace() {
    let mut world = World::new();
    let client = world.client(1);
    world.says(client, ClientToRelay::Ping);
    world.advance(40_000);
    // Whatever it says, it is not silent.
    world.submit(client, 1);
    world.advance(179_999);
    assert!(world.is_open(client));
    world.advance(1);
    assert_eq!(world.closed, [(client, CloseCode::HeartbeatLost)]);
    assert_eq!(world.counters().cancelled, 0);
    world.advance(5_000);
    assert_eq!(world.counters().cancelled, 1);
    assert!(world.is_clean());
}

#[test]
fn a_client_whose_heartbeats_the_platform_answered_is_closed_when_they_end() {
    let mut world = World::new();
    let client = world.client(1);
    world.advance(60_000);
    // It said something after that heartbeat.
    world.says(client, ClientToRelay::Unknown);
    world.input(Input::Heard {
        socket: client,
        at: 2_000,
    });
    world.advance(179_999);
    assert!(world.is_open(client));
    world.advance(1);
    assert_eq!(world.closed, [(client, CloseCode::HeartbeatLost)]);
}

#[test]
fn a_client_that_never_sent_a_heartbeat_may_be_silent_for_ever() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.advance(1_000_000);
    assert!(world.is_open(client));
}

#[test]
fn a_clients_silence_in_the_pools_sleep_counts() {
    let mut world = World::new();
    world.now = 200_000;
    for (number, heard_at) in [(1, Some(20_000)), (2, Some(20_001)), (3, None)] {
        let socket = SocketId(number);
        world.input(Input::ClientRestored {
            socket,
            account: "local".into(),
            heard_at,
        });
    }
    world.input(Input::Tick);
    assert_eq!(world.closed, [(SocketId(1), CloseCode::HeartbeatLost)]);
    world.advance(1_000_000);
    assert_eq!(world.closed.len(), 2);
    assert!(world.is_open(SocketId(3)));
}
