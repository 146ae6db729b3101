//! Whole small models: caches, windows, quantised weights, refusals. Against llama.cpp they are compared in `node-container`.

use super::*;
use crate::model::{RopeScaling, Window};
use crate::reference::{LoadError, ReadError};

#[test]
fn tokens_read_at_once_one_by_one_or_again_give_the_same() {
    for family in Family::ALL {
        let model = model(family);
        let tokens = tokens();
        let mut session = model.session(CacheType::F32);
        let whole = logits(&mut session, &tokens);
        assert!(whole.iter().all(|logit| logit.is_finite()));
        let (head, tail) = tokens.split_at(9);
        let mut pieces = logits(&mut model.session(CacheType::F32), head);
        session.cut(head.len());
        for token in tail {
            pieces.extend(logits(&mut session, &[*token]));
        }
        assert_eq!(session.tokens(), tokens.len());
        assert_eq!(pieces, whole, "{family:?}");
    }
}

#[test]
fn every_token_before_counts_and_none_behind() {
    for family in Family::ALL {
        let model = model(family);
        let tokens = tokens();
        let usual = last(&model, &tokens);
        let mut other = tokens.clone();
        other[3] += 1;
        let changed = distance(&usual, &last(&model, &other));
        assert!(changed > 1e-3, "{family:?}: {changed}");
        let longer: Vec<u32> = [tokens.as_slice(), &[9, 10]].concat();
        let row = usual.len() * (tokens.len() - 1);
        let read = logits(&mut model.session(CacheType::F32), &longer);
        assert_eq!(&read[row..row + usual.len()], usual.as_slice());
    }
}

#[test]
fn layers_with_a_window_do_not_see_what_lies_before_it() {
    // With a window on both layers, at most twice seven tokens back count.
    let model = load_as(&bytes(Family::Gemma3, QuantType::F32), |config| {
        let layers = vec![true, true];
        config.window = Some(Window { tokens: 8, layers });
    });
    let tokens = tokens();
    let usual = last(&model, &tokens);
    let changed = |place: usize| {
        let mut other = tokens.clone();
        other[place] += 1;
        distance(&usual, &last(&model, &other))
    };
    let from = tokens.len() - 15;
    assert!(changed(from) > 1e-4, "{}", changed(from));
    assert!(changed(from - 1) <= 0.0);
}

#[test]
fn what_the_config_says_is_computed_with() {
    let mut changed = 0;
    for family in Family::ALL {
        let bytes = bytes(family, QuantType::F32);
        let tokens = &tokens()[..8];
        let row = last(&load(&bytes), tokens);
        let mut check = |what: &str, change: &dyn Fn(&mut Config)| {
            let other = last(&load_as(&bytes, change), tokens);
            assert!(distance(&row, &other) > 1e-4, "{family:?}: {what}");
            changed += 1;
        };
        check("norms", &|config| config.norm_epsilon = 0.1);
        check("base", &|config| config.rope.base = 100.0);
        check("stretching", &|config| {
            config.rope.scaling = RopeScaling::Linear(4.0);
        });
        check("scale", &|config| config.attention_scale *= 2.0);
        check("attention cap", &|config| {
            config.attention_soft_cap = Some(1.0);
        });
        check("final cap", &|config| config.final_soft_cap = Some(1.0));
        check("embedding", &|config| config.embedding_scale *= 3.0);
    }
    assert_eq!(changed, 28);
}

#[test]
fn weights_of_every_type_give_what_their_decoded_numbers_give() {
    for kind in QuantType::ALL {
        // A small model where blocks are small.
        if kind.quant().block_weights > 64 && kind != QuantType::Q6K {
            continue;
        }
        let stored = bytes(Family::Qwen3, kind);
        let width = if kind == QuantType::Q6K { 256 } else { 64 };
        let small = Small {
            family: Family::Qwen3,
            width,
            seed: 7,
        };
        let decoded = small.write(&|weights| {
            let blocks = kind.encode(weights).expect("blocks");
            let mut numbers = vec![0.0; weights.len()];
            kind.decode(&blocks, &mut numbers).expect("blocks");
            (0, QuantType::F32.encode(&numbers).expect("numbers"))
        });
        let decoded = decoded.expect("fits").to_bytes();
        let tokens = &tokens()[..3];
        assert_eq!(
            last(&load(&stored), tokens),
            last(&load(&decoded), tokens),
            "{kind:?}"
        );
    }
}

#[test]
fn a_cache_in_16_bits_gives_nearly_the_same() {
    for family in Family::ALL {
        let model = model(family);
        let exact = last(&model, &tokens());
        let rounded = logits(&mut model.session(CacheType::F16), &tokens());
        let rounded = &rounded[rounded.len() - exact.len()..];
        let distance = distance(&exact, rounded);
        assert!(distance > 0.0 && distance < 0.01, "{family:?}: {distance}");
    }
}

#[test]
fn unknown_tokens_full_contexts_and_short_files_are_refused() {
    let model = model(Family::Llama);
    let mut session = model.session(CacheType::F32);
    let unknown = model.config().vocabulary;
    assert_eq!(
        session.read(&[1, unknown]),
        Err(ReadError::UnknownToken(unknown))
    );
    assert_eq!(session.tokens(), 0);
    let most = model.config().context_tokens as usize;
    assert_eq!(
        session.read(&vec![1; most + 1]),
        Err(ReadError::TooLong(most + 1))
    );
    let bytes = bytes(Family::Llama, QuantType::F32);
    let header = gguf::read(&bytes, None).expect("a header");
    let config = model.config().clone();
    let short = Model::load(config.clone(), &header, |_| Ok::<_, ()>(vec![0; 3]));
    assert!(matches!(short, Err(LoadError::Tensor(_))));
    let none = Model::load(config, &header, |_| Err(7));
    assert!(matches!(none, Err(LoadError::Read(_, 7))));
}
