//! Patterns: which regular expressions llama.cpp can hold an answer to, in time that does not grow with the answer.

use llama_cpp_2::json_schema_to_grammar;
use serde_json::json;

/// The longest pattern, in bytes.
const BYTES_MAX: usize = 1024;

/// The highest count in `{…}`.
const COUNT_MAX: u64 = 999;

/// The product of counts that stand inside one another.
const PRODUCT_MAX: u64 = 256;

/// The most groups inside one another.
const DEPTH_MAX: usize = 20;

const UNSUPPORTED: &str = "pattern must be anchored with ^ and $, and have no look-around, no repetition over 999 and no classes such as \\d (write [0-9])";
const EXPENSIVE: &str = "pattern repeats what may be empty, or its nested repetitions multiply to more than 256; write it without nesting";

/// llama.cpp takes any string where it does not understand a pattern, so this understands less than llama.cpp does.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let inner = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'))
        .filter(|_| pattern.len() <= BYTES_MAX && !pattern.contains(char::is_control))
        .ok_or(UNSUPPORTED)?;
    let mut parser = Parser { rest: inner };
    parser.alternatives(0)?;
    if !parser.rest.is_empty() {
        return Err(UNSUPPORTED.to_owned());
    }
    // What is left over is seen by what llama.cpp makes of it: a string like any other.
    let schema = json!({"type": "string", "pattern": pattern}).to_string();
    match json_schema_to_grammar(&schema) {
        Ok(grammar) if !grammar.lines().any(|rule| rule == "root ::= string") => Ok(()),
        Ok(_) | Err(_) => Err(UNSUPPORTED.to_owned()),
    }
}

/// What a part of a pattern costs.
#[derive(Debug, Clone, Copy)]
struct Part {
    may_be_empty: bool,
    /// The highest product of nested counts in it.
    product: u64,
}

struct Parser<'p> {
    rest: &'p str,
}

impl Parser<'_> {
    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        Some(next)
    }

    fn take_if(&mut self, wanted: char) -> bool {
        self.rest.strip_prefix(wanted).is_some_and(|rest| {
            self.rest = rest;
            true
        })
    }

    /// Up to the closing parenthesis or the end.
    fn alternatives(&mut self, depth: usize) -> Result<Part, &'static str> {
        if depth > DEPTH_MAX {
            return Err(UNSUPPORTED);
        }
        let mut whole = self.sequence(depth)?;
        while self.take_if('|') {
            let next = self.sequence(depth)?;
            whole.may_be_empty |= next.may_be_empty;
            whole.product = whole.product.max(next.product);
        }
        Ok(whole)
    }

    fn sequence(&mut self, depth: usize) -> Result<Part, &'static str> {
        let mut whole = Part {
            may_be_empty: true,
            product: 1,
        };
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            let atom = self.atom(depth)?;
            let part = self.repeated(atom)?;
            whole.may_be_empty &= part.may_be_empty;
            whole.product = whole.product.max(part.product);
        }
        Ok(whole)
    }

    fn atom(&mut self, depth: usize) -> Result<Part, &'static str> {
        let one = Part {
            may_be_empty: false,
            product: 1,
        };
        match self.take() {
            Some('(') => {
                if self.rest.starts_with('?') {
                    return Err(UNSUPPORTED);
                }
                let group = self.alternatives(depth + 1)?;
                if self.take_if(')') {
                    Ok(group)
                } else {
                    Err(UNSUPPORTED)
                }
            }
            Some('[') => self.class().map(|()| one),
            // Not `\d`, `\b`, `\1`, …, and no escape that nobody needs.
            Some('\\') => match self.take() {
                Some(escaped) if r#"\"-[]^$.()|{}*+?"#.contains(escaped) => Ok(one),
                Some(_) | None => Err(UNSUPPORTED),
            },
            None | Some(')' | ']' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | '|') => {
                Err(UNSUPPORTED)
            }
            Some(_) => Ok(one),
        }
    }

    fn class(&mut self) -> Result<(), &'static str> {
        self.take_if('^');
        let mut is_empty = true;
        loop {
            match self.take() {
                Some(']') if !is_empty => return Ok(()),
                Some('\\') => match self.take() {
                    Some(escaped) if r#"\"-[]"#.contains(escaped) => {}
                    Some(_) | None => return Err(UNSUPPORTED),
                },
                Some(']' | '[') | None => return Err(UNSUPPORTED),
                Some(_) => {}
            }
            is_empty = false;
        }
    }

    fn repeated(&mut self, part: Part) -> Result<Part, &'static str> {
        let (least, most) = if self.take_if('*') {
            (0, 1)
        } else if self.take_if('+') {
            (1, 1)
        } else if self.take_if('?') {
            (0, 1)
        } else if self.take_if('{') {
            self.counts()?
        } else {
            return Ok(part);
        };
        if self.rest.starts_with(['*', '+', '?', '{']) {
            return Err(EXPENSIVE);
        }
        let product = part.product.saturating_mul(most);
        if part.may_be_empty || (part.product > 1 && product > PRODUCT_MAX) {
            return Err(EXPENSIVE);
        }
        Ok(Part {
            may_be_empty: least == 0,
            product,
        })
    }

    /// `3}`, `3,}` or `3,5}`: the least, and how many copies that makes.
    fn counts(&mut self) -> Result<(u64, u64), &'static str> {
        let (counts, rest) = self.rest.split_once('}').ok_or(UNSUPPORTED)?;
        self.rest = rest;
        let number = |text: &str| {
            text.parse::<u64>()
                .ok()
                .filter(|count| *count <= COUNT_MAX && !text.starts_with('+'))
                .ok_or(UNSUPPORTED)
        };
        let (least, most) = match counts.split_once(',') {
            None => {
                let count = number(counts)?;
                (count, count)
            }
            Some((least, "")) => {
                let least = number(least)?;
                (least, least.max(1))
            }
            Some((least, most)) => (number(least)?, number(most)?),
        };
        if most == 0 || most < least {
            return Err(UNSUPPORTED);
        }
        Ok((least, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_would_be_ignored_is_refused() {
        for pattern in [
            "[0-9]+",
            "^(?=x)a$",
            "^a{1000000}$",
            "^[$",
            r"^\bword$",
            r"^\d$",
            "^a{5,2}$",
            "^a{0}$",
            "^|*$",
            "^[]$",
            r"^\!$",
            r"^[\.]$",
            "^a\u{0}$",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_multiplies_its_work_is_refused() {
        for pattern in [
            "^(.{0,90}){0,20}$",
            "^(a*)*$",
            "^(.{1,90}){1,20}$",
            "^((a|b){1,20}){1,20}c$",
            "^a**$",
        ] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn usual_patterns_are_taken() {
        for pattern in [
            "^[0-9]{2,3}$",
            "^(a|b)*$",
            r"^a\.b$",
            r#"^[\-\]"]\$$"#,
            "^[a-z0-9]+(-[a-z0-9]+)*$",
            "^[A-Za-z0-9._]+@[a-z]+[.][a-z]{2,}$",
            "^.{0,500}$",
            "^([0-9]{3}-){2}[0-9]{4}$",
        ] {
            assert_eq!(check(pattern), Ok(()), "{pattern}");
        }
    }
}
