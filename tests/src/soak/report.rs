//! What a case has shown.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::Case;
use super::perplexity::{Sample, perplexity};
use super::produced::Produced;
use super::round::Outcome;
use super::scene::Scene;

/// How far the perplexity of continuations may be from that of unbroken answers.
const PERPLEXITY_SHARE_MAX: f64 = 0.1;

/// Fewer samples than this say nothing about a perplexity.
const SAMPLES_MIN: usize = 30;

/// What a case has shown.
#[derive(Debug)]
pub struct Report {
    case: Case,
    seed: u64,
    /// How often the blow fell in mid-answer.
    pub kills: u32,
    /// What was wrong, in words. Empty if all holds.
    pub faults: Vec<String>,
    /// How long it all took.
    pub took: Duration,
    pauses_ms: Vec<u64>,
    usual_ms: Vec<u64>,
    twins: u32,
    twins_alike: u32,
    /// Of each answer that was proved, by how many attempts.
    attempts: Vec<usize>,
    answers: Vec<(u32, Outcome)>,
    /// What was written after a blow, and in its place undisturbed.
    continued: Vec<Sample>,
    unbroken: Vec<Sample>,
    perplexities: Option<(f64, f64)>,
}

impl Report {
    pub(super) const fn new(case: Case, seed: u64) -> Self {
        Self {
            case,
            seed,
            kills: 0,
            faults: Vec::new(),
            took: Duration::ZERO,
            pauses_ms: Vec::new(),
            usual_ms: Vec::new(),
            twins: 0,
            twins_alike: 0,
            attempts: Vec::new(),
            answers: Vec::new(),
            continued: Vec::new(),
            unbroken: Vec::new(),
            perplexities: None,
        }
    }

    /// Takes in a round.
    pub(super) fn take(&mut self, number: u32, outcome: Outcome) {
        if outcome.job.is_none() && !outcome.struck && outcome.faults.is_empty() {
            // Nothing was asked.
            return;
        }
        if outcome.struck {
            self.kills += 1;
            self.pauses_ms.extend(outcome.pause_ms);
            self.usual_ms.extend(outcome.usual_ms);
        }
        if let Some(twin) = &outcome.twin
            && outcome.struck
        {
            self.twins += 1;
            self.twins_alike += u32::from(*twin == outcome.text);
        }
        let faults = outcome.faults.iter();
        self.faults
            .extend(faults.map(|fault| format!("round {number}: {fault}")));
        self.answers.push((number, outcome));
    }

    /// Compares every answer with what the rigs say that they produced.
    pub(super) fn read_produced(&mut self, scene: &Scene) {
        let produced = Produced::read(&scene.logged());
        for (number, outcome) in std::mem::take(&mut self.answers) {
            let Some(job) = &outcome.job else {
                self.faults
                    .push(format!("round {number}: nobody knows its job's id"));
                continue;
            };
            match produced.attempts_behind(job, &outcome.text) {
                Ok(begins) => {
                    self.attempts.push(begins.len());
                    self.compare(outcome, &begins);
                }
                Err(fault) => self
                    .faults
                    .push(format!("round {number}: job {job}: {fault}")),
            }
        }
    }

    /// Keeps what a second attempt wrote, and what an undisturbed one wrote from that byte on.
    fn compare(&mut self, outcome: Outcome, begins: &[usize]) {
        let (Some(twin), [_, from, ..]) = (outcome.twin, begins) else {
            return;
        };
        let sample = |text: String| Sample {
            request: outcome.request.clone(),
            from: *from,
            text,
        };
        if outcome.text.len() > *from && twin.len() > *from {
            self.continued.push(sample(outcome.text));
            self.unbroken.push(sample(twin));
        }
    }

    /// Asks the model how likely it finds both.
    pub(super) fn judge_likelihood(&mut self, scene: &Scene) -> Result<()> {
        if self.continued.is_empty() {
            return Ok(());
        }
        let continued = perplexity(&scene.network, &self.continued)?;
        let unbroken = perplexity(&scene.network, &self.unbroken)?;
        self.perplexities = Some((continued, unbroken));
        let differs = (continued / unbroken - 1.0).abs() > PERPLEXITY_SHARE_MAX;
        if differs && self.continued.len() >= SAMPLES_MIN {
            self.faults.push(format!(
                "the perplexity of what was continued is {continued:.3}, unbroken it is {unbroken:.3}"
            ));
        }
        Ok(())
    }

    /// For a person.
    pub fn text(&self) -> String {
        let (median, max) = middle_and_max(&self.pauses_ms);
        let (usual, _) = middle_and_max(&self.usual_ms);
        let continued = self
            .attempts
            .iter()
            .filter(|attempts| **attempts > 1)
            .count();
        let mut text = format!(
            "{}: {} kills, {} answers agree with what rigs logged ({continued} by several attempts), {} faults\n\
             \x20 pause that the user saw: median {median} ms, longest {max} ms (between tokens otherwise: {usual} ms)\n",
            self.case.name,
            self.kills,
            self.attempts.len(),
            self.faults.len(),
        );
        if self.twins > 0 {
            let (alike, twins) = (self.twins_alike, self.twins);
            _ = writeln!(
                text,
                "  the same to the byte as the unbroken answer: {alike} of {twins}"
            );
        }
        if let Some((continued, unbroken)) = self.perplexities {
            let count = self.continued.len();
            _ = writeln!(
                text,
                "  perplexity of {count} continuations: {continued:.3}, of the same places unbroken: {unbroken:.3}"
            );
        }
        for fault in &self.faults {
            _ = writeln!(text, "  FAULT {fault}");
        }
        text
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let (median, max) = middle_and_max(&self.pauses_ms);
        json!({
            "case": self.case.name,
            "seed": self.seed,
            "kills": self.kills,
            "answers_proved": self.attempts.len(),
            "pause_ms_median": median,
            "pause_ms_max": max,
            "pauses_ms": self.pauses_ms,
            "twins": self.twins,
            "twins_alike": self.twins_alike,
            "continuations": self.continued.len(),
            "perplexity_continued": self.perplexities.map(|(continued, _)| continued),
            "perplexity_unbroken": self.perplexities.map(|(_, unbroken)| unbroken),
            "faults": self.faults,
            "seconds": self.took.as_secs(),
        })
    }
}

fn middle_and_max(all: &[u64]) -> (u64, u64) {
    let mut sorted = all.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    (middle, sorted.last().copied().unwrap_or(0))
}
