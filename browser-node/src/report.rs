//! What crosses to JavaScript, as JSON.

use chat_format::logprobs::TokenLogprob;
use protocol::answer::PieceKind;
use serde::Serialize;
use webgpu_engine::gpu::{Abilities, Access, Counts, Source};
use webgpu_engine::run::{Ended, Engine, LogProbabilities, Session, TextEnded, TextPiece};

/// The adapter and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Its name.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub is_software: bool,
    /// The most bytes that a kernel is lent at once.
    pub binding_bytes_max: u64,
    /// What kernels may use beyond the language's core: `subgroups`, `packed dot`.
    pub features: Vec<&'static str>,
}

impl From<&Abilities> for Adapter {
    fn from(abilities: &Abilities) -> Self {
        let features = [
            (abilities.has_subgroups, "subgroups"),
            (abilities.has_packed_dot, "packed dot"),
        ];
        Self {
            adapter: abilities.adapter.clone(),
            driver: abilities.driver.clone(),
            is_software: abilities.is_software,
            binding_bytes_max: abilities.binding_bytes_max,
            features: features
                .into_iter()
                .filter_map(|(has, name)| has.then_some(name))
                .collect(),
        }
    }
}

/// What was asked of the device, and what the module needed, so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Dispatches of kernels.
    pub dispatches: u64,
    /// Compute passes.
    pub passes: u64,
    /// Submits.
    pub submits: u64,
    /// Read-backs.
    pub read_backs: u64,
    /// Things created on the device.
    pub created: u64,
    /// Bytes of the buffers among them.
    pub bytes_created: u64,
    /// Bytes written to the device.
    pub bytes_written: u64,
    /// The most bytes that the wasm module has had.
    pub heap_bytes_peak: u64,
}

impl Figures {
    /// Puts both together.
    pub fn new(counts: &Counts, heap_bytes_peak: u64) -> Self {
        Self {
            dispatches: counts.dispatches,
            passes: counts.passes,
            submits: counts.submits,
            read_backs: counts.read_backs,
            created: counts.created,
            bytes_created: counts.bytes_created,
            bytes_written: counts.bytes_written,
            heap_bytes_peak,
        }
    }
}

/// A kernel's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Which kernel.
    pub label: String,
    /// The text.
    pub wgsl: String,
    /// For each storage buffer, whether it is written to.
    pub writes: Vec<bool>,
}

impl From<Source> for Kernel {
    fn from(source: Source) -> Self {
        let writes = |access: &Access| match access {
            Access::Read => false,
            Access::Write => true,
        };
        Self {
            writes: source.storage.iter().map(writes).collect(),
            label: source.label,
            wgsl: source.wgsl,
        }
    }
}

/// A model that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// Tokens that a session can hold.
    pub context_tokens: u32,
    /// Tokens of a prompt that are read at once.
    pub batch_tokens: u32,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// Dispatches of the step that makes one token, without those that draw it.
    pub decode_dispatches: usize,
    /// Bytes on the device, as they were estimated before: weights, keys and values, scratch.
    pub need_bytes: [u64; 3],
    /// Bytes of the buffers that were then created.
    pub bytes_created: u64,
    /// Bytes written to them.
    pub bytes_written: u64,
    /// The most bytes that the wasm module has had.
    pub heap_bytes_peak: u64,
    /// The file's chat template.
    pub template: Option<String>,
    /// What a tuning run found, to be kept for this adapter and model.
    pub tuning: Option<String>,
}

impl Loaded {
    /// Puts it together.
    pub fn new(model: &Engine, session: &Session, created: &Counts, heap_bytes_peak: u64) -> Self {
        let need = model.need();
        Self {
            context_tokens: model.demand().context_tokens,
            batch_tokens: model.demand().batch_tokens,
            vocabulary: model.config().vocabulary,
            decode_dispatches: session.decode_dispatches(),
            need_bytes: [need.weights, need.cache, need.scratch],
            bytes_created: created.bytes_created,
            bytes_written: created.bytes_written,
            heap_bytes_peak,
            template: model.template().map(str::to_owned),
            tuning: None,
        }
    }
}

/// What is told of a token: natural logarithms of probabilities, before any rule. Null stands for one of zero.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// Of the token.
    pub log_probability: f32,
    /// Of the likeliest tokens, likeliest first.
    pub alternatives: Vec<(u32, f32)>,
}

impl From<LogProbabilities> for Told {
    fn from(told: LogProbabilities) -> Self {
        Self {
            log_probability: told.token,
            alternatives: told.alternatives,
        }
    }
}

/// Why an answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model says so.
    EndOfText,
    /// A stop string came.
    StopString,
    /// All calls of tools that there may be were made.
    CallsMade,
    /// As many tokens as were asked for.
    TokensMax,
    /// The context is full.
    ContextFull,
    /// Nothing may be drawn.
    NothingAllowed,
}

impl From<Ended> for Reason {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::EndOfText => Self::EndOfText,
            Ended::TokensMax => Self::TokensMax,
            Ended::ContextFull => Self::ContextFull,
            Ended::NothingAllowed => Self::NothingAllowed,
        }
    }
}

impl Reason {
    /// Of an answer as text; none where somebody wanted no more of it.
    pub const fn of_text(ended: TextEnded) -> Option<Self> {
        match ended {
            TextEnded::EndOfText => Some(Self::EndOfText),
            TextEnded::StopString => Some(Self::StopString),
            TextEnded::CallsMade => Some(Self::CallsMade),
            TextEnded::TokensMax => Some(Self::TokensMax),
            TextEnded::ContextFull => Some(Self::ContextFull),
            TextEnded::NothingAllowed => Some(Self::NothingAllowed),
            TextEnded::Cancelled => None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Its tokens, without the given ones.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ended: Option<Reason>,
    /// Bytes that the device read to make a token, in the middle of the answer. By the time that a token takes, beside
    /// what the adapter can stream, they tell a speed as a share of it.
    pub token_bytes: u64,
    /// Figures when the first token came, …
    pub at_first: Option<Figures>,
    /// … and at the end.
    pub at_end: Figures,
}

/// An answer as text begins: its prompt fits, and is read next. What was given of the answer may still be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// A piece of an answer as text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// What the text is.
    pub kind: PieceKind,
    /// Whole characters.
    pub text: String,
    /// The tokens that it stands for.
    pub ids: Vec<u32>,
    /// Tokens of the answer so far, those whose text is not decided and the given ones among them.
    pub tokens: u32,
    /// Of tokens of text, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
}

impl Said {
    /// Puts it together.
    pub fn new(piece: TextPiece, tokens: u32) -> Self {
        Self {
            kind: piece.kind.into(),
            text: piece.text,
            ids: piece.tokens,
            tokens,
            logprobs: piece.logprobs,
        }
    }
}

/// The end of an answer as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chatted {
    /// All tokens of the answer as the model reads them, given ones and a stop string's among them; none where the given
    /// text held a stop string already, and so was over.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub ended: Option<Reason>,
    /// Tokens of the prompt, …
    pub prompt_tokens: u32,
    /// … and how many of them were not read again.
    pub cached_tokens: u32,
    /// Tokens of the answer, as a client counts them.
    pub answer_tokens: u32,
    /// Figures when the first piece came, …
    pub at_first: Option<Figures>,
    /// … and at the end.
    pub at_end: Figures,
}
