//! Who pays what for a job: an estimate when its turn comes, what it really took once it ended.

use std::sync::Arc;

use protocol::{JobId, JobRequest};

use crate::Scheduler;
use crate::job::Job;
use crate::models::ModelIndex;
use crate::queue::{Account, Bill};

/// What most models that see make of a picture.
const IMAGE_TOKENS: usize = 576;

/// What the hungriest ones make of a large one (llama.cpp's limit for those that see at any size).
pub(crate) const IMAGE_TOKENS_MAX: usize = 4_096;

/// Bytes of text to a token: about what tokenizers in use reach with prose. Only fairness between long and short prompts
/// depends on it, until the node says the number.
const BYTES_PER_TOKEN: usize = 4;

/// What a chat template adds around a message, at most; see also `checks`.
const TEMPLATE_TOKENS_PER_MESSAGE: usize = 64;

/// The answer expected of a model that has given none: some paragraphs.
const ANSWER_TOKENS_AT_FIRST: f64 = 256.0;

impl Scheduler {
    /// The one name that all of an account's jobs share.
    pub(crate) fn account(&self, name: &str) -> Account {
        let known = self.accounts.get_key_value(name);
        known.map_or_else(|| Arc::from(name), |(known, _)| Arc::clone(known))
    }

    /// Jobs of this account that wait.
    pub(crate) fn waiting_of(&self, account: &Account) -> usize {
        self.accounts.get(account).copied().unwrap_or(0)
    }

    /// Counts a job of this account in or out of the queue.
    pub(crate) fn count_waiting(&mut self, account: &Account, has_come: bool) {
        if has_come {
            *self.accounts.entry(Arc::clone(account)).or_default() += 1;
            self.waiting += 1;
            return;
        }
        self.waiting -= 1;
        if let Some(count) = self.accounts.get_mut(account) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(account);
            }
        }
    }

    /// What a job will probably take; `name` is the model or tier that was asked for.
    pub(crate) fn estimate(
        &self,
        name: &str,
        account: &Account,
        choices: &[ModelIndex],
        request: &JobRequest,
    ) -> Bill {
        let answer = choices
            .first()
            .and_then(|&model| self.models[model].pace.answer_tokens())
            .unwrap_or(ANSWER_TOKENS_AT_FIRST);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of u32, rounded up"
        )]
        let answer = (answer.ceil() as u32).min(request.max_tokens().unwrap_or(u32::MAX));
        let weight = |weights: &std::collections::BTreeMap<String, u32>, name: &str| {
            weights.get(name).copied().unwrap_or(1)
        };
        Bill {
            tokens: prompt_tokens(request).saturating_add(answer).max(1),
            weight: weight(&self.config.tier_weights, name)
                .saturating_mul(weight(&self.config.account_weights, account)),
        }
    }

    /// A job's turn has come on this model: unless it has paid, it pays. To be called while it still waits there.
    pub(crate) fn charge(&mut self, id: JobId, model: ModelIndex) {
        #[cfg(feature = "planted-bugs")]
        if self.config.has(crate::PlantedBug::DeficitNotCharged) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if let Some(share) = self.models[model].queue.charge(job.ticket) {
            job.charged = Some(model);
            self.models.charge(model, share);
        }
    }

    /// A job ended: its account is charged what it took instead of what was expected.
    pub(crate) fn settle(&mut self, job: &Job) {
        let Some(model) = job.charged else { return };
        // What the node says of the prompt counts as far as the prompt bears it out.
        let prompt = match job.prompt_tokens {
            Some(said) => said.min(prompt_tokens_max(&job.request)),
            None => prompt_tokens(&job.request),
        };
        let real = Bill {
            tokens: prompt.saturating_add(job.transcript.token_count()),
            weight: job.bill.weight,
        };
        let queue = &mut self.models[model].queue;
        if queue.settle(&job.account, job.bill, real) {
            self.lines.moved.insert(model);
        }
    }
}

fn prompt_tokens(request: &JobRequest) -> u32 {
    let text = request.prompt_bytes() / BYTES_PER_TOKEN;
    u32::try_from(text + request.images() * IMAGE_TOKENS).unwrap_or(u32::MAX)
}

/// No tokenizer makes more tokens than there are bytes.
pub(crate) fn prompt_tokens_max(request: &JobRequest) -> u32 {
    let template = request.turns().saturating_add(8) * TEMPLATE_TOKENS_PER_MESSAGE;
    let images = request.images() * IMAGE_TOKENS_MAX;
    let bytes = request.prompt_bytes().saturating_add(template);
    u32::try_from(bytes.saturating_add(images)).unwrap_or(u32::MAX)
}
