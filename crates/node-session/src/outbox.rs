//! What goes to the relay, in order, and how deltas gather on their way.
//!
//! ```text
//! messages ──▶ queue ─────────────────────────▶ Send, SendBinary      only while the socket can take more
//! deltas ──▶ unsent part of each stream ──┘     a frame is written when it is asked for
//! ```
//! Deltas wait in their streams, so that whatever queues behind a busy socket becomes one frame. A message about a job
//! first moves the deltas into the queue: it never overtakes them. Other messages may.

use std::collections::{BTreeSet, VecDeque};

use protocol::limits::MERGE_MS_MAX;
use protocol::{Alias, CloseCode, NodeToRelay, PING, TokenFrameWriter, encode};

use crate::{JobKey, Millis, NodeSession, Output};

/// Bytes that may wait for a relay that does not read: more than all windows together. Beyond it the connection is given
/// up; streams are kept.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// Messages that may wait.
const QUEUE_MESSAGES_MAX: usize = 4_096;

#[derive(Debug)]
enum Waiting {
    Text(String),
    /// A newer one takes the place of an older one.
    Progress {
        alias: Alias,
        prefilled_tokens: u32,
    },
    Frame(Vec<u8>),
}

impl Waiting {
    const fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Progress { .. } => 0,
            Self::Frame(frame) => frame.len(),
        }
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    /// Jobs whose streams have something unsent, and since when the oldest.
    unsent: BTreeSet<JobKey>,
    unsent_since: Millis,
    /// How long deltas may gather; 0: not at all.
    merge_ms: Millis,
    /// The socket cannot take more.
    pub(crate) is_busy: bool,
}

impl Outbox {
    fn push(&mut self, waiting: Waiting) {
        self.queue_bytes += waiting.bytes();
        self.queue.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.queue_bytes -= waiting.bytes();
        Some(waiting)
    }

    pub(crate) fn set_merge_ms(&mut self, ms: u64) {
        self.merge_ms = ms.min(MERGE_MS_MAX);
    }

    /// When gathered deltas are due.
    pub(crate) fn due(&self) -> Option<Millis> {
        let waits = !self.is_busy && !self.unsent.is_empty();
        waits.then(|| self.unsent_since.saturating_add(self.merge_ms))
    }
}

impl NodeSession {
    /// Sends a message that is about no job.
    pub(crate) fn send(&mut self, message: &NodeToRelay) {
        self.sent_at = self.now;
        self.outbox.push(Waiting::Text(encode(message)));
    }

    /// Sends a message about this job, after its deltas.
    pub(crate) fn send_about(&mut self, key: JobKey, message: &NodeToRelay) {
        if self.outbox.unsent.contains(&key) {
            while let Some(frame) = self.write_frame() {
                self.outbox.push(Waiting::Frame(frame));
            }
        }
        self.send(message);
    }

    pub(crate) fn send_progress(&mut self, alias: Alias, prefilled_tokens: u32) {
        self.sent_at = self.now;
        for waiting in &mut self.outbox.queue {
            if let Waiting::Progress {
                alias: of,
                prefilled_tokens: old,
            } = waiting
                && *of == alias
            {
                *old = prefilled_tokens;
                return;
            }
        }
        self.outbox.push(Waiting::Progress {
            alias,
            prefilled_tokens,
        });
    }

    pub(crate) fn send_ping(&mut self) {
        self.sent_at = self.now;
        self.outbox.push(Waiting::Text(PING.into()));
    }

    /// The job's stream has something to send.
    pub(crate) fn mark_unsent(&mut self, key: JobKey) {
        if self.outbox.unsent.is_empty() {
            self.outbox.unsent_since = self.now;
        }
        self.outbox.unsent.insert(key);
    }

    /// What the socket may have now.
    pub(crate) fn poll_outbox(&mut self) -> Option<Output> {
        if self.outbox.is_busy {
            return None;
        }
        if let Some(waiting) = self.outbox.pop() {
            return Some(output(waiting));
        }
        if self.outbox.due().is_none_or(|due| self.now < due) {
            return None;
        }
        self.write_frame().map(Output::SendBinary)
    }

    /// Everything that waits goes out before the end, busy or not.
    pub(crate) fn flush_outbox(&mut self) {
        while let Some(waiting) = self.outbox.pop() {
            self.outputs.push_back(output(waiting));
        }
        while let Some(frame) = self.write_frame() {
            self.outputs.push_back(Output::SendBinary(frame));
        }
    }

    /// A relay that makes us talk and does not read is hung up on.
    pub(crate) fn check_outbox(&mut self) {
        let is_full = self.outbox.queue_bytes > QUEUE_BYTES_MAX
            || self.outbox.queue.len() > QUEUE_MESSAGES_MAX;
        if is_full && self.outbox.is_busy {
            self.hang_up(CloseCode::HeartbeatLost);
        }
    }

    /// One frame of what is unsent, as much as fits.
    fn write_frame(&mut self) -> Option<Vec<u8>> {
        let mut writer = TokenFrameWriter::new();
        while let Some(&key) = self.outbox.unsent.first() {
            let named = self.jobs.get_mut(&key);
            if let Some((job, alias)) = named.and_then(|job| job.alias.map(|alias| (job, alias))) {
                while let Some(run) = job.stream.unsent() {
                    if !writer.push(alias, run.offset, run.kind, run.tokens, run.bytes) {
                        if writer.is_empty() {
                            // An entry within its limits fits an empty frame.
                            break;
                        }
                        self.sent_at = self.now;
                        return Some(writer.finish());
                    }
                    let end = run.end;
                    job.stream.mark_sent(end);
                }
            }
            self.outbox.unsent.remove(&key);
        }
        if writer.is_empty() {
            return None;
        }
        self.sent_at = self.now;
        Some(writer.finish())
    }
}

fn output(waiting: Waiting) -> Output {
    match waiting {
        Waiting::Text(text) => Output::Send(text),
        Waiting::Progress {
            alias,
            prefilled_tokens,
        } => Output::Send(encode(&NodeToRelay::Progress {
            alias,
            prefilled_tokens,
        })),
        Waiting::Frame(frame) => Output::SendBinary(frame),
    }
}
