//! Behaviour of the whole session, on virtual time, against a relay and an engine played by the test.

mod chaos;
mod connecting;
mod running;
mod stage;
