//! Tool calls in the markers of well-known families, through llama.cpp: real templates, and vocabularies that have the
//! markers as tokens. The weights are seeded, so the model means nothing by what it writes; that it begins a call, a
//! bias on the marker's token makes it do, and that the call is right, the grammar.

use gguf_writer::seeded::language::{Language, Marks};
use node_container::engine::llama::LlamaOptions;
use protocol::chat::{LogitBias, Sampling, Tool, ToolChoice};
use protocol::{ChatRequest, DeltaKind, FinishReason};

use serde_json::json;

use super::{asking, calls, check, clock, function};
use crate::harness::{Rig, Told};

const SEED: u64 = 11;

/// A bias that nothing outweighs.
const ALWAYS: f32 = 100.0;

/// A family: how its models are told, and what opens and closes a call.
struct Family {
    name: &'static str,
    marks: Marks<'static>,
    open: &'static str,
    close: &'static str,
}

/// Hermes' way: Qwen 2.5's template.
const QWEN: &str = include_str!(
    "../../../../crates/chat-format/fixtures/templates/Qwen-Qwen2.5-7B-Instruct.jinja"
);
/// The same, and it thinks.
const QWEN_3: &str =
    include_str!("../../../../crates/chat-format/fixtures/templates/Qwen-Qwen3-0.6B.jinja");
const MISTRAL: &str = include_str!(
    "../../../../crates/chat-format/fixtures/templates/mistralai-Mistral-Nemo-Instruct-2407.jinja"
);
const MISTRAL_SMALL: &str = include_str!(
    "../../../../crates/chat-format/fixtures/templates/Mistral-Small-3.2-24B-Instruct-2506.jinja"
);
/// In the manner of Llama 3's, whose own has a licence of its own.
const LLAMA: &str = "{{ bos_token }}{% if tools %}<|start_header_id|>system<|end_header_id|>\n\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}Answer with {\"name\": …, \"parameters\": …}.<|eot_id|>{% endif %}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{% for call in message.tool_calls %}<|python_tag|>{{ {'name': call.function.name, 'parameters': call.function.arguments} | tojson }}{% endfor %}{{ message.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";

/// Qwen's tokens, the call's markers being control tokens.
const QWEN_CONTROLS: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
];
const MISTRAL_CONTROLS: [&str; 12] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
];
const LLAMA_CONTROLS: [&str; 6] = [
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|python_tag|>",
];

const FAMILIES: [Family; 6] = [
    Family {
        name: "qwen",
        marks: Marks {
            controls: &QWEN_CONTROLS,
            defined: &[],
            template: QWEN,
        },
        open: "<tool_call>",
        close: "</tool_call>",
    },
    Family {
        // As Qwen's own vocabularies have them: text with a meaning.
        name: "qwen-defined",
        marks: Marks {
            controls: QWEN_CONTROLS.first_chunk::<3>().expect("three"),
            defined: QWEN_CONTROLS.last_chunk::<4>().expect("four"),
            template: QWEN,
        },
        open: "<tool_call>",
        close: "</tool_call>",
    },
    Family {
        name: "qwen-3",
        marks: Marks {
            controls: &QWEN_CONTROLS,
            defined: &[],
            template: QWEN_3,
        },
        open: "<tool_call>",
        close: "</tool_call>",
    },
    Family {
        name: "mistral",
        marks: Marks {
            controls: &MISTRAL_CONTROLS,
            defined: &[],
            template: MISTRAL,
        },
        open: "[TOOL_CALLS]",
        close: "",
    },
    Family {
        // A name, a marker, arguments.
        name: "mistral-named",
        marks: Marks {
            controls: &MISTRAL_CONTROLS,
            defined: &[],
            template: MISTRAL_SMALL,
        },
        open: "[TOOL_CALLS]",
        close: "[ARGS]",
    },
    Family {
        name: "llama",
        marks: Marks {
            controls: &LLAMA_CONTROLS,
            defined: &[],
            template: LLAMA,
        },
        open: "<|python_tag|>",
        close: "",
    },
];

impl Family {
    fn rig(&self) -> Rig {
        let weights = Language::Llama.write_in(&self.marks, SEED).expect("fits");
        let file = format!("seeded-calls-{}.gguf", self.name);
        Rig::with(LlamaOptions {
            slots: 1,
            context_tokens: Some(4096),
            ..LlamaOptions::new(crate::vision::file(&file, &weights.to_bytes()))
        })
    }

    /// A bias on tokens.
    fn biased(&self, biases: &[(&str, f32)], request: ChatRequest) -> ChatRequest {
        let bias = |&(mark, bias)| LogitBias {
            token: self.marks.id(mark).expect("a mark"),
            bias,
        };
        ChatRequest {
            max_tokens: Some(600),
            sampling: Sampling {
                logit_bias: biases.iter().map(bias).collect(),
                ..request.sampling
            },
            ..request
        }
    }

    /// So many calls were made, each told piece by piece and as its schema wants it, and nothing of a marker was told.
    fn check(&self, told: &Told, count: usize) {
        let name = self.name;
        let reason = told.finished().0;
        assert_eq!(reason, FinishReason::ToolCalls, "{name}: {}", told.text);
        let made = calls(told);
        assert_eq!(made.len(), count, "{name}: {}", told.text);
        made.iter().for_each(check);
        let pieces = told
            .advances
            .iter()
            .filter(|advance| advance.kind == DeltaKind::ToolCall && !advance.bytes.is_empty());
        assert!(pieces.count() > count, "{name}: {:?}", told.pieces);
        for mark in self.marks.controls.iter().chain(self.marks.defined) {
            assert!(!told.text.contains(mark), "{name}: {}", told.text);
        }
    }
}

/// What was told of one kind.
fn of_kind(told: &Told, kind: DeltaKind) -> String {
    let advances = told.advances.iter().filter(|advance| advance.kind == kind);
    let texts = advances.map(|advance| std::str::from_utf8(&advance.bytes).expect("text"));
    texts.collect()
}

/// No argument is free text: there, a marker's characters would be characters like any others, and a bias that nothing
/// outweighs would put them in.
pub(super) fn forecast() -> Tool {
    Tool {
        name: "forecast".to_owned(),
        description: Some("The weather of the next days".to_owned()),
        parameters: Some(json!({
            "type": "object",
            "properties": {
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 1, "maxItems": 3}
            },
            "required": ["unit", "days"],
            "additionalProperties": false
        })),
    }
}

/// With tools that have no free text.
fn plain(request: ChatRequest) -> ChatRequest {
    ChatRequest {
        tools: vec![forecast(), clock()],
        ..request
    }
}

/// One call, and no more.
fn one(choice: ToolChoice) -> ChatRequest {
    ChatRequest {
        parallel_tool_calls: Some(false),
        ..asking(choice)
    }
}

#[test]
fn each_family_makes_the_call_that_it_must() {
    for family in &FAMILIES {
        let mut rig = family.rig();
        for choice in [ToolChoice::Required, function("clock")] {
            let told = rig.ask(family.biased(&[], one(choice.clone())));
            family.check(&told, 1);
            assert_eq!(of_kind(&told, DeltaKind::Text), "", "{}", family.name);
            if let ToolChoice::Function { name } = choice {
                assert_eq!(calls(&told)[0].name, name);
            }
        }
    }
}

#[test]
fn a_call_that_begins_with_a_marker_is_held_from_the_marker_on() {
    for family in &FAMILIES {
        let mut rig = family.rig();
        // Without any bias it writes letters for ever.
        let mut request = family.biased(&[], one(ToolChoice::Auto));
        request.max_tokens = Some(30);
        let told = rig.ask(request);
        assert_eq!(told.finished().0, FinishReason::Length, "{}", family.name);
        assert!(told.text.chars().all(|c| c.is_ascii_lowercase()));
        let request = family.biased(&[(family.open, ALWAYS)], plain(one(ToolChoice::Auto)));
        let told = rig.ask(request);
        family.check(&told, 1);
        assert_eq!(of_kind(&told, DeltaKind::Text), "", "{}", family.name);
    }
}

#[test]
fn text_before_a_marker_stays_text() {
    for family in &FAMILIES {
        let mut rig = family.rig();
        // The least bias with which the marker is likelier than every letter somewhere, but not at once.
        let told = (1..40).find_map(|tenths| {
            let bias = f32::from(u8::try_from(tenths).expect("small")) / 4.0;
            let request = family.biased(&[(family.open, bias)], one(ToolChoice::Auto));
            let told = rig.ask(request);
            let is_call = told.finished().0 == FinishReason::ToolCalls;
            is_call.then_some(told)
        });
        let told = told.expect("with enough of a bias it calls");
        family.check(&told, 1);
        let text = of_kind(&told, DeltaKind::Text);
        assert!(!text.is_empty(), "{}", family.name);
        assert!(text.chars().all(|c| c.is_ascii_lowercase()), "{text}");
    }
}

#[test]
fn thoughts_before_a_call_that_must_be_made_are_thoughts() {
    let family = FAMILIES.iter().find(|family| family.name == "qwen-3");
    let family = family.expect("listed");
    let mut rig = family.rig();
    // `</think>` is likelier than any letter, but before `<think>` the grammar has none.
    let biases = [("<think>", 50.0), ("</think>", ALWAYS)];
    let told = rig.ask(family.biased(&biases, plain(one(ToolChoice::Required))));
    family.check(&told, 1);
    let id = |mark| family.marks.id(mark).expect("a mark");
    assert_eq!(told.tokens[..2], [id("<think>"), id("</think>")]);
    assert_eq!(of_kind(&told, DeltaKind::Text), "");
}

#[test]
fn calls_follow_each_other_between_their_markers() {
    let family = &FAMILIES[0];
    let mut rig = family.rig();
    let mut request = family.biased(&[(family.open, ALWAYS)], plain(asking(ToolChoice::Auto)));
    request.max_tokens = Some(2800);
    let told = rig.ask(request);
    family.check(&told, 16);
    let id = |mark| family.marks.id(mark).expect("a mark");
    let written = |mark| {
        told.tokens
            .iter()
            .filter(|token| **token == id(mark))
            .count()
    };
    // After the last call nothing is waited for.
    assert_eq!((written(family.open), written(family.close)), (16, 15));
}
