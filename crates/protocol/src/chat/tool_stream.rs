//! Tool calls as bytes of an answer, so that they can be streamed, acknowledged and gone on with like text.
//!
//! ```text
//! calls = call*
//! call  = RS (U+001E) · {"id":"…","name":"…"} · LF · arguments
//! ```
//! That is RFC 7464's way to put JSON texts in sequence. An RS can be in no JSON text unescaped, so that it always begins
//! a call; arguments come as the model writes them. All bytes are of the kind `ToolCall`.

use serde::{Deserialize, Serialize};

use crate::limits::{TOOL_CALL_ID_BYTES_MAX, TOOL_CALLS_MAX, TOOL_NAME_BYTES_MAX};

/// Begins a call.
pub const CALL_BEGIN: char = '\u{1e}';

/// A head with an id and a name of full length, escaped at worst.
const HEAD_BYTES_MAX: usize = 64 + 6 * (TOOL_CALL_ID_BYTES_MAX + TOOL_NAME_BYTES_MAX);

#[derive(Serialize, Deserialize)]
struct Head {
    id: String,
    name: String,
}

/// How a call begins in the stream; its arguments follow as they are. JSON has no bare [`CALL_BEGIN`].
pub fn begin_tool_call(id: &str, name: &str) -> String {
    let head = Head {
        id: id.to_owned(),
        name: name.to_owned(),
    };
    // Two strings: serialising cannot fail.
    let head = serde_json::to_string(&head).unwrap_or_default();
    format!("{CALL_BEGIN}{head}\n")
}

/// What a reader of the stream finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolCallEvent {
    /// The next call begins.
    Begun {
        /// Its id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of the arguments of the call that began last.
    Arguments(String),
}

/// The bytes are no tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node sent a tool call that cannot be read")]
pub struct BadToolCall;

/// Reads the stream, however it is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCallReader {
    /// A head that is not whole yet.
    head: Option<String>,
    calls: usize,
}

impl ToolCallReader {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, text: &str) -> Result<Vec<ToolCallEvent>, BadToolCall> {
        let mut events = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(head) = &mut self.head {
                let (piece, after) = rest
                    .split_once('\n')
                    .map_or((rest, None), |(a, b)| (a, Some(b)));
                if head.len() + piece.len() > HEAD_BYTES_MAX {
                    return Err(BadToolCall);
                }
                head.push_str(piece);
                let Some(after) = after else { break };
                let Head { id, name } = serde_json::from_str(head).map_err(|_| BadToolCall)?;
                let fits = |text: &str, most: usize| !text.is_empty() && text.len() <= most;
                if !fits(&id, TOOL_CALL_ID_BYTES_MAX)
                    || !fits(&name, TOOL_NAME_BYTES_MAX)
                    || self.calls >= TOOL_CALLS_MAX
                {
                    return Err(BadToolCall);
                }
                events.push(ToolCallEvent::Begun { id, name });
                self.head = None;
                self.calls += 1;
                rest = after;
            } else {
                let (piece, after) = rest
                    .split_once(CALL_BEGIN)
                    .map_or((rest, None), |(a, b)| (a, Some(b)));
                if !piece.is_empty() {
                    if self.calls == 0 {
                        return Err(BadToolCall);
                    }
                    events.push(ToolCallEvent::Arguments(piece.to_owned()));
                }
                let Some(after) = after else { break };
                self.head = Some(String::new());
                rest = after;
            }
        }
        Ok(events)
    }
}
