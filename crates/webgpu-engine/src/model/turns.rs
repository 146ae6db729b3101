//! By which angles pairs of numbers turn at a position, computed on the CPU: angles grow to thousands, and the sines of
//! some devices are wrong beyond a few turns.

use super::{Pairs, Rope, RopeScaling};

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

    /// Which two numbers of a head turn together.
    pub const fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// In radians for a position, for each pair.
    pub(crate) fn steps(&self) -> &[f64] {
        &self.steps
    }

    /// Cosine and sine of each pair, for so many tokens from a position on: what kernels read.
    pub fn table(&self, position: u32, tokens: u32) -> Vec<f32> {
        let tokens = (u64::from(position)..).zip(0..tokens);
        let places = tokens.filter_map(|(position, _)| usize::try_from(position).ok());
        let pairs = places.flat_map(|position| {
            let angle = move |step: &f64| self.angle(position, *step);
            self.steps.iter().flat_map(angle)
        });
        pairs.collect()
    }

    /// Cosine and sine, both multiplied with the magnitude.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "positions are below 2⁵³, and sine and cosine are used in 32 bits"
    )]
    pub(crate) fn angle(&self, position: usize, step: f64) -> [f32; 2] {
        let (sin, cos) = (position as f64 * step).sin_cos();
        [cos as f32 * self.magnitude, sin as f32 * self.magnitude]
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
