//! Clients that come back: to a job that is here, to one that has just ended, or to one that this relay has forgotten.

use protocol::{
    Alias, AnswerHash, CloseCode, DeltaKind, ErrorCode, Failure, JobId, JobRequest, RelayToClient,
    RelayToNode, TokenFrameWriter, Transcript,
};

use crate::announce::TICKET_MS;
use crate::job::{Job, Vocabulary};
use crate::tickets::ClientTicket;
use crate::timers::Timer;
use crate::{Output, Scheduler, SocketId};

/// Answer bytes in one entry of resent text: a piece of this size is read at once, and many fit a frame.
const RESENT_ENTRY_BYTES: usize = 64 << 10;

/// What one connection may want once more of what it was sent: two of the longest answers that are kept. A hole in a
/// stream that does not lose bytes is somebody's bug.
const REPEATED_BYTES_MAX: u32 = 512 << 10;

/// Attempts that a client is believed to have heard of: more than any job takes.
const ATTEMPTS_BELIEVED_MAX: u32 = 1 << 16;

/// What a client says that it has.
pub(crate) struct Resumption {
    pub(crate) job: JobId,
    pub(crate) ticket: String,
    pub(crate) attempt: u32,
    pub(crate) offset: u32,
    pub(crate) tokens: u32,
    pub(crate) hash: AnswerHash,
    pub(crate) model: String,
    pub(crate) request: JobRequest,
    pub(crate) answer: Option<protocol::Answer>,
    /// Length of the frame.
    pub(crate) bytes: usize,
}

impl Scheduler {
    /// The first word about a job that was taken in: what its client shows when it comes back.
    pub(crate) fn tell_submitted(&mut self, socket: SocketId, job: JobId, account: &str) {
        let ticket = self.signer.sign(&ClientTicket {
            job,
            account: account.to_owned(),
            life: self.life,
            until: self.now.saturating_add(TICKET_MS),
        });
        self.tell_client(socket, RelayToClient::Submitted { job, ticket });
    }

    pub(crate) fn resume(&mut self, socket: SocketId, said: Resumption) {
        self.release_reserved(socket);
        let Some(account) = self
            .clients
            .get(&socket)
            .map(|client| client.account.to_string())
        else {
            return;
        };
        let id = said.job;
        let life = self
            .signer
            .open::<ClientTicket>(&said.ticket)
            .filter(|ticket| {
                ticket.job == id && ticket.account == account && self.now <= ticket.until
            })
            .map(|ticket| ticket.life);
        let is_good = life.is_some();
        let failure = self.recently_ended.failure(id).cloned();
        let was_away = |failure: &Failure| failure.code == ErrorCode::ClientGone;
        if is_good && failure.as_ref().is_some_and(was_away) {
            // It stayed away for longer than its node could wait, and is here after all: as after a restart.
            self.recently_ended.remove(id);
            self.rebuild(socket, said);
            return;
        }
        if let Some(failure) = failure.filter(|_| is_good) {
            self.tell_client(socket, RelayToClient::Failed { job: id, failure });
        } else if !is_good || self.recently_ended.contains(id) {
            self.counters.tickets_refused += 1;
            self.refuse_resumption(socket, id);
        } else if let Some(job) = self.jobs.get(&id) {
            let is_own = *job.account == *account;
            let agrees = is_own && has_prefix(&job.transcript, &said);
            if agrees {
                self.take_over(socket, id, said.offset, said.tokens);
            } else {
                self.refuse_resumption(socket, id);
            }
        } else if let Some(finished) = self.finished.get(&id) {
            let is_own = *finished.account == *account;
            let agrees = is_own && has_prefix(&finished.transcript, &said);
            if agrees {
                self.take_over_finished(socket, id, said.offset, said.tokens);
            } else {
                self.refuse_resumption(socket, id);
            }
        } else if life == Some(self.life) {
            // It is not of before the relay lost its memory: it ended so long ago that even that is forgotten.
            self.counters.tickets_refused += 1;
            self.refuse_resumption(socket, id);
        } else {
            self.rebuild(socket, said);
        }
    }

    /// Whatever was wrong: another's job, a forged ticket and a job that never was look the same.
    fn refuse_resumption(&mut self, socket: SocketId, job: JobId) {
        let failure = Failure::new(
            ErrorCode::UnknownJob,
            "this client has no such job; ask again",
        );
        self.tell_client(socket, RelayToClient::Failed { job, failure });
    }

    /// The job is here: the client's new socket gets what it has missed, and what follows.
    pub(crate) fn take_over(&mut self, socket: SocketId, id: JobId, offset: u32, tokens: u32) {
        let owner = self.jobs.get(&id).and_then(|job| job.owner);
        if self.is_outdated(socket, owner) {
            self.counters.stale_messages += 1;
            self.refuse_resumption(socket, id);
            return;
        }
        let end = self.jobs.get(&id).map(|job| job.transcript.offset());
        if owner == Some(socket) && self.repeats_too_much(socket, end, offset) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let old = job.owner.replace(socket);
        let account = job.account.clone();
        self.timers.clear(Timer::Grace(id));
        if let Some(client) = old.and_then(|old| self.clients.get_mut(&old)) {
            client.jobs.remove(&id);
        }
        if let Some(client) = self.clients.get_mut(&socket) {
            client.jobs.insert(id);
        }
        self.counters.resumed += 1;
        self.tell_submitted(socket, id, &account);
        self.client_acknowledged(socket, id, offset, false);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.told = None;
        job.has = Some((offset, tokens));
        self.watch_reader(id);
        self.tell_state(id);
    }

    /// Counts what a connection wants once more. One that goes on wanting, and does not read, would fill our memory.
    fn repeats_too_much(&mut self, socket: SocketId, end: Option<u32>, offset: u32) -> bool {
        let Some(client) = self.clients.get_mut(&socket) else {
            return true;
        };
        let missing = end.unwrap_or(0).saturating_sub(offset);
        client.repeated = client.repeated.saturating_add(missing);
        let is_too_much = client.repeated > REPEATED_BYTES_MAX;
        if is_too_much {
            self.counters.protocol_errors += 1;
            let reason = "asked again and again for what was sent";
            self.close_client(socket, CloseCode::ProtocolError, reason);
        }
        is_too_much
    }

    /// Sends a client what it has missed of a running answer, if it came back since it was last told of an attempt.
    pub(crate) fn resend_missed(&mut self, socket: SocketId, id: JobId, alias: Alias) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Some((offset, tokens)) = job.has.take() {
            let frames = resent(&job.transcript, alias, offset, tokens);
            self.send_frames(socket, frames);
        }
    }

    pub(crate) fn take_over_finished(
        &mut self,
        socket: SocketId,
        id: JobId,
        offset: u32,
        tokens: u32,
    ) {
        let owner = self.finished.get(&id).and_then(|finished| finished.owner);
        if self.is_outdated(socket, owner) {
            self.counters.stale_messages += 1;
            self.refuse_resumption(socket, id);
            return;
        }
        let end = self.finished.get(&id).map(|f| f.transcript.offset());
        if owner == Some(socket) && self.repeats_too_much(socket, end, offset) {
            return;
        }
        let Some(finished) = self.finished.get_mut(&id) else {
            return;
        };
        let old = finished.owner.replace(socket);
        finished.acknowledged = finished.acknowledged.max(offset);
        let account = finished.account.clone();
        let end = finished.end.clone();
        let by = finished
            .by
            .as_ref()
            .map(|by| (by.alias, by.assigned.clone()));
        let frames = by.as_ref().map_or_else(Vec::new, |(alias, _)| {
            resent(&finished.transcript, *alias, offset, tokens)
        });
        if let Some(client) = old.and_then(|old| self.clients.get_mut(&old)) {
            client.finished.retain(|kept| *kept != id);
        }
        if let Some(client) = self.clients.get_mut(&socket) {
            client.finished.push_back(id);
        }
        self.counters.resumed += 1;
        self.tell_submitted(socket, id, &account);
        if let Some((_, mut assigned)) = by {
            if let RelayToClient::Assigned { offset: begin, .. } = &mut assigned {
                *begin = offset;
            }
            self.tell_client(socket, assigned);
        }
        self.send_frames(socket, frames);
        self.tell_client(socket, end);
    }

    /// The relay has forgotten the job, most likely in a restart. A node may still have it; else another goes on with
    /// what the client has.
    fn rebuild(&mut self, socket: SocketId, said: Resumption) {
        let id = said.job;
        let transcript = match transcript_of(&said) {
            Ok(transcript) => transcript,
            Err(failure) => {
                self.counters.refused += 1;
                self.tell_client(socket, RelayToClient::Failed { job: id, failure });
                return;
            }
        };
        let vocabulary = match said.answer.as_ref().and_then(|answer| answer.model.clone()) {
            Some(model) => Vocabulary::Model(model),
            None if transcript.offset() == 0 => Vocabulary::Unspoken,
            None => Vocabulary::Mixed,
        };
        let Some(mut job) = self.admit_job(socket, id, &said.model, said.request, said.bytes, true)
        else {
            return;
        };
        job.ticket = if said.attempt == 0 && transcript.offset() == 0 {
            // It only waited: whoever has waited longest is nobody's to say any more, and turns are taken as ever.
            self.next_fresh_ticket()
        } else {
            // It ran before those came who wait now.
            self.next_returning_ticket()
        };
        job.attempts = said.attempt.min(ATTEMPTS_BELIEVED_MAX);
        job.refusals = job.attempts;
        job.claimed = (!transcript.is_whole()).then_some(said.hash);
        if transcript.offset() > 0 || transcript.token_count() > 0 {
            job.need = job.need.with_continuation();
        }
        job.acknowledged = said.offset;
        job.vocabulary = vocabulary;
        job.transcript_bytes = transcript.memory_bytes();
        job.transcript = transcript;
        job.is_held = true;
        self.content_bytes += job.transcript_bytes;
        self.trim_finished();
        self.jobs.insert(id, job);
        self.counters.rebuilt += 1;
        let agrees =
            |kept: &crate::job::Announced| kept.from <= said.offset && said.offset <= kept.offset;
        let is_announced = self
            .announced
            .get(&id)
            .is_some_and(|kept| agrees(kept) && self.account_of(id) == Some(&kept.account));
        if is_announced && let Some(announced) = self.take_announced(id) {
            self.adopt(id, announced);
            return;
        }
        self.release_announced(id);
        let until = self.now.saturating_add(self.config.announce_wait_ms);
        self.timers.set(Timer::Held(id), until);
    }

    fn account_of(&self, id: JobId) -> Option<&str> {
        self.jobs.get(&id).map(|job| &*job.account)
    }

    /// No node came back with the answer in time: another goes on with what the client has.
    pub(crate) fn held_long_enough(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_held) else {
            return;
        };
        if !job.has_begun() || job.transcript.answer(None).is_some() {
            self.enqueue(id);
            self.check_later(id);
        } else {
            self.fail(id, too_long_to_go_on());
        }
    }

    /// A held job, or one in line, is about to run.
    pub(crate) fn leave_line(&mut self, id: JobId) {
        self.dequeue(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.is_held = false;
        }
    }

    fn send_frames(&mut self, socket: SocketId, frames: Vec<Vec<u8>>) {
        for frame in frames {
            self.outputs
                .push_back(Output::TokensToClient { socket, frame });
        }
    }

    /// Tells the node of the client's acknowledgement, if one answers.
    pub(crate) fn pass_on_acknowledgement(&mut self, id: JobId, offset: u32, whole: bool) {
        let running = self.jobs.get(&id).and_then(|job| job.alias);
        if let Some((alias, node)) =
            running.and_then(|alias| Some((alias, self.attempts.get(&alias)?.node)))
        {
            self.tell_node(
                node,
                RelayToNode::Acknowledge {
                    alias,
                    offset,
                    whole,
                },
            );
        }
    }
}

/// Why an answer that was lost cannot go on.
pub(crate) fn too_long_to_go_on() -> Failure {
    Failure::new(
        ErrorCode::NodeLost,
        "the node was lost, and the answer is too long for another to go on with; ask for the rest",
    )
}

/// Whether what the client has is the beginning of this answer.
fn has_prefix(transcript: &Transcript, said: &Resumption) -> bool {
    let is_short = said.offset <= transcript.offset() && said.tokens <= transcript.token_count();
    let is_all = said.offset == transcript.offset() && said.tokens == transcript.token_count();
    if transcript.is_whole() {
        is_short && transcript.hash(said.offset) == Some(said.hash)
    } else {
        is_all // its text was too long to be kept: only one who missed nothing can go on
    }
}

/// The record of what the client has.
fn transcript_of(said: &Resumption) -> Result<Transcript, Failure> {
    let wrong = || {
        Failure::new(
            ErrorCode::InvalidRequest,
            "offset, tokens and hash must be those of the answer that is carried",
        )
        .with_param("answer")
    };
    let Some(answer) = &said.answer else {
        return match (said.offset, said.tokens) {
            (0, 0) => Ok(Transcript::default()),
            (offset, tokens) => Ok(Transcript::without_text(offset, tokens)),
        };
    };
    let transcript = Transcript::of(answer).ok_or_else(wrong)?;
    let fits = transcript.offset() == said.offset
        && transcript.token_count() == said.tokens
        && transcript.hash(said.offset) == Some(said.hash);
    fits.then_some(transcript).ok_or_else(wrong)
}

/// What the client has missed, as token frames.
fn resent(transcript: &Transcript, alias: Alias, mut offset: u32, tokens: u32) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut writer = TokenFrameWriter::new();
    for (kind, bytes, tokens) in transcript.runs_from(offset, tokens) {
        for (bytes, tokens) in cut(bytes, tokens) {
            push(
                &mut writer,
                &mut frames,
                (alias, offset, kind),
                tokens,
                bytes,
            );
            offset = offset.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
    }
    if !writer.is_empty() {
        frames.push(writer.finish());
    }
    frames
}

fn push(
    writer: &mut TokenFrameWriter,
    frames: &mut Vec<Vec<u8>>,
    (alias, offset, kind): (Alias, u32, DeltaKind),
    tokens: &[u32],
    bytes: &[u8],
) {
    if !writer.push(alias, offset, kind, tokens, bytes) {
        frames.push(writer.finish());
        let fits = writer.push(alias, offset, kind, tokens, bytes);
        assert!(fits, "a piece of resent text is longer than a frame");
    }
}

/// Cuts a run into entries: between characters, with as many tokens in each as an entry takes.
fn cut<'a>(
    mut bytes: &'a [u8],
    mut tokens: &'a [u32],
) -> impl Iterator<Item = (&'a [u8], &'a [u32])> {
    std::iter::from_fn(move || {
        if bytes.is_empty() && tokens.is_empty() {
            return None;
        }
        let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
        let longest = bytes.len().min(RESENT_ENTRY_BYTES);
        let end = (0..=longest).rev().take(4).find(|at| !is_inside(at));
        let (bytes_now, bytes_later) = bytes.split_at(end.unwrap_or(longest));
        let count = tokens.len().min(protocol::limits::ENTRY_TOKENS_MAX);
        let (tokens_now, tokens_later) = tokens.split_at(count);
        (bytes, tokens) = (bytes_later, tokens_later);
        Some((bytes_now, tokens_now))
    })
}

impl Job {
    /// Whether anything of the answer was passed on.
    pub(crate) const fn has_begun(&self) -> bool {
        self.transcript.offset() > 0 || self.transcript.token_count() > 0
    }
}
