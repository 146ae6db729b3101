//! An answer: tokens drawn one after another. While the host waits for one, the device already computes the next.

use std::collections::{BTreeMap, VecDeque};

use super::session::{Input, Output};
use super::{Request, RunError, Session};
use crate::gpu::{GpuError, Ticket};
use crate::kernels::{RECORD_WORDS, RECORDS, Record, Step, Told};

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Its log-probability and the alternatives', where they were asked for.
    pub told: Option<LogProbabilities>,
}

/// Natural logarithms of probabilities, before any rule.
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbabilities {
    /// Of the token.
    pub token: f32,
    /// Of the likeliest tokens, likeliest first.
    pub alternatives: Vec<(u32, f32)>,
}

/// Why an answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The model says so.
    EndOfText,
    /// As many tokens as were asked for.
    TokensMax,
    /// The context is full.
    ContextFull,
    /// The mask allows no token.
    NothingAllowed,
}

/// An answer that is being drawn. Dropped at any time; the session keeps what was read.
#[derive(Debug)]
pub struct Answer<'s> {
    session: &'s mut Session,
    request: Request,
    parameters: Step,
    /// Tokens that the device draws next: how many were submitted, the given ones included.
    submitted: u32,
    /// Of the prompt and the given tokens.
    read_tokens: usize,
    under_way: VecDeque<(Ticket, u32, u32)>,
    ready: VecDeque<Record>,
    drawn: Vec<u32>,
    ended: Option<Ended>,
    /// What broke it. Nothing follows.
    failed: Option<GpuError>,
}

impl Session {
    /// Begins an answer: what the session has read of the prompt is not read again. The prompt and the given tokens have
    /// been submitted when this returns, in batches; with a mask, that of the first token is needed here.
    pub async fn answer(
        &mut self,
        request: Request,
        mask: Option<&[u32]>,
    ) -> Result<Answer<'_>, RunError> {
        request.check(self.engine.config().vocabulary)?;
        let mut tokens = request.prompt.clone();
        tokens.extend_from_slice(&request.given);
        let context = self.engine.demand().context_tokens;
        if u32::try_from(tokens.len()).map_or(true, |count| count >= context) {
            let tokens = tokens.len();
            return Err(RunError::ContextFull { tokens, context });
        }
        let kept = self.reuse(&tokens);
        self.write_rules(&request, mask)?;
        let parameters = request.parameters();
        let mut answer = Answer {
            parameters,
            submitted: u32::try_from(request.given.len()).unwrap_or(u32::MAX),
            read_tokens: tokens.len(),
            under_way: VecDeque::new(),
            ready: VecDeque::new(),
            drawn: Vec::new(),
            ended: None,
            failed: None,
            request,
            session: self,
        };
        if answer.submitted >= answer.request.tokens_max {
            answer.ended = Some(Ended::TokensMax);
            return Ok(answer);
        }
        let unread = tokens.get(kept..).unwrap_or_default();
        answer.begin(unread).await?;
        Ok(answer)
    }

    /// Writes what the rules need on the device: how often tokens were drawn, biases, the first mask.
    fn write_rules(&self, request: &Request, mask: Option<&[u32]>) -> Result<(), RunError> {
        let gpu = &self.engine.gpu;
        let vocabulary = usize::try_from(self.engine.config().vocabulary).unwrap_or(0);
        if request.has_penalties() {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for token in &request.given {
                *counts.entry(*token).or_default() += 1;
            }
            let row = (0u32..).take(vocabulary);
            let row = row.flat_map(|id| counts.get(&id).copied().unwrap_or(0).to_le_bytes());
            gpu.write(&self.kept.counts, 0, &row.collect::<Vec<_>>());
        }
        if !request.rules.biases.is_empty() {
            let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
            for (id, bias) in &request.rules.biases {
                *sums.entry(*id).or_default() += bias;
            }
            let row = (0u32..).take(vocabulary);
            let row = row.flat_map(|id| sums.get(&id).copied().unwrap_or(0.0).to_le_bytes());
            gpu.write(&self.kept.biases, 0, &row.collect::<Vec<_>>());
        }
        match (request.is_masked, mask) {
            (true, Some(mask)) => self.write_mask(mask),
            (true, None) => Err(RunError::Rules("a masked answer needs a mask")),
            (false, _) => Ok(()),
        }
    }

    fn write_mask(&self, mask: &[u32]) -> Result<(), RunError> {
        let words = self.engine.config().vocabulary.div_ceil(32);
        if u32::try_from(mask.len()) != Ok(words) {
            return Err(RunError::Rules("a mask has a bit for each token"));
        }
        let bytes: Vec<u8> = mask.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.engine.gpu.write(&self.kept.mask, 0, &bytes);
        Ok(())
    }
}

impl Answer<'_> {
    /// Why no more tokens come.
    pub const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// The tokens so far, without the given ones.
    pub fn drawn(&self) -> &[u32] {
        &self.drawn
    }

    /// The next token, or none once the answer has ended. For a masked answer see [`Self::next_masked`].
    ///
    /// The token that ends a text is not given; it is not part of the answer.
    pub async fn next(&mut self) -> Result<Option<Drawn>, RunError> {
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone().into());
            }
            if self.ended.is_some() {
                return Ok(None);
            }
            if let Some(record) = self.ready.pop_front() {
                return Ok(self.take(record));
            }
            self.submit_ahead()?;
            let Some((ticket, first, count)) = self.under_way.front_mut() else {
                self.ended = Some(self.why_no_more());
                return Ok(None);
            };
            // It stays in its place until its bytes are here, so that who gives up waiting loses no token.
            let bytes = self.session.engine.gpu.take(ticket).await;
            let (first, count) = (*first, *count);
            self.under_way.pop_front();
            let records = bytes.and_then(|bytes| records(&bytes, first, count));
            match records {
                Ok(records) => self.ready.extend(records),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error.into());
                }
            }
        }
    }

    /// The same for a masked answer: `mask` says which tokens may follow the one that was given last.
    pub async fn next_masked(&mut self, mask: &[u32]) -> Result<Option<Drawn>, RunError> {
        if !self.drawn.is_empty() {
            self.session.write_mask(mask)?;
        }
        self.next().await
    }

    /// Reads what is unread and draws the first token.
    async fn begin(&mut self, unread: &[u32]) -> Result<(), RunError> {
        let parameters = Step {
            draw: self.submitted,
            ..self.parameters
        };
        let output = Output::DrawAndRead;
        let ticket = self.session.read(unread, parameters, output).await?;
        if let Some(ticket) = ticket {
            self.under_way.push_back((ticket, self.submitted, 1));
        }
        self.submitted += 1;
        Ok(())
    }

    /// Keeps the device busy: one group of tokens is being computed while another is waited for. A mask depends on the
    /// token before, so nothing can be ahead of it.
    fn submit_ahead(&mut self) -> Result<(), RunError> {
        let groups = if self.request.is_masked { 1 } else { 2 };
        while self.under_way.len() < groups {
            let room = self.room();
            let shared = if self.request.is_masked {
                1
            } else {
                self.request.shared
            };
            let count = room.min(shared);
            if count == 0 {
                return Ok(());
            }
            let first = self.submitted;
            for left in (0..count).rev() {
                let output = if left == 0 {
                    Output::DrawAndRead
                } else {
                    Output::Draw
                };
                let parameters = Step {
                    position: self.position(),
                    draw: self.submitted,
                    ..self.parameters
                };
                let ticket = self.session.step(Input::Drawn, parameters, output)?;
                self.submitted += 1;
                if let Some(ticket) = ticket {
                    self.under_way.push_back((ticket, first, count));
                }
            }
        }
        Ok(())
    }

    /// Tokens that the device has drawn for this answer or will.
    fn own(&self) -> u32 {
        let given = u32::try_from(self.request.given.len()).unwrap_or(u32::MAX);
        self.submitted.saturating_sub(given)
    }

    /// Where the token that was drawn last is read.
    fn position(&self) -> u32 {
        let read = u32::try_from(self.read_tokens).unwrap_or(u32::MAX);
        read.saturating_add(self.own()).saturating_sub(1)
    }

    /// How many tokens may still be submitted.
    fn room(&self) -> u32 {
        let context = self.session.engine.demand().context_tokens;
        let context = context.saturating_sub(self.position());
        let asked = self.request.tokens_max.saturating_sub(self.submitted);
        context.min(asked)
    }

    fn why_no_more(&self) -> Ended {
        if self.submitted >= self.request.tokens_max {
            Ended::TokensMax
        } else {
            Ended::ContextFull
        }
    }

    fn take(&mut self, record: Record) -> Option<Drawn> {
        let Some(token) = record.token else {
            self.ended = Some(Ended::NothingAllowed);
            return None;
        };
        if !self.request.ignores_end && self.session.engine.tokenizer().is_end(token) {
            self.ended = Some(Ended::EndOfText);
            return None;
        }
        self.drawn.push(token);
        let logit = record.logit;
        Some(Drawn {
            token,
            told: record.told.map(|told| LogProbabilities::of(logit, &told)),
        })
    }
}

impl Drop for Answer<'_> {
    /// What the host knows of what was read counts as read; the rest is overwritten.
    fn drop(&mut self) {
        if self.failed.is_some() {
            // Nobody knows which steps the device has done.
            self.session.clear();
            return;
        }
        let own = usize::try_from(self.own()).unwrap_or(usize::MAX);
        let known = self.drawn.len().min(own.saturating_sub(1));
        let drawn = self.drawn.iter().take(known);
        self.session.history.extend(drawn);
    }
}

impl LogProbabilities {
    fn of(logit: f32, told: &Told) -> Self {
        let alternatives = told.alternatives.iter();
        Self {
            token: logit - told.log_sum,
            alternatives: alternatives
                .map(|(id, logit)| (*id, logit - told.log_sum))
                .collect(),
        }
    }
}

/// So many records of the ring, from the one of a draw on.
fn records(bytes: &[u8], first: u32, count: u32) -> Result<Vec<Record>, GpuError> {
    let length = usize::try_from(4 * RECORD_WORDS).unwrap_or(usize::MAX);
    let record = |draw: u32| {
        let at = usize::try_from(draw % RECORDS).ok()? * length;
        Record::parse(bytes.get(at..)?)
    };
    (first..first.saturating_add(count))
        .map(|draw| record(draw).ok_or_else(|| GpuError::Refused(NO_RECORD.to_owned())))
        .collect()
}

/// The device has written nonsense.
const NO_RECORD: &str = "what it wrote of a drawn token makes no sense";
