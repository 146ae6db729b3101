//! The catalog's models with who offers them, who is free, and who waits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};

use protocol::Capabilities;
use rand::{Rng, RngExt};

use crate::SocketId;
use crate::config::{Config, ModelEntry};
use crate::placement::{Need, WeightedSet};
use crate::queue::{Queue, Ticket};

/// A model's place in the table; made only by [`Models`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelIndex(usize);

/// Nodes of one model with the same abilities.
#[derive(Debug, Default)]
struct Group {
    offers: BTreeSet<SocketId>,
    free: WeightedSet,
}

/// One model.
#[derive(Debug)]
pub(crate) struct Model {
    /// What the catalog says.
    pub(crate) entry: ModelEntry,
    /// Its waiting jobs.
    pub(crate) queue: Queue,
    /// By what they can do; never an empty group.
    groups: BTreeMap<Need, Group>,
}

impl Model {
    fn new(entry: ModelEntry) -> Self {
        Self {
            entry,
            queue: Queue::default(),
            groups: BTreeMap::new(),
        }
    }

    /// Notes a node that takes work. `weight` is `None` while it has no free slot. Whether the node is new here.
    pub(crate) fn offer(&mut self, node: SocketId, can: Capabilities, weight: Option<f64>) -> bool {
        let group = self.groups.entry(Need::met_by(can)).or_default();
        match weight {
            Some(weight) => group.free.set(node, weight),
            None => group.free.remove(node),
        }
        group.offers.insert(node)
    }

    /// Forgets a node. Whether it was known here.
    pub(crate) fn withdraw(&mut self, node: SocketId) -> bool {
        let mut was_known = false;
        self.groups.retain(|_, group| {
            was_known |= group.offers.remove(&node);
            group.free.remove(node);
            !group.offers.is_empty()
        });
        was_known
    }

    /// Nodes that offer it and take work.
    pub(crate) fn nodes(&self) -> u32 {
        let nodes: usize = self.groups.values().map(|group| group.offers.len()).sum();
        u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    fn groups_for(&self, need: Need) -> impl Iterator<Item = &Group> + Clone {
        let groups = self.groups.iter();
        groups
            .filter(move |(can, _)| need.is_within(**can))
            .map(|(_, group)| group)
    }

    /// Nodes that take such work, now or later.
    pub(crate) fn nodes_for(&self, need: Need) -> impl Iterator<Item = SocketId> + '_ {
        self.groups_for(need)
            .flat_map(|group| group.offers.iter().copied())
    }

    /// Whether a node takes such work, now or later.
    pub(crate) fn can(&self, need: Need) -> bool {
        self.groups_for(need).next().is_some()
    }

    /// What no node here can do of this, as the request's field.
    pub(crate) fn param_missing(&self, need: Need) -> &'static str {
        need.param_missing_in(self.groups.keys().copied())
    }

    /// Whether a node could take such work now.
    pub(crate) fn is_free(&self, need: Need) -> bool {
        self.groups_for(need).any(|group| !group.free.is_empty())
    }

    /// Draws a node that could take such work now. `avoid` is drawn only where there is no other.
    pub(crate) fn choose(
        &mut self,
        need: Need,
        rng: &mut impl Rng,
        avoid: Option<SocketId>,
    ) -> Option<SocketId> {
        let sum = |avoid| -> f64 {
            self.groups_for(need)
                .map(|group| group.free.total(avoid))
                .sum()
        };
        let (avoid, total) = match sum(avoid) {
            total if total > 0.0 => (avoid, total),
            _ => (None, sum(None)),
        };
        let mut left = rng.random::<f64>() * total;
        let mut chosen = None;
        for (&can, group) in &self.groups {
            let share = group.free.total(avoid);
            // Rounding may carry the draw past the last group.
            if need.is_within(can) && share > 0.0 {
                chosen = Some(can);
                if left < share {
                    break;
                }
                left -= share;
            }
        }
        self.groups.get_mut(&chosen?)?.free.choose(rng, avoid)
    }

    /// The first waiting job that a free node can do.
    pub(crate) fn next_ready(&self) -> Option<(Ticket, Need)> {
        let needs = self.queue.needs();
        needs
            .filter(|need| self.is_free(*need))
            .filter_map(|need| Some((self.queue.first(need)?, need)))
            .min()
    }
}

/// All models and the tiers over them.
#[derive(Debug)]
pub(crate) struct Models {
    list: Vec<Model>,
    by_id: BTreeMap<String, ModelIndex>,
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
        Self { list, by_id, tiers }
    }

    /// The model of this id.
    pub(crate) fn by_id(&self, id: &str) -> Option<ModelIndex> {
        self.by_id.get(id).copied()
    }

    /// The models of this tier.
    pub(crate) fn tier(&self, id: &str) -> Option<&[ModelIndex]> {
        self.tiers.get(id).map(Vec::as_slice)
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
