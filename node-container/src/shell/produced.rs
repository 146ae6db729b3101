//! For tests: which bytes each attempt produced, by offset and hash, never by content.
//!
//! One line after each delta says `from` which offset the attempt began, `to` which it came, and the hash of the bytes
//! between: whatever a client used of the attempt ends at one of these lines, even if the process was killed.

use std::collections::BTreeMap;

use node_session::{EngineEvent, JobKey};
use protocol::{JobId, RunningHash};

/// The log of what was produced, if somebody asked for it.
#[derive(Debug)]
pub(super) struct ProducedLog {
    is_on: bool,
    jobs: BTreeMap<JobKey, Produced>,
}

#[derive(Debug)]
struct Produced {
    job: JobId,
    attempt: u32,
    from: usize,
    to: usize,
    hash: RunningHash,
}

impl ProducedLog {
    pub(super) const fn new(is_on: bool) -> Self {
        Self {
            is_on,
            jobs: BTreeMap::new(),
        }
    }

    /// `from` bytes of the answer came from other attempts.
    pub(super) fn started(&mut self, key: JobKey, job: JobId, attempt: u32, from: usize) {
        if self.is_on {
            let produced = Produced {
                job,
                attempt,
                from,
                to: from,
                hash: RunningHash::default(),
            };
            self.jobs.insert(key, produced);
        }
    }

    pub(super) fn engine_said(&mut self, event: &EngineEvent) {
        match event {
            EngineEvent::Step(advances) => {
                for advance in advances {
                    if let Some(produced) = self.jobs.get_mut(&advance.key) {
                        produced.take(&advance.bytes);
                    }
                }
            }
            EngineEvent::Finished { key, .. }
            | EngineEvent::Failed { key, .. }
            | EngineEvent::Cancelled { key, .. } => {
                self.jobs.remove(key);
            }
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_) => {}
        }
    }
}

impl Produced {
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.hash.update(bytes);
        self.to += bytes.len();
        tracing::info!(
            job = %self.job,
            attempt = self.attempt,
            from = self.from,
            to = self.to,
            hash = ?self.hash.hash(),
            "produced"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_session::Advance;
    use protocol::{AnswerHash, DeltaKind};

    fn said(log: &mut ProducedLog, key: JobKey, text: &str) {
        log.engine_said(&EngineEvent::Step(vec![Advance {
            key,
            kind: DeltaKind::Text,
            tokens: Vec::new(),
            bytes: text.as_bytes().to_vec(),
        }]));
    }

    #[test]
    fn the_hash_is_of_what_this_attempt_produced() {
        let mut log = ProducedLog::new(true);
        let key = JobKey(1);
        log.started(key, JobId::from_random([1; 16]), 2, 10);
        said(&mut log, key, "ab");
        said(&mut log, key, "c");
        let produced = &log.jobs[&key];
        assert_eq!((produced.from, produced.to), (10, 13));
        assert_eq!(produced.hash.hash(), AnswerHash::of(b"abc"));
        log.engine_said(&EngineEvent::Cancelled {
            key,
            usage: protocol::Usage::default(),
        });
        assert!(log.jobs.is_empty());
    }

    #[test]
    fn nothing_is_kept_where_nobody_asked() {
        let mut log = ProducedLog::new(false);
        log.started(JobKey(1), JobId::from_random([1; 16]), 1, 0);
        assert!(log.jobs.is_empty());
    }
}
