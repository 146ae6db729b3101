//! A continued answer is as likely as an unbroken one: the seam is no scar.

use super::text;
use crate::harness::{Rig, ask};
use crate::model::model_file;
use node_container::engine::llama::LlamaOptions;
use node_container::engine::llama::perplexity::{Given, with_scorer};
use protocol::ChatRequest;
use protocol::chat::Sampling;

const QUESTIONS: [&str; 8] = [
    "Tell me a story about a lighthouse.",
    "Write a Python function that reverses a list.",
    "What is the capital of France, and what is it famous for?",
    "Explain how rain forms.",
    "Write a short poem about winter.",
    "List five animals and what they eat.",
    "How do I bake bread?",
    "Describe a city at night.",
];

fn request(question: &str, seed: u64) -> ChatRequest {
    ChatRequest {
        sampling: Sampling {
            temperature: Some(0.7),
            seed: Some(seed),
            ..Sampling::default()
        },
        max_tokens: Some(32),
        ..ask(question)
    }
}

#[test]
fn what_follows_a_seam_in_a_word_is_as_likely_as_an_unbroken_answer() {
    let mut rig = Rig::new(1, 512);
    let (mut unbroken, mut continued) = (Vec::new(), Vec::new());
    for (seed, question) in (1u64..).zip(QUESTIONS) {
        let whole = rig.ask(request(question, seed)).text;
        for part in 1..3 {
            let cut = whole.floor_char_boundary(whole.len() * part / 5);
            // Another seed: another answer, and not the same one again.
            let rest = rig.go_on(
                &request(question, seed + 100 * part as u64),
                text(&whole[..cut]),
            );
            let given = |text: String| Given {
                request: request(question, seed),
                text,
                from: cut,
            };
            continued.push(given(format!("{}{}", &whole[..cut], rest.text)));
            unbroken.push(given(whole.clone()));
        }
    }
    let options = LlamaOptions {
        context_tokens: Some(512),
        ..LlamaOptions::new(model_file())
    };
    let perplexity = |answers: &[Given]| {
        with_scorer(&options, |scorer| {
            let (mut tokens, mut nll) = (0, 0.0);
            for answer in answers {
                let score = scorer.score(answer).expect("scored");
                tokens += score.tokens;
                nll += score.nll;
            }
            (nll / f64::from(tokens)).exp()
        })
        .expect("the model loads")
    };
    let (unbroken, continued) = (perplexity(&unbroken), perplexity(&continued));
    assert!(continued < 1.25 * unbroken, "{continued} and {unbroken}");
}
