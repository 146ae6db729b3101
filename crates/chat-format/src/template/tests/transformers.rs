//! Byte for byte what `apply_chat_template` of `PyPI`'s `transformers` makes of the same conversations.
//!
//! `fixtures/generate.py` makes the conversations and the expected texts; `fixtures/templates.toml` names the sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
struct Facts {
    source: String,
    licence: String,
    bos: String,
    eos: String,
    #[serde(default)]
    control: Vec<String>,
}

/// What transformers makes of a conversation.
#[derive(Debug, Deserialize)]
struct Expected {
    text: Option<String>,
    /// What the template complained of, or nothing where it broke.
    #[serde(default)]
    refused: Option<String>,
}

fn fixtures() -> PathBuf {
    // Another folder of the same shape may be tried: templates that may not be passed on, for one.
    option_env!("CHAT_FORMAT_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"),
        PathBuf::from,
    )
}

fn read(path: &str) -> String {
    let path = fixtures().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// When the expected texts were made, they were told.
fn now() -> DateTime<Utc> {
    "2026-01-02T15:04:05Z".parse().unwrap()
}

fn templates() -> BTreeMap<String, Facts> {
    toml::from_str(&read("templates.toml")).unwrap()
}

fn template(name: &str, facts: &Facts, control: &[&str]) -> ChatTemplate {
    let own = facts.control.iter().map(String::as_str);
    let special = SpecialTokens {
        bos: facts.bos.clone(),
        eos: facts.eos.clone(),
        control: own
            .chain(control.iter().copied())
            .map(ToOwned::to_owned)
            .collect(),
    };
    let source = read(&format!("templates/{name}.jinja"));
    ChatTemplate::new(Some(source), special).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Where two texts part, with a little of what is around.
fn difference(expected: &str, found: &str) -> String {
    let same = expected
        .char_indices()
        .zip(found.chars())
        .find(|((_, one), other)| one != other)
        .map_or(expected.len().min(found.len()), |((at, _), _)| at);
    let begin = (0..=same.saturating_sub(60))
        .rev()
        .find(|at| expected.is_char_boundary(*at))
        .unwrap_or(0);
    let show = |text: &str| text[begin..].chars().take(160).collect::<String>();
    format!(
        "at byte {same}\n  expected {:?}\n  found    {:?}",
        show(expected),
        show(found)
    )
}

fn compare(control: &[&str]) {
    let conversations: BTreeMap<String, ChatRequest> =
        serde_json::from_str(&read("conversations.json")).unwrap();
    let templates = templates();
    assert!(templates.len() >= 10 && conversations.len() >= 30);
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, facts) in &templates {
        assert!(
            !facts.source.is_empty() && !facts.licence.is_empty(),
            "{name}: no source"
        );
        let template = template(name, facts, control);
        let expected: BTreeMap<String, Expected> =
            serde_json::from_str(&read(&format!("expected/{name}.json"))).unwrap();
        assert_eq!(
            expected.len(),
            conversations.len(),
            "{name}: conversations are missing"
        );
        for (title, request) in &conversations {
            compared += 1;
            let complaint = match (&expected[title], template.render(request, now())) {
                (
                    Expected {
                        text: Some(text), ..
                    },
                    Ok(prompt),
                ) if prompt.text() == *text => continue,
                (
                    Expected {
                        text: Some(text), ..
                    },
                    Ok(prompt),
                ) => difference(text, &prompt.text()),
                (Expected { text: Some(_), .. }, Err(failure)) => {
                    format!("refused: {}", failure.message)
                }
                (
                    Expected {
                        text: None,
                        refused,
                    },
                    Err(failure),
                ) => match refused {
                    Some(complaint) if !failure.message.ends_with(complaint.as_str()) => {
                        format!("refused otherwise: {}, not {complaint}", failure.message)
                    }
                    _ => continue,
                },
                (
                    Expected {
                        text: None,
                        refused,
                    },
                    Ok(prompt),
                ) => {
                    format!("not refused ({refused:?}): {:?}", prompt.text())
                }
            };
            wrong.push(format!("{name}, {title}: {complaint}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {compared} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn prompts_are_those_of_transformers() {
    compare(&[]);
}

#[test]
fn guarding_control_tokens_leaves_the_text_of_a_prompt_as_it_is() {
    compare(&[
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|end|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[TOOL_CALLS]",
        "<tool_call>",
        "</tool_call>",
        "<think>",
        "</think>",
    ]);
}
