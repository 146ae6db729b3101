//! Which grammar holds when.
//!
//! ```text
//! response format      from the beginning, or from where the thoughts end
//! calls are a must     the first call from there too, then the end or another call
//! calls are a choice   from where the model has begun one by itself, until it is over
//! ```
//! The parser says where an answer crosses from one part into another; what the model had written of the new part by then
//! (the rest of a token) is led through the grammar first. Where that does not fit a call that was the model's own choice,
//! nothing holds the model any more until the next part: what it writes is then a broken call, and told as text. What the
//! request demands (a format, a call) is never let go of: an answer that does not fit fails.

use chat_format::family::Syntax;
use chat_format::gbnf::{Start, grammar, or_marker};
use chat_format::parse::{Boundary, Parser, callable, calls_max};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use protocol::chat::{ReasoningEffort, ToolChoice};
use protocol::{ChatRequest, DeltaKind, ErrorCode, Failure};

use super::{Subject, format, tools};
use crate::engine::sampling::{DrawError, Sampler, allows};
use chat_format::answer::Answer;
use chat_format::vocabulary::Vocabulary;

/// The grammars of one answer.
#[derive(Debug, Clone, Default)]
pub struct Steering {
    /// Holds from the beginning.
    start: Option<LlamaSampler>,
    /// Holds once the thoughts are over.
    after_thoughts: Option<LlamaSampler>,
    /// Holds from a marker of calls on, where the model may call.
    marked: Option<LlamaSampler>,
    /// Holds after calls.
    next: Option<LlamaSampler>,
}

impl Steering {
    /// The grammars for a request. `parser` is at the beginning of the answer, and `prompt` is what the model reads.
    pub fn new(
        model: &LlamaModel,
        syntax: &Syntax,
        request: &ChatRequest,
        parser: &Parser,
        prompt: &str,
    ) -> Result<Self, Failure> {
        let format = format(&request.response_format)?;
        let callable = if syntax.can_call() {
            callable(request)
        } else {
            &[]
        };
        let is_must = match &request.tool_choice {
            ToolChoice::Required | ToolChoice::Function { .. } => true,
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Unknown => false,
        };
        if is_must && !syntax.can_call() {
            return Err(Failure::new(
                ErrorCode::CapabilityMissing,
                "how this model calls tools is not known here, so it cannot be made to; set tool_choice to auto or none",
            )
            .with_param("tool_choice"));
        }
        let mut steering = Self::default();
        let mut first = None;
        let mut subject = Subject::Format;
        if callable.is_empty() {
            first = format;
        } else {
            let rules = tools(callable, !is_must)?;
            let most = calls_max(request);
            let calls =
                |start, instead: Option<&str>| grammar(syntax, &rules, start, most, instead);
            subject = Subject::Tools;
            if is_must || format.is_some() {
                let instead = format.as_deref().filter(|_| !is_must);
                first = Some(calls(Start::First, instead));
                steering.next = Some(subject.compile(model, &calls(Start::Next, None))?);
            } else {
                steering.marked = Some(subject.compile(model, &calls(Start::Marked, None))?);
            }
        }
        let Some(first) = first else {
            return Ok(steering);
        };
        steering.after_thoughts = Some(subject.compile(model, &first)?);
        steering.start = match syntax.reasoning {
            _ if parser.kind() == DeltaKind::Reasoning => None,
            Some(markers)
                if request.reasoning != Some(ReasoningEffort::None)
                    && !prompt.trim_end().ends_with(markers.close) =>
            {
                Some(subject.compile(model, &or_marker(&first, markers.open))?)
            }
            Some(_) | None => steering.after_thoughts.clone(),
        };
        Ok(steering)
    }

    /// What holds from the beginning.
    pub fn start(&self) -> Option<LlamaSampler> {
        self.start.clone()
    }

    /// Whether the request demands a form that the answer must not leave.
    pub const fn is_demand(&self) -> bool {
        self.after_thoughts.is_some()
    }

    /// The answer has taken in a token: what holds from here on? Fails where it has left what the request demands.
    pub fn follow(
        &self,
        answer: &Answer,
        sampler: &mut Sampler,
        vocabulary: &Vocabulary,
    ) -> Result<(), DrawError> {
        let Some((boundary, since)) = answer.parser().boundary() else {
            return Ok(());
        };
        let grammar = match boundary {
            Boundary::ReasoningEnded => self.after_thoughts.clone(),
            // A grammar that made it begin holds already. One that lets JSON come instead goes on with that: every
            // object looks like a call until its keys are known.
            Boundary::CallsBegan | Boundary::CallsBroken if self.is_demand() => return Ok(()),
            Boundary::CallsBegan => self.marked.clone(),
            Boundary::ReasoningBegan | Boundary::CallsBroken => None,
            Boundary::CallsEnded => self.next.clone(),
        };
        let since = match boundary {
            Boundary::ReasoningEnded | Boundary::CallsEnded => since.trim_start(),
            Boundary::ReasoningBegan | Boundary::CallsBegan | Boundary::CallsBroken => since,
        };
        let written = [since.as_bytes(), answer.half_character()].concat();
        let led = grammar
            .as_ref()
            .and_then(|grammar| lead(grammar.clone(), &written, vocabulary));
        if self.is_demand() && led.is_none() && grammar.is_some() {
            return Err(DrawError::NoToken);
        }
        sampler.constrain(led);
        Ok(())
    }

    /// Takes over a token that was drawn before.
    pub fn accept(&self, sampler: &mut Sampler, token: LlamaToken) -> Result<(), DrawError> {
        match sampler.accept(token) {
            Err(DrawError::NoToken) if self.let_go(sampler) => sampler.accept(token),
            accepted => accepted,
        }
    }

    /// The answer does not fit the grammar that holds: drops it, where that is one of calls which are the model's own
    /// choice, so that the answer can go on.
    pub fn let_go(&self, sampler: &mut Sampler) -> bool {
        let is_choice = self.marked.is_some();
        if is_choice {
            sampler.constrain(None);
        }
        is_choice
    }
}

/// Leads a grammar through what is written already; `None` where it does not fit.
fn lead(
    mut grammar: LlamaSampler,
    written: &[u8],
    vocabulary: &Vocabulary,
) -> Option<LlamaSampler> {
    let mut rest = written;
    while !rest.is_empty() {
        let id = vocabulary.longest_beginning(rest)?;
        let token = LlamaToken::new(i32::try_from(id).ok()?);
        if !allows(&mut grammar, token) || grammar.try_accept(token).is_err() {
            return None;
        }
        rest = rest.get(vocabulary.piece(id)?.len()..)?;
    }
    Some(grammar)
}
