//! What is written back is read as what it was.

use super::fixtures::fixtures;
use super::*;
use proptest::prelude::*;

fn flat(out: &[Parsed]) -> String {
    out.iter()
        .flat_map(|parsed| {
            let mark = match parsed.kind {
                DeltaKind::Text => '\u{1}',
                DeltaKind::Reasoning => '\u{2}',
                DeltaKind::ToolCall => '\u{3}',
                DeltaKind::Logprobs | DeltaKind::Unknown(_) => '\u{4}',
            };
            parsed.text.chars().flat_map(move |c| [mark, c])
        })
        .collect()
}

fn borrowed(out: &[Parsed]) -> Vec<(DeltaKind, &str)> {
    out.iter()
        .map(|parsed| (parsed.kind, parsed.text.as_str()))
        .collect()
}

/// The first so many characters.
fn first(out: &[Parsed], mut count: usize) -> Vec<Parsed> {
    let mut cut = Vec::new();
    for parsed in out {
        let text: String = parsed.text.chars().take(count).collect();
        count -= text.chars().count();
        if !text.is_empty() {
            cut.push(Parsed {
                text,
                ..parsed.clone()
            });
        }
    }
    cut
}

#[test]
fn an_answer_cut_anywhere_is_written_back_as_it_was() {
    for fixture in fixtures() {
        let whole = parse_pieces(fixture.parser(), [fixture.raw]);
        let length: usize = whole.iter().map(|parsed| parsed.text.chars().count()).sum();
        for count in 0..=length {
            let cut = first(&whole, count);
            let written = fixture
                .parser()
                .write_on(&borrowed(&cut))
                .unwrap_or_else(|| panic!("{}: {cut:?}", fixture.raw));
            let mut parser = fixture.parser();
            let mut out = Vec::new();
            parser.push(&written.text(), &mut out);
            // What may be the beginning of something is held.
            let told = flat(&joined(&out));
            let given = flat(&cut);
            assert!(
                given.starts_with(&told),
                "{}: {cut:?} written as {:?} told {out:?}",
                fixture.raw,
                written.text()
            );
            let is_in_head = cut.last().is_some_and(|last| {
                last.kind == DeltaKind::ToolCall
                    && last
                        .text
                        .rsplit('\u{1e}')
                        .next()
                        .is_some_and(|call| !call.contains('\n') || call.ends_with('\n'))
            });
            if !is_in_head {
                parser.finish(&mut out);
                assert_eq!(flat(&joined(&out)), given, "{:?}", written.text());
            }
        }
    }
}

#[test]
fn from_any_point_of_a_text_what_was_told_next_can_be_written() {
    let mut written_on = 0;
    for fixture in fixtures() {
        let whole = parse_pieces(fixture.parser(), [fixture.raw]);
        for (cut, _) in fixture.raw.char_indices() {
            let mut parser = fixture.parser();
            let mut out = Vec::new();
            parser.push(&fixture.raw[..cut], &mut out);
            let told: usize = out.iter().map(|parsed| parsed.text.chars().count()).sum();
            let mut rest = whole.clone();
            let mut skip = told;
            for parsed in &mut rest {
                let count = skip.min(parsed.text.chars().count());
                parsed.text = parsed.text.chars().skip(count).collect();
                skip -= count;
            }
            let Some(written) = parser.write_on(&borrowed(&rest)) else {
                continue;
            };
            written_on += 1;
            parser.push(&written.text(), &mut out);
            parser.finish(&mut out);
            assert_eq!(
                flat(&joined(&out)),
                flat(&whole),
                "{:?} then {:?}",
                &fixture.raw[..cut],
                written.text()
            );
        }
    }
    assert!(written_on > 1000, "{written_on}");
}

#[test]
fn markers_are_parts_of_their_own() {
    let parser = Parser::new(syntax(HERMES), &request(&["add"]), "");
    let head = protocol::chat::begin_tool_call("x", "add");
    let written = parser
        .write_on(&[
            (DeltaKind::Reasoning, "hm"),
            (DeltaKind::Text, "Now."),
            (DeltaKind::ToolCall, &head),
            (DeltaKind::ToolCall, "{\"a\""),
        ])
        .expect("possible");
    let markers: Vec<&str> = written
        .parts
        .iter()
        .filter(|part| part.is_marker)
        .map(|part| part.text.as_str())
        .collect();
    assert_eq!(markers, ["<think>", "</think>", "<tool_call>"]);
    assert_eq!(
        written.text(),
        "<think>\nhm\n</think>\n\nNow.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\""
    );
}

#[test]
fn what_a_model_cannot_write_is_left_out_or_refused() {
    let plain = Parser::new(syntax(PLAIN_HERMES), &request(&[]), "");
    let written = plain
        .write_on(&[(DeltaKind::Reasoning, "hm"), (DeltaKind::Text, "Now.")])
        .expect("possible");
    assert_eq!((written.text().as_str(), written.left_out), ("Now.", 2));
    let head = protocol::chat::begin_tool_call("x", "add");
    assert_eq!(plain.write_on(&[(DeltaKind::ToolCall, &head)]), None);
    assert_eq!(plain.write_on(&[(DeltaKind::Unknown(9), "x")]), None);
    let offered = Parser::new(syntax(HERMES), &request(&["add"]), "");
    assert_eq!(offered.write_on(&[(DeltaKind::ToolCall, "{\"a\"")]), None);
    assert_eq!(
        offered.write_on(&[(DeltaKind::Text, "a"), (DeltaKind::Reasoning, "b")]),
        None
    );
}

#[test]
fn text_between_bare_calls_is_kept_though_they_may_be_parted_by_it() {
    let head = protocol::chat::begin_tool_call("x", "add");
    let call = format!("{head}{{}}");
    for template in [LLAMA, GENERIC] {
        for text in [",", ";", ", then", ";;"] {
            let parser = Parser::new(syntax(template), &request(&["add"]), "");
            let pieces = [
                (DeltaKind::ToolCall, call.as_str()),
                (DeltaKind::Text, text),
                (DeltaKind::ToolCall, call.as_str()),
            ];
            let written = parser.write_on(&pieces).expect("possible").text();
            let told = parse_pieces(parser, [written.as_str()]);
            let texts: Vec<&str> = told
                .iter()
                .filter(|parsed| parsed.kind == DeltaKind::Text)
                .map(|parsed| parsed.text.as_str())
                .collect();
            assert_eq!(texts.concat(), text, "{written}");
        }
    }
}

#[test]
fn text_goes_on_right_after_a_bare_call_and_its_blanks() {
    for blanks in ["", " ", "\n"] {
        let mut parser = Parser::new(syntax(LLAMA), &request(&["add"]), "");
        let mut out = Vec::new();
        parser.push("{\"name\": \"add\", \"parameters\": {}}", &mut out);
        parser.push(blanks, &mut out);
        out.clear();
        let written = parser
            .write_on(&[(DeltaKind::Text, ", then")])
            .expect("possible");
        parser.push(&written.text(), &mut out);
        parser.finish(&mut out);
        assert_eq!(borrowed(&joined(&out)), [(DeltaKind::Text, ", then")]);
    }
}

/// Text, also such as a model might part calls by.
fn word() -> impl Strategy<Value = String> {
    "[a-zé🦀.,;]{1,6}( [a-zé🦀.,;]{1,6}){0,2}"
}

proptest! {
    #[test]
    fn reading_undoes_writing(
        template in prop::sample::select([HERMES, MISTRAL, MAGISTRAL, LLAMA, GENERIC, PHI].as_slice()),
        thought in prop::option::of(word()),
        parts in prop::collection::vec(prop_oneof![word().prop_map(Ok), prop::collection::btree_map("[a-z\"\\\\<{]{0,4}", "[a-z\"\\\\<}\\]\n]{0,6}", 0..3).prop_map(Err)], 0..5),
    ) {
        let parser = Parser::new(syntax(template), &request(&["add"]), "");
        let mut pieces = Vec::new();
        if let Some(thought) = thought.filter(|_| syntax(template).reasoning.is_some()) {
            pieces.push((DeltaKind::Reasoning, thought));
        }
        let mut calls = 0;
        for part in parts {
            match part {
                Ok(text) if pieces.last().is_some_and(|(kind, _)| *kind == DeltaKind::Text) => drop(text),
                Ok(text) => pieces.push((DeltaKind::Text, text)),
                Err(arguments) => {
                    let ids = CallIds::of(&request(&["add"]));
                    let head = protocol::chat::begin_tool_call(&ids.id(calls), "add");
                    calls += 1;
                    pieces.push((DeltaKind::ToolCall, format!("{head}{}", serde_json::to_string(&arguments).expect("JSON"))));
                }
            }
        }
        let borrowed: Vec<_> = pieces.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
        let written = parser.write_on(&borrowed).expect("possible").text();
        let given: Vec<Parsed> = pieces.iter().map(|(kind, text)| Parsed { kind: *kind, text: text.clone(), start: 0 }).collect();
        let told = parse_pieces(parser, [written.as_str()]);
        prop_assert_eq!(flat(&told), flat(&joined(&given)), "{}", written);
    }
}
