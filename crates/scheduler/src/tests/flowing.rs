//! Windows, slow readers, and nodes that are asked to gather deltas.

use protocol::{ClientToRelay, ErrorCode, NodeToRelay, RelayToNode};

use super::world::*;
use crate::{Config, Input, SocketId};

fn narrow() -> World {
    World::with(Config {
        window_bytes: 4,
        unacknowledged_bytes_max: 8,
        ..config()
    })
}

fn running(world: &mut World) -> (SocketId, SocketId, protocol::Alias) {
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.told(client);
    (client, node, alias)
}

fn acknowledge(world: &mut World, client: SocketId, offset: u32) {
    world.says(
        client,
        ClientToRelay::Acknowledge {
            job: job(1),
            offset,
            whole: false,
        },
    );
}

#[test]
fn nodes_are_told_the_window() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    let orders = world.ordered(node);
    assert!(matches!(
        orders.last(),
        Some(RelayToNode::Assign {
            window_bytes: 65_536,
            ..
        })
    ));
}

#[test]
fn a_pause_for_a_slow_reader_costs_the_node_no_lease() {
    let mut world = narrow();
    let (client, node, alias) = running(&mut world);
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    world.advance(29_999);
    assert_eq!(world.failures(client), []);
    acknowledge(&mut world, client, 4);
    world.ordered(node);
    // From now on it must make progress again, with a whole lease.
    world.node_says(node, NodeToRelay::Ping);
    world.advance(29_999);
    assert_eq!(world.counters().leases_expired, 0);
    world.advance(1);
    assert_eq!(world.counters().leases_expired, 1);
}

#[test]
fn a_reader_that_stays_behind_loses_its_job_and_nobody_elses() {
    let mut world = narrow();
    let (client, node, alias) = running(&mut world);
    let other = world.client(2);
    world.submit(other, 2);
    let good = world.only_assigned(node);
    world.accept(node, good);
    world.tokens(node, &[(alias, 0, &[1], "abcd"), (good, 0, &[1], "x")]);
    world.advance(29_000);
    world.tokens(node, &[(good, 1, &[1], "y")]);
    world.advance(1_000);
    assert_eq!(world.failures(client), [(job(1), ErrorCode::SlowReader)]);
    assert_eq!(world.ordered(node), [RelayToNode::Cancel { alias }]);
    world.complete(node, good, 2, 2);
    assert_eq!(world.text(other), "xy");
    assert_eq!(world.counters().leases_expired, 0);
}

#[test]
fn a_reader_that_takes_a_byte_now_and_then_is_slow_all_the_same() {
    let mut world = World::with(Config {
        window_bytes: 16,
        unacknowledged_bytes_max: 32,
        ..config()
    });
    let (client, node, alias) = running(&mut world);
    world.tokens(node, &[(alias, 0, &[1], "0123456789abcdef")]);
    world.advance(29_000);
    acknowledge(&mut world, client, 1);
    world.tokens(node, &[(alias, 16, &[1], "g")]);
    assert_eq!(world.failures(client), []);
    world.advance(1_000);
    assert_eq!(world.failures(client), [(job(1), ErrorCode::SlowReader)]);
}

#[test]
fn going_away_whenever_time_is_up_gives_a_slow_reader_no_new_time() {
    let mut world = narrow();
    let (client, node, alias) = running(&mut world);
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    world.advance(29_900);
    world.input(Input::ClientLeft { socket: client });
    world.advance(200);
    let again = world.client(2);
    world.resume(again, 1, "", &[]);
    world.node_says(node, NodeToRelay::Ping);
    world.advance(29_800);
    world.input(Input::ClientLeft { socket: again });
    world.advance(200);
    assert_eq!(world.counters().failed, 1);
}

#[test]
fn a_node_that_does_not_wait_for_its_reader_loses_the_job() {
    let mut world = narrow();
    let (client, node, alias) = running(&mut world);
    world.tokens(node, &[(alias, 0, &[1], "abcdefgh")]);
    assert_eq!(world.text(client), "abcdefgh");
    world.tokens(node, &[(alias, 8, &[1], "i")]);
    assert_eq!(world.text(client), "");
    let orders = world.ordered(node);
    assert_eq!(orders[0], RelayToNode::Cancel { alias });
    // The next attempt goes on from what the client got.
    assert!(
        matches!(&orders[1], RelayToNode::Assign { answer: Some(answer), .. } if answer.bytes() == 8)
    );
}

#[test]
fn a_pause_ends_with_the_attempt_and_the_next_one_has_a_window_of_its_own() {
    let mut world = narrow();
    let (client, node, alias) = running(&mut world);
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    let other = world.node(10, 1);
    world.input(Input::NodeLeft { socket: node });
    let alias = world.only_assigned(other);
    world.accept(other, alias);
    world.advance(29_000);
    world.tokens(other, &[(alias, 4, &[1], "ef")]);
    world.advance(29_000);
    assert_eq!(world.failures(client), []);
    assert_eq!(world.text(client), "abcdef");
}

#[test]
fn a_client_that_is_away_has_its_grace_period_and_not_the_slow_readers() {
    let mut world = World::with(Config {
        window_bytes: 4,
        unacknowledged_bytes_max: 8,
        grace_ms: 40_000,
        ..config()
    });
    let (client, node, alias) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    world.tokens(node, &[(alias, 0, &[1], "abcd")]);
    world.advance(35_000);
    assert_eq!(world.counters().failed, 0);
    let again = world.client(2);
    world.resume(again, 1, "abcd", &[1]);
    world.tokens(node, &[(alias, 4, &[1], "ef")]);
    assert_eq!(world.text(again), "ef");
}

#[test]
fn nodes_gather_while_the_relay_is_loaded_and_only_then() {
    let mut world = World::with(Config {
        frames_per_second_max: 100,
        ..config()
    });
    let (client, node, alias) = running(&mut world);
    let mut offset = 0;
    let mut feed = |world: &mut World, frames: u32, pause: u64| {
        for _ in 0..frames {
            world.now += pause;
            world.tokens(node, &[(alias, offset, &[1], "a")]);
            offset += 1;
            acknowledge(world, client, offset);
        }
        let orders = world.ordered(node);
        let asked = orders.iter().filter_map(|order| {
            let RelayToNode::Merge { ms } = order else {
                return None;
            };
            Some(*ms)
        });
        asked.collect::<Vec<_>>()
    };
    assert_eq!(
        feed(&mut world, 100, 20),
        Vec::<u64>::new(),
        "50 frames a second"
    );
    let asked = feed(&mut world, 1_000, 1);
    assert_eq!(asked, [12, 24, 48, 50], "1,000 frames a second");
    assert_eq!(feed(&mut world, 150, 30), [0], "calm again");
}

#[test]
fn a_node_that_joins_a_loaded_relay_hears_so_with_its_first_job() {
    let mut world = World::with(Config {
        frames_per_second_max: 100,
        ..config()
    });
    let (client, node, alias) = running(&mut world);
    for offset in 0..600 {
        world.now += 1;
        world.tokens(node, &[(alias, offset, &[1], "a")]);
    }
    world.submit(client, 2);
    let other = world.node(10, 1);
    world.submit(client, 3);
    let orders = world.ordered(other);
    assert!(
        matches!(orders.last(), Some(RelayToNode::Merge { .. })),
        "{orders:?}"
    );
}
