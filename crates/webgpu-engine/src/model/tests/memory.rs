//! The memory sum.

use super::*;

const DEMAND: Demand = Demand {
    has_packed: false,
    context_tokens: 1000,
    sessions: 3,
    batch_tokens: 128,
    logit_rows: 1,
    cache: CacheType::F16,
};

#[test]
fn the_sum_is_that_of_the_formula() {
    let small = small("llama");
    let (header, config) = (small.header(), small.config());
    let need = MemoryNeed::of(&config, &header, &DEMAND);
    let weights: u64 = header.tensors().iter().map(|tensor| tensor.bytes).sum();
    assert_eq!(need.weights, weights);
    // 2 · layers · KV heads · head size · bytes · context · sessions
    assert_eq!(need.cache, 2 * 2 * 2 * 16 * 2 * 1000 * 3);
    // States thrice; queries, keys and values; what attention makes; the feed-forward layer; turns.
    let per_token = 3 * 64 + (64 + 2 * 32) + 64 + 96 + 16;
    // Two splits of 512 tokens for each of 128 tokens, with four heads.
    let partials = 2 * 4 * 128 * (16 + 4);
    let sampling = 2 * 48 + 4096;
    // Tokens; counts and biases, a mask of two words, records.
    let session = 128 + 2 * 48 + 2 + 16 * 44;
    let words = per_token * 128 + partials + 48 + 1 + sampling + 3 * session;
    assert_eq!(need.scratch, words * 4);
    assert_eq!(need.total(), need.weights + need.cache + need.scratch);
    let exact = Demand {
        cache: CacheType::F32,
        ..DEMAND
    };
    assert_eq!(
        MemoryNeed::of(&config, &header, &exact).cache,
        2 * need.cache
    );
}

#[test]
fn layers_with_a_window_keep_no_more_than_it_and_a_batch() {
    let small = small("gemma3")
        .with("attention.sliding_window", Value::U32(100))
        .with(
            "attention.sliding_window_pattern",
            Value::Bools(vec![true, false]),
        );
    let config = small.config();
    assert_eq!(kept_tokens(&config, 0, &DEMAND), 228);
    assert_eq!(kept_tokens(&config, 1, &DEMAND), 1000);
    let short = Demand {
        context_tokens: 150,
        ..DEMAND
    };
    assert_eq!(kept_tokens(&config, 0, &short), 150);
    let need = MemoryNeed::of(&config, &small.header(), &DEMAND);
    assert_eq!(need.cache, 2 * 2 * 32 * 2 * (228 + 1000) * 3);
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_numbers() {
    let need = MemoryNeed {
        weights: 10,
        cache: 20,
        scratch: 5,
    };
    assert_eq!(need.check(35), Ok(()));
    let refused = need.check(34).expect_err("does not fit");
    let sentence = "the model needs 35 bytes (10 of weights, 20 of keys and values, 5 to compute in), and there are 34";
    assert_eq!(refused.to_string(), sentence);
}

#[test]
fn sums_beyond_64_bits_stay_at_the_most() {
    let small = small("llama");
    let config = Config {
        kv_heads: u32::MAX,
        head_size: u32::MAX,
        ..small.config()
    };
    let demand = Demand {
        context_tokens: u32::MAX,
        ..DEMAND
    };
    let need = MemoryNeed::of(&config, &small.header(), &demand);
    assert_eq!((need.cache, need.total()), (u64::MAX, u64::MAX));
    assert!(need.check(u64::MAX - 1).is_err());
}
