//! What must hold for every answer, whoever was struck.

use protocol::{ChatRequest, FinishReason, Usage};

/// An answer as its user has it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) finish_reason: FinishReason,
    pub(super) usage: Usage,
}

/// What is wrong with how the answer ended.
pub(super) fn faults(request: &ChatRequest, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    let tokens = answer.usage.completion_tokens;
    let tokens_max = request.max_tokens.unwrap_or(u32::MAX);
    if tokens > tokens_max {
        faults.push(format!("{tokens} tokens, {tokens_max} were asked for"));
    }
    match answer.finish_reason {
        FinishReason::Length if tokens != tokens_max => {
            faults.push(format!(
                "it ended for its length, with {tokens} tokens of {tokens_max}"
            ));
        }
        FinishReason::Stop if !may_stop(request) => {
            faults.push(format!(
                "nothing could stop it, and it stopped after {tokens} tokens"
            ));
        }
        FinishReason::Length | FinishReason::Stop => {}
        FinishReason::ToolCalls => faults.push("it calls tools, and was offered none".to_owned()),
        FinishReason::Unknown => faults.push("it ended for an unknown reason".to_owned()),
    }
    if answer.text.is_empty() {
        faults.push("it is empty".to_owned());
    }
    faults
}

/// Whether the model may end by itself, or a stop string may end it.
fn may_stop(request: &ChatRequest) -> bool {
    request.sampling.logit_bias.is_empty() || !request.stop.is_empty()
}
