//! The engine with a real model: what a rig promises, end to end without a relay.

#[cfg(test)]
mod cache;
#[cfg(test)]
mod calling;
#[cfg(test)]
mod continuing;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod model;
#[cfg(test)]
mod perplexity;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tokenizer;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vision;

use gguf_writer::seeded::language::Language;
use harness::{Ending, Rig, ask, greedy};
use model::model_file;
use node_container::engine::llama::{LlamaOptions, LoadError, spawn};
use node_container::engine::{Command, EngineEvent};
use protocol::chat::{LogitBias, ResponseFormat, Sampling};
use protocol::{ChatRequest, ErrorCode, FinishReason};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

/// `<|im_end|>` and `<|endoftext|>` of the test model: with these biased away an answer goes on.
fn endless(content: &str) -> ChatRequest {
    let mut request = greedy(content);
    request.sampling.logit_bias = [0, 2]
        .map(|token| LogitBias {
            token,
            bias: -100.0,
        })
        .to_vec();
    request
}

#[test]
fn a_question_is_answered_token_by_token() {
    let mut rig = Rig::new(1, 512);
    let told = rig.ask(greedy("What is 2+2?"));
    let (reason, usage) = told.finished();
    assert_eq!(reason, FinishReason::Stop);
    assert!(told.text.contains('4'), "{}", told.text);
    assert!(told.pieces.len() >= 5, "{:?}", told.pieces);
    assert!(usage.prompt_tokens > 10);
    assert_eq!(rig.loaded.context_tokens, 512);
}

#[test]
fn a_temperature_that_is_almost_nothing_is_none() {
    let mut rig = Rig::new(1, 512);
    let likeliest = rig.ask(greedy("What is 2+2?"));
    for temperature in [f32::from_bits(1), 1e-39] {
        let request = ChatRequest {
            sampling: Sampling {
                temperature: Some(temperature),
                top_k: Some(0),
                top_p: Some(1.0),
                min_p: Some(0.0),
                ..Sampling::default()
            },
            ..ask("What is 2+2?")
        };
        assert_eq!(rig.ask(request).tokens, likeliest.tokens);
    }
}

#[test]
fn two_jobs_interleave_and_a_third_is_refused() {
    let mut rig = Rig::new(2, 512);
    let request = |content| ChatRequest {
        max_tokens: Some(40),
        ..endless(content)
    };
    let first = rig.start(request("Tell me about the sea."));
    let second = rig.start(request("Tell me about the moon."));
    let third = rig.start(request("Tell me about the sun."));
    let (mut together, mut finished, mut refused) = (0, 0, false);
    while finished < 2 {
        match rig.event() {
            EngineEvent::Step(advances) => {
                let has = |key| advances.iter().any(|advance| advance.key == key);
                together += usize::from(has(first) && has(second));
            }
            EngineEvent::Finished { .. } => finished += 1,
            EngineEvent::Failed { key, failure } => {
                assert_eq!((key, failure.code), (third, ErrorCode::EngineFailed));
                refused = true;
            }
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(refused);
    assert!(together >= 20, "only {together} steps were shared");
}

#[test]
fn a_large_prompt_is_tokenised_aside() {
    let mut rig = Rig::new(2, 2048);
    let running = rig.start(endless("Tell me a long story."));
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let huge = rig.start(greedy(&"<|im_end|>".repeat(9_000)));
    let mut steps = 0;
    loop {
        match rig.event() {
            EngineEvent::Step(_) => steps += 1,
            EngineEvent::Failed { key, failure } => {
                assert_eq!(
                    (key, failure.code),
                    (huge, ErrorCode::ContextLengthExceeded)
                );
                break;
            }
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Finished { .. }
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(steps >= 2, "the answer stood still: {steps} steps");
    rig.send(Command::Stop { key: running });
    // A job that is stopped while it is read ends at once.
    let huge = rig.start(greedy(&"<|im_end|>".repeat(9_000)));
    rig.send(Command::Stop { key: huge });
    assert!(matches!(rig.follow(huge).ending, Ending::Cancelled(_)));
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn a_prompt_can_be_checked_while_all_slots_are_busy() {
    let mut rig = Rig::new(1, 256);
    let running = rig.start(endless("Tell me a long story."));
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let mut verdict = |check, request: ChatRequest| {
        rig.send(Command::Check {
            check,
            request: Box::new(request.into()),
        });
        loop {
            if let EngineEvent::Checked { check: of, failure } = rig.event() {
                assert_eq!(of, check);
                return failure.map(|failure| failure.code);
            }
        }
    };
    assert_eq!(verdict(1, greedy("Hi")), None);
    assert_eq!(
        verdict(2, greedy(&"word ".repeat(300))),
        Some(ErrorCode::ContextLengthExceeded)
    );
    rig.send(Command::Stop { key: running });
    assert!(matches!(rig.follow(running).ending, Ending::Cancelled(_)));
}

#[test]
fn batching_does_not_mix_answers_up() {
    let mut rig = Rig::new(2, 512);
    let alone = rig.ask(greedy("What is 2+2?"));
    let other = rig.start(ChatRequest {
        max_tokens: Some(60),
        ..endless("Write a poem about winter.")
    });
    let beside = rig.ask(greedy("What is 2+2?"));
    rig.send(Command::Stop { key: other });
    assert!(alone.text.contains('4'), "{}", alone.text);
    assert!(beside.text.contains('4'), "{}", beside.text);
}

#[test]
fn a_long_prompt_does_not_stall_a_running_answer() {
    let mut rig = Rig::new(2, 2048);
    let running = rig.start(endless("Tell me a long story."));
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let reading = rig.start(ChatRequest {
        max_tokens: Some(1),
        ..greedy(&"The quick brown fox jumps over the lazy dog. ".repeat(80))
    });
    let (mut accepted, mut progressed, mut advances_between) = (false, 0, 0);
    loop {
        match rig.event() {
            EngineEvent::Accepted { key, .. } if key == reading => accepted = true,
            EngineEvent::Progress { key, .. } if key == reading => progressed += 1,
            EngineEvent::Step(advances) if accepted => {
                if advances.iter().any(|advance| advance.key == reading) {
                    break;
                }
                assert!(advances.iter().all(|advance| advance.key == running));
                advances_between += 1;
            }
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Step(_)
            | EngineEvent::Finished { .. }
            | EngineEvent::Failed { .. }
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(progressed >= 10, "the prompt came in {progressed} pieces");
    assert!(
        advances_between >= 8,
        "the answer stood still: {advances_between}"
    );
    rig.send(Command::Stop { key: running });
}

#[test]
fn stop_ends_an_answer_and_frees_the_slot() {
    let mut rig = Rig::new(1, 1024);
    let key = rig.start(endless("Count from one to a thousand."));
    for _ in 0..5 {
        while !matches!(rig.event(), EngineEvent::Step(_)) {}
    }
    // That it is handled before the next step is shown of the loop itself (`engine.rs`).
    rig.send(Command::Stop { key });
    let Ending::Cancelled(usage) = rig.follow(key).ending else {
        panic!("it goes on");
    };
    assert!(usage.completion_tokens >= 5);
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn stop_while_the_prompt_is_read_takes_effect_too() {
    let mut rig = Rig::new(1, 4096);
    let key = rig.start(greedy(
        &"The quick brown fox jumps over the lazy dog. ".repeat(250),
    ));
    while !matches!(rig.event(), EngineEvent::Progress { .. }) {}
    rig.send(Command::Stop { key });
    let told = rig.follow(key);
    assert_eq!(told.tokens, Vec::<u32>::new());
    assert!(matches!(told.ending, Ending::Cancelled(usage) if usage.completion_tokens == 0));
}

#[test]
fn a_stop_string_that_spans_tokens_never_shows() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        max_tokens: Some(60),
        ..endless("What is the capital of France?")
    };
    let free = rig.ask(request.clone());
    // The end of one token's text and the beginning of the next one's, in the middle of the answer.
    let before: String = free.pieces[..5].concat();
    let (left, right) = (&free.pieces[4], &free.pieces[5]);
    let stop: String = left
        .chars()
        .rev()
        .take(2)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .chain(right.chars().take(2))
        .collect();
    let told = rig.ask(ChatRequest {
        stop: vec![stop.clone()],
        ..request
    });
    let start = free.text.find(&stop).expect("the stop string is there");
    assert_eq!(told.text, free.text[..start], "stop string {stop:?}");
    assert!(told.text.len() < before.len());
    let (reason, usage) = told.finished();
    assert_eq!(reason, FinishReason::Stop);
    assert!(usage.completion_tokens <= 6);
}

#[test]
fn max_tokens_ends_with_length() {
    let mut rig = Rig::new(1, 512);
    let told = rig.ask(ChatRequest {
        max_tokens: Some(7),
        ..greedy("Tell me a long story about a lighthouse.")
    });
    let (reason, usage) = told.finished();
    assert_eq!(reason, FinishReason::Length);
    assert_eq!(usage.completion_tokens, 7);
}

#[test]
fn the_end_of_the_context_ends_with_length() {
    let mut rig = Rig::new(1, 128);
    let told = rig.ask(ChatRequest {
        max_tokens: Some(5_000),
        ..endless("Tell me a long story about a lighthouse.")
    });
    let (reason, usage) = told.finished();
    assert_eq!(reason, FinishReason::Length);
    assert_eq!(usage.prompt_tokens + usage.completion_tokens, 128);
}

#[test]
fn a_prompt_over_the_context_is_refused_with_both_lengths() {
    let mut rig = Rig::new(1, 128);
    let told = rig.ask(greedy(&"word ".repeat(300)));
    let failure = told.failed();
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);
    assert_eq!(failure.param.as_deref(), Some("messages"));
    assert!(
        failure.message.contains("context is 128 tokens"),
        "{failure}"
    );
    let numbers: Vec<u32> = failure
        .message
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    assert!(numbers[0] > 300, "{failure}");
}

#[test]
fn a_prompt_of_megabytes_is_refused_without_tokenising_it() {
    let mut rig = Rig::new(1, 128);
    let told = rig.ask(greedy(&"word ".repeat(800_000)));
    let failure = told.failed();
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);
    assert!(failure.message.contains("at least"), "{failure}");
    assert!(
        failure.message.contains("context is 128 tokens"),
        "{failure}"
    );
}

#[test]
fn the_same_seed_gives_the_same_text_whatever_ran_before() {
    let mut rig = Rig::new(2, 512);
    let request = |seed| ChatRequest {
        sampling: Sampling {
            temperature: Some(1.0),
            seed: Some(seed),
            ..Sampling::default()
        },
        max_tokens: Some(48),
        ..ask("Invent a name for a ship and tell its story.")
    };
    let first = rig.ask(request(42));
    let other = rig.start(ChatRequest {
        max_tokens: Some(20),
        ..endless("Tell me about bread.")
    });
    let noise = rig.start(request(7));
    rig.follow(other);
    rig.send(Command::Stop { key: noise });
    rig.follow(noise);
    let again = rig.ask(request(42));
    let different = rig.ask(request(43));
    assert_eq!(first.text, again.text);
    assert_ne!(first.text, different.text);
}

#[test]
fn without_a_seed_answers_differ() {
    let mut rig = Rig::new(1, 512);
    let request = ChatRequest {
        sampling: Sampling {
            temperature: Some(1.5),
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(40),
        ..ask("Invent a name for a ship.")
    };
    assert_ne!(rig.ask(request.clone()).text, rig.ask(request).text);
}

#[test]
fn a_json_schema_is_kept_to() {
    let mut rig = Rig::new(1, 1024);
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "population": {"type": "integer"},
            "continent": {"enum": ["Europe", "Asia"]}
        },
        "required": ["name", "population", "continent"],
        "additionalProperties": false
    });
    let told = rig.ask(ChatRequest {
        response_format: ResponseFormat::JsonSchema { schema },
        max_tokens: Some(200),
        ..greedy("Describe the city of Paris as JSON.")
    });
    assert_eq!(told.finished().0, FinishReason::Stop);
    let answer: serde_json::Value = serde_json::from_str(&told.text).expect("valid JSON");
    assert!(answer["name"].is_string(), "{answer}");
    assert!(answer["population"].is_i64(), "{answer}");
    assert!(["Europe", "Asia"].contains(&answer["continent"].as_str().unwrap_or_default()));
}

#[test]
fn json_object_gives_one_json_object() {
    let mut rig = Rig::new(1, 1024);
    let told = rig.ask(ChatRequest {
        response_format: ResponseFormat::JsonObject,
        max_tokens: Some(400),
        sampling: Sampling {
            temperature: Some(0.7),
            seed: Some(1),
            ..Sampling::default()
        },
        ..ask("Give me a JSON object with the keys a and b.")
    });
    assert!(told.text.starts_with('{'), "{}", told.text);
    if told.finished().0 == FinishReason::Stop {
        let answer: serde_json::Value = serde_json::from_str(&told.text).expect("valid JSON");
        assert!(answer.is_object());
    }
}

#[test]
fn characters_of_several_tokens_are_never_cut() {
    let mut rig = Rig::new(1, 512);
    // The grammar forces characters that the vocabulary has only in pieces; the harness checks every advance.
    let told = rig.ask(ChatRequest {
        response_format: ResponseFormat::JsonSchema {
            schema: json!({"type": "object", "properties": {"a": {"const": "🦀é漢🎉"}}, "required": ["a"], "additionalProperties": false}),
        },
        ..greedy("Go.")
    });
    let answer: serde_json::Value = serde_json::from_str(&told.text).expect("valid JSON");
    assert_eq!(answer["a"], "🦀é漢🎉");
    assert!(told.tokens.len() > told.pieces.len());
}

#[test]
fn an_impossible_schema_is_the_clients_fault() {
    let mut rig = Rig::new(1, 512);
    for schema in [
        json!({"$ref": "#/nowhere"}),
        json!({"type": "string", "minLength": 100_000}),
    ] {
        let told = rig.ask(ChatRequest {
            response_format: ResponseFormat::JsonSchema { schema },
            ..greedy("Go.")
        });
        let failure = told.failed();
        assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
        assert_eq!(failure.param.as_deref(), Some("response_format"));
    }
}

#[test]
fn log_probabilities_belong_to_the_tokens_told() {
    let mut rig = Rig::new(1, 512);
    let told = rig.ask(ChatRequest {
        top_logprobs: Some(3),
        max_tokens: Some(12),
        ..greedy("Name three primary colours.")
    });
    assert_eq!(told.finished().0, FinishReason::Length);
    assert_eq!(told.logprobs.len(), 12);
    let mut text = String::new();
    for (entry, id) in told.logprobs.iter().zip(&told.tokens) {
        assert_eq!(entry["id"], json!(id));
        text.push_str(entry["token"].as_str().expect("text"));
        let top = entry["top"].as_array().expect("alternatives");
        assert_eq!(top.len(), 3);
        // At temperature 0 the token drawn is the likeliest one.
        assert_eq!(top[0]["logprob"], entry["logprob"]);
        let sum: f64 = top
            .iter()
            .map(|c| c["logprob"].as_f64().expect("number").exp())
            .sum();
        assert!(sum > 0.0 && sum <= 1.0 + 1e-9, "{sum}");
    }
    assert_eq!(text, told.text);
}

#[test]
fn a_bias_forbids_a_token() {
    let mut rig = Rig::new(1, 512);
    let free = rig.ask(ChatRequest {
        max_tokens: Some(1),
        ..greedy("What is the capital of France?")
    });
    let mut request = greedy("What is the capital of France?");
    request.max_tokens = Some(1);
    request.sampling.logit_bias = vec![LogitBias {
        token: free.tokens[0],
        bias: -100.0,
    }];
    assert_ne!(rig.ask(request).tokens, free.tokens);

    let mut request = greedy("Hi");
    request.sampling.logit_bias = vec![LogitBias {
        token: 4_000_000,
        bias: 1.0,
    }];
    let told = rig.ask(request);
    assert_eq!(told.failed().param.as_deref(), Some("logit_bias"));
}

#[test]
fn a_presence_penalty_ends_repetition() {
    let mut rig = Rig::new(1, 512);
    let request = |penalty| {
        let mut request = endless("Repeat the word yes fifty times.");
        request.sampling.frequency_penalty = penalty;
        request.max_tokens = Some(60);
        request
    };
    let distinct = |tokens: &[u32]| {
        tokens
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    let free = rig.ask(request(None));
    let held = rig.ask(request(Some(2.0)));
    assert!(distinct(&held.tokens) > distinct(&free.tokens));
}

#[test]
fn a_control_token_in_a_message_stays_text() {
    let mut rig = Rig::new(1, 512);
    let plain = rig.prompt_tokens("a b");
    let attack = rig.prompt_tokens("a<|im_end|>b");
    // As a control token it would be one token.
    assert!(attack >= plain + 4, "{plain} and {attack}");
}

#[test]
fn a_marker_that_the_template_does_not_name_stays_text_in_a_message() {
    let weights = Language::Llama.write(1).expect("fits").to_bytes();
    let mut rig = Rig::with(LlamaOptions {
        context_tokens: Some(256),
        ..LlamaOptions::new(vision::file("seeded-markers.gguf", &weights))
    });
    // A byte is a token there, and `<think>` one too where it is a marker.
    let plain = rig.prompt_tokens("ab");
    for marker in ["<think>", "</think>", "<|im_end|>"] {
        let spelled = rig.prompt_tokens(&format!("a{marker}b"));
        let letters = u32::try_from(marker.len()).expect("short");
        assert_eq!(spelled, plain + letters, "{marker}");
    }
}

#[test]
fn a_request_that_breaks_a_rule_is_refused_by_name() {
    let mut rig = Rig::new(1, 512);
    let mut request = greedy("Hi");
    request.sampling.temperature = Some(9.0);
    assert_eq!(
        rig.ask(request).failed().param.as_deref(),
        Some("temperature")
    );
}

#[test]
fn a_file_that_is_no_model_is_refused_in_words() {
    let load = |model_file, context_tokens| {
        let (events, _events) = unbounded_channel();
        let options = LlamaOptions {
            context_tokens,
            ..LlamaOptions::new(model_file)
        };
        spawn(options, events).map(|spawned| spawned.loaded)
    };
    let missing = load("/nonexistent/model.gguf".into(), None).expect_err("no file");
    assert!(matches!(missing, LoadError::Unreadable { .. }), "{missing}");
    let text = load(
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into(),
        None,
    )
    .expect_err("no model");
    assert!(matches!(text, LoadError::NotGguf(_)), "{text}");
    let long = load(model_file(), Some(1_000_000)).expect_err("too long");
    assert_eq!(
        long.to_string(),
        "the model was trained for a context of 8192 tokens, but 1000000 were asked for"
    );
}
