//! Tool calls of the real model, held to its tools by a grammar. The model was not trained to call tools, so all that it
//! does right here, the grammar makes it do; its family is the generic one, JSON without markers.
//! Families with markers are in `calling/markers.rs`.

mod markers;

use boon::{Compiler, Schemas};
use protocol::answer::PieceKind;
use protocol::chat::{
    LogitBias, ResponseFormat, Sampling, Tool, ToolCallEvent, ToolCallReader, ToolChoice,
};
use protocol::{Answer, ChatRequest, DeltaKind, ErrorCode, FinishReason, Transcript};
use serde_json::{Value, json};

use crate::harness::{MODEL, Rig, Told, greedy};

/// A call, as a client reads it.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

fn weather() -> Tool {
    Tool {
        name: "get_weather".to_owned(),
        description: Some("The weather in a city".to_owned()),
        parameters: Some(json!({
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 12},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}
            },
            "required": ["city", "unit"],
            "additionalProperties": false
        })),
    }
}

fn clock() -> Tool {
    Tool {
        name: "clock".to_owned(),
        description: None,
        parameters: None,
    }
}

fn asking(choice: ToolChoice) -> ChatRequest {
    ChatRequest {
        tools: vec![weather(), clock()],
        tool_choice: choice,
        max_tokens: Some(120),
        ..greedy("What is the weather in Paris?")
    }
}

/// The tokens that end a turn are made likelier or less likely than all others.
fn with_ends(bias: f32, request: ChatRequest) -> ChatRequest {
    ChatRequest {
        sampling: Sampling {
            logit_bias: [0, 2].map(|token| LogitBias { token, bias }).to_vec(),
            ..request.sampling
        },
        ..request
    }
}

fn function(name: &str) -> ToolChoice {
    ToolChoice::Function {
        name: name.to_owned(),
    }
}

fn calls(told: &Told) -> Vec<Call> {
    let stream: String = told
        .advances
        .iter()
        .filter(|advance| advance.kind == DeltaKind::ToolCall)
        .map(|advance| std::str::from_utf8(&advance.bytes).expect("text"))
        .collect();
    calls_in(&stream)
}

fn calls_in(stream: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let events = ToolCallReader::default().push(stream);
    for event in events.expect("a stream of calls") {
        match event {
            ToolCallEvent::Begun { id, name } => calls.push(Call {
                id,
                name,
                arguments: String::new(),
            }),
            ToolCallEvent::Arguments(more) => {
                calls.last_mut().expect("a call").arguments.push_str(&more);
            }
        }
    }
    calls
}

fn check(call: &Call) {
    let arguments: Value =
        serde_json::from_str(&call.arguments).unwrap_or_else(|error| panic!("{call:?}: {error}"));
    let schema = match call.name.as_str() {
        "get_weather" => weather().parameters.expect("given"),
        "forecast" => markers::forecast().parameters.expect("given"),
        "clock" => json!({"type": "object", "maxProperties": 0}),
        name => panic!("{name} was not offered"),
    };
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler
        .add_resource("schema.json", schema)
        .expect("a schema");
    let index = compiler
        .compile("schema.json", &mut schemas)
        .expect("compiles");
    schemas
        .validate(&arguments, index)
        .unwrap_or_else(|error| panic!("{call:?}: {error}"));
}

#[test]
fn a_call_that_must_be_made_is_made_and_fits_its_schema() {
    let mut rig = Rig::new(1, 1024);
    for choice in [
        ToolChoice::Required,
        function("get_weather"),
        function("clock"),
    ] {
        // It would end its turn at once, and does so where it may: after the first call.
        let told = rig.ask(with_ends(100.0, asking(choice.clone())));
        assert_eq!(told.finished().0, FinishReason::ToolCalls, "{}", told.text);
        let calls = calls(&told);
        assert_eq!(calls.len(), 1);
        calls.iter().for_each(check);
        if let ToolChoice::Function { name } = choice {
            assert_eq!(calls[0].name, name);
        }
        assert!(
            told.advances
                .iter()
                .all(|advance| advance.kind == DeltaKind::ToolCall || advance.bytes.is_empty())
        );
    }
}

#[test]
fn arguments_are_streamed_as_they_are_written() {
    let mut rig = Rig::new(1, 1024);
    let told = rig.ask(asking(function("get_weather")));
    let pieces: Vec<&str> = told
        .advances
        .iter()
        .filter(|advance| advance.kind == DeltaKind::ToolCall)
        .map(|advance| std::str::from_utf8(&advance.bytes).expect("text"))
        .collect();
    assert!(pieces[0].starts_with('\u{1e}'), "{pieces:?}");
    assert!(pieces.len() >= 6, "{pieces:?}");
}

#[test]
fn several_calls_at_once_have_ids_of_their_own_and_an_end() {
    let mut rig = Rig::new(1, 4096);
    // It may not end its turn, so it has to call again and again, until no more calls may be made.
    let mut request = with_ends(-100.0, asking(ToolChoice::Required));
    request.max_tokens = Some(2000);
    let told = rig.ask(request.clone());
    assert_eq!(told.finished().0, FinishReason::ToolCalls, "{}", told.text);
    let all = calls(&told);
    assert_eq!(all.len(), 16);
    all.iter().for_each(check);
    let mut ids: Vec<&str> = all.iter().map(|call| call.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 16);
    request.parallel_tool_calls = Some(false);
    let told = rig.ask(request);
    assert_eq!(told.finished().0, FinishReason::ToolCalls);
    // Its id is of another request.
    let only = calls(&told);
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].name, all[0].name);
    assert_eq!(only[0].arguments, all[0].arguments);
}

#[test]
fn a_call_that_the_model_begins_by_itself_is_held_to_its_schema() {
    let mut rig = Rig::new(1, 1024);
    let request = asking(ToolChoice::Auto);
    // A client has this beginning, which nothing had held to anything.
    for beginning in [
        "Let me see. {\"name\": \"get_weather\", \"arguments\": {",
        "{\"name\":\"clock\", \"arguments\":",
    ] {
        let given = written(&request, beginning);
        let mut stream: String = given
            .pieces
            .iter()
            .filter(|piece| piece.kind == PieceKind::ToolCall)
            .map(|piece| piece.text.as_str())
            .collect();
        let rest = rig.go_on(&request, given);
        for advance in &rest.advances {
            if advance.kind == DeltaKind::ToolCall {
                stream.push_str(std::str::from_utf8(&advance.bytes).expect("text"));
            }
        }
        // What it writes after the call is its own affair.
        let first = calls_in(&stream).remove(0);
        check(&first);
    }
}

/// Raw text that a node without a parser would have told as text: it is held here until it is a call.
fn written(request: &ChatRequest, text: &str) -> Answer {
    let (before, call) = text.split_at(text.find('{').expect("a call"));
    let name = if call.contains("clock") {
        "clock"
    } else {
        "get_weather"
    };
    let arguments = call
        .split_once("arguments\":")
        .map_or("", |(_, rest)| rest.trim());
    let mut transcript = Transcript::default();
    transcript.push(
        DeltaKind::Text,
        std::iter::empty(),
        before.trim().as_bytes(),
    );
    let ids = chat_format::parse::CallIds::of(request);
    let head = protocol::chat::begin_tool_call(&ids.id(0), name);
    transcript.push(
        DeltaKind::ToolCall,
        std::iter::empty(),
        format!("{head}{arguments}").as_bytes(),
    );
    transcript.answer(None).expect("an answer")
}

#[test]
fn tools_do_not_get_in_the_way_of_text() {
    let mut rig = Rig::new(1, 1024);
    for choice in [ToolChoice::Auto, ToolChoice::None] {
        let told = rig.ask(ChatRequest {
            max_tokens: Some(30),
            ..asking(choice)
        });
        assert!(!told.text.is_empty());
        assert!(
            told.advances
                .iter()
                .all(|advance| advance.kind == DeltaKind::Text)
        );
    }
}

#[test]
fn a_format_holds_beside_tools_that_may_be_called() {
    let mut rig = Rig::new(1, 1024);
    let request = with_ends(100.0, formatted());
    let told = rig.ask(request.clone());
    if told.finished().0 == FinishReason::ToolCalls {
        calls(&told).iter().for_each(check);
    } else {
        assert_eq!(told.finished().0, FinishReason::Stop, "{}", told.text);
        check_city(&told.text);
    }
    // Up to its first key, an object looks like a call.
    for beginning in ["{\"city\"", "{\"city\": \"Par"] {
        let rest = rig.go_on(&request, text(beginning));
        assert_eq!(rest.finished().0, FinishReason::Stop);
        check_city(&format!("{beginning}{}", rest.text));
    }
}

fn formatted() -> ChatRequest {
    ChatRequest {
        response_format: ResponseFormat::JsonSchema {
            schema: json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 10}}, "required": ["city"], "additionalProperties": false}),
        },
        ..asking(ToolChoice::Auto)
    }
}

fn check_city(text: &str) {
    let answer: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert!(answer["city"].is_string(), "{text:?}");
}

#[test]
fn nobody_goes_on_outside_what_the_request_demands() {
    let mut rig = Rig::new(1, 1024);
    let wrong = |choice| {
        let request = asking(choice);
        let call = written(&request, "{\"name\": \"clock\", \"arguments\": {\"x");
        (request, call)
    };
    let (required, call) = wrong(ToolChoice::Required);
    for (request, answer, param) in [
        (formatted(), text("Sure, it is"), "response_format"),
        (formatted(), text("{\"town"), "response_format"),
        (required.clone(), text("Sure, it is"), "tools"),
        (required, call, "tools"),
        (asking(function("get_weather")), text("{\"city"), "tools"),
    ] {
        let rest = rig.go_on(&request, answer.clone());
        assert_eq!(rest.failed().code, ErrorCode::InvalidRequest, "{answer:?}");
        assert_eq!(rest.failed().param.as_deref(), Some(param), "{answer:?}");
    }
    // What the model has chosen to write is its own affair.
    let (request, call) = wrong(ToolChoice::Auto);
    for answer in [text("Sure, it is"), call] {
        rig.go_on(&request, answer).finished();
    }
}

/// Text that comes without ids.
fn text(text: &str) -> Answer {
    let mut transcript = Transcript::default();
    transcript.push(DeltaKind::Text, std::iter::empty(), text.as_bytes());
    transcript.answer(None).expect("an answer")
}

#[test]
fn a_tool_that_must_be_called_and_cannot_be_held_to_is_refused() {
    let mut rig = Rig::new(1, 1024);
    let mut request = asking(ToolChoice::Required);
    request.tools[0].parameters =
        Some(json!({"type": "object", "properties": {"x": {"type": "string", "pattern": "\\d"}}}));
    let failure = rig.ask(request.clone()).failed().clone();
    assert_eq!(failure.param.as_deref(), Some("tools"));
    assert!(failure.message.contains("tool 1"), "{failure}");
    request.tool_choice = ToolChoice::Auto;
    request.max_tokens = Some(4);
    assert_eq!(rig.ask(request).finished().0, FinishReason::Length);
}

fn first(told: &Told, count: usize) -> Option<Answer> {
    let mut transcript = Transcript::default();
    for advance in &told.advances[..count] {
        transcript.push(advance.kind, advance.tokens.iter().copied(), &advance.bytes);
    }
    transcript.answer(Some(MODEL))
}

#[test]
fn a_call_that_is_cut_at_any_token_goes_on() {
    let mut rig = Rig::new(1, 1024);
    let request = ChatRequest {
        sampling: Sampling {
            seed: Some(1),
            temperature: Some(1.0),
            ..Sampling::default()
        },
        ..asking(function("get_weather"))
    };
    let whole = rig.ask(request.clone());
    assert_eq!(
        whole.finished().0,
        FinishReason::ToolCalls,
        "{}",
        whole.text
    );
    let mut others = Vec::new();
    for count in 0..=whole.advances.len() {
        // From the text alone it costs more, and no other code for each place.
        for has_ids in [true, false]
            .into_iter()
            .filter(|ids| *ids || count % 4 == 1)
        {
            let mut answer = first(&whole, count);
            if let Some(answer) = answer.as_mut().filter(|_| !has_ids) {
                answer.model = Some("another".to_owned());
            }
            let given: String = whole.advances[..count]
                .iter()
                .map(|advance| std::str::from_utf8(&advance.bytes).expect("text"))
                .collect();
            let rest = rig.go_on(&request, answer);
            let text = format!("{given}{}", rest.text);
            assert_eq!(rest.finished().0, FinishReason::ToolCalls, "{text}");
            calls_in(&text).iter().for_each(check);
            if text != whole.text {
                others.push((count, has_ids, text));
            }
        }
    }
    // Reading tokens together and one by one gives slightly different numbers, which now and then matters.
    assert!(
        others.len() * 5 <= 2 * whole.advances.len(),
        "{:?}: {others:#?}",
        whole.text
    );
}
