//! What JavaScript asks for where it wants text: a conversation, or a plain text to go on with.

use chrono::{DateTime, Utc};
use protocol::answer::{Piece, PieceKind};
use protocol::{ChatMessage, ChatRequest, ErrorCode, Failure};
use serde::Deserialize;
use serde::de::IgnoredAny;
use webgpu_engine::run::{self, Engine, Seed, TextError, TextPrompt, TextRequest};

use super::Drawing;

/// An answer as text.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// The conversation, oldest first, in the words of the file's template; …
    pub messages: Vec<ChatMessage>,
    /// … or a plain text to go on with, in which nothing is a control token.
    pub prompt: Option<String>,
    /// What there is of the answer already: only what lies beyond is told.
    pub given: Option<Given>,
    /// The answer ends before the first of them.
    pub stop: Vec<String>,
    /// Tokens of the answer, the given ones among them; left out, what is left of the context.
    pub tokens_max: Option<u32>,
    /// How they are drawn. With a seed the same text comes each time: nothing of an earlier prompt is used again.
    #[serde(flatten)]
    pub drawing: Drawing,
}

/// What there is of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "given is a text, a list of token ids, or a list of events"
)]
pub enum Given {
    /// Text, by whatever model.
    Text(String),
    /// All tokens that this very model has drawn. What their text leaves open is told.
    Tokens(Vec<u32>),
    /// The events of all attempts in order, all of this very model: goes on at the byte where they end. Text that was
    /// there before the first of them is an event of its own, without ids.
    Events(Vec<Part>),
}

/// An event of an answer. Those with neither text nor ids nor log-probabilities count for nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Part {
    /// What the text is.
    pub kind: PieceKind,
    /// Whole characters.
    pub text: String,
    /// The tokens that it stands for.
    pub ids: Vec<u32>,
    /// Their log-probabilities.
    pub logprobs: Vec<IgnoredAny>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            kind: PieceKind::Text,
            text: String::new(),
            ids: Vec::new(),
            logprobs: Vec::new(),
        }
    }
}

impl Chat {
    /// What the model reads. `now` is for templates that write the date.
    pub fn read(&mut self, engine: &Engine, now: DateTime<Utc>) -> Result<TextPrompt, TextError> {
        let messages = std::mem::take(&mut self.messages);
        match self.prompt.take() {
            None => {
                let conversation = ChatRequest {
                    messages,
                    ..ChatRequest::default()
                };
                engine.chat_prompt(&conversation, now)
            }
            Some(prompt) if messages.is_empty() => engine.text_prompt(&prompt),
            Some(_) => Err(both().into()),
        }
    }

    /// The rest of it. Without a seed, draws depend on `any`.
    pub fn request(self, prompt: TextPrompt, any: u64) -> TextRequest {
        let request = TextRequest::greedy(prompt, self.tokens_max.unwrap_or(u32::MAX));
        TextRequest {
            given: self.given.map(Into::into).unwrap_or_default(),
            stops: self.stop,
            seed: self.drawing.seed.map_or(Seed::Any(any), Seed::Wanted),
            alternatives: self.drawing.alternatives,
            shared: self.drawing.shared.unwrap_or(request.shared),
            rules: self.drawing.into(),
            ..request
        }
    }
}

impl From<Given> for run::Given {
    fn from(given: Given) -> Self {
        match given {
            Given::Text(text) => Self::Text(text),
            Given::Tokens(tokens) => Self::Tokens(tokens),
            Given::Events(parts) => carried(parts),
        }
    }
}

/// Events as the wire carries them. Of log-probabilities only their count matters.
fn carried(parts: Vec<Part>) -> run::Given {
    let has_ids = parts.iter().any(|part| !part.ids.is_empty());
    let told: usize = parts.iter().map(|part| part.logprobs.len()).sum();
    let logprobs = told.checked_sub(1).map(|others| Piece {
        kind: PieceKind::Logprobs,
        text: format!("[{}0]", "0,".repeat(others)),
        tokens: Vec::new(),
    });
    let parts = parts
        .into_iter()
        .filter(|part| !part.text.is_empty() || !part.ids.is_empty());
    let pieces = parts.map(|part| Piece {
        kind: part.kind,
        text: part.text,
        tokens: part.ids,
    });
    run::Given::of_parts(pieces.chain(logprobs), has_ids)
}

fn both() -> Failure {
    Failure::new(
        ErrorCode::InvalidRequest,
        "there are messages or there is a prompt, not both",
    )
    .with_param("prompt")
}

#[cfg(test)]
mod tests {
    use webgpu_engine::reference::sampling::Rules;

    use super::*;

    fn read(written: &str) -> Chat {
        serde_json::from_str(written).unwrap()
    }

    fn request(written: &str) -> TextRequest {
        read(written).request(TextPrompt::of_tokens(vec![1]), 77)
    }

    #[test]
    fn a_chat_without_wishes_is_greedy_and_as_long_as_the_context() {
        let request = request(r#"{"messages": [{"role": "user", "content": "Hi"}]}"#);
        assert_eq!(request.tokens_max, u32::MAX);
        assert_eq!(request.seed, Seed::Any(77));
        assert!(request.rules.temperature.abs() < f32::EPSILON);
        assert!(matches!(request.given, run::Given::Nothing));
    }

    #[test]
    fn wishes_reach_the_engine() {
        let request = request(
            r#"{"prompt": "x", "stop": ["a"], "tokens_max": 9, "temperature": 1, "top_k": 4,
                "seed": "18446744073709551615", "alternatives": 2, "shared": 3}"#,
        );
        assert_eq!(request.stops, ["a"]);
        assert_eq!(request.tokens_max, 9);
        assert_eq!(request.seed, Seed::Wanted(u64::MAX));
        assert_eq!((request.alternatives, request.shared), (Some(2), 3));
        let expected = Rules {
            temperature: 1.0,
            top_k: 4,
            ..Rules::default()
        };
        assert_eq!(request.rules, expected);
    }

    #[test]
    fn an_answer_is_given_as_text_as_tokens_or_as_the_events_that_came_of_it() {
        let given =
            |written: &str| request(&format!(r#"{{"prompt": "", "given": {written}}}"#)).given;
        assert!(matches!(given(r#""so far""#), run::Given::Text(text) if text == "so far"));
        assert!(matches!(given("[4, 5]"), run::Given::Tokens(tokens) if tokens == [4, 5]));
        let events = r#"[{"prompt_tokens": 3},
            {"kind": "reasoning", "text": "h", "ids": [1], "tokens": 1, "at_ms": 0.5},
            {"kind": "text", "text": "a", "ids": [2], "tokens": 2, "logprobs": [{"id": 2}]},
            {"prompt_tokens": 3}, {"kind": "tool_call", "text": "", "ids": []},
            {"kind": "text", "text": "bc", "ids": [3, 4], "tokens": 4, "logprobs": [{"id": 3}, {"id": 4}]}]"#;
        let run::Given::Answer { answer, has_ids } = given(events) else {
            panic!("they are pieces");
        };
        let piece = |kind, text: &str, tokens: &[u32]| Piece {
            kind,
            text: text.to_owned(),
            tokens: tokens.to_vec(),
        };
        let expected = [
            piece(PieceKind::Reasoning, "h", &[1]),
            piece(PieceKind::Text, "abc", &[2, 3, 4]),
            piece(PieceKind::Logprobs, "[0,0,0]", &[]),
        ];
        assert_eq!(answer.pieces, expected);
        assert!(has_ids);
        let texts = given(r#"[{"text": "abc"}]"#);
        assert!(matches!(texts, run::Given::Answer { has_ids: false, .. }));
        // Text, and what an attempt said behind it.
        let both = given(r#"[{"text": "abc"}, {"prompt_tokens": 3}, {"text": "d", "ids": [5]}]"#);
        let run::Given::Answer { answer, has_ids } = both else {
            panic!("they are pieces");
        };
        let expected = [
            piece(PieceKind::Text, "abc", &[]),
            piece(PieceKind::Text, "d", &[5]),
        ];
        assert_eq!(answer.pieces, expected);
        assert!(has_ids);
    }

    #[test]
    fn what_nobody_can_go_on_from_is_refused_in_words() {
        for wrong in ["5", r#"["a"]"#, r#"[{"ids": ["a"]}]"#] {
            let written = format!(r#"{{"prompt": "", "given": {wrong}}}"#);
            let why = serde_json::from_str::<Chat>(&written)
                .unwrap_err()
                .to_string();
            assert!(why.contains("a list of token ids"), "{why}");
        }
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        let wrong = r#"{"prompt": "x", "stops": ["a"]}"#;
        assert!(serde_json::from_str::<Chat>(wrong).is_err());
        let wrong = r#"{"prompt": "x", "tokens": [5]}"#;
        assert!(serde_json::from_str::<Chat>(wrong).is_err());
    }
}
