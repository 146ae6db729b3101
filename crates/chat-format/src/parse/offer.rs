//! Which calls a request's answer may hold.

use protocol::ChatRequest;
use protocol::chat::{Tool, ToolChoice};

use super::{CallIds, Offer};

/// Calls of one answer: more than agents make at once, and an end for a model that goes on and on.
pub const CALLS_MAX: u32 = 16;

/// The tools that an answer to this request may call: none, one that was chosen, or all.
pub fn callable(request: &ChatRequest) -> &[Tool] {
    match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::Required => &request.tools,
        ToolChoice::Function { name } => request
            .tools
            .iter()
            .position(|tool| tool.name == *name)
            .and_then(|index| request.tools.get(index..=index))
            .unwrap_or_default(),
        ToolChoice::None | ToolChoice::Unknown => &[],
    }
}

/// How many calls an answer to this request may hold.
pub fn calls_max(request: &ChatRequest) -> u32 {
    match &request.tool_choice {
        ToolChoice::Function { .. } => 1,
        _ if request.parallel_tool_calls == Some(false) => 1,
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::None | ToolChoice::Unknown => {
            CALLS_MAX
        }
    }
}

impl Offer {
    /// What this request offers; `None` where its answers hold no calls.
    pub fn of(request: &ChatRequest) -> Option<Self> {
        let names: Vec<String> = callable(request)
            .iter()
            .map(|tool| tool.name.clone())
            .collect();
        (!names.is_empty()).then(|| Self {
            names: names.into(),
            ids: CallIds::of(request),
            calls_max: calls_max(request),
        })
    }
}
