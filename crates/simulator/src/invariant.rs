//! What must always hold. One file for each; each sees everything and keeps its own books.

mod bytes;
mod ends;
mod fairness;
mod finish;
mod innocence;
mod leases;
mod memory;
mod money;
mod order;
mod privacy;
mod slots;
mod work;

use std::collections::BTreeMap;
use std::rc::Rc;

use protocol::JobId;

use crate::observation::Observation;
use crate::scenario::{JobPlan, Lie, Scenario};
use crate::script::Script;
use crate::shadow::Shadow;
use crate::{Millis, Violation};

/// What everybody may know.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) scripts: Rc<BTreeMap<JobId, Rc<Script>>>,
    pub(crate) shadow: Shadow,
    plans: BTreeMap<JobId, usize>,
    /// Whether the trouble is over.
    pub(crate) is_mended: bool,
}

impl Facts {
    pub(crate) fn plan(&self, job: JobId) -> Option<&JobPlan> {
        self.plans
            .get(&job)
            .and_then(|index| self.scenario.jobs.get(*index))
    }

    pub(crate) fn lie(&self, node: usize) -> Option<Lie> {
        self.scenario.nodes.get(node).and_then(|node| node.lie)
    }

    pub(crate) fn is_honest(&self, node: usize) -> bool {
        self.lie(node).is_none()
    }
}

/// What an invariant says to an observation.
pub(crate) type Verdict = Result<(), String>;

/// Something that must always hold.
pub(crate) trait Invariant: std::fmt::Debug {
    /// Its name, in a few words.
    fn name(&self) -> &'static str;
    /// Looks at what happened.
    fn see(&mut self, now: Millis, what: &Observation<'_>, facts: &Facts) -> Verdict;
}

/// All invariants.
#[derive(Debug)]
pub(crate) struct Judge {
    facts: Facts,
    ends: ends::Ends,
    others: Vec<Box<dyn Invariant>>,
    violation: Option<Violation>,
}

impl Judge {
    pub(crate) fn new(scenario: Rc<Scenario>, scripts: Rc<BTreeMap<JobId, Rc<Script>>>) -> Self {
        let jobs = scenario.jobs.iter().enumerate();
        let plans = jobs.map(|(index, job)| (job.id, index)).collect();
        Self {
            ends: ends::Ends::default(),
            others: vec![
                Box::new(bytes::Bytes::default()),
                Box::new(order::Order::default()),
                Box::new(finish::Finish::default()),
                Box::new(work::Work::default()),
                Box::new(fairness::Fairness::default()),
                Box::new(memory::Memory::default()),
                Box::new(slots::Slots),
                Box::new(leases::Leases::default()),
                Box::new(money::Money::default()),
                Box::new(innocence::Innocence::default()),
                Box::new(privacy::Privacy::default()),
            ],
            facts: Facts {
                shadow: Shadow::new(Rc::clone(&scenario)),
                scenario,
                scripts,
                plans,
                is_mended: false,
            },
            violation: None,
        }
    }

    /// Lets everybody look.
    pub(crate) fn see(&mut self, now: Millis, what: &Observation<'_>) {
        if self.violation.is_some() {
            return;
        }
        if let Observation::TroubleOver = what {
            self.facts.is_mended = true;
        }
        self.facts.shadow.see(now, what);
        let ends: &mut dyn Invariant = &mut self.ends;
        let others = self.others.iter_mut().map(AsMut::as_mut);
        for invariant in std::iter::once(ends).chain(others) {
            if let Err(sentence) = invariant.see(now, what, &self.facts) {
                let invariant = invariant.name();
                self.violation = Some(Violation {
                    invariant,
                    at: now,
                    sentence,
                });
                return;
            }
        }
    }

    /// Something else is wrong.
    pub(crate) fn object(&mut self, invariant: &'static str, sentence: impl Into<String>) {
        self.violation.get_or_insert(Violation {
            invariant,
            at: 0,
            sentence: sentence.into(),
        });
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.clone()
    }

    pub(crate) const fn shadow(&self) -> &Shadow {
        &self.facts.shadow
    }

    /// Whether every job has its end.
    pub(crate) fn is_settled(&self) -> bool {
        self.ends.open() == 0
    }

    /// When the last end came.
    pub(crate) const fn settled_at(&self) -> Millis {
        self.ends.last_at()
    }

    /// How many jobs ended well.
    pub(crate) const fn completed(&self) -> u64 {
        self.ends.completed()
    }
}
