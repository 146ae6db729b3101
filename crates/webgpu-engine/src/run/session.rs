//! A session: the tokens that it has read, and their keys and values on the device.

use std::sync::Arc;

use super::engine::Place;
use super::{Engine, RunError};
use crate::gpu::{ReadBack, Ticket};
use crate::kernels::{RECORD_WORDS, RECORDS, Step};
use crate::plan::{Draws, Kept, Plan, Reads};

/// Steps that may be under way at the same time, and one that is being read.
const READ_BACKS: usize = 4;

/// Bytes of the ring of records.
pub(super) const RECORDS_BYTES: u64 = 4 * (RECORDS as u64) * (RECORD_WORDS as u64);

/// A session on an engine.
#[derive(Debug)]
pub struct Session {
    pub(super) engine: Arc<Engine>,
    _place: Place,
    pub(super) kept: Kept,
    plan: Plan,
    pub(super) draws: Draws,
    records: ReadBack,
    /// Tokens whose keys and values are kept, in their order.
    pub(super) history: Vec<u32>,
    /// One more than the highest position that was written since the session was empty. Layers with a window overwrite what lies
    /// further behind it than they keep.
    written: usize,
}

/// What a step begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input<'t> {
    /// These tokens.
    Tokens(&'t [u32]),
    /// The token that the step before has drawn, which the host may not know yet.
    Drawn,
}

/// What a step ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Keys and values.
    Nothing,
    /// A drawn token.
    Draw,
    /// A drawn token, and all records of the ring are read back.
    DrawAndRead,
}

impl Session {
    pub(super) async fn new(place: Place) -> Result<Self, RunError> {
        let engine = Arc::clone(place.engine());
        let gpu = &engine.gpu;
        let (config, demand) = (engine.config(), engine.demand());
        let kept = Kept::new(gpu, config, demand)?;
        let buffers = (&engine.scratch, &kept);
        let plan = Plan::build(
            gpu,
            config,
            demand,
            &engine.weights,
            buffers,
            &engine.choice,
        )
        .await?;
        let draws = Draws::build(gpu, config, buffers).await?;
        let records = gpu.read_back(RECORDS_BYTES, READ_BACKS)?;
        Ok(Self {
            kept,
            plan,
            draws,
            records,
            history: Vec::new(),
            written: 0,
            engine,
            _place: place,
        })
    }

    /// The engine.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The tokens whose keys and values are kept.
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// Dispatches of a decode step before a token is drawn.
    pub const fn decode_dispatches(&self) -> usize {
        self.plan.phase(1).dispatches()
    }

    /// How many of them are the layers'; the others are before the first and behind the last.
    pub const fn layer_dispatches(&self) -> usize {
        self.plan.phase(1).dispatches_of_layers()
    }

    /// What a decode step reads that begins with so many tokens kept, the draw included: a greedy one reads the logits
    /// once.
    pub fn decode_reads(&self, position: u32) -> Reads {
        let step = Step {
            position,
            tokens: 1,
            output_tokens: 1,
            ..Step::default()
        };
        self.plan.phase(1).reads(&step).and(Reads {
            between: u64::from(self.engine.config().vocabulary) * 4,
            ..Reads::default()
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.history.clear();
        self.written = 0;
    }

    /// Forgets all but the tokens that these begin with alike, so many that at least one of them is left to read; returns
    /// how many are kept. Where a layer with a window has overwritten what the next token would see, nothing is.
    pub fn reuse(&mut self, tokens: &[u32]) -> usize {
        let last = tokens.len().saturating_sub(1);
        let pairs = self.history.iter().zip(tokens.iter().take(last));
        let common = pairs.take_while(|(one, other)| one == other).count();
        let room = self.engine.demand().batch_tokens;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let has_window = self.engine.config().window.is_some();
        if has_window && self.written.saturating_sub(common) > room {
            self.clear();
            return 0;
        }
        self.history.truncate(common);
        common
    }

    /// Reads tokens behind those that are kept, a batch at a time. The last step ends as asked for.
    pub(super) async fn read(
        &mut self,
        tokens: &[u32],
        parameters: Step,
        output: Output,
    ) -> Result<Option<Ticket>, RunError> {
        self.check(tokens)?;
        let batch = usize::try_from(self.engine.demand().batch_tokens).unwrap_or(1);
        let mut ticket = None;
        let mut under_way = None;
        let mut chunks = tokens.chunks(batch).peekable();
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let output = if is_last { output } else { Output::Nothing };
            ticket = self.step(Input::Tokens(chunk), parameters, output)?;
            self.history.extend_from_slice(chunk);
            // One batch is computed while the next is recorded. Between them others may go on, and who reads may be
            // dropped.
            let mark = self.engine.gpu.mark();
            if let Some(before) = under_way.replace(mark).filter(|_| !is_last) {
                self.engine.gpu.reach(before).await?;
            }
        }
        Ok(ticket)
    }

    /// Whether these tokens can be read behind those that are kept.
    pub(super) fn check(&self, tokens: &[u32]) -> Result<(), RunError> {
        let vocabulary = self.engine.config().vocabulary;
        if let Some(unknown) = tokens.iter().find(|token| **token >= vocabulary) {
            return Err(RunError::UnknownToken(*unknown));
        }
        let context = self.engine.demand().context_tokens;
        let after = self.history.len().saturating_add(tokens.len());
        if u32::try_from(after).map_or(true, |after| after > context) {
            return Err(RunError::ContextFull {
                tokens: after,
                context,
            });
        }
        Ok(())
    }

    /// Records and submits one step. The host's history is the caller's to keep.
    pub(super) fn step(
        &mut self,
        input: Input<'_>,
        parameters: Step,
        output: Output,
    ) -> Result<Option<Ticket>, RunError> {
        let engine = Arc::clone(&self.engine);
        let gpu = &engine.gpu;
        gpu.check()?;
        let _recording = engine.recording.lock();
        let tokens = match input {
            Input::Tokens(tokens) => {
                let ids: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
                gpu.write(&self.kept.ids, 0, &ids);
                u32::try_from(tokens.len()).unwrap_or(u32::MAX)
            }
            Input::Drawn => 1,
        };
        let draws = output != Output::Nothing;
        let step = Step {
            tokens,
            output_first: tokens.saturating_sub(1),
            output_tokens: u32::from(draws),
            ..parameters
        };
        let step = match input {
            Input::Tokens(_) => Step {
                position: u32::try_from(self.history.len()).unwrap_or(u32::MAX),
                ..step
            },
            Input::Drawn => step,
        };
        self.prepare(step);
        let mut recorder = gpu.record();
        self.plan.record(&mut recorder, &step);
        if draws {
            self.draws.record(&mut recorder, step.temperature);
        }
        if output != Output::DrawAndRead {
            recorder.submit();
            return Ok(None);
        }
        let whole = 0..RECORDS_BYTES;
        let copied = self
            .records
            .copy(&mut recorder, &self.kept.results, whole)?;
        let submitted = recorder.submit();
        Ok(Some(self.records.ticket(copied, submitted, gpu.counters())))
    }

    /// Writes what the step's kernels read beside their buffers.
    fn prepare(&mut self, step: Step) {
        let engine = &self.engine;
        let gpu = &engine.gpu;
        gpu.write(&engine.scratch.step, 0, &step.to_bytes());
        let kinds = if engine.config().window.is_some() {
            2
        } else {
            1
        };
        let tables = engine.turns.iter().zip(&engine.scratch.turns);
        for (turns, buffer) in tables.take(kinds) {
            let table = turns.table(step.position, step.tokens);
            let bytes: Vec<u8> = table.iter().flat_map(|it| it.to_le_bytes()).collect();
            gpu.write(buffer, 0, &bytes);
        }
        let end = step.position.saturating_add(step.tokens);
        self.written = self.written.max(usize::try_from(end).unwrap_or(usize::MAX));
    }

    /// Reads tokens from an empty session on and gives `visit` the row of logits of each of them, in their order. At most
    /// as many rows are held as the engine was loaded for.
    pub async fn logits(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(&[f32]),
    ) -> Result<(), RunError> {
        self.clear();
        self.check(tokens)?;
        let vocabulary = usize::try_from(self.engine.config().vocabulary).unwrap_or(1);
        let rows = usize::try_from(self.engine.demand().logit_rows).unwrap_or(1);
        for chunk in tokens.chunks(rows.max(1)) {
            let bytes = self.logits_of(chunk).await?;
            self.history.extend_from_slice(chunk);
            let words = bytes.as_chunks::<4>().0.iter();
            let floats: Vec<f32> = words.map(|word| f32::from_le_bytes(*word)).collect();
            for row in floats.chunks_exact(vocabulary) {
                visit(row);
            }
        }
        Ok(())
    }

    async fn logits_of(&mut self, tokens: &[u32]) -> Result<Vec<u8>, RunError> {
        let engine = Arc::clone(&self.engine);
        let gpu = &engine.gpu;
        gpu.check()?;
        let recording = engine.recording.lock();
        let ids: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        gpu.write(&self.kept.ids, 0, &ids);
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let step = Step {
            position: u32::try_from(self.history.len()).unwrap_or(u32::MAX),
            tokens: count,
            output_first: 0,
            output_tokens: count,
            ..Step::default()
        };
        self.prepare(step);
        let mut recorder = gpu.record();
        self.plan.record(&mut recorder, &step);
        recorder.submit();
        drop(recording);
        let bytes = u64::from(engine.config().vocabulary) * u64::from(count) * 4;
        Ok(gpu.read(&engine.scratch.logits, 0..bytes).await?)
    }
}
