//! How well a node's attempts end: a Beta posterior of good and bad outcomes, in which old ones fade. What is nobody's
//! fault, the client's or the relay's changes nothing.
//!
//! ```text
//!   newcomer ──answers──▶ proven ──posterior below the threshold──▶ quarantine ──time──▶ one job at a time
//!       ▲                    │                                          ▲                   │        │
//!       └────────────────────┼────────── enough good ends ──────────────┼───────────────────┘        │
//!                            └──────────────────────────────────────────┴──────── a bad end ─────────┘
//! ```
//!
//! A node is known by its account and name, so that connecting again does not wash anything off. Only hashes are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::groups::Standing;
use crate::{Config, Millis, Scheduler, SocketId};

/// Each outcome takes this much of the older ones' weight: ten outcomes are remembered. A node that was good for ever is
/// found out after twelve bad ends in a row, a new one after three.
const FADE: f64 = 0.9;

/// What is believed of a node before anything is known, as if it were outcomes.
const PRIOR_GOOD: f64 = 2.0;
const PRIOR_BAD: f64 = 0.5;

/// Good ends, one job at a time, that lead out of quarantine.
const PROBES: u8 = 2;

/// Quarantine doubles with each, this often.
const STRIKES_MAX: u8 = 6;

/// Connections of one name that hear at once what the others did; the rest when they next begin or end an attempt. So a
/// crowd under one name costs no more than this.
const NAMESAKES_MAX: usize = 16;

/// How an attempt ended, as far as it says something about the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Good,
    /// The node's fault.
    Bad(Fault),
    /// Busy, draining; the client's fault or the relay's: cancelled, a slow reader, an invalid request, a restart.
    Neutral,
}

/// What a node did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It went away with the work.
    Lost,
    /// No progress for a whole lease.
    Stalled,
    /// Its engine failed.
    Broken,
    /// What it sent did not fit together.
    Misfit,
    /// A spot check of its answer failed.
    SpotCheck,
}

/// What placement has to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trust {
    /// How far.
    pub(crate) standing: Standing,
    /// What its weight is multiplied with; between 0 and 1.
    pub(crate) factor: f64,
    /// Whether it gets no second job while it has one.
    pub(crate) is_single: bool,
    /// The end of its quarantine.
    pub(crate) until: Option<Millis>,
}

/// Names a node.
pub(crate) type KarmaKey = u64;

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    good: f32,
    bad: f32,
    changed_at: Millis,
    /// The end of its quarantine; it stays set until the probes are passed.
    until: Option<Millis>,
    /// Good ends since it was new or in quarantine.
    passed: u8,
    strikes: u8,
}

/// What is known of nodes that ever ended an attempt.
#[derive(Debug)]
pub(crate) struct Karma {
    salt: u64,
    records: BTreeMap<KarmaKey, Record>,
    by_age: BTreeSet<(Millis, KarmaKey)>,
    /// Who is connected under which name; nobody keeps a node from having two connections.
    connected: BTreeSet<(KarmaKey, SocketId)>,
}

impl Karma {
    /// Nothing is known.
    pub(crate) const fn new(salt: u64) -> Self {
        Self {
            salt,
            records: BTreeMap::new(),
            by_age: BTreeSet::new(),
            connected: BTreeSet::new(),
        }
    }

    /// The name of an account's node.
    pub(crate) fn key(&self, account: &str, name: &str) -> KarmaKey {
        let mut hasher = DefaultHasher::new();
        (self.salt, account, name).hash(&mut hasher);
        hasher.finish()
    }

    /// A node came.
    pub(crate) fn joined(&mut self, key: KarmaKey, socket: SocketId) {
        self.connected.insert((key, socket));
    }

    /// A node left.
    pub(crate) fn left(&mut self, key: KarmaKey, socket: SocketId) {
        self.connected.remove(&(key, socket));
    }

    /// Some of those connected under this name.
    fn namesakes(&self, key: KarmaKey) -> Vec<SocketId> {
        let range = (key, SocketId(0))..=(key, SocketId(u32::MAX));
        let sockets = self.connected.range(range).map(|(_, socket)| *socket);
        sockets.take(NAMESAKES_MAX).collect()
    }

    /// How far a node is trusted now.
    pub(crate) fn trust(&self, key: KarmaKey, now: Millis, config: &Config) -> Trust {
        let Some(record) = self.records.get(&key) else {
            return Trust {
                standing: Standing::Newcomer,
                factor: PRIOR_GOOD / (PRIOR_GOOD + PRIOR_BAD),
                is_single: false,
                until: None,
            };
        };
        let until = record.until.filter(|until| *until > now);
        let standing = if until.is_some() {
            Standing::Suspect
        } else if record.until.is_some() || u32::from(record.passed) < config.probation_answers {
            Standing::Newcomer
        } else {
            Standing::Proven
        };
        Trust {
            standing,
            factor: record.posterior(now, config),
            is_single: record.until.is_some(),
            until,
        }
    }

    /// An attempt of this node ended.
    pub(crate) fn note(&mut self, key: KarmaKey, outcome: Outcome, now: Millis, config: &Config) {
        let is_good = match outcome {
            Outcome::Good => true,
            Outcome::Bad(_) => false,
            Outcome::Neutral => return,
        };
        let mut record = self.records.remove(&key).unwrap_or_default();
        self.by_age.remove(&(record.changed_at, key));
        record.note(is_good, now, config);
        self.records.insert(key, record);
        self.by_age.insert((now, key));
        while self.records.len() > config.karma_nodes_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.records.remove(&oldest);
        }
    }

    /// How many nodes are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

impl Record {
    fn faded(&self, now: Millis, config: &Config) -> (f64, f64) {
        let age_ms = u32::try_from(now.saturating_sub(self.changed_at)).unwrap_or(u32::MAX);
        let half_life_ms = u32::try_from(config.karma_half_life_ms).unwrap_or(u32::MAX);
        let left = (-f64::from(age_ms) / f64::from(half_life_ms)).exp2();
        (f64::from(self.good) * left, f64::from(self.bad) * left)
    }

    fn posterior(&self, now: Millis, config: &Config) -> f64 {
        let (good, bad) = self.faded(now, config);
        (PRIOR_GOOD + good) / (PRIOR_GOOD + PRIOR_BAD + good + bad)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "counts below eleven, of which seven digits are enough"
    )]
    fn note(&mut self, is_good: bool, now: Millis, config: &Config) {
        let (good, bad) = self.faded(now, config);
        self.good = (good * FADE + f64::from(u8::from(is_good))) as f32;
        self.bad = (bad * FADE + f64::from(u8::from(!is_good))) as f32;
        self.changed_at = now;
        if is_good {
            self.passed = self.passed.saturating_add(1);
            if self.until.is_some() && self.passed >= PROBES {
                // Forgiven, but on probation like somebody new, and a second quarantine is longer.
                *self = Self {
                    changed_at: now,
                    strikes: self.strikes,
                    ..Self::default()
                };
            }
            if u32::from(self.passed) == config.probation_answers {
                self.strikes = self.strikes.saturating_sub(1);
            }
            return;
        }
        let is_probe = self.until.is_some_and(|until| until <= now);
        let falls = self.until.is_none() && self.posterior(now, config) < config.karma_threshold;
        if is_probe || falls {
            self.until = Some(now.saturating_add(config.quarantine_ms << self.strikes));
            self.strikes = self.strikes.saturating_add(1).min(STRIKES_MAX);
        }
        if self.until.is_some() {
            self.passed = 0;
        }
    }
}

impl Scheduler {
    /// An attempt of a connected node ended.
    pub(crate) fn outcome(&mut self, socket: SocketId, outcome: Outcome) {
        if let Some(key) = self.nodes.get(&socket).map(|node| node.karma) {
            self.outcome_of(key, outcome);
            self.refresh_node(socket);
        }
    }

    /// The same for one that may be gone.
    pub(crate) fn outcome_of(&mut self, key: KarmaKey, outcome: Outcome) {
        if outcome == Outcome::Neutral {
            return;
        }
        self.karma.note(key, outcome, self.now, &self.config);
        for socket in self.karma.namesakes(key) {
            self.refresh_node(socket);
        }
    }

    /// Somebody asked a node what he knew the answer to. Nodes on probation are the ones to ask: see
    /// [`Self::is_on_probation`].
    pub fn spot_checked(&mut self, now: Millis, node: SocketId, has_passed: bool) {
        self.now = self.now.max(now);
        let failed = Outcome::Bad(Fault::SpotCheck);
        self.outcome(node, if has_passed { Outcome::Good } else { failed });
        self.settle_input();
    }

    /// Whether a connected node gets work only where nobody else could ever do it.
    pub fn is_in_quarantine(&self, node: SocketId) -> bool {
        let trust = |key| self.karma.trust(key, self.now, &self.config).standing;
        self.nodes
            .get(&node)
            .is_some_and(|node| trust(node.karma) == Standing::Suspect)
    }

    /// Whether too little is known of a connected node, or nothing good lately.
    pub fn is_on_probation(&self, node: SocketId) -> bool {
        let trust = |key| self.karma.trust(key, self.now, &self.config).standing;
        self.nodes
            .get(&node)
            .is_some_and(|node| trust(node.karma) != Standing::Proven)
    }
}

#[cfg(test)]
mod tests;
