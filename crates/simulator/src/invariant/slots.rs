//! Slots are never over-granted: neither by the relay's books, nor in any engine, whatever reconnects.

use protocol::RelayToNode;
use scheduler::Output;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;

/// Nothing to keep: the shadow has the books.
#[derive(Debug, Default)]
pub(crate) struct Slots;

fn slots_of(node: usize, facts: &Facts) -> usize {
    let plan = facts.scenario.nodes.get(node);
    plan.map_or(0, |plan| usize::try_from(plan.slots).unwrap_or(0))
}

impl Invariant for Slots {
    fn name(&self) -> &'static str {
        "slots never over-granted"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::EngineStarts {
                node, load, slots, ..
            } if load > slots => Err(format!("node {node}: {load} jobs in an engine of {slots}")),
            Observation::NodeRests {
                node,
                session,
                engine,
            } => {
                let slots = slots_of(*node, facts);
                let (load, jobs) = (engine.load(), session.job_count());
                if load > slots || (facts.is_honest(*node) && jobs > slots) {
                    return Err(format!(
                        "node {node}: {jobs} jobs, {load} in its engine, {slots} slots"
                    ));
                }
                Ok(())
            }
            Observation::NodeHears {
                node,
                message: RelayToNode::Assign { job, .. },
                session,
            } if facts.is_honest(*node) && session.job_count() >= slots_of(*node, facts) => Err(
                format!("{job}: given to node {node}, which has no free slot"),
            ),
            Observation::RelaySays(Output::ToNode {
                socket,
                message: RelayToNode::Assign { .. } | RelayToNode::Adopt { .. },
            }) => {
                let Some(view) = facts.shadow.nodes.get(socket) else {
                    return Ok(());
                };
                let slots = slots_of(view.node, facts);
                let announced = view.announced.values().filter(|ended| !**ended).count();
                let taken = view.holding.len() + announced;
                if facts.is_honest(view.node) && taken > slots {
                    return Err(format!(
                        "node {}: given {taken} jobs for its {slots} slots",
                        view.node
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
