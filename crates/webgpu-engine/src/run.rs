//! Running a model: loading it while its bytes arrive, sessions that share its weights, answers token by token.
//!
//! ```text
//! bytes ─▶ Loader ─▶ Engine ─▶ Session (keys and values) ─▶ Answer ─▶ tokens
//! conversation ─▶ Engine (template, tokens) ─▶ Session ─▶ TextAnswer ─▶ text, thoughts, calls
//! ```
//!
//! What it is not: it fetches nothing and keeps no text of anybody longer than a session.

mod answer;
mod engine;
mod error;
mod language;
mod load;
mod request;
mod session;
mod settings;
mod text;
mod tune;

pub use answer::{Answer, Drawn, Ended, LogProbabilities};
pub use engine::Engine;
pub use error::{LoadError, RunError};
pub use language::{Language, TextPrompt};
pub use load::{About, Loader, Progress};
pub use request::Request;
pub use session::Session;
pub use settings::Settings;
pub use text::{Cancel, Given, Seed, TextAnswer, TextEnded, TextError, TextPiece, TextRequest};
pub use tune::Tuning;

#[cfg(test)]
mod tests;
