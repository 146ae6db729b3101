//! Grammars that hold a model to its tools: what a call looks like, as llama.cpp's GBNF.
//!
//! The arguments' own rules come from elsewhere (llama.cpp makes them of a JSON schema); here they are given names of
//! their own and put where the family writes them.
//!
//! ```text
//! Start::First   what the whole answer begins with, marker and all: the model has to call
//! Start::Marked  what follows a marker that the model has written by itself
//! Start::Next    the end, or another call
//! ```

use std::fmt::Write as _;

use crate::family::{Calls, MISTRAL_ARGUMENTS, MISTRAL_OPEN, Syntax};

/// A tool with the grammar of its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRules {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// A grammar whose rule `root` is its arguments.
    pub arguments: String,
}

/// Where a grammar begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Before the first marker.
    First,
    /// After a marker; calls without a marker are there from their brace on.
    Marked,
    /// After a call or a list of calls.
    Next,
}

/// White space between the parts of a call. Two line breaks are the most that a family writes.
const BLANK: &str = "blank ::= [ \\t\\n\\r]{0,2}\n";

/// The same in a call that the model has begun by itself, perhaps with line breaks and indents.
const BLANK_AFTER_MARKER: &str = "blank ::= [ \\t\\n\\r]{0,8}\n";

/// A grammar for calls. `calls_max` bounds a list of calls; other calls come one by one. `alternative` is a grammar that
/// the answer may keep to instead.
pub fn grammar(
    syntax: &Syntax,
    tools: &[ToolRules],
    start: Start,
    calls_max: u32,
    alternative: Option<&str>,
) -> String {
    let mut rules = String::new();
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let rule = format!("call-{index}");
        let arguments = format!("tool-{index}");
        let call = named(syntax, &tool.name, &arguments);
        // Writing to a string cannot fail.
        let _written = writeln!(rules, "{rule} ::= {call}");
        rules.push_str(&renamed(&tool.arguments, &arguments));
        names.push(rule);
    }
    // What all calls have in common comes before the choice: llama.cpp follows all ways at once.
    let names = names.join(" | ");
    let _written = match syntax.calls {
        Calls::Named | Calls::Unknown => writeln!(rules, "call ::= {names}"),
        Calls::Tagged { .. } | Calls::Bare { .. } => writeln!(
            rules,
            "call ::= \"{{\" blank \"\\\"name\\\"\" blank \":\" blank \"\\\"\" ({names}) blank \"}}\""
        ),
    };
    let (open, body) = block(syntax, calls_max);
    let whole = match start {
        Start::First => format!("blank {open}{body}"),
        Start::Marked => body,
        Start::Next => format!("(blank {open}{body})?"),
    };
    let blank = match start {
        Start::First | Start::Next => BLANK,
        Start::Marked => BLANK_AFTER_MARKER,
    };
    let instead = alternative.map_or("", |alternative| {
        rules.push_str(&renamed(alternative, "instead"));
        "instead | "
    });
    format!("root ::= {instead}{whole}\n{blank}{rules}")
}

/// A grammar that lets a model think first: its opening marker, or what `grammar` says.
pub fn or_marker(grammar: &str, marker: &str) -> String {
    format!(
        "root ::= blank {} | after\n{BLANK}{}",
        literal(marker),
        renamed(grammar, "after")
    )
}

/// The marker that opens a block, and what follows it.
fn block(syntax: &Syntax, calls_max: u32) -> (String, String) {
    match syntax.calls {
        Calls::Tagged {
            open,
            close,
            is_list,
        } => {
            let calls = if is_list {
                let more = calls_max.saturating_sub(1);
                format!("\"[\" blank call (blank \",\" blank call){{0,{more}}} blank \"]\"")
            } else {
                "call".to_owned()
            };
            let end = if close.is_empty() {
                String::new()
            } else {
                format!(" blank {}", literal(close))
            };
            (format!("{} ", literal(open)), format!("blank {calls}{end}"))
        }
        Calls::Named => (format!("{} ", literal(MISTRAL_OPEN)), "call".to_owned()),
        Calls::Bare { .. } | Calls::Unknown => (String::new(), "call".to_owned()),
    }
}

/// The part of a call that differs: its name and what follows.
fn named(syntax: &Syntax, name: &str, arguments: &str) -> String {
    let key = match syntax.calls {
        Calls::Named => {
            let head = format!("{name}{MISTRAL_ARGUMENTS}");
            return format!("{} blank {arguments}", literal(&head));
        }
        Calls::Tagged { .. } | Calls::Unknown => "arguments",
        Calls::Bare { arguments, .. } => arguments,
    };
    let (name, key) = (format!("{name}\""), format!("\"{key}\""));
    format!(
        "{} blank \",\" blank {} blank \":\" blank {arguments}",
        literal(&name),
        literal(&key)
    )
}

/// A literal of GBNF.
fn literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('"');
    literal
}

/// A grammar with all its rules called otherwise: `root` becomes `prefix`, and `x` becomes `prefix-x`.
fn renamed(grammar: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(grammar.len() * 2);
    let mut chars = grammar.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Literals, classes and counts stay as they are.
            '"' | '[' | '{' => {
                let end = match c {
                    '"' => '"',
                    '[' => ']',
                    _ => '}',
                };
                out.push(c);
                while let Some(c) = chars.next() {
                    out.push(c);
                    if c == '\\' {
                        out.extend(chars.next());
                    } else if c == end {
                        break;
                    }
                }
            }
            _ if c.is_ascii_alphanumeric() => {
                let mut name = String::from(c);
                while let Some(c) =
                    chars.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
                {
                    name.push(c);
                }
                out.push_str(prefix);
                if name != "root" {
                    out.push('-');
                    out.push_str(&name);
                }
            }
            _ => out.push(c),
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<ToolRules> {
        vec![ToolRules {
            name: "add".to_owned(),
            arguments: "root ::= \"{\" a-kv [\"\\\\}a]{1,2} space \"}\"\na-kv ::= \"\\\"root\\\"\" root?\nspace ::= | \" \"".to_owned(),
        }]
    }

    #[test]
    fn rules_are_renamed_and_nothing_else() {
        assert_eq!(
            renamed(&tools()[0].arguments, "t"),
            "t ::= \"{\" t-a-kv [\"\\\\}a]{1,2} t-space \"}\"\nt-a-kv ::= \"\\\"root\\\"\" t?\nt-space ::= | \" \"\n"
        );
    }

    #[test]
    fn a_call_looks_as_its_family_writes_it() {
        let line = |template: &str, start| {
            let syntax = Syntax::detect(template, |_| false);
            let grammar = grammar(&syntax, &tools(), start, 3, None);
            grammar.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            line("<tool_call>", Start::First),
            "root ::= blank \"<tool_call>\" blank call blank \"</tool_call>\""
        );
        assert_eq!(
            line("<tool_call>", Start::Marked),
            "root ::= blank call blank \"</tool_call>\""
        );
        assert_eq!(
            line("[TOOL_CALLS]", Start::First),
            "root ::= blank \"[TOOL_CALLS]\" blank \"[\" blank call (blank \",\" blank call){0,2} blank \"]\""
        );
        assert_eq!(
            line("[TOOL_CALLS][ARGS]", Start::Next),
            "root ::= (blank \"[TOOL_CALLS]\" call)?"
        );
        assert_eq!(line("", Start::First), "root ::= blank call");
    }

    #[test]
    fn a_format_or_a_thought_may_come_instead() {
        let syntax = Syntax::detect("<tool_call>", |_| false);
        let both = grammar(&syntax, &tools(), Start::First, 1, Some("root ::= \"x\""));
        assert!(both.starts_with("root ::= instead | blank \"<tool_call>\""));
        assert!(both.contains("\ninstead ::= \"x\"\n"));
        let with_thought = or_marker(&both, "<think>");
        assert!(with_thought.starts_with("root ::= blank \"<think>\" | after\n"));
        assert!(with_thought.contains("\nafter ::= after-instead | "));
    }
}
