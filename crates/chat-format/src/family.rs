//! Families of models: how they mark what they think, and how they write tool calls.
//!
//! A model's template says it: whoever wrote the template wrote it for the markers that the model was trained on.

use crate::template::ChatTemplate;

/// A pair of markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Markers {
    /// Stands before.
    pub open: &'static str,
    /// Stands after.
    pub close: &'static str,
}

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// JSON between markers, one call or a list of them.
    Tagged {
        /// The marker before.
        open: &'static str,
        /// The marker after; empty where there is none.
        close: &'static str,
        /// Whether the model writes a list, also of one.
        is_list: bool,
    },
    /// A name, a marker, arguments: `[TOOL_CALLS]name[ARGS]{…}`.
    Named,
    /// JSON with the keys of a call, with or without a marker before.
    Bare {
        /// The marker that may stand before; empty where there is none.
        tag: &'static str,
        /// What arguments are called.
        arguments: &'static str,
    },
    /// In a way that is not known here: such calls stay text, and nobody can be made to call.
    Unknown,
}

/// Mistral's marker before calls.
pub(crate) const MISTRAL_OPEN: &str = "[TOOL_CALLS]";
/// Mistral's marker between a name and its arguments.
pub(crate) const MISTRAL_ARGUMENTS: &str = "[ARGS]";
/// Mistral's marker between a name and an id.
pub(crate) const MISTRAL_ID: &str = "[CALL_ID]";

const THINK: Markers = Markers {
    open: "<think>",
    close: "</think>",
};
const MAGISTRAL: Markers = Markers {
    open: "[THINK]",
    close: "[/THINK]",
};

/// What a model writes beside plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    /// Around what it thinks; `None` where it does not.
    pub reasoning: Option<Markers>,
    /// Its calls.
    pub calls: Calls,
}

impl Syntax {
    /// Reads it off a template; `has_token` says whether the vocabulary has a token of this very spelling.
    pub fn detect(template: &str, has_token: impl Fn(&str) -> bool) -> Self {
        let names = |text: &str| template.contains(text);
        let marks = |markers: &Markers| {
            names(markers.open)
                || names(markers.close)
                || (has_token(markers.open) && has_token(markers.close))
        };
        let reasoning = [THINK, MAGISTRAL].into_iter().find(marks);
        let tagged = |open, close, is_list| Calls::Tagged {
            open,
            close,
            is_list,
        };
        let calls = if names(MISTRAL_OPEN) && names(MISTRAL_ARGUMENTS) {
            Calls::Named
        } else if names(MISTRAL_OPEN) {
            tagged(MISTRAL_OPEN, "", true)
        } else if names("<TOOLCALL>") {
            tagged("<TOOLCALL>", "</TOOLCALL>", true)
        } else if names("<|tool_call|>") && names("<|/tool_call|>") {
            tagged("<|tool_call|>", "<|/tool_call|>", true)
        } else if names("<|tool_call|>") {
            tagged("<|tool_call|>", "", true)
        } else if names("<function=") || names("<arg_key>") {
            // XML: of Qwen3-Coder and its like, and of GLM.
            Calls::Unknown
        } else if names("<tool_call>") {
            tagged("<tool_call>", "</tool_call>", false)
        } else if names("<|python_tag|>") || names("<|start_header_id|>") {
            Calls::Bare {
                tag: "<|python_tag|>",
                arguments: "parameters",
            }
        } else {
            Calls::Bare {
                tag: "",
                arguments: "arguments",
            }
        };
        Self { reasoning, calls }
    }

    /// Reads it off a template that is known to work.
    pub fn of(template: &ChatTemplate, has_token: impl Fn(&str) -> bool) -> Self {
        let syntax = Self::detect(template.source(), has_token);
        if template.abilities().tools {
            syntax.of_showing_tools()
        } else {
            syntax
        }
    }

    /// The same, for a template that shows tools to the model by itself: where it names no known marks, it teaches a way
    /// to call that is not known here.
    #[must_use]
    pub fn of_showing_tools(self) -> Self {
        let calls = match self.calls {
            Calls::Bare { tag: "", .. } => Calls::Unknown,
            Calls::Tagged { .. } | Calls::Named | Calls::Bare { .. } | Calls::Unknown => self.calls,
        };
        Self { calls, ..self }
    }

    /// Spellings that mean something. Where the vocabulary has one as a control token, its text is needed.
    pub fn markers(&self) -> Vec<&'static str> {
        let calls: &[&str] = match &self.calls {
            Calls::Tagged { open, close, .. } => &[*open, *close],
            Calls::Named => &[MISTRAL_OPEN, MISTRAL_ARGUMENTS, MISTRAL_ID],
            Calls::Bare { tag, .. } => &[*tag],
            Calls::Unknown => &[],
        };
        let reasoning = self.reasoning.iter().flat_map(|it| [it.open, it.close]);
        let all = reasoning.chain(calls.iter().copied());
        all.filter(|marker| !marker.is_empty()).collect()
    }

    /// Whether calls can be told as calls.
    pub const fn can_call(&self) -> bool {
        match self.calls {
            Calls::Tagged { .. } | Calls::Named | Calls::Bare { .. } => true,
            Calls::Unknown => false,
        }
    }

    /// Whether a rendered prompt leaves the model in the middle of its thoughts.
    pub fn thinks_at_once(&self, prompt: &str) -> bool {
        self.reasoning
            .is_some_and(|markers| prompt.trim_end().ends_with(markers.open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(template: &str) -> Calls {
        Syntax::detect(template, |_| false).calls
    }

    // The fragments are of the templates of Qwen2.5-7B-Instruct, Mistral-7B-Instruct-v0.3, Mistral-Small-3.2, Llama-3.1,
    // Phi-4-mini and SmolLM2 (`chat_template` of their tokenizer_config.json).
    #[test]
    fn a_template_names_its_family() {
        assert!(matches!(
            calls("<tool_call>\\n{\\\"name\\\": <function-name>"),
            Calls::Tagged {
                open: "<tool_call>",
                is_list: false,
                ..
            }
        ));
        assert!(matches!(
            calls("{{- \"[TOOL_CALLS] [\" }}"),
            Calls::Tagged {
                open: "[TOOL_CALLS]",
                close: "",
                is_list: true
            }
        ));
        assert_eq!(calls("'[TOOL_CALLS]' + name + '[ARGS]'"), Calls::Named);
        assert!(matches!(
            calls("<|start_header_id|>"),
            Calls::Bare {
                arguments: "parameters",
                ..
            }
        ));
        assert_eq!(calls("<tool_call>\n<function=name>"), Calls::Unknown);
        assert!(matches!(
            calls("<|tool_call|>…<|/tool_call|>"),
            Calls::Tagged { is_list: true, .. }
        ));
        assert!(matches!(
            calls("<|im_start|>"),
            Calls::Bare {
                tag: "",
                arguments: "arguments"
            }
        ));
    }

    /// The templates themselves, as their makers published them.
    #[test]
    fn real_templates_are_known() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/templates/");
        let detect = |name: &str| {
            let source = std::fs::read_to_string(format!("{fixtures}{name}.jinja"));
            let template =
                ChatTemplate::new(source.ok(), crate::template::SpecialTokens::default())
                    .expect("usable");
            Syntax::of(&template, |_| false)
        };
        let tagged = |open, close, is_list| Calls::Tagged {
            open,
            close,
            is_list,
        };
        let hermes = tagged("<tool_call>", "</tool_call>", false);
        let generic = Calls::Bare {
            tag: "",
            arguments: "arguments",
        };
        for (name, calls, reasoning) in [
            ("Qwen-Qwen2.5-7B-Instruct", hermes, None),
            ("Qwen-Qwen3-0.6B", hermes, Some(THINK)),
            ("Qwen-QwQ-32B", hermes, Some(THINK)),
            ("ibm-granite-granite-4.0", hermes, None),
            (
                "ibm-granite-granite-3.3-2B-Instruct",
                tagged("<|tool_call|>", "", true),
                Some(THINK),
            ),
            (
                "mistralai-Mistral-Nemo-Instruct-2407",
                tagged("[TOOL_CALLS]", "", true),
                None,
            ),
            ("Mistral-Small-3.2-24B-Instruct-2506", Calls::Named, None),
            ("unsloth-mistral-Devstral-Small-2507", Calls::Named, None),
            (
                "mistralai-Ministral-3-14B-Reasoning-2512",
                Calls::Named,
                Some(MAGISTRAL),
            ),
            ("SmolLM2-135M-Instruct", generic, None),
            ("microsoft-Phi-3.5-mini-instruct", generic, None),
            ("Qwen3-Coder", Calls::Unknown, None),
            ("ByteDance-Seed-OSS", Calls::Unknown, None),
            ("GLM-4.6", Calls::Unknown, Some(THINK)),
            ("Apertus-8B-Instruct", Calls::Unknown, None),
            ("openai-gpt-oss-120b", Calls::Unknown, None),
        ] {
            let syntax = detect(name);
            assert_eq!(
                (syntax.calls, syntax.reasoning),
                (calls, reasoning),
                "{name}"
            );
        }
    }

    #[test]
    fn reasoning_is_known_by_the_template_or_by_both_tokens() {
        let reasoning = |template: &str, tokens: &[&str]| {
            Syntax::detect(template, |token| tokens.contains(&token)).reasoning
        };
        assert_eq!(reasoning("{{ '<think>\\n' }}", &[]), Some(THINK));
        assert_eq!(reasoning("x.split('</think>')", &[]), Some(THINK));
        assert_eq!(reasoning("", &["<think>", "</think>"]), Some(THINK));
        assert_eq!(reasoning("", &["<think>"]), None);
        assert_eq!(reasoning("[THINK]", &[]), Some(MAGISTRAL));
    }

    #[test]
    fn a_prompt_may_end_in_thought() {
        let syntax = Syntax::detect("<think>", |_| false);
        assert!(syntax.thinks_at_once("<|im_start|>assistant\n<think>\n"));
        // Qwen3 with `enable_thinking=False`.
        assert!(!syntax.thinks_at_once("<|im_start|>assistant\n<think>\n\n</think>\n\n"));
    }
}
