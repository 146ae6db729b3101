//! The hot path: one token frame in, one out for each client that it concerns.

use std::collections::BTreeMap;

use protocol::limits::ANSWER_BYTES_MAX;
use protocol::{
    Alias, CloseCode, DeltaKind, Entry, ErrorCode, Failure, FrameError, JobId, TokenFrame,
    TokenFrameWriter,
};

use crate::attempts::SlotFate;
use crate::job::Job;
use crate::nodes::Named;
use crate::{Output, Scheduler, SocketId};

/// What becomes of one entry.
enum Verdict {
    /// A client gets it.
    Forward(SocketId),
    /// Nobody wants it any more.
    Drop,
    /// It does not fit what came before: this attempt is lost.
    Misfit,
    /// The node sends although its client is far behind: this attempt is lost.
    Heedless,
    /// The client is too far behind, by no fault of this node: this job fails.
    Unread(JobId),
    /// Not this node's job.
    Foreign,
}

impl Scheduler {
    pub(crate) fn node_tokens(&mut self, socket: SocketId, frame: &[u8]) {
        if !self.nodes.contains_key(&socket) {
            return;
        }
        self.heard(socket, self.now);
        let entries = match TokenFrame::decode(frame) {
            Ok(decoded) => decoded.entries(),
            Err(error) => {
                self.close_for_bad_frame(socket, error);
                return;
            }
        };
        let mut routed: Vec<(SocketId, Entry<'_>)> = Vec::new();
        let mut misfits: Vec<(Alias, &'static str)> = Vec::new();
        let mut count = 0;
        let mut unread: Vec<(Alias, JobId)> = Vec::new();
        let (mut is_whole, mut is_foreign) = (true, false);
        for entry in entries {
            count += 1;
            let is_unread = unread.iter().any(|(alias, _)| *alias == entry.alias);
            if is_unread || misfits.iter().any(|(alias, _)| *alias == entry.alias) {
                continue;
            }
            match self.take_entry(socket, &entry) {
                Verdict::Forward(client) => {
                    is_whole &= routed.first().is_none_or(|(first, _)| *first == client);
                    routed.push((client, entry));
                }
                Verdict::Drop => is_whole = false,
                Verdict::Misfit => {
                    is_whole = false;
                    misfits.push((entry.alias, "the node's stream did not fit together"));
                }
                Verdict::Heedless => {
                    is_whole = false;
                    misfits.push((entry.alias, "the node did not wait for its reader"));
                }
                Verdict::Unread(job) => {
                    is_whole = false;
                    unread.push((entry.alias, job));
                }
                Verdict::Foreign => {
                    is_foreign = true;
                    break;
                }
            }
        }
        self.forward(frame, &routed, is_whole && !is_foreign);
        self.count_frame(count);
        self.trim_finished();
        for (alias, why) in misfits {
            self.counters.protocol_errors += 1;
            let failure = Failure::new(ErrorCode::EngineFailed, why);
            self.lose_attempt(alias, failure, SlotFate::UntilStopped);
        }
        for (_, job) in unread {
            self.fail_slow_reader(job);
        }
        if is_foreign {
            self.close_for_protocol_error(socket, "sent tokens of a job that it was never given");
        }
    }

    fn take_entry(&mut self, socket: SocketId, entry: &Entry<'_>) -> Verdict {
        match self.named(socket, entry.alias) {
            Named::Running => {}
            Named::Stopping | Named::Ended => {
                self.counters.stale_messages += 1;
                return Verdict::Drop;
            }
            Named::Foreign => return Verdict::Foreign,
        }
        let Some(attempt) = self.attempts.get_mut(&entry.alias) else {
            return Verdict::Foreign;
        };
        let fits = attempt.accepted.is_some() && entry.offset == attempt.offset;
        let end = entry.end_offset().filter(|end| *end <= ANSWER_BYTES_MAX);
        let (true, Some(end)) = (fits, end) else {
            return Verdict::Misfit;
        };
        let Some(job) = attempt.job.and_then(|id| self.jobs.get_mut(&id)) else {
            return Verdict::Drop;
        };
        if job.behind(attempt.start) >= self.config.unacknowledged_bytes_max {
            return Verdict::Heedless;
        }
        attempt.offset = end;
        attempt
            .meter
            .add(self.now, entry.token_count(), end - entry.offset);
        if entry.token_count() > 0 || !entry.bytes.is_empty() {
            attempt.deadline = self.now.saturating_add(self.config.lease_ms);
        }
        if !entry.bytes.is_empty() {
            attempt.first_byte_at.get_or_insert(self.now);
            job.setbacks = 0;
        }
        self.counters.tokens += u64::from(entry.token_count());
        self.counters.unknown_messages += match entry.kind {
            DeltaKind::Unknown(_) => 1,
            DeltaKind::Text | DeltaKind::Reasoning | DeltaKind::ToolCall | DeltaKind::Logprobs => 0,
        };
        job.vocabulary.speak(&self.models[attempt.model].entry.id);
        record(
            job,
            entry,
            &mut self.content_bytes,
            self.config.content_bytes_max,
        );
        let is_behind = job.behind(attempt.start) >= self.config.window_bytes;
        let is_unread =
            end - job.acknowledged > self.config.unacknowledged_bytes_max.saturating_mul(4);
        let (id, owner, is_paused) = (attempt.job, job.owner, job.paused_at.is_some());
        if let Some(id) = id.filter(|_| is_behind && !is_paused) {
            self.watch_reader(id);
        }
        match (owner, id) {
            (Some(_), Some(id)) if is_unread => Verdict::Unread(id),
            (Some(owner), _) => Verdict::Forward(owner),
            (None, _) => Verdict::Drop,
        }
    }

    fn forward(&mut self, frame: &[u8], routed: &[(SocketId, Entry<'_>)], is_whole: bool) {
        let Some(&(first, _)) = routed.first() else {
            return;
        };
        if is_whole {
            self.outputs.push_back(Output::TokensToClient {
                socket: first,
                frame: frame.to_vec(),
            });
            return;
        }
        let mut writers: BTreeMap<SocketId, TokenFrameWriter> = BTreeMap::new();
        for (client, entry) in routed {
            let fits = writers.entry(*client).or_default().push_raw(entry);
            assert!(fits, "a part of a frame is longer than the frame");
        }
        for (socket, mut writer) in writers {
            let frame = writer.finish();
            self.outputs
                .push_back(Output::TokensToClient { socket, frame });
        }
    }

    fn close_for_bad_frame(&mut self, socket: SocketId, error: FrameError) {
        let code = match error {
            FrameError::TooLong(_) => CloseCode::FrameTooLarge,
            FrameError::UnknownKind
            | FrameError::Truncated
            | FrameError::OverLimit
            | FrameError::Trailing => CloseCode::ProtocolError,
        };
        self.counters.protocol_errors += 1;
        self.close_node(socket, code, "not a token frame");
    }
}

/// Adds an entry to the record of the answer, within the budget for content. Beyond it the text is dropped: new requests are
/// refused by then, and this answer goes on, but no other node could take it over.
fn record(job: &mut Job, entry: &Entry<'_>, content_bytes: &mut usize, content_bytes_max: usize) {
    job.transcript.push_entry(entry);
    let held = job.transcript.memory_bytes();
    if held == job.transcript_bytes {
        return;
    }
    *content_bytes -= std::mem::replace(&mut job.transcript_bytes, held);
    if *content_bytes + held > content_bytes_max {
        job.transcript.drop_text();
        job.transcript_bytes = 0;
    }
    *content_bytes += job.transcript_bytes;
}
