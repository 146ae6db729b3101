//! What the scheduler is told at its start. Every number has a default with its reason, and every one is bounded.

use std::collections::BTreeMap;

use protocol::NodeClass;
use protocol::limits::ANSWER_BYTES_MAX;

use crate::tickets::Secret;

/// How a pool behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What may be asked for.
    pub models: Vec<ModelEntry>,
    /// Names that stand for one of several models.
    pub tiers: Vec<TierEntry>,
    /// Waiting jobs of one model. Beyond it a user would wait for longer than anyone does.
    pub queue_jobs_max_per_model: usize,
    /// Waiting jobs of all models.
    pub queue_jobs_max: usize,
    /// Waiting jobs of one account, over all models: half of a line, so that one account alone never fills it.
    pub queue_jobs_max_per_account: usize,
    /// What jobs that name a tier count for in the queue; 1 without an entry. An account gets so many times the tokens of
    /// one whose jobs count for 1.
    pub tier_weights: BTreeMap<String, u32>,
    /// The same for accounts; both weights are multiplied.
    pub account_weights: BTreeMap<String, u32>,
    /// Those at the head of a line hear of every step at once; the others once a second, so that a long line costs few
    /// messages for each job that leaves it.
    pub places_told_at_once: usize,
    /// Unfinished jobs of one client's socket.
    pub jobs_per_client_max: usize,
    /// Bytes of requests held in memory, queued and running. The platform's 128 MB hold other things too.
    pub content_bytes_max: usize,
    /// Answer bytes of one attempt beyond which a node that does not pause loses it: a window and the largest entry.
    pub unacknowledged_bytes_max: u32,
    /// Answer bytes of one job that its client may leave unacknowledged: beyond it the node pauses. It bounds what a slow
    /// reader leaves in a socket's send buffer, and is some seconds of the fastest answer.
    pub window_bytes: u32,
    /// A client that is a window behind for this long loses its job: a slot is too dear to wait longer.
    pub slow_reader_ms: u64,
    /// Token frames that the pool takes in a second before it asks nodes to gather deltas.
    pub frames_per_second_max: u32,
    /// Without any progress for this long, an attempt is lost.
    pub lease_ms: u64,
    /// How long a job goes on without its client.
    pub grace_ms: u64,
    /// How long a job that this relay has forgotten waits for a node that may still have its answer: about as long as
    /// nodes take to come back.
    pub announce_wait_ms: u64,
    /// How often a node is asked to say something.
    pub heartbeat_ms: u64,
    /// A node silent for this long is closed: three heartbeats, so that one late packet harms nobody.
    pub node_silent_ms_max: u64,
    /// The same for a client that has ever sent a heartbeat; others need not begin. Three minutes, since browsers slow
    /// the timers of a hidden page down to one a minute.
    pub client_silent_ms_max: u64,
    /// The least placement weight, in tokens per second: it keeps the slowest node in work.
    pub decode_floor: f64,
    /// The most that a measured speed counts for, in tokens per second: no node decodes one chat faster, however it says.
    pub decode_max: f64,
    /// Answers that a new node gives on probation.
    pub probation_answers: u32,
    /// The share of the jobs that all nodes on probation get together, where others are free: an army of new nodes takes
    /// no more.
    pub newcomers_share: f64,
    /// Below this posterior of good ends a node is put in quarantine.
    pub karma_threshold: f64,
    /// After this long, what is known of a node counts for half: an evening's trouble is forgotten the next day.
    pub karma_half_life_ms: u64,
    /// The first quarantine; each further one is twice as long.
    pub quarantine_ms: u64,
    /// Nodes of which something is remembered, connected or not; the least recent are forgotten first. 64 bytes each.
    pub karma_nodes_max: usize,
    /// Beginnings of conversations whose readers are remembered; the least recent are forgotten first. 100 bytes each.
    pub affinity_prefixes_max: usize,
    /// Attempts in a row that may be lost without adding to the answer before the job fails.
    pub attempts_max: u32,
    /// Attempts in all: a job that kills its nodes is not given to every node there is.
    pub attempts_in_all_max: u32,
    /// What tickets are signed with, the newest first; the others are still trusted.
    pub secrets: Vec<Secret>,
    /// A bug to have.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<PlantedBug>,
}

/// A bug that can be switched on, one that other networks have had: the simulator must notice it.
#[cfg(feature = "planted-bugs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// Nobody looks at the queue when a lost job is back in it.
    QueueNotRerun,
    /// What a lost attempt wrote counts as the next one's work.
    CounterNotReset,
    /// A lost attempt goes on speaking for its job.
    StaleAttemptHeard,
    /// Accounts do not pay for their turns.
    DeficitNotCharged,
}

/// A model of the catalog, as far as the scheduler cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// What a request may name.
    pub id: String,
    /// The class of node that may serve it.
    pub class: NodeClass,
    /// The longest prompt and answer together.
    pub context_tokens: u32,
}

/// A tier of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierEntry {
    /// What a request may name.
    pub id: String,
    /// Ids of its models, the preferred one first.
    pub models: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            tiers: Vec::new(),
            queue_jobs_max_per_model: 256,
            queue_jobs_max: 1_024,
            queue_jobs_max_per_account: 128,
            tier_weights: BTreeMap::new(),
            account_weights: BTreeMap::new(),
            places_told_at_once: 10,
            jobs_per_client_max: 64,
            content_bytes_max: 48 << 20,
            unacknowledged_bytes_max: 512 << 10,
            window_bytes: 64 << 10,
            slow_reader_ms: 30_000,
            frames_per_second_max: 6_000,
            lease_ms: 30_000,
            grace_ms: 15_000,
            announce_wait_ms: 2_000,
            heartbeat_ms: 15_000,
            node_silent_ms_max: 45_000,
            client_silent_ms_max: 180_000,
            decode_floor: 1.0,
            decode_max: 1_000.0,
            probation_answers: 5,
            newcomers_share: 0.2,
            karma_threshold: 0.4,
            karma_half_life_ms: 60 * 60 * 1_000,
            quarantine_ms: 60_000,
            karma_nodes_max: 65_536,
            affinity_prefixes_max: 16_384,
            attempts_max: 3,
            attempts_in_all_max: 16,
            secrets: Vec::new(),
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

#[cfg(feature = "planted-bugs")]
impl Config {
    /// Whether this bug is switched on.
    pub(crate) fn has(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}

impl Config {
    /// The same with every number inside its bounds, so that no setting can make the scheduler spin or divide by zero.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        /// Whoever counts for a hundred times another's jobs should have nodes of its own.
        const WEIGHT_MAX: u32 = 100;
        for ms in [
            &mut self.lease_ms,
            &mut self.grace_ms,
            &mut self.slow_reader_ms,
            &mut self.announce_wait_ms,
            &mut self.heartbeat_ms,
            &mut self.node_silent_ms_max,
            &mut self.karma_half_life_ms,
            &mut self.quarantine_ms,
            &mut self.client_silent_ms_max,
        ] {
            *ms = (*ms).clamp(1, DAY_MS);
        }
        self.unacknowledged_bytes_max = self.unacknowledged_bytes_max.clamp(1, ANSWER_BYTES_MAX);
        self.window_bytes = self.window_bytes.clamp(1, self.unacknowledged_bytes_max);
        self.frames_per_second_max = self.frames_per_second_max.max(1);
        self.attempts_in_all_max = self.attempts_in_all_max.clamp(1, 1_000);
        let weights = self.tier_weights.values_mut();
        for weight in weights.chain(self.account_weights.values_mut()) {
            *weight = (*weight).clamp(1, WEIGHT_MAX);
        }
        self.queue_jobs_max_per_account = self.queue_jobs_max_per_account.max(1);
        self.attempts_max = self.attempts_max.clamp(1, 100);
        let usual = Self::default();
        self.decode_floor = finite(self.decode_floor, usual.decode_floor).clamp(0.001, 1e6);
        let decode_max = finite(self.decode_max, usual.decode_max);
        self.decode_max = decode_max.clamp(self.decode_floor, 1e6);
        let share = finite(self.newcomers_share, usual.newcomers_share);
        self.newcomers_share = share.clamp(0.01, 0.99);
        let threshold = finite(self.karma_threshold, usual.karma_threshold);
        self.karma_threshold = threshold.clamp(0.0, 0.75);
        self.probation_answers = self.probation_answers.min(100);
        self.karma_nodes_max = self.karma_nodes_max.clamp(1, 1 << 20);
        self.affinity_prefixes_max = self.affinity_prefixes_max.min(1 << 20);
        self
    }
}

fn finite(number: f64, otherwise: f64) -> f64 {
    if number.is_finite() {
        number
    } else {
        otherwise
    }
}
