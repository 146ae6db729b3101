//! A short tuning run: which variant of the products runs fastest on this adapter, for the shapes of this model. What is
//! found can be kept as text and given to the next load on the same adapter.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Engine, RunError};
use crate::gpu::Gpu;
use crate::kernels::Step;
use crate::plan::{Choice, Kept, Phase, Shape, Tuned};

/// A variant must be this much faster than what would be taken without tuning: less is noise.
const GAIN_MIN: f64 = 0.03;

/// How often each is timed. The best counts, since everything else only slows it down.
const ROUNDS: u32 = 3;

/// The most shapes that a kept text may have; a model has five or six.
const SHAPES_MAX: usize = 64;

/// What a tuning run has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// The variant of each shape that is better than the default.
    pub shapes: Vec<(Shape, Tuned)>,
}

impl Tuning {
    /// For a file: a line for each shape.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (shape, tuned) in &self.shapes {
            let kinds: Vec<String> = shape.kinds.iter().map(u32::to_string).collect();
            // Writing into a text cannot fail.
            writeln!(
                text,
                "{} {} {} {} {}",
                kinds.join(","),
                shape.inputs,
                shape.rows,
                tuned.lanes,
                tuned.rows
            )
            .ok();
        }
        text
    }

    /// What [`Tuning::to_text`] gave; lines that mean nothing are left out, since a new tuning run mends it.
    pub fn from_text(text: &str) -> Self {
        let lines = text.lines().take(SHAPES_MAX);
        Self {
            shapes: lines.filter_map(line).collect(),
        }
    }
}

fn line(line: &str) -> Option<(Shape, Tuned)> {
    let mut words = line.split(' ');
    let kinds = words.next()?.split(',').map(|kind| kind.parse().ok());
    let kinds = kinds.collect::<Option<Vec<u32>>>()?;
    let mut number = || words.next()?.parse::<u32>().ok();
    let shape = Shape {
        kinds,
        inputs: number()?,
        rows: number()?,
    };
    let tuned = Tuned {
        lanes: number()?,
        rows: number()?,
    };
    Choice::is_known(tuned).then_some((shape, tuned))
}

impl Engine {
    /// Times the variants of this model's products and takes the fastest, for the sessions that are begun from now on.
    /// Takes about a second on a card and nothing where there is only one variant. `seconds` is a clock, of which only
    /// differences count.
    pub async fn tune(&mut self, seconds: impl Fn() -> f64) -> Result<Tuning, RunError> {
        let candidates = self.choice.candidates();
        if candidates.len() < 2 {
            return Ok(Tuning::default());
        }
        let kept = Kept::new(&self.gpu, self.config(), self.demand())?;
        let mut best: Vec<(Shape, Option<Tuned>, f64)> = Vec::new();
        for candidate in std::iter::once(None).chain(candidates.into_iter().map(Some)) {
            let mut choice = self.choice.clone();
            choice.every = candidate;
            let phase = self.decode_phase(&kept, &choice).await?;
            for shape in phase.shapes() {
                let took = time(&self.gpu, &phase, &shape, &seconds).await?;
                match best.iter_mut().find(|(known, ..)| *known == shape) {
                    None => best.push((shape, candidate, took)),
                    Some((_, tuned, least)) => {
                        if took < *least * (1.0 - GAIN_MIN) {
                            (*tuned, *least) = (candidate, took);
                        }
                    }
                }
            }
        }
        let found = best.into_iter();
        let shapes = found.filter_map(|(shape, tuned, _)| Some((shape, tuned?)));
        let tuning = Tuning {
            shapes: shapes.collect(),
        };
        self.use_tuning(&tuning);
        Ok(tuning)
    }

    /// Takes what an earlier run has found on this adapter, for the sessions that are begun from now on.
    pub fn use_tuning(&mut self, tuning: &Tuning) {
        self.choice.tuned = tuning.shapes.iter().cloned().collect();
    }

    async fn decode_phase(&self, kept: &Kept, choice: &Choice) -> Result<Phase, RunError> {
        let buffers = (&self.scratch, kept);
        let parts = (self.config(), self.demand(), &self.weights);
        Ok(Phase::decode(&self.gpu, parts, buffers, choice).await?)
    }
}

/// Seconds that all products of a shape take together, one after another as in a step, so that no cache holds them.
async fn time(
    gpu: &Arc<Gpu>,
    phase: &Phase,
    shape: &Shape,
    seconds: &impl Fn() -> f64,
) -> Result<f64, RunError> {
    let step = Step {
        tokens: 1,
        output_tokens: 1,
        ..Step::default()
    };
    let mut least = f64::INFINITY;
    // The first round only warms up.
    for round in 0..=ROUNDS {
        gpu.finish().await?;
        let start = seconds();
        let mut recorder = gpu.record();
        phase.record_shape(&mut recorder, &step, shape);
        recorder.submit();
        gpu.finish().await?;
        if round > 0 {
            least = least.min(seconds() - start);
        }
    }
    Ok(least)
}
