//! Each fixture names whose writing it is. The texts are facts about models; what is expected of them is ours.

use super::*;
use crate::family::Syntax;
use protocol::chat::{Tool, ToolCallEvent, ToolCallReader, ToolChoice};

mod cuts;
mod fixtures;
mod offered;
mod writing;

/// A part of an answer, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Reasoning(String),
    Call(String, String),
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn reasoning(text: &str) -> Piece {
    Piece::Reasoning(text.to_owned())
}

fn call(name: &str, arguments: &str) -> Piece {
    Piece::Call(name.to_owned(), arguments.to_owned())
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
    }
}

fn request(tools: &[&str]) -> ChatRequest {
    ChatRequest {
        tools: tools.iter().map(|name| tool(name)).collect(),
        ..ChatRequest::default()
    }
}

/// Template fragments by which families are known.
const HERMES: &str = "<tool_call> <think>";
const PLAIN_HERMES: &str = "<tool_call>";
const MISTRAL: &str = "[TOOL_CALLS]";
const MAGISTRAL: &str = "[TOOL_CALLS] [ARGS] [THINK]";
const LLAMA: &str = "<|python_tag|>";
const GENERIC: &str = "<|im_start|>";
const PHI: &str = "<|tool_call|> <|/tool_call|>";

fn syntax(template: &str) -> Syntax {
    Syntax::detect(template, |_| false)
}

/// Pushes pieces and finishes.
fn parse_pieces<'p>(mut parser: Parser, pieces: impl IntoIterator<Item = &'p str>) -> Vec<Parsed> {
    let mut out = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut out);
    }
    parser.finish(&mut out);
    joined(&out)
}

/// Neighbours of one kind, joined.
fn joined(out: &[Parsed]) -> Vec<Parsed> {
    let mut all: Vec<Parsed> = Vec::new();
    for parsed in out {
        match all.last_mut() {
            Some(last) if last.kind == parsed.kind => last.text.push_str(&parsed.text),
            Some(_) | None => all.push(parsed.clone()),
        }
    }
    all
}

/// As a client sees it.
fn seen(out: &[Parsed]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut reader = ToolCallReader::default();
    for parsed in joined(out) {
        match parsed.kind {
            DeltaKind::Text => pieces.push(Piece::Text(parsed.text)),
            DeltaKind::Reasoning => pieces.push(Piece::Reasoning(parsed.text)),
            DeltaKind::ToolCall => {
                for event in reader.push(&parsed.text).expect("a stream of calls") {
                    match event {
                        ToolCallEvent::Begun { name, .. } => {
                            pieces.push(Piece::Call(name, String::new()));
                        }
                        ToolCallEvent::Arguments(more) => {
                            let Some(Piece::Call(_, arguments)) = pieces.last_mut() else {
                                panic!("arguments without a call");
                            };
                            arguments.push_str(&more);
                        }
                    }
                }
            }
            DeltaKind::Logprobs | DeltaKind::Unknown(_) => panic!("{parsed:?}"),
        }
    }
    pieces
}
