//! The catalog's models with who offers them, who is free, and who waits.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};

use protocol::Capabilities;

use crate::SocketId;
use crate::config::{Config, ModelEntry};
use crate::placement::{NEEDS, Need, WeightedSet};
use crate::queue::{Queue, Ticket};

/// A model's place in the table; made only by [`Models`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelIndex(usize);

/// One model.
#[derive(Debug)]
pub(crate) struct Model {
    /// What the catalog says.
    pub(crate) entry: ModelEntry,
    /// Its waiting jobs.
    pub(crate) queue: Queue,
    offers: [BTreeSet<SocketId>; NEEDS],
    free: [WeightedSet; NEEDS],
}

impl Model {
    fn new(entry: ModelEntry) -> Self {
        Self {
            entry,
            queue: Queue::default(),
            offers: Default::default(),
            free: Default::default(),
        }
    }

    /// Notes a node that takes work. `weight` is `None` while it has no free slot. Whether the node is new here.
    pub(crate) fn offer(&mut self, node: SocketId, can: Capabilities, weight: Option<f64>) -> bool {
        let mut is_new = false;
        for need in Need::ALL.into_iter().filter(|need| need.is_met_by(can)) {
            if let Some(offers) = self.offers.get_mut(need.index()) {
                is_new |= offers.insert(node);
            }
            if let Some(free) = self.free.get_mut(need.index()) {
                match weight {
                    Some(weight) => free.set(node, weight),
                    None => free.remove(node),
                }
            }
        }
        is_new
    }

    /// Forgets a node. Whether it was known here.
    pub(crate) fn withdraw(&mut self, node: SocketId) -> bool {
        let mut was_known = false;
        for offers in &mut self.offers {
            was_known |= offers.remove(&node);
        }
        for free in &mut self.free {
            free.remove(node);
        }
        was_known
    }

    /// Nodes that offer it and take work.
    pub(crate) fn nodes(&self) -> u32 {
        let nodes = self.offers.first().map_or(0, BTreeSet::len);
        u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    /// Nodes that take such work, now or later.
    pub(crate) fn nodes_for(&self, need: Need) -> impl Iterator<Item = SocketId> + '_ {
        let nodes = self.offers.get(need.index());
        nodes.into_iter().flatten().copied()
    }

    /// Whether a node takes such work, now or later.
    pub(crate) fn can(&self, need: Need) -> bool {
        self.offers
            .get(need.index())
            .is_some_and(|offers| !offers.is_empty())
    }

    /// The nodes that could take such work now.
    pub(crate) fn free(&self, need: Need) -> Option<&WeightedSet> {
        self.free.get(need.index()).filter(|free| !free.is_empty())
    }

    /// The same, for drawing.
    pub(crate) fn free_mut(&mut self, need: Need) -> Option<&mut WeightedSet> {
        self.free.get_mut(need.index())
    }

    /// The first waiting job that a free node can do.
    pub(crate) fn next_ready(&self) -> Option<(Ticket, Need)> {
        Need::ALL
            .into_iter()
            .filter(|need| self.free(*need).is_some())
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
