//! What the model finds likely: the judge of continued answers has to be right itself.

use crate::harness::{Rig, greedy};
use crate::model::model_file;
use node_container::engine::llama::LlamaOptions;
use node_container::engine::llama::perplexity::{Given, Score, ScoreError, with_scorer};
use protocol::ChatRequest;

fn options() -> LlamaOptions {
    LlamaOptions {
        context_tokens: Some(512),
        ..LlamaOptions::new(model_file())
    }
}

fn perplexity(score: Score) -> f64 {
    (score.nll / f64::from(score.tokens)).exp()
}

#[test]
fn an_answer_is_as_likely_as_its_log_probabilities_say() {
    let request = ChatRequest {
        top_logprobs: Some(0),
        max_tokens: Some(24),
        ..greedy("Name three primary colours.")
    };
    let told = Rig::new(1, 512).ask(request.clone());
    let expected: f64 = told
        .logprobs
        .iter()
        .map(|entry| -entry["logprob"].as_f64().expect("a number"))
        .sum();
    let given = |from| Given {
        request: request.clone(),
        text: told.text.clone(),
        from,
    };
    with_scorer(&options(), |scorer| {
        let whole = scorer.score(&given(0)).expect("scored");
        assert_eq!(whole.tokens, 24);
        // Quantised numbers differ a little between batches.
        assert!(
            (whole.nll - expected).abs() < 0.05 * expected + 0.1,
            "{whole:?} {expected}"
        );
        // The end of it alone, and nothing.
        let cut = told.pieces[..20].concat().len();
        assert_eq!(scorer.score(&given(cut)).expect("scored").tokens, 4);
        assert_eq!(scorer.score(&given(cut - 1)).expect("scored").tokens, 5);
        assert_eq!(
            scorer.score(&given(told.text.len())).expect("scored"),
            Score::default()
        );
    })
    .expect("the model loads");
}

#[test]
fn nonsense_is_less_likely_and_too_much_is_refused() {
    with_scorer(&options(), |scorer| {
        let mut score = |text: &str| {
            scorer.score(&Given {
                request: greedy("What is the capital of France?"),
                text: text.to_owned(),
                from: 0,
            })
        };
        let sense = score("The capital of France is Paris.").expect("scored");
        let nonsense = score("Spoon grey the the Paris nine.").expect("scored");
        assert!(
            perplexity(nonsense) > 10.0 * perplexity(sense),
            "{sense:?} {nonsense:?}"
        );
        assert!(matches!(
            score(&" word".repeat(600)),
            Err(ScoreError::TooLong(_))
        ));
        // More than one batch.
        assert_eq!(score(&" word".repeat(450)).expect("scored").tokens, 450);
    })
    .expect("the model loads");
}
