//! What is taken in and what is refused.

use protocol::{Capabilities, ClientToRelay, ErrorCode, RelayToClient, chat::ResponseFormat};

use super::world::*;
use crate::{Config, Input, SocketId};

#[test]
fn an_unknown_model_is_refused_at_once() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit_to(client, 1, "nonesuch", request());
    assert_eq!(world.failures(client), [(job(1), ErrorCode::UnknownModel)]);
    assert!(world.is_clean());
}

#[test]
fn an_invalid_request_is_refused_by_its_field() {
    let mut world = World::new();
    let client = world.client(1);
    let mut bad = request();
    bad.sampling.temperature = Some(9.0);
    world.submit_to(client, 1, MODEL, bad);
    let told = world.told(client);
    let [RelayToClient::Failed { failure, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert_eq!(failure.param.as_deref(), Some("temperature"));
}

#[test]
fn an_answer_longer_than_the_whole_context_is_refused() {
    let mut world = World::new();
    let client = world.client(1);
    for (number, max_tokens) in [(1, CONTEXT), (2, CONTEXT + 1)] {
        let mut long = request();
        long.max_tokens = Some(max_tokens);
        world.submit_to(client, number, MODEL, long);
    }
    assert_eq!(
        world.failures(client),
        [(job(2), ErrorCode::ContextLengthExceeded)]
    );
}

#[test]
fn a_capability_that_no_known_node_has_is_refused_but_awaited_where_none_is_known() {
    let mut world = World::new();
    let client = world.client(1);
    let mut bound = request();
    bound.response_format = ResponseFormat::JsonObject;
    world.submit_to(client, 1, MODEL, bound.clone());
    assert_eq!(world.places(client), [(job(1), 1, 0)]);
    world.node(9, 1);
    world.told(client);
    world.submit_to(client, 2, MODEL, bound);
    assert_eq!(
        world.failures(client),
        [(job(2), ErrorCode::CapabilityMissing)]
    );
}

#[test]
fn placement_honours_capabilities() {
    let mut world = World::new();
    let client = world.client(1);
    world.node(8, 50);
    let mut able = offer(MODEL);
    able.capabilities = Capabilities {
        grammar: false,
        logprobs: true,
        ..Capabilities::default()
    };
    let able = world.node_with(9, hello(20, vec![able]));
    let mut wanting = request();
    wanting.top_logprobs = Some(2);
    for number in 1..=20 {
        world.submit_to(client, number, MODEL, wanting.clone());
    }
    assert_eq!(world.assigned(able).len(), 20);
}

#[test]
fn a_tier_means_its_model_with_a_free_slot() {
    let mut world = World::new();
    let client = world.client(1);
    let first = world.node(8, 1);
    let second = world.node_with(9, hello(1, vec![offer(OTHER)]));
    world.submit_to(client, 1, TIER, request());
    world.submit_to(client, 2, TIER, request());
    assert_eq!(world.assigned(first)[0].0, job(1));
    assert_eq!(world.assigned(second)[0].0, job(2));
    world.told(client);
    // Both busy: the preferred one with a node.
    world.submit_to(client, 3, TIER, request());
    let told = world.told(client);
    assert!(matches!(&told[..], [RelayToClient::Queued { model, .. }] if model == MODEL));
}

#[test]
fn a_tier_prefers_a_busy_model_to_one_without_nodes() {
    let mut world = World::new();
    let client = world.client(1);
    world.node_with(9, hello(1, vec![offer(OTHER)]));
    world.submit_to(client, 1, OTHER, request());
    world.told(client);
    world.submit_to(client, 2, TIER, request());
    let told = world.told(client);
    assert!(matches!(&told[..], [RelayToClient::Queued { model, .. }] if model == OTHER));
}

#[test]
fn a_tier_without_nodes_waits_for_whichever_of_its_models_comes() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit_to(client, 1, TIER, request());
    world.submit(client, 2);
    assert_eq!(world.places(client), [(job(1), 1, 0), (job(2), 2, 0)]);
    let node = world.node_with(9, hello(2, vec![offer(OTHER)]));
    assert_eq!(world.assigned(node).len(), 1);
    // The one that named the other model moves up.
    assert_eq!(world.places(client), [(job(2), 1, 0)]);
}

#[test]
fn submitting_again_says_where_the_job_stands() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.submit(client, 1);
    assert_eq!(world.places(client), [(job(1), 1, 0), (job(1), 1, 0)]);
    let node = world.node(9, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    let once = world.told(client);
    world.submit(client, 1);
    assert_eq!(world.told(client), once);
    world.tokens(node, &[(alias, 0, &[5], "hi")]);
    world.complete(node, alias, 2, 1);
    let end = world.told(client);
    world.submit(client, 1);
    assert_eq!(world.told(client), end);
    assert_eq!(world.counters().submitted, 1);
    assert_eq!(world.assigned(node), []);
}

#[test]
fn another_client_with_the_same_id_learns_nothing() {
    let mut world = World::new();
    let (owner, other) = (world.client(1), SocketId(2));
    world.input(Input::ClientJoined {
        socket: other,
        account: "another".into(),
    });
    world.told(other);
    world.submit(owner, 1);
    world.told(owner);
    world.submit(other, 1);
    assert_eq!(world.failures(other), [(job(1), ErrorCode::DuplicateJob)]);
    world.says(other, ClientToRelay::Cancel { job: job(1) });
    world.says(other, ClientToRelay::Cancel { job: job(7) });
    let told = world.told(other);
    let [
        RelayToClient::Failed { failure: real, .. },
        RelayToClient::Failed {
            failure: unreal, ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(real, unreal);
    assert_eq!(real.code, ErrorCode::UnknownJob);
    world.says(
        other,
        ClientToRelay::Acknowledge {
            job: job(1),
            offset: 99,
            whole: false,
        },
    );
    assert!(world.is_open(other));
    assert_eq!(world.told(owner), []);
    assert_eq!(world.scheduler.jobs.len(), 1);
}

#[test]
fn limits_say_when_to_try_again() {
    let mut world = World::with(Config {
        queue_jobs_max_per_model: 2,
        queue_jobs_max: 3,
        jobs_per_client_max: 4,
        content_bytes_max: 5 * BYTES,
        ..config()
    });
    let (client, other) = (world.client(1), world.client(2));
    let refused = |world: &mut World, socket| {
        let told = world.told(socket);
        let Some(RelayToClient::Failed { failure, .. }) = told.last() else {
            panic!("{told:?}")
        };
        assert!(failure.retry_after_ms.is_some());
        failure.code
    };
    world.submit(client, 1);
    world.submit(client, 2);
    world.submit(client, 3);
    assert_eq!(refused(&mut world, client), ErrorCode::QueueFull);
    world.submit_to(client, 3, OTHER, request());
    world.submit_to(client, 4, OTHER, request());
    assert_eq!(refused(&mut world, client), ErrorCode::QueueFull);
    let node = world.node(9, 5);
    assert_eq!(world.assigned(node).len(), 2);
    world.submit(client, 4);
    world.submit(client, 5);
    assert_eq!(refused(&mut world, client), ErrorCode::QueueFull);
    assert!(world.scheduler.has_room_for(BYTES));
    world.submit(other, 6);
    assert!(!world.scheduler.has_room_for(1));
    world.submit(other, 7);
    assert_eq!(refused(&mut world, other), ErrorCode::MemoryFull);
    // What ends makes room.
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    assert!(world.scheduler.has_room_for(BYTES));
}

#[test]
fn a_free_slot_takes_work_however_full_the_queue_is() {
    let mut world = World::with(Config {
        queue_jobs_max_per_model: 0,
        queue_jobs_max: 0,
        ..config()
    });
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    assert_eq!(world.assigned(node).len(), 1);
    world.told(client);
    world.submit(client, 2);
    assert_eq!(world.failures(client), [(job(2), ErrorCode::QueueFull)]);
}

#[test]
fn content_is_forgotten_when_everybody_left() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    world.submit(client, 2);
    world.input(Input::ClientLeft { socket: client });
    world.input(Input::NodeLeft { socket: node });
    assert!(world.scheduler.is_busy());
    world.advance(6_000);
    assert!(world.is_clean());
}

fn small_world() -> World {
    World::with(Config {
        content_bytes_max: 3 * BYTES,
        ..config()
    })
}

#[test]
fn announced_bytes_are_held_until_the_request_takes_their_place() {
    let mut world = small_world();
    let (client, other) = (world.client(1), world.client(2));
    assert!(world.scheduler.reserve(client, 3 * BYTES));
    world.submit(other, 2);
    assert_eq!(world.failures(other), [(job(2), ErrorCode::MemoryFull)]);
    world.submit(client, 1);
    assert_eq!(world.scheduler.content_bytes, BYTES);
    // Given back once: the second request of this socket has only its own length.
    world.submit(client, 3);
    assert_eq!(world.scheduler.content_bytes, 2 * BYTES);
    for number in [1, 3] {
        world.says(client, ClientToRelay::Cancel { job: job(number) });
    }
    assert!(world.is_clean());
}

#[test]
fn announced_bytes_are_given_back_when_the_request_is_refused_or_its_client_leaves() {
    let mut world = small_world();
    let client = world.client(1);
    assert!(world.scheduler.reserve(client, BYTES));
    world.submit_to(client, 1, "nonesuch", request());
    assert!(world.is_clean());
    assert!(world.scheduler.reserve(client, BYTES));
    world.input(Input::ClientLeft { socket: client });
    world.input(Input::ClientLeft { socket: client });
    assert!(world.is_clean());
}

#[test]
fn more_than_there_is_room_for_and_a_strangers_bytes_are_not_reserved() {
    let mut world = small_world();
    let (client, other) = (world.client(1), world.client(2));
    assert!(world.scheduler.reserve(client, 2 * BYTES));
    assert!(!world.scheduler.reserve(other, BYTES + 1));
    assert!(!world.scheduler.reserve(other, usize::MAX));
    assert!(!world.scheduler.reserve(SocketId(77), 1));
    // A new announcement takes the place of the old one; one that does not fit leaves it.
    assert!(!world.scheduler.reserve(client, 4 * BYTES));
    assert!(!world.scheduler.has_room_for(BYTES + 1));
    assert!(world.scheduler.reserve(client, BYTES));
    assert!(world.scheduler.has_room_for(2 * BYTES));
}
