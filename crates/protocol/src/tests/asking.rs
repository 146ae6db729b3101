//! What a request may hold beyond plain messages: tools, pictures, inputs for embeddings; and how tool calls travel.

use proptest::prelude::*;
use serde_json::json;

use crate::chat::{CALL_BEGIN, ToolCallEvent, ToolCallReader, begin_tool_call};
use crate::limits::{
    EMBED_INPUTS_MAX, IMAGES_MAX, TOOL_CALLS_MAX, TOOL_NAME_BYTES_MAX, TOOLS_BYTES_MAX, TOOLS_MAX,
};
use crate::{
    ChatMessage, ChatRequest, EmbedRequest, Image, JobRequest, Role, Tool, ToolCall, ToolChoice,
};

fn tool(name: &str) -> Tool {
    Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
    }
}

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: "{}".to_owned(),
    }
}

/// The field that a changed request is refused for, if it is.
fn fault(change: impl FnOnce(&mut ChatRequest)) -> Option<&'static str> {
    let mut request = ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "Größe?")],
        ..ChatRequest::default()
    };
    change(&mut request);
    request.validate().err().map(|fault| fault.param)
}

fn fault_of(message: ChatMessage) -> Option<&'static str> {
    fault(|request| request.messages = vec![message])
}

#[test]
fn tools_are_few_with_plain_names_that_differ_and_sound_schemas() {
    assert_eq!(
        fault(|r| r.tools = vec![tool("get_it"), tool("a.b-c")]),
        None
    );
    let many = |count: usize| (0..count).map(|i| tool(&format!("t{i}"))).collect();
    assert_eq!(fault(|r| r.tools = many(TOOLS_MAX)), None);
    assert_eq!(fault(|r| r.tools = many(TOOLS_MAX + 1)), Some("tools"));
    assert_eq!(
        fault(|r| r.tools = vec![tool("a"), tool("a")]),
        Some("tools")
    );
    for name in [
        "",
        "a b",
        "größe",
        "a\"",
        &"n".repeat(TOOL_NAME_BYTES_MAX + 1),
    ] {
        assert_eq!(
            fault(|r| r.tools = vec![tool(name)]),
            Some("tools"),
            "{name}"
        );
    }
    let with = |parameters| Tool {
        parameters: Some(parameters),
        ..tool("a")
    };
    assert_eq!(fault(|r| r.tools = vec![with(json!({}))]), None);
    assert_eq!(fault(|r| r.tools = vec![with(json!([]))]), Some("tools"));
    let wordy = |i: usize| Tool {
        description: Some("d".repeat(60_000)),
        ..tool(&format!("t{i}"))
    };
    let count = TOOLS_BYTES_MAX / 60_000;
    assert_eq!(fault(|r| r.tools = (0..count).map(wordy).collect()), None);
    assert_eq!(
        fault(|r| r.tools = (0..=count).map(wordy).collect()),
        Some("tools")
    );
}

#[test]
fn a_choice_of_tools_needs_them() {
    let offer = |r: &mut ChatRequest| r.tools = vec![tool("a")];
    let function = |name: &str| ToolChoice::Function {
        name: name.to_owned(),
    };
    for choice in [ToolChoice::Auto, ToolChoice::None] {
        assert_eq!(fault(|r| r.tool_choice = choice), None);
    }
    for (choice, expected) in [
        (ToolChoice::Required, None),
        (function("a"), None),
        (function("b"), Some("tool_choice")),
        (ToolChoice::Unknown, Some("tool_choice")),
    ] {
        let with = fault(|r| {
            offer(r);
            r.tool_choice = choice.clone();
        });
        assert_eq!(with, expected, "{choice:?}");
        assert_eq!(fault(|r| r.tool_choice = choice), Some("tool_choice"));
    }
}

#[test]
fn calls_are_the_assistants_and_their_answers_the_tools() {
    let with = |role, calls: Vec<ToolCall>, answers: Option<&str>| ChatMessage {
        tool_calls: calls,
        tool_call_id: answers.map(str::to_owned),
        ..ChatMessage::new(role, "")
    };
    assert_eq!(
        fault_of(with(Role::Assistant, vec![call("1", "a")], None)),
        None
    );
    assert_eq!(fault_of(with(Role::Tool, vec![], Some("1"))), None);
    for wrong in [
        with(Role::User, vec![call("1", "a")], None),
        with(Role::Tool, vec![], None),
        with(Role::User, vec![], Some("1")),
        with(Role::Tool, vec![], Some("")),
        with(Role::Assistant, vec![call("", "a")], None),
        with(Role::Assistant, vec![call("1", "")], None),
        with(
            Role::Assistant,
            vec![call("1", "a"); TOOL_CALLS_MAX + 1],
            None,
        ),
        ChatMessage {
            reasoning: Some(String::new()),
            ..ChatMessage::new(Role::User, "")
        },
    ] {
        assert_eq!(fault_of(wrong.clone()), Some("messages"), "{wrong:?}");
    }
}

#[test]
fn images_stand_in_order_at_characters_of_what_users_and_tools_say() {
    let with = |role, places: &[u32]| ChatMessage {
        images: places
            .iter()
            .map(|at| Image {
                at: *at,
                data: "AA==".to_owned(),
            })
            .collect(),
        tool_call_id: (role == Role::Tool).then(|| "1".to_owned()),
        ..ChatMessage::new(role, "Größe")
    };
    assert_eq!(fault_of(with(Role::User, &[0, 2, 2, 7])), None);
    assert_eq!(fault_of(with(Role::Tool, &[0])), None);
    assert_eq!(fault_of(with(Role::User, &[0; IMAGES_MAX])), None);
    for wrong in [
        with(Role::User, &[3]),
        with(Role::User, &[8]),
        with(Role::User, &[2, 0]),
        with(Role::Assistant, &[0]),
        with(Role::User, &[0; IMAGES_MAX + 1]),
    ] {
        assert_eq!(fault_of(wrong.clone()), Some("messages"), "{wrong:?}");
    }
    let two = with(Role::User, &[0; IMAGES_MAX / 2 + 1]);
    assert_eq!(
        fault(|r| r.messages = vec![two.clone(), two]),
        Some("messages")
    );
}

#[test]
fn embeddings_are_asked_for_some_texts_that_are_not_empty() {
    let is_refused = |inputs: Vec<String>, dimensions| {
        JobRequest::from(EmbedRequest { inputs, dimensions })
            .validate()
            .is_err()
    };
    let text = "x".to_owned();
    assert!(!is_refused(vec![text.clone(); EMBED_INPUTS_MAX], Some(1)));
    assert!(is_refused(vec![text.clone(); EMBED_INPUTS_MAX + 1], None));
    assert!(is_refused(vec![], None));
    assert!(is_refused(vec![text.clone(), String::new()], None));
    assert!(is_refused(vec![text], Some(0)));
    assert!(JobRequest::Unknown.validate().is_err());
}

/// What a reader makes of the pieces, arguments joined.
fn read(pieces: &[&str]) -> Option<Vec<(String, String, String)>> {
    let mut reader = ToolCallReader::default();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for piece in pieces {
        for event in reader.push(piece).ok()? {
            match event {
                ToolCallEvent::Begun { id, name } => calls.push((id, name, String::new())),
                ToolCallEvent::Arguments(text) => calls.last_mut()?.2.push_str(&text),
            }
        }
    }
    Some(calls)
}

proptest! {
    #[test]
    fn tool_calls_read_the_same_however_their_stream_is_cut(
        calls in prop::collection::vec(("[a-zA-Z0-9\"\\n]{1,9}", "[a-z\\u{1e}]{1,9}", "[^\\u{1e}]{0,20}"), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut stream = String::new();
        for (id, name, arguments) in &calls {
            stream.push_str(&begin_tool_call(id, name));
            stream.push_str(arguments);
        }
        let mut places: Vec<usize> = cuts
            .iter()
            .filter(|_| !stream.is_empty())
            .map(|cut| cut.index(stream.len()))
            .filter(|place| stream.is_char_boundary(*place))
            .collect();
        places.extend([0, stream.len()]);
        places.sort_unstable();
        let pieces: Vec<&str> = places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces), Some(calls));
    }
}

#[test]
fn what_is_no_tool_call_is_refused_and_never_gathered_without_end() {
    assert_eq!(read(&["{}"]), None);
    assert_eq!(read(&["\u{1e}{\"id\":1}\n"]), None);
    assert_eq!(read(&["\u{1e}\n"]), None);
    assert_eq!(read(&[&begin_tool_call("", "a")]), None);
    let many = begin_tool_call("1", "a").repeat(TOOL_CALLS_MAX);
    assert!(read(&[&many]).is_some());
    assert_eq!(read(&[&many, &begin_tool_call("1", "a")]), None);
    let endless = "x".repeat(100_000);
    assert_eq!(read(&[&CALL_BEGIN.to_string(), &endless]), None);
}
