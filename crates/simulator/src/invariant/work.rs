//! Work is conserved: no slot is idle while a job waits that it could run.

use scheduler::Scheduler;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;

/// Token frames change nothing here; one in so many is looked at all the same.
const TOKENS_LOOKED_AT: u32 = 16;

/// What the relay says of its own queues and slots.
#[derive(Debug, Default)]
pub(crate) struct Work {
    skipped: u32,
    is_after_tokens: bool,
}

impl Work {
    fn check(scheduler: &Scheduler) -> Verdict {
        for model in scheduler.availability() {
            if model.queued > 0 && model.free_slots > 0 {
                return Err(format!(
                    "{}: {} jobs wait beside {} free slots",
                    model.model, model.queued, model.free_slots
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for Work {
    fn name(&self) -> &'static str {
        "work conservation"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::NodeTokens { .. } => self.is_after_tokens = true,
            Observation::RelayRests { scheduler, .. } => {
                if std::mem::take(&mut self.is_after_tokens) {
                    self.skipped += 1;
                    if !self.skipped.is_multiple_of(TOKENS_LOOKED_AT) {
                        return Ok(());
                    }
                }
                // Where nodes differ, what waits may be what the free ones cannot do; a node that comes back gets nothing
                // before it has said all that it still has; and one in quarantine is free in vain.
                let is_kept_back =
                    facts.shadow.nodes.iter().any(|(socket, node)| {
                        node.arriving > 0 || scheduler.is_in_quarantine(*socket)
                    });
                if facts.scenario.is_uniform && !is_kept_back {
                    return Self::check(scheduler);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
