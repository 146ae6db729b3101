//! Who has read the beginning of a conversation: a follow-up goes there again, where the prefix is still in the engine's
//! cache, as long as that node is free. Nothing of a conversation is kept but salted hashes.
//!
//! A node whose connection broke has its cache all the same: what it says of it on the next one is its again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::limits::CACHED_PREFIXES_MAX;
use protocol::{ChatMessage, JobRequest, PrefixHash};

use crate::karma::KarmaKey;
use crate::models::ModelIndex;
use crate::registry::Node;
use crate::{Scheduler, SocketId};

/// How many beginnings of a conversation are looked for: the whole, and what remains when some turns were edited.
const PREFIXES_MAX: usize = 8;

/// Of a longer message its length and its ends are hashed: telling a conversation from others needs no more.
const HASHED_BYTES: usize = 2_048;

/// A conversation's beginning.
pub(crate) type Prefix = u64;

/// A connection of a node.
#[derive(Debug, Clone, Copy)]
struct Holder {
    /// The node, whatever connection it has.
    node: KarmaKey,
    socket: SocketId,
    /// Tells the connection from a later one on a socket of the same number.
    serial: u32,
}

impl Holder {
    const fn on(socket: SocketId, node: &Node) -> Self {
        Self {
            node: node.karma,
            socket,
            serial: node.serial,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Holding {
    by: Holder,
    used: u64,
}

/// Which node read what.
#[derive(Debug)]
pub(crate) struct Affinity {
    salt: u64,
    holders: BTreeMap<(ModelIndex, Prefix), Holding>,
    by_use: BTreeMap<u64, (ModelIndex, Prefix)>,
    last_use: u64,
    prefixes_max: usize,
}

impl Affinity {
    /// Nobody has read anything. At most `prefixes_max` are remembered.
    pub(crate) const fn new(salt: u64, prefixes_max: usize) -> Self {
        Self {
            salt,
            holders: BTreeMap::new(),
            by_use: BTreeMap::new(),
            last_use: 0,
            prefixes_max,
        }
    }

    /// A conversation's beginnings, the longest first.
    pub(crate) fn prefixes(&self, request: &JobRequest) -> Box<[Prefix]> {
        let Some(request) = request.as_chat() else {
            return Box::default();
        };
        let mut hasher = DefaultHasher::new();
        self.salt.hash(&mut hasher);
        // Templates write tools before everything else.
        for tool in &request.tools {
            hash_text(&tool.name, &mut hasher);
            tool.bytes().hash(&mut hasher);
        }
        let mut prefixes: Vec<Prefix> = Vec::with_capacity(request.messages.len());
        for message in &request.messages {
            hash_message(message, &mut hasher);
            prefixes.push(hasher.finish());
        }
        prefixes.into_iter().rev().take(PREFIXES_MAX).collect()
    }

    fn note(&mut self, model: ModelIndex, prefix: Prefix, by: Holder) {
        self.last_use += 1;
        let holding = Holding {
            by,
            used: self.last_use,
        };
        if let Some(old) = self.holders.insert((model, prefix), holding) {
            self.by_use.remove(&old.used);
        }
        self.by_use.insert(self.last_use, (model, prefix));
        while self.holders.len() > self.prefixes_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.holders.remove(&oldest);
        }
    }

    /// A node has this on a later connection than the one on which it read it. Nothing is used by that.
    fn follow(&mut self, model: ModelIndex, prefix: Prefix, by: Holder) {
        if let Some(holding) = self.holders.get_mut(&(model, prefix))
            && holding.by.node == by.node
            && holding.by.serial < by.serial
        {
            holding.by = by;
        }
    }

    /// How many beginnings are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }
}

fn hash_message(message: &ChatMessage, hasher: &mut DefaultHasher) {
    message.role.as_str().hash(hasher);
    message.name.hash(hasher);
    hash_text(&message.content, hasher);
    for image in &message.images {
        image.at.hash(hasher);
        hash_text(&image.data, hasher);
    }
    for call in &message.tool_calls {
        hash_text(&call.name, hasher);
        hash_text(&call.arguments, hasher);
    }
}

fn hash_text(text: &str, hasher: &mut DefaultHasher) {
    let text = text.as_bytes();
    text.len().hash(hasher);
    if text.len() <= 2 * HASHED_BYTES {
        hasher.write(text);
    } else {
        hasher.write(text.get(..HASHED_BYTES).unwrap_or_default());
        let end = text.len() - HASHED_BYTES;
        hasher.write(text.get(end..).unwrap_or_default());
    }
}

impl Scheduler {
    /// A free node that has read the longest beginning of this conversation.
    pub(crate) fn reader(
        &self,
        model: ModelIndex,
        prefixes: &[Prefix],
        is_free: impl Fn(SocketId) -> bool,
    ) -> Option<SocketId> {
        prefixes.iter().find_map(|&prefix| {
            let holder = self.affinity.holders.get(&(model, prefix))?.by;
            let node = self.nodes.get(&holder.socket)?;
            let has_it = node
                .cached
                .as_ref()
                .is_none_or(|cached| cached.contains(&prefix));
            (node.serial == holder.serial && has_it && is_free(holder.socket))
                .then_some(holder.socket)
        })
    }

    /// A node reads this conversation.
    pub(crate) fn note_reader(&mut self, model: ModelIndex, prefixes: &[Prefix], socket: SocketId) {
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        if let Some(&whole) = prefixes.first() {
            // It will be there once it is read; the node says when it no longer is.
            // A node that never says more than once is told from what it read last all the same.
            if let Some(cached) = &mut node.cached
                && cached.len() < 2 * CACHED_PREFIXES_MAX
            {
                cached.insert(whole);
            }
            let by = Holder::on(socket, node);
            self.affinity.note(model, whole, by);
        }
    }

    /// A node says what it has in its cache.
    pub(crate) fn node_cached(&mut self, socket: SocketId, prefixes: &[PrefixHash]) {
        let kept = prefixes.iter().take(CACHED_PREFIXES_MAX);
        let mut cached: BTreeSet<Prefix> = kept.map(|prefix| prefix.0).collect();
        let Some(node) = self.nodes.get(&socket) else {
            return;
        };
        // What it is reading now is not in the list yet.
        let running = node.attempts.iter().filter_map(|alias| {
            let job = self.jobs.get(&self.attempts.get(alias)?.job?)?;
            job.prefixes.first().copied()
        });
        cached.extend(running);
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        let by = Holder::on(socket, node);
        let known = node.cached.take().unwrap_or_default();
        for &prefix in cached.difference(&known) {
            for (model, _) in node.offers.iter() {
                self.affinity.follow(model, prefix, by);
            }
        }
        node.cached = Some(cached);
    }
}

#[cfg(test)]
mod tests;
