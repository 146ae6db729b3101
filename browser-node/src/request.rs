//! What JavaScript asks for, as JSON. What is left out is as the engine has it by itself.

mod chat;

pub use chat::{Chat, Given, Part};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use webgpu_engine::kernels::Numbers;
use webgpu_engine::model::CacheType;
use webgpu_engine::reference::sampling::Rules;
use webgpu_engine::run::{Request, Settings};

/// Bytes of a request. An answer as long as can be carried, 65,536 tokens, is about 8 MiB of events; a conversation is 1
/// MiB at most. What is parsed takes several times as much of the module's memory, which browsers never take back.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Reads a request, unless it is too long.
pub fn read<'w, T: Deserialize<'w>>(written: &'w str) -> serde_json::Result<T> {
    if written.len() > REQUEST_BYTES_MAX {
        return Err(serde_json::Error::custom(format_args!(
            "a request of {} bytes is longer than {REQUEST_BYTES_MAX}",
            written.len()
        )));
    }
    serde_json::from_str(written)
}

/// How a model is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// Tokens that a session can hold.
    pub context_tokens: Option<u32>,
    /// Tokens of a prompt that are read at once.
    pub batch_tokens: Option<u32>,
    /// Tokens whose logits can be had at once.
    pub logit_rows: Option<u32>,
    /// Keys and values in 32 bits.
    pub is_exact: bool,
    /// Products of integers, or of floats.
    pub packed_dot: Option<bool>,
    /// Bytes that the model may take in all.
    pub room_bytes: Option<u64>,
    /// What a tuning run for this model and adapter found before, in its words.
    pub tuning: Option<String>,
    /// Whether a tuning run is made where none was before, or only for another adapter or model.
    pub tunes: bool,
}

impl From<Load> for Settings {
    fn from(load: Load) -> Self {
        let settings = Self::default();
        Self {
            context_tokens: load.context_tokens,
            batch_tokens: load.batch_tokens,
            logit_rows: load.logit_rows.unwrap_or(settings.logit_rows),
            cache: if load.is_exact {
                CacheType::F32
            } else {
                settings.cache
            },
            numbers: load.packed_dot.map(|is_packed| {
                if is_packed {
                    Numbers::PackedDot
                } else {
                    Numbers::Float
                }
            }),
            room_bytes: load.room_bytes,
            ..settings
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// What the model reads, cut into tokens.
    pub tokens: Vec<u32>,
    /// Tokens of the answer that were drawn before.
    #[serde(default)]
    pub given: Vec<u32>,
    /// Tokens of the answer, the given ones among them.
    pub tokens_max: u32,
    /// Whether the end of the text is a token as any other.
    #[serde(default)]
    pub ignores_end: bool,
    /// How they are drawn.
    #[serde(flatten)]
    pub drawing: Drawing,
}

/// How the tokens of an answer are drawn.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Drawing {
    /// Left out, the likeliest token is taken.
    pub temperature: f32,
    /// So many of the likeliest tokens; 0 means all.
    pub top_k: u32,
    /// The likeliest tokens that sum up to this.
    pub top_p: Option<f32>,
    /// At least this share of the likeliest token's probability.
    pub min_p: f32,
    /// Subtracted from a token's logit once per time that it was drawn.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a token that was drawn at all.
    pub presence_penalty: f32,
    /// Added to the logits of tokens.
    pub biases: Vec<(u32, f32)>,
    /// How many alternatives are told with each token, and its log-probability; none tells neither.
    pub alternatives: Option<u32>,
    /// What draws depend on: a number, or its decimal digits as a text, since JavaScript's numbers are exact up to 2⁵³
    /// only.
    #[serde(deserialize_with = "seed")]
    pub seed: Option<u64>,
    /// Tokens that share one read-back.
    pub shared: Option<u32>,
}

impl From<Drawing> for Rules {
    fn from(drawing: Drawing) -> Self {
        Self {
            temperature: drawing.temperature,
            top_k: drawing.top_k,
            top_p: drawing.top_p.unwrap_or(Self::default().top_p),
            min_p: drawing.min_p,
            frequency_penalty: drawing.frequency_penalty,
            presence_penalty: drawing.presence_penalty,
            biases: drawing.biases,
        }
    }
}

/// A number or its digits.
fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Digits(String),
    }
    match Option::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Number(number)) => Ok(Some(number)),
        Some(Written::Digits(digits)) => digits.parse().map(Some).map_err(D::Error::custom),
    }
}

impl From<Generate> for Request {
    fn from(generate: Generate) -> Self {
        let request = Self::greedy(generate.tokens, generate.tokens_max);
        Self {
            alternatives: generate.drawing.alternatives,
            given: generate.given,
            seed: generate.drawing.seed.unwrap_or(0),
            shared: generate.drawing.shared.unwrap_or(request.shared),
            ignores_end: generate.ignores_end,
            rules: generate.drawing.into(),
            ..request
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_the_engine_has_it() {
        let load: Load = serde_json::from_str("{}").unwrap();
        assert_eq!(Settings::from(load), Settings::default());
        let generate: Generate =
            serde_json::from_str(r#"{"tokens": [1, 2], "tokens_max": 3}"#).unwrap();
        assert_eq!(Request::from(generate), Request::greedy(vec![1, 2], 3));
    }

    #[test]
    fn a_request_that_is_too_long_is_refused_before_it_is_parsed() {
        let written = |bytes: usize| {
            let request = r#"{"tokens": [1], "tokens_max": 3}"#;
            request.to_owned() + &" ".repeat(bytes - request.len())
        };
        assert!(read::<Generate>(&written(REQUEST_BYTES_MAX)).is_ok());
        let refused = read::<Generate>(&written(REQUEST_BYTES_MAX + 1)).unwrap_err();
        let why = refused.to_string();
        assert!(why.contains("16777217 bytes is longer"), "{why}");
    }

    #[test]
    fn a_seed_beyond_what_a_number_of_javascript_holds_comes_whole_as_digits() {
        let seed = |written: &str| {
            let text = format!(r#"{{"tokens": [1], "tokens_max": 3, "seed": {written}}}"#);
            serde_json::from_str::<Generate>(&text).map(|generate| Request::from(generate).seed)
        };
        assert_eq!(seed("12").unwrap(), 12);
        assert_eq!(seed(r#""18446744073709551615""#).unwrap(), u64::MAX);
        assert!(seed(r#""18446744073709551616""#).is_err());
        assert!(seed(r#""twelve""#).is_err());
        assert!(seed("-1").is_err());
    }

    #[test]
    fn penalties_biases_and_log_probabilities_reach_the_engine() {
        let generate: Generate = serde_json::from_str(
            r#"{"tokens": [1], "tokens_max": 3, "frequency_penalty": 0.5, "presence_penalty": 0.25,
                "biases": [[7, -100.0]], "alternatives": 2}"#,
        )
        .unwrap();
        let request = Request::from(generate);
        let expected = Rules {
            temperature: 0.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            biases: vec![(7, -100.0)],
            ..Rules::default()
        };
        assert_eq!(request.rules, expected);
        assert_eq!(request.alternatives, Some(2));
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        assert!(serde_json::from_str::<Load>(r#"{"contekst_tokens": 5}"#).is_err());
        let wrong = r#"{"tokens": [1], "tokens_max": 3, "temprature": 1}"#;
        assert!(serde_json::from_str::<Generate>(wrong).is_err());
    }
}
