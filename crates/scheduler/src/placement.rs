//! Who gets a job: weighted random over the nodes with a free slot.
//!
//! A sum tree gives O(log n) for joining, leaving, a new weight and a choice. Sums are always added up from below and
//! never corrected in place, so that no rounding error gathers and a seed replays.

use std::collections::BTreeMap;

use protocol::{Capabilities, ChatRequest, chat::ResponseFormat};
use rand::{Rng, RngExt};

use crate::SocketId;

/// What a request needs of a node beyond its model, and what a node can do: a set of abilities. Nodes that can do the same
/// form a group, jobs that need the same a line, so that a job that no node can do blocks nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need(u8);

const GRAMMAR: u8 = 1;
const LOGPROBS: u8 = 1 << 1;
const PENALTIES: u8 = 1 << 2;
const LOGIT_BIAS: u8 = 1 << 3;
const SEED: u8 = 1 << 4;
const CONTINUATION: u8 = 1 << 5;

/// The field of a request that needs an ability.
const PARAMS: [(u8, &str); 6] = [
    (GRAMMAR, "response_format"),
    (LOGPROBS, "logprobs"),
    (PENALTIES, "presence_penalty"),
    (LOGIT_BIAS, "logit_bias"),
    (SEED, "seed"),
    (CONTINUATION, "messages"),
];

/// The set of those abilities that are there.
fn set_of(abilities: [(bool, u8); 6]) -> u8 {
    let present = abilities.into_iter().filter(|(is_there, _)| *is_there);
    present.fold(0, |set, (_, ability)| set | ability)
}

impl Need {
    /// What this request needs.
    pub(crate) fn of(request: &ChatRequest) -> Self {
        let sampling = &request.sampling;
        let is_some = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        let has_grammar = match request.response_format {
            ResponseFormat::Text | ResponseFormat::Unknown => false,
            ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. } => true,
        };
        let has_penalties =
            is_some(sampling.presence_penalty) || is_some(sampling.frequency_penalty);
        Self(set_of([
            (has_grammar, GRAMMAR),
            (request.top_logprobs.is_some(), LOGPROBS),
            (has_penalties, PENALTIES),
            (!sampling.logit_bias.is_empty(), LOGIT_BIAS),
            (sampling.seed.is_some(), SEED),
            (false, CONTINUATION),
        ]))
    }

    /// What such a node can do.
    pub(crate) fn met_by(can: Capabilities) -> Self {
        Self(set_of([
            (can.grammar, GRAMMAR),
            (can.logprobs, LOGPROBS),
            (can.penalties, PENALTIES),
            (can.logit_bias, LOGIT_BIAS),
            (can.seed, SEED),
            (can.continuation, CONTINUATION),
        ]))
    }

    /// The same for an answer that has begun.
    pub(crate) const fn with_continuation(self) -> Self {
        Self(self.0 | CONTINUATION)
    }

    /// Whether those who can do `group` can do this.
    pub(crate) const fn is_within(self, group: Self) -> bool {
        self.0 & !group.0 == 0
    }

    /// The request's field that needs something which none of `groups` can do; of several, the first.
    pub(crate) fn param_missing_in(self, groups: impl Iterator<Item = Self>) -> &'static str {
        let best = groups.max_by_key(|group| (self.0 & group.0).count_ones());
        let missing = self.0 & !best.map_or(0, |group| group.0);
        let param = PARAMS.iter().find(|(ability, _)| missing & ability != 0);
        param.map_or("messages", |(_, param)| param)
    }
}

/// Nodes with weights.
#[derive(Debug, Default)]
pub(crate) struct WeightedSet {
    places: BTreeMap<SocketId, usize>,
    members: Vec<Option<SocketId>>,
    vacant: Vec<usize>,
    /// A complete binary tree: the root at 1, the leaf of place `p` at `leaves + p`. Empty or `2 * leaves` long.
    sums: Vec<f64>,
}

impl WeightedSet {
    /// Whether nobody can be chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The sum of all weights, `avoid` left out.
    pub(crate) fn total(&self, avoid: Option<SocketId>) -> f64 {
        let avoided = avoid.and_then(|socket| self.places.get(&socket));
        match avoided {
            Some(_) if self.places.len() == 1 => 0.0,
            Some(&place) => (self.sum(1) - self.sum(self.leaves() + place)).max(0.0),
            None => self.sum(1),
        }
    }

    /// Adds a node or changes its weight, which must be above zero.
    pub(crate) fn set(&mut self, socket: SocketId, weight: f64) {
        let place = match self.places.get(&socket) {
            Some(&place) => place,
            None => self.add(socket),
        };
        self.write(place, weight);
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, socket: SocketId) {
        if let Some(place) = self.places.remove(&socket) {
            self.write(place, 0.0);
            if let Some(member) = self.members.get_mut(place) {
                *member = None;
            }
            self.vacant.push(place);
        }
    }

    /// Draws a node. `avoid` is drawn only where there is no other.
    pub(crate) fn choose(
        &mut self,
        rng: &mut impl Rng,
        avoid: Option<SocketId>,
    ) -> Option<SocketId> {
        let avoided = avoid
            .filter(|_| self.places.len() > 1)
            .and_then(|socket| self.places.get(&socket).copied());
        let Some(place) = avoided else {
            return self.draw(rng);
        };
        let weight = self.sum(self.leaves() + place);
        self.write(place, 0.0);
        let drawn = self.draw(rng);
        self.write(place, weight);
        drawn
    }

    fn draw(&self, rng: &mut impl Rng) -> Option<SocketId> {
        let leaves = self.leaves();
        if self.sum(1) <= 0.0 {
            return None;
        }
        let mut left = rng.random::<f64>() * self.sum(1);
        let mut node = 1;
        while node < leaves {
            let (low, high) = (node * 2, node * 2 + 1);
            // Rounding may carry the draw past the last weight: never walk into an empty half.
            node = if left < self.sum(low) || self.sum(high) <= 0.0 {
                low
            } else {
                left -= self.sum(low);
                high
            };
        }
        self.members.get(node - leaves).copied().flatten()
    }

    fn add(&mut self, socket: SocketId) -> usize {
        let place = self.vacant.pop().unwrap_or(self.members.len());
        if place == self.members.len() {
            self.members.push(None);
            if place >= self.leaves() {
                self.grow();
            }
        }
        if let Some(member) = self.members.get_mut(place) {
            *member = Some(socket);
        }
        self.places.insert(socket, place);
        place
    }

    fn leaves(&self) -> usize {
        self.sums.len() / 2
    }

    fn grow(&mut self) {
        let (old, new) = (self.leaves(), (self.leaves() * 2).max(1));
        let mut sums = vec![0.0; new];
        sums.extend_from_slice(self.sums.get(old..).unwrap_or_default());
        sums.resize(new * 2, 0.0);
        self.sums = sums;
        for node in (1..new).rev() {
            self.add_up(node);
        }
    }

    fn write(&mut self, place: usize, weight: f64) {
        let mut node = self.leaves() + place;
        if let Some(leaf) = self.sums.get_mut(node) {
            *leaf = weight;
        }
        node /= 2;
        while node > 0 {
            self.add_up(node);
            node /= 2;
        }
    }

    fn add_up(&mut self, node: usize) {
        let sum = self.sum(node * 2) + self.sum(node * 2 + 1);
        if let Some(slot) = self.sums.get_mut(node) {
            *slot = sum;
        }
    }

    fn sum(&self, node: usize) -> f64 {
        self.sums.get(node).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests;
