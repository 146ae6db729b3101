//! One log line per job hop, with its `job=` id; the same id is in the relay's log and the client's.

use std::collections::BTreeMap;

use node_session::{EngineEvent, JobKey};
use protocol::JobId;
use tokio::time::Instant;

/// What the log has to remember of running jobs.
#[derive(Debug, Default)]
pub(super) struct JobLog {
    jobs: BTreeMap<JobKey, Running>,
}

#[derive(Debug)]
struct Running {
    job: JobId,
    started: Instant,
    first_token: Option<Instant>,
}

impl JobLog {
    /// `begun` bytes of the answer came from other nodes.
    pub(super) fn started(&mut self, key: JobKey, job: JobId, begun: usize) {
        tracing::info!(%job, begun, "started");
        let running = Running {
            job,
            started: Instant::now(),
            first_token: None,
        };
        self.jobs.insert(key, running);
    }

    pub(super) fn stopping(&self, key: JobKey) {
        if let Some(Running { job, .. }) = self.jobs.get(&key) {
            tracing::info!(%job, "stopping");
        }
    }

    pub(super) fn engine_said(&mut self, event: &EngineEvent) {
        match event {
            EngineEvent::Accepted {
                key, prompt_tokens, ..
            } => {
                if let Some(Running { job, .. }) = self.jobs.get(key) {
                    tracing::info!(%job, prompt_tokens, "accepted");
                }
            }
            EngineEvent::Progress { .. } | EngineEvent::Checked { .. } | EngineEvent::Cached(_) => {
            }
            EngineEvent::Step(advances) => {
                for advance in advances {
                    if let Some(running) = self.jobs.get_mut(&advance.key) {
                        running.first_token.get_or_insert_with(Instant::now);
                    }
                }
            }
            EngineEvent::Finished {
                key,
                finish_reason,
                usage,
            } => {
                if let Some(running) = self.jobs.remove(key) {
                    tracing::info!(
                        job = %running.job,
                        reason = ?finish_reason,
                        tokens = usage.completion_tokens,
                        first_token_ms = running.first_token_ms(),
                        total_ms = running.started.elapsed().as_millis(),
                        "finished"
                    );
                }
            }
            EngineEvent::Failed { key, failure } => {
                if let Some(Running { job, .. }) = self.jobs.remove(key) {
                    tracing::warn!(%job, code = ?failure.code, "failed");
                }
            }
            EngineEvent::Cancelled { key, usage } => {
                if let Some(Running { job, .. }) = self.jobs.remove(key) {
                    tracing::info!(%job, tokens = usage.completion_tokens, "cancelled");
                }
            }
        }
    }
}

impl Running {
    fn first_token_ms(&self) -> Option<u128> {
        self.first_token
            .map(|first| first.duration_since(self.started).as_millis())
    }
}
