//! How long a template may run, and how much it may make.

use protocol::limits::MESSAGES_MAX;

use super::*;

const TOOLS: usize = 128;

/// As many messages as a request may have, with tools.
fn largest() -> ChatRequest {
    let messages = (0..MESSAGES_MAX - 1).map(|number| {
        let role = if number % 2 == 0 {
            Role::User
        } else {
            Role::Assistant
        };
        message(role, &format!("What is {number}?"))
    });
    let tools = (0..TOOLS).map(|number| Tool {
        name: format!("tool_{number}"),
        description: Some("Does something.".to_owned()),
        parameters: Some(serde_json::json!({
            "type": "object",
            "properties": {
                "a": {"type": "string", "description": "a"},
                "b": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["a"],
        })),
    });
    ChatRequest {
        tools: tools.collect(),
        ..request(&messages.collect::<Vec<_>>())
    }
}

#[test]
fn the_largest_request_is_rendered_by_real_templates() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/templates/");
    for name in [
        "Qwen-Qwen3-0.6B",
        "openai-gpt-oss-120b",
        "Mistral-Small-3.2-24B-Instruct-2506",
        "ByteDance-Seed-OSS",
        "deepseek-ai-DeepSeek-V3.1",
    ] {
        let source = std::fs::read_to_string(format!("{fixtures}{name}.jinja")).expect("there");
        let prompt = template(&source).render(&largest(), DateTime::UNIX_EPOCH);
        let text = prompt
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .text();
        assert!(text.contains("tool_127"), "{name}");
    }
}

#[test]
fn a_template_without_an_end_is_refused_when_it_is_loaded() {
    let source = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}{{ messages[0].content }}";
    let error = ChatTemplate::new(Some(source.to_owned()), special()).expect_err("endless");
    assert!(error.to_string().contains("too many steps"), "{error}");
}

#[test]
fn a_job_that_a_template_takes_no_end_for_fails() {
    let source = "{% macro m() %}{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{% endmacro %}{% for message in messages %}{% if message.content == 'turn' %}{{ m() }}{% endif %}{{ message.content }}{% endfor %}";
    let failure = render(source, &[message(Role::User, "turn")]).expect_err("endless");
    assert!(failure.message.contains("too many steps"), "{failure:?}");
    assert!(render(source, &[message(Role::User, "stop")]).is_ok());
}

#[test]
fn a_template_that_doubles_what_it_makes_is_refused() {
    let twice = "{% set a = 1 %}".to_owned() + &"{% set a = [a, a] %}".repeat(40);
    let block = "{% set a %}{{ a }}{{ a }}{% endset %}".repeat(40);
    let long = "{% set a = ('a' * 100000)|replace('a', 'a' * 100000) %}";
    let method = "{% set a = ('a' * 100000).replace('', 'a' * 100000) %}";
    let many = "{% for a in range(1000) %}{{ 'a' * 10000 }}{% endfor %}";
    let raw = format!(
        "{{% for a in range(1000) %}}{}{{% endfor %}}",
        "a".repeat(10_000)
    );
    for hostile in [
        format!("{twice}{{{{ a }}}}"),
        format!("{twice}{{{{ a|string }}}}"),
        format!("{twice}{{{{ a|tojson }}}}"),
        format!("{twice}{{{{ {{1: a}} }}}}"),
        format!("{{% set a = 'a' %}}{block}"),
        long.to_owned(),
        method.to_owned(),
        many.to_owned(),
        raw,
    ] {
        let source = format!("{{{{ messages[0].content }}}}{hostile}");
        let error = ChatTemplate::new(Some(source), special()).expect_err("too much");
        assert!(error.to_string().contains("too much text"), "{error}");
    }
}

#[test]
fn what_holds_itself_is_shown_to_an_end() {
    let source = "{% set a = namespace() %}{% set a.a = [a] %}{{ a }}{{ a|string }}{{ [a] }}{{ messages[0].content }}";
    let _either = ChatTemplate::new(Some(source.to_owned()), special());
    let source = "{% set a = namespace() %}{% set a.a = [a] %}{{ a|tojson }}";
    assert!(ChatTemplate::new(Some(source.to_owned()), special()).is_err());
}
