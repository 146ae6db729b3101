//! Who gets how much work: speed, karma, probation, quarantine, prefixes.

use std::collections::BTreeMap;

use protocol::chat::ResponseFormat;
use protocol::{
    Alias, ChatMessage, ClientToRelay, ErrorCode, Failure, JobId, NodeToRelay, PrefixHash, Role,
};

use super::world::*;
use crate::karma::{Fault, Outcome};
use crate::measure::Meter;
use crate::{Config, Input, SocketId};

fn fails(world: &mut World, node: SocketId, alias: Alias, code: ErrorCode) {
    let failure = Failure::new(code, "because");
    world.node_says(node, NodeToRelay::Failed { alias, failure });
}

/// A job of its own conversation, so that no node has read its beginning; the client has nothing else.
fn submit_fresh(world: &mut World, client: SocketId, number: u32) -> JobId {
    let mut bytes = [9; 16];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    let job = JobId::from_random(bytes);
    let mut request = request();
    request.messages[0].content = format!("Question {number}");
    world.says(
        client,
        ClientToRelay::Submit {
            job,
            model: MODEL.into(),
            request: request.into(),
        },
    );
    job
}

fn named(world: &mut World, number: u32, slots: u32) -> SocketId {
    let mut hello = hello(slots, vec![offer(MODEL)]);
    hello.name = format!("rig-{number}");
    world.node_with(number, hello)
}

/// As if it had answered often and well, at this speed.
fn proves(world: &mut World, node: SocketId, tokens_per_second: u32) {
    for _ in 0..60 {
        world.scheduler.outcome(node, Outcome::Good);
    }
    let mut meter = Meter::begin(0, 0);
    meter.add(0, 1, 4);
    meter.add(10_000, 10 * tokens_per_second, 40 * tokens_per_second);
    let model = world.scheduler.models.by_id(MODEL).unwrap();
    let offer = world
        .scheduler
        .nodes
        .get_mut(&node)
        .unwrap()
        .offers
        .get_mut(model);
    offer.unwrap().speed.learn(&meter, None, 1e6);
    world.scheduler.refresh_node(node);
}

/// Where the jobs go, each of which ends by nobody's fault.
fn shares(world: &mut World, nodes: &[SocketId], jobs: u32) -> BTreeMap<SocketId, u32> {
    let client = world.client_of(1, "user");
    let mut shares: BTreeMap<SocketId, u32> = nodes.iter().map(|node| (*node, 0)).collect();
    for number in 0..jobs {
        let job = submit_fresh(world, client, number);
        let alias = *world.scheduler.attempts.keys().next().unwrap();
        let node = world.scheduler.attempts[&alias].node;
        *shares.get_mut(&node).unwrap() += 1;
        world.says(client, ClientToRelay::Cancel { job });
        world.cancelled(node, alias);
        world.told(client);
        world.ordered(node);
    }
    shares
}

#[test]
fn placements_follow_the_weights_and_the_slowest_gets_its_floor() {
    let mut world = World::unchecked(Config {
        decode_floor: 2.0,
        ..config()
    });
    let speeds = [100, 60, 40, 25, 10, 1];
    let nodes: Vec<SocketId> = (10..16).map(|n| named(&mut world, n, 2)).collect();
    for (node, speed) in nodes.iter().zip(speeds) {
        proves(&mut world, *node, speed);
    }
    let jobs = 100_000;
    let shares = shares(&mut world, &nodes, jobs);
    let weights = speeds.map(|speed: u32| f64::from(speed.max(2)));
    let sum: f64 = weights.iter().sum();
    for (node, weight) in nodes.iter().zip(weights) {
        let share = f64::from(shares[node]) / f64::from(jobs);
        assert!((share - weight / sum).abs() < 0.02, "{shares:?}");
    }
    // 2 of 237, where 1 of 236 would be its speed's.
    assert!(shares[&nodes[5]] > jobs / 150, "{shares:?}");
}

#[test]
fn new_nodes_together_get_a_bounded_share_where_others_are_free() {
    let mut world = World::unchecked(config());
    let old = named(&mut world, 10, 1);
    proves(&mut world, old, 30);
    let mut nodes = vec![old];
    nodes.extend((100..200).map(|n| named(&mut world, n, 1)));
    let shares = shares(&mut world, &nodes, 2_000);
    assert!((1_500..=1_700).contains(&shares[&old]), "{shares:?}");
    // And where nobody else is free, they get all.
    let client = world.client_of(2, "user");
    let other = world.client_of(3, "other");
    for number in 5_000..5_101 {
        let client = if number % 2 == 0 { client } else { other };
        submit_fresh(&mut world, client, number);
    }
    assert_eq!(world.scheduler.attempts.len(), 101);
}

#[test]
fn a_new_node_is_expected_to_be_as_fast_as_the_others() {
    let mut world = World::unchecked(Config {
        newcomers_share: 0.99,
        ..config()
    });
    let (slow, fast) = (named(&mut world, 10, 1), named(&mut world, 11, 1));
    proves(&mut world, slow, 20);
    proves(&mut world, fast, 80);
    let fresh = named(&mut world, 12, 1);
    let shares = shares(&mut world, &[slow, fast, fresh], 3_000);
    // 50 tokens/s at the factor of a new node: 40 of 134.
    assert!((700..=1_100).contains(&shares[&fresh]), "{shares:?}");
}

/// A breaker that punishes healthy nodes for busy or client errors.
#[test]
fn what_is_not_a_nodes_fault_costs_it_nothing() {
    let mut world = World::new();
    let client = world.client(1);
    let node = named(&mut world, 9, 4);
    let key = world.scheduler.nodes[&node].karma;
    let trust = |world: &World| {
        let s = &world.scheduler;
        s.karma.trust(key, s.now, &s.config)
    };
    let before = trust(&world);
    for round in 0..50 {
        for code in [
            ErrorCode::InvalidRequest,
            ErrorCode::ContextLengthExceeded,
            ErrorCode::CapabilityMissing,
            ErrorCode::QueueFull,
            ErrorCode::MemoryFull,
        ] {
            let job = submit_fresh(&mut world, client, round);
            let alias = world.assigned(node)[0].1;
            fails(&mut world, node, alias, code);
            world.says(client, ClientToRelay::Cancel { job });
            for (_, alias) in world.assigned(node) {
                world.cancelled(node, alias);
            }
            world.told(client);
        }
        // Cancelled in the middle of the answer.
        let job = submit_fresh(&mut world, client, round);
        let alias = world.assigned(node)[0].1;
        world.accept(node, alias);
        world.tokens(node, &[(alias, 0, &[1], "a")]);
        world.says(client, ClientToRelay::Cancel { job });
        world.cancelled(node, alias);
        // A client that went away for good.
        let leaver = world.client(2);
        submit_fresh(&mut world, leaver, round);
        let alias = world.assigned(node)[0].1;
        world.input(Input::ClientLeft { socket: leaver });
        world.node_says(node, NodeToRelay::Ping);
        world.advance(6_000);
        world.cancelled(node, alias);
        world.told(client);
    }
    assert_eq!(trust(&world), before);
    let again = submit_fresh(&mut world, client, 1);
    assert_eq!(world.assigned(node)[0].0, again);
}

#[test]
fn a_node_that_keeps_failing_is_put_in_quarantine_and_finds_its_way_back() {
    let mut world = World::new();
    let client = world.client(1);
    let bad = named(&mut world, 8, 2);
    for number in 0..3 {
        submit_fresh(&mut world, client, number);
        let alias = world.only_assigned(bad);
        let good_for_nothing = ErrorCode::EngineFailed;
        fails(&mut world, bad, alias, good_for_nothing);
        for (job, alias) in world.assigned(bad) {
            world.says(client, ClientToRelay::Cancel { job });
            world.cancelled(bad, alias);
        }
    }
    let good = named(&mut world, 9, 1);
    let first = submit_fresh(&mut world, client, 10);
    let (job, alias) = world.assigned(good)[0];
    assert_eq!(job, first);
    // No work for it even where the other is busy.
    let second = submit_fresh(&mut world, client, 11);
    submit_fresh(&mut world, client, 12);
    assert_eq!(world.assigned(bad), []);
    // Connecting again does not help.
    world.input(Input::NodeLeft { socket: bad });
    let bad = named(&mut world, 8, 2);
    assert_eq!(world.assigned(bad), []);
    for _ in 0..6 {
        world.advance(10_000);
        world.node_says(bad, NodeToRelay::Ping);
        world.node_says(good, NodeToRelay::Ping);
        world.node_says(
            good,
            NodeToRelay::Progress {
                alias,
                prefilled_tokens: u32::try_from(world.now).unwrap(),
            },
        );
    }
    // Its time is over: one job, though it has two slots and two wait.
    let probe = world.assigned(bad);
    assert_eq!(probe.len(), 1);
    assert_eq!(probe[0].0, second);
    world.answer(bad, probe[0].1);
    let probe = world.only_assigned(bad);
    world.answer(bad, probe);
    // Trusted with two again.
    for number in 20..22 {
        submit_fresh(&mut world, client, number);
    }
    assert_eq!(world.assigned(bad).len(), 2);
}

#[test]
fn where_nobody_else_is_left_a_suspect_still_works() {
    let mut world = World::new();
    let client = world.client(1);
    let only = named(&mut world, 8, 2);
    for number in 0..6 {
        submit_fresh(&mut world, client, number);
        for (job, alias) in world.assigned(only) {
            world.says(client, ClientToRelay::Cancel { job });
            world.cancelled(only, alias);
            world
                .scheduler
                .outcome(only, Outcome::Bad(Fault::SpotCheck));
        }
    }
    assert!(world.scheduler.is_on_probation(only));
    submit_fresh(&mut world, client, 10);
    submit_fresh(&mut world, client, 11);
    // One at a time.
    let alias = world.only_assigned(only);
    world.answer(only, alias);
    world.only_assigned(only);
}

#[test]
fn a_node_that_is_lost_with_all_its_jobs_failed_once() {
    let mut world = World::new();
    let client = world.client(1);
    let node = named(&mut world, 9, 8);
    for number in 0..8 {
        submit_fresh(&mut world, client, number);
    }
    assert_eq!(world.assigned(node).len(), 8);
    world.input(Input::NodeLeft { socket: node });
    let node = named(&mut world, 9, 8);
    assert_eq!(world.assigned(node).len(), 8, "not in quarantine");
}

#[test]
fn spot_checks_count() {
    let mut world = World::new();
    let node = named(&mut world, 9, 1);
    assert!(world.scheduler.is_on_probation(node));
    for _ in 0..5 {
        world.scheduler.spot_checked(world.now, node, true);
    }
    assert!(!world.scheduler.is_on_probation(node));
    for _ in 0..12 {
        world.scheduler.spot_checked(world.now, node, false);
    }
    assert!(world.scheduler.is_on_probation(node));
}

#[test]
fn a_follow_up_goes_to_the_node_that_read_its_beginning_while_that_is_free() {
    let mut world = World::new();
    let client = world.client(1);
    let nodes: Vec<SocketId> = (10..30).map(|n| named(&mut world, n, 1)).collect();
    let whose = |world: &mut World| {
        let given = nodes.iter().filter_map(|node| {
            let (_, alias) = *world.assigned(*node).first()?;
            Some((*node, alias))
        });
        given.last().unwrap()
    };
    let mut asked = request();
    world.submit_to(client, 1, MODEL, asked.clone());
    let (reader, alias) = whose(&mut world);
    world.answer(reader, alias);
    let say = |role, text: &str| ChatMessage {
        role,
        content: text.into(),
        ..ChatMessage::default()
    };
    for number in 2..10 {
        asked.messages.push(say(Role::Assistant, "hi"));
        asked.messages.push(say(Role::User, "And then?"));
        world.submit_to(client, number, MODEL, asked.clone());
        let (node, alias) = whose(&mut world);
        assert_eq!(node, reader);
        world.answer(node, alias);
    }
    // Busy: somebody else, at once.
    let mut bound = asked.clone();
    bound.response_format = ResponseFormat::Text;
    world.submit_to(client, 20, MODEL, bound);
    assert_eq!(whose(&mut world).0, reader);
    world.submit_to(client, 21, MODEL, asked);
    assert_ne!(whose(&mut world).0, reader);
}

#[test]
fn a_node_is_preferred_only_while_it_says_that_it_has_the_conversation() {
    let mut world = World::new();
    let client = world.client(1);
    let node = named(&mut world, 10, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    let s = &world.scheduler;
    let model = s.models.by_id(MODEL).unwrap();
    let prefixes = s.affinity.prefixes(&request().into());
    let prefix = PrefixHash(prefixes[0]);
    let preferred = |world: &World| world.scheduler.reader(model, &prefixes, |_| true);
    let says = |world: &mut World, prefixes: &[PrefixHash]| {
        let prefixes = prefixes.to_vec();
        world.node_says(node, NodeToRelay::Cached { prefixes });
    };
    // What it is reading at the moment is not in its list yet, and counts.
    says(&mut world, &[]);
    assert_eq!(preferred(&world), Some(node));
    world.answer(node, alias);
    says(&mut world, &[PrefixHash(1), prefix]);
    assert_eq!(preferred(&world), Some(node));
    says(&mut world, &[PrefixHash(1)]);
    assert_eq!(preferred(&world), None);
}

/// A node's socket breaks, with the relay noticing it or not; the node comes back and says what it has.
#[test]
fn a_node_that_comes_back_has_what_it_says_it_has_kept() {
    for is_noticed in [true, false] {
        let mut world = World::new();
        let client = world.client(1);
        let old = named(&mut world, 10, 1);
        world.submit(client, 1);
        let alias = world.only_assigned(old);
        world.answer(old, alias);
        let s = &world.scheduler;
        let model = s.models.by_id(MODEL).unwrap();
        let prefix = PrefixHash(s.affinity.prefixes(&request().into())[0]);
        let mut follow_up = request();
        for (role, content) in [(Role::Assistant, "hi"), (Role::User, "And then?")] {
            follow_up.messages.push(ChatMessage {
                role,
                content: content.into(),
                ..ChatMessage::default()
            });
        }
        let prefixes = s.affinity.prefixes(&follow_up.clone().into());
        if is_noticed {
            world.input(Input::NodeLeft { socket: old });
        }
        // Idle as well, by far faster, and not to be believed about what another has read.
        let fast = named(&mut world, 12, 1);
        proves(&mut world, fast, 10_000);
        let says = |prefixes: &[PrefixHash]| NodeToRelay::Cached {
            prefixes: prefixes.to_vec(),
        };
        world.node_says(fast, says(&[prefix]));
        let mut hello = hello(1, vec![offer(MODEL)]);
        hello.name = "rig-10".into();
        let new = world.node_with(11, hello);
        let preferred = |world: &World| {
            let is_old = |socket| socket == old;
            world
                .scheduler
                .reader(model, &prefixes, |node| !is_old(node))
        };
        assert_eq!(preferred(&world), None, "it has said nothing yet");
        world.node_says(new, says(&[]));
        assert_eq!(preferred(&world), None, "it has lost everything");
        world.node_says(new, says(&[PrefixHash(1), prefix]));
        world.submit_to(client, 2, MODEL, follow_up);
        world.only_assigned(new);
    }
}

#[test]
fn a_reader_that_left_is_not_looked_for_under_its_sockets_number() {
    let mut world = World::new();
    let client = world.client(1);
    let first = named(&mut world, 10, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(first);
    world.answer(first, alias);
    world.input(Input::NodeLeft { socket: first });
    // The same socket, another node, far slower than a third.
    named(&mut world, 10, 1);
    let s = &world.scheduler;
    let model = s.models.by_id(MODEL).unwrap();
    let prefixes = s.affinity.prefixes(&request().into());
    assert_eq!(s.reader(model, &prefixes, |_| true), None);
}

/// Speed that includes prefill and tool wait. Token counters not reset on the second attempt, so that the replacement
/// looks impossibly fast.
#[test]
fn speed_is_of_writing_alone_and_of_one_attempt_alone() {
    let mut world = World::new();
    let client = world.client(1);
    let first = named(&mut world, 10, 1);
    world.submit(client, 1);
    let alias = world.only_assigned(first);
    world.accept(first, alias);
    let ids = [1; 100];
    world.tokens(first, &[(alias, 0, &ids, &"a".repeat(100))]);
    world.input(Input::NodeLeft { socket: first });
    let mut able = hello(1, vec![offer(MODEL)]);
    able.name = "second".into();
    able.models[0].capabilities.continuation = true;
    let second = world.node_with(11, able);
    let alias = world.only_assigned(second);
    // A long time to read the prompt and what is there.
    world.advance(8_000);
    world.accept(second, alias);
    world.advance(2_000);
    for offset in 100..120 {
        world.tokens(second, &[(alias, offset, &[1], "a")]);
        world.advance(100);
    }
    world.complete(second, alias, 120, 120);
    let speed = &world.scheduler.node_speeds(second)[0];
    let decode = speed.decode.unwrap();
    assert!((9.9..10.1).contains(&decode), "{decode}");
    // 7 of the prompt and 100 of the answer, in ten seconds.
    let prefill = speed.prefill.unwrap();
    assert!((10.6..10.8).contains(&prefill), "{prefill}");
}

#[test]
fn suspects_get_what_waits_as_soon_as_the_last_that_is_trusted_leaves() {
    let mut world = World::new();
    let client = world.client(1);
    let good = world.node_with(9, hello(1, vec![offer(MODEL), offer(OTHER)]));
    world.submit_to(client, 1, OTHER, request());
    assert_eq!(world.assigned(good).len(), 1);
    let suspect = named(&mut world, 10, 1);
    for _ in 0..4 {
        world.scheduler.spot_checked(world.now, suspect, false);
    }
    assert!(world.scheduler.is_in_quarantine(suspect));
    world.submit(client, 2);
    assert_eq!(world.assigned(suspect), []);
    world.input(Input::NodeLeft { socket: good });
    assert_eq!(world.assigned(suspect).len(), 1);
}
