//! How a model is talked to: by its template, its vocabulary and what its file says.

use chat_format::family::Syntax;
use chat_format::template::{ChatTemplate, SpecialTokens, Spelling, TemplateError};
use chat_format::vocabulary::Vocabulary;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use super::options::LlamaOptions;
use crate::engine::embed::Pooling;

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
    Syntax::of(template, has_token(model))
}

/// Whether the vocabulary has a token of this very spelling.
fn has_token(model: &LlamaModel) -> impl Fn(&str) -> bool {
    let vocab = model.vocab();
    move |spelling| vocab.tokenize(spelling.as_bytes(), false, true).len() == 1
}

/// What each token writes: control tokens nothing, but for the markers of the model's syntax.
pub(in crate::engine::llama) fn vocabulary(model: &LlamaModel, syntax: &Syntax) -> Vocabulary {
    let vocab = model.vocab();
    let tokens: Vec<LlamaToken> = vocab.tokens().collect();
    let token = |id: u32| tokens.get(usize::try_from(id).ok()?).copied();
    Vocabulary::of(
        u32::try_from(tokens.len()).unwrap_or(u32::MAX),
        syntax,
        |id| token(id).is_some_and(|token| vocab.is_control(token)),
        |id, special| token(id).map_or_else(Vec::new, |it| vocab.token_to_piece(it, special, None)),
    )
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
    let tokens = vocab.tokens().map(|token| Spelling {
        text: text(token),
        is_control: vocab.is_control(token),
        is_defined: vocab.attr(token).contains(LlamaTokenAttr::UserDefined),
    });
    let syntax = Syntax::detect(template, has_token(model));
    let ends = (text(vocab.bos()), text(vocab.eos()));
    SpecialTokens::of(template, &syntax, ends, tokens)
}
