//! `--prompt`: one question through `/v1/chat/completions`, printed as it comes.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::network::Network;
use crate::console;
use crate::http::{Request, ask as request};

/// Asks, and prints the answer and nothing else to standard output.
pub(super) fn ask(network: &Network, prompt: &str) -> Result<()> {
    let body = json!({
        "model": network.model.id,
        "stream": true,
        "max_tokens": 512,
        "messages": [{"role": "user", "content": prompt}],
    })
    .to_string();
    let mut response = request(
        network.port,
        "/v1/chat/completions",
        &Request {
            json: Some(&body),
            key: Some(&network.api_key),
        },
    )?;
    if response.status != 200 {
        let status = response.status;
        bail!("the relay answered {status}: {}", response.text()?);
    }
    let mut finish = None;
    while let Some(line) = response.line()? {
        // Lines that begin with a colon are comments that keep the connection alive.
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            break;
        }
        let event: Value =
            serde_json::from_str(data).with_context(|| format!("not an event: {data}"))?;
        if let Some(error) = event.get("error") {
            bail!("the answer broke off: {error}");
        }
        if let Some(text) = event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str)
        {
            console::print(text)?;
        }
        if let Some(reason) = event
            .pointer("/choices/0/finish_reason")
            .and_then(Value::as_str)
        {
            finish = Some(reason.to_owned());
        }
    }
    console::print("\n")?;
    finish
        .map(drop)
        .context("the answer ended without a reason")
}
