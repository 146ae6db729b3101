//! Vectors of texts: with a real embedding model, against what numpy makes of the published weights (`expected.py`), and
//! with a model that also chats.

use std::path::PathBuf;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gguf_writer::bert::Bert;
use node_container::engine::embed::Pooling;
use node_container::engine::llama::LlamaOptions;
use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::{Answer, EmbedRequest, ErrorCode, FinishReason, Transcript};
use serde::Deserialize;

use crate::harness::{Ending, MODEL, Rig, Told, greedy};
use crate::model::{found, model_file};

/// The published weights; their tokenizer lies beside them.
const EMBEDDER: &str =
    "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e/model.safetensors";

#[derive(Debug, Deserialize)]
struct Expected {
    text: String,
    tokens: u32,
    vector: Vec<f64>,
}

fn expected() -> Vec<Expected> {
    serde_json::from_str(include_str!("vectors/expected.json")).expect("ours")
}

/// all-MiniLM-L6-v2 as a GGUF file.
fn minilm() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let weights = found("HELIOGRAPH_TEST_EMBEDDER", EMBEDDER);
        let tokenizer = weights.with_file_name("tokenizer.json");
        let weights = std::fs::read(weights).expect("readable");
        let tokenizer = std::fs::read_to_string(tokenizer).expect("readable");
        let gguf = Bert::MINILM_L6.convert(&weights, &tokenizer).expect("fits");
        crate::vision::file("all-minilm-l6-v2.gguf", &gguf.to_bytes())
    });
    file.clone()
}

fn embedder() -> Rig {
    Rig::with(LlamaOptions {
        slots: 2,
        ..LlamaOptions::new(minilm())
    })
}

/// A model that chats and makes vectors.
fn both() -> Rig {
    Rig::with(LlamaOptions {
        slots: 2,
        context_tokens: Some(512),
        embeddings: Some(Pooling::Mean),
        ..LlamaOptions::new(model_file())
    })
}

fn of<T: ToString>(inputs: impl IntoIterator<Item = T>) -> EmbedRequest {
    EmbedRequest {
        inputs: inputs.into_iter().map(|input| input.to_string()).collect(),
        dimensions: None,
    }
}

fn ask(rig: &mut Rig, request: EmbedRequest) -> Told {
    let key = rig.start_request(request.into(), None);
    rig.follow(key)
}

fn vectors(text: &str) -> Vec<Vec<f64>> {
    text.lines()
        .map(|line| {
            let bytes = STANDARD.decode(line).expect("base64");
            let (floats, rest) = bytes.as_chunks::<4>();
            assert!(rest.is_empty());
            let floats = floats.iter().map(|float| f32::from_le_bytes(*float));
            floats.map(f64::from).collect()
        })
        .collect()
}

fn cosine(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let dot = |left: &[f64], right: &[f64]| -> f64 {
        left.iter()
            .zip(right)
            .map(|(left, right)| left * right)
            .sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// What a client has after so many bytes.
fn begun(text: &str) -> Option<Answer> {
    let mut transcript = Transcript::default();
    let tokens = std::iter::empty();
    transcript.push(protocol::DeltaKind::Text, tokens, text.as_bytes());
    transcript.answer(Some(MODEL))
}

#[test]
fn vectors_are_those_of_the_published_weights() {
    let mut rig = embedder();
    let loaded = &rig.loaded;
    assert!(loaded.has_embeddings && !loaded.has_chat && !loaded.has_vision);
    assert_eq!(loaded.context_tokens, 512);
    let expected = expected();
    let told = ask(&mut rig, of(expected.iter().map(|expected| &expected.text)));
    let (reason, usage) = told.finished();
    assert_eq!(reason, FinishReason::Stop);
    let tokens: u32 = expected.iter().map(|expected| expected.tokens).sum();
    assert_eq!(usage.prompt_tokens, tokens);
    assert_eq!(usage.completion_tokens, 0);
    let vectors = vectors(&told.text);
    assert_eq!(vectors.len(), expected.len());
    for (vector, expected) in vectors.iter().zip(&expected) {
        let same = cosine(vector, &expected.vector);
        assert!(same >= 0.999, "{same} for {}", expected.text);
        let squares: f64 = vector.iter().map(|number| number * number).sum();
        assert!((squares - 1.0).abs() < 1e-5, "{squares}");
    }
    // The test can tell texts apart.
    assert!(cosine(&vectors[0], &expected[1].vector) < 0.9);
}

#[test]
fn a_vector_does_not_depend_on_what_is_computed_beside_it() {
    let mut rig = embedder();
    let texts: Vec<String> = (0..60).map(|number| format!("number {number}")).collect();
    let many = vectors(&ask(&mut rig, of(&texts)).text);
    assert_eq!(many.len(), texts.len());
    for index in [0, 15, 16, 59] {
        let alone = vectors(&ask(&mut rig, of([&texts[index]])).text);
        let same = cosine(&many[index], &alone[0]);
        assert!(same > 0.9999, "{same} at {index}");
    }
}

#[test]
fn fewer_dimensions_are_the_first_ones() {
    let mut rig = embedder();
    let whole = vectors(&ask(&mut rig, of(["A short text."])).text);
    let request = |count| EmbedRequest {
        dimensions: Some(count),
        ..of(["A short text."])
    };
    let short = vectors(&ask(&mut rig, request(64)).text);
    assert_eq!(short[0].len(), 64);
    assert!(cosine(&short[0], &whole[0][..64]) > 0.9999);
    let refused = ask(&mut rig, request(385));
    assert_eq!(refused.failed().code, ErrorCode::InvalidRequest);
    assert!(refused.failed().message.contains("384"));
}

#[test]
fn a_text_that_is_too_long_is_refused_with_both_numbers() {
    let mut rig = embedder();
    let long = "word ".repeat(600);
    let told = ask(&mut rig, of(["short", long.as_str()]));
    let failure = told.failed();
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);
    for part in ["input 2", "602", "512"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    let just = "word ".repeat(510);
    assert_eq!(vectors(&ask(&mut rig, of([just])).text).len(), 1);
}

#[test]
fn an_answer_goes_on_behind_its_whole_lines() {
    let mut rig = embedder();
    let request = of(["one", "two", "three"]);
    let whole = ask(&mut rig, request.clone()).text;
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    for cut in [0, ends[0], ends[0] + 10, ends[1], ends[2]] {
        let key = rig.start_request(request.clone().into(), begun(&whole[..cut]));
        let rest = rig.follow(key);
        assert_eq!(rest.finished().0, FinishReason::Stop);
        let text = format!("{}{}", &whole[..cut], rest.text);
        let pairs = vectors(&text).into_iter().zip(vectors(&whole));
        assert_eq!(pairs.len(), 3, "from {cut}");
        assert!(
            pairs
                .into_iter()
                .all(|(is, was)| cosine(&is, &was) > 0.9999)
        );
    }
    let key = rig.start_request(request.into(), begun(&format!("{whole}AAAA\n")));
    assert_eq!(rig.follow(key).failed().code, ErrorCode::InvalidRequest);
}

#[test]
fn a_paused_job_waits_and_a_stopped_one_ends() {
    let mut rig = embedder();
    // So many that they are far from done when the commands come, on a busy machine too.
    let texts: Vec<String> = (0..2000).map(|number| format!("number {number}")).collect();
    let paused = rig.start_request(of(&texts).into(), None);
    rig.send(Command::Pause { key: paused });
    // Behind the pause, so that what comes of the first job by then is all that comes.
    assert_eq!(ask(&mut rig, of(["another"])).text.lines().count(), 1);
    rig.send(Command::Unpause { key: paused });
    rig.send(Command::Stop { key: paused });
    let told = rig.follow(paused);
    assert!(
        matches!(told.ending, Ending::Cancelled(_)),
        "{:?}",
        told.ending
    );
    assert!(told.text.lines().count() < texts.len());
}

#[test]
fn an_embedding_model_refuses_conversations_and_a_chat_model_texts() {
    let mut rig = embedder();
    assert_eq!(
        rig.ask(greedy("Hello?")).failed().code,
        ErrorCode::CapabilityMissing
    );
    let mut rig = Rig::new(1, 128);
    assert!(!rig.loaded.has_embeddings && rig.loaded.has_chat);
    let told = ask(&mut rig, of(["Hello?"]));
    assert_eq!(told.failed().code, ErrorCode::CapabilityMissing);
}

#[test]
fn one_model_chats_and_makes_vectors_side_by_side() {
    let mut rig = both();
    assert!(rig.loaded.has_embeddings && rig.loaded.has_chat);
    let mut story = greedy("Tell me a long story.");
    story.max_tokens = Some(400);
    let running = rig.start(story);
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let texts = [
        "The cat sits on the mat.",
        "A cat is sitting on a mat.",
        "x = 17",
    ];
    let told = ask(&mut rig, of(texts));
    let vectors = vectors(&told.text);
    assert!(vectors.iter().all(|vector| vector.len() == 576));
    assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]));
    // Checks and stops find the engine that they are for.
    rig.send(Command::Check {
        check: 5,
        request: Box::new(of([""]).into()),
    });
    let failure = loop {
        if let EngineEvent::Checked { check: 5, failure } = rig.event() {
            break failure;
        }
    };
    assert_eq!(
        failure.map(|failure| failure.code),
        Some(ErrorCode::InvalidRequest)
    );
    rig.send(Command::Stop { key: JobKey(999) });
    rig.send(Command::Stop { key: running });
    assert!(matches!(rig.follow(running).ending, Ending::Cancelled(_)));
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}
