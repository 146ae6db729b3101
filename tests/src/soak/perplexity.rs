//! How likely the model finds what it wrote after a blow, beside what it wrote undisturbed (`rig perplexity`).

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use protocol::ChatRequest;
use serde::Deserialize;
use serde_json::json;

use crate::Network;
use crate::programs::guarded;

/// A text and the byte from which on it is judged.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) request: ChatRequest,
    pub(super) text: String,
    pub(super) from: usize,
}

#[derive(Debug, Deserialize)]
struct Score {
    tokens: u32,
    nll: f64,
}

/// The perplexity over all samples together.
pub(super) fn perplexity(network: &Network, samples: &[Sample]) -> Result<f64> {
    let mut child = guarded(&network.ready.rig_binary, "KILL")
        .arg("perplexity")
        .arg("--model-file")
        .arg(&network.ready.model_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the rig's judge")?;
    let mut questions = child.stdin.take().context("no standard input")?;
    let lines: Vec<String> = samples
        .iter()
        .map(
            |Sample {
                 request,
                 text,
                 from,
             }| {
                format!(
                    "{}\n",
                    json!({"request": request, "text": text, "from": from})
                )
            },
        )
        .collect();
    // A thread of its own: both pipes may be full.
    let asking = std::thread::spawn(move || {
        lines
            .iter()
            .try_for_each(|line| questions.write_all(line.as_bytes()))
    });
    let output = child.wait_with_output()?;
    ensure!(
        asking.join().is_ok_and(|asked| asked.is_ok()) && output.status.success(),
        "the rig's judge broke: {}",
        output.status
    );
    let (mut tokens, mut nll) = (0, 0.0);
    for line in String::from_utf8(output.stdout)?.lines() {
        let score: Score = serde_json::from_str(line)?;
        tokens += score.tokens;
        nll += score.nll;
    }
    ensure!(tokens > 0, "nothing to judge");
    Ok((nll / f64::from(tokens)).exp())
}
