//! What a case has shown.

use std::time::Duration;

use serde_json::{Value, json};

use super::Case;
use super::produced::Produced;
use super::round::Outcome;
use super::scene::Scene;

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
    attempts: Vec<usize>,
    answers: Vec<(u32, String, String)>,
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
        }
    }

    /// Takes in a round.
    pub(super) fn take(&mut self, number: u32, outcome: Outcome) {
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
        match outcome.job {
            Some(job) => self.answers.push((number, job, outcome.text)),
            None => self
                .faults
                .push(format!("round {number}: nobody knows its job's id")),
        }
    }

    /// Compares every answer with what the rigs say that they produced.
    pub(super) fn read_produced(&mut self, scene: &Scene) {
        let produced = Produced::read(&scene.logged());
        for (number, job, text) in std::mem::take(&mut self.answers) {
            match produced.attempts_behind(&job, &text) {
                Ok(attempts) => self.attempts.push(attempts),
                Err(fault) => self
                    .faults
                    .push(format!("round {number}: job {job}: {fault}")),
            }
        }
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
            text.push_str(&format!(
                "  the same to the byte as the unbroken answer: {} of {}\n",
                self.twins_alike, self.twins
            ));
        }
        for fault in &self.faults {
            text.push_str(&format!("  FAULT {fault}\n"));
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
