//! What an operator sets: flags, or environment variables of the same names with `HELIOGRAPH_` before them.

mod failing;
mod models;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;
use protocol::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, NODE_SLOTS_MAX};

use crate::health::PORT;
pub use failing::{FailureFlags, GpuNeed, ON_FAILURE, OnFailure};
pub use models::{CacheFlags, ModelFlags};

use crate::engine::embed::Pooling;
use crate::engine::llama::CacheType;
use crate::engine::tuning::PROMPT_BATCH_MAX;

/// Shorter contexts hold no useful conversation.
pub(crate) const CONTEXT_TOKENS_MIN: u32 = 64;

/// With one slot, the conversations of a few users take turns.
pub(crate) const CACHED_CONVERSATIONS_MIN: u32 = 4;

/// The longest templates of known models have 20 KB.
const CHAT_TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The rig: runs one language model with llama.cpp and serves it to a Heliograph relay.
///
/// Ends with 0 after a drain (SIGTERM or Ctrl-C), 1 when it cannot start, 2 when a flag is wrong, 3 when the relay
/// refuses it, 4 when the engine fails, 130 at a second signal; with --on-failure stay it first stays and says why.
#[derive(Debug, Clone, Parser)]
#[command(name = "rig", version, args_override_self = true)]
pub struct Config {
    /// The relay's address: `wss://` (or `ws://` on a trusted network), without a path.
    #[arg(long, env = "HELIOGRAPH_RELAY", value_name = "URL", value_parser = parse_relay)]
    pub relay: RelayUrl,

    /// This node's key, `hgn-…`. Better in the environment: other users of this machine can read flags.
    #[arg(long, env = "HELIOGRAPH_KEY", value_name = "KEY", hide_env_values = true, value_parser = any_key)]
    pub key: Option<NodeKey>,

    /// Which model, and where it lies.
    #[command(flatten)]
    pub models: ModelFlags,

    /// Jobs at once.
    #[arg(long, env = "HELIOGRAPH_SLOTS", value_name = "COUNT", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(NODE_SLOTS_MAX)))]
    pub slots: u32,

    /// Tokens of prompt and answer together, for each slot [default: 8192, or less if the model was trained for less].
    #[arg(long, env = "HELIOGRAPH_CONTEXT", value_name = "TOKENS",
        value_parser = clap::value_parser!(u32).range(i64::from(CONTEXT_TOKENS_MIN)..))]
    pub context: Option<u32>,

    /// Threads that compute. More than there are free cores is much slower than fewer [default: found by a short run at start].
    #[arg(long, env = "HELIOGRAPH_THREADS", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,

    /// Prompt tokens per step at most [default: found by a short run at start].
    #[arg(long, env = "HELIOGRAPH_BATCH", value_name = "TOKENS",
        value_parser = clap::value_parser!(u32).range(16..=i64::from(PROMPT_BATCH_MAX)))]
    pub batch: Option<u32>,

    /// How the cache holds its numbers; `q8_0` takes about half the memory and is a little less exact.
    #[arg(
        long,
        env = "HELIOGRAPH_CACHE_TYPE",
        value_name = "TYPE",
        value_enum,
        default_value = "f16"
    )]
    pub cache_type: CacheType,

    /// Finished conversations that stay in the cache, so that their follow-ups are quick. They share the slots' context
    /// and give way to running jobs. 0 keeps none [default: as many as slots, but at least 4].
    #[arg(long, env = "HELIOGRAPH_CACHED_CONVERSATIONS", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=i64::from(NODE_SLOTS_MAX)))]
    pub cached_conversations: Option<u32>,

    /// What lets the model see, a GGUF file (often called mmproj). Without it the model takes no images.
    #[arg(long, env = "HELIOGRAPH_PROJECTOR", value_name = "PATH")]
    pub projector: Option<PathBuf>,

    /// Also make embeddings of texts, of their tokens in this way. Embedding models need not be told.
    #[arg(
        long,
        env = "HELIOGRAPH_EMBEDDINGS",
        value_name = "POOLING",
        value_enum
    )]
    pub embeddings: Option<Pooling>,

    /// A Jinja chat template to use instead of the model file's own.
    #[arg(long, env = "HELIOGRAPH_CHAT_TEMPLATE", value_name = "PATH")]
    pub chat_template: Option<PathBuf>,

    /// This node's public name.
    #[arg(long, env = "HELIOGRAPH_NAME", value_name = "NAME", default_value = "rig", value_parser = parse_name)]
    pub name: String,

    /// After SIGTERM, wait this long for running answers.
    #[arg(
        long,
        env = "HELIOGRAPH_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub drain_seconds: u32,

    /// The local port of /healthz and /metrics (Prometheus); 0 for none.
    #[arg(long, env = "HELIOGRAPH_METRICS_PORT", value_name = "PORT", default_value_t = PORT)]
    pub metrics_port: u16,

    /// The address on which that port is. Beyond this machine, anybody who reaches it can read the numbers.
    #[arg(
        long,
        env = "HELIOGRAPH_METRICS_HOST",
        value_name = "ADDRESS",
        default_value = "127.0.0.1"
    )]
    pub metrics_host: IpAddr,

    /// What becomes of it where it cannot go on.
    #[command(flatten)]
    pub failing: FailureFlags,

    /// For tests: logs offsets and hashes of what each attempt produces.
    #[arg(long, env = "HELIOGRAPH_LOG_HASHES", hide = true)]
    pub log_hashes: bool,
}

impl Config {
    /// Checks what clap must not, since it quotes the value that it refuses.
    pub fn check(&self) -> Result<(), &'static str> {
        self.key.as_ref().map_or(Ok(()), NodeKey::check)
    }
}

impl Config {
    /// How many finished conversations stay in the cache.
    pub fn cached_conversations(&self) -> u32 {
        cached_conversations(self.cached_conversations, self.slots)
    }

    /// The template that replaces the model file's own.
    pub fn read_chat_template(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.chat_template else {
            return Ok(None);
        };
        let bytes = std::fs::metadata(path).map(|file| file.len());
        let text = match bytes {
            Ok(bytes) if bytes > CHAT_TEMPLATE_BYTES_MAX => {
                bail!(
                    "--chat-template: {} is no template: it has {bytes} bytes",
                    path.display()
                )
            }
            Ok(_) => std::fs::read_to_string(path),
            Err(error) => Err(error),
        };
        let text =
            text.with_context(|| format!("--chat-template: cannot read {}", path.display()))?;
        Ok(Some(text))
    }
}

/// How many finished conversations are kept, where the operator may have said.
pub(crate) fn cached_conversations(wanted: Option<u32>, slots: u32) -> u32 {
    wanted.unwrap_or(slots.max(CACHED_CONVERSATIONS_MIN))
}

/// A relay's WebSocket address for nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayUrl {
    url: String,
    is_private: bool,
}

impl RelayUrl {
    /// The address to connect to.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Reads an address as an operator writes it.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse_relay(text)
    }

    /// The relay's HTTP address with this path.
    pub fn http(&self, path: &str) -> String {
        let root = self.url.trim_end_matches("/node");
        let address = root.strip_prefix("ws").unwrap_or(root);
        format!("http{address}{path}")
    }

    /// Whether what is sent cannot be read on the way: TLS, or this machine.
    pub const fn is_private(&self) -> bool {
        self.is_private
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A node key; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey(String);

impl NodeKey {
    /// Takes over what an operator wrote, whatever it is.
    pub fn parse(text: &str) -> Result<Self, std::convert::Infallible> {
        any_key(text)
    }

    /// Whether it can be a key. Says so without quoting it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self(key) = self;
        if !key.starts_with("hgn-") {
            return Err("--key: a node key begins with hgn-");
        }
        if key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("--key: that is no node key; it has spaces, is not ASCII or is too long");
        }
        Ok(())
    }

    /// The key itself, for the one header that carries it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(hgn-…)")
    }
}

fn parse_relay(text: &str) -> Result<RelayUrl, String> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("write it as wss://relay.example or ws://127.0.0.1:8787")?;
    let scheme = match scheme {
        "wss" | "https" => "wss",
        "ws" | "http" => "ws",
        _ => return Err("the scheme must be wss or ws".to_owned()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err(
            "no user name or password belongs here; the key has a flag of its own".to_owned(),
        );
    }
    if authority.is_empty() || authority.contains(['?', '#', ' ']) {
        return Err("there is no host in it".to_owned());
    }
    if !path.is_empty() && path != "node" {
        return Err("give the relay's address without a path; /node is added".to_owned());
    }
    let host = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(
            || authority.split(':').next().unwrap_or(authority),
            |(host, _)| host,
        );
    let is_loopback = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    Ok(RelayUrl {
        url: format!("{scheme}://{authority}/node"),
        is_private: scheme == "wss" || is_loopback,
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the shape of clap's value parsers"
)]
fn any_key(text: &str) -> Result<NodeKey, std::convert::Infallible> {
    Ok(NodeKey(text.trim().to_owned()))
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!("it must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(extra: &[&str]) -> Result<Config, String> {
        let base = [
            "rig",
            "--model",
            "m",
            "--model-file",
            "/m.gguf",
            "--key",
            "hgn-abc",
        ];
        Config::try_parse_from(base.iter().chain(extra)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flags_are_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_model_is_an_id_a_path_an_address_or_auto() {
        let named = |model: &str| {
            let flags = ["--relay", "ws://x", "--model", model];
            parse(&flags).map(|config| config.models.model)
        };
        assert_eq!(named("auto"), Ok(model_files::Named::Auto));
        assert_eq!(
            named("./a.gguf"),
            Ok(model_files::Named::Path("./a.gguf".into()))
        );
        let error = named("http://models.example/a.gguf").expect_err("refused");
        assert!(error.contains("https://"), "{error}");
        let error = parse(&["--relay", "ws://x", "--sha256", "12"]).expect_err("refused");
        assert!(error.contains("64 hexadecimal"), "{error}");
    }

    #[test]
    fn a_relay_address_gets_its_path() {
        for (given, url, is_private) in [
            ("ws://127.0.0.1:8787", "ws://127.0.0.1:8787/node", true),
            ("ws://[::1]:1/", "ws://[::1]:1/node", true),
            ("https://relay.example", "wss://relay.example/node", true),
            ("ws://relay.example/node", "ws://relay.example/node", false),
        ] {
            let config = parse(&["--relay", given]).expect("valid");
            assert_eq!(config.relay.as_str(), url);
            assert_eq!(config.relay.is_private(), is_private, "{given}");
        }
    }

    #[test]
    fn a_wrong_relay_address_is_explained() {
        for (given, says) in [
            ("127.0.0.1:8787", "write it as"),
            ("ftp://x", "scheme"),
            ("ws://", "no host"),
            ("ws://x/other", "without a path"),
            ("wss://me:secret@x", "flag of its own"),
        ] {
            let error = parse(&["--relay", given]).expect_err("refused");
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let config = parse(&["--relay", "ws://x"]).expect("valid");
        assert!(!format!("{config:?}").contains("abc"));
        assert_eq!(config.check(), Ok(()));
        let config = parse(&["--relay", "ws://x", "--key", "secret"]).expect("parsed");
        let error = config.check().expect_err("refused");
        assert!(error.contains("hgn-") && !error.contains("secret"));
    }

    #[test]
    fn numbers_have_limits() {
        for flags in [
            ["--slots", "0"],
            ["--slots", "257"],
            ["--context", "1"],
            ["--threads", "0"],
        ] {
            let error = parse(&["--relay", "ws://x", flags[0], flags[1]]).expect_err("refused");
            assert!(error.contains(flags[0]), "{error}");
        }
    }
}
