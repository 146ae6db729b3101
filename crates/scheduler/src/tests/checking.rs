//! Whether a waiting prompt fits, asked of busy nodes.

use super::world::*;
use crate::{Input, SocketId};
use protocol::{ChatRequest, ClientToRelay, ErrorCode, Failure, NodeToRelay, RelayToNode};

/// Longer than any node's context in tokens could surely hold.
fn long_request() -> ChatRequest {
    let mut long = request();
    long.messages[0].content = "word ".repeat(4_000);
    long
}

fn submit_long(world: &mut World, client: SocketId, number: u8) {
    world.input(Input::ClientSaid {
        socket: client,
        message: ClientToRelay::Submit {
            job: job(number),
            model: MODEL.into(),
            request: long_request().into(),
        },
        bytes: 20_000,
    });
}

/// The questions that a node was asked since the test last looked.
fn asked(world: &mut World, node: SocketId) -> Vec<u32> {
    let ordered = world.ordered(node);
    ordered
        .into_iter()
        .filter_map(|order| match order {
            RelayToNode::CheckPrompt { check, .. } => Some(check),
            RelayToNode::Welcome { .. }
            | RelayToNode::Assign { .. }
            | RelayToNode::Adopt { .. }
            | RelayToNode::Fence { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::Cancel { .. }
            | RelayToNode::Acknowledge { .. }
            | RelayToNode::Refused { .. }
            | RelayToNode::Pong
            | RelayToNode::Unknown => None,
        })
        .collect()
}

fn too_long() -> Failure {
    Failure::new(ErrorCode::ContextLengthExceeded, "9000 of 4096")
}

fn answer(world: &mut World, node: SocketId, check: u32, failure: Option<Failure>) {
    world.node_says(node, NodeToRelay::PromptChecked { check, failure });
}

/// A node whose only slot is taken, and a client.
fn busy() -> (World, SocketId, SocketId) {
    let mut world = World::new();
    let node = world.node(9, 1);
    let client = world.client(1);
    world.submit(client, 1);
    world.ordered(node);
    world.told(client);
    (world, node, client)
}

#[test]
fn a_waiting_prompt_that_does_not_fit_is_refused_before_its_turn() {
    let (mut world, node, client) = busy();
    submit_long(&mut world, client, 2);
    let checks = asked(&mut world, node);
    assert_eq!(checks.len(), 1);
    answer(&mut world, node, checks[0], Some(too_long()));
    assert_eq!(
        world.failures(client),
        [(job(2), ErrorCode::ContextLengthExceeded)]
    );
}

#[test]
fn a_waiting_prompt_that_fits_keeps_its_place() {
    let (mut world, node, client) = busy();
    submit_long(&mut world, client, 2);
    let checks = asked(&mut world, node);
    answer(&mut world, node, checks[0], None);
    assert_eq!(world.places(client), [(job(2), 1, 1)]);
    assert_eq!(world.failures(client), []);
    assert_eq!(asked(&mut world, node), [] as [u32; 0]);
}

#[test]
fn what_surely_fits_and_what_runs_at_once_is_not_asked_about() {
    let (mut world, node, client) = busy();
    world.submit(client, 2);
    assert_eq!(asked(&mut world, node), [] as [u32; 0]);
    let other = world.node(8, 2);
    submit_long(&mut world, client, 3);
    assert!(asked(&mut world, other).is_empty());
}

#[test]
fn a_node_is_asked_one_question_at_a_time() {
    let (mut world, node, client) = busy();
    submit_long(&mut world, client, 2);
    submit_long(&mut world, client, 3);
    let first = asked(&mut world, node);
    assert_eq!(first.len(), 1);
    answer(&mut world, node, first[0], None);
    let second = asked(&mut world, node);
    assert_eq!(second.len(), 1);
    answer(&mut world, node, second[0], Some(too_long()));
    assert_eq!(
        world.failures(client),
        [(job(3), ErrorCode::ContextLengthExceeded)]
    );
}

#[test]
fn when_the_asked_node_leaves_another_is_asked() {
    let (mut world, node, client) = busy();
    let second = world.node(8, 1);
    world.submit(client, 2);
    world.ordered(second);
    submit_long(&mut world, client, 3);
    let (of_first, of_second) = (asked(&mut world, node), asked(&mut world, second));
    assert_eq!(of_first.len() + of_second.len(), 1);
    let (gone, left) = if of_first.is_empty() {
        (second, node)
    } else {
        (node, second)
    };
    world.input(Input::NodeLeft { socket: gone });
    assert_eq!(asked(&mut world, left).len(), 1);
}

#[test]
fn what_a_busy_or_lying_node_says_of_a_prompt_refuses_nothing() {
    let (mut world, node, client) = busy();
    submit_long(&mut world, client, 2);
    let check = asked(&mut world, node)[0];
    answer(&mut world, node, check + 7, Some(too_long()));
    let broken = Failure::new(ErrorCode::EngineFailed, "no");
    answer(&mut world, node, check, Some(broken));
    answer(&mut world, node, check, Some(too_long()));
    assert_eq!(world.failures(client), []);
    assert_eq!(world.counters().stale_messages, 2);
}

#[test]
fn an_answer_about_a_cancelled_job_says_nothing_about_the_next_of_its_name() {
    let (mut world, node, client) = busy();
    submit_long(&mut world, client, 2);
    let check = asked(&mut world, node)[0];
    world.says(client, ClientToRelay::Cancel { job: job(2) });
    assert_eq!(world.failures(client), [(job(2), ErrorCode::Cancelled)]);
    world.submit(client, 2);
    answer(&mut world, node, check, Some(too_long()));
    assert_eq!(world.failures(client), []);
}
