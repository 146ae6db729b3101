//! People who use the network all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Api, MODEL};

/// How many ask at once, one more than the rig has slots; and how long an answer is.
pub(crate) const ASKERS: usize = 3;
const TOKENS: u64 = 48;

/// People who ask one question after the other.
pub(crate) struct Load {
    /// How many wait for an answer right now.
    pub(crate) asking: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<usize>>>,
}

impl Load {
    pub(crate) fn begin(api: &Api) -> Self {
        let (asking, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let tasks = (0..ASKERS)
            .map(|number| {
                let (api, asking, stop) = (api.clone(), Arc::clone(&asking), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut answers = 0;
                    while !stop.load(Ordering::SeqCst) {
                        asking.fetch_add(1, Ordering::SeqCst);
                        let answer = whole_answer(&api, number + answers).await;
                        asking.fetch_sub(1, Ordering::SeqCst);
                        answer?;
                        answers += 1;
                    }
                    Ok(answers)
                })
            })
            .collect();
        Self {
            asking,
            stop,
            tasks,
        }
    }

    /// Lets everybody have the answer that is under way; the number of answers, all of them whole.
    pub(crate) async fn end(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers = 0;
        for task in self.tasks {
            answers += task.await??;
        }
        Ok(answers)
    }
}

/// Asks for an answer that may not end by itself, and counts it to its end.
async fn whole_answer(api: &Api, number: usize) -> Result<()> {
    let mut stream = api
        .stream(&json!({
            "model": MODEL, "stream": true, "stream_options": {"include_usage": true}, "max_tokens": TOKENS,
            // The tokens that end an answer.
            "logit_bias": {"0": -100, "2": -100},
            "messages": [{"role": "user", "content": format!("Tell story number {number}.")}],
        }))
        .await?;
    let (mut bytes, mut finish_reason, mut tokens) = (0, None, None);
    while let Some(event) = stream.next().await? {
        if let Some(error) = event.get("error") {
            bail!("an answer broke: {error}");
        }
        let text = event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str);
        bytes += text.map_or(0, str::len);
        if let Some(reason) = event
            .pointer("/choices/0/finish_reason")
            .and_then(Value::as_str)
        {
            finish_reason = Some(reason.to_owned());
        }
        tokens = event
            .pointer("/usage/completion_tokens")
            .and_then(Value::as_u64)
            .or(tokens);
    }
    ensure!(
        bytes > 0 && finish_reason.as_deref() == Some("length") && tokens == Some(TOKENS),
        "an answer is not whole: {bytes} bytes, {finish_reason:?}, {tokens:?} tokens"
    );
    Ok(())
}
