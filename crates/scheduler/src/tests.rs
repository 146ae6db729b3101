//! Behaviour of the whole scheduler, on virtual time. Each test drives a [`world::World`], which checks every invariant
//! after every input.

mod announcing;
mod answering;
mod chaos;
mod checking;
mod connecting;
mod continuing;
mod failing;
mod fairness;
mod flowing;
mod queueing;
mod resuming;
mod submitting;
mod tiers;
mod trust;
mod world;
