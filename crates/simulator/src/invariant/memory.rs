//! Memory is bounded: what a node keeps, what is on the way to a client that does not read, what the relay holds.

use std::collections::BTreeMap;

use node_session::EngineEvent;
use scheduler::SocketId;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::Lie;

/// A decode step adds this much at most, log-probabilities and all.
const STEP_BYTES_MAX: usize = 8 << 10;

/// A node forgets a whole answer after this without its client's word; a skewed clock adds a little.
const FINISHED_KEPT_MS: Millis = 64_000;

/// The book of ends that nodes keep answers of.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    ended: BTreeMap<usize, Vec<Millis>>,
}

impl Memory {
    fn node(&mut self, now: Millis, node: usize, held: usize, facts: &Facts) -> Verdict {
        let ended = self.ended.entry(node).or_default();
        ended.retain(|at| now < at + FINISHED_KEPT_MS);
        let plan = facts.scenario.nodes.get(node);
        let slots = plan.map_or(0, |plan| usize::try_from(plan.slots).unwrap_or(0));
        let window = usize::try_from(facts.scenario.config.window_bytes).unwrap_or(0);
        let most = (slots + ended.len()) * (window + STEP_BYTES_MAX);
        if held > most && facts.is_honest(node) {
            return Err(format!(
                "node {node} keeps {held} bytes, where {most} is enough"
            ));
        }
        Ok(())
    }

    fn tokens(socket: SocketId, facts: &Facts) -> Verdict {
        let config = &facts.scenario.config;
        let attempts = facts.shadow.attempts.values();
        for attempt in attempts.filter(|attempt| attempt.socket == socket) {
            let Some(job) = facts.shadow.job(attempt.job) else {
                continue;
            };
            let from = job.acknowledged.max(attempt.start).min(attempt.offset);
            let behind = usize::try_from(attempt.offset - from).unwrap_or(usize::MAX);
            let most = match facts.lie(attempt.node) {
                None => config.window_bytes,
                Some(Lie::NoWindow) => config.unacknowledged_bytes_max,
                Some(_) => continue,
            };
            let most = usize::try_from(most).unwrap_or(0) + STEP_BYTES_MAX;
            if behind > most && !attempt.is_stopping {
                return Err(format!(
                    "{}: {behind} bytes are on the way to a client that has not acknowledged them; the window is {}",
                    attempt.job, config.window_bytes
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for Memory {
    fn name(&self) -> &'static str {
        "bounded memory"
    }

    fn see(&mut self, now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::RelayRests { scheduler }
                if !scheduler.is_busy()
                    && !scheduler.has_room_for(facts.scenario.config.content_bytes_max) =>
            {
                Err("the relay has nothing to do, and holds content all the same".into())
            }
            Observation::NodeStarts { node } | Observation::NodeDies { node } => {
                self.ended.remove(node);
                Ok(())
            }
            Observation::EngineSays {
                node,
                event: EngineEvent::Finished { .. },
            } => {
                self.ended.entry(*node).or_default().push(now);
                Ok(())
            }
            Observation::NodeRests { node, session, .. } => {
                self.node(now, *node, session.unacknowledged_bytes(), facts)
            }
            Observation::NodeTokens { socket, .. } => Self::tokens(*socket, facts),
            _ => Ok(()),
        }
    }
}
