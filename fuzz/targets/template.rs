//! Chat templates as model files bring them, and conversations through them: whatever a template does, it comes to an
//! end, and what it writes has a bound. Nothing of ours stands in the prompt, and a prompt is the same every time.
//!
//! What `~`, `+` and `*` put together has no bound but minijinja's (100 MB for one `*`).

#![no_main]

use chat_format::template::{ChatTemplate, Piece, SpecialTokens};
use chrono::DateTime;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use protocol::{ChatMessage, ChatRequest, Image, Role, Tool, ToolCall};

/// As `template/bounds.rs` has it, for a job.
const PROMPT_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Arbitrary)]
struct Message<'a> {
    role: u8,
    content: &'a str,
    name: Option<&'a str>,
    call: Option<(&'a str, &'a str)>,
    answered: Option<&'a str>,
    reasoning: Option<&'a str>,
    image: Option<u8>,
}

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    control: [&'a str; 3],
    tools: Vec<(&'a str, Option<&'a str>, u8)>,
    messages: Vec<Message<'a>>,
    template: &'a str,
}

fn message(input: &Message<'_>) -> ChatMessage {
    let roles = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let call = |(name, arguments): (&str, &str)| ToolCall {
        id: "a1B2c3D4e".to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    ChatMessage {
        role: roles[usize::from(input.role) % roles.len()],
        content: input.content.to_owned(),
        name: input.name.map(str::to_owned),
        images: input
            .image
            .map(|at| Image {
                at: u32::from(at),
                data: String::new(),
            })
            .into_iter()
            .collect(),
        tool_calls: input.call.map(call).into_iter().collect(),
        tool_call_id: input.answered.map(str::to_owned),
        reasoning: input.reasoning.map(str::to_owned),
    }
}

fn tool((name, description, parameters): &(&str, Option<&str>, u8)) -> Tool {
    let parameters = match parameters % 3 {
        0 => None,
        1 => Some(serde_json::json!({"type": "object", "properties": {}})),
        _ => Some(serde_json::json!({
            "type": "object",
            "properties": {*name: {"type": "string", "enum": [name, description]}},
            "required": [name],
        })),
    };
    Tool {
        name: (*name).to_owned(),
        description: description.map(str::to_owned),
        parameters,
    }
}

fuzz_target!(|input: Input<'_>| {
    let special = SpecialTokens {
        bos: input.control[0].to_owned(),
        eos: input.control[1].to_owned(),
        control: input.control.map(str::to_owned).to_vec(),
    };
    let Ok(template) = ChatTemplate::new(Some(input.template.to_owned()), special) else {
        return;
    };
    let request = ChatRequest {
        messages: input.messages.iter().map(message).collect(),
        tools: input.tools.iter().map(tool).collect(),
        ..ChatRequest::default()
    };
    // What breaks a rule never comes as far as a template.
    if request.validate().is_err() {
        return;
    }
    let now = DateTime::UNIX_EPOCH;
    let prompt = template.render(&request, now);
    assert_eq!(prompt, template.render(&request, now));
    let Ok(prompt) = prompt else {
        return;
    };
    assert!(!prompt.pieces.is_empty());
    let text = prompt.text();
    assert!(text.len() <= PROMPT_BYTES_MAX);
    // These are noncharacters, which nobody's text keeps.
    assert!(!text.contains(|char| ('\u{fdd0}'..='\u{fdef}').contains(&char)));
    let images = request.messages.iter().map(|message| message.images.len());
    let images: usize = images.sum();
    for piece in &prompt.pieces {
        if let Piece::Image { index, .. } = piece {
            assert!(*index < images);
        }
    }
});
