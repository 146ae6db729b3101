//! What clients do: join, submit, acknowledge, cancel, leave.

use protocol::{ClientToRelay, CloseCode, ErrorCode, Failure, JobId, RelayToClient, RelayToNode};

use crate::registry::Client;
use crate::resume::Resumption;
use crate::timers::Timer;
use crate::{Millis, Output, Scheduler, SocketId};

impl Scheduler {
    pub(crate) fn client_joined(&mut self, socket: SocketId, account: String) {
        // A socket joins once. If the shell says otherwise, the newcomer is right.
        self.client_left(socket);
        self.node_left(socket);
        let name = self.account(&account);
        let number = self.next_client();
        self.clients
            .insert(socket, Client::new(number, name, self.now));
        self.tell_client(socket, RelayToClient::Welcome { account });
    }

    pub(crate) fn client_restored(
        &mut self,
        socket: SocketId,
        account: &str,
        heard_at: Option<Millis>,
    ) {
        self.client_left(socket);
        self.node_left(socket);
        let said_at = heard_at.map_or(self.now, |at| at.min(self.now));
        let account = self.account(account);
        let number = self.next_client();
        self.clients
            .insert(socket, Client::new(number, account, said_at));
        if heard_at.is_some() {
            self.watch_client(socket);
        }
    }

    const fn next_client(&mut self) -> u64 {
        self.clients_seen += 1;
        self.clients_seen
    }

    /// Whether a job's owner came after this socket and is still here. What the older one then says of the job was said
    /// before its client left it, and is late: it must not take the job from the connection that is alive.
    pub(crate) fn is_outdated(&self, socket: SocketId, owner: Option<SocketId>) -> bool {
        let number = |socket: &SocketId| self.clients.get(socket).map(|client| client.number);
        match (number(&socket), owner.as_ref().and_then(number)) {
            (Some(own), Some(owners)) => own < owners,
            (_, _) => false,
        }
    }

    /// A heartbeat came: from now on this client's silence means something.
    pub(crate) fn watch_client(&mut self, socket: SocketId) {
        let Some(client) = self.clients.get_mut(&socket) else {
            return;
        };
        if !std::mem::replace(&mut client.has_heartbeat, true) {
            let silent_at = client
                .heard_at
                .saturating_add(self.config.client_silent_ms_max);
            self.timers.set(Timer::Silence(socket), silent_at);
        }
    }

    /// Gives back what this socket had reserved.
    pub(crate) fn release_reserved(&mut self, socket: SocketId) {
        if let Some(client) = self.clients.get_mut(&socket) {
            self.content_bytes -= std::mem::take(&mut client.reserved);
        }
    }

    pub(crate) fn client_said(&mut self, socket: SocketId, message: ClientToRelay, bytes: usize) {
        let Some(client) = self.clients.get_mut(&socket) else {
            return;
        };
        client.heard_at = self.now;
        match message {
            ClientToRelay::Submit {
                job,
                model,
                request,
            } => self.submit(socket, job, &model, request, bytes),
            ClientToRelay::Resume {
                job,
                ticket,
                attempt,
                offset,
                tokens,
                hash,
                model,
                request,
                answer,
            } => self.resume(
                socket,
                Resumption {
                    job,
                    ticket,
                    attempt,
                    offset,
                    tokens,
                    hash,
                    model,
                    request,
                    answer,
                    bytes,
                },
            ),
            ClientToRelay::Acknowledge { job, offset, whole } => {
                self.client_acknowledged(socket, job, offset, whole);
            }
            ClientToRelay::Cancel { job } => self.client_cancels(socket, job),
            ClientToRelay::Ping => {
                self.watch_client(socket);
                self.tell_client(socket, RelayToClient::Pong);
            }
            ClientToRelay::Hello { .. } => {
                self.counters.protocol_errors += 1;
                self.refuse_client(socket, "hello was said already");
            }
            ClientToRelay::Unknown => {
                self.counters.unknown_messages += 1;
                self.refuse_client(socket, "this relay does not know that message");
            }
        }
    }

    /// The socket ended. Its unfinished jobs go on for a while without it.
    pub(crate) fn client_left(&mut self, socket: SocketId) {
        self.release_reserved(socket);
        let Some(client) = self.clients.remove(&socket) else {
            return;
        };
        self.timers.clear(Timer::Silence(socket));
        for id in client.jobs {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.owner = None;
                let until = self.now.saturating_add(self.config.grace_ms);
                self.timers.set(Timer::Grace(id), until);
            }
        }
        for id in client.finished {
            if let Some(finished) = self.finished.get_mut(&id) {
                finished.owner = None;
            }
        }
    }

    pub(crate) fn close_client(&mut self, socket: SocketId, code: CloseCode, reason: &'static str) {
        self.outputs.push_back(Output::CloseClient {
            socket,
            code,
            reason,
        });
        self.client_left(socket);
    }

    pub(crate) fn grace_ended(&mut self, id: JobId) {
        let failure = Failure::new(ErrorCode::ClientGone, "the client stayed away for too long");
        self.cancel(id, failure);
    }

    fn client_cancels(&mut self, socket: SocketId, id: JobId) {
        if self
            .jobs
            .get(&id)
            .is_some_and(|job| job.owner == Some(socket))
        {
            let failure = Failure::new(ErrorCode::Cancelled, "stopped as asked");
            self.cancel(id, failure);
            return;
        }
        let just_finished = self
            .finished
            .get(&id)
            .is_some_and(|finished| finished.owner == Some(socket));
        if !just_finished {
            // Another client's job, and one that never was, look the same.
            let failure = Failure::new(ErrorCode::UnknownJob, "this client has no such job");
            self.tell_client(socket, RelayToClient::Failed { job: id, failure });
        }
    }

    /// Ends a job for its client at once; a node that runs it keeps the slot until it has stopped.
    fn cancel(&mut self, id: JobId, failure: Failure) {
        let alias = self.jobs.get(&id).and_then(|job| job.alias);
        if let Some(alias) = alias {
            self.stop_attempt(alias);
        }
        let Some(job) = self.take_job(id) else { return };
        self.counters.cancelled += 1;
        self.recently_ended.insert(id, Some(failure.clone()));
        if let Some(owner) = job.owner {
            self.tell_client(owner, RelayToClient::Failed { job: id, failure });
        }
    }

    pub(crate) fn client_acknowledged(
        &mut self,
        socket: SocketId,
        id: JobId,
        offset: u32,
        whole: bool,
    ) {
        if let Some(job) = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.owner == Some(socket))
        {
            if offset > job.transcript.offset() || whole {
                self.acknowledged_too_much(socket);
            } else if offset > job.acknowledged {
                job.acknowledged = offset;
                self.pass_on_acknowledgement(id, offset, false);
                self.watch_reader(id);
            }
            return;
        }
        let Some(finished) = self
            .finished
            .get_mut(&id)
            .filter(|finished| finished.owner == Some(socket))
        else {
            // A job that failed meanwhile, most likely.
            self.counters.stale_messages += 1;
            return;
        };
        let end = finished.transcript.offset();
        if offset > end || (whole && offset < end) {
            self.acknowledged_too_much(socket);
            return;
        }
        finished.acknowledged = finished.acknowledged.max(offset);
        let holder = finished
            .by
            .as_ref()
            .and_then(|by| Some((by.node?, by.alias)));
        if whole {
            self.forget_finished(id);
        }
        if let Some((node, alias)) = holder {
            self.tell_node(
                node,
                RelayToNode::Acknowledge {
                    alias,
                    offset,
                    whole,
                },
            );
        }
    }

    fn acknowledged_too_much(&mut self, socket: SocketId) {
        self.counters.protocol_errors += 1;
        let reason = "acknowledged more than was sent";
        self.close_client(socket, CloseCode::ProtocolError, reason);
    }

    /// Acknowledged to its end, or nobody will acknowledge it any more.
    pub(crate) fn forget_finished(&mut self, id: JobId) {
        self.timers.clear(Timer::Finished(id));
        let Some(finished) = self.finished.remove(&id) else {
            return;
        };
        self.finished_order.remove(&(finished.until, id));
        self.recently_ended.insert(id, None);
        self.finished_bytes -= finished.transcript_bytes;
        if let Some(client) = finished
            .owner
            .and_then(|owner| self.clients.get_mut(&owner))
        {
            client.finished.retain(|kept| *kept != id);
        }
    }

    fn refuse_client(&mut self, socket: SocketId, why: &str) {
        let failure = Failure::new(ErrorCode::ProtocolError, why);
        self.tell_client(socket, RelayToClient::Refused { failure });
    }
}
