//! No lost job: every job that somebody waits for ends exactly once, in bounded time, and never for a reason that was not there.

use std::collections::BTreeMap;

use client_session::Event;
use protocol::{ErrorCode, Failure, JobId};

use crate::Millis;
use crate::engine::CONTEXT_TOKENS;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::Theme;

/// How far a job is, for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Ended,
    /// Its user went away.
    Abandoned,
}

/// The book of ends.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    jobs: BTreeMap<JobId, (usize, Stage)>,
    stopped: BTreeMap<JobId, Millis>,
    open: usize,
    last_at: Millis,
    completed: u64,
    /// When a client's last socket was lost to the relay.
    away_since: BTreeMap<usize, Millis>,
    /// Clients that stayed away for longer than the grace period.
    was_away: BTreeMap<usize, bool>,
}

impl Ends {
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    pub(crate) const fn last_at(&self) -> Millis {
        self.last_at
    }

    pub(crate) const fn completed(&self) -> u64 {
        self.completed
    }

    fn hears(&mut self, now: Millis, job: JobId, event: &Event, facts: &Facts) -> Verdict {
        let Some((client, stage)) = self.jobs.get_mut(&job) else {
            return Err(format!("{job}: an event about a job that nobody asked for"));
        };
        if *stage == Stage::Ended {
            return Err(format!("{job}: {event:?} after its end"));
        }
        let is_end = match event {
            Event::Completed { .. } | Event::Failed(_) | Event::Interrupted => true,
            Event::Queued { .. }
            | Event::Assigned { .. }
            | Event::Started { .. }
            | Event::Delta { .. }
            | Event::Reconnecting => false,
        };
        if !is_end {
            return Ok(());
        }
        let client = *client;
        *stage = Stage::Ended;
        self.open -= 1;
        self.last_at = now;
        match event {
            Event::Failed(failure) => self.judge(job, client, failure, facts),
            Event::Interrupted => Err(format!("{job}: its client's session gave it up")),
            Event::Completed { .. } => {
                self.completed += 1;
                Ok(())
            }
            Event::Queued { .. }
            | Event::Assigned { .. }
            | Event::Started { .. }
            | Event::Delta { .. }
            | Event::Reconnecting => Ok(()),
        }
    }

    /// Whether such a failure may be here.
    fn judge(&self, job: JobId, client: usize, failure: &Failure, facts: &Facts) -> Verdict {
        let scenario = &facts.scenario;
        let plan = facts.plan(job);
        let was_away = self.was_away.get(&client).copied().unwrap_or(false);
        let may_be = match failure.code {
            ErrorCode::Cancelled => self.stopped.contains_key(&job),
            ErrorCode::ContextLengthExceeded => {
                plan.is_some_and(|plan| plan.shape.prompt_tokens >= CONTEXT_TOKENS)
            }
            ErrorCode::QueueFull => scenario.theme == Theme::Overload,
            ErrorCode::CapabilityMissing => !scenario.is_uniform,
            ErrorCode::NodeLost | ErrorCode::LeaseExpired | ErrorCode::EngineFailed => {
                scenario.has_faults()
            }
            // A job whose client stayed away for too long is stopped, and then there is none.
            ErrorCode::ClientGone | ErrorCode::UnknownJob => was_away,
            ErrorCode::SlowReader => scenario.has_faults(),
            ErrorCode::Draining
            | ErrorCode::InvalidRequest
            | ErrorCode::UnknownModel
            | ErrorCode::MemoryFull
            | ErrorCode::TooLarge
            | ErrorCode::Unauthorized
            | ErrorCode::DuplicateJob
            | ErrorCode::ProtocolError
            | ErrorCode::Internal
            | ErrorCode::Unknown => false,
        };
        if may_be {
            return Ok(());
        }
        Err(format!(
            "{job}: failed without a reason for it: {:?} ({failure})",
            failure.code
        ))
    }
}

impl Invariant for Ends {
    fn name(&self) -> &'static str {
        "no lost job"
    }

    fn see(&mut self, now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::UserAsks { job } => {
                let client = facts.plan(*job).map_or(0, |plan| plan.client);
                self.jobs.insert(*job, (client, Stage::Open));
                self.open += 1;
            }
            Observation::UserStops { job } => {
                self.stopped.insert(*job, now);
            }
            Observation::ClientGoes { client } => {
                for (owner, stage) in self.jobs.values_mut() {
                    if owner == client && *stage == Stage::Open {
                        *stage = Stage::Abandoned;
                        self.open -= 1;
                    }
                }
            }
            Observation::SocketLeaves { socket } => {
                if let Some(client) = facts.shadow.left_now(*socket) {
                    self.away_since.insert(client, now);
                }
            }
            Observation::RelayDies => {
                for client in 0..facts.scenario.clients.len() {
                    self.away_since.entry(client).or_insert(now);
                }
            }
            Observation::ClientJoins { client, .. } => {
                // A clock that is set moves the end of the grace period too.
                let grace = facts.scenario.config.grace_ms.saturating_sub(3_100);
                if let Some(since) = self.away_since.remove(client)
                    && now.saturating_sub(since) >= grace
                {
                    self.was_away.insert(*client, true);
                }
            }
            Observation::UserHears { client, job, event } => {
                let is_own = self.jobs.get(job).is_some_and(|(owner, _)| owner == client);
                if !is_own {
                    return Err(format!(
                        "{job}: client {client} hears of it, and never asked"
                    ));
                }
                return self.hears(now, *job, event, facts);
            }
            Observation::Over if self.open > 0 => {
                let open = self.jobs.iter();
                let open: Vec<String> = open
                    .filter(|(_, (_, stage))| *stage == Stage::Open)
                    .map(|(job, (client, _))| format!("{job} of client {client}"))
                    .collect();
                return Err(format!("still without an end: {}", open.join(", ")));
            }
            _ => {}
        }
        Ok(())
    }
}
