//! Nobody gets what is another's: no client hears of another's job, whatever ticket it shows; no node goes on with an attempt
//! that it was never given.

use std::collections::{BTreeMap, BTreeSet};

use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{Alias, ErrorCode, JobId, RelayToClient, RelayToNode, TokenFrame, decode};
use scheduler::{Output, SocketId};

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::network::Message;
use crate::observation::Observation;

/// What was given to whom.
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    granted: BTreeMap<(JobId, u32), BTreeSet<usize>>,
    aliases: BTreeMap<Alias, JobId>,
}

impl Privacy {
    fn node_told(&mut self, socket: SocketId, message: &RelayToNode, facts: &Facts) -> Verdict {
        let Some(node) = facts.shadow.nodes.get(&socket).map(|view| view.node) else {
            return Ok(());
        };
        match message {
            RelayToNode::Assign {
                job,
                attempt,
                alias,
                ..
            } => {
                self.granted
                    .entry((*job, *attempt))
                    .or_default()
                    .insert(node);
                self.aliases.insert(*alias, *job);
                Ok(())
            }
            RelayToNode::Adopt {
                job,
                attempt,
                alias,
                ..
            } => {
                self.aliases.insert(*alias, *job);
                let granted = self.granted.get(&(*job, *attempt));
                if granted.is_some_and(|nodes| nodes.contains(&node)) {
                    return Ok(());
                }
                Err(format!(
                    "{job}: node {node} may go on with attempt {attempt}, which it was never given"
                ))
            }
            RelayToNode::Welcome { .. }
            | RelayToNode::Fence { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::CheckPrompt { .. }
            | RelayToNode::Cancel { .. }
            | RelayToNode::Acknowledge { .. }
            | RelayToNode::Refused { .. }
            | RelayToNode::Pong
            | RelayToNode::Unknown => Ok(()),
        }
    }

    fn tokens_to(&self, socket: SocketId, frame: &[u8], facts: &Facts) -> Verdict {
        let Some(&client) = facts.shadow.clients.get(&socket) else {
            return Ok(());
        };
        let frame = TokenFrame::decode(frame).map_err(|error| error.to_string())?;
        for entry in frame.entries() {
            let job = self.aliases.get(&entry.alias).copied();
            let owner = job.and_then(|job| facts.plan(job)).map(|plan| plan.client);
            if owner != Some(client) {
                return Err(format!("client {client} gets tokens of a job of {owner:?}"));
            }
        }
        Ok(())
    }

    fn intruder_hears(client: usize, message: &Message) -> Verdict {
        let Message::Text(text) = message else {
            return Err(format!("intruder {client} gets tokens"));
        };
        match decode::<RelayToClient>(text, RELAY_FRAME_BYTES_MAX) {
            Ok(RelayToClient::Failed { failure, .. }) if failure.code == ErrorCode::UnknownJob => {
                Ok(())
            }
            Ok(
                RelayToClient::Welcome { .. } | RelayToClient::Refused { .. } | RelayToClient::Pong,
            ) => Ok(()),
            Ok(_) | Err(_) => Err(format!("intruder {client} hears {text}")),
        }
    }
}

impl Invariant for Privacy {
    fn name(&self) -> &'static str {
        "nobody gets what is another's"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::RelaySays(Output::ToNode { socket, message }) => {
                self.node_told(*socket, message, facts)
            }
            Observation::RelaySays(Output::TokensToClient { socket, frame }) => {
                self.tokens_to(*socket, frame, facts)
            }
            Observation::RelayStarts => {
                self.aliases.clear();
                Ok(())
            }
            Observation::ClientHears { client, message } => {
                let plan = facts.scenario.clients.get(*client);
                if plan.is_some_and(|plan| plan.is_intruder) {
                    return Self::intruder_hears(*client, message);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
