//! Clients that come back by ticket and offset: to this relay, and to one that has lost its memory.

use protocol::{ClientToRelay, ErrorCode, FinishReason, RelayToClient, RelayToNode};

use super::world::*;
use crate::{Input, SocketId};

/// A running job of which the client has "abcd" in two tokens.
fn running(world: &mut World) -> (SocketId, SocketId, protocol::Alias) {
    let client = world.client(1);
    let node = world.node(9, 2);
    world.submit(client, 1);
    let alias = world.only_assigned(node);
    world.accept(node, alias);
    world.tokens(node, &[(alias, 0, &[1], "ab")]);
    world.tokens(node, &[(alias, 2, &[2], "cd")]);
    (client, node, alias)
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_and_what_follows() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    let again = world.client(2);
    world.resume(again, 1, "ab", &[1]);
    assert_eq!(world.text(again), "cdef");
    let told = world.told(again);
    assert!(
        matches!(
            told[..],
            [
                RelayToClient::Assigned { alias: same, attempt: 1, offset: 2, .. },
                RelayToClient::Started { .. },
            ] if same == alias
        ),
        "{told:?}"
    );
    world.tokens(node, &[(alias, 6, &[4], "gh")]);
    world.complete(node, alias, 8, 4);
    assert_eq!(world.text(again), "gh");
    world.advance(60_000);
    assert_eq!(world.counters().cancelled, 0, "the grace period is over");
}

#[test]
fn the_node_hears_what_the_client_that_came_back_has() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    let again = world.client(2);
    world.resume(again, 1, "ab", &[1]);
    let acknowledged = RelayToNode::Acknowledge {
        alias,
        offset: 2,
        whole: false,
    };
    assert_eq!(world.ordered(node), [acknowledged]);
}

#[test]
fn a_client_may_come_back_before_its_old_socket_is_known_to_be_dead() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    let again = world.client(2);
    world.resume(again, 1, "abcd", &[1, 2]);
    world.frames(client);
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    assert_eq!(world.text(again), "ef");
    assert!(world.frames(client).is_empty());
    world.input(Input::ClientLeft { socket: client });
    world.advance(20_000);
    assert_eq!(world.counters().cancelled, 0);
}

#[test]
fn what_comes_late_from_a_connection_that_the_client_left_takes_nothing_from_its_new_one() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    let (late, again) = (world.client(2), world.client(3));
    world.resume(again, 1, "abcd", &[1, 2]);
    // Said before `again` came, and arrived after.
    world.resume(late, 1, "ab", &[1]);
    assert_eq!(world.failures(late), [(job(1), ErrorCode::UnknownJob)]);
    world.input(Input::ClientLeft { socket: late });
    world.input(Input::ClientLeft { socket: client });
    world.advance(20_000);
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    world.complete(node, alias, 6, 3);
    assert_eq!(world.text(again), "ef");
    assert_eq!(world.counters().cancelled, 0);
}

#[test]
fn a_waiting_job_keeps_its_place_while_its_client_is_away() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.submit(client, 2);
    world.input(Input::ClientLeft { socket: client });
    let again = world.client(2);
    world.resume(again, 2, "", &[]);
    assert_eq!(world.places(again), [(job(2), 2, 0)]);
}

#[test]
fn an_answer_that_ended_meanwhile_is_resent_with_its_end() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    world.complete(node, alias, 6, 3);
    world.ordered(node);
    let again = world.client(2);
    world.resume(again, 1, "abc", &[1, 2]);
    assert_eq!(world.text(again), "def");
    let told = world.told(again);
    assert!(matches!(
        told.last(),
        Some(RelayToClient::Completed {
            offset: 6,
            finish_reason: FinishReason::Stop,
            ..
        })
    ));
    world.has_whole(again, 1, 6);
    assert!(matches!(
        world.ordered(node)[..],
        [RelayToNode::Acknowledge { whole: true, .. }]
    ));
    assert!(world.is_clean());
}

#[test]
fn a_failure_that_nobody_heard_is_told_when_the_client_comes_back() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.input(Input::ClientLeft { socket: client });
    for number in 7..=9 {
        let node = world.node(number, 1);
        world.input(Input::NodeLeft { socket: node });
    }
    let again = world.client(2);
    world.resume(again, 1, "", &[]);
    assert_eq!(world.failures(again), [(job(1), ErrorCode::NodeLost)]);
}

#[test]
fn a_client_that_comes_back_after_its_grace_period_goes_on_with_what_it_has() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    world.advance(5_000);
    world.cancelled(node, alias);
    world.ordered(node);
    let again = world.client(2);
    world.resume(again, 1, "abcd", &[1, 2]);
    world.node_says(node, protocol::NodeToRelay::Ping);
    world.advance(2_000);
    let orders = world.ordered(node);
    assert!(
        matches!(orders.last(), Some(RelayToNode::Assign { answer: Some(answer), .. }) if answer.bytes() == 4),
        "{orders:?}"
    );
}

#[test]
fn a_failure_said_to_a_dead_socket_is_told_again() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    for number in 7..=9 {
        let node = world.node(number, 1);
        world.input(Input::NodeLeft { socket: node });
    }
    assert_eq!(world.failures(client), [(job(1), ErrorCode::NodeLost)]);
    let again = world.client(2);
    world.resume(again, 1, "", &[]);
    assert_eq!(world.failures(again), [(job(1), ErrorCode::NodeLost)]);
}

#[test]
fn a_client_that_comes_back_to_a_waiting_job_gets_what_it_missed_with_the_next_attempt() {
    let mut world = World::new();
    let (client, node, _) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    world.input(Input::NodeLeft { socket: node });
    let again = world.client(2);
    world.resume(again, 1, "ab", &[1]);
    assert_eq!(world.places(again), [(job(1), 1, 0)]);
    let other = world.node(10, 1);
    let alias = world.only_assigned(other);
    assert_eq!(world.text(again), "cd");
    let told = world.told(again);
    assert!(
        matches!(
            told[..],
            [
                RelayToClient::Queued { .. },
                RelayToClient::Assigned {
                    attempt: 2,
                    offset: 2,
                    ..
                }
            ]
        ) || matches!(
            told[..],
            [RelayToClient::Assigned {
                attempt: 2,
                offset: 2,
                ..
            }]
        ),
        "{told:?}"
    );
    world.accept(other, alias);
    world.tokens(other, &[(alias, 4, &[3], "ef")]);
    assert_eq!(world.text(again), "ef");
}

#[test]
fn forged_replayed_and_other_accounts_tickets_look_like_jobs_that_never_were() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    let good = world.tickets[&job(1)].clone();
    let again = world.client(2);
    let mut forged = good.clone();
    forged.replace_range(0..1, if forged.starts_with('A') { "B" } else { "A" });
    for ticket in [String::new(), "nonsense".into(), forged] {
        world.resume_with(again, 1, ticket, "abcd", &[1, 2]);
        assert_eq!(world.failures(again), [(job(1), ErrorCode::UnknownJob)]);
    }
    // Another job's ticket.
    world.resume_with(again, 2, good.clone(), "abcd", &[1, 2]);
    assert_eq!(world.failures(again), [(job(2), ErrorCode::UnknownJob)]);
    let stranger = SocketId(3);
    world.input(Input::ClientJoined {
        socket: stranger,
        account: "another".into(),
    });
    world.told(stranger);
    world.resume_with(stranger, 1, good.clone(), "abcd", &[1, 2]);
    assert_eq!(world.failures(stranger), [(job(1), ErrorCode::UnknownJob)]);
    // The job goes on undisturbed, and after its end the ticket is worth nothing.
    world.frames(client);
    world.tokens(node, &[(alias, 4, &[3], "ef")]);
    assert_eq!(world.text(client), "ef");
    world.complete(node, alias, 6, 3);
    world.has_whole(client, 1, 6);
    world.resume_with(again, 1, good, "abcd", &[1, 2]);
    assert_eq!(world.failures(again), [(job(1), ErrorCode::UnknownJob)]);
    assert_eq!(world.counters().tickets_refused, 6);
    assert!(world.is_clean());
}

#[test]
fn a_ticket_is_good_for_a_day() {
    let mut world = World::new();
    let (client, _, _) = running(&mut world);
    let ticket = world.tickets[&job(1)].clone();
    world.input(Input::ClientLeft { socket: client });
    world.restart();
    world.now += 24 * 60 * 60 * 1_000 + 1;
    let again = world.client(2);
    world.resume_with(again, 1, ticket, "abcd", &[1, 2]);
    assert_eq!(world.failures(again), [(job(1), ErrorCode::UnknownJob)]);
}

#[test]
fn text_that_is_not_the_answers_beginning_is_refused() {
    let mut world = World::new();
    let (client, _, _) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    let again = world.client(2);
    for text in ["abXd", "abcde"] {
        world.resume(again, 1, text, &[1, 2]);
        assert_eq!(world.failures(again), [(job(1), ErrorCode::UnknownJob)]);
    }
    world.resume(again, 1, "abcd", &[1, 2]);
    assert_eq!(world.failures(again), []);
}

#[test]
fn after_a_restart_another_node_goes_on_with_what_the_client_has() {
    let mut world = World::new();
    running(&mut world);
    world.restart();
    let node = world.node(9, 1);
    let waiting = world.client(5);
    world.submit(waiting, 5);
    world.submit(waiting, 6);
    let first = world.only_assigned(node);
    let again = world.client(2);
    world.resume(again, 1, "abcd", &[1, 2]);
    assert_eq!(
        world.told(again),
        [],
        "it waits for the node that may have it"
    );
    world.advance(2_000);
    // At the head: it was here before the others.
    assert_eq!(world.places(again), [(job(1), 1, 1)]);
    world.answer(node, first);
    let orders = world.ordered(node);
    let Some(RelayToNode::Assign {
        attempt: 2,
        alias,
        answer: Some(answer),
        ..
    }) = orders.last()
    else {
        panic!("{orders:?}")
    };
    assert_eq!(answer.bytes(), 4);
    world.accept(node, *alias);
    world.tokens(node, &[(*alias, 4, &[3], "ef")]);
    world.complete(node, *alias, 6, 3);
    assert_eq!(world.text(again), "ef");
    let told = world.told(again);
    let Some(RelayToClient::Completed { usage, .. }) = told.last() else {
        panic!("{told:?}")
    };
    assert_eq!(usage.completion_tokens, 3);
}

#[test]
fn after_a_restart_a_job_that_only_waited_takes_turns_like_any_other() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    world.restart();
    let newcomer = world.client(5);
    world.submit(newcomer, 5);
    let again = world.client(2);
    let ticket = world.tickets[&job(1)].clone();
    world.says(
        again,
        ClientToRelay::Resume {
            job: job(1),
            ticket,
            attempt: 0,
            offset: 0,
            tokens: 0,
            hash: protocol::AnswerHash::default(),
            model: MODEL.into(),
            request: request().into(),
            answer: None,
        },
    );
    world.advance(2_000);
    assert_eq!(world.places(again), [(job(1), 2, 0)]);
}

#[test]
fn numbers_that_do_not_fit_the_carried_answer_are_refused() {
    let mut world = World::new();
    running(&mut world);
    let ticket = world.tickets[&job(1)].clone();
    world.restart();
    let again = world.client(2);
    world.says(
        again,
        ClientToRelay::Resume {
            job: job(1),
            ticket,
            attempt: 1,
            offset: 3,
            tokens: 0,
            hash: protocol::AnswerHash::of(b"abc"),
            model: MODEL.into(),
            request: request().into(),
            answer: Some(protocol::Answer {
                model: None,
                pieces: vec![protocol::Piece {
                    kind: protocol::PieceKind::Text,
                    text: "abcd".into(),
                    tokens: vec![],
                }],
            }),
        },
    );
    assert_eq!(world.failures(again), [(job(1), ErrorCode::InvalidRequest)]);
    assert!(world.is_clean());
}

#[test]
fn a_client_that_never_heard_of_its_submission_may_submit_it_again() {
    let mut world = World::new();
    let client = world.client(1);
    world.submit(client, 1);
    let again = world.client(2);
    world.submit(again, 1);
    assert_eq!(world.places(again), [(job(1), 1, 0)]);
    assert_eq!(world.counters().submitted, 1);
    // Its old socket, dead or not, has nothing to say about the job any more.
    world.told(client);
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    assert_eq!(world.failures(client), [(job(1), ErrorCode::UnknownJob)]);
}

#[test]
fn a_number_of_attempts_that_no_job_has_harms_nobody() {
    let mut world = World::new();
    running(&mut world);
    world.restart();
    let client = world.client(2);
    world.says(
        client,
        ClientToRelay::Resume {
            job: job(1),
            ticket: world.tickets[&job(1)].clone(),
            attempt: u32::MAX,
            offset: 0,
            tokens: 0,
            hash: protocol::AnswerHash::default(),
            model: MODEL.into(),
            request: request().into(),
            answer: None,
        },
    );
    world.advance(2_000);
    let node = world.node(9, 1);
    let alias = world.only_assigned(node);
    world.input(Input::NodeLeft { socket: node });
    let node = world.node(10, 1);
    assert_ne!(world.only_assigned(node), alias);
}

#[test]
fn who_lacks_text_that_is_kept_nowhere_is_not_told_to_go_on() {
    let mut world = World::with(crate::Config {
        content_bytes_max: BYTES + 1,
        ..config()
    });
    let (client, _, _) = running(&mut world);
    world.input(Input::ClientLeft { socket: client });
    let again = world.client(2);
    world.resume(again, 1, "", &[]);
    assert_eq!(world.failures(again), [(job(1), ErrorCode::UnknownJob)]);
}

#[test]
fn a_client_that_asks_again_and_again_and_does_not_read_is_closed() {
    let mut world = World::new();
    let (client, node, alias) = running(&mut world);
    let text = "x".repeat(60_000);
    world.tokens(node, &[(alias, 4, &[3], &text)]);
    for _ in 0..100 {
        if world.is_open(client) {
            world.resume(client, 1, "", &[]);
        }
    }
    assert!(!world.is_open(client));
    assert!(world.counters().resumed < 10);
}

#[test]
fn a_job_that_is_back_is_kept_out_by_no_full_line_and_no_other_node() {
    let mut world = World::new();
    let client = world.client(1);
    let picky = protocol::ChatRequest {
        top_logprobs: Some(1),
        ..request()
    };
    world.submit_to(client, 1, MODEL, picky.clone());
    world.restart_with(crate::Config {
        queue_jobs_max_per_model: 1,
        ..config()
    });
    world.node(9, 1);
    let others = world.client(3);
    world.submit(others, 3);
    world.submit(others, 4);
    let again = world.client(2);
    world.says(
        again,
        ClientToRelay::Resume {
            job: job(1),
            ticket: world.tickets[&job(1)].clone(),
            attempt: 0,
            offset: 0,
            tokens: 0,
            hash: protocol::AnswerHash::default(),
            model: MODEL.into(),
            request: picky.into(),
            answer: None,
        },
    );
    assert_eq!(world.failures(again), []);
    let mut able = hello(2, vec![offer(MODEL)]);
    able.models[0].capabilities.logprobs = true;
    let able = world.node_with(10, able);
    world.advance(2_000);
    assert!(world.assigned(able).iter().any(|(id, _)| *id == job(1)));
}

#[test]
fn the_ticket_of_a_job_that_ended_long_ago_is_worth_nothing() {
    let mut world = World::unchecked(config());
    let client = world.client(1);
    world.submit(client, 1);
    let others = world.client(2);
    world.says(client, ClientToRelay::Cancel { job: job(1) });
    for number in 0..5_000_u128 {
        let id = protocol::JobId::from_random((number + 1_000).to_be_bytes());
        let submit = ClientToRelay::Submit {
            job: id,
            model: MODEL.into(),
            request: request().into(),
        };
        world.says(others, submit);
        world.says(others, ClientToRelay::Cancel { job: id });
    }
    world.told(client);
    world.resume(client, 1, "", &[]);
    assert_eq!(world.failures(client), [(job(1), ErrorCode::UnknownJob)]);
}
