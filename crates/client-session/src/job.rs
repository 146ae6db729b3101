//! One job as its client sees it: what has arrived, what has been acknowledged, and how to take it up again.

use protocol::limits::{ACKNOWLEDGE_BYTES, ACKNOWLEDGE_BYTES_AT_ONCE, CLIENT_FRAME_BYTES_MAX};
use protocol::{
    Alias, Answer, ClientToRelay, Entry, JobId, JobRequest, RunningHash, Transcript, encode,
};

use crate::Millis;

/// An acknowledgement is sent at most this often while an answer comes slowly; its end is always acknowledged.
const ACKNOWLEDGE_MS_MIN: Millis = 1_000;
/// How often a hole may be asked for without anything new in between.
const GAPS_MAX: u32 = 2;

/// What an entry brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Brings<'a> {
    /// New bytes and the tokens that they stand for.
    News {
        /// The bytes.
        bytes: &'a [u8],
        /// How many tokens.
        token_count: u32,
    },
    /// What is known.
    Nothing,
    /// Bytes before it are missing, or its numbers make no sense.
    Gap,
}

/// Where an answer stands.
#[derive(Debug)]
pub(crate) struct Job {
    model: String,
    request: JobRequest,
    /// From the relay; without it there is nothing to resume.
    pub(crate) ticket: Option<String>,
    /// The present attempt's name in token frames; `None` until this connection has said it.
    pub(crate) alias: Option<Alias>,
    /// Since when it has no connection; `None` while the relay knows it.
    pub(crate) lost_at: Option<Millis>,
    /// The user has stopped it, and the relay has yet to confirm.
    pub(crate) is_cancelled: bool,
    /// Asked for and not yet answered: what still comes was said before the question.
    pub(crate) is_asking: bool,
    attempt: u32,
    transcript: Transcript,
    hash: RunningHash,
    answer_model: Option<String>,
    /// Whether the tokens of the transcript are exactly those of its bytes, and of one vocabulary.
    has_tokens: bool,
    gaps: u32,
    acknowledged: u32,
    acknowledged_at: Millis,
}

impl Job {
    /// A job of which nobody has heard.
    pub(crate) fn new(model: String, request: JobRequest) -> Self {
        Self {
            model,
            request,
            ticket: None,
            alias: None,
            lost_at: None,
            is_cancelled: false,
            is_asking: false,
            attempt: 0,
            transcript: Transcript::default(),
            hash: RunningHash::default(),
            answer_model: None,
            has_tokens: true,
            gaps: 0,
            acknowledged: 0,
            acknowledged_at: 0,
        }
    }

    /// Bytes received in order.
    pub(crate) const fn received(&self) -> u32 {
        self.transcript.offset()
    }

    /// A node has it, whose frames begin at `offset`. An adopted attempt may be older than the last one heard of.
    pub(crate) fn assign(&mut self, attempt: u32, model: &str, offset: u32) {
        self.is_asking = false;
        self.attempt = self.attempt.max(attempt);
        let began = self.received() > 0;
        if began && self.answer_model.as_deref() != Some(model) {
            // Two vocabularies: from now on the answer is carried by its text.
            self.answer_model = None;
            self.has_tokens = false;
        } else if !began {
            self.answer_model = Some(model.to_owned());
        }
        if offset < self.received() {
            // Tokens without text of their own cannot be told from those that are known.
            self.has_tokens = false;
        }
    }

    /// Takes in an entry.
    pub(crate) fn accept<'a>(&mut self, entry: &Entry<'a>) -> Brings<'a> {
        let received = self.received();
        let (Some(end), Some(known)) = (entry.end_offset(), received.checked_sub(entry.offset))
        else {
            return Brings::Gap;
        };
        let fresh = usize::try_from(known)
            .ok()
            .and_then(|known| entry.bytes.get(known..))
            .unwrap_or_default();
        let token_count = if known == 0 && fresh.is_empty() && !self.has_tokens {
            // Tokens without text, which may be known: the relay was not told of any.
            return Brings::Nothing;
        } else if known == 0 {
            self.transcript.push_entry(entry);
            entry.token_count()
        } else if end > received {
            // Nobody says how many of its tokens stand for the new bytes.
            self.has_tokens = false;
            self.transcript.push(entry.kind, std::iter::empty(), fresh);
            0
        } else {
            return Brings::Nothing;
        };
        if !fresh.is_empty() {
            self.gaps = 0;
            self.hash.update(fresh);
        }
        Brings::News {
            bytes: fresh,
            token_count,
        }
    }

    /// Whether to ask for the missing bytes; `false` once that has not helped.
    pub(crate) const fn may_ask_again(&mut self) -> bool {
        self.gaps += 1;
        self.gaps <= GAPS_MAX && self.ticket.is_some()
    }

    /// The offset to acknowledge, once enough bytes have come.
    pub(crate) const fn acknowledge(&mut self, now: Millis) -> Option<u32> {
        let pending = self.received() - self.acknowledged;
        let rested = now.saturating_sub(self.acknowledged_at) >= ACKNOWLEDGE_MS_MIN;
        if pending >= ACKNOWLEDGE_BYTES_AT_ONCE || (pending >= ACKNOWLEDGE_BYTES && rested) {
            self.acknowledged = self.received();
            self.acknowledged_at = now;
            Some(self.acknowledged)
        } else {
            None
        }
    }

    /// The frame that brings the relay to it, on a connection that has not: `submit`, or `resume` once there is a
    /// ticket. `None` where no frame can be that long.
    pub(crate) fn presentation(&mut self, id: JobId) -> Option<String> {
        self.is_asking = true;
        self.acknowledged = self.received();
        if self.ticket.is_none() {
            // The relay says `submitted` first: it has heard nothing of a job without a ticket, or lost it.
            return (self.received() == 0).then(|| {
                encode(&ClientToRelay::Submit {
                    job: id,
                    model: self.model.clone(),
                    request: self.request.clone(),
                })
            });
        }
        let answer = self.transcript.answer(self.answer_model.as_deref());
        if self.has_tokens
            && let Some(frame) = self.resume(id, answer.clone())
        {
            return Some(frame);
        }
        // A long answer is worth more than its tokens; and a node that has it all the same needs neither.
        self.has_tokens &= answer.is_none();
        self.resume(id, answer.map(strip_tokens))
            .or_else(|| self.resume(id, None))
    }

    /// The frame that takes the job over only to stop it.
    pub(crate) fn takeover(&self, id: JobId) -> Option<String> {
        self.resume(id, None)
    }

    /// `None` over the limit of a frame, and where there is nothing to resume.
    fn resume(&self, id: JobId, answer: Option<Answer>) -> Option<String> {
        let frame = encode(&ClientToRelay::Resume {
            job: id,
            ticket: self.ticket.clone()?,
            attempt: self.attempt,
            offset: self.received(),
            // Those that are carried, or known to a node: what cannot be told exactly is not claimed.
            tokens: if self.has_tokens {
                self.transcript.token_count()
            } else {
                0
            },
            hash: self.hash.hash(),
            model: self.model.clone(),
            request: self.request.clone(),
            answer,
        });
        (frame.len() <= CLIENT_FRAME_BYTES_MAX).then_some(frame)
    }
}

fn strip_tokens(mut answer: Answer) -> Answer {
    answer.model = None;
    for piece in &mut answer.pieces {
        piece.tokens.clear();
    }
    answer
}
