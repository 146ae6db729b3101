//! What is asked, and what must hold for every answer to it.

use anyhow::Result;
use protocol::chat::{ChatMessage, ResponseFormat};
use protocol::{ChatRequest, FinishReason, Role};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{ask, endless};

/// What the answers are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Sentences.
    Prose,
    /// JSON that fits a schema.
    Schema,
    /// Thoughts between `<think>` and `</think>`.
    Reasoning,
    /// Characters of several bytes and several tokens each.
    Emoji,
    /// Text that ends before a given string.
    Stop,
    /// A program.
    Code,
}

/// Tokens of an answer: long enough that any moment of it can be struck.
const TOKENS: u32 = 120;

/// JSON of a few hundred bytes ends by itself below this.
const SCHEMA_TOKENS: u32 = 400;

const STORIES: [&str; 5] = [
    "Tell a story about a lighthouse.",
    "Explain how a bicycle works.",
    "Describe a walk through a market.",
    "Write a letter to an old friend.",
    "What should one see in Paris?",
];

/// Something to go on with, since small models repeat what they see.
const EMOJI: &str = "Continue this list, one line for each animal, with its emoji and its Chinese name:\n\
    🐶 狗 犬\n🐱 猫 猫咪\n🐼 熊猫 大熊猫\n🐯 老虎 虎\n🦊 狐狸 赤狐\n🐸 青蛙 蛙\n👩‍🌾 农民 農民\n";

impl Subject {
    /// A request, drawn at random. Its seed makes its answer repeatable.
    pub(super) fn request(self, rng: &mut ChaCha8Rng) -> ChatRequest {
        let story = usize::try_from(rng.next_u32()).unwrap_or(0) % STORIES.len();
        let story = STORIES.get(story).copied().unwrap_or_default();
        let mut request = match self {
            // Some end by themselves.
            Self::Prose if rng.next_u32().is_multiple_of(4) => ask(story, TOKENS),
            Self::Prose | Self::Stop => endless(story, TOKENS),
            Self::Schema => shaped("Describe three fruits as JSON.", fruit_schema()),
            Self::Reasoning => thinking(story),
            // Half of them are held to whole characters by a grammar; alone the model sometimes breaks one itself.
            Self::Emoji if rng.next_u32().is_multiple_of(2) => endless(EMOJI, TOKENS),
            Self::Emoji => shaped("Name animals and people as JSON.", emoji_schema()),
            Self::Code => endless("Write a Python program that sorts words by length.", TOKENS),
        };
        request.sampling.seed = Some(u64::from(rng.next_u32()));
        // The likeliest text repeats itself, and then nothing can stop it that has not come before.
        if rng.next_u32().is_multiple_of(2) || self == Self::Stop {
            request.sampling.temperature = Some(0.7);
        }
        request
    }

    /// Whether an unbroken answer is needed before the request is complete.
    pub(super) const fn needs_twin_first(self) -> bool {
        matches!(self, Self::Stop)
    }

    /// Whether unbroken answers are asked for, to be compared.
    pub(super) const fn has_twin(self) -> bool {
        !matches!(self, Self::Prose)
    }

    /// What is wrong with an answer, beyond what is wrong with any.
    pub(super) fn faults(
        self,
        request: &ChatRequest,
        text: &str,
        finish_reason: FinishReason,
        twin: Option<&str>,
    ) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        match self {
            Self::Prose | Self::Reasoning | Self::Code => {}
            Self::Emoji if text.is_ascii() => faults.push("no emoji came".to_owned()),
            Self::Emoji | Self::Schema => {
                if let ResponseFormat::JsonSchema { schema } = &request.response_format {
                    faults.extend(schema_fault(schema, text, finish_reason)?);
                }
            }
            Self::Stop => faults.extend(stop_faults(request, text, twin)),
        }
        Ok(faults)
    }
}

/// The model of the tests does not reason by itself. It goes on with reasoning that the conversation has begun.
fn thinking(question: &str) -> ChatRequest {
    let system = "First think aloud between <think> and </think>, step by step, then answer. For example: \
        <think>The user asks for the sum of 2 and 3. 2 plus 3 is 5.</think> It is 5.";
    let mut request = endless(question, TOKENS);
    request.messages.insert(
        0,
        ChatMessage {
            role: Role::System,
            content: system.to_owned(),
            ..ChatMessage::default()
        },
    );
    request
}

fn shaped(question: &str, schema: Value) -> ChatRequest {
    let mut request = ask(question, SCHEMA_TOKENS);
    request.response_format = ResponseFormat::JsonSchema { schema };
    request
}

fn emoji_schema() -> Value {
    let words = [
        "🐶 狗",
        "🐱 猫咪",
        "🐼 大熊猫",
        "👩‍🌾 農民",
        "日本語の犬",
        "한국어 🐯",
        "é 🦊",
    ];
    json!({
        "type": "array",
        "minItems": 12,
        "maxItems": 12,
        "items": {"enum": words},
    })
}

fn fruit_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "title": {"type": "string", "minLength": 3, "maxLength": 30},
            "fruits": {
                "type": "array",
                "minItems": 3,
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "minLength": 2, "maxLength": 16},
                        "colour": {"enum": ["red", "green", "yellow", "blue"]},
                        "is_sweet": {"type": "boolean"},
                        "note": {"type": "string", "maxLength": 40},
                    },
                    "required": ["name", "colour", "is_sweet", "note"],
                    "additionalProperties": false,
                },
            },
        },
        "required": ["title", "fruits"],
        "additionalProperties": false,
    })
}

/// Whole JSON fits the schema; JSON that was cut at its limit says so and is none of the validator's.
fn schema_fault(schema: &Value, text: &str, finish_reason: FinishReason) -> Result<Option<String>> {
    if finish_reason == FinishReason::Length {
        return Ok(None);
    }
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Ok(Some(format!("no JSON ({error}): {text}"))),
    };
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let place = "http://localhost/schema.json";
    let wrong = |error: boon::CompileError| anyhow::anyhow!("the schema itself: {error}");
    compiler
        .add_resource(place, schema.clone())
        .map_err(wrong)?;
    let index = compiler.compile(place, &mut schemas).map_err(wrong)?;
    let verdict = schemas.validate(&value, index).err();
    Ok(verdict.map(|error| format!("not as the schema says ({error}): {text}")))
}

/// The string itself never comes, and neither does its beginning, unless it belongs to the text before it.
fn stop_faults(request: &ChatRequest, text: &str, twin: Option<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    for stop in &request.stop {
        if text.contains(stop.as_str()) {
            faults.push(format!("it contains the stop string {stop:?}: {text}"));
        }
        let begun = stop
            .char_indices()
            .skip(2)
            .filter_map(|(end, _)| stop.get(..end))
            .any(|begun| text.ends_with(begun));
        if begun && twin != Some(text) {
            faults.push(format!("it ends with the beginning of {stop:?}: {text}"));
        }
    }
    faults
}

/// A stop string over several tokens that an unbroken answer has in its second half, and not before.
pub(super) fn stop_within(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .windows(7)
        .skip(characters.len() / 2)
        .find_map(|window| {
            let stop: String = window.iter().collect();
            (text.find(&stop)? >= text.len() / 2).then_some(stop)
        })
}
