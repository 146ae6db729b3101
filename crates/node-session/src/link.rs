//! The connection: dialling, greeting, heartbeat, back-off, draining, ending.

use protocol::{CloseCode, NodeToRelay};

use crate::{End, Millis, NodeSession, Output};

/// A relay that has not answered `hello` by then is not going to.
const WELCOME_MS_MAX: Millis = 15_000;

/// A connection that lasted this long was a good one: the next pause is short again. One that is welcomed and falls at
/// once is not, or a relay that falls at each welcome would be hammered.
const STEADY_MS: Millis = 1_000;

/// A normal end, RFC 6455 §7.4.1.
const NORMAL_CLOSURE: u16 = 1000;

/// Bounds for what the relay asks of the heartbeat: neither a flood nor forgotten by a proxy on the way.
const HEARTBEAT_MS: std::ops::RangeInclusive<Millis> = 1_000..=120_000;

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Until it is time to dial again.
    Waiting { until: Millis },
    /// The shell dials.
    Dialling,
    /// `hello` is sent.
    Greeting { by: Millis },
    /// The relay knows us.
    Up {
        since: Millis,
        heartbeat_ms: Millis,
        heard_at: Millis,
        /// An unanswered heartbeat.
        pinged_at: Option<Millis>,
    },
    /// Over.
    Ended,
}

impl NodeSession {
    /// Whether messages of and to the relay have a meaning now.
    pub(crate) const fn is_up(&self) -> bool {
        match self.link {
            Link::Up { .. } => true,
            Link::Waiting { .. } | Link::Dialling | Link::Greeting { .. } | Link::Ended => false,
        }
    }

    pub(crate) fn connected(&mut self) {
        if self.link != Link::Dialling {
            self.ignored += 1;
            return;
        }
        self.link = Link::Greeting {
            by: self.now.saturating_add(WELCOME_MS_MAX),
        };
        // Whatever was said of an earlier socket.
        self.outbox.is_busy = false;
        let announces = self.promise_announcements();
        let hello = self.config.hello(announces);
        self.send(&hello);
    }

    pub(crate) fn welcomed(&mut self, node: String, heartbeat_ms: Millis) {
        let Link::Greeting { .. } = self.link else {
            self.ignored += 1;
            return;
        };
        self.link = Link::Up {
            since: self.now,
            heartbeat_ms: heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end()),
            heard_at: self.now,
            pinged_at: None,
        };
        self.outputs.push_back(Output::Welcomed { node });
        self.announce_promised();
        self.tell_cached();
        if self.is_draining {
            self.send(&NodeToRelay::Draining);
        }
    }

    /// Says what the engine's cache holds, where it has said so.
    pub(crate) fn tell_cached(&mut self) {
        if let Some(prefixes) = self.cached.clone() {
            self.send(&NodeToRelay::Cached { prefixes });
        }
    }

    /// Anything heard answers the heartbeat.
    pub(crate) fn heard(&mut self) {
        if let Link::Up {
            heard_at,
            pinged_at,
            ..
        } = &mut self.link
        {
            *heard_at = self.now;
            *pinged_at = None;
        }
    }

    pub(crate) fn closed(&mut self, code: Option<u16>) {
        match self.link {
            Link::Dialling | Link::Greeting { .. } | Link::Up { .. } => {}
            Link::Waiting { .. } | Link::Ended => {
                self.ignored += 1;
                return;
            }
        }
        match code.filter(|code| self.is_final(*code)) {
            Some(code) => {
                self.detach_jobs();
                self.end(End::Refused { code });
            }
            None => self.lost(),
        }
    }

    /// Whether dialling again would be in vain.
    ///
    /// A relay that had welcomed us and then speaks of a protocol error may only have lost its memory in a crash, so that
    /// our running jobs mean nothing to it. A fresh connection mends that, and the pauses grow if it does not.
    fn is_final(&self, code: u16) -> bool {
        let is_key_refused = code == CloseCode::Unauthorized.number();
        is_key_refused || (!CloseCode::may_retry(code) && !self.is_up())
    }

    /// Comes back later, unless there is no need to.
    fn lost(&mut self) {
        if let Link::Up { since, .. } = self.link
            && self.now.saturating_sub(since) >= STEADY_MS
        {
            self.backoff.reset();
        }
        self.detach_jobs();
        let pause = self.backoff.next(&mut self.rng);
        self.link = Link::Waiting {
            until: self.now.saturating_add(pause),
        };
    }

    /// Gives up a connection that is open but no good.
    pub(crate) fn hang_up(&mut self, code: CloseCode) {
        self.outputs.push_back(Output::CloseSocket {
            code: code.number(),
        });
        self.lost();
    }

    pub(crate) fn drain(&mut self) {
        if self.is_draining || self.link == Link::Ended {
            return;
        }
        self.is_draining = true;
        if self.is_up() {
            self.send(&NodeToRelay::Draining);
        }
    }

    /// After a drain: ends once no job is left that anybody waits for, connected or not.
    pub(crate) fn end_if_drained(&mut self) {
        if !self.is_draining || self.jobs.values().any(|job| self.holds_up_drain(job)) {
            return;
        }
        match self.link {
            Link::Up { .. } | Link::Greeting { .. } => {
                self.flush_outbox();
                self.outputs.push_back(Output::CloseSocket {
                    code: NORMAL_CLOSURE,
                });
                self.end(End::Drained);
            }
            // A dial under way is given up: the shell ends with the session.
            Link::Waiting { .. } | Link::Dialling => self.end(End::Drained),
            Link::Ended => {}
        }
    }

    fn end(&mut self, end: End) {
        self.link = Link::Ended;
        self.jobs.clear();
        self.aliases.clear();
        self.outputs.push_back(Output::Exit(end));
    }

    pub(crate) fn tick_link(&mut self) {
        let Some(due) = self.link_due() else { return };
        if self.now < due {
            return;
        }
        match &mut self.link {
            Link::Waiting { .. } => {
                self.link = Link::Dialling;
                self.outputs.push_back(Output::Connect);
            }
            Link::Up {
                pinged_at: pinged @ None,
                ..
            } => {
                *pinged = Some(self.now);
                self.send_ping();
            }
            Link::Greeting { .. } | Link::Up { .. } => self.hang_up(CloseCode::HeartbeatLost),
            Link::Dialling | Link::Ended => {}
        }
    }

    /// When the connection needs [`crate::Input::Tick`].
    ///
    /// A heartbeat is due when nothing was sent for as long as the relay asks, and also when nothing was *heard*: a node
    /// that streams into a dead connection must find out too.
    pub(crate) fn link_due(&self) -> Option<Millis> {
        match self.link {
            Link::Waiting { until } => Some(until),
            Link::Greeting { by } => Some(by),
            Link::Up {
                heartbeat_ms,
                heard_at,
                pinged_at,
                ..
            } => {
                let since = pinged_at.unwrap_or_else(|| self.sent_at.min(heard_at));
                Some(since.saturating_add(heartbeat_ms))
            }
            Link::Dialling | Link::Ended => None,
        }
    }
}
