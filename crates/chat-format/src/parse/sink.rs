//! What a parser tells, and what it has to know to tell calls.

use std::sync::Arc;

use protocol::DeltaKind;
use protocol::chat::begin_tool_call;

use super::ids::CallIds;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What it is.
    pub kind: DeltaKind,
    /// The piece; of calls, as the wire carries them.
    pub text: String,
    /// Where a piece of text began in what the model wrote, in bytes; it is copied from there as it was.
    pub start: usize,
}

/// Which calls count as calls.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Names of the tools; other calls are text.
    pub(super) names: Arc<[String]>,
    /// Ids for calls.
    pub(super) ids: CallIds,
    /// After so many the answer is over.
    pub(super) calls_max: u32,
}

/// Takes what is told.
#[derive(Debug)]
pub(super) struct Sink<'s> {
    pub(super) offer: Option<&'s Offer>,
    /// Calls that have begun.
    pub(super) begun: &'s mut u32,
    /// Calls whose arguments are whole.
    pub(super) whole: &'s mut u32,
    pub(super) out: &'s mut Vec<Parsed>,
}

impl Sink<'_> {
    /// Whether there is such a tool.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.offer
            .is_some_and(|offer| offer.names.iter().any(|known| known == name))
    }

    /// A call begins, if there is such a tool.
    pub(super) fn begin(&mut self, name: &str) -> bool {
        let Some(offer) = self.offer.filter(|_| self.offers(name)) else {
            return false;
        };
        let head = begin_tool_call(&offer.ids.id(*self.begun), name);
        *self.begun += 1;
        self.tell(DeltaKind::ToolCall, &head, 0);
        true
    }

    pub(super) fn arguments(&mut self, text: &str) {
        self.tell(DeltaKind::ToolCall, text, 0);
    }

    pub(super) fn argument(&mut self, c: char) {
        self.arguments(c.encode_utf8(&mut [0; 4]));
    }

    /// The arguments are whole.
    pub(super) const fn call_ends(&mut self) {
        *self.whole += 1;
    }

    pub(super) fn tell(&mut self, kind: DeltaKind, text: &str, start: usize) {
        if text.is_empty() {
            return;
        }
        match self.out.last_mut() {
            Some(last)
                if last.kind == kind
                    && (kind != DeltaKind::Text || last.start + last.text.len() == start) =>
            {
                last.text.push_str(text);
            }
            Some(_) | None => self.out.push(Parsed {
                kind,
                text: text.to_owned(),
                start,
            }),
        }
    }
}
