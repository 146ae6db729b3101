//! From the queue to a node and back: assignment, what the client hears of it, stopping, slots.

use std::sync::Arc;

use protocol::{Alias, JobId, PrefixHash, RelayToClient, RelayToNode};

use crate::job::{Accepted, Attempt, Job};
use crate::measure::Meter;
use crate::models::ModelIndex;
use crate::placement::Need;
use crate::queue::Waiting;
use crate::slots::Slot;
use crate::timers::Timer;
use crate::{FRESH_TICKETS, Millis, Scheduler, SocketId};

/// How long an answer that has begun waits while no node that is connected can go on with it: as long as nodes keep
/// answers without a relay.
pub(crate) const STRANDED_MS: Millis = 60_000;

/// What becomes of a lost attempt's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotFate {
    /// The node said that the attempt ended.
    Free,
    /// The node is told to stop, and the slot stays taken until it did.
    UntilStopped,
}

impl Scheduler {
    /// Puts a job in the line of each of its models.
    pub(crate) fn enqueue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.alias = None;
        job.is_held = false;
        (job.paused_at, job.slow) = (None, None);
        self.timers.clear(Timer::SlowReader(id));
        if job.has_begun() {
            let until = self.now.saturating_add(STRANDED_MS);
            self.timers.set(Timer::Stranded(id), until);
        }
        job.told = None;
        self.lines.entered.push(id);
        let waiting = Waiting {
            job: id,
            account: Arc::clone(&job.account),
            need: job.need,
            bill: job.bill,
            is_returned: job.charged.is_some() || job.ticket < FRESH_TICKETS,
        };
        for &model in &job.choices {
            self.models.enter(model, self.now);
            let queue = &mut self.models[model].queue;
            if !queue.insert(job.ticket, waiting.clone()) {
                self.lines.moved.insert(model);
            }
            self.dirty.insert(model);
            #[cfg(feature = "planted-bugs")]
            if waiting.is_returned && self.config.has(crate::PlantedBug::QueueNotRerun) {
                self.dirty.remove(&model);
            }
        }
        self.count_waiting(&waiting.account, true);
    }

    /// Takes a job that waits out of all its lines.
    pub(crate) fn dequeue(&mut self, id: JobId) {
        let waits = |job: &&Job| job.alias.is_none() && !job.is_held;
        let Some(job) = self.jobs.get(&id).filter(waits) else {
            return;
        };
        for &model in &job.choices {
            self.models[model].queue.remove(job.ticket);
            self.lines.moved.insert(model);
        }
        let account = Arc::clone(&job.account);
        self.timers.clear(Timer::Stranded(id));
        self.count_waiting(&account, false);
    }

    /// A model cannot answer this job: it waits for the others of its choices. `false` where no node offers any.
    pub(crate) fn rule_out(&mut self, id: JobId, model: ModelIndex) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let models = &self.models;
        let can = |choice: &ModelIndex| *choice != model && models[*choice].can(job.need);
        if !job.choices.iter().any(can) {
            return false;
        }
        job.choices.retain(|choice| *choice != model);
        if self.models[model].queue.remove(job.ticket).is_some() {
            self.lines.moved.insert(model);
            self.lines.entered.push(id);
        }
        true
    }

    /// Places jobs while a free node can do a waiting one: those that came back first, then by the turns of the models, then
    /// by those of their accounts.
    pub(crate) fn dispatch(&mut self) {
        loop {
            let next = self
                .dirty
                .iter()
                .filter_map(|&model| {
                    let (round, ticket, need) = self.models[model].next_ready()?;
                    let start = self.models.start(model);
                    let turn = if round == 0 {
                        0
                    } else {
                        start.saturating_add(1)
                    };
                    Some((turn, ticket, need, model))
                })
                .min();
            let Some((_, ticket, need, turn)) = next else {
                return;
            };
            if let Some(id) = self.models[turn].queue.job(ticket) {
                self.assign(id, need, turn);
            }
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "invariant: a waiting job, a free node and its slot are found where the sets say so"
    )]
    fn assign(&mut self, id: JobId, need: Need, turn: ModelIndex) {
        let job = self.jobs.get(&id).expect("a known job");
        let is_free = |model: &&ModelIndex| self.models[**model].is_free(need);
        let model = *job.choices.iter().find(is_free).expect("a free model");
        // It pays in the line whose turn it took, whichever of its models answers: else jobs that stand in several lines
        // would take turns in one and pay in another.
        self.charge(id, turn);
        self.dequeue(id);
        self.models[model].pace.moved_at = self.now;
        let socket = self.choose_node(id, model, need).expect("a free node");
        let job = self.jobs.get_mut(&id).expect("a known job");
        let node = self.nodes.get_mut(&socket).expect("a known node");
        let slot = node.slots.take().expect("a free slot");
        let number = job.attempts + 1;
        let alias = self.begin_attempt(id, socket, model, Some(slot), number);
        self.tell_assign(id, alias, model, socket);
        self.tell_state(id);
        self.refresh_node(socket);
    }

    /// Enters an attempt into the tables. Its lease begins.
    pub(crate) fn begin_attempt(
        &mut self,
        id: JobId,
        socket: SocketId,
        model: ModelIndex,
        slot: Option<Slot>,
        number: u32,
    ) -> Alias {
        let alias = self.fresh_alias();
        let deadline = self.now.saturating_add(self.config.lease_ms);
        let (mut start, mut reread_tokens) = (0, 0);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.attempts = job.attempts.max(number);
            job.alias = Some(alias);
            job.slow = None;
            job.first_assigned_at.get_or_insert(self.now);
            start = job.transcript.offset();
            reread_tokens = job.transcript.token_count();
            if job.charged.is_none() {
                // It came back from a pool that forgot it, and pays at its end.
                job.charged = Some(model);
                job.bill.tokens = 0;
            }
        }
        self.timers.clear(Timer::SlowReader(id));
        if let Some(node) = self.nodes.get_mut(&socket) {
            node.attempts.insert(alias);
        }
        let attempt = Attempt {
            job: Some(id),
            node: socket,
            model,
            slot,
            number,
            assigned_at: self.now,
            deadline,
            prefilled_tokens: 0,
            accepted: None,
            start,
            offset: start,
            first_byte_at: None,
            meter: Meter::begin(self.now, reread_tokens),
        };
        #[cfg(feature = "planted-bugs")]
        let attempt = Attempt {
            meter: attempt.meter.unless_reset(
                self.now,
                self.config.has(crate::PlantedBug::CounterNotReset),
            ),
            ..attempt
        };
        self.attempts.insert(alias, attempt);
        self.models[model].pace.running += 1;
        self.timers.set(Timer::Attempt(alias), deadline);
        self.counters.assigned += 1;
        alias
    }

    fn tell_assign(&mut self, id: JobId, alias: Alias, model: ModelIndex, socket: SocketId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.paused_at = None;
        let assign = RelayToNode::Assign {
            job: id,
            attempt: job.attempts,
            alias,
            model: self.models[model].entry.id.clone(),
            lease_ms: self.config.lease_ms,
            window_bytes: self.config.window_bytes,
            ticket: String::new(),
            request: job.request.clone(),
            answer: job.transcript.answer(job.vocabulary.model()),
            prefix: job.prefixes.first().copied().map(PrefixHash),
        };
        let assign = self.with_node_ticket(assign, id, socket);
        self.tell_node(socket, assign);
        self.ask_to_merge(socket);
    }

    /// Aliases begin anywhere, so that those of a pool before its sleep are not met again.
    fn fresh_alias(&mut self) -> Alias {
        loop {
            self.next_alias = self.next_alias.wrapping_add(1);
            if !self.attempts.contains_key(&self.next_alias) {
                return self.next_alias;
            }
        }
    }

    /// Tells a job's client where it stands.
    pub(crate) fn tell_state(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Some(owner) = job.owner else { return };
        let Some(alias) = job.alias else {
            if !job.is_held {
                let place = self.place_of(job);
                self.tell_place(id, place);
            }
            return;
        };
        let begins = job.has.map(|(offset, _)| offset);
        let begins = begins.unwrap_or_else(|| job.transcript.offset());
        let Some(assigned) = self.assigned(id, alias, begins) else {
            return;
        };
        let accepted = self
            .attempts
            .get(&alias)
            .and_then(|attempt| attempt.accepted);
        self.tell_client(owner, assigned);
        if let Some(accepted) = accepted {
            self.tell_client(owner, started(id, accepted));
        }
        self.resend_missed(owner, id, alias);
    }

    /// What a client hears of an attempt whose frames begin at `offset`.
    pub(crate) fn assigned(&self, id: JobId, alias: Alias, offset: u32) -> Option<RelayToClient> {
        let attempt = self.attempts.get(&alias)?;
        let node = self.nodes.get(&attempt.node)?;
        Some(RelayToClient::Assigned {
            job: id,
            attempt: attempt.number,
            alias,
            model: self.models[attempt.model].entry.id.clone(),
            node: node.name.to_string(),
            class: node.class,
            offset,
        })
    }

    /// The node made progress: its lease begins anew. The timer stays where it is and is moved when it fires.
    pub(crate) fn renew_lease(&mut self, alias: Alias) {
        let deadline = self.now.saturating_add(self.config.lease_ms);
        if let Some(attempt) = self.attempts.get_mut(&alias) {
            attempt.deadline = deadline;
        }
    }

    /// Takes a job out of every table but its attempt's.
    pub(crate) fn take_job(&mut self, id: JobId) -> Option<Job> {
        self.dequeue(id);
        let job = self.jobs.remove(&id)?;
        self.content_bytes -= job.bytes + job.transcript_bytes;
        self.settle(&job);
        self.timers.clear(Timer::Grace(id));
        self.timers.clear(Timer::Held(id));
        self.timers.clear(Timer::SlowReader(id));
        if let Some(client) = job.owner.and_then(|owner| self.clients.get_mut(&owner)) {
            client.jobs.remove(&id);
        }
        Some(job)
    }

    /// Tells the node to stop. Its slot stays taken until it says that it did, or is closed for not saying so.
    pub(crate) fn stop_attempt(&mut self, alias: Alias) {
        let deadline = self.now.saturating_add(self.config.lease_ms);
        let Some(attempt) = self.attempts.get_mut(&alias) else {
            return;
        };
        #[cfg(feature = "planted-bugs")]
        let job = attempt.job;
        attempt.job = None;
        #[cfg(feature = "planted-bugs")]
        if self.config.has(crate::PlantedBug::StaleAttemptHeard) {
            attempt.job = job;
        }
        attempt.deadline = deadline;
        let node = attempt.node;
        self.timers.set(Timer::Attempt(alias), deadline);
        self.tell_node(node, RelayToNode::Cancel { alias });
    }

    /// The node says that the attempt ended: its slot is free, its speed is known.
    pub(crate) fn end_attempt(&mut self, alias: Alias) {
        let Some(attempt) = self.attempts.remove(&alias) else {
            return;
        };
        self.timers.clear(Timer::Attempt(alias));
        self.learn_pace(&attempt);
        let Some(node) = self.nodes.get_mut(&attempt.node) else {
            return;
        };
        node.note_ended(alias);
        if let Some(slot) = attempt.slot {
            node.slots.give_back(slot);
        }
        if let Some(offer) = node.offers.get_mut(attempt.model) {
            let prompt_tokens = attempt.accepted.map(|accepted| accepted.prompt_tokens);
            let decode_max = self.config.decode_max;
            offer.speed.learn(&attempt.meter, prompt_tokens, decode_max);
        }
        self.refresh_node(attempt.node);
    }

    /// An attempt holds its slot no more. One that never began says nothing of how long jobs take.
    pub(crate) fn learn_pace(&mut self, attempt: &Attempt) {
        let pace = &mut self.models[attempt.model].pace;
        pace.running -= 1;
        if attempt.accepted.is_some() {
            pace.learn_slot(self.now.saturating_sub(attempt.assigned_at));
        }
    }
}

/// What a client hears of an accepted prompt.
pub(crate) const fn started(job: JobId, accepted: Accepted) -> RelayToClient {
    RelayToClient::Started {
        job,
        prompt_tokens: accepted.prompt_tokens,
        context_tokens: accepted.context_tokens,
    }
}
