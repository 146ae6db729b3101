//! Rotary embeddings (Su and others, `RoFormer`): pairs of numbers of a head turn with the position.

use crate::model::{Pairs, Rope, RopeScaling};

/// By how much the pairs of a head turn for each position.
#[derive(Debug, Clone, PartialEq)]
pub struct Turns {
    pairs: Pairs,
    /// In radians for a position, for each pair.
    steps: Vec<f64>,
    /// What the turned numbers are multiplied with.
    magnitude: f32,
}

/// Nothing that is divided by becomes zero (ggml's `rope_yarn_ramp`).
const RAMP_MIN: f64 = 0.001;

impl Turns {
    /// Pair `i` of `n/2` turns by `position · base^(-2i/n)`, divided by the pair's own factor where the file has factors
    /// (Llama 3.1), and stretched as [`RopeScaling`] says. Layers with a window have a base of their own and are not
    /// stretched.
    ///
    /// ggml multiplies from pair to pair in 32 bits. At position 2,000 its angles are off by some 10⁻⁴.
    pub fn new(rope: &Rope, has_window: bool, factors: Option<&[f32]>) -> Self {
        let (base, scaling) = if has_window {
            (rope.window_base, RopeScaling::None)
        } else {
            (rope.base, rope.scaling)
        };
        let dimensions = f64::from(rope.dimensions);
        let steps = (0..rope.dimensions / 2).zip(factors_of(factors));
        let steps = steps.map(|(pair, factor)| {
            let step = f64::from(base).powf(-2.0 * f64::from(pair) / dimensions);
            stretched(scaling, f64::from(base), (pair, dimensions)) * step / f64::from(factor)
        });
        Self {
            pairs: rope.pairs,
            steps: steps.collect(),
            magnitude: match scaling {
                RopeScaling::Yarn { magnitude, .. } => magnitude,
                RopeScaling::None | RopeScaling::Linear(_) => 1.0,
            },
        }
    }

    /// Turns one head: `(a, b) → (a·cos θ - b·sin θ, a·sin θ + b·cos θ)` for each pair. Numbers beyond the pairs stay as
    /// they are.
    pub fn turn(&self, position: usize, head: &mut [f32]) {
        let half = self.steps.len();
        let (first, second) = match self.pairs {
            Pairs::Neighbours => (2, 1),
            Pairs::Halves => (1, half),
        };
        for (pair, step) in self.steps.iter().enumerate() {
            let (sin, cos) = self.angle(position, *step);
            let (at, with) = (pair * first, pair * first + second);
            let (Some(one), Some(other)) = (head.get(at).copied(), head.get(with).copied()) else {
                return;
            };
            if let Some(place) = head.get_mut(at) {
                *place = one * cos - other * sin;
            }
            if let Some(place) = head.get_mut(with) {
                *place = one * sin + other * cos;
            }
        }
    }

    /// Sine and cosine, both multiplied with the magnitude.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "positions are below 2⁵³, and sine and cosine are used in 32 bits"
    )]
    fn angle(&self, position: usize, step: f64) -> (f32, f32) {
        let (sin, cos) = (position as f64 * step).sin_cos();
        (sin as f32 * self.magnitude, cos as f32 * self.magnitude)
    }
}

fn factors_of(factors: Option<&[f32]>) -> impl Iterator<Item = f32> {
    let given = factors.unwrap_or_default().iter().copied();
    given.chain(std::iter::repeat(1.0))
}

/// What a pair's angle is multiplied with. `YaRN` (Peng and others) in ggml's form: pairs that turn more than `beta_fast`
/// times over the first training's context keep their angle, those below `beta_slow` are divided, and between them the
/// share grows evenly with the pair's number.
fn stretched(scaling: RopeScaling, base: f64, (pair, dimensions): (u32, f64)) -> f64 {
    match scaling {
        RopeScaling::None => 1.0,
        RopeScaling::Linear(factor) => 1.0 / f64::from(factor),
        RopeScaling::Yarn {
            factor,
            original_context,
            beta_fast,
            beta_slow,
            magnitude: _,
        } => {
            let bound = |beta: f32| {
                let turns = f64::from(beta) * std::f64::consts::TAU;
                let context = f64::from(original_context);
                dimensions * (context / turns).ln() / (2.0 * base.ln())
            };
            let low = bound(beta_fast).floor().max(0.0);
            let high = bound(beta_slow).ceil().min(dimensions - 1.0);
            let ramp = (f64::from(pair) - low) / (high - low).max(RAMP_MIN);
            let kept = 1.0 - ramp.clamp(0.0, 1.0);
            (1.0 - kept) / f64::from(factor) + kept
        }
    }
}
