//! Leases end: a node that makes no progress loses the job, one that does not stop or falls silent loses its connection, and
//! a job whose client stays away is stopped.

use std::collections::BTreeMap;

use protocol::{ClientToRelay, JobId, RelayToClient};
use scheduler::{Output, SocketId};

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::Fault;

/// The book of times.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    acknowledged_at: BTreeMap<JobId, Millis>,
    ownerless_since: BTreeMap<JobId, Millis>,
    stopping_since: BTreeMap<u32, Millis>,
    /// Clocks that were set move every deadline.
    slack_ms: Millis,
    looked_at: Millis,
}

impl Leases {
    fn check(&mut self, now: Millis, facts: &Facts) -> Verdict {
        let config = &facts.scenario.config;
        let slack = self.slack_ms + 50;
        for (&socket, node) in &facts.shadow.nodes {
            let silent = now - node.heard_at;
            if silent > config.node_silent_ms_max + slack {
                return Err(ghost(socket, node.node, silent));
            }
        }
        self.stopping_since
            .retain(|alias, _| facts.shadow.attempts.contains_key(alias));
        for (&alias, attempt) in &facts.shadow.attempts {
            if attempt.is_stopping {
                let since = *self.stopping_since.entry(alias).or_insert(now);
                if now - since > config.lease_ms + slack {
                    return Err(format!(
                        "{}: node {} was told to stop it {} ms ago and is still believed to run it",
                        attempt.job,
                        attempt.node,
                        now - since
                    ));
                }
                continue;
            }
            let Some(job) = facts.shadow.job(attempt.job) else {
                continue;
            };
            let behind = attempt.offset - attempt.offset.min(job.acknowledged.max(attempt.start));
            let is_paused = behind >= config.window_bytes;
            let acknowledged_at = self.acknowledged_at.get(&attempt.job).copied();
            let alive_at = attempt.progress_at.max(acknowledged_at.unwrap_or(0));
            // A lease that stood still for a pause is looked at again one lease later.
            let most = match acknowledged_at {
                Some(_) => 2 * config.lease_ms,
                None => config.lease_ms,
            };
            let patience = if is_paused {
                config.slow_reader_ms + config.lease_ms
            } else {
                0
            };
            if now - alive_at > most + patience + slack {
                return Err(format!(
                    "{}: no progress for {} ms at node {}, and it still has the job",
                    attempt.job,
                    now - alive_at,
                    attempt.node
                ));
            }
        }
        self.check_owners(now, facts)
    }

    fn check_owners(&mut self, now: Millis, facts: &Facts) -> Verdict {
        let slack = self.slack_ms + 50;
        for (&id, job) in &facts.shadow.jobs {
            if job.owner.is_some() || job.running.is_none() {
                self.ownerless_since.remove(&id);
                continue;
            }
            let since = *self.ownerless_since.entry(id).or_insert(now);
            if now - since > facts.scenario.config.grace_ms + slack {
                return Err(format!(
                    "{id}: runs for {} ms without a client",
                    now - since
                ));
            }
        }
        Ok(())
    }
}

fn ghost(socket: SocketId, node: usize, silent: Millis) -> String {
    format!(
        "node {node} on socket {} is a ghost: silent for {silent} ms",
        socket.0
    )
}

impl Invariant for Leases {
    fn name(&self) -> &'static str {
        "leases end"
    }

    fn see(&mut self, now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::ClientSaid {
                message: ClientToRelay::Acknowledge { job, .. } | ClientToRelay::Resume { job, .. },
                ..
            } => {
                self.acknowledged_at.insert(*job, now);
            }
            Observation::Fault {
                fault: Fault::SetClock { by_ms },
            } => self.slack_ms += by_ms.unsigned_abs(),
            Observation::RelaySays(Output::ToClient {
                message: RelayToClient::Submitted { job, .. },
                ..
            }) => {
                self.ownerless_since.remove(job);
            }
            Observation::RelayStarts => {
                self.ownerless_since.clear();
                self.stopping_since.clear();
            }
            // Not at every frame: what lasts too long is seen a little later too.
            Observation::RelayRests { .. } if now > self.looked_at + 20 => {
                self.looked_at = now;
                return self.check(now, facts);
            }
            _ => {}
        }
        Ok(())
    }
}
