//! A minijinja environment that does what Hugging Face's renderer does (`transformers.utils.chat_template_utils`):
//! Jinja2 with trimmed blocks and loop controls, Python's methods, `raise_exception` and a `tojson` like `json.dumps`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "minijinja's ValueKind is not exhaustive"
)]

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters};

use super::bounds::{self, Bounds};
use super::methods::python_method;
use super::python::{self, Json};

/// The only template in an environment.
pub(super) const TEMPLATE_NAME: &str = "chat_template";

/// Marks an error that the template itself raised.
const RAISED: &str = "raised by the template: ";

/// Spaces of one step of indentation, at most.
const INDENT_MAX: usize = 16;

/// Compiles a template, which then keeps to these bounds.
pub(super) fn environment(source: &str, bounds: Bounds) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(bounds.steps));
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_unknown_method_callback(move |state, value, method, args| {
        python_method(bounds, state, value, method, args)
    });
    environment.set_formatter(move |out, state, value| {
        let shown;
        let text = if let Some(text) = value.as_str() {
            text
        } else {
            shown = python::str(value, bounds.prompt_bytes);
            &shown
        };
        bounds.count(state, text.len())?;
        out.write_str(text).map_err(Error::from)
    });
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("string", move |state: &mut State<'_, '_>, value: &Value| {
        let text = python::str(value, bounds.prompt_bytes);
        bounds.count(state, text.len()).map(|()| text)
    });
    environment.add_filter(
        "replace",
        move |state: &mut State<'_, '_>,
              text: StringInput<'_>,
              old: StringInput<'_>,
              new: StringInput<'_>| {
            let bytes = bounds::replaced_bytes(text.as_str(), old.as_str(), new.as_str());
            bounds.count(state, bytes)?;
            filters::replace(state, text, old, new)
        },
    );
    environment.add_filter(
        "tojson",
        move |value: Value, ensure_ascii: Option<bool>, options: Kwargs| {
            tojson(&value, ensure_ascii, &options, bounds.prompt_bytes)
        },
    );
    environment.add_test("iterable", |value: &Value| {
        is_sequence(value.kind()) || value.kind() == ValueKind::Iterable
    });
    environment.add_test("sequence", |value: &Value| is_sequence(value.kind()));
    environment.add_template_owned(TEMPLATE_NAME, without_generation_blocks(source))?;
    Ok(environment)
}

/// What is told of a template that took too many steps or made too much text, if this is that.
pub(super) fn endless(error: &Error) -> Option<&'static str> {
    if bounds::is_too_long(error) {
        return Some("makes too much text");
    }
    (error.kind() == ErrorKind::OutOfFuel)
        .then_some("takes too many steps: it loops without an end, or nearly so")
}

/// What the template complained of by `raise_exception`, if it did.
pub(super) fn complaint(error: &Error) -> Option<&str> {
    error
        .detail()
        .and_then(|detail| detail.strip_prefix(RAISED))
}

/// What has a length and items in Python: nothing (`none`) has not, but what is undefined has.
const fn is_sequence(kind: ValueKind) -> bool {
    matches!(
        kind,
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
    )
}

/// `{% generation %}` marks what the model wrote, for training. Here it is a block with a scope of its own, as it is
/// there, and nothing more.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        let body = after.trim_start_matches(['-', '+']);
        let word = body.trim_start();
        let (name, replacement) = if word.starts_with("endgeneration") {
            ("endgeneration", "endwith")
        } else {
            ("generation", "with")
        };
        rest = after;
        if let Some(tail) = word.strip_prefix(name)
            && tail
                .trim_start()
                .trim_start_matches(['-', '+'])
                .starts_with("%}")
        {
            let lead = after.len() - word.len();
            out.push_str(after.get(..lead).unwrap_or_default());
            out.push_str(replacement);
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja hands over arguments by value"
)]
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{message}"),
    ))
}

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: nothing is escaped for HTML.
fn tojson(
    value: &Value,
    ensure_ascii: Option<bool>,
    options: &Kwargs,
    bytes_max: usize,
) -> Result<String, Error> {
    let separators = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let [comma, colon] = [0, 1].map(|at| pair.get_item_by_index(at));
            Some((
                python::str(&comma?, bytes_max),
                python::str(&colon?, bytes_max),
            ))
        }
        _ => None,
    };
    let named = options.get::<Option<bool>>("ensure_ascii")?;
    let json = Json {
        bytes_max,
        ensure_ascii: ensure_ascii.or(named).unwrap_or(false),
        indent: options
            .get::<Option<Value>>("indent")?
            .and_then(|indent| indentation(&indent)),
        separators,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    json.dumps(value)
}

fn indentation(indent: &Value) -> Option<String> {
    match indent.kind() {
        ValueKind::String => indent.as_str().map(ToOwned::to_owned),
        ValueKind::Number => Some(" ".repeat(indent.as_usize().unwrap_or(0).min(INDENT_MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_blocks_are_scopes() {
        let source = "a{%- generation -%} b {{ x }}{% set x = 2 %} {%- endgeneration %}{{ x }}{% set generation = 3 %}{{ generation }}{%generation%}{%endgeneration%}";
        let environment = environment(source, Bounds::TRIAL).unwrap();
        let text = environment
            .get_template(TEMPLATE_NAME)
            .unwrap()
            .render(minijinja::context! { x => 1 })
            .unwrap();
        assert_eq!(text, "ab 113");
    }

    #[test]
    fn tojson_takes_the_options_of_transformers() {
        let source = "{{ x|tojson(indent=2) }}|{{ x|tojson(separators=(',', ':'), sort_keys=true) }}|{{ 'ü'|tojson(ensure_ascii=true) }}|{{ x|tojson(indent=none) }}";
        let environment = environment(source, Bounds::TRIAL).unwrap();
        let text = environment
            .get_template(TEMPLATE_NAME)
            .unwrap()
            .render(minijinja::context! { x => python::value(&serde_json::json!({"b": 1, "a": [2]}), &str::to_owned) })
            .unwrap();
        assert_eq!(
            text,
            "{\n  \"b\": 1,\n  \"a\": [\n    2\n  ]\n}|{\"a\":[2],\"b\":1}|\"\\u00fc\"|{\"b\": 1, \"a\": [2]}"
        );
    }
}
