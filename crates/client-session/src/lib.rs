//! A client's brain: submits jobs, puts what comes back in order, acknowledges, cancels, and takes its jobs up again on
//! a new connection after each loss. Shared by the chat page and the Worker's HTTP front. Sans-IO: the caller owns the
//! socket and the clock.
//!
//! ```text
//! user's wish ─┐                      ┌─▶ Output::Connect  open a new socket, let go of the old one
//! socket text ─┼─▶ handle_input(now) ─┼─▶ Output::Send     text for the socket
//! socket bytes ┤                      └─▶ Output::Event    what happened to a job
//! clock ───────┘ Input::Tick at poll_timeout()
//! ```
//!
//! Invariant: after every [`ClientSession::handle_input`], drain [`ClientSession::poll_output`] until `None`, then wait
//! until [`ClientSession::poll_timeout`] at most. The deltas of one job, joined, are its answer: in order, no byte twice,
//! whatever happened to connections, nodes and the relay meanwhile.

mod job;
mod pause;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use protocol::{
    Alias, ClientToRelay, CloseCode, DeltaKind, ErrorCode, Failure, FinishReason, JobId,
    JobRequest, NodeClass, Speed, Usage, WaitRange, encode,
};

use crate::job::Job;
use crate::pause::Pause;

/// Milliseconds of the caller's monotonic clock.
pub type Millis = u64;

/// A try that has not been welcomed by then has failed: some networks swallow a connection without a word.
const OPEN_MS_MAX: Millis = 15_000;

/// How a session behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Any number, another one in each session: pauses are drawn with it.
    pub seed: u64,
    /// Whether it comes back even when no job is under way, as a page does that somebody looks at.
    pub stays: bool,
    /// A job is given up at the first failed try after this long without a connection.
    pub give_up_ms: Millis,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The socket is open. The first one is the caller's to open; each later one follows an [`Output::Connect`].
    Connected {
        /// An API key, `hg-…`, where the upgrade request could not carry it.
        key: Option<String>,
    },
    /// A text message came.
    Text(&'a str),
    /// A binary message came.
    Binary(&'a [u8]),
    /// The socket ended, or could not be opened.
    Closed {
        /// The WebSocket's close code; 1006 where there was none. After some of them nobody need come back
        /// ([`CloseCode::may_retry`]): every job is interrupted.
        code: u16,
    },
    /// Time has passed; see [`ClientSession::poll_timeout`].
    Tick,
    /// A try is worth it now: the network is back, or somebody looks.
    Hurry,
    /// The user asks. Without a connection the job waits for one.
    Submit {
        /// 128 random bits.
        job: JobId,
        /// A model or tier id.
        model: String,
        /// What to answer.
        request: Box<JobRequest>,
    },
    /// The user stops a job. Without a connection it ends here at once with `cancelled`; the relay hears of it on the
    /// next connection, if there is one, and else by the client's absence.
    Cancel {
        /// Which.
        job: JobId,
    },
}

/// What the caller has to do.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Open a new socket; the old one, if there still is one, counts no more.
    Connect,
    /// Send this text.
    Send(String),
    /// The relay knows this client; it may submit.
    Welcomed {
        /// Who the relay takes it for.
        account: String,
    },
    /// The relay did not understand a frame that names no job.
    Refused(Failure),
    /// Something happened to a job.
    Event {
        /// Which.
        job: JobId,
        /// What.
        event: Event,
    },
}

/// What happened to a job. `Completed`, `Failed` and `Interrupted` are last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It waits. Also in mid-answer, when its node was lost and the next one has yet to go on.
    Queued {
        /// The model it waits for.
        model: String,
        /// Place in line, 1 is next.
        position: u32,
        /// Nodes that offer the model.
        nodes: u32,
        /// How long it may take; absent while nothing is known.
        wait: Option<WaitRange>,
    },
    /// A node has it. What it sends goes on where the deltas until now end.
    Assigned {
        /// The model that answers.
        model: String,
        /// The node's public name.
        node: String,
        /// What kind of node it is.
        class: NodeClass,
    },
    /// The prompt fits; the answer follows.
    Started {
        /// The rendered prompt's length.
        prompt_tokens: u32,
        /// What the node has room for.
        context_tokens: u32,
    },
    /// The answer grew.
    Delta {
        /// What the text is.
        kind: DeltaKind,
        /// What came.
        text: String,
        /// Tokens that it stands for, as far as they can be told.
        token_count: u32,
    },
    /// The connection was lost; the job is taken up again on the next one. Said once for each loss. Whatever event
    /// comes next says that it goes on.
    Reconnecting,
    /// The answer is whole.
    Completed {
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
        /// How fast it came.
        speed: Speed,
    },
    /// It broke or was refused.
    Failed(Failure),
    /// The connection did not come back in time, or the stream has a hole that cannot be mended.
    Interrupted,
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The caller opens the next socket, or nobody does.
    Idle,
    /// A socket is being opened, or is open and not yet welcomed.
    Opening { since: Millis },
    /// Jobs can be sent.
    Welcomed,
    /// Lost; the next try comes then.
    Resting { until: Millis },
}

/// One client's jobs, over as many connections as it takes.
#[derive(Debug)]
pub struct ClientSession {
    settings: Settings,
    line: Line,
    pause: Pause,
    jobs: BTreeMap<JobId, Job>,
    aliases: BTreeMap<Alias, JobId>,
    /// Stopped without a connection: the relay has yet to hear of it.
    withdrawn: Vec<(JobId, Job)>,
    outputs: VecDeque<Output>,
    ignored: u64,
}

impl ClientSession {
    /// A session without jobs, whose caller opens the first socket.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            line: Line::Idle,
            pause: Pause::new(settings.seed),
            jobs: BTreeMap::new(),
            aliases: BTreeMap::new(),
            withdrawn: Vec::new(),
            outputs: VecDeque::new(),
            ignored: 0,
        }
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Millis, input: Input<'_>) {
        match input {
            Input::Connected { key } => self.open(now, key),
            Input::Text(text) => self.handle_text(text),
            Input::Binary(frame) => self.handle_tokens(now, frame),
            Input::Closed { code } if CloseCode::may_retry(code) => self.lose(now),
            Input::Closed { code: _ } => self.end(),
            Input::Tick => self.tick(now),
            Input::Hurry => {
                if let Line::Resting { .. } = self.line {
                    self.connect(now);
                }
            }
            Input::Submit {
                job,
                model,
                request,
            } => {
                self.jobs.insert(job, Job::new(model, *request));
                if self.line == Line::Welcomed {
                    self.present(job);
                }
            }
            Input::Cancel { job } => self.cancel(job),
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Tick`] at the latest, if ever.
    pub fn poll_timeout(&self) -> Option<Millis> {
        match self.line {
            Line::Opening { since } => Some(since.saturating_add(OPEN_MS_MAX)),
            Line::Resting { until } if self.wants_line() => Some(until),
            Line::Idle | Line::Welcomed | Line::Resting { .. } => None,
        }
    }

    /// Whether a job is under way.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Frames that were not understood or named no job of ours.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    fn wants_line(&self) -> bool {
        self.settings.stays || self.is_busy()
    }

    fn open(&mut self, now: Millis, key: Option<String>) {
        if !matches!(self.line, Line::Opening { .. }) {
            self.line = Line::Opening { since: now };
        }
        if key.is_some() {
            self.send(&ClientToRelay::Hello { key });
        }
    }

    fn connect(&mut self, now: Millis) {
        self.line = Line::Opening { since: now };
        self.outputs.push_back(Output::Connect);
    }

    fn tick(&mut self, now: Millis) {
        match self.line {
            Line::Resting { until } if now >= until && self.wants_line() => self.connect(now),
            Line::Opening { since } if now.saturating_sub(since) >= OPEN_MS_MAX => self.lose(now),
            Line::Idle | Line::Welcomed | Line::Resting { .. } | Line::Opening { .. } => {}
        }
    }

    /// The connection is gone and comes again.
    fn lose(&mut self, now: Millis) {
        if let Line::Resting { .. } = self.line {
            return;
        }
        let until = now.saturating_add(self.pause.next());
        self.line = Line::Resting { until };
        self.aliases.clear();
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            job.alias = None;
            if job.is_cancelled {
                self.withdraw(id);
                continue;
            }
            match job.lost_at {
                None => {
                    job.lost_at = Some(now);
                    self.tell(id, Event::Reconnecting);
                }
                // Judged only when a try has failed: a page that slept for an hour gets one first.
                Some(since) if now.saturating_sub(since) >= self.settings.give_up_ms => {
                    self.finish(id, Event::Interrupted);
                }
                Some(_) => {}
            }
        }
    }

    /// The connection is gone for good.
    fn end(&mut self) {
        self.line = Line::Idle;
        self.withdrawn.clear();
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.finish(id, Event::Interrupted);
        }
    }

    fn welcome(&mut self, account: String) {
        let was_welcomed = std::mem::replace(&mut self.line, Line::Welcomed) == Line::Welcomed;
        self.outputs.push_back(Output::Welcomed { account });
        if was_welcomed {
            return;
        }
        self.pause.reset();
        for (id, job) in std::mem::take(&mut self.withdrawn) {
            // Only the owner may cancel: it is taken over first.
            if let Some(frame) = job.takeover(id) {
                self.outputs.push_back(Output::Send(frame));
                self.send(&ClientToRelay::Cancel { job: id });
            }
        }
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.present(id);
        }
    }

    /// Submits or resumes.
    fn present(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match job.presentation(id) {
            Some(frame) => self.outputs.push_back(Output::Send(frame)),
            None => self.finish(id, Event::Interrupted),
        }
    }

    fn cancel(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if self.line == Line::Welcomed {
            job.is_cancelled = true;
            self.send(&ClientToRelay::Cancel { job: id });
        } else {
            self.withdraw(id);
        }
    }

    fn withdraw(&mut self, id: JobId) {
        let failure = Failure::new(ErrorCode::Cancelled, "the answer was stopped");
        self.tell(id, Event::Failed(failure));
        if let Some(job) = self.jobs.remove(&id)
            && job.ticket.is_some()
        {
            self.withdrawn.push((id, job));
        }
    }

    fn send(&mut self, message: &ClientToRelay) {
        self.outputs.push_back(Output::Send(encode(message)));
    }

    fn tell(&mut self, job: JobId, event: Event) {
        if self.jobs.contains_key(&job) {
            self.outputs.push_back(Output::Event { job, event });
        } else {
            self.ignored += 1;
        }
    }

    fn finish(&mut self, job: JobId, event: Event) {
        self.tell(job, event);
        if let Some(alias) = self.jobs.remove(&job).and_then(|job| job.alias) {
            self.aliases.remove(&alias);
        }
    }
}
