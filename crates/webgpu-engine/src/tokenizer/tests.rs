//! Small vocabularies whose every token is known. The large ones are compared with llama.cpp itself, in
//! `node-container/tests/engine/tokenizer.rs`.

mod arbitrary;
mod golden;

use super::bpe::character_of;
use super::*;
use gguf::Texts;

/// All bytes, `merges` and what they make, then `specials` with their types.
pub(super) fn byte_level(pre: &str, merges: &[&str], specials: &[(&str, i32)]) -> Vocabulary {
    let mut tokens: Vec<String> = (0..=u8::MAX)
        .map(|byte| character_of(byte).to_string())
        .collect();
    for merge in merges {
        let text = merge.replace(' ', "");
        if !tokens.contains(&text) {
            tokens.push(text);
        }
    }
    let mut types = vec![1; tokens.len()];
    for (text, kind) in specials {
        tokens.push((*text).to_owned());
        types.push(*kind);
    }
    Vocabulary {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        tokens: tokens.iter().collect(),
        types,
        merges: merges.iter().collect(),
        ..Vocabulary::default()
    }
}

/// `<unk>`, `<s>`, `</s>`, all bytes, then `tokens` with their scores.
fn scored(tokens: &[(&str, f32)]) -> Vocabulary {
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let mut texts: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    texts.extend(bytes);
    let mut types = vec![2, 3, 3];
    types.resize(texts.len(), 6);
    let mut scores = vec![0.0; texts.len()];
    for (text, score) in tokens {
        texts.push((*text).to_owned());
        types.push(1);
        scores.push(*score);
    }
    Vocabulary {
        model: "llama".to_owned(),
        tokens: texts.iter().collect(),
        types,
        scores,
        ..Vocabulary::default()
    }
}

fn pieces(vocabulary: &Vocabulary, text: &str, encoding: Encoding) -> Vec<String> {
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let tokens = tokenizer.encode(text, encoding).unwrap();
    let read =
        |token: &u32| String::from_utf8_lossy(&tokenizer.decode(&[*token], true)).into_owned();
    tokens.iter().map(read).collect()
}

const PLAIN: Encoding = Encoding {
    add_special: false,
    parse_special: false,
};
const PARSED: Encoding = Encoding {
    add_special: false,
    parse_special: true,
};
const WHOLE: Encoding = Encoding {
    add_special: true,
    parse_special: true,
};

#[test]
fn bytes_merge_by_rank_within_words() {
    let vocabulary = byte_level("gpt-2", &["b c", "Ġ a", "a b", "a bc"], &[]);
    assert_eq!(pieces(&vocabulary, "abc ab", PLAIN), ["abc", " a", "b"]);
    assert_eq!(pieces(&vocabulary, "é", PLAIN).len(), 2);
}

#[test]
fn of_two_equal_merges_the_first_counts() {
    let vocabulary = byte_level("gpt-2", &["a b", "b c", "a b"], &[]);
    assert_eq!(pieces(&vocabulary, "abc", PLAIN), ["ab", "c"]);
}

#[test]
fn a_word_that_is_a_token_is_not_merged_where_the_family_says_so() {
    // No merge makes `abc`: it is only found whole.
    let mut vocabulary = byte_level("gpt-2", &["a b"], &[("abc", 1), ("<s>", 3)]);
    assert_eq!(pieces(&vocabulary, "abc", PLAIN), ["ab", "c"]);
    vocabulary.pre = Some("llama-bpe".to_owned());
    assert_eq!(pieces(&vocabulary, "abc", PLAIN), ["abc"]);
}

#[test]
fn a_merge_into_no_token_is_written_by_its_characters() {
    let mut vocabulary = byte_level("gpt-2", &["a b"], &[]);
    vocabulary.merges.push(b"ab c");
    assert_eq!(pieces(&vocabulary, "abc", PLAIN), ["a", "b", "c"]);
    assert_eq!(pieces(&vocabulary, "ab", PLAIN), ["ab"]);
}

#[test]
fn control_tokens_are_read_only_where_asked_for_and_user_defined_ones_always() {
    let vocabulary = byte_level("gpt-2", &["a b"], &[("<|x|>", 3), ("->", 4)]);
    assert_eq!(pieces(&vocabulary, "a<|x|>", PARSED), ["a", "<|x|>"]);
    assert_eq!(pieces(&vocabulary, "a<|x|>", PLAIN).len(), 6);
    assert_eq!(pieces(&vocabulary, "a->b", PLAIN), ["a", "->", "b"]);
}

#[test]
fn of_overlapping_special_tokens_the_longest_of_the_whole_text_is_taken_first() {
    let vocabulary = byte_level("gpt-2", &["a b"], &[("xy", 4), ("yzz", 4)]);
    assert_eq!(
        pieces(&vocabulary, "xyzz xyz", PLAIN),
        ["x", "yzz", " ", "xy", "z"]
    );
}

#[test]
fn where_the_longest_token_does_not_fit_a_shorter_one_does() {
    let specials = [("xy", 4), ("xyz", 4), ("zzzz", 4)];
    let vocabulary = byte_level("gpt-2", &["a b"], &specials);
    assert_eq!(pieces(&vocabulary, "xyzzzz", PLAIN), ["xy", "zzzz"]);
}

#[test]
fn blanks_around_a_token_that_strips_them_are_gone() {
    let mut vocabulary = byte_level("gpt-2", &["a b"], &[("<|a|>", 3), ("<|endoftext|>", 3)]);
    vocabulary.model_name = "Phi-3 mini".to_owned();
    assert_eq!(
        pieces(&vocabulary, "<|a|> \n b<|endoftext|> b", PARSED),
        ["<|a|>", "b", "<|endoftext|>", " ", "b"]
    );
    vocabulary.model_name = "other".to_owned();
    vocabulary.pre = Some("jina-v2-code".to_owned());
    vocabulary.tokens.push(b"<mask>");
    vocabulary.types.push(3);
    assert_eq!(
        pieces(&vocabulary, "b \t<mask> b", PARSED),
        ["b", "<mask>", " ", "b"]
    );
}

#[test]
fn spm_merges_the_highest_score_first_and_writes_bytes_for_the_rest() {
    let vocabulary = scored(&[
        ("▁", -9.0),
        ("a", -9.0),
        ("b", -9.0),
        ("ab", -2.0),
        ("▁a", -1.0),
        ("▁ab", -3.0),
    ]);
    assert_eq!(pieces(&vocabulary, "ab", PLAIN), [" ab"]);
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    let tokens = tokenizer.encode("é", PLAIN).unwrap();
    assert_eq!(tokens, [259, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokenizer.decode(&tokens, false), " é".as_bytes());
}

#[test]
fn spm_begins_with_a_space_behind_each_special_token() {
    let mut vocabulary = scored(&[("▁", -1.0), ("a", -2.0), ("▁a", -0.5)]);
    assert_eq!(
        pieces(&vocabulary, "a</s>a", WHOLE),
        ["<s>", " a", "</s>", " a"]
    );
    vocabulary.add_space_prefix = Some(false);
    vocabulary.add_bos = Some(false);
    vocabulary.add_eos = Some(true);
    assert_eq!(pieces(&vocabulary, "a", WHOLE), ["a", "</s>"]);
    assert_eq!(pieces(&vocabulary, "", WHOLE), ["</s>"]);
}

#[test]
fn control_tokens_write_nothing_where_they_are_hidden() {
    let tokenizer = Tokenizer::new(&scored(&[("▁a", 0.0)])).unwrap();
    assert_eq!(tokenizer.decode(&[1, 259, 2, 0, 9999], false), b" a");
    assert_eq!(tokenizer.decode(&[1, 259], true), b"<s> a");
    assert!(tokenizer.is_control(1) && !tokenizer.is_control(259));
}

#[test]
fn tokens_end_an_answer_by_their_text_or_their_part() {
    let specials = [
        ("<|im_end|>", 1),
        ("stop", 3),
        ("<|file_sep|>", 3),
        ("x", 3),
    ];
    let mut vocabulary = byte_level("qwen2", &["a b"], &specials[..3]);
    vocabulary.named.eos = Some(258);
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    let ends: Vec<_> = (0..tokenizer.tokens())
        .filter(|it| tokenizer.is_end(*it))
        .collect();
    assert_eq!(ends, [257, 258, 259]);
    assert!(tokenizer.is_control(257), "its type is corrected");
}

#[test]
fn what_does_not_fit_together_is_refused_with_its_reason() {
    let good = || byte_level("gpt-2", &["a b"], &[]);
    let refused = |vocabulary: Vocabulary| Tokenizer::new(&vocabulary).unwrap_err().to_string();
    let with = |change: fn(&mut Vocabulary)| {
        let mut vocabulary = good();
        change(&mut vocabulary);
        refused(vocabulary)
    };
    let and = |text: &[u8]| {
        let mut vocabulary = good();
        vocabulary.tokens.push(text);
        vocabulary.types.push(1);
        refused(vocabulary)
    };
    assert!(with(|it| it.model = "bert".to_owned()).contains("\"bert\" is not supported"));
    assert!(with(|it| it.pre = Some("kimi-k2".to_owned())).contains("kimi-k2"));
    assert!(with(|it| it.tokens = Texts::default()).contains("no tokens"));
    assert!(with(|it| it.merges = Texts::default()).contains("no merges"));
    assert!(with(|it| it.merges.push(b"ab")).contains("merge 1 has no space"));
    assert!(and(b"a").contains("tokens 97 and 257 have the same text"));
    assert!(with(|it| it.types.truncate(9)).contains("257 tokens, but only 9 types"));
    assert!(with(|it| it.scores = vec![f32::NAN; 257]).contains("token 0 is not a number"));
    assert!(and(&[b'x'; 5000]).contains("5000 bytes long"));
    let mut endless = scored(&[]);
    endless.tokens = ["a"].iter().collect();
    endless.types.truncate(1);
    endless.scores.truncate(1);
    endless.named.bos = Some(7);
    assert!(refused(endless).contains("wants BOS"));
}

#[test]
fn a_text_beyond_the_limit_is_refused() {
    let tokenizer = Tokenizer::new(&byte_level("gpt-2", &["a b"], &[])).unwrap();
    let text = "a".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(
        tokenizer.encode(&text, PLAIN),
        Err(TextTooLong { bytes: text.len() })
    );
}

#[test]
fn an_empty_token_has_a_name_of_its_own() {
    let mut vocabulary = byte_level("gpt-2", &["a b"], &[]);
    vocabulary.tokens.push(b"");
    vocabulary.tokens.push(b"");
    vocabulary.types.extend([1, 1]);
    let tokenizer = Tokenizer::new(&vocabulary).unwrap();
    assert_eq!(tokenizer.token("[EMPTY_258]"), Some(258));
}
