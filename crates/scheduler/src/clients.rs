//! What clients do: join, submit, acknowledge, cancel, leave.

use protocol::{
    Alias, ClientToRelay, CloseCode, ErrorCode, Failure, JobId, RelayToClient, RelayToNode,
};

use crate::registry::Client;
use crate::timers::Timer;
use crate::{Millis, Output, Scheduler, SocketId};

/// What an acknowledgement was about.
enum Acknowledged {
    /// Nothing that needs to be passed on.
    Nothing,
    /// A node may release these bytes.
    Bytes(SocketId, Alias, u32),
    /// More than was ever sent.
    TooMuch,
}

impl Scheduler {
    pub(crate) fn client_joined(&mut self, socket: SocketId, account: String) {
        // A socket joins once. If the shell says otherwise, the newcomer is right.
        self.client_left(socket);
        self.node_left(socket);
        self.clients.insert(socket, Client::new(self.now));
        self.tell_client(socket, RelayToClient::Welcome { account });
    }

    pub(crate) fn client_restored(&mut self, socket: SocketId, heard_at: Option<Millis>) {
        self.client_left(socket);
        self.node_left(socket);
        let said_at = heard_at.map_or(self.now, |at| at.min(self.now));
        self.clients.insert(socket, Client::new(said_at));
        if heard_at.is_some() {
            self.watch_client(socket);
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
            ClientToRelay::Resume { .. } => {}
            ClientToRelay::Acknowledge {
                job,
                offset,
                whole: _,
            } => {
                self.client_acknowledged(socket, job, offset);
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
            self.finished.remove(&id);
            self.timers.clear(Timer::Finished(id));
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
            .is_some_and(|finished| finished.owner == socket);
        if !just_finished {
            // Another client's job, and one that never was, look the same.
            let failure = Failure::new(ErrorCode::UnknownJob, "this client has no such job");
            self.tell_client(socket, RelayToClient::Failed { job: id, failure });
        }
    }

    /// Ends a job for its client at once; a node that runs it keeps the slot until it has stopped.
    fn cancel(&mut self, id: JobId, failure: Failure) {
        let Some(job) = self.take_job(id) else { return };
        self.counters.cancelled += 1;
        if let Some(alias) = job.alias {
            self.stop_attempt(alias);
        }
        if let Some(owner) = job.owner {
            self.tell_client(owner, RelayToClient::Failed { job: id, failure });
        }
    }

    fn client_acknowledged(&mut self, socket: SocketId, id: JobId, offset: u32) {
        match self.note_acknowledged(socket, id, offset) {
            Acknowledged::Nothing => {}
            Acknowledged::Bytes(node, alias, offset) => {
                self.tell_node(
                    node,
                    RelayToNode::Acknowledge {
                        alias,
                        offset,
                        whole: false,
                    },
                );
            }
            Acknowledged::TooMuch => {
                self.counters.protocol_errors += 1;
                let reason = "acknowledged more than was sent";
                self.close_client(socket, CloseCode::ProtocolError, reason);
            }
        }
    }

    fn note_acknowledged(&mut self, socket: SocketId, id: JobId, offset: u32) -> Acknowledged {
        if let Some(job) = self
            .jobs
            .get_mut(&id)
            .filter(|job| job.owner == Some(socket))
        {
            if offset > job.delivered {
                return Acknowledged::TooMuch;
            }
            if offset <= job.acknowledged {
                return Acknowledged::Nothing;
            }
            job.acknowledged = offset;
            let running = job
                .alias
                .and_then(|alias| Some((alias, self.attempts.get(&alias)?.node)));
            return running.map_or(Acknowledged::Nothing, |(alias, node)| {
                Acknowledged::Bytes(node, alias, offset)
            });
        }
        let Some(finished) = self
            .finished
            .get_mut(&id)
            .filter(|finished| finished.owner == socket)
        else {
            // A job that failed meanwhile, most likely.
            self.counters.stale_messages += 1;
            return Acknowledged::Nothing;
        };
        if offset > finished.offset {
            return Acknowledged::TooMuch;
        }
        if offset <= finished.acknowledged {
            return Acknowledged::Nothing;
        }
        finished.acknowledged = offset;
        let (alias, node, whole) = (finished.alias, finished.node, offset == finished.offset);
        if whole {
            self.forget_finished(id);
        }
        node.map_or(Acknowledged::Nothing, |node| {
            Acknowledged::Bytes(node, alias, offset)
        })
    }

    /// Acknowledged to its end, or nobody will acknowledge it any more.
    pub(crate) fn forget_finished(&mut self, id: JobId) {
        self.timers.clear(Timer::Finished(id));
        if let Some(client) = self
            .finished
            .remove(&id)
            .and_then(|finished| self.clients.get_mut(&finished.owner))
        {
            client.finished.remove(&id);
        }
    }

    fn refuse_client(&mut self, socket: SocketId, why: &str) {
        let failure = Failure::new(ErrorCode::ProtocolError, why);
        self.tell_client(socket, RelayToClient::Refused { failure });
    }
}
