//! A node's brain: handshake, heartbeat, slots, resend buffer, drain; sans-IO.
