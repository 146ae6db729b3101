//! The end is told as it is: `stop` only where the model was done, `length` only where the tokens were, and usage that fits.

use std::collections::BTreeMap;

use client_session::Event;
use protocol::{FinishReason, JobId, Speed, Usage};

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::Theme;

/// A rate that rests on fewer tokens of the attempt itself says more of the network.
const JUDGED_TOKENS_MIN: u32 = 12;

/// Bytes that each user has.
#[derive(Debug, Default)]
pub(crate) struct Finish {
    received: BTreeMap<JobId, u32>,
    /// Tokens of the present attempt.
    tokens: BTreeMap<JobId, u32>,
}

impl Finish {
    fn completed(
        &self,
        job: JobId,
        finish_reason: FinishReason,
        usage: Usage,
        facts: &Facts,
    ) -> Verdict {
        let (Some(script), Some(view)) = (facts.scripts.get(&job), facts.shadow.job(job)) else {
            return Err(format!("{job}: completed, but nobody asked for it"));
        };
        if view.has_false_bytes {
            return Ok(());
        }
        let received = self.received.get(&job).copied().unwrap_or(0);
        if received != script.length() || finish_reason != script.finish_reason {
            return Err(format!(
                "{job}: said to be whole ({finish_reason:?}) with {received} of {} bytes ({:?})",
                script.length(),
                script.finish_reason
            ));
        }
        if view.has_false_tokens {
            return Ok(());
        }
        let is_unbroken = view.attempts.len() == 1;
        let tokens = usage.completion_tokens;
        if tokens > script.tokens
            || (is_unbroken && !facts.scenario.has_faults() && tokens != script.tokens)
        {
            return Err(format!(
                "{job}: {tokens} tokens are reported, the answer has {}",
                script.tokens
            ));
        }
        if usage.prompt_tokens != script.prompt_tokens {
            return Err(format!(
                "{job}: a wrong number of prompt tokens is reported"
            ));
        }
        Ok(())
    }

    /// No attempt is measured faster than any node is: not even one that took over the tokens of another.
    fn measured(&self, job: JobId, speed: Speed, facts: &Facts) -> Verdict {
        let is_steady = match facts.scenario.theme {
            Theme::Calm | Theme::Overload | Theme::Nodes => true,
            Theme::Clients | Theme::Relay | Theme::Network | Theme::Liars | Theme::Everything => {
                false
            }
        };
        let fastest = facts.scenario.nodes.iter().map(|node| node.step_ms).min();
        let (true, Some(step_ms)) = (is_steady, fastest) else {
            return Ok(());
        };
        let most = 1_000.0 / f64::from(u32::try_from(step_ms).unwrap_or(u32::MAX));
        // Few tokens, and those bunched by the network, may look fast.
        let slack = 3.0;
        let tokens = self.tokens.get(&job).copied().unwrap_or(0);
        if tokens >= JUDGED_TOKENS_MIN && speed.decode_tokens_per_second > most * slack {
            return Err(format!(
                "{job}: measured at {:.0} tokens/s, where no node is faster than {most:.0}",
                speed.decode_tokens_per_second
            ));
        }
        Ok(())
    }
}

impl Invariant for Finish {
    fn name(&self) -> &'static str {
        "the end is told as it is"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        let Observation::UserHears { job, event, .. } = what else {
            return Ok(());
        };
        match event {
            Event::Assigned { .. } => {
                self.tokens.insert(*job, 0);
                Ok(())
            }
            Event::Delta {
                text, token_count, ..
            } => {
                *self.tokens.entry(*job).or_default() += token_count;
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                *self.received.entry(*job).or_default() += length;
                Ok(())
            }
            Event::Completed {
                finish_reason,
                usage,
                speed,
            } => {
                self.completed(*job, *finish_reason, *usage, facts)?;
                self.measured(*job, *speed, facts)
            }
            Event::Queued { .. }
            | Event::Started { .. }
            | Event::Reconnecting
            | Event::Failed(_)
            | Event::Interrupted => Ok(()),
        }
    }
}
