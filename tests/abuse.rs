//! Peers that misbehave: each gets a close code or an error, and nobody else notices. Beside every piece of abuse
//! an ordinary chat goes on, whose answers must stay what they are when it is alone.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others, and says no by panicking"
)]

use std::cell::Cell;
use std::future::Future;

use anyhow::{Context, Result};
use futures_util::future::try_join;
use protocol::limits::{CLIENT_FRAME_BYTES_MAX, NODE_FRAME_BYTES_MAX, TOKEN_FRAME_BYTES_MAX};
use protocol::{
    Alias, ChatRequest, ClientToRelay, CloseCode, DeltaKind, ErrorCode, Failure, FinishReason,
    JobId, NodeToRelay, PING, PONG, RelayToClient, RelayToNode, TokenFrameWriter, Usage,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tests::{
    Client, Incoming, MODEL, Network, OTHER_MODEL, Passed, RawNode, RawSocket, Rig, Tap, ask,
    endless, offer,
};

/// The same abuse on every run.
const SEED: u64 = 2;

/// Random frames in a row.
const ROUNDS: usize = 40;

/// Runs abuse beside a chat that starts before it and ends after it.
async fn beside_a_chat(network: &Network, abuse: impl Future<Output = Result<()>>) -> Result<()> {
    let mut client = Client::connect(network).await?;
    let alone = client.chat(MODEL, endless("Tell a story.", 48)).await?;
    let is_over = Cell::new(false);
    let abuse = async {
        let outcome = abuse.await;
        is_over.set(true);
        outcome
    };
    let bystander = async {
        loop {
            let is_last = is_over.get();
            let answer = client.chat(MODEL, endless("Tell a story.", 48)).await?;
            assert_eq!(answer.text, alone.text);
            assert_eq!(answer.usage, alone.usage);
            assert_eq!(answer.finish_reason, FinishReason::Length);
            if is_last {
                return Ok(());
            }
        }
    };
    try_join(abuse, bystander).await?;
    network.free_slots(1).await
}

fn close(code: CloseCode) -> u16 {
    code.number()
}

fn random_bytes(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; 1 + rng.next_u32() as usize % 300];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A header that makes a socket's sender nobody in particular: not loopback, no key.
const STRANGER: [(&str, &str); 1] = [("Host", "relay.example")];

async fn open(network: &Network, path: &str, headers: &[(&str, &str)]) -> Result<RawSocket> {
    let socket = RawSocket::open(network, path, headers).await?;
    socket.map_err(|status| anyhow::anyhow!("{path} refused with {status}"))
}

/// Says something to a joined peer's relay that deserves `refused`, after which the connection goes on.
async fn expect_refused(socket: &mut RawSocket, text: &str) -> Result<()> {
    socket.text(text).await?;
    let shown: String = text.chars().take(60).collect();
    loop {
        match socket.next().await? {
            Incoming::Text(answer) => {
                let answer: Value = serde_json::from_str(&answer)?;
                if answer["type"] == "refused" {
                    assert_eq!(answer["failure"]["code"], "protocol_error", "{shown}");
                    break;
                }
            }
            Incoming::Binary(_) => {}
            Incoming::Closed(code) => panic!("closed with {code} for {shown}"),
        }
    }
    socket.text(PING).await?;
    loop {
        match socket.next().await? {
            Incoming::Text(answer) if answer == PONG => return Ok(()),
            Incoming::Closed(code) => panic!("closed with {code} after {shown}"),
            Incoming::Text(_) | Incoming::Binary(_) => {}
        }
    }
}

/// Text frames that are nothing to either direction.
fn nonsense() -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut all: Vec<String> = [
        "",
        "nonsense",
        "{",
        "[]",
        "null",
        "0",
        "{}",
        r#"{"type": 1}"#,
        r#"{"type": "from_the_future", "anything": [1, 2]}"#,
        r#"{"type": "submit"}"#,
        r#"{"type": "submit", "job": "short", "model": "m", "request": {}}"#,
        r#"{"type": "accepted", "alias": -1}"#,
        r#"{"type": "completed", "alias": "one"}"#,
        "\u{0}\u{1}\u{7f}",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push("[".repeat(100_000));
    all.push(format!("{{\"type\":{}", "{\"type\":".repeat(5_000)));
    for _ in 0..ROUNDS {
        all.push(String::from_utf8_lossy(&random_bytes(&mut rng)).into_owned());
    }
    all
}

#[tokio::test]
async fn clients_that_misbehave_harm_nobody() -> Result<()> {
    let network = Network::relay_only().await?;
    let _rig = Rig::start(&network, "rig", 1)?;
    network.free_slots(1).await?;
    beside_a_chat(
        &network,
        Box::pin(async {
            strangers_must_say_hello(&network, "/client").await?;
            clients_talk_nonsense(&network).await?;
            clients_ask_the_impossible(&network).await?;
            clients_meddle_with_foreign_jobs(&network).await
        }),
    )
    .await
}

/// What holds for both directions before `hello`.
async fn strangers_must_say_hello(network: &Network, path: &str) -> Result<()> {
    // Nobody is let in by saying nothing; this runs beside everything else, since it takes its time.
    let mut silent = open(network, path, &STRANGER).await?;
    let silence = async {
        assert_eq!(silent.closed().await?, close(CloseCode::HelloTimeout));
        Ok::<_, anyhow::Error>(())
    };
    let others = async {
        let protocol_error = close(CloseCode::ProtocolError);
        for first in [
            "nonsense",
            "{}",
            r#"{"type": "from_the_future"}"#,
            r#"{"type": "draining"}"#,
        ] {
            let mut socket = open(network, path, &STRANGER).await?;
            socket.text(first).await?;
            assert_eq!(socket.closed().await?, protocol_error, "{first}");
        }
        let mut socket = open(network, path, &STRANGER).await?;
        socket.binary(TokenFrameWriter::new().finish()).await?;
        assert_eq!(socket.closed().await?, protocol_error);
        let mut socket = open(network, path, &STRANGER).await?;
        socket.text("x".repeat(CLIENT_FRAME_BYTES_MAX + 1)).await?;
        assert_eq!(socket.closed().await?, close(CloseCode::FrameTooLarge));
        // A wrong key at the door is an HTTP answer.
        let refused = RawSocket::open(network, path, &[("Authorization", "Bearer hg-no")]).await?;
        assert_eq!(refused.err(), Some(401));
        Ok(())
    };
    try_join(silence, others).await?;
    Ok(())
}

async fn clients_talk_nonsense(network: &Network) -> Result<()> {
    for key in [
        None,
        Some("hg-wrong".to_owned()),
        Some(network.ready.node_key.clone()),
    ] {
        let mut socket = open(network, "/client", &STRANGER).await?;
        socket.say(&ClientToRelay::Hello { key }).await?;
        assert_eq!(socket.closed().await?, close(CloseCode::Unauthorized));
    }
    let mut socket = open(network, "/client", &STRANGER).await?;
    let key = Some(network.ready.api_key.clone());
    let hello = ClientToRelay::Hello { key };
    socket.say(&hello).await?;
    socket
        .wait_for("welcome", |message: &RelayToClient| {
            matches!(message, RelayToClient::Welcome { .. }).then_some(())
        })
        .await?;
    // The same socket takes all of it and goes on.
    expect_refused(&mut socket, &protocol::encode(&hello)).await?;
    for text in nonsense() {
        expect_refused(&mut socket, &text).await?;
    }

    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for _ in 0..ROUNDS {
        let mut socket = RawSocket::client(network).await?;
        socket.binary(random_bytes(&mut rng)).await?;
        assert_eq!(socket.closed().await?, close(CloseCode::ProtocolError));
    }
    let mut socket = RawSocket::client(network).await?;
    socket.text("x".repeat(CLIENT_FRAME_BYTES_MAX + 1)).await?;
    assert_eq!(socket.closed().await?, close(CloseCode::FrameTooLarge));
    Ok(())
}

/// The failure of a job.
async fn failure_of(socket: &mut RawSocket, wanted: JobId) -> Result<Failure> {
    socket
        .wait_for("a job's failure", |message: &RelayToClient| match message {
            RelayToClient::Failed { job, failure } if *job == wanted => Some(failure.clone()),
            _ => None,
        })
        .await
}

async fn clients_ask_the_impossible(network: &Network) -> Result<()> {
    let mut socket = RawSocket::client(network).await?;
    let no_message = ChatRequest::default();
    let mut too_hot = ask("Hello?", 8);
    too_hot.sampling.temperature = Some(99.0);
    let mut many_stops = ask("Hello?", 8);
    many_stops.stop = vec!["x".to_owned(); 100];
    let mut endless_stop = ask("Hello?", 8);
    endless_stop.stop = vec!["x".repeat(100_000)];
    for (number, request) in [no_message, too_hot, many_stops, endless_stop]
        .into_iter()
        .enumerate()
    {
        let job = JobId::from_random([u8::try_from(number)?; 16]);
        socket.submit(job, OTHER_MODEL, request).await?;
        let failure = failure_of(&mut socket, job).await?;
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert!(failure.param.is_some(), "{failure:?}");
    }
    Ok(())
}

async fn clients_meddle_with_foreign_jobs(network: &Network) -> Result<()> {
    let job = JobId::from_random([77; 16]);
    let mut owner = RawSocket::client(network).await?;
    owner.submit(job, OTHER_MODEL, ask("Hello?", 8)).await?;
    let place = |message: &RelayToClient| match message {
        RelayToClient::Queued { job: of, .. } if *of == job => Some(()),
        _ => None,
    };
    owner.wait_for("a place", place).await?;

    // To another client it is the same as a job that never was.
    let mut thief = RawSocket::client(network).await?;
    let never = JobId::from_random([78; 16]);
    for of in [job, never] {
        thief.say(&ClientToRelay::Cancel { job: of }).await?;
        let failure = failure_of(&mut thief, of).await?;
        assert_eq!(failure.code, ErrorCode::UnknownJob);
        thief
            .say(&ClientToRelay::Acknowledge {
                job: of,
                offset: 9,
                whole: false,
            })
            .await?;
    }
    thief.submit(job, OTHER_MODEL, ask("Mine!", 8)).await?;
    let failure = failure_of(&mut thief, job).await?;
    assert_eq!(failure.code, ErrorCode::DuplicateJob);

    // It still waits; sent again by its owner it is the same job.
    owner.submit(job, OTHER_MODEL, ask("Hello?", 8)).await?;
    owner.wait_for("the same place", place).await?;
    // Acknowledging what was never sent is no mistake that a client can make.
    owner
        .say(&ClientToRelay::Acknowledge {
            job,
            offset: 9,
            whole: false,
        })
        .await?;
    assert_eq!(owner.closed().await?, close(CloseCode::ProtocolError));
    Ok(())
}

#[tokio::test]
async fn nodes_that_misbehave_harm_nobody() -> Result<()> {
    let network = Network::relay_only().await?;
    let tap = Tap::start(&network).await?;
    let _rig = Rig::start_at(&network, &tap.url, "rig", 1)?;
    network.free_slots(1).await?;
    beside_a_chat(
        &network,
        Box::pin(async {
            strangers_must_say_hello(&network, "/node").await?;
            nodes_introduce_themselves_badly(&network).await?;
            nodes_talk_nonsense(&network).await?;
            nodes_meddle_with_foreign_jobs(&network, &tap).await?;
            nodes_answer_out_of_order(&network).await
        }),
    )
    .await
}

fn hello() -> Value {
    json!({
        "type": "hello",
        "name": "raw",
        "class": "rig",
        "software": "raw",
        "slots": 1,
        "models": [offer(OTHER_MODEL)],
    })
}

async fn nodes_introduce_themselves_badly(network: &Network) -> Result<()> {
    let bearer = format!("Bearer {}", network.ready.api_key);
    let refused = RawSocket::open(network, "/node", &[("Authorization", &bearer)]).await?;
    assert_eq!(refused.err(), Some(401), "an API key opens no node's door");
    // Loopback opens only a client's door.
    for key in [
        Value::Null,
        "hgn-wrong".into(),
        network.ready.api_key.as_str().into(),
    ] {
        let mut socket = open(network, "/node", &[]).await?;
        let mut hello = hello();
        hello["key"] = key;
        socket.text(hello.to_string()).await?;
        assert_eq!(socket.closed().await?, close(CloseCode::Unauthorized));
    }
    for (field, value) in [
        ("slots", json!(0)),
        ("slots", json!(1_000_000)),
        ("slots", json!("two")),
        ("name", json!("")),
        ("name", json!("x".repeat(1_000))),
        ("models", json!([])),
        ("models", json!(vec![offer(OTHER_MODEL); 1_000])),
        ("models", json!([offer("not-in-the-catalog")])),
        // The catalog says which class may serve a model.
        ("class", json!("browser")),
    ] {
        let mut socket = RawSocket::node(network).await?;
        let mut hello = hello();
        hello[field] = value;
        socket.text(hello.to_string()).await?;
        let code = socket.closed().await?;
        assert_eq!(code, close(CloseCode::ProtocolError), "{field}");
    }
    Ok(())
}

async fn nodes_talk_nonsense(network: &Network) -> Result<()> {
    let mut node = RawNode::join(network).await?;
    expect_refused(&mut node.socket, &hello().to_string()).await?;
    for text in nonsense() {
        expect_refused(&mut node.socket, &text).await?;
    }
    node.socket
        .text("x".repeat(NODE_FRAME_BYTES_MAX + 1))
        .await?;
    assert_eq!(node.socket.closed().await?, close(CloseCode::FrameTooLarge));

    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for round in 0..ROUNDS {
        let mut frame = random_bytes(&mut rng);
        if round % 2 == 0 {
            // As if it were a token frame.
            frame.splice(..0, [1, 1]);
        }
        let mut node = RawNode::join(network).await?;
        node.socket.binary(frame).await?;
        let code = node.socket.closed().await?;
        assert_eq!(code, close(CloseCode::ProtocolError));
    }
    let mut node = RawNode::join(network).await?;
    node.socket
        .binary(vec![1; TOKEN_FRAME_BYTES_MAX + 1])
        .await?;
    assert_eq!(node.socket.closed().await?, close(CloseCode::FrameTooLarge));
    Ok(())
}

/// The newest attempt on the rig, which is the bystander's.
fn alias_of_the_bystander(tap: &Tap) -> Option<Alias> {
    tap.passed().iter().rev().find_map(|passed| match passed {
        Passed::ToNode(RelayToNode::Assign { alias, .. }) => Some(*alias),
        Passed::ToNode(_) | Passed::FromNode(_) | Passed::Tokens(_) => None,
    })
}

async fn nodes_meddle_with_foreign_jobs(network: &Network, tap: &Tap) -> Result<()> {
    for number in 0..6 {
        let mut node = RawNode::join(network).await?;
        let alias = alias_of_the_bystander(tap).context("the bystander chats")?;
        let usage = Usage::default();
        let failure = Failure::new(ErrorCode::EngineFailed, "not mine");
        let finish_reason = FinishReason::Stop;
        let message = match number {
            0 => NodeToRelay::Accepted {
                alias,
                prompt_tokens: 1,
                context_tokens: 2,
            },
            1 => NodeToRelay::Completed {
                alias,
                offset: 0,
                finish_reason,
                usage,
            },
            2 => NodeToRelay::Failed { alias, failure },
            3 => NodeToRelay::Cancelled { alias, usage },
            4 => NodeToRelay::Progress {
                alias,
                prefilled_tokens: 1,
            },
            _ => {
                node.tokens(alias, 0, "not mine").await?;
                let code = node.socket.closed().await?;
                assert_eq!(code, close(CloseCode::ProtocolError));
                continue;
            }
        };
        node.socket.say(&message).await?;
        let code = node.socket.closed().await?;
        assert_eq!(code, close(CloseCode::ProtocolError), "{message:?}");
    }
    Ok(())
}

/// One job on a raw node, which does something wrong with it after its first piece of text. The job goes back to its line
/// (nobody else here can go on with it), where it is cancelled; or it fails, and why is told.
async fn answered_badly(
    network: &Network,
    wrong: impl AsyncFnOnce(&mut RawNode, Alias) -> Result<()>,
) -> Result<(Option<Failure>, RawNode, Alias)> {
    let mut node = RawNode::join(network).await?;
    let mut asker = RawSocket::client(network).await?;
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let job = JobId::from_random(bytes);
    asker.submit(job, OTHER_MODEL, ask("Hello?", 8)).await?;
    let (assigned, alias) = node.assigned().await?;
    assert_eq!(assigned, job);
    node.accept(alias).await?;
    node.tokens(alias, 0, "Hi").await?;
    asker
        .wait_for("started", |message: &RelayToClient| match message {
            RelayToClient::Started { job: of, .. } if *of == job => Some(()),
            _ => None,
        })
        .await?;
    wrong(&mut node, alias).await?;
    let failure = asker
        .wait_for(
            "its place, or its end",
            |message: &RelayToClient| match message {
                RelayToClient::Queued { job: of, .. } if *of == job => Some(None),
                RelayToClient::Failed { job: of, failure } if *of == job => {
                    Some(Some(failure.clone()))
                }
                _ => None,
            },
        )
        .await?;
    if failure.is_none() {
        asker.say(&ClientToRelay::Cancel { job }).await?;
        let cancelled = failure_of(&mut asker, job).await?;
        assert_eq!(cancelled.code, ErrorCode::Cancelled);
    }
    Ok((failure, node, alias))
}

async fn told_to_stop(node: &mut RawNode, alias: Alias) -> Result<()> {
    node.socket
        .wait_for("cancel", |message: &RelayToNode| match message {
            RelayToNode::Cancel { alias: of } if *of == alias => Some(()),
            _ => None,
        })
        .await
}

async fn nodes_answer_out_of_order(network: &Network) -> Result<()> {
    // Text that leaves a gap, and text that comes twice: none of it is passed on, the node is told to stop.
    for offset in [0, 1, 3, u32::MAX] {
        let (failure, mut node, alias) = answered_badly(network, async |node, alias| {
            node.tokens(alias, offset, "gap").await
        })
        .await?;
        assert_eq!(failure, None, "{offset}");
        told_to_stop(&mut node, alias).await?;
    }
    // An end that lies elsewhere than the text's.
    for offset in [0, 1, 3, u32::MAX] {
        let (failure, _, _) = answered_badly(network, async |node, alias| {
            node.socket
                .say(&NodeToRelay::Completed {
                    alias,
                    offset,
                    finish_reason: FinishReason::Stop,
                    usage: Usage::default(),
                })
                .await
        })
        .await?;
        assert_eq!(failure, None, "{offset}");
    }
    // Stopping without being asked, and vanishing.
    let (failure, _, _) = answered_badly(network, async |node, alias| {
        let usage = Usage::default();
        node.socket
            .say(&NodeToRelay::Cancelled { alias, usage })
            .await
    })
    .await?;
    assert_eq!(failure, None);
    let (failure, _, _) = answered_badly(network, async |node, _| {
        node.socket.binary(b"rubbish".to_vec()).await
    })
    .await?;
    assert_eq!(failure, None);

    // Accepting twice is refused and changes nothing; a kind of delta that nobody knows is passed on.
    let mut writer = TokenFrameWriter::new();
    let (failure, _, _) = answered_badly(network, async |node, alias| {
        node.accept(alias).await?;
        node.socket
            .wait_for("refused", |message: &RelayToNode| {
                matches!(message, RelayToNode::Refused { .. }).then_some(())
            })
            .await?;
        writer.push(alias, 2, DeltaKind::Unknown(99), &[], b"??");
        node.socket.binary(writer.finish()).await?;
        node.tokens(alias, 4, "more").await?;
        let failure = Failure::new(ErrorCode::EngineFailed, "enough");
        node.socket
            .say(&NodeToRelay::Failed { alias, failure })
            .await
    })
    .await?;
    // Such an answer nobody could go on with.
    assert_eq!(
        failure.map(|failure| failure.code),
        Some(ErrorCode::NodeLost)
    );
    Ok(())
}
