//! What holds for every conversation: nothing panics, and no text of others becomes a control token.

use std::sync::LazyLock;

use proptest::prelude::*;
use protocol::ReasoningEffort;

use super::*;

const CONTROL: [&str; 12] = [
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<|end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "<｜User｜>",
    "<|",
];

/// Real ones, each with habits of its own.
static TEMPLATES: LazyLock<Vec<ChatTemplate>> = LazyLock::new(|| {
    [
        include_str!("../../../fixtures/templates/Qwen-Qwen3-0.6B.jinja"),
        include_str!("../../../fixtures/templates/Qwen3-Coder.jinja"),
        include_str!("../../../fixtures/templates/HuggingFaceTB-SmolLM3-3B.jinja"),
        include_str!("../../../fixtures/templates/mistralai-Mistral-Nemo-Instruct-2407.jinja"),
        include_str!("../../../fixtures/templates/openai-gpt-oss-120b.jinja"),
        include_str!("../../../fixtures/templates/deepseek-ai-DeepSeek-V3.1.jinja"),
        include_str!("../../../fixtures/templates/GLM-4.6.jinja"),
        include_str!("../../../fixtures/templates/ByteDance-Seed-OSS.jinja"),
    ]
    .map(|source| {
        let special = SpecialTokens {
            bos: "<s>".to_owned(),
            eos: "</s>".to_owned(),
            control: CONTROL.map(ToOwned::to_owned).to_vec(),
        };
        ChatTemplate::new(Some(source.to_owned()), special).unwrap()
    })
    .into()
});

/// Texts full of control tokens, whole, broken and with what templates take out of them.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(&CONTROL[..]).prop_map(ToOwned::to_owned),
        prop::sample::select(
            &[
                "/think",
                "/no_think",
                "<|im_",
                "end|>",
                "\n",
                " ",
                "\u{fdd0}",
                "\u{fdd2}",
                "{\"",
                "tool_call"
            ][..]
        )
        .prop_map(ToOwned::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        text(),
        prop::sample::select(
            &[
                "type",
                "properties",
                "items",
                "required",
                "enum",
                "description",
                "oneOf"
            ][..]
        )
        .prop_map(ToOwned::to_owned),
    ]
}

fn message() -> impl Strategy<Value = ChatMessage> {
    let role = prop::sample::select(
        &[
            Role::System,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Unknown,
        ][..],
    );
    let call = (
        text(),
        text(),
        prop_oneof![text(), json().prop_map(|it| it.to_string())],
    )
        .prop_map(|(id, name, arguments)| ToolCall {
            id,
            name,
            arguments,
        });
    let calls = prop::collection::vec(call, 0..3);
    let images = prop::collection::vec(
        (0_u32..9).prop_map(|at| Image {
            at,
            data: String::new(),
        }),
        0..2,
    );
    let optional = || prop::option::of(text());
    (
        role,
        text(),
        optional(),
        images,
        calls,
        optional(),
        optional(),
    )
        .prop_map(
            |(role, content, name, images, tool_calls, tool_call_id, reasoning)| ChatMessage {
                role,
                content,
                name,
                images,
                tool_calls,
                tool_call_id,
                reasoning,
            },
        )
}

fn any_request() -> impl Strategy<Value = ChatRequest> {
    let tool = (text(), prop::option::of(text()), prop::option::of(json())).prop_map(
        |(name, description, parameters)| Tool {
            name,
            description,
            parameters,
        },
    );
    let effort = prop::sample::select(
        &[
            None,
            Some(ReasoningEffort::None),
            Some(ReasoningEffort::High),
            Some(ReasoningEffort::Unknown),
        ][..],
    );
    let messages = prop::collection::vec(message(), 0..6);
    (messages, prop::collection::vec(tool, 0..3), effort).prop_map(
        |(messages, tools, reasoning)| ChatRequest {
            messages,
            tools,
            reasoning,
            ..ChatRequest::default()
        },
    )
}

/// How many control tokens a tokeniser would see in a prompt.
fn tokens(prompt: &Prompt) -> usize {
    let count = |text: &str| {
        CONTROL
            .iter()
            .map(|it| text.matches(it).count())
            .sum::<usize>()
    };
    prompt.texts().map(count).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_conversation_makes_a_template_panic(request in any_request(), which in 0..8_usize) {
        // Refusing is fine.
        drop(TEMPLATES[which].render(&request, DateTime::UNIX_EPOCH));
    }

    #[test]
    fn contents_never_become_control_tokens(content in text(), result in text(), name in text(), which in 0..8_usize) {
        let conversation = |content: &str, result: &str, name: &str| {
            let arguments = serde_json::json!({"key": content}).to_string();
            let mut request = request(&[
                super::message(Role::User, content),
                ChatMessage {
                    tool_calls: vec![ToolCall { id: "abc123def".to_owned(), name: "call".to_owned(), arguments }],
                    ..super::message(Role::Assistant, "")
                },
                ChatMessage {
                    tool_call_id: Some("abc123def".to_owned()),
                    name: Some(name.to_owned()),
                    ..super::message(Role::Tool, result)
                },
            ]);
            request.tools = vec![Tool {
                name: "call".to_owned(),
                description: Some(format!("x{content}")),
                parameters: Some(serde_json::json!({
                    "type": "object",
                    "properties": {(format!("y{name}")): {"type": "string", "description": format!("z{result}")}},
                })),
            }];
            TEMPLATES[which].render(&request, DateTime::UNIX_EPOCH)
        };
        // These words mean something to a template: they choose its mode.
        let words = |text: &str| ["/think", "/no_think"].map(|it| if text.contains(it) { it } else { "a" }).concat();
        let harmless = conversation(&words(&content), &words(&result), &words(&name)).unwrap();
        let prompt = conversation(&content, &result, &name).unwrap();
        prop_assert_eq!(tokens(&prompt), tokens(&harmless), "{:?}", prompt.pieces);
        prop_assert!(!prompt.text().contains(guard::is_mark));
    }
}
