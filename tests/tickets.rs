//! Tickets: whoever comes back shows one. Without the right one, or as somebody else, the answer is that of a job that
//! never was.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others"
)]

use anyhow::{Context, Result, anyhow, ensure};
use protocol::{
    AnswerHash, ClientToRelay, ErrorCode, Failure, JobId, NodeToRelay, RelayToClient, RelayToNode,
};
use tests::{Assignment, Network, OTHER_MODEL, RawNode, RawSocket, ask};

/// The beginning of every answer here.
const TEXT: &str = "Once upon a time";

fn job(number: u8) -> JobId {
    JobId::from_random([number; 16])
}

fn text_bytes() -> Result<u32> {
    Ok(u32::try_from(TEXT.len())?)
}

/// Changes one character in the middle of a ticket's payload, or of its signature.
fn changed(ticket: &str, part: usize) -> String {
    let mut parts: Vec<String> = ticket.split('.').map(str::to_owned).collect();
    if let Some(text) = parts.get_mut(part) {
        let middle = text.len() / 2;
        let old = text.as_bytes().get(middle).copied();
        let new = if old == Some(b'A') { "B" } else { "A" };
        text.replace_range(middle..=middle, new);
    }
    parts.join(".")
}

/// Submits a job that a raw node begins to answer.
struct Begun {
    client: RawSocket,
    node: RawNode,
    client_ticket: String,
    assignment: Assignment,
}

async fn begin(network: &Network, number: u8) -> Result<Begun> {
    let mut node = RawNode::join_as(network, "first", OTHER_MODEL, 0).await?;
    let mut client = RawSocket::client(network).await?;
    client
        .submit(job(number), OTHER_MODEL, ask("Tell a story.", 100))
        .await?;
    let client_ticket = submitted(&mut client).await?;
    let assignment = node.assignment().await?;
    node.accept(assignment.alias).await?;
    node.tokens(assignment.alias, 0, TEXT).await?;
    client
        .wait_for("started", |message: &RelayToClient| {
            matches!(message, RelayToClient::Started { .. }).then_some(())
        })
        .await?;
    Ok(Begun {
        client,
        node,
        client_ticket,
        assignment,
    })
}

async fn submitted(client: &mut RawSocket) -> Result<String> {
    client
        .wait_for("submitted", |message: &RelayToClient| match message {
            RelayToClient::Submitted { ticket, .. } => Some(ticket.clone()),
            _ => None,
        })
        .await
}

fn resume(job: JobId, ticket: &str) -> ClientToRelay {
    ClientToRelay::Resume {
        job,
        ticket: ticket.to_owned(),
        attempt: 1,
        offset: 0,
        tokens: 0,
        hash: AnswerHash::default(),
        model: OTHER_MODEL.to_owned(),
        request: ask("Tell a story.", 100).into(),
        answer: None,
    }
}

/// What the relay says to a client who comes back like this.
async fn refusal(socket: &mut RawSocket, job: JobId, ticket: &str) -> Result<Failure> {
    socket.say(&resume(job, ticket)).await?;
    socket
        .wait_for("a refusal", |message: &RelayToClient| match message {
            RelayToClient::Failed { job: of, failure } if *of == job => Some(Ok(failure.clone())),
            RelayToClient::Submitted { job: of, .. } if *of == job => {
                Some(Err(anyhow!("taken back")))
            }
            _ => None,
        })
        .await?
}

/// What the relay says to a node that announces like this.
async fn fence(node: &mut RawNode, said: &Assignment) -> Result<Failure> {
    node.socket
        .say(&NodeToRelay::Announce {
            job: said.job,
            attempt: said.attempt,
            ticket: said.ticket.clone(),
            from: 0,
            hash: AnswerHash::default(),
            offset: text_bytes()?,
            ended: false,
        })
        .await?;
    node.socket
        .wait_for("a fence", |message: &RelayToNode| match message {
            RelayToNode::Fence { job, failure, .. } if *job == said.job => {
                Some(Ok(failure.clone()))
            }
            RelayToNode::Adopt { job, .. } if *job == said.job => Some(Err(anyhow!("adopted"))),
            _ => None,
        })
        .await?
}

/// A client's socket that shows no key: on loopback that is somebody, but somebody else.
async fn somebody_else(network: &Network) -> Result<RawSocket> {
    let socket = RawSocket::open(network, "/client", &[]).await?;
    let mut socket = socket.map_err(|status| anyhow!("refused with {status}"))?;
    socket
        .wait_for("welcome", |message: &RelayToClient| {
            matches!(message, RelayToClient::Welcome { .. }).then_some(())
        })
        .await?;
    Ok(socket)
}

#[tokio::test]
async fn a_client_without_the_right_ticket_learns_nothing() -> Result<()> {
    let network = Network::relay_only().await?;
    let mut begun = begin(&network, 1).await?;
    let ticket = begun.client_ticket.clone();
    let mut stranger = RawSocket::client(&network).await?;
    // What a job that never was gets; everything else must look the same.
    let unknown = refusal(&mut stranger, job(99), "nonsense").await?;
    ensure!(unknown.code == ErrorCode::UnknownJob, "{unknown:?}");
    for (what, job, ticket) in [
        ("forged", job(1), changed(&ticket, 0)),
        ("with a forged signature", job(1), changed(&ticket, 1)),
        ("empty", job(1), String::new()),
        (
            "only a payload",
            job(1),
            ticket.split('.').next().unwrap_or_default().to_owned(),
        ),
        ("another job's", job(2), ticket.clone()),
        ("a node's", job(1), begun.assignment.ticket.clone()),
        ("endless", job(1), "A".repeat(100_000)),
    ] {
        let failure = refusal(&mut stranger, job, &ticket).await.context(what)?;
        ensure!(failure == unknown, "a ticket that is {what}: {failure:?}");
    }
    let mut other = somebody_else(&network).await?;
    let failure = refusal(&mut other, job(1), &ticket).await?;
    ensure!(failure == unknown, "another account: {failure:?}");

    // None of that has harmed the job: its owner ends it well …
    begun
        .node
        .complete(begun.assignment.alias, text_bytes()?, 1)
        .await?;
    begun
        .client
        .wait_for("completed", |message: &RelayToClient| {
            matches!(message, RelayToClient::Completed { .. }).then_some(())
        })
        .await?;
    begun
        .client
        .say(&ClientToRelay::Acknowledge {
            job: job(1),
            offset: text_bytes()?,
            whole: true,
        })
        .await?;
    begun
        .node
        .socket
        .wait_for("the acknowledgement", |message: &RelayToNode| {
            matches!(message, RelayToNode::Acknowledge { whole: true, .. }).then_some(())
        })
        .await?;
    // … and then the ticket is good for nothing.
    let failure = refusal(&mut begun.client, job(1), &ticket).await?;
    ensure!(failure == unknown, "replayed: {failure:?}");
    let failure = refusal(&mut stranger, job(1), &ticket).await?;
    ensure!(
        failure == unknown,
        "replayed by another socket: {failure:?}"
    );
    Ok(())
}

/// What a node may claim though its attempt is over, or was never its own.
fn lies(
    stale: &Assignment,
    current: &Assignment,
    client_ticket: &str,
) -> Vec<(&'static str, Assignment)> {
    let forge = |part| Assignment {
        ticket: changed(&stale.ticket, part),
        ..stale.clone()
    };
    vec![
        ("forged", forge(0)),
        ("with a forged signature", forge(1)),
        ("of a stale attempt", stale.clone()),
        (
            "of a stale attempt that claims to be the present one",
            Assignment {
                attempt: current.attempt,
                ..stale.clone()
            },
        ),
        (
            "another job's",
            Assignment {
                job: job(9),
                ..stale.clone()
            },
        ),
        (
            "a client's",
            Assignment {
                ticket: client_ticket.to_owned(),
                ..stale.clone()
            },
        ),
        // Shown by a node of another name, while its owner is at work.
        ("the present attempt's, replayed", current.clone()),
    ]
}

#[tokio::test]
async fn a_node_without_the_right_ticket_is_fenced() -> Result<()> {
    let network = Network::relay_only().await?;
    let begun = begin(&network, 1).await?;
    let mut second = RawNode::join_as(&network, "second", OTHER_MODEL, 0).await?;
    let stale = begun.assignment.clone();
    // The first node dies; the second goes on with the text so far.
    drop(begun.node);
    let current = second.assignment().await?;
    ensure!(current.job == stale.job && current.attempt > stale.attempt);
    let carried = current.answer.as_ref().map(protocol::Answer::bytes);
    ensure!(carried == Some(TEXT.len()), "{carried:?}");
    second.accept(current.alias).await?;

    let lies = lies(&stale, &current, &begun.client_ticket);
    let mut first =
        RawNode::join_as(&network, "first", OTHER_MODEL, u32::try_from(lies.len())?).await?;
    for (what, lie) in lies {
        let failure = fence(&mut first, &lie).await?;
        ensure!(
            failure.code == ErrorCode::UnknownJob,
            "a ticket {what}: {failure:?}"
        );
    }

    // The job goes on where it is, and nothing of what was fenced comes between.
    let mut client = begun.client;
    second
        .tokens(current.alias, text_bytes()?, " there was")
        .await?;
    second
        .complete(current.alias, text_bytes()? + 10, 2)
        .await?;
    let offset = client
        .wait_for("completed", |message: &RelayToClient| match message {
            RelayToClient::Completed { offset, .. } => Some(*offset),
            _ => None,
        })
        .await?;
    ensure!(offset == text_bytes()? + 10, "{offset}");
    // Over is over, for its own node, too.
    client
        .say(&ClientToRelay::Acknowledge {
            job: job(1),
            offset,
            whole: true,
        })
        .await?;
    drop(second);
    let mut again = RawNode::join_as(&network, "second", OTHER_MODEL, 1).await?;
    let failure = fence(&mut again, &current).await?;
    ensure!(failure.code == ErrorCode::UnknownJob, "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn tickets_outlive_the_relay_and_forged_ones_do_not_get_better() -> Result<()> {
    let network = Network::relay_only().await?;
    let begun = begin(&network, 1).await?;
    network.kill_relay()?;
    drop((begun.client, begun.node));
    let relay = network.start_relay("again").await?;

    let mut node = RawNode::join_as(&network, "first", OTHER_MODEL, 2).await?;
    let forged = Assignment {
        ticket: changed(&begun.assignment.ticket, 1),
        ..begun.assignment.clone()
    };
    let failure = fence(&mut node, &forged).await?;
    ensure!(failure.code == ErrorCode::UnknownJob, "{failure:?}");
    node.socket
        .say(&NodeToRelay::Announce {
            job: begun.assignment.job,
            attempt: begun.assignment.attempt,
            ticket: begun.assignment.ticket.clone(),
            from: 0,
            hash: AnswerHash::default(),
            offset: text_bytes()?,
            ended: false,
        })
        .await?;

    let mut client = RawSocket::client(&network).await?;
    let failure = refusal(&mut client, job(1), &changed(&begun.client_ticket, 1)).await?;
    ensure!(failure.code == ErrorCode::UnknownJob, "{failure:?}");
    let mut other = somebody_else(&network).await?;
    let failure = refusal(&mut other, job(1), &begun.client_ticket).await?;
    ensure!(failure.code == ErrorCode::UnknownJob, "{failure:?}");
    // The right one still opens the door, and the node that announced is the one that goes on.
    client.say(&resume(job(1), &begun.client_ticket)).await?;
    submitted(&mut client).await?;
    let (attempt, offset) = node
        .socket
        .wait_for("adopt", |message: &RelayToNode| match message {
            RelayToNode::Adopt {
                attempt, offset, ..
            } => Some((*attempt, *offset)),
            _ => None,
        })
        .await?;
    ensure!((attempt, offset) == (begun.assignment.attempt, 0));
    drop(relay);
    Ok(())
}
