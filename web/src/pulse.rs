//! Whether the other end of the connection still lives. The browser may take minutes to notice that it does not.
//!
//! ```text
//! heartbeat ──▶ heard since the last one? ─yes─▶ Ping
//!                       └─no──┐
//! page looked at, online ─────┴▶ Probe: a ping with a short deadline; silence until then is the end
//! ```

use std::time::Duration;

/// How long a relay that lives may take to answer.
pub const PROBE: Duration = Duration::from_secs(5);

/// What a socket reports.
#[derive(Debug)]
pub enum Signal {
    /// It is open.
    Opened,
    /// A text message.
    Text(String),
    /// A binary message.
    Bytes(Vec<u8>),
    /// Time to show that this end lives.
    Heartbeat,
    /// It ended, with the WebSocket's close code.
    Closed(u16),
}

/// What to do for the connection's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Send a ping; the next heartbeat sees whether something came.
    Ping,
    /// Send a ping, and after [`PROBE`] ask [`Pulse::is_silent_since`].
    Probe(Heard),
}

/// How much had been heard at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard(u64);

/// One socket's signs of life.
#[derive(Debug, Default)]
pub struct Pulse {
    open: bool,
    heard: Heard,
    /// At the last heartbeat.
    before: Option<Heard>,
}

impl Pulse {
    /// Takes in a signal. Only what the other end did is a sign of its life.
    pub fn notice(&mut self, signal: &Signal) -> Step {
        match signal {
            Signal::Opened => {
                self.open = true;
                self.heard.0 += 1;
                Step::Rest
            }
            Signal::Text(_) | Signal::Bytes(_) => {
                self.heard.0 += 1;
                Step::Rest
            }
            Signal::Heartbeat => {
                let silent = self.before.replace(self.heard) == Some(self.heard);
                // Not the end at once: a computer that wakes up may fire timers before it reads its sockets.
                if silent {
                    Step::Probe(self.heard)
                } else {
                    Step::Ping
                }
            }
            Signal::Closed(_) => {
                self.open = false;
                Step::Rest
            }
        }
    }

    /// There is a reason to doubt. A socket that is not open yet has its heartbeats.
    pub const fn doubt(&self) -> Step {
        if self.open {
            Step::Probe(self.heard)
        } else {
            Step::Rest
        }
    }

    /// Whether nothing has come since.
    pub fn is_silent_since(&self, then: Heard) -> bool {
        self.heard == then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Pulse {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.notice(&Signal::Opened), Step::Rest);
        pulse
    }

    fn pong() -> Signal {
        Signal::Text(protocol::PONG.to_owned())
    }

    fn probe(step: Step) -> Heard {
        let Step::Probe(then) = step else {
            panic!("{step:?} is no probe");
        };
        then
    }

    #[test]
    fn a_relay_that_answers_is_only_pinged() {
        let mut pulse = opened();
        for _ in 0..5 {
            assert_eq!(pulse.notice(&Signal::Heartbeat), Step::Ping);
            pulse.notice(&pong());
        }
        pulse.notice(&Signal::Heartbeat);
        pulse.notice(&Signal::Bytes(vec![1]));
        assert_eq!(pulse.notice(&Signal::Heartbeat), Step::Ping);
    }

    #[test]
    fn the_own_heartbeat_is_no_sign_of_life() {
        let mut pulse = opened();
        assert_eq!(pulse.notice(&Signal::Heartbeat), Step::Ping);
        let then = probe(pulse.notice(&Signal::Heartbeat));
        pulse.notice(&Signal::Heartbeat);
        assert!(pulse.is_silent_since(then));
    }

    #[test]
    fn an_answer_in_time_saves_the_connection() {
        let mut pulse = opened();
        let then = probe(pulse.doubt());
        assert!(pulse.is_silent_since(then));
        pulse.notice(&pong());
        assert!(!pulse.is_silent_since(then));
    }

    #[test]
    fn a_socket_that_never_opens_is_given_up_after_two_heartbeats() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.doubt(), Step::Rest);
        assert_eq!(pulse.notice(&Signal::Heartbeat), Step::Ping);
        let then = probe(pulse.notice(&Signal::Heartbeat));
        assert!(pulse.is_silent_since(then));
    }
}
