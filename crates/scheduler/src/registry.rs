//! Who is connected: clients with their jobs, nodes with their offers, slots and attempts.

use std::collections::{BTreeSet, VecDeque};

use protocol::{Alias, Capabilities, JobId, NodeClass};

use crate::Millis;
use crate::affinity::Prefix;
use crate::groups::Seat;
use crate::karma::KarmaKey;
use crate::measure::Speedometer;
use crate::models::ModelIndex;
use crate::queue::Account;
use crate::slots::Slots;

/// Ended attempts that a node may still speak about, beyond two for each that runs.
const ENDED_KEPT: usize = 16;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Client {
    /// Counts clients as they come: of two sockets of one client, the later one is alive.
    pub(crate) number: u64,
    /// Who pays for its jobs.
    pub(crate) account: Account,
    /// Unfinished jobs.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Jobs that are over and whose end it has not acknowledged, oldest first.
    pub(crate) finished: VecDeque<JobId>,
    /// What an announced request will take of the content budget.
    pub(crate) reserved: usize,
    /// Bytes that it was sent again although it had them on this connection.
    pub(crate) repeated: u32,
    /// When it last said anything.
    pub(crate) heard_at: Millis,
    /// Whether it sends heartbeats, so that its silence means something.
    pub(crate) has_heartbeat: bool,
}

impl Client {
    /// A client that has just joined.
    pub(crate) fn new(number: u64, account: Account, now: Millis) -> Self {
        Self {
            number,
            account,
            jobs: BTreeSet::new(),
            finished: VecDeque::new(),
            reserved: 0,
            repeated: 0,
            heard_at: now,
            has_heartbeat: false,
        }
    }
}

/// A model on a node.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The room for prompt and answer.
    pub(crate) context_tokens: u32,
    /// What it can do.
    pub(crate) capabilities: Capabilities,
    /// How fast it was.
    pub(crate) speed: Speedometer,
    /// Where it sits in the model's tables; `None` while it takes no work.
    pub(crate) seat: Option<Seat>,
}

/// What a node offers: few models, in a table that takes no more room than they do.
#[derive(Debug, Default)]
pub(crate) struct Offers(Box<[(ModelIndex, Offer)]>);

impl Offers {
    /// One model's.
    pub(crate) fn get(&self, model: ModelIndex) -> Option<&Offer> {
        self.iter()
            .find_map(|(index, offer)| (index == model).then_some(offer))
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, model: ModelIndex) -> Option<&mut Offer> {
        self.iter_mut()
            .find_map(|(index, offer)| (index == model).then_some(offer))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ModelIndex, &Offer)> {
        self.0.iter().map(|(index, offer)| (*index, offer))
    }

    /// The same, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ModelIndex, &mut Offer)> {
        self.0.iter_mut().map(|(index, offer)| (*index, offer))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ModelIndex, Offer)> for Offers {
    fn from_iter<I: IntoIterator<Item = (ModelIndex, Offer)>>(offers: I) -> Self {
        Self(offers.into_iter().collect())
    }
}

/// A node's socket.
#[derive(Debug)]
pub(crate) struct Node {
    /// Whose it is.
    pub(crate) account: Box<str>,
    /// Its public name.
    pub(crate) name: Box<str>,
    /// What kind of node it is.
    pub(crate) class: NodeClass,
    /// What it offers of the catalog.
    pub(crate) offers: Offers,
    /// Jobs at once, over all its models.
    pub(crate) slots: Slots,
    /// Attempts that hold a slot of it.
    pub(crate) attempts: BTreeSet<Alias>,
    /// Answers of an earlier connection that it has still to announce: it gets no work before.
    pub(crate) arriving: u32,
    /// Announced answers that wait for their clients.
    pub(crate) announced: usize,
    /// Which conversations it says it has in its cache; `None` where it never said.
    pub(crate) cached: Option<BTreeSet<Prefix>>,
    /// How long it was asked to gather deltas.
    pub(crate) merge_ms: Millis,
    /// Whether it takes no more work.
    pub(crate) draining: bool,
    /// What it is remembered by.
    pub(crate) karma: KarmaKey,
    /// Its number among all that ever joined.
    pub(crate) serial: u32,
    /// When it last said anything.
    pub(crate) heard_at: Millis,
    ended: VecDeque<Alias>,
}

impl Node {
    /// A node that has just joined.
    pub(crate) fn new(
        account: String,
        name: String,
        class: NodeClass,
        slots: u32,
        now: Millis,
    ) -> Self {
        Self {
            account: account.into_boxed_str(),
            name: name.into_boxed_str(),
            class,
            offers: Offers::default(),
            slots: Slots::new(slots),
            attempts: BTreeSet::new(),
            arriving: 0,
            announced: 0,
            cached: None,
            merge_ms: 0,
            draining: false,
            karma: 0,
            serial: 0,
            heard_at: now,
            ended: VecDeque::new(),
        }
    }

    /// Notes that an attempt ended: what the node still says of it is late, not wrong.
    pub(crate) fn note_ended(&mut self, alias: Alias) {
        self.attempts.remove(&alias);
        self.ended.push_back(alias);
        let kept = ENDED_KEPT.saturating_add(self.attempts.len().saturating_mul(2));
        while self.ended.len() > kept {
            self.ended.pop_front();
        }
    }

    /// Whether an attempt of this name ended here lately.
    pub(crate) fn has_ended(&self, alias: Alias) -> bool {
        self.ended.contains(&alias)
    }
}
