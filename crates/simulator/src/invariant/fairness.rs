//! Fairness: a hog does not delay a newcomer. While the first job of an account that owes nothing waits, no other account
//! gets more placed on a model that the newcomer waits for than a few jobs' worth of tokens: those whose turn it was, in each
//! of the lines that share the slots, what the lines themselves owe each other, and what ageing had earned.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ClientToRelay, JobId, RelayToClient, RelayToNode};
use scheduler::Output;

use crate::Millis;
use crate::invariant::{Facts, Invariant, Verdict};
use crate::observation::Observation;
use crate::scenario::{MODELS, TIER};

/// New jobs that any other account may get placed before a newcomer's first: see above.
const OVERTAKEN_MAX: u32 = 5;

/// The same where nodes are lost: what a lost job did not take is given back to its account, which may then ask again.
const OVERTAKEN_IN_TROUBLE_MAX: u32 = 12;

/// What a job is expected to cost at most, in tokens. Of cheap ones an account may get more.
const COST_MAX: u32 = 256;

/// The book of turns.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    /// Accounts that this relay has served or promised to.
    known: BTreeSet<String>,
    /// First jobs that wait, and what others got meanwhile.
    waiting: BTreeMap<JobId, BTreeMap<String, (u32, u32)>>,
    /// Jobs that came back, which go before all others.
    returned: BTreeSet<JobId>,
}

impl Fairness {
    fn taken_in(&mut self, job: JobId, facts: &Facts) {
        let Some(account) = account_of(job, facts) else {
            return;
        };
        if self.known.insert(account) && !self.returned.contains(&job) {
            self.waiting.insert(job, BTreeMap::new());
        }
    }

    fn assigned(&mut self, job: JobId, attempt: u32, model: &str, facts: &Facts) -> Verdict {
        self.waiting.remove(&job);
        let is_new = attempt == 1 && !self.returned.contains(&job);
        let (true, Some(account)) = (is_new, account_of(job, facts)) else {
            return Ok(());
        };
        let most = if facts.scenario.has_faults() {
            OVERTAKEN_IN_TROUBLE_MAX
        } else {
            OVERTAKEN_MAX
        };
        let limit = facts.plan(job).and_then(|plan| plan.shape.max_tokens);
        let cost = limit.unwrap_or(COST_MAX).min(COST_MAX);
        for (newcomer, overtaken) in &mut self.waiting {
            let is_own = account_of(*newcomer, facts).as_ref() == Some(&account);
            if is_own || !waits_for(*newcomer, model, facts) {
                continue;
            }
            let (count, costs) = overtaken.entry(account.clone()).or_default();
            *count += 1;
            *costs += cost;
            if *costs > most * COST_MAX {
                return Err(format!(
                    "{newcomer} is its account's first and waits for {model}, and {account} got {count} new jobs meanwhile"
                ));
            }
        }
        Ok(())
    }
}

fn account_of(job: JobId, facts: &Facts) -> Option<String> {
    let client = facts.plan(job)?.client;
    let plan = facts.scenario.clients.get(client)?;
    Some(plan.account.clone())
}

fn waits_for(job: JobId, model: &str, facts: &Facts) -> bool {
    facts
        .plan(job)
        .is_some_and(|plan| plan.model == model || (plan.model == TIER && MODELS.contains(&model)))
}

impl Invariant for Fairness {
    fn name(&self) -> &'static str {
        "fairness bound"
    }

    fn see(&mut self, _now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict {
        match what {
            Observation::RelayStarts => {
                self.known.clear();
                self.waiting.clear();
            }
            Observation::ClientSaid {
                message: ClientToRelay::Resume { job, .. },
                ..
            } => {
                self.returned.insert(*job);
                self.waiting.remove(job);
            }
            Observation::RelaySays(Output::ToClient { message, .. }) => match message {
                RelayToClient::Submitted { job, .. } => self.taken_in(*job, facts),
                RelayToClient::Completed { job, .. } | RelayToClient::Failed { job, .. } => {
                    self.waiting.remove(job);
                }
                RelayToClient::Welcome { .. }
                | RelayToClient::Queued { .. }
                | RelayToClient::Assigned { .. }
                | RelayToClient::Started { .. }
                | RelayToClient::Refused { .. }
                | RelayToClient::Pong
                | RelayToClient::Unknown => {}
            },
            Observation::RelaySays(Output::ToNode {
                message:
                    RelayToNode::Assign {
                        job,
                        attempt,
                        model,
                        ..
                    },
                ..
            }) if facts.scenario.is_uniform => {
                return self.assigned(*job, *attempt, model, facts);
            }
            _ => {}
        }
        Ok(())
    }
}
