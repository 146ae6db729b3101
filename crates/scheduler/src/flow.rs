//! Back-pressure: a node pauses while its client is a window behind, and is asked to gather deltas while the relay is
//! loaded.
//!
//! Node and relay see the same numbers (bytes sent, bytes acknowledged), so that the relay knows without a word when a
//! node pauses: its lease then stands still, and the slow reader's time runs instead.

use protocol::limits::MERGE_MS_MAX;
use protocol::{ErrorCode, Failure, JobId, RelayToNode};

use crate::job::Slow;
use crate::timers::Timer;
use crate::{Millis, Scheduler, SocketId};

/// Load is judged this often: short enough to act before queues grow, long enough to count frames.
const LOAD_EVERY_MS: Millis = 250;

/// Load must have been low for this long before nodes send every step again.
const CALM_MS: Millis = 2_000;

/// A reader that was a window behind must read a window's such part in its time: as much as clients acknowledge at once.
const SLOW_PIECES: u32 = 4;

/// How many frames and tokens come, and what nodes were asked for that.
#[derive(Debug, Default)]
pub(crate) struct Load {
    began_at: Millis,
    frames: u32,
    entries: u32,
    calm_since: Option<Millis>,
    /// What nodes are asked: 0 while the relay is not loaded.
    pub(crate) merge_ms: Millis,
}

impl Scheduler {
    /// The client has not acknowledged what was passed on: past a window, its node pauses.
    pub(crate) fn watch_reader(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(attempt) = job.alias.and_then(|alias| self.attempts.get_mut(&alias)) else {
            return;
        };
        let is_behind = job.behind(attempt.start) >= self.config.window_bytes;
        match (is_behind, job.paused_at) {
            (true, None) => {
                job.paused_at = Some(self.now);
                attempt.meter.pause(self.now);
                self.counters.paused += 1;
            }
            (false, Some(_)) => {
                job.paused_at = None;
                attempt.meter.resume(self.now);
                attempt.deadline = self.now.saturating_add(self.config.lease_ms);
            }
            (true, Some(_)) | (false, None) => {}
        }
        // Some bytes let the node go on, but only a good piece gives the reader new time: else it could hold a slot for
        // as long as it likes.
        let read = job.acknowledged.max(attempt.start);
        if job.slow.is_some_and(|slow| read >= slow.target) {
            job.slow = None;
            self.timers.clear(Timer::SlowReader(id));
        }
        if is_behind && job.slow.is_none() {
            let piece = (self.config.window_bytes / SLOW_PIECES).max(1);
            job.slow = Some(Slow {
                target: read.saturating_add(piece),
                was_away: false,
            });
            let until = self.now.saturating_add(self.config.slow_reader_ms);
            self.timers.set(Timer::SlowReader(id), until);
        }
    }

    /// The client read too little for too long. One that is away has its grace period instead, once.
    pub(crate) fn read_too_slowly(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(slow) = &mut job.slow else { return };
        if job.owner.is_none() && !std::mem::replace(&mut slow.was_away, true) {
            let patience = self.config.slow_reader_ms.max(self.config.grace_ms);
            let again = self.now.saturating_add(patience);
            self.timers.set(Timer::SlowReader(id), again);
            return;
        }
        self.fail_slow_reader(id);
    }

    pub(crate) fn fail_slow_reader(&mut self, id: JobId) {
        let alias = self.jobs.get(&id).and_then(|job| job.alias);
        if let Some(alias) = alias {
            self.stop_attempt(alias);
        }
        let failure = Failure::new(
            ErrorCode::SlowReader,
            "the client did not read on for too long; read faster or ask for a shorter answer",
        );
        self.fail(id, failure);
    }

    /// Counts a token frame, and judges the load now and then.
    pub(crate) fn count_frame(&mut self, entries: u32) {
        let load = &mut self.load;
        load.frames += 1;
        load.entries = load.entries.saturating_add(entries);
        let passed = self.now.saturating_sub(load.began_at);
        if passed < LOAD_EVERY_MS {
            return;
        }
        let per_second =
            |count: u32| u64::from(count).saturating_mul(1_000) / passed.clamp(1, 10_000);
        let (frames, entries) = (per_second(load.frames), per_second(load.entries));
        let began_at = load.began_at;
        (load.began_at, load.frames, load.entries) = (self.now, 0, 0);
        let frames_max = u64::from(self.config.frames_per_second_max);
        let asked = load.merge_ms;
        if frames > frames_max {
            load.calm_since = None;
            load.merge_ms = (asked * 2).clamp(MERGE_MS_MAX / 4, MERGE_MS_MAX);
        } else if asked > 0 && entries <= frames_max / 2 {
            let since = *load.calm_since.get_or_insert(began_at);
            if self.now.saturating_sub(since) >= CALM_MS {
                (load.merge_ms, load.calm_since) = (0, None);
            }
        } else {
            load.calm_since = None;
        }
        if load.merge_ms != asked {
            self.counters.merge_changes += 1;
            let busy: Vec<SocketId> = self.nodes_to_ask();
            for socket in busy {
                self.ask_to_merge(socket);
            }
        }
    }

    /// Nodes that answer, and those who were asked to gather.
    fn nodes_to_ask(&self) -> Vec<SocketId> {
        let nodes = self.nodes.iter();
        nodes
            .filter(|(_, node)| !node.attempts.is_empty() || node.merge_ms > 0)
            .map(|(socket, _)| *socket)
            .collect()
    }

    /// Tells a node how long to gather deltas, if it does not know.
    pub(crate) fn ask_to_merge(&mut self, socket: SocketId) {
        let ms = self.load.merge_ms;
        if let Some(node) = self.nodes.get_mut(&socket)
            && node.merge_ms != ms
        {
            node.merge_ms = ms;
            self.tell_node(socket, RelayToNode::Merge { ms });
        }
    }
}
