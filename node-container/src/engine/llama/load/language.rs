//! How a model is talked to: by its template, its vocabulary and what its file says.

use chat_format::family::Syntax;
use chat_format::template::{ChatTemplate, SpecialTokens, TemplateError};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use super::options::LlamaOptions;
use crate::engine::embed::Pooling;
use crate::engine::vocabulary::Vocabulary;

/// How the model makes vectors of texts, if it does.
pub(super) fn pooling(model: &LlamaModel, options: &LlamaOptions) -> Option<Pooling> {
    options.embeddings.or_else(|| {
        let architecture = model.meta_val_str("general.architecture").ok()?;
        let number = model.meta_val_str(&format!("{architecture}.pooling_type"));
        Pooling::of_number(&number.ok()?)
    })
}

/// Whether nobody can talk to the model.
pub(super) fn makes_vectors_only(model: &LlamaModel, options: &LlamaOptions) -> bool {
    pooling(model, options).is_some()
        && options.chat_template.is_none()
        && model.meta_val_str("tokenizer.chat_template").is_err()
}

/// The template that the operator gave, or the model file's own.
pub(in crate::engine::llama) fn chat_template(
    model: &LlamaModel,
    options: &LlamaOptions,
) -> Result<ChatTemplate, TemplateError> {
    let given = options.chat_template.clone();
    let source = given.or_else(|| model.meta_val_str("tokenizer.chat_template").ok());
    let special = special_tokens(model, source.as_deref().unwrap_or_default());
    ChatTemplate::new(source, special)
}

/// What the model writes beside plain text, by its template and its vocabulary.
pub(in crate::engine::llama) fn syntax(model: &LlamaModel, template: &ChatTemplate) -> Syntax {
    let syntax = detect(model, template.source());
    if template.abilities().tools {
        syntax.of_showing_tools()
    } else {
        syntax
    }
}

fn detect(model: &LlamaModel, template: &str) -> Syntax {
    let vocab = model.vocab();
    Syntax::detect(template, |spelling| {
        vocab.tokenize(spelling.as_bytes(), false, true).len() == 1
    })
}

/// What each token writes: control tokens nothing, but for the markers of the model's syntax.
pub(in crate::engine::llama) fn vocabulary(model: &LlamaModel, syntax: &Syntax) -> Vocabulary {
    let vocab = model.vocab();
    let markers = syntax.markers();
    vocab
        .tokens()
        .map(|token| {
            let is_marker = vocab.is_control(token)
                && markers
                    .iter()
                    .any(|marker| vocab.token_to_piece(token, true, None) == marker.as_bytes());
            vocab.token_to_piece(token, is_marker, None)
        })
        .collect()
}

/// What the template writes for tokens, and what nobody else may spell.
fn special_tokens(model: &LlamaModel, template: &str) -> SpecialTokens {
    let vocab = model.vocab();
    let text = |token: LlamaToken| {
        // llama.cpp writes -1 for a token that the vocabulary lacks.
        (token.0 >= 0)
            .then(|| vocab.text(token))
            .flatten()
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let named = vocab.tokens().filter_map(|token| {
        let text = text(token);
        // Some models have markers like `<tool_call>` as ordinary tokens with a meaning.
        let is_marker = || {
            text.starts_with(['<', '['])
                && template.contains(&text)
                && vocab.attr(token).contains(LlamaTokenAttr::UserDefined)
        };
        (!text.is_empty() && (vocab.is_control(token) || is_marker())).then_some(text)
    });
    // Others are known from the vocabulary alone: the template need not name what only the model writes.
    let markers = detect(model, template).markers();
    let control = named.chain(markers.into_iter().map(ToOwned::to_owned));
    SpecialTokens {
        bos: text(vocab.bos()),
        eos: text(vocab.eos()),
        control: control.collect(),
    }
}
