//! Nodes that come back with answers of an earlier connection, and who goes on with them.
//!
//! ```text
//! announce ─┬─ the job waits, or runs on this node's dead socket ──────▶ adopt
//!           ├─ the job is unknown: the relay has restarted ─▶ kept ─┬──▶ adopt, when the client resumes
//!           │                                                       └──▶ fence, when it does not
//!           └─ the job is over, runs elsewhere, or the ticket is not good ─▶ fence
//! ```

use protocol::{AnswerHash, ErrorCode, Failure, JobId, RelayToNode};

use crate::job::{Announced, Vocabulary};
use crate::models::ModelIndex;
use crate::slots::Slot;
use crate::tickets::NodeTicket;
use crate::timers::Timer;
use crate::{Millis, Scheduler, SocketId};

/// A ticket is good for this long: longer than any answer takes, and no longer than secrets are kept.
pub(crate) const TICKET_MS: Millis = 24 * 60 * 60 * 1_000;

/// Answers without a client that one node may keep here: its slots, and as many that ended.
const ANNOUNCED_PER_NODE_MAX: usize = 512;

/// What a node says that it has.
pub(crate) struct Announcement {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    pub(crate) ticket: String,
    pub(crate) from: u32,
    pub(crate) offset: u32,
    pub(crate) is_ended: bool,
}

/// What becomes of an announcement.
enum Verdict {
    /// The node goes on.
    Adopt,
    /// Its client has not come back yet.
    Keep,
    /// Nobody wants it.
    Fence,
}

impl Scheduler {
    /// Adds a ticket for this attempt to its `assign`.
    pub(crate) fn with_node_ticket(
        &self,
        mut assign: RelayToNode,
        id: JobId,
        socket: SocketId,
    ) -> RelayToNode {
        if let RelayToNode::Assign {
            attempt,
            model,
            ticket,
            ..
        } = &mut assign
            && let (Some(job), Some(node)) = (self.jobs.get(&id), self.nodes.get(&socket))
        {
            *ticket = self.signer.sign(&NodeTicket {
                job: id,
                attempt: *attempt,
                node: node.account.to_string(),
                account: job.account.to_string(),
                model: model.clone(),
                until: self.now.saturating_add(TICKET_MS),
            });
        }
        assign
    }

    /// A node that came back has this.
    pub(crate) fn announced(&mut self, socket: SocketId, said: &Announcement) {
        self.note_arrival(socket);
        let ticket = self
            .signer
            .open::<NodeTicket>(&said.ticket)
            .filter(|ticket| self.is_ticket_of(socket, said, ticket));
        let model = ticket
            .as_ref()
            .and_then(|ticket| self.offered(socket, &ticket.model));
        let (Some(ticket), Some(model)) = (ticket, model) else {
            self.counters.tickets_refused += 1;
            self.fence(socket, said.job, said.attempt);
            return;
        };
        match self.judge(socket, said, &ticket.account) {
            Verdict::Fence => self.fence(socket, said.job, said.attempt),
            verdict @ (Verdict::Adopt | Verdict::Keep) => {
                let slot = if said.is_ended {
                    None
                } else {
                    let node = self.nodes.get_mut(&socket);
                    let Some(slot) = node.and_then(|node| node.slots.take()) else {
                        self.fence(socket, said.job, said.attempt);
                        return;
                    };
                    Some(slot)
                };
                let announced = Announced {
                    node: socket,
                    attempt: said.attempt,
                    account: ticket.account,
                    model,
                    from: said.from,
                    offset: said.offset,
                    slot,
                };
                self.refresh_node(socket);
                match verdict {
                    Verdict::Adopt => self.adopt(said.job, announced),
                    Verdict::Keep | Verdict::Fence => self.keep_announced(said.job, announced),
                }
            }
        }
    }

    /// Once a node has said all that it has, it gets work, and its dead sockets are closed.
    fn note_arrival(&mut self, socket: SocketId) {
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        if node.arriving == 1 {
            node.arriving = 0;
            self.refresh_node(socket);
        } else {
            node.arriving = node.arriving.saturating_sub(1);
        }
    }

    fn is_ticket_of(&self, socket: SocketId, said: &Announcement, ticket: &NodeTicket) -> bool {
        let node = self.nodes.get(&socket);
        ticket.job == said.job
            && ticket.attempt == said.attempt
            && node.is_some_and(|node| *node.account == *ticket.node)
            && self.now <= ticket.until
    }

    fn offered(&self, socket: SocketId, model: &str) -> Option<ModelIndex> {
        let model = self.models.by_id(model)?;
        let node = self.nodes.get(&socket)?;
        node.offers.get(model).map(|_| model)
    }

    fn judge(&mut self, socket: SocketId, said: &Announcement, account: &str) -> Verdict {
        let id = said.job;
        let Some(job) = self.jobs.get(&id) else {
            return self.judge_unknown(socket, said);
        };
        let agrees = *job.account == *account
            && said.from <= job.transcript.offset()
            && said.offset >= job.transcript.offset();
        let node = self.nodes.get(&socket);
        let has_room = said.is_ended || node.is_some_and(|node| node.slots.free() > 0);
        let running = job
            .alias
            .and_then(|alias| Some((alias, self.attempts.get(&alias)?)));
        match running {
            _ if !agrees || !has_room => Verdict::Fence,
            None => Verdict::Adopt,
            // The node has a new socket before anybody noticed that the old one is dead.
            Some((alias, attempt))
                if attempt.number == said.attempt && self.has_come_again(attempt.node, socket) =>
            {
                let ghost = attempt.node;
                self.end_attempt(alias);
                self.retire(ghost);
                Verdict::Adopt
            }
            Some(_) => Verdict::Fence,
        }
    }

    fn judge_unknown(&self, socket: SocketId, said: &Announcement) -> Verdict {
        let is_over =
            self.finished.contains_key(&said.job) || self.recently_ended.contains(said.job);
        // The same attempt on a new socket of its node: the old one is dead, and nobody has noticed yet.
        let is_outdone = self.announced.get(&said.job).is_some_and(|kept| {
            kept.attempt > said.attempt
                || (kept.attempt == said.attempt && !self.has_come_again(kept.node, socket))
        });
        let kept = self.nodes.get(&socket).map_or(0, |node| node.announced);
        if is_over || is_outdone || kept >= ANNOUNCED_PER_NODE_MAX {
            Verdict::Fence
        } else {
            Verdict::Keep
        }
    }

    /// Whether the node of `old` has come back on `new`. What it says on the older one after that is late. Two nodes of one
    /// name are told apart by what they have: only one of them was given an attempt.
    fn has_come_again(&self, old: SocketId, new: SocketId) -> bool {
        match (self.nodes.get(&old), self.nodes.get(&new)) {
            (Some(a), Some(b)) => a.account == b.account && a.name == b.name && a.serial < b.serial,
            (_, _) => false,
        }
    }

    /// A node's old socket gets no more work; its silence will close it.
    fn retire(&mut self, socket: SocketId) {
        if let Some(node) = self.nodes.get_mut(&socket) {
            node.draining = true;
        }
        self.refresh_node(socket);
    }

    fn keep_announced(&mut self, id: JobId, announced: Announced) {
        let ghost = self
            .announced
            .get(&id)
            .filter(|kept| kept.attempt == announced.attempt)
            .map(|kept| kept.node);
        self.release_announced(id);
        if let Some(ghost) = ghost {
            self.retire(ghost);
        }
        if let Some(node) = self.nodes.get_mut(&announced.node) {
            node.announced += 1;
        }
        let until = self.now.saturating_add(self.config.grace_ms);
        self.timers.set(Timer::Announced(id), until);
        self.announced.insert(id, announced);
    }

    /// Takes an announcement out of the tables; its slot stays taken.
    pub(crate) fn take_announced(&mut self, id: JobId) -> Option<Announced> {
        let announced = self.announced.remove(&id)?;
        self.timers.clear(Timer::Announced(id));
        if let Some(node) = self.nodes.get_mut(&announced.node) {
            node.announced -= 1;
        }
        Some(announced)
    }

    /// Nobody came for it, or a later attempt has it: the node forgets it.
    pub(crate) fn release_announced(&mut self, id: JobId) {
        let Some(announced) = self.take_announced(id) else {
            return;
        };
        self.give_back(announced.node, announced.slot);
        self.fence(announced.node, id, announced.attempt);
    }

    fn give_back(&mut self, socket: SocketId, slot: Option<Slot>) {
        if let (Some(node), Some(slot)) = (self.nodes.get_mut(&socket), slot) {
            node.slots.give_back(slot);
            self.refresh_node(socket);
        }
    }

    /// The announcements of a node that left.
    pub(crate) fn announced_node_left(&mut self, socket: SocketId) {
        let gone: Vec<JobId> = self
            .announced
            .iter()
            .filter(|(_, announced)| announced.node == socket)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.timers.clear(Timer::Announced(id));
            self.announced.remove(&id);
        }
    }

    /// The node goes on with the job from where its client is.
    pub(crate) fn adopt(&mut self, id: JobId, announced: Announced) {
        let Announced {
            node: socket,
            attempt,
            model,
            slot,
            ..
        } = announced;
        self.leave_line(id);
        let alias = self.begin_attempt(id, socket, model, slot, attempt);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.is_held = false;
        job.paused_at = None;
        if job.transcript.offset() == 0 {
            job.vocabulary = Vocabulary::Unspoken;
        }
        let offset = job.transcript.offset();
        let hash = job
            .transcript
            .hash(offset)
            .or(job.claimed)
            .unwrap_or_else(AnswerHash::default);
        let adopt = RelayToNode::Adopt {
            job: id,
            attempt,
            alias,
            lease_ms: self.config.lease_ms,
            window_bytes: self.config.window_bytes,
            offset,
            tokens: job.transcript.token_count(),
            hash,
        };
        self.timers.clear(Timer::Held(id));
        self.counters.adopted += 1;
        self.tell_node(socket, adopt);
        self.ask_to_merge(socket);
        self.tell_state(id);
    }

    fn fence(&mut self, socket: SocketId, job: JobId, attempt: u32) {
        self.counters.fenced += 1;
        let failure = Failure::new(
            ErrorCode::UnknownJob,
            "this relay has no such job for this node; stop it and forget it",
        );
        self.tell_node(
            socket,
            RelayToNode::Fence {
                job,
                attempt,
                failure,
            },
        );
    }
}
