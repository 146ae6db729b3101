//! Who is next, who waits for how long, and who pays.

use std::collections::BTreeMap;

use protocol::chat::ResponseFormat;
use protocol::{
    Alias, ChatRequest, ClientToRelay, ErrorCode, JobId, NodeToRelay, RelayToClient, WaitRange,
};

use super::world::*;
use crate::{Config, Input, SocketId};

/// The number of a job, of which there may be thousands.
fn numbered(number: u32) -> JobId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    JobId::from_random(bytes)
}

fn asks(text: &str, max_tokens: u32) -> ChatRequest {
    let mut request = request();
    request.messages[0].content = text.to_owned();
    request.max_tokens = Some(max_tokens);
    request
}

fn roomy() -> Config {
    Config {
        queue_jobs_max_per_model: 5_000,
        queue_jobs_max_per_account: 5_000,
        queue_jobs_max: 5_000,
        jobs_per_client_max: 5_000,
        ..config()
    }
}

/// A world whose jobs are known by who asked.
struct Crowd {
    world: World,
    whose: BTreeMap<JobId, SocketId>,
    asked: u32,
}

impl Crowd {
    fn new(world: World) -> Self {
        Self {
            world,
            whose: BTreeMap::new(),
            asked: 0,
        }
    }

    fn ask(&mut self, client: SocketId, model: &str, request: ChatRequest) -> JobId {
        self.asked += 1;
        let job = numbered(self.asked);
        self.whose.insert(job, client);
        self.world.says(
            client,
            ClientToRelay::Submit {
                job,
                model: model.into(),
                request: request.into(),
            },
        );
        job
    }

    /// What a node was given since the last look, and for whom.
    fn given(&mut self, node: SocketId) -> Vec<(SocketId, Alias)> {
        let assigned = self.world.assigned(node);
        let whose = |(job, alias): (JobId, Alias)| (self.whose[&job], alias);
        assigned.into_iter().map(whose).collect()
    }

    /// Answers with so many tokens, which takes `ms`.
    fn answer(&mut self, node: SocketId, alias: Alias, tokens: u32, ms: u64) {
        self.world.accept(node, alias);
        let ids = vec![1; tokens as usize];
        let text = "a".repeat(tokens as usize);
        self.world.tokens(node, &[(alias, 0, &ids, &text)]);
        self.world.advance(ms);
        self.world.complete(node, alias, tokens, tokens);
    }
}

#[test]
fn a_hog_with_a_thousand_jobs_delays_a_newcomer_by_one_job_a_slot_at_most() {
    let mut crowd = Crowd::new(World::unchecked(roomy()));
    let node = crowd.world.node(9, 3);
    let hog = crowd.world.client_of(1, "hog");
    for _ in 0..1_000 {
        crowd.ask(hog, MODEL, asks("mine", 100));
    }
    let mut running = crowd.given(node);
    assert_eq!(running.len(), 3);
    for number in 0..20 {
        // Some of the hog's jobs later, at any moment of a job.
        for _ in 0..number % 4 {
            let (_, alias) = running.remove(0);
            crowd.answer(node, alias, 100, 900);
            running.extend(crowd.given(node));
        }
        let newcomer = crowd
            .world
            .client_of(100 + number, &format!("new {number}"));
        // However long its own job is.
        crowd.ask(newcomer, MODEL, asks("first", 10 + 400 * number));
        let (_, alias) = running.remove(0);
        crowd.answer(node, alias, 100, 900);
        let next = crowd.given(node);
        assert_eq!(next[0].0, newcomer, "the next slot is the newcomer's");
        running.extend(next);
    }
}

#[test]
fn jobs_that_stand_in_several_lines_pay_in_the_one_whose_turn_they_take() {
    let mut crowd = Crowd::new(World::unchecked(roomy()));
    let node = crowd
        .world
        .node_with(9, hello(1, vec![offer(MODEL), offer(OTHER)]));
    let hog = crowd.world.client_of(1, "hog");
    for _ in 0..50 {
        crowd.ask(hog, TIER, asks("mine", 100));
    }
    let newcomer = crowd.world.client_of(2, "newcomer");
    crowd.ask(newcomer, OTHER, asks("first", 100));
    let turns = (1..50).find(|_| {
        let (client, alias) = crowd.given(node)[0];
        crowd.answer(node, alias, 100, 900);
        client == newcomer
    });
    // One of the hog's that runs, and one turn of each line.
    assert!(turns <= Some(4), "{turns:?}");
}

#[test]
fn two_accounts_share_by_tokens_and_who_asks_more_waits_more() {
    let mut crowd = Crowd::new(World::unchecked(roomy()));
    let node = crowd.world.node(9, 1);
    let talker = crowd.world.client_of(1, "talker");
    let asker = crowd.world.client_of(2, "asker");
    for _ in 0..150 {
        crowd.ask(talker, MODEL, asks("long", 1_000));
        crowd.ask(asker, MODEL, asks("short", 100));
    }
    let mut tokens: BTreeMap<SocketId, u32> = BTreeMap::new();
    while tokens.get(&asker) != Some(&10_000) {
        let (client, alias) = crowd.given(node)[0];
        let answer = if client == talker { 1_000 } else { 100 };
        *tokens.entry(client).or_default() += answer;
        crowd.answer(node, alias, answer, 10);
    }
    assert!((9_000..=13_000).contains(&tokens[&talker]), "{tokens:?}");
}

#[test]
fn tiers_and_accounts_weigh_what_the_config_says() {
    let mut crowd = Crowd::new(World::unchecked(Config {
        tier_weights: [(TIER.to_owned(), 3)].into(),
        account_weights: [("patron".to_owned(), 2)].into(),
        ..roomy()
    }));
    let node = crowd.world.node(9, 1);
    let plain = crowd.world.client_of(1, "plain");
    let tiered = crowd.world.client_of(2, "tiered");
    let patron = crowd.world.client_of(3, "patron");
    for _ in 0..300 {
        crowd.ask(plain, MODEL, asks("x", 100));
        crowd.ask(tiered, TIER, asks("x", 100));
        crowd.ask(patron, TIER, asks("x", 100));
    }
    let mut turns: BTreeMap<SocketId, u32> = BTreeMap::new();
    for _ in 0..400 {
        let (client, alias) = crowd.given(node)[0];
        *turns.entry(client).or_default() += 1;
        crowd.answer(node, alias, 100, 1);
    }
    for (client, wanted) in [(plain, 40), (tiered, 120), (patron, 240)] {
        assert!(turns[&client].abs_diff(wanted) <= 4, "{turns:?}");
    }
}

/// Starvation of big jobs.
#[test]
fn a_big_job_does_not_starve_beside_endless_small_ones() {
    let mut crowd = Crowd::new(World::unchecked(roomy()));
    let node = crowd.world.node(9, 1);
    let big = crowd.world.client_of(1, "big");
    let small = [2, 3, 4].map(|n| crowd.world.client_of(n, &format!("small {n}")));
    for client in small {
        crowd.ask(client, MODEL, asks("x", 10));
    }
    crowd.ask(big, MODEL, asks(&"word ".repeat(1_000), 2_000));
    for turn in 0.. {
        assert!(turn < 10, "starved");
        let (client, alias) = crowd.given(node)[0];
        if client == big {
            break;
        }
        crowd.ask(client, MODEL, asks("x", 10));
        crowd.answer(node, alias, 10, 10);
    }
}

/// One global FIFO in which a busy model blocks an idle one.
#[test]
fn a_busy_model_blocks_no_other_not_even_on_the_node_that_both_share() {
    let mut crowd = Crowd::new(World::unchecked(roomy()));
    let both = hello(1, vec![offer(MODEL), offer(OTHER)]);
    let shared = crowd.world.node_with(8, both);
    let hog = crowd.world.client_of(1, "hog");
    for _ in 0..500 {
        crowd.ask(hog, MODEL, asks("x", 100));
    }
    let own = crowd.world.node_with(9, hello(1, vec![offer(OTHER)]));
    let other = crowd.world.client_of(2, "other");
    crowd.ask(other, OTHER, asks("x", 100));
    assert_eq!(
        crowd.given(own)[0].0,
        other,
        "an idle model answers at once"
    );
    // Its own node is busy now: on the shared one it has its turn too.
    for _ in 0..10 {
        crowd.ask(other, OTHER, asks("x", 100));
    }
    let mut turns = Vec::new();
    for _ in 0..11 {
        let (client, alias) = crowd.given(shared)[0];
        turns.push(client);
        crowd.answer(shared, alias, 100, 10);
    }
    let first = turns.iter().position(|client| *client == other);
    assert!(first <= Some(2), "{turns:?}");
    let all = turns.iter().filter(|client| **client == other).count();
    assert!((4..=6).contains(&all), "{turns:?}");
}

#[test]
fn an_account_cannot_fill_the_line_and_is_told_when_to_come_back() {
    let mut world = World::with(Config {
        queue_jobs_max_per_account: 3,
        ..config()
    });
    let node = world.node(9, 1);
    let (hog, second) = (world.client_of(1, "hog"), world.client_of(2, "hog"));
    let other = world.client_of(3, "other");
    world.submit(hog, 100);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "a")]);
    world.advance(20_000);
    world.complete(node, alias, 1, 1);
    for number in 1..=4 {
        world.submit(hog, number);
    }
    world.told(hog);
    // Another socket is no way round it.
    world.submit(second, 5);
    let told = world.told(second);
    let Some(RelayToClient::Failed { failure, .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!(failure.code, ErrorCode::QueueFull);
    let after = failure.retry_after_ms.unwrap();
    assert!((40_000..=80_000).contains(&after), "{after}");
    world.submit(other, 6);
    assert_eq!(world.failures(other), []);
    // A freed place is a place.
    world.says(hog, ClientToRelay::Cancel { job: job(4) });
    world.submit(second, 5);
    assert_eq!(world.failures(second), []);
}

#[test]
fn jobs_whose_client_is_away_still_count_for_its_account() {
    let mut world = World::with(Config {
        queue_jobs_max_per_account: 2,
        ..config()
    });
    let first = world.client_of(1, "hog");
    world.submit(first, 1);
    world.submit(first, 2);
    world.input(Input::ClientLeft { socket: first });
    let second = world.client_of(2, "hog");
    world.submit(second, 3);
    assert_eq!(world.failures(second), [(job(3), ErrorCode::QueueFull)]);
}

fn waits(world: &mut World, client: SocketId) -> BTreeMap<JobId, (u32, Option<WaitRange>)> {
    let told = world.told(client).into_iter();
    told.filter_map(|message| {
        let RelayToClient::Queued {
            job,
            position,
            wait,
            ..
        } = message
        else {
            return None;
        };
        Some((job, (position, wait)))
    })
    .collect()
}

/// Answers one job in ten seconds, so that something is known.
fn teach(world: &mut World, client: SocketId, node: SocketId) {
    world.submit(client, 200);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "a")]);
    world.advance(10_000);
    world.complete(node, alias, 1, 1);
    world.told(client);
}

#[test]
fn how_long_it_will_be_is_told_once_it_is_known_and_again_while_waiting() {
    let mut world = World::new();
    let client = world.client(1);
    let node = world.node(9, 1);
    world.submit(client, 1);
    world.submit(client, 2);
    assert_eq!(waits(&mut world, client)[&job(2)], (1, None));
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "a")]);
    world.advance(10_000);
    world.complete(node, alias, 1, 1);
    for number in 3..=5 {
        world.submit(client, number);
    }
    let told = waits(&mut world, client);
    let (position, wait) = told[&job(5)];
    let wait = wait.unwrap();
    assert_eq!(position, 3);
    assert!(wait.ms_min <= 30_000 && wait.ms_max >= 30_000, "{wait:?}");
    // The running answer takes unusually long, and its node is well.
    for _ in 0..6 {
        world.advance(10_000);
        let alias = world.scheduler.attempts.keys().next().copied().unwrap();
        world.node_says(
            node,
            NodeToRelay::Progress {
                alias,
                prefilled_tokens: u32::try_from(world.now).unwrap(),
            },
        );
    }
    let (position, later) = waits(&mut world, client)[&job(5)];
    assert_eq!(position, 3);
    assert!(later.unwrap().ms_max > wait.ms_max, "{later:?}");
}

/// Queue time that counts requests nobody can serve.
#[test]
fn requests_that_nobody_can_serve_count_for_nobody_else() {
    let mut world = World::new();
    let client = world.client(1);
    let other = world.client_of(2, "other");
    let node = world.node(9, 1);
    teach(&mut world, client, node);
    world.submit(client, 1);
    // Awaits a node that can; there was one when it came.
    let mut able = offer(MODEL);
    able.capabilities.grammar = true;
    let able = world.node_with(8, hello(1, vec![able]));
    world.submit(client, 2);
    let mut bound = request();
    bound.response_format = ResponseFormat::JsonObject;
    for number in 3..=7 {
        world.submit_to(other, number, MODEL, bound.clone());
    }
    world.input(Input::NodeLeft { socket: able });
    world.told(other);
    world.submit(client, 8);
    let told = waits(&mut world, client);
    let servable = [job(2), job(8)];
    let known: Vec<JobId> = told.keys().copied().collect();
    assert!(servable.iter().all(|job| known.contains(job)), "{told:?}");
    let (position, wait) = told[&job(8)];
    assert!(position <= 2, "{told:?}");
    assert!(wait.unwrap().ms_max < 60_000, "{wait:?}");
    // Who cannot be served is promised nothing.
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    let alias = world.only_assigned(node);
    world.cancelled(node, alias);
    world.submit_to(other, 9, MODEL, request());
    for (job, (_, wait)) in waits(&mut world, other) {
        assert!(wait.is_none() || job == super::world::job(9));
    }
}

#[test]
fn a_lost_job_is_next_before_everybody() {
    let mut crowd = Crowd::new(World::new());
    let hog = crowd.world.client_of(1, "hog");
    let node = crowd.world.node(8, 1);
    for _ in 0..5 {
        crowd.ask(hog, MODEL, asks("x", 100));
    }
    let other = crowd.world.client_of(2, "other");
    crowd.ask(other, MODEL, asks("x", 100));
    let lost = crowd.world.assigned(node)[0].0;
    crowd.world.input(Input::NodeLeft { socket: node });
    let next = crowd.world.node(9, 1);
    let alias = {
        let assigned = crowd.world.assigned(next);
        assert_eq!(assigned[0].0, lost);
        assigned[0].1
    };
    crowd.answer(next, alias, 100, 10);
    assert_eq!(crowd.given(next)[0].0, other);
}
