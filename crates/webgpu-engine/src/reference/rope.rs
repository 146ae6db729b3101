//! Rotary embeddings (Su and others, `RoFormer`): pairs of numbers of a head turn with the position.

use crate::model::Pairs;

pub use crate::model::Turns;

impl Turns {
    /// Turns one head: `(a, b) → (a·cos θ - b·sin θ, a·sin θ + b·cos θ)` for each pair. Numbers beyond the pairs stay as
    /// they are.
    pub fn turn(&self, position: usize, head: &mut [f32]) {
        let half = self.steps().len();
        let (first, second) = match self.pairs() {
            Pairs::Neighbours => (2, 1),
            Pairs::Halves => (1, half),
        };
        for (pair, step) in self.steps().iter().enumerate() {
            let [cos, sin] = self.angle(position, *step);
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
}
