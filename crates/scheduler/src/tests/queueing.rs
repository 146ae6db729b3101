//! Waiting, places, order, placement.

use super::world::*;
use crate::{Input, SocketId};
use protocol::{Alias, Capabilities, ClientToRelay, RelayToClient, chat::ResponseFormat};

#[test]
fn a_job_without_a_node_waits_until_one_joins() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    assert_eq!(world.places(client), [(job(1), 1, 0)]);
    let node = world.node(2, 1);
    let assigned = world.assigned(node);
    assert_eq!(assigned.len(), 1);
    assert!(matches!(
        world.told(client)[..],
        [RelayToClient::Assigned { attempt: 1, .. }]
    ));
}

#[test]
fn a_third_job_waits_for_two_slots_and_runs_when_one_frees() {
    let mut world = World::new();
    let node = world.node(9, 2);
    let client = world.client(1);
    for number in 1..=3 {
        world.submit(client, number);
    }
    assert_eq!(world.places(client), [(job(3), 1, 1)]);
    let running = world.assigned(node);
    assert_eq!(running.len(), 2);
    world.answer(node, running[1].1);
    assert_eq!(world.assigned(node)[0].0, job(3));
}

#[test]
fn places_are_told_again_only_when_they_change() {
    let mut world = World::new();
    let client = world.client(1);
    for number in 1..=3 {
        world.submit(client, number);
    }
    assert_eq!(
        world.places(client),
        [(job(1), 1, 0), (job(2), 2, 0), (job(3), 3, 0)]
    );
    world.says(client, ClientToRelay::Cancel { job: job(2) });
    assert_eq!(world.places(client), [(job(3), 2, 0)]);
    world.says(client, ClientToRelay::Ping);
    assert_eq!(world.places(client), []);
}

#[test]
fn those_who_wait_learn_that_a_node_came_and_went() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.submit(client, 2);
    world.told(client);
    let node = world.node(9, 1);
    assert_eq!(world.places(client), [(job(2), 1, 1)]);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "a")]);
    world.told(client);
    world.input(Input::NodeLeft { socket: node });
    // The job that lost its node stands at the head again, with what it has.
    assert_eq!(world.places(client), [(job(1), 1, 0), (job(2), 2, 0)]);
}

#[test]
fn jobs_run_in_the_order_of_submission() {
    let mut world = World::new();
    let client = world.client(1);
    for number in [4, 2, 9, 1] {
        world.submit(client, number);
    }
    let node = world.node(9, 1);
    for number in [4, 2, 9, 1] {
        let assigned = world.assigned(node);
        assert_eq!(assigned[0].0, job(number));
        world.answer(node, assigned[0].1);
    }
}

#[test]
fn a_job_that_no_node_can_do_blocks_nobody_behind_it() {
    let mut world = World::new();
    let client = world.client(1);
    let mut bound = request();
    bound.response_format = ResponseFormat::JsonObject;
    world.submit_to(client, 1, MODEL, bound);
    world.submit(client, 2);
    let plain = world.node(9, 1);
    assert_eq!(world.assigned(plain)[0].0, job(2));
    let mut able = offer(MODEL);
    able.capabilities = Capabilities {
        grammar: true,
        logprobs: false,
        ..Capabilities::default()
    };
    let able = world.node_with(8, hello(1, vec![able]));
    assert_eq!(world.assigned(able)[0].0, job(1));
}

#[test]
fn jobs_of_different_needs_keep_their_order_on_a_node_that_can_do_all() {
    let mut world = World::new();
    let client = world.client(1);
    let mut bound = request();
    bound.response_format = ResponseFormat::JsonObject;
    for (number, request) in [
        (1, request()),
        (2, bound.clone()),
        (3, request()),
        (4, bound),
    ] {
        world.submit_to(client, number, MODEL, request);
    }
    let mut able = offer(MODEL);
    able.capabilities = Capabilities {
        grammar: true,
        logprobs: true,
        ..Capabilities::default()
    };
    let node = world.node_with(9, hello(1, vec![able]));
    for number in 1..=4 {
        let assigned = world.assigned(node);
        assert_eq!(assigned[0].0, job(number));
        world.answer(node, assigned[0].1);
    }
}

#[test]
fn a_freed_slot_goes_to_the_longest_waiting_job_of_any_model() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node_with(9, hello(1, vec![offer(MODEL), offer(OTHER)]));
    world.submit(client, 1);
    world.submit_to(client, 2, OTHER, request());
    world.submit(client, 3);
    let first = world.only_assigned(node);
    world.answer(node, first);
    assert_eq!(world.assigned(node)[0].0, job(2));
}

#[test]
fn faster_nodes_get_more_and_the_slowest_stays_in_work() {
    let mut world = World::new();
    let client = world.client(1);
    let nodes = [world.node(8, 1), world.node(9, 1)];
    let mut share = [0_u32; 2];
    for round in 0..400 {
        // Another conversation each time: nobody has read its beginning.
        let mut fresh = request();
        fresh.messages[0].content = format!("Question {round}");
        world.submit_to(client, 1, MODEL, fresh);
        let (index, alias) = (0..2)
            .find_map(|i| Some((i, world.assigned(nodes[i]).first()?.1)))
            .unwrap();
        share[index] += 1;
        world.accept(nodes[index], alias);
        // 50 tokens/s and 5 tokens/s.
        let pause = if index == 0 { 20 } else { 200 };
        for offset in 0..20 {
            world.tokens(nodes[index], &[(alias, offset, &[1], "a")]);
            world.now += pause;
        }
        world.complete(nodes[index], alias, 20, 20);
        world.has_whole(client, 1, 20);
        world.told(client);
        for node in nodes {
            world.input(Input::Heard {
                socket: node,
                at: world.now,
            });
        }
    }
    // 10 to 1 by weight.
    assert!(share[0] > 300, "{share:?}");
    assert!(share[1] > 10, "{share:?}");
    let speed = world.scheduler.availability()[0].decode_tokens_per_second;
    assert!((20.0..35.0).contains(&speed), "{speed}");
}

#[test]
fn the_same_seed_and_inputs_give_the_same_outputs() {
    let run = || {
        let mut world = World::new();
        let client = world.client(1);
        let nodes = [8, 9, 10].map(|number| world.node(number, 4));
        for number in 1..=9 {
            world.submit(client, number);
        }
        let orders: Vec<_> = nodes.iter().map(|node| world.assigned(*node)).collect();
        (orders, world.told(client))
    };
    assert_eq!(run(), run());
}

#[test]
fn availability_counts_nodes_slots_and_those_who_wait() {
    let mut world = World::new();
    let client = world.client(1);
    world.node(8, 2);
    world.node(9, 3);
    for number in 1..=6 {
        world.submit(client, number);
    }
    let live = world.scheduler.availability();
    assert_eq!(live.len(), 2);
    assert_eq!(
        (live[0].nodes, live[0].slots, live[0].free_slots),
        (2, 5, 0)
    );
    assert_eq!((live[0].queued, live[0].context_tokens), (1, 4_096));
    assert_eq!((live[1].nodes, live[1].context_tokens), (0, 0));
}

/// A client with `jobs` waiting jobs, and a node that runs another.
fn long_line(jobs: u8) -> (World, SocketId, SocketId, Alias) {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    for number in 0..=jobs {
        world.submit(client, number);
        if number > 0 {
            // Whoever comes is told at once, however long the line is.
            let place = (job(number), u32::from(number), 1);
            assert_eq!(world.places(client).last(), Some(&place));
        }
    }
    let alias = world.only_assigned(node);
    (world, client, node, alias)
}

#[test]
fn a_step_of_a_long_line_is_told_to_its_head_at_once_and_to_its_tail_once_a_second() {
    let (mut world, client, node, alias) = long_line(30);
    let started_at = world.now;
    world.answer(node, alias);
    let head: Vec<_> = (1..=10)
        .map(|place| (job(place + 1), place.into(), 1))
        .collect();
    assert_eq!(world.places(client), head);
    assert_eq!(world.scheduler.poll_timeout(), Some(started_at + 1_000));
    // Further steps in the same second do not put the moment off.
    world.advance(600);
    let alias = world.only_assigned(node);
    world.answer(node, alias);
    let head = world.places(client);
    assert_eq!(head.len(), 10);
    world.advance(399);
    assert_eq!(world.places(client), []);
    world.advance(1);
    let tail: Vec<_> = (11..=28)
        .map(|place| (job(place + 2), place.into(), 1))
        .collect();
    let told = world.places(client);
    assert_eq!(told[told.len() - tail.len()..], tail);
    // Nothing moves, so everybody keeps the place; only how long it will be may be news.
    let moved = world.counters().assigned;
    world.advance(10_000);
    for (job, place, nodes) in world.places(client) {
        assert!(head.contains(&(job, place, nodes)) || tail.contains(&(job, place, nodes)));
    }
    assert_eq!(world.counters().assigned, moved);
}

#[test]
fn a_line_that_nobody_leaves_sets_no_timer() {
    let mut world = World::new();
    let client = world.client(1);
    for number in 0..30 {
        world.submit(client, number);
    }
    assert_eq!(world.scheduler.poll_timeout(), None);
    world.says(client, ClientToRelay::Cancel { job: job(0) });
    assert!(world.scheduler.poll_timeout().is_some());
    // A line that became short has been told in whole.
    for number in 1..20 {
        world.says(client, ClientToRelay::Cancel { job: job(number) });
    }
    assert_eq!(world.scheduler.poll_timeout(), None);
    assert_eq!(world.places(client).last(), Some(&(job(29), 10, 0)));
    world.says(client, ClientToRelay::Ping);
    assert_eq!(world.places(client), []);
}
