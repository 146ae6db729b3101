//! Which rules a `tokenizer.ggml.pre` names, and what else llama.cpp reads from it.

use super::split::Rules;

/// What follows from the name of a pre-tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pre {
    pub(super) rules: Rules,
    /// A word that is a token is that token, whatever its merges would make of it.
    pub(super) ignores_merges: bool,
    /// Whether a text begins with BOS where the file says nothing.
    pub(super) adds_bos: bool,
    /// Whether token 11 is BOS where the file names none.
    pub(super) has_bos: bool,
}

impl Pre {
    const fn new(rules: Rules) -> Self {
        Self {
            rules,
            ignores_merges: false,
            adds_bos: false,
            has_bos: true,
        }
    }

    /// By the table in llama.cpp's `llama_vocab::impl::load`; `None` for names whose rules are not known here.
    ///
    /// Each set of rules is held against llama.cpp with a real vocabulary (`tests/golden.rs`): default, GPT-2, `SmolLM`,
    /// Llama 3, Qwen 2 (of Qwen 3) and 3.5, Tekken, GPT-4o. Untested are the families that only share rules with those:
    /// GLM, `ChatGLM`, `DBRX`, Falcon 3, LFM 2, Command R, `StarCoder`, `StableLM` 2, Hunyuan, Grok 2, Llama 4, `MiniMax`,
    /// `OLMo`, EXAONE, Jina and the other names below.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "" | "default" => Self::new(Rules::Default),
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral"
            | "midm-2.0" | "lfm2" | "jina-v5-nano" => Self {
                ignores_merges: true,
                adds_bos: true,
                ..Self::new(Rules::Llama3)
            },
            "dbrx" | "smaug-bpe" => Self::new(Rules::Llama3),
            "chatglm-bpe" => Self {
                has_bos: false,
                ..Self::new(Rules::Llama3)
            },
            "glm4" | "glm5" => Self {
                has_bos: false,
                ignores_merges: true,
                ..Self::new(Rules::Llama3)
            },
            "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es"
            | "jina-v2-de" | "a.x-4.0" | "mellum" | "modern-bert" | "mpt" | "olmo" | "jais"
            | "trillion" | "granite-docling" | "exaone4" | "jina-v1-en" | "jina-v2-code"
            | "roberta-bpe" => Self::new(Rules::Gpt2),
            "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone"
            | "minerva-7b" | "mellum2" => Self::new(Rules::Smollm),
            "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez" | "stablelm2"
            | "hunyuan" | "solar-open" | "grok-2" => Self::new(Rules::Qwen2),
            "qwen35" => Self::new(Rules::Qwen35),
            "tekken" => Self {
                ignores_merges: true,
                adds_bos: true,
                ..Self::new(Rules::Tekken)
            },
            "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => Self::new(Rules::Gpt4o),
            _ => return None,
        })
    }
}
