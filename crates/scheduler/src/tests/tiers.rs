//! A tier's job waits for every model of its tier at once.

use protocol::{
    Capabilities, ClientToRelay, ErrorCode, Failure, NodeToRelay, RelayToClient, RelayToNode,
    chat::ResponseFormat,
};

use super::world::*;
use crate::{Config, Input, SocketId};

/// A client, and two nodes of one slot whose models differ and who are both busy with jobs 101 and 102.
struct Busy {
    world: World,
    client: SocketId,
    first: SocketId,
    second: SocketId,
    of_first: u32,
    of_second: u32,
}

fn busy() -> Busy {
    busy_in(World::new())
}

fn busy_in(mut world: World) -> Busy {
    let client = world.client(1);
    let first = world.node_with(8, hello(1, vec![able(MODEL)]));
    let second = world.node_with(9, hello(1, vec![able(OTHER)]));
    world.submit(client, 101);
    world.submit_to(client, 102, OTHER, request());
    let (of_first, of_second) = (world.only_assigned(first), world.only_assigned(second));
    world.told(client);
    Busy {
        world,
        client,
        first,
        second,
        of_first,
        of_second,
    }
}

fn able(model: &str) -> protocol::ModelOffer {
    let mut able = offer(model);
    able.capabilities = Capabilities {
        grammar: true,
        logprobs: true,
        ..Capabilities::default()
    };
    able
}

fn bound() -> protocol::ChatRequest {
    let mut bound = request();
    bound.response_format = ResponseFormat::JsonObject;
    bound
}

#[test]
fn a_tiers_job_runs_on_whichever_of_its_models_frees_first() {
    for frees_first in [true, false] {
        let Busy {
            mut world,
            client,
            first,
            second,
            of_first,
            of_second,
        } = busy();
        world.submit_to(client, 1, TIER, request());
        let (node, alias) = if frees_first {
            (first, of_first)
        } else {
            (second, of_second)
        };
        world.answer(node, alias);
        assert_eq!(world.assigned(node)[0].0, job(1));
    }
}

#[test]
fn a_tiers_job_that_runs_stands_in_no_line_any_more() {
    let mut b = busy();
    b.world.submit_to(b.client, 1, TIER, request());
    b.world.answer(b.second, b.of_second);
    b.world.answer(b.first, b.of_first);
    assert_eq!(b.world.assigned(b.first), []);
    // Nor one that was cancelled.
    let mut b = busy();
    b.world.submit_to(b.client, 1, TIER, request());
    b.world
        .says(b.client, ClientToRelay::Cancel { job: job(1) });
    b.world.answer(b.second, b.of_second);
    assert_eq!(b.world.assigned(b.second), []);
}

#[test]
fn when_one_models_last_node_leaves_or_drains_the_other_answers() {
    for leaves in [true, false] {
        let mut b = busy();
        b.world.submit_to(b.client, 1, TIER, request());
        if leaves {
            b.world.input(Input::NodeLeft { socket: b.first });
        } else {
            b.world.node_says(b.first, NodeToRelay::Draining);
        }
        let places = b.world.told(b.client);
        assert!(
            matches!(places.last(), Some(RelayToClient::Queued { model, nodes: 1, .. }) if model == OTHER),
            "{places:?}"
        );
        b.world.answer(b.second, b.of_second);
        assert_eq!(b.world.assigned(b.second)[0].0, job(1));
    }
}

#[test]
fn when_one_models_remaining_nodes_cannot_do_it_the_other_answers() {
    let mut b = busy();
    b.world.submit_to(b.client, 1, TIER, bound());
    b.world.node(7, 1);
    b.world.input(Input::NodeLeft { socket: b.first });
    assert_eq!(b.world.assigned(SocketId(7))[0].0, job(101));
    b.world.answer(b.second, b.of_second);
    assert_eq!(b.world.assigned(b.second)[0].0, job(1));
}

#[test]
fn a_node_that_joins_with_any_of_the_tiers_models_takes_the_job() {
    let mut world = World::new();
    let client = world.client(1);
    let plain = world.node(8, 1);
    world.submit_to(client, 1, TIER, bound());
    assert_eq!(world.assigned(plain), []);
    // The model whose node could not do it when it was asked for.
    let able = world.node_with(9, hello(1, vec![able(MODEL)]));
    assert_eq!(world.assigned(able)[0].0, job(1));
}

#[test]
fn the_place_told_is_the_best_over_the_tiers_models() {
    let mut b = busy();
    for number in 1..=3 {
        b.world.submit(b.client, number);
    }
    b.world.submit_to(b.client, 4, OTHER, request());
    b.world.told(b.client);
    b.world.submit_to(b.client, 5, TIER, request());
    let told = b.world.told(b.client);
    assert!(
        matches!(&told[..], [RelayToClient::Queued { model, position: 2, nodes: 1, .. }] if model == OTHER),
        "{told:?}"
    );
    // The other line becomes the shorter one.
    for number in [1, 2, 3] {
        b.world
            .says(b.client, ClientToRelay::Cancel { job: job(number) });
    }
    assert_eq!(b.world.places(b.client).last(), Some(&(job(5), 1, 1)));
}

#[test]
fn a_prompt_too_long_for_one_model_is_tried_with_the_other() {
    let mut world = World::new();
    let client = world.client(1);
    let first = world.node(8, 1);
    let second = world.node_with(9, hello(1, vec![offer(OTHER)]));
    world.submit_to(client, 1, TIER, request());
    let too_long = Failure::new(ErrorCode::ContextLengthExceeded, "too long");
    for node in [first, second] {
        assert_eq!(world.failures(client), []);
        let alias = world.only_assigned(node);
        let failure = too_long.clone();
        world.node_says(node, NodeToRelay::Failed { alias, failure });
    }
    assert_eq!(
        world.failures(client),
        [(job(1), ErrorCode::ContextLengthExceeded)]
    );
    assert!(world.is_clean());
}

#[test]
fn a_waiting_prompt_is_refused_when_it_is_too_long_for_every_model() {
    let mut b = busy();
    let mut long = request();
    long.messages[0].content = "word ".repeat(4_000);
    b.world.input(Input::ClientSaid {
        socket: b.client,
        message: ClientToRelay::Submit {
            job: job(1),
            model: TIER.into(),
            request: long.into(),
        },
        bytes: 20_000,
    });
    for node in [b.first, b.second] {
        assert_eq!(b.world.failures(b.client), []);
        let orders = b.world.ordered(node);
        let [RelayToNode::CheckPrompt { check, .. }] = orders[..] else {
            panic!("{orders:?}")
        };
        let failure = Some(Failure::new(ErrorCode::ContextLengthExceeded, "too long"));
        b.world
            .node_says(node, NodeToRelay::PromptChecked { check, failure });
    }
    assert_eq!(
        b.world.failures(b.client),
        [(job(1), ErrorCode::ContextLengthExceeded)]
    );
}

#[test]
fn a_tier_is_full_when_the_line_of_each_model_is() {
    let mut b = busy_in(World::with(Config {
        queue_jobs_max_per_model: 1,
        ..config()
    }));
    b.world.submit(b.client, 1);
    b.world.submit_to(b.client, 2, TIER, request());
    assert_eq!(b.world.failures(b.client), []);
    b.world.submit_to(b.client, 3, TIER, request());
    b.world.submit_to(b.client, 4, OTHER, request());
    assert_eq!(
        b.world.failures(b.client),
        [
            (job(3), ErrorCode::QueueFull),
            (job(4), ErrorCode::QueueFull)
        ]
    );
}

#[test]
fn a_tiers_job_that_waits_counts_once() {
    let mut b = busy_in(World::with(Config {
        queue_jobs_max: 2,
        ..config()
    }));
    b.world.submit_to(b.client, 1, TIER, request());
    b.world.submit_to(b.client, 2, TIER, request());
    assert_eq!(b.world.failures(b.client), []);
    b.world.submit_to(b.client, 3, TIER, request());
    assert_eq!(b.world.failures(b.client), [(job(3), ErrorCode::QueueFull)]);
}
