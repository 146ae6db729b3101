//! What nodes do: join, answer, drain, fall silent, leave.

use std::collections::BTreeMap;

use protocol::limits::NODE_SLOTS_MAX;
use protocol::{Alias, CloseCode, ErrorCode, Failure, NodeToRelay, RelayToNode};

use crate::announce::Announcement;
use crate::attempts::{SlotFate, started};
use crate::input::NodeHello;
use crate::job::Accepted;
use crate::karma::{Fault, Outcome};
use crate::measure::Speedometer;
use crate::models::ModelIndex;
use crate::registry::{Node, Offer};
use crate::timers::Timer;
use crate::{Millis, Output, Scheduler, SocketId};

/// Whose alias a node named.
pub(crate) enum Named {
    /// An attempt of its own that the relay still wants.
    Running,
    /// An attempt of its own that was told to stop.
    Stopping,
    /// An attempt of its own that ended lately.
    Ended,
    /// None of its own.
    Foreign,
}

impl Scheduler {
    pub(crate) fn node_joined(&mut self, socket: SocketId, account: String, hello: NodeHello) {
        if self.register_node(socket, account, hello, self.now, false) {
            self.tell_node(
                socket,
                RelayToNode::Welcome {
                    node: socket.0.to_string(),
                    heartbeat_ms: self.config.heartbeat_ms,
                },
            );
        }
    }

    /// Takes a node into the tables; `false` if it offers nothing of the catalog, and was closed for that.
    pub(crate) fn register_node(
        &mut self,
        socket: SocketId,
        account: String,
        hello: NodeHello,
        heard_at: Millis,
        draining: bool,
    ) -> bool {
        self.client_left(socket);
        self.node_left(socket);
        let slots = hello.slots.clamp(1, NODE_SLOTS_MAX);
        let heard_at = heard_at.min(self.now);
        let karma = self.karma.key(&account, &hello.name);
        self.nodes_joined = self.nodes_joined.wrapping_add(1);
        let mut node = Node::new(account, hello.name, hello.class, slots, heard_at);
        node.karma = karma;
        node.serial = self.nodes_joined;
        node.arriving = hello.announces;
        node.draining = draining;
        let mut offers: BTreeMap<ModelIndex, Offer> = BTreeMap::new();
        for offer in hello.models {
            let model = self
                .models
                .by_id(&offer.model)
                .filter(|&model| self.models[model].entry.class == hello.class)
                .filter(|model| !offers.contains_key(model));
            let Some(model) = model else {
                self.counters.offers_ignored += 1;
                continue;
            };
            offers.insert(
                model,
                Offer {
                    context_tokens: offer.context_tokens,
                    capabilities: offer.capabilities,
                    speed: Speedometer::default(),
                    seat: None,
                },
            );
        }
        node.offers = offers.into_iter().collect();
        if node.offers.is_empty() {
            self.turn_away(socket);
            return false;
        }
        let silent_at = node.heard_at.saturating_add(self.config.node_silent_ms_max);
        self.karma.joined(node.karma, socket);
        self.nodes.insert(socket, node);
        self.timers.set(Timer::Silence(socket), silent_at);
        self.refresh_node(socket);
        self.checks_node_joined();
        true
    }

    fn turn_away(&mut self, socket: SocketId) {
        let failure = Failure::new(
            ErrorCode::UnknownModel,
            "none of the offered models is in this relay's catalog for this class of node",
        );
        self.outputs.push_back(Output::ToNode {
            socket,
            message: RelayToNode::Refused { failure },
        });
        self.outputs.push_back(Output::CloseNode {
            socket,
            code: CloseCode::ProtocolError,
            reason: "no offered model is in the catalog",
        });
    }

    pub(crate) fn node_said(&mut self, socket: SocketId, message: NodeToRelay) {
        self.heard(socket, self.now);
        let Some(node) = self.nodes.get_mut(&socket) else {
            return;
        };
        match message {
            NodeToRelay::Ping => self.tell_node(socket, RelayToNode::Pong),
            NodeToRelay::PromptChecked { check, failure } => {
                self.prompt_checked(socket, check, failure);
            }
            NodeToRelay::Draining => {
                node.draining = true;
                self.refresh_node(socket);
            }
            NodeToRelay::Cached { prefixes } => self.node_cached(socket, &prefixes),
            NodeToRelay::Hello { .. } => {
                self.counters.protocol_errors += 1;
                self.refuse_node(socket, "hello was said already");
            }
            NodeToRelay::Unknown => {
                self.counters.unknown_messages += 1;
                self.refuse_node(socket, "this relay does not know that message");
            }
            NodeToRelay::Announce {
                job,
                attempt,
                ticket,
                from,
                hash: _,
                offset,
                ended,
            } => {
                let announcement = Announcement {
                    job,
                    attempt,
                    ticket,
                    from,
                    offset,
                    is_ended: ended,
                };
                self.announced(socket, &announcement);
            }
            NodeToRelay::Accepted { alias, .. }
            | NodeToRelay::Progress { alias, .. }
            | NodeToRelay::Completed { alias, .. }
            | NodeToRelay::Failed { alias, .. }
            | NodeToRelay::Cancelled { alias, .. } => {
                self.node_said_of_attempt(socket, alias, message);
            }
        }
    }

    fn node_said_of_attempt(&mut self, socket: SocketId, alias: Alias, message: NodeToRelay) {
        match self.named(socket, alias) {
            Named::Running => self.running_attempt_said(alias, message),
            Named::Stopping => {
                self.counters.stale_messages += 1;
                if ends_attempt(&message) {
                    self.end_attempt(alias);
                }
            }
            Named::Ended => self.counters.stale_messages += 1,
            Named::Foreign => {
                self.close_for_protocol_error(socket, "named a job that it was never given");
            }
        }
    }

    fn running_attempt_said(&mut self, alias: Alias, message: NodeToRelay) {
        match message {
            NodeToRelay::Accepted {
                prompt_tokens,
                context_tokens,
                ..
            } => self.accepted(
                alias,
                Accepted {
                    prompt_tokens,
                    context_tokens,
                },
            ),
            NodeToRelay::Completed {
                offset,
                finish_reason,
                usage,
                ..
            } => self.completed(alias, offset, finish_reason, usage),
            NodeToRelay::Failed { failure, .. } => self.node_failed(alias, failure),
            NodeToRelay::Cancelled { .. } => {
                self.counters.protocol_errors += 1;
                let failure = Failure::new(ErrorCode::EngineFailed, "the node stopped unasked");
                self.lose_attempt(alias, failure, SlotFate::Free);
            }
            NodeToRelay::Progress {
                prefilled_tokens, ..
            } => self.progressed(alias, prefilled_tokens),
            // These name no attempt.
            NodeToRelay::Hello { .. }
            | NodeToRelay::Announce { .. }
            | NodeToRelay::PromptChecked { .. }
            | NodeToRelay::Cached { .. }
            | NodeToRelay::Draining
            | NodeToRelay::Ping
            | NodeToRelay::Unknown => {}
        }
    }

    /// Saying the same again is no progress.
    fn progressed(&mut self, alias: Alias, prefilled_tokens: u32) {
        if let Some(attempt) = self.attempts.get_mut(&alias)
            && prefilled_tokens > attempt.prefilled_tokens
        {
            attempt.prefilled_tokens = prefilled_tokens;
            self.renew_lease(alias);
        }
    }

    fn accepted(&mut self, alias: Alias, accepted: Accepted) {
        let Some(attempt) = self.attempts.get_mut(&alias) else {
            return;
        };
        if attempt.accepted.is_some() {
            let socket = attempt.node;
            self.counters.protocol_errors += 1;
            self.refuse_node(socket, "the job was accepted already");
            return;
        }
        attempt.accepted = Some(accepted);
        let job = attempt.job;
        self.renew_lease(alias);
        let Some(id) = job else { return };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        // A later attempt reads the same prompt, at the network's cost.
        job.prompt_tokens.get_or_insert(accepted.prompt_tokens);
        if let Some(owner) = job.owner {
            self.tell_client(owner, started(id, accepted));
        }
    }

    /// Whose attempt an alias means, coming from this socket.
    pub(crate) fn named(&self, socket: SocketId, alias: Alias) -> Named {
        match self.attempts.get(&alias) {
            Some(attempt) if attempt.node == socket => match attempt.job {
                Some(_) => Named::Running,
                None => Named::Stopping,
            },
            Some(_) | None => {
                let ended = self
                    .nodes
                    .get(&socket)
                    .is_some_and(|node| node.has_ended(alias));
                if ended { Named::Ended } else { Named::Foreign }
            }
        }
    }

    pub(crate) fn heard(&mut self, socket: SocketId, at: Millis) {
        if let Some(node) = self.nodes.get_mut(&socket) {
            node.heard_at = node.heard_at.max(at.min(self.now));
        }
        if let Some(client) = self.clients.get_mut(&socket) {
            client.heard_at = client.heard_at.max(at.min(self.now));
            self.watch_client(socket);
        }
    }

    pub(crate) fn check_silence(&mut self, socket: SocketId) {
        let node = self
            .nodes
            .get(&socket)
            .map(|node| node.heard_at + self.config.node_silent_ms_max);
        let client = self
            .clients
            .get(&socket)
            .map(|client| client.heard_at + self.config.client_silent_ms_max);
        let Some(silent_at) = node.or(client) else {
            return;
        };
        let (code, reason) = (CloseCode::HeartbeatLost, "nothing heard for too long");
        if self.now < silent_at {
            self.timers.set(Timer::Silence(socket), silent_at);
        } else if node.is_some() {
            self.close_node(socket, code, reason);
        } else {
            self.close_client(socket, code, reason);
        }
    }

    pub(crate) fn close_for_protocol_error(&mut self, socket: SocketId, reason: &'static str) {
        self.counters.protocol_errors += 1;
        self.close_node(socket, CloseCode::ProtocolError, reason);
    }

    pub(crate) fn close_node(&mut self, socket: SocketId, code: CloseCode, reason: &'static str) {
        self.outputs.push_back(Output::CloseNode {
            socket,
            code,
            reason,
        });
        self.node_left(socket);
    }

    /// The socket ended: nobody is left to confirm anything, and its attempts are lost.
    pub(crate) fn node_left(&mut self, socket: SocketId) {
        let Some(mut node) = self.nodes.remove(&socket) else {
            return;
        };
        self.timers.clear(Timer::Silence(socket));
        self.timers.clear(Timer::Quarantine(socket));
        self.karma.left(node.karma, socket);
        self.checks_node_left(socket);
        for (model, offer) in node.offers.iter_mut() {
            self.models[model].unseat(&mut offer.seat);
            // Where it was the last that is trusted, the suspects get work now.
            self.dirty.insert(model);
            self.lines.moved.insert(model);
        }
        for by in self.finished.values_mut().filter_map(|f| f.by.as_mut()) {
            by.node = by.node.filter(|&holder| holder != socket);
        }
        self.announced_node_left(socket);
        if !node.attempts.is_empty() {
            self.counters.nodes_lost += 1;
        }
        let mut has_lost = false;
        for alias in node.attempts {
            self.timers.clear(Timer::Attempt(alias));
            let Some(attempt) = self.attempts.remove(&alias) else {
                continue;
            };
            self.learn_pace(&attempt);
            if let Some(job) = attempt.job {
                has_lost = true;
                let failure = Failure::new(
                    ErrorCode::NodeLost,
                    "the node's connection ended before the answer did",
                );
                self.retry_or_fail(job, socket, failure, true);
            }
        }
        if has_lost {
            // Once, however many jobs it had: they were lost together.
            self.outcome_of(node.karma, Outcome::Bad(Fault::Lost));
        }
    }

    fn refuse_node(&mut self, socket: SocketId, why: &str) {
        let failure = Failure::new(ErrorCode::ProtocolError, why);
        self.tell_node(socket, RelayToNode::Refused { failure });
    }
}

/// Whether a node says with this that the attempt's slot is free.
const fn ends_attempt(message: &NodeToRelay) -> bool {
    match message {
        NodeToRelay::Completed { .. }
        | NodeToRelay::Failed { .. }
        | NodeToRelay::Cancelled { .. } => true,
        NodeToRelay::Hello { .. }
        | NodeToRelay::Announce { .. }
        | NodeToRelay::Accepted { .. }
        | NodeToRelay::Progress { .. }
        | NodeToRelay::PromptChecked { .. }
        | NodeToRelay::Cached { .. }
        | NodeToRelay::Draining
        | NodeToRelay::Ping
        | NodeToRelay::Unknown => false,
    }
}
