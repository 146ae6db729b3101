//! No punishment of the innocent: an honest peer is never closed for a protocol error nor refused, never for silence unless
//! something kept it silent, and no node is put into quarantine that nothing had befallen.

use std::collections::BTreeMap;

use protocol::CloseCode;
use scheduler::Scheduler;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::{Fault, Lie};

/// Who was in trouble when.
#[derive(Debug, Default)]
pub(crate) struct Innocence {
    troubled_at: BTreeMap<usize, Millis>,
    looked_at: Millis,
}

impl Innocence {
    fn trouble(&mut self, now: Millis, fault: &Fault) {
        match *fault {
            Fault::StallNode { node, ms }
            | Fault::HangEngine { node, ms }
            | Fault::PartNode { node, ms } => {
                self.troubled_at.insert(node, now + ms);
            }
            Fault::CutNode { node, .. }
            | Fault::KillNode { node, .. }
            | Fault::BreakEngine { node } => {
                self.troubled_at.insert(node, now);
            }
            Fault::CutAll { .. } | Fault::SetClock { .. } => {
                for node in 0..64 {
                    let at = self.troubled_at.entry(node).or_default();
                    *at = (*at).max(now);
                }
            }
            Fault::DrainNode { .. }
            | Fault::CutClient { .. }
            | Fault::PartClient { .. }
            | Fault::KillClient { .. }
            | Fault::StallClient { .. }
            | Fault::SlowClient { .. }
            | Fault::KillRelay { .. } => {}
        }
    }

    /// Karma: what a relay believes of a node must have a reason.
    fn quarantined(&self, scheduler: &Scheduler, facts: &Facts) -> Verdict {
        for (socket, view) in &facts.shadow.nodes {
            let was_troubled = self.troubled_at.contains_key(&view.node);
            if facts.is_honest(view.node) && !was_troubled && scheduler.is_in_quarantine(*socket) {
                return Err(format!(
                    "node {} is in quarantine, and did nothing wrong",
                    view.node
                ));
            }
        }
        Ok(())
    }

    fn node_cut(&self, now: Millis, node: usize, code: u16, facts: &Facts) -> Verdict {
        if !facts.is_honest(node) {
            return Ok(());
        }
        if !CloseCode::may_retry(code) {
            return Err(format!("honest node {node} was closed with {code}"));
        }
        if code == CloseCode::HeartbeatLost.number() {
            let config = &facts.scenario.config;
            let patience = config.node_silent_ms_max + 3 * config.lease_ms;
            let is_excused = self
                .troubled_at
                .get(&node)
                .is_some_and(|at| now < at + patience);
            if !is_excused {
                return Err(format!(
                    "node {node} was closed for silence, and was not silent"
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for Innocence {
    fn name(&self) -> &'static str {
        "no punishment of the innocent"
    }

    fn see(&mut self, now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::Fault { fault } => {
                self.trouble(now, fault);
                Ok(())
            }
            Observation::RelayRests { scheduler, .. } if now > self.looked_at + 50 => {
                self.looked_at = now;
                self.quarantined(scheduler, facts)
            }
            Observation::NodeCut { node, code } => self.node_cut(now, *node, *code, facts),
            Observation::NodeRefused { node, failure } if facts.is_honest(*node) => {
                Err(format!("honest node {node} was refused: {failure}"))
            }
            Observation::NodeExits {
                node,
                end: node_session::End::Refused { code },
            } => match facts.lie(*node) {
                None => Err(format!("honest node {node} ended, refused with {code}")),
                Some(
                    Lie::Text
                    | Lie::Offsets
                    | Lie::Duplicates
                    | Lie::Tokens
                    | Lie::ForeignText
                    | Lie::StolenTickets
                    | Lie::ForgedTickets
                    | Lie::StaleTickets
                    | Lie::EarlyEnd
                    | Lie::NoWindow
                    | Lie::NeverStops,
                ) => Ok(()),
            },
            Observation::ClientCut { client, code } => {
                let is_intruder = facts
                    .scenario
                    .clients
                    .get(*client)
                    .is_some_and(|client| client.is_intruder);
                if !is_intruder && !CloseCode::may_retry(*code) {
                    return Err(format!("honest client {client} was closed with {code}"));
                }
                Ok(())
            }
            Observation::ClientRefused { client, failure } => {
                Err(format!("honest client {client} was refused: {failure}"))
            }
            _ => Ok(()),
        }
    }
}
