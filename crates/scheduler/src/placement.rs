//! Who gets a job: weighted random over the nodes with a free slot.
//!
//! A sum tree gives O(log n) for joining, leaving, a new weight and a choice. Sums are always added up from below and
//! never corrected in place, so that no rounding error gathers and a seed replays.

use std::collections::BTreeMap;

use protocol::{Capabilities, ChatRequest, chat::ResponseFormat};
use rand::{Rng, RngExt};

use crate::SocketId;

/// What a request needs of a node beyond its model. Four needs, so that each can have its own set of nodes and its own
/// line of jobs: a job that no node can do blocks nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need(u8);

/// How many needs there are.
pub(crate) const NEEDS: usize = 4;

const GRAMMAR: u8 = 1;
const LOGPROBS: u8 = 2;

impl Need {
    /// All of them, the humblest first.
    pub(crate) const ALL: [Self; NEEDS] = [Self(0), Self(1), Self(2), Self(3)];

    /// What this request needs.
    pub(crate) fn of(request: &ChatRequest) -> Self {
        let grammar = match request.response_format {
            ResponseFormat::Text | ResponseFormat::Unknown => 0,
            ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. } => GRAMMAR,
        };
        let logprobs = if request.top_logprobs.is_some() {
            LOGPROBS
        } else {
            0
        };
        Self(grammar | logprobs)
    }

    /// Whether such a node can do it.
    pub(crate) const fn is_met_by(self, capabilities: Capabilities) -> bool {
        (self.0 & GRAMMAR == 0 || capabilities.grammar)
            && (self.0 & LOGPROBS == 0 || capabilities.logprobs)
    }

    /// The field of a request that needs the most, for an error.
    pub(crate) const fn param(self) -> &'static str {
        if self.0 & GRAMMAR == 0 {
            "logprobs"
        } else {
            "response_format"
        }
    }

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
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
