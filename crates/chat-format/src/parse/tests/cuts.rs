//! However the text is cut, the same is told.

use super::fixtures::fixtures;
use super::*;
use proptest::prelude::*;

#[test]
fn every_cut_of_every_fixture_tells_the_same() {
    for fixture in fixtures() {
        let whole = parse_pieces(fixture.parser(), [fixture.raw]);
        for (cut, _) in fixture.raw.char_indices() {
            let (left, right) = fixture.raw.split_at(cut);
            assert_eq!(
                parse_pieces(fixture.parser(), [left, right]),
                whole,
                "{left:?} | {right:?}"
            );
        }
        let mut bytes = [0; 4];
        let mut parser = fixture.parser();
        let mut out = Vec::new();
        for c in fixture.raw.chars() {
            parser.push(c.encode_utf8(&mut bytes), &mut out);
        }
        parser.finish(&mut out);
        assert_eq!(joined(&out), whole, "{}", fixture.raw);
    }
}

#[test]
fn what_is_told_is_the_beginning_of_what_will_be_told() {
    for fixture in fixtures() {
        let whole = joined(&parse_pieces(fixture.parser(), [fixture.raw]));
        let mut parser = fixture.parser();
        let mut out = Vec::new();
        for (at, c) in fixture.raw.char_indices() {
            parser.push(c.encode_utf8(&mut [0; 4]), &mut out);
            let told = joined(&out);
            for (told, whole) in told.iter().zip(&whole) {
                assert_eq!(told.kind, whole.kind);
                assert!(whole.text.starts_with(&told.text), "{told:?} {whole:?}");
            }
            assert!(parser.held_bytes() <= at + c.len_utf8());
        }
    }
}

#[test]
fn text_is_told_at_once_where_no_marker_can_begin() {
    let mut parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    for (raw, told) in [
        ("Hel", "Hel"),
        ("lo", "lo"),
        (" ", ""),
        ("you <", " you"),
        (" 3", " < 3"),
        ("<tool", ""),
        ("s>", "<tools>"),
    ] {
        let mut out = Vec::new();
        parser.push(raw, &mut out);
        let text: String = out.iter().map(|parsed| parsed.text.as_str()).collect();
        assert_eq!(text, told, "{raw}");
    }
    // Nothing is awaited where nothing could come.
    let mut parser = Parser::new(syntax(PLAIN_HERMES), &request(&[]), "");
    let mut out = Vec::new();
    parser.push(" \n<tool_call>{", &mut out);
    assert_eq!(seen(&out), [text(" \n<tool_call>{")]);
}

#[test]
fn arguments_are_told_as_they_come() {
    let mut parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    let mut told = Vec::new();
    for raw in [
        "<tool_call>\n{\"na",
        "me\": \"ad",
        "d\"",
        ", \"arguments\": {",
        "\"a\": 1",
        "}",
        "}\n</tool_call>",
    ] {
        let mut out = Vec::new();
        parser.push(raw, &mut out);
        told.push(
            out.iter()
                .map(|parsed| parsed.text.clone())
                .collect::<String>(),
        );
    }
    assert_eq!(told[..2], ["", ""]);
    assert!(told[2].ends_with("\"name\":\"add\"}\n"), "{}", told[2]);
    assert_eq!(told[3..], ["{", "\"a\": 1", "}", ""]);
}

#[test]
fn a_flood_of_blanks_or_of_arguments_is_not_held_for_ever() {
    let mut parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    let mut out = Vec::new();
    parser.push(&"\n".repeat(10_000), &mut out);
    assert!(parser.held_bytes() <= BLANKS_MAX);
    let early = format!(
        "<tool_call>{{\"arguments\": {{\"a\": \"{}",
        "x".repeat(HELD_BYTES_MAX)
    );
    parser.push(&early, &mut out);
    assert_eq!(parser.held_bytes(), 0);
    let told: usize = out.iter().map(|parsed| parsed.text.len()).sum();
    assert_eq!(told, 10_000 + early.len());
}

fn raw() -> impl Strategy<Value = String> {
    let part = prop::sample::select(
        [
            "<tool_call>",
            "</tool_call>",
            "<think>",
            "</think>",
            "[TOOL_CALLS]",
            "[ARGS]",
            "<|python_tag|>",
            "{\"name\": \"add\", \"arguments\": {\"a\": \"\\\"<tool_call>\"}}",
            "{\"name\": \"add\"",
            ", \"arguments\": {}",
            "}",
            "[",
            "]",
            ",",
            "add",
            "é🦀",
            "\n",
            "  ",
            "<",
            "text",
            "{",
            "\"",
            ";",
            ":",
        ]
        .as_slice(),
    );
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn cuts_do_not_matter(
        raw in raw(),
        template in prop::sample::select([HERMES, PLAIN_HERMES, MISTRAL, MAGISTRAL, LLAMA, GENERIC, PHI].as_slice()),
        is_open in any::<bool>(),
        cuts in prop::collection::vec(1usize..9, 0..40),
    ) {
        let prompt = if is_open { "<think>[THINK]<think>" } else { "" };
        let parser = Parser::new(syntax(template), &request(&["add"]), prompt);
        let whole = parse_pieces(parser.clone(), [raw.as_str()]);
        let characters: Vec<char> = raw.chars().collect();
        let (mut pieces, mut rest) = (Vec::new(), characters.as_slice());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece.iter().collect::<String>());
            rest = after;
        }
        pieces.push(rest.iter().collect());
        prop_assert_eq!(&parse_pieces(parser, pieces.iter().map(String::as_str)), &whole);
        // Text is told as it was written, from where it was written.
        for parsed in parse_pieces_unjoined(&raw, template, prompt) {
            if parsed.kind == DeltaKind::Text {
                prop_assert_eq!(&raw[parsed.start..parsed.start + parsed.text.len()], &parsed.text);
            }
        }
    }
}

fn parse_pieces_unjoined(raw: &str, template: &str, prompt: &str) -> Vec<Parsed> {
    let mut parser = Parser::new(syntax(template), &request(&["add"]), prompt);
    let mut out = Vec::new();
    parser.push(raw, &mut out);
    parser.finish(&mut out);
    out
}
