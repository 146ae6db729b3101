//! What is known of this rig right now: written by the shell, read by the server.
//!
//! Counts only: no text, no names of users, no job ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node_session::{EngineEvent, JobKey};
use protocol::{MeasuredSpeed, Usage};
use serde_json::{Value, json};

mod fetching;

pub use fetching::{Fetching, Step, Watch};

/// How far the rig is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It gets the model's file.
    Fetching,
    /// It loads the model and tests it.
    Loading,
    /// It looks for its relay.
    Connecting,
    /// The relay has it, and gives it jobs.
    Ready,
    /// It takes no more jobs and ends when those that run have.
    Draining,
    /// It cannot go on, and says why.
    Broken,
    /// The rig before it died in mid-work: it lets some time pass.
    Waiting,
}

/// The longest reason that is told: a few sentences, with a path or two.
const REASON_CHARS_MAX: usize = 600;

impl State {
    const ALL: [Self; 7] = [
        Self::Fetching,
        Self::Loading,
        Self::Connecting,
        Self::Ready,
        Self::Draining,
        Self::Broken,
        Self::Waiting,
    ];

    /// The word that is told.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Loading => "loading",
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Broken => "broken",
            Self::Waiting => "waiting",
        }
    }
}

/// What does not change once the model is loaded.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Catalog id.
    pub model: String,
    /// Jobs at once.
    pub slots: u32,
    /// Tokens of prompt and answer together.
    pub context_tokens: u32,
    /// Bytes of the weights.
    pub model_bytes: u64,
    /// What the self-test measured.
    pub measured: Option<MeasuredSpeed>,
}

#[derive(Debug)]
struct Numbers {
    state: State,
    /// How far a download is, while one goes on.
    fetching: Option<Fetching>,
    /// Why it is broken, or waits; one line.
    reason: Option<String>,
    facts: Facts,
    running: HashMap<JobKey, Accepted>,
    connections: u64,
    finished: u64,
    failed: u64,
    cancelled: u64,
    steps: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    completion_tokens: u64,
}

/// A job whose prompt is known.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    prompt_tokens: u32,
}

/// The board; clones show the same.
#[derive(Debug, Clone)]
pub struct Board(Arc<Mutex<Numbers>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Numbers {
            state: State::Fetching,
            fetching: None,
            reason: None,
            facts: Facts::default(),
            running: HashMap::new(),
            connections: 0,
            finished: 0,
            failed: 0,
            cancelled: 0,
            steps: 0,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
        })))
    }
}

impl Board {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // Numbers are whole after every change, so that a panic elsewhere harms none.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rig is this far now. What drains or is broken stays so.
    pub fn set_state(&self, state: State) {
        let mut numbers = self.numbers();
        let is_last_word = match numbers.state {
            State::Draining => state != State::Broken,
            State::Broken => true,
            State::Fetching
            | State::Loading
            | State::Connecting
            | State::Ready
            | State::Waiting => false,
        };
        if !is_last_word {
            numbers.fetching = None;
            numbers.reason = None;
            if state == State::Ready {
                numbers.connections += 1;
            }
            numbers.state = state;
        }
    }

    /// How far a download is.
    pub fn set_fetching(&self, fetching: Fetching) {
        let mut numbers = self.numbers();
        if numbers.state == State::Fetching {
            numbers.fetching = Some(fetching);
        }
    }

    /// The rig cannot go on. The first reason stays: what comes after it follows from it.
    pub fn set_broken(&self, why: &str) {
        let is_known = self.state() == State::Broken;
        self.set_state(State::Broken);
        if !is_known {
            self.numbers().reason = Some(one_line(why));
        }
    }

    /// A rig that was broken for a while tries again from the start.
    pub fn begin_anew(&self) {
        let mut numbers = self.numbers();
        numbers.reason = None;
        numbers.state = State::Fetching;
    }

    /// The rig lets some time pass before it begins.
    pub fn set_waiting(&self, why: &str) {
        self.set_state(State::Waiting);
        self.numbers().reason = Some(one_line(why));
    }

    /// How far it is in one line that begins with its word: `ready`, `fetching: …`, `broken: …`.
    pub fn says(&self) -> String {
        let numbers = self.numbers();
        let word = numbers.state.word();
        let more = numbers.reason.clone();
        match more.or_else(|| Some(numbers.fetching.as_ref()?.line())) {
            Some(more) => format!("{word}: {more}"),
            None => word.to_owned(),
        }
    }

    /// The same for a program.
    pub fn json(&self) -> Value {
        let numbers = self.numbers();
        let mut says = json!({ "status": numbers.state.word() });
        if let (Some(fetching), Some(says)) = (&numbers.fetching, says.as_object_mut()) {
            says.insert("fetching".to_owned(), fetching.fields());
        }
        if let (Some(reason), Some(says)) = (&numbers.reason, says.as_object_mut()) {
            says.insert("reason".to_owned(), reason.clone().into());
        }
        says
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.numbers().state
    }

    /// What was loaded.
    pub fn set_facts(&self, facts: Facts) {
        self.numbers().facts = facts;
    }

    /// Counts what the engine says.
    pub fn engine_said(&self, event: &EngineEvent) {
        let mut numbers = self.numbers();
        match event {
            EngineEvent::Accepted {
                key, prompt_tokens, ..
            } => {
                let prompt_tokens = *prompt_tokens;
                numbers.running.insert(*key, Accepted { prompt_tokens });
            }
            EngineEvent::Step(advances) => {
                numbers.steps += 1;
                let tokens: usize = advances.iter().map(|advance| advance.tokens.len()).sum();
                numbers.completion_tokens += u64::try_from(tokens).unwrap_or(0);
            }
            EngineEvent::Finished { key, usage, .. } => {
                numbers.finished += 1;
                numbers.end(*key, Some(*usage));
            }
            EngineEvent::Failed { key, .. } => {
                numbers.failed += 1;
                numbers.end(*key, None);
            }
            EngineEvent::Cancelled { key, usage } => {
                numbers.cancelled += 1;
                numbers.end(*key, Some(*usage));
            }
            EngineEvent::Progress { .. } | EngineEvent::Checked { .. } | EngineEvent::Cached(_) => {
            }
        }
    }

    /// Everything in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.numbers().metrics()
    }
}

impl Numbers {
    fn end(&mut self, key: JobKey, usage: Option<Usage>) {
        let Some(accepted) = self.running.remove(&key) else {
            return;
        };
        self.prompt_tokens += u64::from(accepted.prompt_tokens);
        let cached = usage.map_or(0, |usage| usage.cached_tokens);
        self.cached_tokens += u64::from(cached);
    }

    fn metrics(&self) -> String {
        let mut text = self.labelled();
        let facts = &self.facts;
        let running = u64::try_from(self.running.len()).unwrap_or(0);
        let speed = facts.measured;
        let (prefill, decode) = (
            speed.map_or(0, |speed| speed.prefill_tokens_per_second),
            speed.map_or(0, |speed| speed.decode_tokens_per_second),
        );
        #[rustfmt::skip]
        let plain: [(&str, &str, &str, u64); 11] = [
            ("gauge", "jobs_running", "Jobs that are answered now.", running),
            ("gauge", "slots", "Jobs at once.", facts.slots.into()),
            ("gauge", "context_tokens", "Tokens of a slot.", facts.context_tokens.into()),
            ("gauge", "model_bytes", "Weights, in bytes.", facts.model_bytes),
            ("gauge", "selftest_prefill_tokens_per_second", "Measured at the start; 0 where it was not.", prefill.into()),
            ("gauge", "selftest_decode_tokens_per_second", "Measured at the start; 0 where it was not.", decode.into()),
            ("counter", "connections_total", "Times that a relay took the rig in.", self.connections),
            ("counter", "steps_total", "Decode steps that gave tokens.", self.steps),
            ("counter", "prompt_tokens_total", "Tokens of ended jobs' prompts.", self.prompt_tokens),
            ("counter", "cached_tokens_total", "Those of them that were in the cache.", self.cached_tokens),
            ("counter", "completion_tokens_total", "Tokens told.", self.completion_tokens),
        ];
        for (kind, name, help, value) in plain {
            metric(&mut text, kind, name, help, &[(String::new(), value)]);
        }
        text
    }

    /// What has several values.
    fn labelled(&self) -> String {
        let mut text = String::new();
        let model = escaped(&self.facts.model);
        let version = env!("CARGO_PKG_VERSION");
        let labels = format!("{{model=\"{model}\",version=\"{version}\"}}");
        let info = [(labels, 1)];
        metric(&mut text, "gauge", "info", "What runs here.", &info);
        let states = State::ALL.map(|state| {
            let labels = format!("{{state=\"{}\"}}", state.word());
            (labels, u64::from(state == self.state))
        });
        let help = "How far the rig is: 1 for one of them.";
        metric(&mut text, "gauge", "state", help, &states);
        if let Some(reason) = &self.reason {
            let labels = format!("{{reason=\"{}\"}}", escaped(reason));
            let help = "Why it is broken, or waits.";
            metric(&mut text, "gauge", "trouble", help, &[(labels, 1)]);
        }
        let ends = [
            ("finished", self.finished),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
        ]
        .map(|(outcome, count)| (format!("{{outcome=\"{outcome}\"}}"), count));
        metric(
            &mut text,
            "counter",
            "jobs_total",
            "Jobs that ended.",
            &ends,
        );
        text
    }
}

fn metric(text: &mut String, kind: &str, name: &str, help: &str, values: &[(String, u64)]) {
    let name = format!("heliograph_rig_{name}");
    text.extend([
        "# HELP ",
        &name,
        " ",
        help,
        "\n# TYPE ",
        &name,
        " ",
        kind,
        "\n",
    ]);
    for (labels, value) in values {
        text.extend([&name, labels, " ", &value.to_string(), "\n"]);
    }
}

/// A reason as one line of bounded length; errors may have several.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(REASON_CHARS_MAX).collect()
}

/// A label's value, as the format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use protocol::FinishReason;

    use super::*;

    fn line(board: &Board, name: &str) -> Option<String> {
        let text = board.metrics();
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.map(|rest| rest.trim().to_owned())
    }

    #[test]
    fn jobs_and_tokens_are_counted_once() {
        let board = Board::default();
        let key = JobKey(3);
        board.engine_said(&EngineEvent::Accepted {
            key,
            prompt_tokens: 40,
            context_tokens: 512,
        });
        assert_eq!(
            line(&board, "heliograph_rig_jobs_running ").as_deref(),
            Some("1")
        );
        let usage = Usage {
            prompt_tokens: 40,
            completion_tokens: 2,
            cached_tokens: 30,
        };
        let finished = EngineEvent::Finished {
            key,
            finish_reason: FinishReason::Stop,
            usage,
        };
        board.engine_said(&finished);
        for (name, value) in [
            ("heliograph_rig_jobs_running ", "0"),
            ("heliograph_rig_prompt_tokens_total ", "40"),
            ("heliograph_rig_cached_tokens_total ", "30"),
            ("heliograph_rig_jobs_total{outcome=\"finished\"} ", "1"),
        ] {
            assert_eq!(line(&board, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn what_drains_does_not_become_ready_again_and_what_is_broken_stays_so() {
        let board = Board::default();
        board.set_state(State::Ready);
        board.set_state(State::Draining);
        board.set_state(State::Connecting);
        assert_eq!(board.state(), State::Draining);
        board.set_state(State::Broken);
        board.set_state(State::Draining);
        assert_eq!(board.state(), State::Broken);
        let state = "heliograph_rig_state{state=\"broken\"} ";
        assert_eq!(line(&board, state).as_deref(), Some("1"));
    }

    #[test]
    fn what_is_broken_says_why_in_one_line() {
        let board = Board::default();
        board.set_waiting("it died");
        assert_eq!(board.says(), "waiting: it died");
        board.set_state(State::Loading);
        assert_eq!(board.says(), "loading");
        board.set_broken("the file is\n\"wrong\"");
        board.set_broken("and the engine is gone");
        assert_eq!(board.says(), "broken: the file is \"wrong\"");
        let reason = "heliograph_rig_trouble{reason=\"the file is \\\"wrong\\\"\"} ";
        assert_eq!(line(&board, reason).as_deref(), Some("1"));
    }

    #[test]
    fn labels_cannot_break_out_of_their_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
