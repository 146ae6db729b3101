//! Tests of the wire: golden frames, round trips, hostile bytes, evolution and limits.

mod answer;
mod asking;
mod evolution;
mod frames;
mod golden;
mod golden_frames;
mod ids_and_failures;
mod limits;
mod perturbed;
mod round_trip;
mod strategies;
mod transcript;
mod validation;
