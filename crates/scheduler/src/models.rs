//! The catalog's models with who offers them, who is free, and who waits.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use rand::{Rng, RngExt};

use crate::config::{Config, ModelEntry};
use crate::groups::{Group, Member, Seat, Standing, Totals};
use crate::placement::{Need, NeedSet};
use crate::queue::{Queue, Round, Ticket};
use crate::waits::Pace;
use crate::{Millis, SocketId};

/// A model's place in the table; made only by [`Models`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelIndex(usize);

/// How far a model whose own nodes are slow may fall behind those of others before it is forgotten, when at last they share
/// a node: about sixteen long answers.
const LEAD_ROUNDS_MAX: Round = 16 << 20;

/// The most that one turn costs a model, where it shares a node with others: 256 tokens.
const TURN_ROUNDS_MAX: Round = 256 << 10;

/// One model.
#[derive(Debug)]
pub(crate) struct Model {
    /// What the catalog says.
    pub(crate) entry: ModelEntry,
    /// Its waiting jobs.
    pub(crate) queue: Queue,
    /// What its jobs take.
    pub(crate) pace: Pace,
    /// The round in which the slots that it had are paid, where other models want them too.
    finish: Round,
    /// The clock of the models when it last had one.
    floor: Round,
    /// By how far they are trusted and what they can do; never an empty group.
    groups: BTreeMap<(Standing, Need), Group>,
}

impl Model {
    fn new(entry: ModelEntry) -> Self {
        Self {
            entry,
            queue: Queue::default(),
            pace: Pace::default(),
            finish: 0,
            floor: 0,
            groups: BTreeMap::new(),
        }
    }

    /// Seats a node that takes work, or brings its seat up to date. It can be drawn unless `weight` is 0. Whether it is new
    /// here.
    pub(crate) fn seat(
        &mut self,
        seat: &mut Option<Seat>,
        group: (Standing, Need),
        member: Member,
        weight: f64,
    ) -> bool {
        let was_seated = seat.is_some();
        if seat.is_some_and(|seat| seat.group != group) {
            self.unseat(seat);
        }
        let members = self.groups.entry(group).or_default();
        let place = seat.map_or_else(|| members.add(member), |seat| seat.place);
        members.update(place, member, weight);
        *seat = Some(Seat { group, place });
        !was_seated
    }

    /// Forgets a node. Whether it was known here.
    pub(crate) fn unseat(&mut self, seat: &mut Option<Seat>) -> bool {
        let Some(Seat { group, place }) = seat.take() else {
            return false;
        };
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(place);
            if members.totals().nodes == 0 {
                self.groups.remove(&group);
            }
        }
        true
    }

    /// Sums over all nodes that offer it and take work.
    pub(crate) fn totals(&self) -> Totals {
        let groups = self.groups.values();
        groups.fold(Totals::default(), |sum, group| sum.plus(group.totals()))
    }

    /// Nodes that offer it and take work.
    pub(crate) fn nodes(&self) -> u32 {
        self.totals().nodes
    }

    fn can_do(&self, need: Need) -> impl Iterator<Item = (Standing, &Group)> + Clone {
        let groups = self.groups.iter();
        groups
            .filter(move |((_, can), _)| need.is_within(*can))
            .map(|((standing, _), group)| (*standing, group))
    }

    /// Whether suspects get such work, because there is nobody else.
    fn has_only_suspects(&self, need: Need) -> bool {
        let mut standings = self.can_do(need).map(|(standing, _)| standing);
        standings.all(|standing| standing == Standing::Suspect)
    }

    /// Those who get such work.
    fn trusted(&self, need: Need) -> impl Iterator<Item = &Group> {
        let only_suspects = self.has_only_suspects(need);
        self.can_do(need)
            .filter(move |(standing, _)| only_suspects || *standing != Standing::Suspect)
            .map(|(_, group)| group)
    }

    /// Slots that such work gets, now or later.
    pub(crate) fn slots(&self, need: Need) -> u32 {
        let slots = self.trusted(need).map(|group| group.totals().slots);
        slots.fold(0, u32::saturating_add)
    }

    /// Nodes that take such work, now or later.
    pub(crate) fn nodes_for(&self, need: Need) -> impl Iterator<Item = SocketId> + '_ {
        self.can_do(need).flat_map(|(_, group)| group.sockets())
    }

    /// The smallest context of a node that takes such work; `None` without one.
    pub(crate) fn context_min(&self, need: Need) -> Option<u32> {
        self.can_do(need)
            .filter_map(|(_, group)| group.context_min())
            .min()
    }

    /// The largest context that any node offers.
    pub(crate) fn context_max(&self) -> Option<u32> {
        self.groups.values().filter_map(Group::context_max).max()
    }

    /// Whether a node takes such work, now or later.
    pub(crate) fn can(&self, need: Need) -> bool {
        self.can_do(need).next().is_some()
    }

    /// Whether the node of this seat could take work now.
    pub(crate) fn can_be_drawn(&self, seat: Seat) -> bool {
        let group = self.groups.get(&seat.group);
        group.is_some_and(|group| group.can_be_drawn(seat.place))
    }

    /// Mean decode speed of the measured nodes: what is expected of the others.
    pub(crate) fn mean_decode(&self) -> Option<f64> {
        self.totals().mean_decode()
    }

    /// What no node here can do of this: the request's field, and in words.
    pub(crate) fn missing(&self, need: Need) -> (&'static str, &'static str) {
        need.missing_in(self.groups.keys().map(|(_, can)| *can))
    }

    /// Whether a node could take such work now.
    pub(crate) fn is_free(&self, need: Need) -> bool {
        self.trusted(need).any(|group| !group.is_busy())
    }

    /// Draws a node that could take such work now. `avoid` is drawn only where there is no other. All newcomers together are
    /// drawn with at most the probability `newcomers_share` where others are free.
    pub(crate) fn choose(
        &mut self,
        need: Need,
        rng: &mut impl Rng,
        avoid: Option<Seat>,
        newcomers_share: f64,
    ) -> Option<SocketId> {
        let mut avoid = avoid;
        let mut groups = self.weights(need, avoid);
        if groups.is_empty() {
            avoid = None;
            groups = self.weights(need, None);
        }
        bound_newcomers(&mut groups, newcomers_share);
        let total: f64 = groups.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        let mut chosen = None;
        for (group, weight) in groups {
            // Rounding may carry the draw past the last group.
            chosen = Some(group);
            if left < weight {
                break;
            }
            left -= weight;
        }
        let chosen = chosen?;
        let group = self.groups.get_mut(&chosen)?;
        group.draw(rng, avoided_in(avoid, chosen))
    }

    /// The groups that such work can be drawn from.
    fn weights(&self, need: Need, avoid: Option<Seat>) -> Vec<((Standing, Need), f64)> {
        let only_suspects = self.has_only_suspects(need);
        let groups = self.groups.iter().filter(|((standing, can), _)| {
            need.is_within(*can) && (only_suspects || *standing != Standing::Suspect)
        });
        groups
            .map(|(key, group)| (*key, group.weight(avoided_in(avoid, *key))))
            .filter(|(_, weight)| *weight > 0.0)
            .collect()
    }

    /// The first waiting job that a free node can do; its round is 0 if it came back.
    pub(crate) fn next_ready(&self) -> Option<(Round, Ticket, Need)> {
        let needs = self.queue.needs();
        needs
            .filter(|need| self.is_free(*need))
            .filter_map(|need| {
                let (round, ticket) = self.queue.first(need)?;
                Some((round, ticket, need))
            })
            .min()
    }

    /// The needs of waiting jobs that some node meets, now or later.
    pub(crate) fn servable(&self) -> NeedSet {
        self.queue.needs().filter(|need| self.can(*need)).collect()
    }
}

fn avoided_in(avoid: Option<Seat>, group: (Standing, Need)) -> Option<u32> {
    avoid
        .filter(|seat| seat.group == group)
        .map(|seat| seat.place)
}

/// Scales the newcomers' weights down to their share, where others are free too.
fn bound_newcomers(groups: &mut [((Standing, Need), f64)], share: f64) {
    let is_new = |standing: Standing| standing == Standing::Newcomer;
    let sum = |of_new: bool| -> f64 {
        let of = groups
            .iter()
            .filter(|((standing, _), _)| is_new(*standing) == of_new);
        of.map(|(_, weight)| weight).sum()
    };
    let (new, others) = (sum(true), sum(false));
    let most = others * share / (1.0 - share);
    if others > 0.0 && new > most {
        for ((standing, _), weight) in groups {
            if is_new(*standing) {
                *weight *= most / new;
            }
        }
    }
}

/// All models and the tiers over them.
#[derive(Debug)]
pub(crate) struct Models {
    list: Vec<Model>,
    by_id: BTreeMap<String, ModelIndex>,
    clock: Round,
    tiers: BTreeMap<String, Vec<ModelIndex>>,
}

impl Models {
    /// The table; a tier's models that the catalog lacks are left out.
    pub(crate) fn new(config: &Config) -> Self {
        let list: Vec<Model> = config.models.iter().cloned().map(Model::new).collect();
        let by_id: BTreeMap<String, ModelIndex> = list
            .iter()
            .enumerate()
            .map(|(index, model)| (model.entry.id.clone(), ModelIndex(index)))
            .collect();
        let resolve = |ids: &[String]| ids.iter().filter_map(|id| by_id.get(id).copied()).collect();
        let tiers = config
            .tiers
            .iter()
            .map(|tier| (tier.id.clone(), resolve(&tier.models)))
            .collect();
        Self {
            list,
            by_id,
            clock: 0,
            tiers,
        }
    }

    /// The model of this id.
    pub(crate) fn by_id(&self, id: &str) -> Option<ModelIndex> {
        self.by_id.get(id).copied()
    }

    /// The models of this tier.
    pub(crate) fn tier(&self, id: &str) -> Option<&[ModelIndex]> {
        self.tiers.get(id).map(Vec::as_slice)
    }

    /// A job comes to this model's line.
    pub(crate) fn enter(&mut self, index: ModelIndex, now: Millis) {
        let clock = self.clock;
        let model = &mut self[index];
        if model.queue.len() == 0 {
            model.floor = clock;
            model.pace.moved_at = now;
        }
    }

    /// The round in which this model's next turn is, where it shares nodes with others.
    pub(crate) fn start(&self, index: ModelIndex) -> Round {
        let model = &self[index];
        let start = model.floor.max(model.finish);
        start.max(self.clock.saturating_sub(LEAD_ROUNDS_MAX))
    }

    /// A model had its turn. It sits out no longer than a short answer's worth, however dear the job was: between models
    /// turns are taken so that none blocks another; what a job costs is its account's to pay.
    pub(crate) fn charge(&mut self, index: ModelIndex, share: Round) {
        let start = self.start(index);
        self.clock = self.clock.max(start);
        let clock = self.clock;
        let model = &mut self[index];
        model.finish = start.saturating_add(share.min(TURN_ROUNDS_MAX));
        model.floor = clock;
    }

    /// All of them, in the catalog's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ModelIndex, &Model)> {
        self.list
            .iter()
            .enumerate()
            .map(|(index, model)| (ModelIndex(index), model))
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "invariant: an index is made from this table, which never shrinks"
)]
impl Index<ModelIndex> for Models {
    type Output = Model;

    fn index(&self, index: ModelIndex) -> &Model {
        &self.list[index.0]
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "invariant: an index is made from this table, which never shrinks"
)]
impl IndexMut<ModelIndex> for Models {
    fn index_mut(&mut self, index: ModelIndex) -> &mut Model {
        &mut self.list[index.0]
    }
}
