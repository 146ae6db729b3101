//! Order on the wire, as a client sees one connection: a job is taken in before anything else is said of it, an attempt is
//! named before its tokens come, tokens follow each other without gap or overlap, and the end is last.

use std::collections::{BTreeMap, BTreeSet};

use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{Alias, JobId, RelayToClient, TokenFrame, decode};

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::network::Message;
use crate::observation::Observation;

/// One client's connection.
#[derive(Debug, Default)]
struct Line {
    known: BTreeSet<JobId>,
    aliases: BTreeMap<Alias, (JobId, u32)>,
}

/// All clients' present connections.
#[derive(Debug, Default)]
pub(crate) struct Order {
    lines: BTreeMap<usize, Line>,
    /// The furthest byte that reached each job's client.
    reached: BTreeMap<JobId, u32>,
}

impl Order {
    fn text(&mut self, client: usize, text: &str) -> Verdict {
        let Ok(message) = decode::<RelayToClient>(text, RELAY_FRAME_BYTES_MAX) else {
            return Err(format!("client {client}: a frame that cannot be read"));
        };
        let line = self.lines.entry(client).or_default();
        let knows = |job: JobId, what: &str| {
            if line.known.contains(&job) {
                Ok(())
            } else {
                Err(format!("{job}: {what} before it was taken in"))
            }
        };
        match message {
            RelayToClient::Welcome { .. } => *line = Line::default(),
            RelayToClient::Submitted { job, .. } => {
                line.known.insert(job);
            }
            RelayToClient::Queued { job, .. } => knows(job, "queued")?,
            RelayToClient::Started { job, .. } => knows(job, "started")?,
            RelayToClient::Assigned {
                job, alias, offset, ..
            } => {
                knows(job, "assigned")?;
                let reached = self.reached.get(&job).copied().unwrap_or(0);
                if offset > reached {
                    return Err(format!(
                        "{job}: an attempt begins at {offset}, but its client has {reached}"
                    ));
                }
                line.aliases.retain(|_, (other, _)| *other != job);
                line.aliases.insert(alias, (job, offset));
            }
            RelayToClient::Completed { job, .. } => {
                knows(job, "completed")?;
                line.forget(job);
            }
            RelayToClient::Failed { job, .. } => line.forget(job),
            RelayToClient::Refused { .. } | RelayToClient::Pong | RelayToClient::Unknown => {}
        }
        Ok(())
    }

    fn tokens(&mut self, client: usize, frame: &[u8]) -> Verdict {
        let line = self.lines.entry(client).or_default();
        let frame = TokenFrame::decode(frame).map_err(|error| error.to_string())?;
        for entry in frame.entries() {
            let Some((job, next)) = line.aliases.get_mut(&entry.alias) else {
                return Err(format!(
                    "client {client}: tokens under a name ({}) that it was not told",
                    entry.alias
                ));
            };
            if entry.offset != *next {
                return Err(format!(
                    "{job}: tokens at {} where {next} is next",
                    entry.offset
                ));
            }
            *next = entry.end_offset().unwrap_or(u32::MAX);
            let reached = self.reached.entry(*job).or_default();
            *reached = (*reached).max(*next);
        }
        Ok(())
    }
}

impl Line {
    fn forget(&mut self, job: JobId) {
        self.known.remove(&job);
        self.aliases.retain(|_, (other, _)| *other != job);
    }
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::ClientHears { client, message } => {
                let is_intruder = facts
                    .scenario
                    .clients
                    .get(*client)
                    .is_some_and(|client| client.is_intruder);
                match message {
                    _ if is_intruder => Ok(()),
                    Message::Text(text) => self.text(*client, text),
                    Message::Binary(frame) => self.tokens(*client, frame),
                }
            }
            _ => Ok(()),
        }
    }
}
