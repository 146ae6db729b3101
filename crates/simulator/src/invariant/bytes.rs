//! No byte twice and none missing: what a user gets is the script from its first byte on, whatever died meanwhile, and what a
//! node is given to go on with is what the user has.

use std::collections::BTreeMap;

use client_session::Event;
use protocol::JobId;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;

/// Bytes that each user has.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    received: BTreeMap<JobId, u32>,
}

impl Bytes {
    fn delta(&mut self, job: JobId, text: &str, facts: &Facts) -> Verdict {
        let received = self.received.entry(job).or_default();
        let start = *received;
        let end = start.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        *received = end;
        let Some(script) = facts.scripts.get(&job) else {
            return Err(format!("{job}: text of a job that has no script"));
        };
        let may_be_false = facts
            .shadow
            .job(job)
            .is_some_and(|view| view.has_false_bytes);
        if may_be_false || script.range(start, end) == Some(text.as_bytes()) {
            return Ok(());
        }
        Err(format!(
            "{job}: bytes {start}..{end} are not the script's (which has {})",
            script.length()
        ))
    }
}

impl Invariant for Bytes {
    fn name(&self) -> &'static str {
        "no byte twice, none missing"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::UserHears {
                job,
                event: Event::Delta { text, .. },
                ..
            } => self.delta(*job, text, facts),
            Observation::EngineStarts {
                node,
                job,
                complaint: Some(complaint),
                ..
            } => {
                let view = facts.shadow.job(*job);
                let is_about_text = complaint.starts_with("the carried text");
                let may_be = view.is_some_and(|view| {
                    view.has_false_bytes || (view.has_false_tokens && !is_about_text)
                });
                if may_be {
                    return Ok(());
                }
                Err(format!(
                    "{job}: node {node} was given an answer to go on with, but {complaint}"
                ))
            }
            _ => Ok(()),
        }
    }
}
