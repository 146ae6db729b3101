//! Methods of Python's text, lists and dicts that templates call and minijinja's own collection lacks.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "minijinja's ValueKind is not exhaustive"
)]

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

use super::bounds::{Bounds, replaced_bytes};

/// Pieces of a split without a limit; a split of a text cannot have more pieces than that.
const NO_LIMIT: i64 = -1;

/// Is asked for every method.
pub(super) fn python_method(
    bounds: Bounds,
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String if method == "replace" => {
            let text = value.as_str().unwrap_or_default();
            let (old, new, _): (&str, &str, Option<i32>) = from_args(args)?;
            bounds.count(state, replaced_bytes(text, old, new))?;
            None
        }
        ValueKind::String => text_method(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq => list_method(value, method, args)?,
        ValueKind::Map if method == "copy" => Some(value.clone()),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let value = match method {
        // Python's white space has four separators that Unicode's has not.
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let found = if method == "partition" {
                text.split_once(separator)
            } else {
                text.rsplit_once(separator)
            };
            texts(match found {
                Some((before, after)) => vec![before, separator, after],
                None if method == "partition" => vec![text, "", ""],
                None => vec!["", "", text],
            })
        }
        "index" | "rindex" => {
            let (what,): (&str,) = from_args(args)?;
            let place = if method == "index" {
                text.find(what)
            } else {
                text.rfind(what)
            };
            let before = place.and_then(|place| text.get(..place));
            let before = before
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Value::from(before.chars().count())
        }
        "swapcase" => Value::from(text.chars().flat_map(swapped).collect::<String>()),
        "casefold" => Value::from(text.to_lowercase()),
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => text.split_at(text.len() - digits.len()),
                None => ("", text),
            };
            let missing = width.min(1024).saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn texts(items: Vec<&str>) -> Value {
    items.into_iter().map(Value::from).collect()
}

fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char)
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (set,): (Option<&str>,) = from_args(args)?;
    let is_stripped = |char: char| set.map_or_else(|| is_space(char), |set| set.contains(char));
    let text = if method == "rstrip" {
        text
    } else {
        text.trim_start_matches(is_stripped)
    };
    let text = if method == "lstrip" {
        text
    } else {
        text.trim_end_matches(is_stripped)
    };
    Ok(Value::from(text))
}

fn split(text: &str, is_from_the_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get::<Option<Value>>("sep")?,
    };
    let limit = match limit {
        Some(limit) => limit,
        None => named.get::<Option<i64>>("maxsplit")?.unwrap_or(NO_LIMIT),
    };
    named.assert_all_used()?;
    let pieces_max = usize::try_from(limit).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let separator = separator.filter(|separator| !separator.is_none());
    let Some(separator) = separator else {
        return Ok(texts(split_at_spaces(text, is_from_the_right, pieces_max)));
    };
    let separator = separator.as_str().unwrap_or_default();
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let pieces = if is_from_the_right {
        let mut pieces: Vec<&str> = text.rsplitn(pieces_max, separator).collect();
        pieces.reverse();
        pieces
    } else {
        text.splitn(pieces_max, separator).collect()
    };
    Ok(texts(pieces))
}

fn split_at_spaces(text: &str, is_from_the_right: bool, pieces_max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_matches(is_space);
    while !rest.is_empty() {
        let cut = if is_from_the_right {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        let Some(cut) = cut.filter(|_| pieces.len() + 1 < pieces_max) else {
            break;
        };
        let (before, after) = rest.split_at(cut);
        if is_from_the_right {
            pieces.push(after.trim_start_matches(is_space));
            rest = before.trim_end_matches(is_space);
        } else {
            pieces.push(before);
            rest = after.trim_start_matches(is_space);
        }
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    if is_from_the_right {
        pieces.reverse();
    }
    pieces
}

fn swapped(char: char) -> Vec<char> {
    if char.is_uppercase() {
        char.to_lowercase().collect()
    } else {
        char.to_uppercase().collect()
    }
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => Ok(Some(list.clone())),
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            let place = list.try_iter()?.position(|item| item == *what);
            let place = place.ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, "the value is not in the list")
            })?;
            Ok(Some(Value::from(place)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use crate::template::bounds::Bounds;
    use crate::template::environment::{TEMPLATE_NAME, environment};

    // What CPython 3.11 gives.
    #[test]
    fn methods_do_what_they_do_in_python() {
        for (expression, value) in [
            ("' a b\\n'.strip()", "a b"),
            ("'xxaxx'.lstrip('x') ~ 'xxaxx'.rstrip('x')", "axxxxa"),
            ("'a,b,c'.split(',', 1)", "['a', 'b,c']"),
            ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
            ("'a,b,c'.split(',', maxsplit=1)", "['a', 'b,c']"),
            ("'  a  b c '.split()", "['a', 'b', 'c']"),
            ("'  a  b c '.split(none, 1)", "['a', 'b c']"),
            ("'  a  b c '.rsplit(none, 1)", "['a  b', 'c']"),
            ("''.split() ~ ''.split(',')", "[]['']"),
            ("'</a>x</a>'.split('</a>')[-1]", ""),
            ("'abc'.removeprefix('a').removesuffix('c')", "b"),
            (
                "'a=b=c'.partition('=')[2] ~ 'a=b=c'.rpartition('=')[0]",
                "b=ca=b",
            ),
            ("'aßX'.swapcase()", "ASSx"),
            ("'-7'.zfill(4)", "-007"),
            ("'äbc'.index('c')", "2"),
            ("[1, 2].index(2)", "1"),
            ("'abc'[::-1] ~ 'abc'[-2:] ~ 'abc'[:-1]", "cbabcab"),
            ("{'items': 1}.items()|length", "1"),
        ] {
            let environment =
                environment(&format!("{{{{ {expression} }}}}"), Bounds::TRIAL).unwrap();
            let text = environment
                .get_template(TEMPLATE_NAME)
                .unwrap()
                .render(())
                .unwrap();
            assert_eq!(text, value, "{expression}");
        }
    }
}
