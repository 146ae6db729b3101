//! What the relay says, message by message and entry by entry.

use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{Alias, ClientToRelay, Entry, JobId, RelayToClient, TokenFrame, decode};

use crate::job::Brings;
use crate::{ClientSession, Event, Line, Millis, Output};

impl ClientSession {
    pub(crate) fn handle_text(&mut self, text: &str) {
        match decode::<RelayToClient>(text, RELAY_FRAME_BYTES_MAX) {
            Ok(message) => self.handle_message(message),
            Err(_) => self.ignored += 1,
        }
    }

    fn handle_message(&mut self, message: RelayToClient) {
        match message {
            RelayToClient::Welcome { account } => self.welcome(account),
            RelayToClient::Submitted { job, ticket } => self.submitted(job, ticket),
            RelayToClient::Queued {
                job,
                model,
                position,
                nodes,
                wait,
            } => {
                let event = Event::Queued {
                    model,
                    position,
                    nodes,
                    wait,
                };
                self.tell(job, event);
            }
            RelayToClient::Assigned {
                job,
                attempt,
                alias,
                model,
                node,
                class,
                offset,
            } => {
                self.assign(job, alias, attempt, &model, offset);
                self.tell(job, Event::Assigned { model, node, class });
            }
            RelayToClient::Started {
                job,
                prompt_tokens,
                context_tokens,
            } => {
                let event = Event::Started {
                    prompt_tokens,
                    context_tokens,
                };
                self.tell(job, event);
            }
            RelayToClient::Completed {
                job,
                offset,
                finish_reason,
                usage,
                speed,
            } => {
                let event = Event::Completed {
                    finish_reason,
                    usage,
                    speed,
                };
                self.complete(job, offset, event);
            }
            RelayToClient::Failed { job, failure } => {
                self.finish(job, Event::Failed(failure.bounded()));
            }
            RelayToClient::Refused { failure } => {
                self.outputs.push_back(Output::Refused(failure.bounded()));
            }
            RelayToClient::Pong => {}
            RelayToClient::Unknown => self.ignored += 1,
        }
    }

    fn submitted(&mut self, id: JobId, ticket: String) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.ticket = Some(ticket);
            job.lost_at = None;
            job.is_asking = false;
        } else {
            self.ignored += 1;
        }
    }

    /// The newest name is the only one: what still comes under an older one is fenced.
    fn assign(&mut self, id: JobId, alias: Alias, attempt: u32, model: &str, offset: u32) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.assign(attempt, model, offset);
            if let Some(old) = job.alias.replace(alias) {
                self.aliases.remove(&old);
            }
            self.aliases.insert(alias, id);
        }
    }

    fn complete(&mut self, id: JobId, offset: u32, event: Event) {
        let Some(job) = self.jobs.get_mut(&id) else {
            self.ignored += 1;
            return;
        };
        let received = job.received();
        if received == offset {
            self.send(&ClientToRelay::Acknowledge {
                job: id,
                offset,
                whole: true,
            });
            self.finish(id, event);
        } else if received > offset {
            // What this client has is never changed.
            self.interrupt(id);
        } else if job.is_asking {
            // Said before the relay had read that bytes are missing.
            self.ignored += 1;
        } else {
            self.ask_again(id);
        }
    }

    pub(crate) fn handle_tokens(&mut self, now: Millis, frame: &[u8]) {
        let Ok(frame) = TokenFrame::decode(frame) else {
            self.ignored += 1;
            return;
        };
        for entry in frame.entries() {
            self.handle_entry(now, &entry);
        }
    }

    fn handle_entry(&mut self, now: Millis, entry: &Entry<'_>) {
        let Some((&id, job)) = self
            .aliases
            .get(&entry.alias)
            .and_then(|id| Some((id, self.jobs.get_mut(id)?)))
        else {
            self.ignored += 1;
            return;
        };
        match job.accept(entry) {
            Brings::News { bytes, token_count } => {
                let acknowledge = job.acknowledge(now);
                // A node promises whole characters; one that lies yields replacement characters, not an error here.
                let text = String::from_utf8_lossy(bytes).into_owned();
                let event = Event::Delta {
                    kind: entry.kind,
                    text,
                    token_count,
                };
                self.tell(id, event);
                if let Some(offset) = acknowledge {
                    self.send(&ClientToRelay::Acknowledge {
                        job: id,
                        offset,
                        whole: false,
                    });
                }
            }
            Brings::Nothing => {}
            Brings::Gap => self.ask_again(id),
        }
    }

    /// Bytes are missing: the relay is asked for them, and what comes until it answers is passed over.
    fn ask_again(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let may_ask = job.may_ask_again();
        if let Some(alias) = job.alias.take() {
            self.aliases.remove(&alias);
        }
        if may_ask {
            self.present(id);
        } else {
            self.interrupt(id);
        }
    }

    /// Nobody will read what still comes.
    fn interrupt(&mut self, id: JobId) {
        if self.line == Line::Welcomed {
            self.send(&ClientToRelay::Cancel { job: id });
        }
        self.finish(id, Event::Interrupted);
    }
}
