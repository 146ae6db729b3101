//! What can be wrong with a catalog, and where.

use thiserror::Error;

/// A fault and the line it is on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("catalog line {line}: {fault}")]
pub struct CatalogError {
    /// The line in the text that was parsed; the first line is 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: CatalogFault,
}

/// One thing that is wrong with a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogFault {
    /// Not TOML, an unknown field or word, a missing field, or a value of the wrong type: TOML's own sentence.
    #[error("{0}")]
    Toml(String),
    /// An id that could not stand in a URL, a metric or a file name.
    #[error(
        "`{0}` is no id: use 1 to 64 lower-case letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    BadId(String),
    /// The same id twice. Tiers and models share one space, since `model` in a request may be either.
    #[error("the id `{0}` is already taken")]
    DuplicateId(String),
    /// There is nothing to offer.
    #[error("there is no tier")]
    NoTier,
    /// `active_preset` names none of the presets.
    #[error("there is no preset `{0}`")]
    UnknownPreset(String),
    /// A tier without models.
    #[error("tier `{0}` names no model")]
    EmptyTier(String),
    /// A tier names a model that is not in the file.
    #[error("tier `{tier}` names the model `{model}`, which is not in the catalog")]
    UnknownModel {
        /// The tier.
        tier: String,
        /// What it names.
        model: String,
    },
    /// A tier names a model twice.
    #[error("tier `{tier}` names the model `{model}` twice")]
    RepeatedModel {
        /// The tier.
        tier: String,
        /// What it names.
        model: String,
    },
    /// A text that people read is empty.
    #[error("`{0}` is empty")]
    EmptyText(&'static str),
    /// A list that must name something names nothing.
    #[error("`{0}` names nothing")]
    EmptyList(&'static str),
    /// A list names something twice.
    #[error("`{0}` names something twice")]
    RepeatedItem(&'static str),
    /// A number that must be above zero.
    #[error("`{0}` is 0")]
    Zero(&'static str),
    /// A model that chats needs a chat template.
    #[error("model `{0}` can `chat` but its `chat_template` is \"none\"")]
    ChatWithoutTemplate(String),
    /// Models of the category vision are those with the capability.
    #[error(
        "model `{0}` is of the category `vision` without the capability, or the other way round"
    )]
    VisionMismatch(String),
    /// A model with files must say how much memory it needs.
    #[error("model `{0}` lists files, so it needs `ram_bytes` and `vram_bytes`")]
    MemoryUnknown(String),
    /// A file from nowhere, or from two places.
    #[error("a file needs either `url` or `pip`, not both")]
    OneSource,
    /// A URL that is not https.
    #[error("`{0}` is no https address")]
    BadUrl(String),
    /// A package's name, version or member that could leave the folder it belongs in.
    #[error("`{0}` is no plain package name, version or path inside a package")]
    BadPackage(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("`{0}` is no SHA-256: write 64 lower-case hexadecimal digits")]
    BadSha256(String),
    /// Nobody said under what terms the model may be used.
    #[error("model `{0}` has no licence")]
    NoLicence(String),
    /// A licence with no name or with two.
    #[error("a licence needs either `spdx` or `name`, not both")]
    OneLicenceName,
    /// The terms of a file we fetch must be readable somewhere.
    #[error("model `{0}` lists files, so its licence needs a `url`")]
    LicenceWithoutUrl(String),
    /// A shape that cannot be.
    #[error("more layers have a window than there are layers")]
    WindowLayers,
}
