//! Readers that stop reading. What the relay holds for them is bounded, whatever the nodes produce; others notice nothing.
//! Nodes here are raw: they produce faster than any model, and keep the window because the protocol says so.
//!
//! A minute of silence is what is tested here, so these tests wait for time.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others"
)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{
    Alias, ChatRequest, ClientToRelay, DeltaKind, ErrorCode, Failure, JobId, PING, RelayToClient,
    RelayToNode, TokenFrame, TokenFrameWriter,
};
use tests::{Incoming, MODEL, Network, OTHER_MODEL, RawNode, RawSocket, ask};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// How long the reader does not read.
const SILENCE: Duration = Duration::from_mins(1);

/// Answer bytes that the relay lets a client leave unacknowledged (`window_bytes` of every `assign`).
const WINDOW_BYTES: u32 = 64 << 10;

/// Prompts of the largest size.
const PROMPTS: u8 = 50;

/// What the pool says that it holds at most: 48 MiB of prompts and answers (`Config::content_bytes_max`). Beside it
/// there is what one request takes while it is read, and what allocators keep: the platform's 128 MB for an object are
/// what must hold all of it.
const GROWTH_BYTES_MAX: u64 = 128 << 20;

fn job(number: u8) -> JobId {
    JobId::from_random([number; 16])
}

/// Memory of a process.
fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kib << 10)
}

/// Answers one job with as much as the window allows, forever. Says in the end how much that was, and why it ended.
async fn pour(mut node: RawNode) -> Result<(u32, u32)> {
    let alias = node.assigned().await?.1;
    node.accept(alias).await?;
    let piece = "0123456789abcdef".repeat(64);
    let bytes = u32::try_from(piece.len())?;
    let (mut sent, mut acknowledged) = (0, 0);
    loop {
        if sent - acknowledged < WINDOW_BYTES {
            node.tokens(alias, sent, &piece).await?;
            sent += bytes;
            continue;
        }
        match node.socket.next().await? {
            Incoming::Text(text) => match serde_json::from_str(&text)? {
                RelayToNode::Acknowledge { offset, .. } => acknowledged = offset,
                RelayToNode::Cancel { .. } => return Ok((sent, acknowledged)),
                _ => {}
            },
            Incoming::Binary(_) => {}
            Incoming::Closed(code) => bail!("closed with {code}"),
        }
    }
}

/// How late each delta of a chat came, and when.
type Delays = Vec<(Instant, Duration)>;

/// A chat in which nothing is slow: its node says its clock's time in each delta, every 10 ms.
struct Bystander {
    delays: UnboundedReceiver<(Instant, Duration)>,
    speaking: JoinHandle<Result<()>>,
    listening: JoinHandle<Result<()>>,
}

/// Bytes of the clock's time.
const CLOCK_BYTES: u32 = 12;

impl Bystander {
    async fn start(network: &Network) -> Result<Self> {
        let mut node = RawNode::join_as(network, "bystander", MODEL, 0).await?;
        let mut client = RawSocket::client(network).await?;
        client.submit(job(200), MODEL, ask("Tick.", 1_000)).await?;
        let alias = node.assigned().await?.1;
        node.accept(alias).await?;
        let (sender, delays) = unbounded_channel();
        let began = Instant::now();
        let speaking = tokio::spawn(async move {
            let mut offset = 0;
            loop {
                let text = format!("{:>12}", began.elapsed().as_micros());
                // Without a token: its user asked for no more than a model could give.
                let mut writer = TokenFrameWriter::new();
                writer.push(alias, offset, DeltaKind::Text, &[], text.as_bytes());
                node.socket.binary(writer.finish()).await?;
                offset += CLOCK_BYTES;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let listening = tokio::spawn(listen(client, began, sender));
        Ok(Self {
            delays,
            speaking,
            listening,
        })
    }

    fn end(mut self) -> Result<Delays> {
        ensure!(
            !self.speaking.is_finished() && !self.listening.is_finished(),
            "the bystander's chat broke"
        );
        self.speaking.abort();
        self.listening.abort();
        Ok(std::iter::from_fn(|| self.delays.try_recv().ok()).collect())
    }
}

async fn listen(
    mut client: RawSocket,
    began: Instant,
    sender: UnboundedSender<(Instant, Duration)>,
) -> Result<()> {
    let mut offset = 0;
    loop {
        match client.next().await? {
            Incoming::Binary(bytes) => {
                let now = Instant::now();
                for entry in TokenFrame::decode(&bytes)?.entries() {
                    for clock in entry.bytes.chunks(usize::try_from(CLOCK_BYTES)?) {
                        let said: u64 = std::str::from_utf8(clock)?.trim().parse()?;
                        let said = Duration::from_micros(said);
                        sender.send((now, now.duration_since(began).saturating_sub(said)))?;
                        offset += CLOCK_BYTES;
                    }
                }
                client
                    .say(&ClientToRelay::Acknowledge {
                        job: job(200),
                        offset,
                        whole: false,
                    })
                    .await?;
            }
            Incoming::Text(text) if text.contains("failed") => bail!("{text}"),
            Incoming::Text(_) => {}
            Incoming::Closed(code) => bail!("closed with {code}"),
        }
    }
}

/// The median and the 99th percentile.
fn percentiles(delays: &[(Instant, Duration)]) -> (Duration, Duration) {
    let mut sorted: Vec<Duration> = delays.iter().map(|(_, delay)| *delay).collect();
    sorted.sort_unstable();
    let at = |share: usize| {
        sorted
            .get(sorted.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    (at(50), at(99))
}

/// A prompt that makes the largest frame there may be.
fn largest() -> ChatRequest {
    let room = CLIENT_FRAME_BYTES_MAX - 1_024;
    ask(&"x".repeat(room), 10)
}

/// Takes all prompts and says a little about each now and then, so that all stay in flight.
async fn hold(mut node: RawNode) -> Result<()> {
    let mut held: Vec<(Alias, u32)> = Vec::new();
    let mut due = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            assignment = node.assignment() => {
                let alias = assignment?.alias;
                node.accept(alias).await?;
                held.push((alias, 0));
            }
            _ = due.tick() => {
                node.socket.text(PING).await?;
                for (alias, offset) in &mut held {
                    node.tokens(*alias, *offset, ".").await?;
                    *offset += 1;
                }
            }
        }
    }
}

/// Waits until each prompt has been taken by a node or refused for want of memory.
async fn taken_and_refused(prompts: &mut RawSocket) -> Result<(u64, u64)> {
    let (mut taken, mut refused) = (0_u64, 0_u64);
    while taken + refused < PROMPTS.into() {
        if let Incoming::Text(text) = prompts.next().await? {
            match serde_json::from_str(&text)? {
                RelayToClient::Started { .. } => taken += 1,
                RelayToClient::Failed { failure, .. } => {
                    ensure!(failure.code == ErrorCode::MemoryFull, "{failure:?}");
                    refused += 1;
                }
                _ => {}
            }
        }
    }
    Ok((taken, refused))
}

#[tokio::test]
async fn a_reader_that_stops_for_a_minute_costs_the_relay_a_window_and_others_nothing() -> Result<()>
{
    let network = Network::relay_only().await?;
    let relay = *network.ready.pids.get("relay").context("no relay")?;
    let bystander = Bystander::start(&network).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = resident_bytes(relay)?;
    let trouble = Instant::now();

    let pouring = tokio::spawn(pour(
        RawNode::join_as(&network, "pouring", OTHER_MODEL, 0).await?,
    ));
    let mut reader = RawSocket::client(&network).await?;
    reader
        .submit(job(1), OTHER_MODEL, ask("Talk.", 30_000))
        .await?;
    let holding = RawNode::join_wide(&network, "holding", OTHER_MODEL, PROMPTS.into()).await?;
    let holding = tokio::spawn(hold(holding));
    let mut prompts = RawSocket::client(&network).await?;
    for number in 0..PROMPTS {
        prompts
            .submit(job(100 + number), OTHER_MODEL, largest())
            .await?;
    }
    let (taken, refused) = taken_and_refused(&mut prompts).await?;
    let mut most = 0;
    while trouble.elapsed() < SILENCE {
        most = most.max(resident_bytes(relay)?);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(!holding.is_finished(), "{:?}", holding.await);
    holding.abort();

    // The node was held to a window, and the reader finds that window and the truth about the end.
    let (sent, acknowledged) = pouring.await??;
    ensure!(
        acknowledged == 0 && sent <= WINDOW_BYTES + 1_024,
        "{sent} bytes were sent"
    );
    let (bytes, failure) = read_all(&mut reader, job(1)).await?;
    ensure!(failure.code == ErrorCode::SlowReader, "{failure:?}");
    ensure!(bytes == sent, "{bytes} bytes of {sent} came");

    let delays = bystander.end()?;
    let (earlier, meanwhile): (Delays, Delays) =
        delays.into_iter().partition(|(at, _)| *at < trouble);
    let (usual, usual_99) = percentiles(&earlier);
    let (then, then_99) = percentiles(&meanwhile);
    report(&format!(
        "{taken} prompts of 1 MiB in flight, {refused} refused; memory grew by {} MiB; \
         others' delay: median {usual:?}, p99 {usual_99:?} before, median {then:?}, p99 {then_99:?} meanwhile",
        most.saturating_sub(before) >> 20
    ));
    ensure!(taken >= 40, "only {taken} prompts were taken");
    ensure!(
        most.saturating_sub(before) <= GROWTH_BYTES_MAX,
        "the relay grew by {} MiB",
        most.saturating_sub(before) >> 20
    );
    ensure!(
        then <= usual * 3 + Duration::from_millis(20),
        "others were delayed: {usual:?} before, {then:?} meanwhile"
    );
    Ok(())
}

/// Reads a job to its end. Says how many bytes of its answer came, in order, and how it failed.
async fn read_all(socket: &mut RawSocket, job: JobId) -> Result<(u32, Failure)> {
    let mut bytes = 0;
    loop {
        match socket.next().await? {
            Incoming::Binary(frame) => {
                for entry in TokenFrame::decode(&frame)?.entries() {
                    ensure!(entry.offset == bytes, "a hole at {bytes}");
                    bytes += u32::try_from(entry.bytes.len())?;
                }
            }
            Incoming::Text(text) => {
                if let RelayToClient::Failed { job: of, failure } = serde_json::from_str(&text)?
                    && of == job
                {
                    return Ok((bytes, failure));
                }
            }
            Incoming::Closed(code) => bail!("closed with {code}"),
        }
    }
}

/// Figures are worth reading in a log, whether they pass or not.
#[expect(clippy::print_stderr, reason = "the test runner shows it on request")]
fn report(text: &str) {
    eprintln!("{text}");
}
