//! The platform's floor: frames of 40 bytes into one socket of a Durable Object, out of another, at a scenario's rate.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::socket::open;
use super::{Load, Meter};
use crate::report::{Outcome, Run};
use crate::stamp::now_ns;

/// A token's frame is about as long: header, entry, id, a few letters.
const FRAME_BYTES: usize = 40;

/// Runs it. All frames are one chat's as far as the report goes; order is checked, since there is one socket.
pub(super) async fn run(load: &Load) -> Result<Run> {
    let (mut sink, sink_stream) = open(load, "/in").await?.split();
    let mut source = open(load, "/out").await?;
    let meter = Meter::start(load.pid);
    let began_ns = now_ns();
    let sending = tokio::spawn({
        let load = load.clone();
        async move {
            for (number, due) in (0_u32..).zip(schedule(&load)) {
                if let Some(due) = due {
                    sleep_until(due).await;
                }
                let mut frame = vec![0; FRAME_BYTES];
                let stamp = now_ns()
                    .to_le_bytes()
                    .into_iter()
                    .chain(number.to_le_bytes());
                frame
                    .iter_mut()
                    .zip(stamp)
                    .for_each(|(to, from)| *to = from);
                sink.send(Message::Binary(frame.into())).await?;
            }
            anyhow::Ok(sink)
        }
    });
    let all = load.chats * load.tokens;
    let mut outcome = Outcome::expecting(all);
    let receiving = async {
        for _ in 0..all {
            let message = source.next().await.context("the socket ended")??;
            let at = now_ns();
            let Message::Binary(frame) = message else {
                bail!("not a frame: {message:?}");
            };
            outcome.reads += 1;
            let (made, number) = read(&frame).context("a short frame")?;
            outcome.token(made, number, at, began_ns);
        }
        Ok(())
    };
    let patience = Duration::from_secs(load.patience_s);
    let result = timeout(patience, receiving)
        .await
        .context("out of patience")
        .flatten();
    outcome.error = result.err().map(|error| format!("{error:#}"));
    outcome.done = outcome.error.is_none();
    // Both ends stay open until here: a relay's work on a disconnect is not a frame's cost.
    drop((sending.await??, sink_stream));
    Ok(Run {
        began_ns,
        tokens_each: all,
        usage: meter.stop(),
        outcomes: vec![outcome],
    })
}

/// When each frame is due; flat out, never. The chats' own moments, merged.
fn schedule(load: &Load) -> Vec<Option<Instant>> {
    let count = load.chats as usize * load.tokens as usize;
    if load.interval_us == 0 {
        return vec![None; count];
    }
    let start = Instant::now();
    let mut moments: Vec<Instant> = (0..load.chats)
        .flat_map(|chat| {
            (1..=load.tokens).map(move |token| {
                start
                    + load.delay(chat)
                    + Duration::from_micros(load.interval_us * u64::from(token))
            })
        })
        .collect();
    moments.sort_unstable();
    moments.into_iter().map(Some).collect()
}

fn read(frame: &Bytes) -> Option<(u64, u32)> {
    let (made, rest) = frame.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*made), u32::from_le_bytes(*number)))
}
