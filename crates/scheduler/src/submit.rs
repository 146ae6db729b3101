//! Taking a job in: is it possible, is there room, and which model will it be?

use std::sync::Arc;

use protocol::{ErrorCode, Failure, JobId, JobRequest, RelayToClient, Transcript};

use crate::job::{Job, Vocabulary};
use crate::models::{Model, ModelIndex};
use crate::placement::Need;
use crate::queue::{Account, Bill, Ticket};
use crate::{Millis, Scheduler, SocketId};

/// What a client that met a limit is told to wait: about one short answer's time.
const RETRY_AFTER_MS: Millis = 5_000;

/// However long the line is, after this it is worth another look.
const RETRY_AFTER_MS_MAX: Millis = 10 * 60 * 1_000;

/// Where an admitted job goes.
struct Placed {
    account: Account,
    bill: Bill,
    choices: Vec<ModelIndex>,
    need: Need,
}

impl Scheduler {
    pub(crate) fn submit(
        &mut self,
        socket: SocketId,
        id: JobId,
        model: &str,
        request: JobRequest,
        bytes: usize,
    ) {
        // What was announced has come.
        self.release_reserved(socket);
        if self.is_known(id) {
            self.submit_again(socket, id, &request);
            return;
        }
        self.recently_ended.remove(id);
        let Some(mut job) = self.admit_job(socket, id, model, request, bytes, false) else {
            return;
        };
        job.ticket = self.next_fresh_ticket();
        self.counters.submitted += 1;
        self.jobs.insert(id, job);
        self.enqueue(id);
        self.check_later(id);
    }

    /// The number of a job that comes after all who wait.
    pub(crate) fn next_fresh_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The number of a job that was here before those that wait.
    pub(crate) fn next_returning_ticket(&mut self) -> Ticket {
        self.next_returning += 1;
        self.next_returning
    }

    /// Checks a request and makes a job of it, which stands in no table yet but its client's; `None` if it was refused.
    /// One that is back was taken in before, so that no full line keeps it out, nor that other nodes came back first.
    pub(crate) fn admit_job(
        &mut self,
        socket: SocketId,
        id: JobId,
        model: &str,
        request: JobRequest,
        bytes: usize,
        is_back: bool,
    ) -> Option<Job> {
        let Placed {
            account: payer,
            bill,
            choices,
            need,
        } = match self.admit(socket, model, &request, bytes, is_back) {
            Ok(placed) => placed,
            Err(failure) => {
                self.counters.refused += 1;
                self.tell_client(socket, RelayToClient::Failed { job: id, failure });
                return None;
            }
        };
        self.clients.get_mut(&socket)?.jobs.insert(id);
        self.tell_submitted(socket, id, &payer);
        self.content_bytes += bytes;
        self.trim_finished();
        let prefixes = self.affinity.prefixes(&request);
        Some(Job {
            owner: Some(socket),
            account: payer,
            bill,
            charged: None,
            prompt_tokens: None,
            prefixes,
            choices,
            need,
            request,
            bytes,
            ticket: 0,
            submitted_at: self.now,
            first_assigned_at: None,
            attempts: 0,
            refusals: 0,
            setbacks: 0,
            alias: None,
            is_held: false,
            transcript: Transcript::default(),
            transcript_bytes: 0,
            claimed: None,
            vocabulary: Vocabulary::Unspoken,
            has: None,
            acknowledged: 0,
            paused_at: None,
            slow: None,
            told: None,
            avoid: None,
        })
    }

    fn is_known(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id) || self.finished.contains_key(&id)
    }

    /// The same id came twice. From its own client that is harmless; so it is from a new socket of the same account,
    /// whose old one may have died before it brought a ticket. From anybody else it is refused without a word about what
    /// the job is.
    fn submit_again(&mut self, socket: SocketId, id: JobId, request: &JobRequest) {
        let account = self.clients.get(&socket).map(|client| &*client.account);
        if let Some(job) = self.jobs.get(&id)
            && account == Some(&*job.account)
            && job.request == *request
        {
            if job.owner == Some(socket) {
                self.tell_state(id);
            } else {
                self.take_over(socket, id, 0, 0);
            }
        } else if let Some(finished) = self.finished.get(&id)
            && account == Some(&*finished.account)
        {
            if finished.owner == Some(socket) {
                let end = finished.end.clone();
                self.tell_client(socket, end);
            } else {
                self.take_over_finished(socket, id, 0, 0);
            }
        } else {
            let failure = Failure::new(
                ErrorCode::DuplicateJob,
                "this job id is in use; choose another at random",
            );
            self.counters.refused += 1;
            self.tell_client(socket, RelayToClient::Failed { job: id, failure });
        }
    }

    fn admit(
        &self,
        socket: SocketId,
        model: &str,
        request: &JobRequest,
        bytes: usize,
        is_back: bool,
    ) -> Result<Placed, Failure> {
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        let client = self.clients.get(&socket);
        let account = client.map_or_else(|| "".into(), |client| Arc::clone(&client.account));
        let placed = self.resolve(account, model, request, is_back)?;
        self.check_room(socket, &placed, bytes, is_back)?;
        Ok(placed)
    }

    fn resolve(
        &self,
        account: Account,
        name: &str,
        request: &JobRequest,
        is_back: bool,
    ) -> Result<Placed, Failure> {
        let candidates: Vec<ModelIndex> = match (self.models.by_id(name), self.models.tier(name)) {
            (Some(model), _) => vec![model],
            (None, Some(models)) => models.to_vec(),
            (None, None) => Vec::new(),
        };
        if candidates.is_empty() {
            return Err(Failure::new(
                ErrorCode::UnknownModel,
                "there is no such model or tier here; GET /v1/models lists them",
            )
            .with_param("model"));
        }
        let choices = self.with_room_for_answer(candidates, request)?;
        let need = Need::of(request);
        let may =
            |model: &ModelIndex| self.models[*model].nodes() == 0 || self.models[*model].can(need);
        if !is_back && !choices.iter().any(may) {
            let (param, what) = choices.first().map_or(("model", "does this"), |model| {
                self.models[*model].missing(need)
            });
            let message = format!(
                "no node that serves this model {what}; ask without it, or choose another model"
            );
            return Err(Failure::new(ErrorCode::CapabilityMissing, message).with_param(param));
        }
        Ok(Placed {
            bill: self.estimate(name, &account, &choices, request),
            account,
            choices,
            need,
        })
    }

    /// Drops the models whose whole context is smaller than the answer alone may get.
    fn with_room_for_answer(
        &self,
        mut candidates: Vec<ModelIndex>,
        request: &JobRequest,
    ) -> Result<Vec<ModelIndex>, Failure> {
        let asked = request.max_tokens().unwrap_or(0);
        let context = |model: &ModelIndex| self.models[*model].entry.context_tokens;
        let largest = candidates.iter().map(context).max().unwrap_or(0);
        candidates.retain(|model| asked <= context(model));
        if candidates.is_empty() {
            let message = format!(
                "max_tokens is {asked}, but the model's whole context is {largest} tokens; ask for less"
            );
            let failure = Failure::new(ErrorCode::ContextLengthExceeded, message);
            return Err(failure.with_param("max_tokens"));
        }
        Ok(candidates)
    }

    fn check_room(
        &self,
        socket: SocketId,
        placed: &Placed,
        bytes: usize,
        is_back: bool,
    ) -> Result<(), Failure> {
        let limit = |code, message: String| {
            Err(Failure::new(code, message).with_retry_after_ms(RETRY_AFTER_MS))
        };
        let held = self
            .clients
            .get(&socket)
            .map_or(0, |client| client.jobs.len());
        if held >= self.config.jobs_per_client_max {
            return limit(
                ErrorCode::QueueFull,
                format!("this connection has {held} unfinished jobs, which is all it may have"),
            );
        }
        if !self.has_room_for(bytes) {
            return limit(
                ErrorCode::MemoryFull,
                "the relay holds as many requests as it has memory for; try again shortly".into(),
            );
        }
        let mut choices = placed.choices.iter().map(|&model| &self.models[model]);
        if is_back || choices.clone().any(|model| model.is_free(placed.need)) {
            return Ok(());
        }
        let retry_after_ms = self
            .retry_after_ms(&placed.choices, placed.need)
            .map_or(RETRY_AFTER_MS, |ms| {
                ms.clamp(RETRY_AFTER_MS, RETRY_AFTER_MS_MAX)
            });
        let full = |message: String| {
            let failure = Failure::new(ErrorCode::QueueFull, message);
            Err(failure.with_retry_after_ms(retry_after_ms))
        };
        let waiting = self.waiting_of(&placed.account);
        if waiting >= self.config.queue_jobs_max_per_account {
            return full(format!(
                "this account has {waiting} waiting jobs, which is all it may have; wait for some of them"
            ));
        }
        let is_full = |model: &Model| model.queue.len() >= self.config.queue_jobs_max_per_model;
        if choices.all(is_full) || self.waiting >= self.config.queue_jobs_max {
            return full("the queue is full; try again later or choose another model".into());
        }
        Ok(())
    }
}
