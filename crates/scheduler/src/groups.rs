//! Nodes of one model that are alike: of the same abilities and the same standing.

use std::collections::BTreeMap;

use rand::Rng;

use crate::SocketId;
use crate::placement::{Need, Weights};

/// How far a node is trusted with work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It has answered before.
    Proven,
    /// On probation: all of these together get a bounded share of the work.
    Newcomer,
    /// In quarantine: it gets work only where nobody else could ever do it.
    Suspect,
}

/// Where a node sits in a model's tables; kept with the node's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Its group.
    pub(crate) group: (Standing, Need),
    /// Its place in the group.
    pub(crate) place: u32,
}

/// What a group knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Who.
    pub(crate) socket: SocketId,
    /// Jobs at once.
    pub(crate) slots: u32,
    /// How many more it could take.
    pub(crate) free_slots: u32,
    /// The room for prompt and answer.
    pub(crate) context_tokens: u32,
    /// Measured decode speed; 0 where there is none. A whole number, so that sums stay exact.
    pub(crate) millitokens_per_second: u32,
}

/// Sums over members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Nodes.
    pub(crate) nodes: u32,
    /// Their slots.
    pub(crate) slots: u32,
    /// Their free slots.
    pub(crate) free_slots: u32,
    /// Measured nodes.
    pub(crate) measured: u32,
    /// The sum of their speeds.
    pub(crate) millitokens_per_second: u64,
}

impl Totals {
    fn change(&mut self, member: &Member, is_in: bool) {
        let is_measured = u32::from(member.millitokens_per_second > 0);
        let speed = u64::from(member.millitokens_per_second);
        let change = |total: &mut u32, by: u32| {
            *total = if is_in {
                total.saturating_add(by)
            } else {
                total.saturating_sub(by)
            };
        };
        change(&mut self.nodes, 1);
        change(&mut self.slots, member.slots);
        change(&mut self.free_slots, member.free_slots);
        change(&mut self.measured, is_measured);
        if is_in {
            self.millitokens_per_second += speed;
        } else {
            self.millitokens_per_second -= speed;
        }
    }

    /// Mean decode speed of the measured ones, in tokens per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean of what was rounded to thousandths"
    )]
    pub(crate) fn mean_decode(self) -> Option<f64> {
        let sum = self.millitokens_per_second as f64 / 1_000.0;
        (self.measured > 0).then(|| sum / f64::from(self.measured))
    }

    /// Those of two groups.
    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            slots: self.slots.saturating_add(other.slots),
            free_slots: self.free_slots.saturating_add(other.free_slots),
            measured: self.measured.saturating_add(other.measured),
            millitokens_per_second: self
                .millitokens_per_second
                .saturating_add(other.millitokens_per_second),
        }
    }
}

/// Nodes that are alike.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<Option<Member>>,
    weights: Weights,
    totals: Totals,
    /// How many offer which context.
    contexts: BTreeMap<u32, u32>,
}

impl Group {
    /// Takes a node in; it can be drawn once it has a weight.
    pub(crate) fn add(&mut self, member: Member) -> u32 {
        let place = self.weights.add();
        if place as usize >= self.members.len() {
            self.members.push(None);
        }
        self.put(place, Some(member));
        place
    }

    /// Brings a node up to date. It can be drawn unless its weight is 0.
    pub(crate) fn update(&mut self, place: u32, member: Member, weight: f64) {
        self.put(place, Some(member));
        self.weights.set(place, weight);
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, place: u32) {
        self.put(place, None);
        self.weights.remove(place);
    }

    fn put(&mut self, place: u32, member: Option<Member>) {
        let Some(seat) = self.members.get_mut(place as usize) else {
            return;
        };
        let old = std::mem::replace(seat, member);
        if old == member {
            return;
        }
        if let Some(old) = old {
            self.totals.change(&old, false);
            self.count_context(old.context_tokens, false);
        }
        if let Some(new) = member {
            self.totals.change(&new, true);
            self.count_context(new.context_tokens, true);
        }
    }

    fn count_context(&mut self, context_tokens: u32, is_in: bool) {
        let count = self.contexts.entry(context_tokens).or_default();
        if is_in {
            *count += 1;
        } else if *count > 1 {
            *count -= 1;
        } else {
            self.contexts.remove(&context_tokens);
        }
    }

    /// Sums over all members.
    pub(crate) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether nobody can be drawn.
    pub(crate) const fn is_busy(&self) -> bool {
        self.weights.is_empty()
    }

    /// Whether this one can be drawn.
    pub(crate) fn can_be_drawn(&self, place: u32) -> bool {
        self.weights.weight(place) > 0.0
    }

    /// The sum of the weights of those that can be drawn.
    pub(crate) fn weight(&self, avoid: Option<u32>) -> f64 {
        self.weights.total(avoid)
    }

    /// Draws a node. `avoid` is drawn only where there is no other.
    pub(crate) fn draw(&mut self, rng: &mut impl Rng, avoid: Option<u32>) -> Option<SocketId> {
        let place = self.weights.draw(rng, avoid)?;
        let member = self.members.get(place as usize)?.as_ref()?;
        Some(member.socket)
    }

    /// All of them.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.members.iter().flatten().map(|member| member.socket)
    }

    /// The smallest context that one of them offers.
    pub(crate) fn context_min(&self) -> Option<u32> {
        self.contexts.first_key_value().map(|(tokens, _)| *tokens)
    }

    /// The largest.
    pub(crate) fn context_max(&self) -> Option<u32> {
        self.contexts.last_key_value().map(|(tokens, _)| *tokens)
    }
}
