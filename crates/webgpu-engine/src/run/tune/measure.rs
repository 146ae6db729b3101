//! The tuning run: variants under a clock, one question after the other, each answered with what was found before.
//!
//! ```text
//! threads and rows of each shape ─▶ its reduction ─▶ what tiles are made of ─▶ what products are of
//! ```

use std::collections::BTreeMap;

use super::Tuning;
use crate::gpu::Recorder;
use crate::kernels::{Numbers, Step, Tile};
use crate::plan::{Choice, Kept, Phase, Shape, Tuned};
use crate::run::{Engine, RunError};

/// A variant must be this much faster than what would be taken without it: less is noise.
const GAIN_MIN: f64 = 0.03;

/// Tiles of halves must be this much faster, since they round weights and states to 11 bits.
const HALVES_GAIN_MIN: f64 = 0.08;

/// Products of whole numbers must be this much faster: rounded to 8 bits, about one position in forty finds another token
/// likeliest (top-1 97.7 %, docs/benchmarks.md).
const PACKED_GAIN_MIN: f64 = 0.15;

/// How often each is timed. The best counts, since everything else only slows it down.
const ROUNDS: u32 = 3;

/// The fastest variant of each shape so far, and its seconds.
type Best = BTreeMap<Shape, (Tuned, f64)>;

impl Engine {
    /// Times the variants of this model's kernels and takes the fastest, for the sessions that are begun from now on.
    /// Natively it takes a second or two on a card, and nothing where there is only one variant. `seconds` is a clock, of which only
    /// differences count.
    pub async fn tune(&mut self, seconds: impl Fn() -> f64) -> Result<Tuning, RunError> {
        if self.choice.candidates().is_empty() {
            return Ok(Tuning::default());
        }
        let kept = Kept::new(&self.gpu, self.config(), self.demand())?;
        let run = Run {
            engine: self,
            kept,
            seconds,
        };
        let tuning = run.tuning().await?;
        self.use_tuning(&tuning);
        Ok(tuning)
    }
}

struct Run<'e, S> {
    engine: &'e Engine,
    kept: Kept,
    seconds: S,
}

impl<S: Fn() -> f64> Run<'_, S> {
    async fn tuning(&self) -> Result<Tuning, RunError> {
        let mut choice = self.engine.choice.untuned();
        let best = self.best(&choice).await?;
        let differs = |(shape, (tuned, _)): (Shape, (Tuned, f64))| {
            (tuned != choice.default_of(shape.inputs)).then_some((shape, tuned))
        };
        let shapes: Vec<(Shape, Tuned)> = best.into_iter().filter_map(differs).collect();
        choice.tuned = shapes.iter().cloned().collect();
        Ok(Tuning {
            shapes,
            tile: self.tile(&choice).await?,
            numbers: self.numbers(&choice).await?,
        })
    }

    /// The variants of products.
    async fn best(&self, choice: &Choice) -> Result<Best, RunError> {
        let mut best = Best::new();
        self.try_all(choice, &mut best).await?;
        for candidate in choice.candidates() {
            let tried = Choice {
                every: Some(candidate),
                ..choice.clone()
            };
            self.try_all(&tried, &mut best).await?;
        }
        let others = best.iter().filter_map(|(shape, (tuned, _))| {
            let other = choice.other_reduce(*tuned)?;
            Some((shape.clone(), other))
        });
        let tuned: BTreeMap<Shape, Tuned> = others.collect();
        if !tuned.is_empty() {
            let tried = Choice {
                tuned,
                ..choice.clone()
            };
            self.try_all(&tried, &mut best).await?;
        }
        Ok(best)
    }

    /// Times all shapes with a choice and keeps what is faster.
    async fn try_all(&self, choice: &Choice, best: &mut Best) -> Result<(), RunError> {
        let phase = self.phase(choice, 1).await?;
        for shape in phase.shapes() {
            let took = self.time(1, |recorder, step| {
                phase.record_shape(recorder, step, &shape);
            });
            let took = took.await?;
            let tuned = choice.tuned_of(&shape);
            match best.get_mut(&shape) {
                Some((_, least)) if took >= *least * (1.0 - GAIN_MIN) => {}
                Some(faster) => *faster = (tuned, took),
                None => {
                    best.insert(shape, (tuned, took));
                }
            }
        }
        Ok(())
    }

    async fn tile(&self, choice: &Choice) -> Result<Tile, RunError> {
        let tokens = self.engine.demand().batch_tokens;
        let Some(other) = choice.other_tile(tokens) else {
            return Ok(choice.tile);
        };
        let mut took = [0.0; 2];
        for (took, tile) in took.iter_mut().zip([choice.tile, other]) {
            let tried = Choice {
                tile,
                ..choice.clone()
            };
            let phase = self.phase(&tried, tokens).await?;
            let tiles = |recorder: &mut Recorder<'_>, step: &Step| {
                phase.record_tiles(recorder, step);
            };
            *took = self.time(tokens, tiles).await?;
        }
        let [now, then] = took;
        Ok(if then < now * (1.0 - HALVES_GAIN_MIN) {
            other
        } else {
            choice.tile
        })
    }

    /// What products are of, where it is not what they are of now. Packed ones take the threads and rows that are best
    /// for floats.
    async fn numbers(&self, choice: &Choice) -> Result<Option<Numbers>, RunError> {
        let Some(other) = choice.other_numbers() else {
            return Ok(None);
        };
        let mut took = [0.0; 2];
        for (took, numbers) in took.iter_mut().zip([choice.numbers, other]) {
            let tried = Choice {
                numbers,
                ..choice.clone()
            };
            let phase = self.phase(&tried, 1).await?;
            let all = |recorder: &mut Recorder<'_>, step: &Step| phase.record(recorder, step);
            *took = self.time(1, all).await?;
        }
        let [now, then] = took;
        Ok((then < now * (1.0 - PACKED_GAIN_MIN)).then_some(other))
    }

    async fn phase(&self, choice: &Choice, tokens: u32) -> Result<Phase, RunError> {
        let engine = self.engine;
        let parts = (engine.config(), engine.demand(), &engine.weights);
        let buffers = (&engine.scratch, &self.kept);
        Ok(Phase::build(&engine.gpu, parts, buffers, (choice, tokens)).await?)
    }

    /// Seconds of what is recorded for a step of so many tokens, one dispatch after another as in an answer, so that no
    /// cache holds what they read.
    async fn time(
        &self,
        tokens: u32,
        record: impl Fn(&mut Recorder<'_>, &Step),
    ) -> Result<f64, RunError> {
        let gpu = &self.engine.gpu;
        let step = Step {
            tokens,
            output_tokens: 1,
            ..Step::default()
        };
        gpu.write(&self.engine.scratch.step, 0, &step.to_bytes());
        let mut least = f64::INFINITY;
        // The first round only warms up.
        for round in 0..=ROUNDS {
            gpu.finish().await?;
            let start = (self.seconds)();
            let mut recorder = gpu.record();
            record(&mut recorder, &step);
            recorder.submit();
            gpu.finish().await?;
            if round > 0 {
                least = least.min((self.seconds)() - start);
            }
        }
        Ok(least)
    }
}
