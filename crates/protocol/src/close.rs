//! WebSocket close codes of this protocol (the private range, RFC 6455 §7.4.2).

/// Why the relay closed a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// The relay goes away (deploy, restart): come back after a jittered pause. RFC 6455's own code.
    GoingAway = 1001,
    /// A frame that this direction does not have, or out of order.
    ProtocolError = 4000,
    /// No key, a wrong key, or a key for something else.
    Unauthorized = 4001,
    /// No `hello` in time.
    HelloTimeout = 4002,
    /// A frame over its limit.
    FrameTooLarge = 4003,
    /// Nothing heard from this peer for too long.
    HeartbeatLost = 4004,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the peer may come back as it is; otherwise somebody must mend something first.
    pub const fn may_retry(number: u16) -> bool {
        !matches!(number, 4000 | 4001 | 4003)
    }
}
