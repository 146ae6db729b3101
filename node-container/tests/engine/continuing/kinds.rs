//! What the answer is does not matter: JSON, scripts without spaces, emoji, code, reasoning, tool calls.

use super::{first, foreign, goes_on_from_ids, goes_on_from_text, text};
use crate::endless;
use crate::harness::{Rig, greedy};
use protocol::answer::{Piece, PieceKind};
use protocol::chat::ResponseFormat;
use protocol::{Answer, ChatRequest, DeltaKind, FinishReason};
use serde_json::{Value, json};

fn city() -> ChatRequest {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer"},
            "in": {"enum": ["Europe", "Asia"]}
        },
        "required": ["name", "age", "in"],
        "additionalProperties": false
    });
    ChatRequest {
        response_format: ResponseFormat::JsonSchema { schema },
        max_tokens: Some(60),
        ..greedy("Describe the city of Paris as JSON.")
    }
}

#[test]
fn json_that_is_cut_at_any_byte_keeps_to_its_schema() {
    let mut rig = Rig::new(1, 512);
    let request = city();
    let whole = rig.ask(request.clone());
    for (cut, _) in whole.text.char_indices().skip(1) {
        let rest = rig.go_on(&request, text(&whole.text[..cut]));
        let told = format!("{}{}", &whole.text[..cut], rest.text);
        assert_eq!(rest.finished().0, FinishReason::Stop, "{told}");
        let value: Value =
            serde_json::from_str(&told).unwrap_or_else(|error| panic!("{told}: {error}"));
        assert!(value["age"].is_i64(), "{told}");
        assert!(
            ["Europe", "Asia"].contains(&value["in"].as_str().unwrap_or_default()),
            "{told}"
        );
    }
    let rest = rig.go_on(&request, text(&whole.text));
    assert_eq!(
        (rest.text.as_str(), rest.finished().0),
        ("", FinishReason::Stop)
    );
}

#[test]
fn json_of_another_hand_goes_on_in_its_form() {
    let mut rig = Rig::new(1, 512);
    // Spaces and names that this model would not have written.
    let beginning = "{ \"name\" : \"Xq";
    let rest = rig.go_on(&city(), text(beginning));
    let told = format!("{beginning}{}", rest.text);
    let value: Value =
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert!(
        value["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("Xq")),
        "{told}"
    );
}

#[test]
fn characters_of_several_tokens_are_whole_on_both_sides_of_the_seam() {
    let mut rig = Rig::new(1, 512);
    let written = "🦀é漢仮👩‍💻";
    let request = ChatRequest {
        response_format: ResponseFormat::JsonSchema {
            schema: json!({"type": "object", "properties": {"a": {"const": written}}, "required": ["a"], "additionalProperties": false}),
        },
        ..greedy("Go.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    for (cut, _) in whole.text.char_indices().skip(8) {
        let rest = rig.go_on(&request, text(&whole.text[..cut]));
        let told = format!("{}{}", &whole.text[..cut], rest.text);
        let value: Value = serde_json::from_str(&told).expect("valid JSON");
        assert_eq!(value["a"], written);
    }
}

#[test]
fn free_text_in_any_script_goes_on() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(48),
        ..endless("Write on.")
    };
    let given = "🦀🎉 你好，世界。今日は良い天気です👩‍💻";
    for (cut, _) in given.char_indices().skip(1).step_by(2) {
        let rest = rig.go_on(&request, text(&given[..cut]));
        let (reason, usage) = rest.finished();
        assert_eq!(
            (reason, usage.completion_tokens),
            (FinishReason::Length, 48),
            "{}",
            &given[..cut]
        );
        assert!(!rest.text.is_empty());
    }
}

#[test]
fn code_goes_on_with_its_indentation() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(32),
        ..greedy("Write a Python function that adds two numbers.")
    };
    let whole = goes_on_from_ids(&mut rig, &request);
    goes_on_from_text(&mut rig, &request, &whole);
    let code = "```python\ndef add(a, b):\n    \"\"\"Adds.\"\"\"\n    return a";
    let rest = rig.go_on(&request, text(code));
    assert!(rest.text.trim_start().starts_with('+'), "{:?}", rest.text);
}

#[test]
fn trailing_blanks_are_kept() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(8),
        ..endless("How are you?")
    };
    for given in ["I am very", "It is a nice"] {
        let bare = rig.go_on(&request, text(given));
        assert!(bare.text.starts_with(' '), "{:?}", bare.text);
        // A template that trimmed would make this the same.
        let blank = rig.go_on(&request, text(&format!("{given} ")));
        assert!(
            blank.text.starts_with(char::is_alphabetic),
            "{:?}",
            blank.text
        );
    }
}

#[test]
fn a_word_that_this_model_would_not_have_begun_is_finished() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(20),
        ..greedy("What is two and two?")
    };
    for (given, rest) in [
        ("My favourite fruit is the strawb", "err"),
        ("The capital of Germany is Berl", "in"),
        ("Paris is the capital of Fran", "ce"),
        ("I like to eat breakf", "ast"),
    ] {
        let told = rig.go_on(&request, text(given));
        assert!(told.text.starts_with(rest), "{given}: {:?}", told.text);
    }
}

#[test]
fn thoughts_of_a_model_that_thinks_are_left_out_by_one_that_does_not() {
    let mut rig = Rig::new(1, 512);
    let piece = |kind, text: &str| Piece {
        kind,
        text: text.to_owned(),
        tokens: Vec::new(),
    };
    let answer = Answer {
        model: Some("another".to_owned()),
        pieces: vec![
            piece(PieceKind::Reasoning, "France it is."),
            piece(PieceKind::Text, "The capital of France is Par"),
        ],
    };
    let request = ChatRequest {
        max_tokens: Some(20),
        ..greedy("What is the capital of France?")
    };
    let rest = rig.go_on(&request, Some(answer));
    assert!(rest.text.starts_with("is"), "{:?}", rest.text);
    assert!(
        rest.advances
            .iter()
            .all(|advance| advance.kind == DeltaKind::Text)
    );
}

#[test]
fn ids_of_another_vocabulary_are_not_believed() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(40),
        ..greedy("Tell me a story about a lighthouse.")
    };
    let whole = rig.ask(request.clone());
    let mut answer = foreign(first(&whole, 10)).expect("text");
    for piece in &mut answer.pieces {
        piece.tokens = vec![4_000_000_000, 5, 6];
    }
    let rest = rig.go_on(&request, Some(answer));
    let (reason, usage) = rest.finished();
    assert_eq!(reason, FinishReason::Length);
    assert_eq!(usage.completion_tokens, 40);
    assert_eq!(rest.tokens.len(), 37);
    let given: String = whole.pieces[..10].concat();
    assert!(format!("{given}{}", rest.text).starts_with(&whole.text));
}
