//! What a model writes → text, reasoning and tool calls, however it is cut.
//!
//! ```text
//! raw text ─▶ Parser::push ─▶ pieces: Text │ Reasoning │ ToolCall
//!                 └─ holds back only what may be the beginning of a marker, or of a call whose name is not known yet
//! ```
//! The parser goes character by character, so what it tells depends on the text alone and never on the cuts. A call that
//! turns out to be none is told as the text that it is. Marker text inside a call's JSON strings is a part of the strings.
//!
//! White space between the parts of an answer (after reasoning, around calls) is left out.

use protocol::{ChatRequest, DeltaKind};

use crate::family::{Calls, MISTRAL_OPEN, Syntax};
use block::{Block, Step};
use sink::Sink;

mod block;
mod ids;
mod json;
mod offer;
mod sink;
mod write;

pub use ids::CallIds;
pub use offer::{CALLS_MAX, callable, calls_max};
pub use sink::{Offer, Parsed};
pub use write::{Part, Written};

/// White space that is held back at most, for it may be left out. A model that writes nothing else is not waited for.
const BLANKS_MAX: usize = 64;

/// Bytes of a call that are held back at most before its name is known: models that write arguments first.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Where one part of an answer ends and another begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Reasoning has begun.
    ReasoningBegan,
    /// Reasoning is over.
    ReasoningEnded,
    /// A marker of calls has come, or the name of a call without a marker.
    CallsBegan,
    /// A call or a list of calls is over, closing marker included.
    CallsEnded,
    /// What looked like a call is none, or no longer one: it is text.
    CallsBroken,
}

#[derive(Debug, Clone)]
enum State {
    Text,
    Reasoning {
        is_empty: bool,
    },
    Calls(Box<Block>),
    /// There may be no more calls, so there is nothing more.
    Over,
}

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct Parser {
    syntax: Syntax,
    /// `None`: calls are text.
    offer: Option<Offer>,
    state: State,
    /// Not decided yet. In calls: since the last that is.
    held: String,
    /// Bytes that came, the held ones included.
    bytes: usize,
    /// Whether something was told that is no reasoning, so that reasoning begins no more.
    has_begun: bool,
    /// Whether white space at the beginning is left out.
    is_trimming: bool,
    calls_begun: u32,
    calls_whole: u32,
    boundary: Option<Boundary>,
    /// What came since the boundary.
    since: String,
    out: Vec<Parsed>,
}

impl Parser {
    /// A parser for the answer to a request. `prompt` is what the model reads: it may end in an open thought.
    pub fn new(syntax: Syntax, request: &ChatRequest, prompt: &str) -> Self {
        let state = if syntax.thinks_at_once(prompt) {
            State::Reasoning { is_empty: true }
        } else {
            State::Text
        };
        Self {
            syntax,
            offer: Offer::of(request).filter(|_| syntax.can_call()),
            state,
            held: String::new(),
            bytes: 0,
            has_begun: false,
            is_trimming: false,
            calls_begun: 0,
            calls_whole: 0,
            boundary: None,
            since: String::new(),
            out: Vec::new(),
        }
    }

    /// Takes the next piece of the model's text; what is decided is appended to `out`.
    pub fn push(&mut self, text: &str, out: &mut Vec<Parsed>) {
        self.boundary = None;
        self.since.clear();
        for c in text.chars() {
            self.take(c);
        }
        out.append(&mut self.out);
    }

    /// The model is done, or may not go on: what was held back is text, or no part of anything.
    pub fn finish(&mut self, out: &mut Vec<Parsed>) {
        self.boundary = None;
        let held = std::mem::take(&mut self.held);
        match &self.state {
            State::Reasoning { .. } => self.tell(DeltaKind::Reasoning, &held),
            State::Over => {}
            // Half a closing marker after a call means nothing.
            State::Calls(block) if block.is_after_call() => {}
            State::Text | State::Calls(_) => self.tell_text(&held, held.len()),
        }
        self.state = State::Over;
        out.append(&mut self.out);
    }

    /// Bytes that came and are not decided yet.
    pub const fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// What is written just now.
    pub const fn kind(&self) -> DeltaKind {
        match self.state {
            State::Text | State::Over => DeltaKind::Text,
            State::Reasoning { .. } => DeltaKind::Reasoning,
            State::Calls(_) => DeltaKind::ToolCall,
        }
    }

    /// The last boundary that the last piece went over, and what came since then.
    pub fn boundary(&self) -> Option<(Boundary, &str)> {
        Some((self.boundary?, self.since.as_str()))
    }

    /// Whether the model may write no more, since it has made all the calls that it may.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Calls whose arguments are whole.
    pub const fn calls(&self) -> u32 {
        self.calls_whole
    }

    fn take(&mut self, c: char) {
        self.bytes += c.len_utf8();
        if self.boundary.is_some() {
            self.since.push(c);
        }
        self.step(c);
    }

    fn step(&mut self, c: char) {
        match &self.state {
            State::Text => self.text(c),
            State::Reasoning { .. } => self.reasoning(c),
            State::Calls(_) => self.calls_step(c),
            State::Over => {}
        }
    }

    fn cross(&mut self, boundary: Boundary, since: String) {
        self.boundary = Some(boundary);
        self.since = since;
    }

    fn text(&mut self, c: char) {
        if self.held.is_empty() && !self.is_trimming && !self.may_open(c) {
            return self.tell_text(c.encode_utf8(&mut [0; 4]), c.len_utf8());
        }
        self.held.push(c);
        // Calls without markers may be parted like this: https://docs.vllm.ai, Llama 3.1's `{…}; {…}`.
        let is_parted = self.is_trimming
            && self.calls_whole > 0
            && matches!(self.syntax.calls, Calls::Bare { .. });
        while !self.held.is_empty() {
            let blanks = between(&self.held, is_parted);
            let rest = self.held.get(blanks..).unwrap_or_default();
            if rest.is_empty() {
                if blanks > BLANKS_MAX {
                    self.release(blanks);
                }
                return;
            }
            match self.opening(rest) {
                Opening::Part => return,
                Opening::Reasoning => {
                    self.held.clear();
                    self.state = State::Reasoning { is_empty: true };
                    return self.cross(Boundary::ReasoningBegan, String::new());
                }
                Opening::Calls => {
                    self.state = State::Calls(Box::new(Block::new(self.syntax.calls, false)));
                    return self.cross(Boundary::CallsBegan, String::new());
                }
                Opening::Bare => {
                    self.state = State::Calls(Box::new(Block::new(self.syntax.calls, true)));
                    // The brace is a part of the call.
                    self.held.pop();
                    return self.calls_step(c);
                }
                Opening::None => {
                    let first = rest.chars().next().map_or(0, char::len_utf8);
                    self.release(blanks + first);
                }
            }
        }
    }

    /// Whether this character may have to be held back.
    fn may_open(&self, c: char) -> bool {
        let is_first = |marker: &str| marker.starts_with(c);
        let (may_think, may_call) = (self.may_think(), self.offer.is_some());
        (json::is_blank(c) && (may_think || may_call))
            || (may_think && self.syntax.reasoning.is_some_and(|it| is_first(it.open)))
            || (may_call
                && match self.syntax.calls {
                    Calls::Tagged { open, .. } => is_first(open),
                    Calls::Named => is_first(MISTRAL_OPEN),
                    Calls::Bare { tag, .. } => is_first(tag) || matches!(c, '{' | '['),
                    Calls::Unknown => false,
                })
    }

    const fn may_think(&self) -> bool {
        self.syntax.reasoning.is_some() && !self.has_begun
    }

    fn opening(&self, text: &str) -> Opening {
        let mut best = Opening::None;
        let mut consider = |marker: &str, opening: Opening| {
            if marker == text {
                best = opening;
            } else if best == Opening::None && marker.starts_with(text) {
                best = Opening::Part;
            }
        };
        if let Some(markers) = self.syntax.reasoning.filter(|_| self.may_think()) {
            consider(markers.open, Opening::Reasoning);
        }
        if self.offer.is_some() {
            match self.syntax.calls {
                Calls::Tagged { open, .. } => consider(open, Opening::Calls),
                Calls::Named => consider(MISTRAL_OPEN, Opening::Calls),
                Calls::Bare { tag, .. } => {
                    consider(tag, Opening::Calls);
                    consider("{", Opening::Bare);
                    consider("[", Opening::Bare);
                }
                Calls::Unknown => {}
            }
        }
        best
    }

    fn reasoning(&mut self, c: char) {
        let close = self.syntax.reasoning.map_or("", |markers| markers.close);
        self.held.push(c);
        while !self.held.is_empty() {
            let blanks = self.held.len() - self.held.trim_start_matches(json::is_blank).len();
            let rest = self.held.get(blanks..).unwrap_or_default();
            if rest == close {
                self.held.clear();
                (self.state, self.is_trimming) = (State::Text, true);
                return self.cross(Boundary::ReasoningEnded, String::new());
            }
            if close.starts_with(rest) && (!rest.is_empty() || blanks <= BLANKS_MAX) {
                return;
            }
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let told = self.held.drain(..blanks + first).as_str().to_owned();
            let told = match self.state {
                State::Reasoning { is_empty: true } => told.trim_start_matches(json::is_blank),
                State::Reasoning { .. } | State::Text | State::Calls(_) | State::Over => &told,
            };
            if !told.is_empty() {
                self.state = State::Reasoning { is_empty: false };
            }
            self.tell(DeltaKind::Reasoning, told);
        }
    }

    fn calls_step(&mut self, c: char) {
        self.held.push(c);
        let State::Calls(block) = &mut self.state else {
            return;
        };
        let begun = self.calls_begun;
        let mut sink = Sink {
            offer: self.offer.as_ref(),
            begun: &mut self.calls_begun,
            whole: &mut self.calls_whole,
            out: &mut self.out,
        };
        let step = block.push(c, &mut sink);
        let is_decided = block.is_decided();
        let is_bare = block.is_bare() && !block.is_list();
        self.has_begun |= self.calls_begun > begun;
        if is_bare && self.calls_begun > begun && self.boundary != Some(Boundary::CallsBegan) {
            let since = self.held.trim_start_matches(json::is_blank).to_owned();
            self.cross(Boundary::CallsBegan, since);
        }
        match step {
            Step::More if is_decided => self.held.clear(),
            Step::More if self.held.len() > HELD_BYTES_MAX => self.give_up(c),
            Step::More => {}
            Step::End => {
                self.held.clear();
                self.calls_end();
            }
            Step::EndBefore => {
                let held = std::mem::take(&mut self.held);
                self.calls_end();
                self.again(&held);
            }
            Step::Broken => self.give_up(c),
        }
        let is_last = self
            .offer
            .as_ref()
            .is_some_and(|offer| self.calls_whole >= offer.calls_max);
        if is_last {
            self.held.clear();
            self.state = State::Over;
        }
    }

    fn calls_end(&mut self) {
        self.state = State::Text;
        self.is_trimming = true;
        self.cross(Boundary::CallsEnded, String::new());
    }

    /// It was no call: what is held is text, and its last character may begin something else.
    fn give_up(&mut self, c: char) {
        self.held.pop();
        let held = std::mem::take(&mut self.held);
        self.state = State::Text;
        // The held text ends before the character.
        self.tell_text(&held, held.len() + c.len_utf8());
        self.cross(Boundary::CallsBroken, String::new());
        self.again(c.encode_utf8(&mut [0; 4]));
    }

    /// Reads these characters, which came last, in another light.
    fn again(&mut self, text: &str) {
        let bytes = self.bytes;
        self.bytes -= text.len();
        for c in text.chars() {
            self.take(c);
        }
        debug_assert_eq!(self.bytes, bytes);
    }

    /// So many bytes of what is held are text.
    fn release(&mut self, count: usize) {
        let back = self.held.len();
        let text = self.held.drain(..count).as_str().to_owned();
        self.tell_text(&text, back);
    }

    /// Text that began so many bytes before the end of what came.
    fn tell_text(&mut self, text: &str, back: usize) {
        let told = if self.is_trimming {
            text.trim_start_matches(json::is_blank)
        } else {
            text
        };
        if told.is_empty() {
            return;
        }
        let start = self.bytes - back + (text.len() - told.len());
        self.is_trimming = false;
        self.has_begun |= !told.chars().all(json::is_blank);
        self.sink().tell(DeltaKind::Text, told, start);
    }

    fn tell(&mut self, kind: DeltaKind, text: &str) {
        self.sink().tell(kind, text, 0);
    }

    fn sink(&mut self) -> Sink<'_> {
        Sink {
            offer: self.offer.as_ref(),
            begun: &mut self.calls_begun,
            whole: &mut self.calls_whole,
            out: &mut self.out,
        }
    }
}

/// Bytes at the beginning that mean nothing: white space, and between parted calls one `;` or `,` on the line where the
/// last call ended. On a line of its own it is text, which is how `write_on` writes such a text.
fn between(held: &str, is_parted: bool) -> usize {
    let line = held.trim_start_matches([' ', '\t']);
    let rest = line.strip_prefix([';', ',']).filter(|_| is_parted);
    held.len()
        - rest
            .unwrap_or(held)
            .trim_start_matches(json::is_blank)
            .len()
}

/// What a text may be the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    None,
    Part,
    Reasoning,
    Calls,
    Bare,
}

#[cfg(test)]
mod tests;
