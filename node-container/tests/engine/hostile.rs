//! Requests that mean harm: they are refused or ended, and the rig goes on.

use crate::endless;
use crate::harness::{Ending, Rig, greedy};
use node_container::engine::{Command, EngineEvent};
use protocol::chat::ResponseFormat;
use protocol::{ChatRequest, ErrorCode};
use serde_json::{Map, Value, json};

fn held_to(schema: Value) -> ChatRequest {
    ChatRequest {
        response_format: ResponseFormat::JsonSchema { schema },
        ..greedy("Go.")
    }
}

#[test]
fn a_schema_that_would_crash_or_hang_llama_cpp_is_refused() {
    let mut rig = Rig::new(1, 512);
    let definitions: Map<_, _> = (0..45)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/a{}", i + 1)});
            (format!("a{i}"), json!({"anyOf": [next, next]}))
        })
        .chain([("a45".to_owned(), json!({"type": "string"}))])
        .collect();
    let optional: Map<_, _> = (0..1500)
        .map(|i| (format!("p{i}"), json!({"type": "string"})))
        .collect();
    for schema in [
        json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}),
        json!({"$defs": definitions, "$ref": "#/$defs/a0"}),
        json!({"type": "object", "properties": optional}),
        json!({"type": "string", "pattern": "^(.{0,90}){0,20}$"}),
        json!({"type": "string", "minLength": 5, "maxLength": 2}),
    ] {
        let told = rig.ask(held_to(schema));
        let failure = told.failed();
        assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
        assert_eq!(failure.param.as_deref(), Some("response_format"));
    }
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn schemas_at_the_limits_still_hold_an_answer() {
    let mut rig = Rig::new(1, 512);
    let optional: Map<_, _> = (0..200)
        .map(|i| (format!("p{i}"), json!({"type": "integer"})))
        .collect();
    for schema in [
        json!({"type": "object", "properties": optional}),
        json!({"type": "array", "items": {"type": "string", "maxLength": 1000}, "minItems": 1, "maxItems": 1000}),
        json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1000}),
        json!({"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}),
        json!({"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}),
    ] {
        let told = rig.ask(ChatRequest {
            max_tokens: Some(8),
            ..held_to(schema)
        });
        assert!(
            matches!(told.ending, Ending::Finished(..)),
            "{:?}",
            told.ending
        );
    }
}

#[test]
fn a_grammar_that_grows_with_the_answer_ends_its_job() {
    let mut rig = Rig::new(1, 2048);
    let one = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d"}}, "required": ["a"], "additionalProperties": false});
    let told = rig.ask(held_to(
        json!({"$defs": {"d": {"anyOf": [one, one, one]}}, "$ref": "#/$defs/d"}),
    ));
    let failure = told.failed();
    assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
    assert!(failure.message.contains("too long"), "{failure}");
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn a_job_does_not_wait_for_questions() {
    let mut rig = Rig::new(1, 2048);
    for check in 0..6 {
        rig.send(Command::Check {
            check,
            request: Box::new(greedy(&"<|im_end|>".repeat(9_000)).into()),
        });
    }
    let job = rig.start(endless("Tell me a long story."));
    let mut answered = 0;
    loop {
        match rig.event() {
            EngineEvent::Checked { .. } => answered += 1,
            EngineEvent::Accepted { key, .. } => {
                assert_eq!(key, job);
                break;
            }
            EngineEvent::Cached(_)
            | EngineEvent::Progress { .. }
            | EngineEvent::Step(_)
            | EngineEvent::Finished { .. }
            | EngineEvent::Failed { .. }
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(answered < 6, "the job came last");
    rig.send(Command::Stop { key: job });
}

#[test]
fn jobs_that_are_cancelled_at_once_leave_the_slot_to_the_next() {
    let mut rig = Rig::new(1, 2048);
    for _ in 0..20 {
        let huge = rig.start(greedy(&"<|im_end|>".repeat(9_000)));
        rig.send(Command::Stop { key: huge });
        let told = rig.follow(huge);
        assert!(
            matches!(told.ending, Ending::Cancelled(_)),
            "{:?}",
            told.ending
        );
    }
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn whatever_passes_our_checks_is_a_grammar_to_llama_cpp() {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    let mut rig = Rig::new(1, 512);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let atom = r#"(a|b|\.|[.]|\[[\^]?[a-z\-\\"]{1,3}\]|\(|\)|\||\\[-.n"\\d\]]|"|/|é)"#;
    let pattern = proptest::string::string_regex(&format!(
        r"\^({atom}([*+?]|\{{[0-9]{{1,2}}(,[0-9]{{0,2}})?\}})?){{1,6}}\$"
    ))
    .expect("a strategy");
    let mut taken = 0;
    for check in 0..2000 {
        let pattern = pattern.new_tree(&mut runner).expect("a pattern").current();
        rig.send(Command::Check {
            check,
            request: Box::new(held_to(json!({"type": "string", "pattern": &pattern})).into()),
        });
        // Other events tell of the cache.
        let failure = loop {
            if let EngineEvent::Checked { failure, .. } = rig.event() {
                break failure;
            }
        };
        match failure {
            None => taken += 1,
            Some(failure) => assert!(failure.message.contains("pattern"), "{pattern}: {failure}"),
        }
    }
    assert!(taken >= 100, "only {taken} were taken");
}
