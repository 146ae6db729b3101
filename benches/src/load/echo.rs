//! The platform's floor: frames of 40 bytes into one socket of a Durable Object, out of another, at a scenario's rate.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::socket::open;
use super::{Load, Meter};
use crate::report::{Outcome, Run};
use crate::stamp::now_ns;

/// A token's frame is about as long: header, entry, id, a few letters.
const FRAME_BYTES: usize = 40;

/// The most pairs: a frame names its pair in one byte.
const PAIRS_MAX: u32 = 256;

type Socket = WebSocketStream<TcpStream>;

/// Runs it. The chats' frames are spread over the pairs; with one pair, all frames are one chat's as far as the report
/// goes.
pub(super) async fn run(load: &Load, pairs: u32) -> Result<Run> {
    ensure!(pairs <= PAIRS_MAX, "at most {PAIRS_MAX} pairs");
    let mut sockets = Vec::new();
    for pair in 0..pairs {
        let source = open(load, &format!("/out/{pair}")).await?;
        sockets.push((open(load, "/in").await?, source));
    }
    let meter = Meter::start(load.pid);
    let (began_ns, start) = (now_ns(), Instant::now());
    let mut running = Vec::new();
    for (pair, (sink, source)) in (0_u32..).zip(sockets) {
        let dues = schedule(load, start, (pair..load.chats).step_by(pairs as usize));
        let (count, patience) = (dues.len(), Duration::from_secs(load.patience_s));
        let sending = tokio::spawn(send(sink, pair, dues));
        let receiving = async move {
            let mut outcome = Outcome::expecting(u32::try_from(count)?);
            let result = timeout(patience, receive(source, count, &mut outcome)).await;
            outcome.error = match result.context("out of patience").flatten() {
                Ok(source) => return Ok((outcome, Some(source))),
                Err(error) => Some(format!("{error:#}")),
            };
            anyhow::Ok((outcome, None))
        };
        running.push((sending, tokio::spawn(receiving)));
    }
    let mut outcomes = Vec::new();
    // Both ends stay open until the meter has stopped: a relay's work on a disconnect is not a frame's cost.
    let mut open = Vec::new();
    for (sending, receiving) in running {
        let (outcome, source) = receiving.await??;
        outcomes.push(outcome);
        open.push((sending.await??, source));
    }
    let usage = meter.stop();
    drop(open);
    Ok(Run {
        began_ns,
        tokens_each: load.tokens * load.chats / pairs,
        usage,
        outcomes,
    })
}

async fn send(mut sink: Socket, pair: u32, dues: Vec<Option<Instant>>) -> Result<Socket> {
    for (number, due) in (0_u32..).zip(dues) {
        if let Some(due) = due {
            sleep_until(due).await;
        }
        let mut frame = vec![0; FRAME_BYTES];
        let (stamp, number) = (now_ns().to_le_bytes(), number.to_le_bytes());
        let bytes = stamp.into_iter().chain(number).chain(pair.to_le_bytes());
        frame
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        sink.send(Message::Binary(frame.into())).await?;
    }
    Ok(sink)
}

async fn receive(mut source: Socket, count: usize, outcome: &mut Outcome) -> Result<Socket> {
    for _ in 0..count {
        let message = source.next().await.context("the socket ended")??;
        let at = now_ns();
        let Message::Binary(frame) = message else {
            bail!("not a frame: {message:?}");
        };
        outcome.reads += 1;
        let (made, number) = read(&frame).context("a short frame")?;
        // Nobody asked for it: its own stamp is where it began.
        outcome.token(made, number, at, made);
    }
    outcome.done = true;
    Ok(source)
}

/// When each frame of some chats is due; flat out, never.
fn schedule(load: &Load, start: Instant, chats: impl Iterator<Item = u32>) -> Vec<Option<Instant>> {
    let tokens = load.tokens;
    if load.interval_us == 0 {
        return vec![None; chats.count() * tokens as usize];
    }
    let due = |chat, token: u32| {
        let wait = Duration::from_micros(load.interval_us * u64::from(token));
        start + load.delay(chat) + wait
    };
    let mut moments: Vec<Instant> = chats
        .flat_map(|chat| (0..tokens).map(move |token| due(chat, token)))
        .collect();
    moments.sort_unstable();
    moments.into_iter().map(Some).collect()
}

fn read(frame: &Bytes) -> Option<(u64, u32)> {
    let (made, rest) = frame.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*made), u32::from_le_bytes(*number)))
}
