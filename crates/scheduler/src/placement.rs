//! Who gets a job: weighted random over the nodes with a free slot.
//!
//! A sum tree gives O(log n) for joining, leaving, a new weight and a choice. Sums are always added up from below and
//! never corrected in place, so that no rounding error gathers and a seed replays.

use protocol::chat::{ResponseFormat, ToolChoice};
use protocol::{Capabilities, ChatRequest, JobRequest};
use rand::{Rng, RngExt};

/// What a request needs of a node beyond its model, and what a node can do: a set of abilities. Nodes that can do the same
/// form a group, jobs that need the same a line, so that a job that no node can do blocks nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need(u16);

const GRAMMAR: u16 = 1;
const LOGPROBS: u16 = 1 << 1;
const PENALTIES: u16 = 1 << 2;
const LOGIT_BIAS: u16 = 1 << 3;
const SEED: u16 = 1 << 4;
const CONTINUATION: u16 = 1 << 5;
const VISION: u16 = 1 << 6;
const TOOLS: u16 = 1 << 7;
const CHAT: u16 = 1 << 8;
const EMBEDDINGS: u16 = 1 << 9;

/// How many abilities there are.
const ABILITIES: usize = 10;

/// The field of a request that needs an ability, and what nobody does who lacks it.
const PARAMS: [(u16, &str, &str); ABILITIES] = [
    (CHAT, "model", "chats"),
    (EMBEDDINGS, "model", "makes embeddings"),
    (VISION, "messages", "sees pictures"),
    (TOOLS, "tools", "calls tools"),
    (GRAMMAR, "response_format", "keeps to a form of answers"),
    (LOGPROBS, "logprobs", "tells log-probabilities"),
    (PENALTIES, "presence_penalty", "knows penalties"),
    (LOGIT_BIAS, "logit_bias", "knows biases"),
    (SEED, "seed", "takes a seed"),
    (CONTINUATION, "messages", "goes on with an answer"),
];

/// A set of needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeedSet([u64; WORDS]);

/// Each need is one bit of the set.
const WORDS: usize = (1 << ABILITIES) / 64;

impl NeedSet {
    /// Every need.
    pub(crate) const ALL: Self = Self([u64::MAX; WORDS]);

    /// Whether it is one of them.
    pub(crate) fn contains(self, need: Need) -> bool {
        let word = self.0.get(usize::from(need.0 / 64));
        word.is_some_and(|word| word >> (need.0 % 64) & 1 == 1)
    }
}

impl FromIterator<Need> for NeedSet {
    fn from_iter<I: IntoIterator<Item = Need>>(needs: I) -> Self {
        let mut set = [0; WORDS];
        for need in needs {
            if let Some(word) = set.get_mut(usize::from(need.0 / 64)) {
                *word |= 1 << (need.0 % 64);
            }
        }
        Self(set)
    }
}

/// The set of those abilities that are there.
fn set_of(abilities: [(bool, u16); ABILITIES]) -> u16 {
    let present = abilities.into_iter().filter(|(is_there, _)| *is_there);
    present.fold(0, |set, (_, ability)| set | ability)
}

impl Need {
    /// What this request needs.
    pub(crate) fn of(request: &JobRequest) -> Self {
        match request {
            JobRequest::Chat(request) => Self::of_chat(request),
            JobRequest::Embed(_) | JobRequest::Unknown => Self(EMBEDDINGS),
        }
    }

    fn of_chat(request: &ChatRequest) -> Self {
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
            (request.has_images(), VISION),
            (
                !request.tools.is_empty() && request.tool_choice != ToolChoice::None,
                TOOLS,
            ),
            (true, CHAT),
            (false, EMBEDDINGS),
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
            (can.vision, VISION),
            (can.tools, TOOLS),
            (can.chat, CHAT),
            (can.embeddings, EMBEDDINGS),
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

    /// The request's field that needs something which none of `groups` can do, and what that is; of several, the first.
    pub(crate) fn missing_in(
        self,
        groups: impl Iterator<Item = Self>,
    ) -> (&'static str, &'static str) {
        let best = groups.max_by_key(|group| (self.0 & group.0).count_ones());
        let missing = self.0 & !best.map_or(0, |group| group.0);
        let first = PARAMS.iter().find(|(ability, ..)| missing & ability != 0);
        first.map_or(("model", "does this"), |(_, param, what)| (*param, *what))
    }
}

/// Places with weights, to draw from.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    /// Places that were given back.
    vacant: Vec<u32>,
    places: u32,
    /// Places whose weight is not 0.
    drawable: u32,
    /// A complete binary tree: the root at 1, the leaf of place `p` at `leaves + p`. Empty or `2 * leaves` long.
    sums: Vec<f64>,
}

impl Weights {
    /// Whether nothing can be drawn.
    pub(crate) const fn is_empty(&self) -> bool {
        self.drawable == 0
    }

    /// The sum of all weights, `avoid` left out.
    pub(crate) fn total(&self, avoid: Option<u32>) -> f64 {
        let avoided = avoid.map_or(0.0, |place| self.sum(self.leaf(place)));
        if avoided <= 0.0 {
            self.sum(1)
        } else if self.drawable == 1 {
            0.0
        } else {
            (self.sum(1) - avoided).max(f64::MIN_POSITIVE)
        }
    }

    /// One place's weight.
    pub(crate) fn weight(&self, place: u32) -> f64 {
        self.sum(self.leaf(place))
    }

    /// A new place without weight.
    pub(crate) fn add(&mut self) -> u32 {
        if let Some(place) = self.vacant.pop() {
            return place;
        }
        let place = self.places;
        self.places += 1;
        if place as usize >= self.leaves() {
            self.grow();
        }
        place
    }

    /// Gives a place back.
    pub(crate) fn remove(&mut self, place: u32) {
        self.set(place, 0.0);
        self.vacant.push(place);
    }

    /// Changes a place's weight, which must not be below zero.
    pub(crate) fn set(&mut self, place: u32, weight: f64) {
        let old = self.sum(self.leaf(place));
        match (old > 0.0, weight > 0.0) {
            (false, true) => self.drawable += 1,
            (true, false) => self.drawable -= 1,
            (true, true) | (false, false) => {}
        }
        #[expect(
            clippy::float_cmp,
            reason = "the same weight again needs no work; any other, however near, is written"
        )]
        if old != weight {
            self.write(place, weight);
        }
    }

    /// Draws a place. `avoid` is drawn only where there is no other.
    pub(crate) fn draw(&mut self, rng: &mut impl Rng, avoid: Option<u32>) -> Option<u32> {
        let avoided = avoid.filter(|place| self.drawable > 1 && self.sum(self.leaf(*place)) > 0.0);
        let Some(place) = avoided else {
            return self.walk(rng);
        };
        let weight = self.sum(self.leaf(place));
        self.write(place, 0.0);
        let drawn = self.walk(rng);
        self.write(place, weight);
        drawn
    }

    fn walk(&self, rng: &mut impl Rng) -> Option<u32> {
        let leaves = self.leaves();
        if self.drawable == 0 {
            return None;
        }
        let mut left = rng.random::<f64>() * self.sum(1);
        let mut node = 1;
        while node < leaves {
            let (low, high) = (node * 2, node * 2 + 1);
            // Rounding may carry the draw past the last weight: never walk into an empty half.
            node = if self.sum(low) > 0.0 && (left < self.sum(low) || self.sum(high) <= 0.0) {
                low
            } else {
                left -= self.sum(low);
                high
            };
        }
        u32::try_from(node - leaves).ok()
    }

    fn leaves(&self) -> usize {
        self.sums.len() / 2
    }

    fn leaf(&self, place: u32) -> usize {
        self.leaves() + place as usize
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

    fn write(&mut self, place: u32, weight: f64) {
        let mut node = self.leaf(place);
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
