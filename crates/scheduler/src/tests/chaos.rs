//! Peers that do anything, in any order: whatever they do, the invariants that `World` checks after every input hold,
//! and when all have left nothing of them is left.

use proptest::prelude::*;
use protocol::chat::ResponseFormat;
use protocol::{
    Alias, Capabilities, ClientToRelay, ErrorCode, Failure, FinishReason, NodeToRelay, TokenFrame,
};

use super::world::*;
use crate::{Config, Input, NodeHello, SocketId};

const CLIENTS: u32 = 3;
const NODES: u32 = 3;
const JOBS: u8 = 8;

#[derive(Debug, Clone)]
enum Act {
    ClientJoins(u32),
    ClientLeaves(u32),
    Submit(u32, u8, u8),
    Cancel(u32, u8),
    Acknowledge(u32, u8, u32),
    ClientOther(u32, bool),
    NodeJoins(u32, u32, u8),
    NodeLeaves(u32),
    ClientRestored(u32, Option<u64>),
    NodeRestored(u32, u8, u64, bool),
    Heard(u32, u64),
    Reserve(u32, usize),
    Back(Back),
    /// The node's n-th attempt goes on as it should.
    Works(u32, usize, Work),
    /// A message about any alias.
    Says(u32, Alias, Work),
    Frame(u32, Vec<u8>),
    /// A good frame with one byte changed.
    Perturbed(u32, usize, usize, u8),
    NodeOther(u32, u8),
    Wait(u64),
}

/// What comes back after a connection or the relay's memory was lost.
#[derive(Debug, Clone)]
enum Back {
    /// With the job's ticket, or a wrong one, and this many bytes of the answer.
    Resume(u32, u8, bool, u8),
    /// With the attempt's ticket.
    Announce(u32, u8, u32, u8, bool),
    NodeReturns(u32, u32),
    /// The relay loses its memory.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Accept,
    Progress(u32),
    Tokens(u8),
    Complete(u8),
    Fail(u8),
    Cancelled,
}

fn work() -> impl Strategy<Value = Work> {
    prop_oneof![
        3 => Just(Work::Accept),
        1 => (0_u32..4).prop_map(Work::Progress),
        5 => (0_u8..20).prop_map(Work::Tokens),
        3 => (0_u8..2).prop_map(Work::Complete),
        2 => (0_u8..3).prop_map(Work::Fail),
        2 => Just(Work::Cancelled),
    ]
}

fn back() -> impl Strategy<Value = Back> {
    let node = 100..100 + NODES;
    prop_oneof![
        4 => (0..CLIENTS, 0..JOBS, any::<bool>(), 0_u8..60).prop_map(|(c, j, good, bytes)| Back::Resume(c, j, good, bytes)),
        4 => (node.clone(), 0..JOBS, 1_u32..4, 0_u8..60, any::<bool>())
            .prop_map(|(n, j, attempt, bytes, ended)| Back::Announce(n, j, attempt, bytes, ended)),
        2 => (node, 0_u32..3).prop_map(|(n, announces)| Back::NodeReturns(n, announces)),
        1 => Just(Back::Restart),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let (client, client_again, node) = (0..CLIENTS, 0..CLIENTS, 100..100 + NODES);
    prop_oneof![
        2 => client.clone().prop_map(Act::ClientJoins),
        1 => client.clone().prop_map(Act::ClientLeaves),
        8 => (client.clone(), 0..JOBS, any::<u8>()).prop_map(|(c, j, kind)| Act::Submit(c, j, kind)),
        2 => (client.clone(), 0..JOBS).prop_map(|(c, j)| Act::Cancel(c, j)),
        2 => (client.clone(), 0..JOBS, 0_u32..40).prop_map(|(c, j, offset)| Act::Acknowledge(c, j, offset)),
        1 => (client, any::<bool>()).prop_map(|(c, known)| Act::ClientOther(c, known)),
        3 => (node.clone(), 1_u32..4, any::<u8>()).prop_map(|(n, slots, kind)| Act::NodeJoins(n, slots, kind)),
        1 => node.clone().prop_map(Act::NodeLeaves),
        1 => (client_again.clone(), prop::option::of(0_u64..90_000)).prop_map(|(c, ago)| Act::ClientRestored(c, ago)),
        1 => (node.clone(), any::<u8>(), 0_u64..90_000, any::<bool>())
            .prop_map(|(n, kind, ago, draining)| Act::NodeRestored(n, kind, ago, draining)),
        2 => (prop_oneof![client_again.clone(), node.clone()], 0_u64..60_000).prop_map(|(peer, ago)| Act::Heard(peer, ago)),
        1 => (client_again, 0..4 * BYTES).prop_map(|(c, bytes)| Act::Reserve(c, bytes)),
        11 => back().prop_map(Act::Back),
        16 => (node.clone(), 0_usize..4, work()).prop_map(|(n, i, work)| Act::Works(n, i, work)),
        1 => (node.clone(), any::<Alias>(), work()).prop_map(|(n, alias, work)| Act::Says(n, alias, work)),
        1 => (node.clone(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(n, bytes)| Act::Frame(n, bytes)),
        1 => (node.clone(), 0_usize..4, 0_usize..40, any::<u8>()).prop_map(|(n, i, at, byte)| Act::Perturbed(n, i, at, byte)),
        1 => (node, 0_u8..5).prop_map(|(n, kind)| Act::NodeOther(n, kind)),
        2 => prop_oneof![0_u64..100, 4_000_u64..40_000].prop_map(Act::Wait),
    ]
}

/// The n-th attempt of a node, with its next offset and the tokens so far.
fn attempt(world: &World, node: SocketId, n: usize) -> Option<(Alias, u32, u32)> {
    let attempts = &world.scheduler.nodes.get(&node)?.attempts;
    let alias = *attempts.iter().nth(n)?;
    let attempt = &world.scheduler.attempts[&alias];
    let job = attempt.job.and_then(|id| world.scheduler.jobs.get(&id));
    let tokens = job.map_or(0, |job| job.transcript.token_count());
    Some((alias, attempt.offset, tokens))
}

fn do_work(world: &mut World, node: SocketId, at: (Alias, u32, u32), work: Work) {
    let (alias, offset, tokens) = at;
    match work {
        Work::Accept => world.accept(node, alias),
        Work::Progress(prefilled_tokens) => world.node_says(
            node,
            NodeToRelay::Progress {
                alias,
                prefilled_tokens,
            },
        ),
        Work::Tokens(bytes) => {
            let text = "x".repeat(usize::from(bytes));
            world.tokens(node, &[(alias, offset, &[1, 2], &text)]);
        }
        Work::Complete(wrong) => {
            world.complete(
                node,
                alias,
                offset + u32::from(wrong),
                tokens + u32::from(wrong),
            );
        }
        Work::Fail(kind) => {
            let code = match kind {
                0 => ErrorCode::ContextLengthExceeded,
                1 => ErrorCode::Draining,
                _ => ErrorCode::EngineFailed,
            };
            let failure = Failure::new(code, "because");
            world.node_says(node, NodeToRelay::Failed { alias, failure });
        }
        Work::Cancelled => world.cancelled(node, alias),
    }
}

fn submit(world: &mut World, client: SocketId, number: u8, kind: u8) {
    let mut wanted = request();
    if kind & 1 != 0 {
        wanted.response_format = ResponseFormat::JsonObject;
    }
    if kind & 2 != 0 {
        wanted.top_logprobs = Some(1);
    }
    if kind & 0x1C == 0x1C {
        wanted.max_tokens = Some(0);
    }
    let model = [MODEL, OTHER, TIER, "nonesuch"][usize::from(kind >> 6)];
    world.submit_to(client, number, model, wanted);
}

fn node_hello(slots: u32, kind: u8) -> NodeHello {
    let capabilities = Capabilities {
        grammar: kind & 1 != 0,
        logprobs: kind & 2 != 0,
        continuation: kind & 32 != 0,
        ..Capabilities::default()
    };
    let models = [MODEL, OTHER, "nonesuch"]
        .into_iter()
        .zip([4, 8, 16])
        .filter(|(_, bit)| kind & bit != 0)
        .map(|(model, _)| {
            let mut offer = offer(model);
            offer.capabilities = capabilities;
            offer
        })
        .collect();
    hello(slots, models)
}

fn node_other(world: &mut World, node: SocketId, kind: u8) {
    let message = match kind {
        0 => NodeToRelay::Draining,
        1 => NodeToRelay::Ping,
        2 => NodeToRelay::Unknown,
        3 => NodeToRelay::PromptChecked {
            check: 1,
            failure: None,
        },
        _ => NodeToRelay::Completed {
            alias: 0,
            offset: 0,
            finish_reason: FinishReason::Unknown,
            usage: usage(0),
        },
    };
    world.node_says(node, message);
}

fn perform(world: &mut World, act: Act) {
    match act {
        Act::ClientJoins(n) => {
            world.client(n);
        }
        Act::ClientLeaves(n) => world.input(Input::ClientLeft {
            socket: SocketId(n),
        }),
        Act::Submit(n, number, kind) => submit(world, SocketId(n), number, kind),
        Act::Cancel(n, number) => {
            world.says(SocketId(n), ClientToRelay::Cancel { job: job(number) });
        }
        Act::Acknowledge(n, number, offset) => {
            let (job, whole) = (job(number), offset % 4 == 0);
            let message = ClientToRelay::Acknowledge { job, offset, whole };
            world.says(SocketId(n), message);
        }
        Act::ClientOther(n, is_known) => {
            let known = is_known.then_some(ClientToRelay::Hello { key: None });
            world.says(SocketId(n), known.unwrap_or(ClientToRelay::Unknown));
        }
        Act::NodeJoins(n, slots, kind) => {
            world.node_with(n, node_hello(slots, kind));
        }
        Act::ClientRestored(n, ago) => world.input(Input::ClientRestored {
            socket: SocketId(n),
            account: "local".into(),
            heard_at: ago.map(|ago| world.now.saturating_sub(ago)),
        }),
        Act::NodeRestored(n, kind, ago, draining) => world.input(Input::NodeRestored {
            socket: SocketId(n),
            account: "local".into(),
            hello: node_hello(2, kind),
            heard_at: world.now.saturating_sub(ago),
            draining,
        }),
        Act::Heard(n, ago) => world.input(Input::Heard {
            socket: SocketId(n),
            at: world.now.saturating_sub(ago),
        }),
        Act::Reserve(n, bytes) => {
            world.scheduler.reserve(SocketId(n), bytes);
        }
        Act::Back(back) => come_back(world, &back),
        Act::NodeLeaves(n) => world.input(Input::NodeLeft {
            socket: SocketId(n),
        }),
        Act::Works(n, i, work) => {
            if let Some(at) = attempt(world, SocketId(n), i) {
                do_work(world, SocketId(n), at, work);
            }
        }
        Act::Says(n, alias, work) => do_work(world, SocketId(n), (alias, 0, 0), work),
        Act::Frame(n, bytes) => world.input(Input::NodeTokens {
            socket: SocketId(n),
            frame: &bytes,
        }),
        Act::Perturbed(n, i, at, byte) => {
            if let Some((alias, offset, _)) = attempt(world, SocketId(n), i) {
                let mut bytes = frame(&[(alias, offset, &[1], "some text")]);
                let at = at % bytes.len();
                bytes[at] ^= byte;
                world.input(Input::NodeTokens {
                    socket: SocketId(n),
                    frame: &bytes,
                });
            }
        }
        Act::NodeOther(n, kind) => node_other(world, SocketId(n), kind),
        Act::Wait(ms) => world.advance(ms),
    }
}

fn come_back(world: &mut World, back: &Back) {
    match *back {
        Back::Resume(n, number, is_good, bytes) => {
            let text = "x".repeat(usize::from(bytes));
            let tokens: &[u32] = if bytes == 0 { &[] } else { &[1, 2] };
            let ticket = world.tickets.get(&job(number)).cloned();
            let ticket = ticket.filter(|_| is_good).unwrap_or_default();
            world.resume_with(SocketId(n), number, ticket, &text, tokens);
        }
        Back::Announce(n, number, attempt, bytes, ended) => {
            let text = "x".repeat(usize::from(bytes));
            world.announce(SocketId(n), (number, attempt), (0, &text), ended);
        }
        Back::NodeReturns(n, announces) => {
            let mut hello = node_hello(2, 4);
            hello.announces = announces;
            world.node_with(n, hello);
        }
        Back::Restart => world.restart_with(chaos_config()),
    }
}

/// Every frame that a client got can be read.
fn read_frames(world: &mut World) {
    for n in 0..CLIENTS {
        for frame in world.frames(SocketId(n)) {
            TokenFrame::decode(&frame).unwrap();
        }
    }
}

fn chaos_config() -> Config {
    Config {
        queue_jobs_max_per_model: 4,
        jobs_per_client_max: 5,
        content_bytes_max: 10 * BYTES,
        window_bytes: 20,
        unacknowledged_bytes_max: 40,
        places_told_at_once: 2,
        ..config()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_peers_do_the_invariants_hold_and_nothing_is_left_behind(
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut world = World::with(chaos_config());
        for act in acts {
            perform(&mut world, act);
            read_frames(&mut world);
        }
        for n in 0..CLIENTS {
            world.input(Input::ClientLeft { socket: SocketId(n) });
        }
        for n in 100..100 + NODES {
            world.input(Input::NodeLeft { socket: SocketId(n) });
        }
        // Ends that nobody acknowledged are kept the longest.
        let config = chaos_config();
        world.advance(config.client_silent_ms_max + config.grace_ms + 1);
        prop_assert!(world.is_clean());
        prop_assert_eq!(world.scheduler.poll_timeout(), None);
    }
}
