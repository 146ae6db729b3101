//! Behaviour of the whole scheduler, on virtual time. Each test drives a [`world::World`], which checks every invariant
//! after every input.

mod answering;
mod chaos;
mod checking;
mod connecting;
mod failing;
mod queueing;
mod submitting;
mod tiers;
mod world;
