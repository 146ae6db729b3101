//! Behaviour of the whole session, on virtual time, against a relay and an engine played by the test.

mod chaos;
mod connecting;
mod keeping;
mod merging;
mod returning;
mod running;
mod stage;
