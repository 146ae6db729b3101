//! Reads `wrangler.toml` and writes the same relay as a config of plain workerd.
//!
//! `wrangler dev` puts a second runtime in front that compresses every frame; plain workerd is what a self-hoster
//! runs and what the tests measure. One file says what the relay is; this is the translation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Plain workerd has no budget of messages an object but the processor: a relayed token costs about 65 µs of one core, so
/// this leaves it half of its time. Cloudflare's budget, in `wrangler.toml`, would make nodes gather deltas for nothing.
const FRAMES_PER_SECOND_MAX: (&str, &str) = ("FRAMES_PER_SECOND_MAX", "6000");

/// The part of `wrangler.toml` that we use. A key that is not listed here would be silently missing locally,
/// so it is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wrangler {
    #[serde(rename = "name")]
    _name: String,
    /// The Worker's main module.
    pub(crate) main: PathBuf,
    compatibility_date: String,
    #[serde(default)]
    compatibility_flags: Vec<String>,
    assets: Assets,
    durable_objects: DurableObjects,
    migrations: Vec<Migration>,
    /// Text bindings.
    #[serde(default)]
    pub(crate) vars: BTreeMap<String, String>,
    // What concerns deploying only.
    #[serde(rename = "build")]
    _build: Option<toml::Table>,
    #[serde(rename = "send_metrics")]
    _send_metrics: Option<bool>,
    #[serde(rename = "workers_dev")]
    _workers_dev: Option<bool>,
    #[serde(rename = "observability")]
    _observability: Option<toml::Table>,
    #[serde(rename = "routes")]
    _routes: Option<toml::Value>,
    #[serde(rename = "env")]
    _env: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assets {
    #[serde(rename = "directory")]
    _directory: PathBuf,
    binding: String,
    run_worker_first: bool,
    html_handling: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DurableObjects {
    bindings: Vec<DurableObject>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DurableObject {
    name: String,
    class_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Migration {
    #[serde(rename = "tag")]
    _tag: String,
    #[serde(default)]
    new_sqlite_classes: Vec<String>,
}

/// What a run adds to `wrangler.toml`.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Address and port on loopback.
    pub(crate) listen: &'a str,
    /// Where Durable Objects keep their storage.
    pub(crate) persist: &'a Path,
    /// The built pages.
    pub(crate) pages: &'a Path,
    /// Text bindings that replace or join those of `wrangler.toml`.
    pub(crate) vars: &'a BTreeMap<String, String>,
    /// Text bindings that workerd takes from its own environment when it starts, whatever the others say.
    pub(crate) from_environment: &'a [String],
}

impl Wrangler {
    /// Reads and checks the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads and checks the text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrangler: Self = toml::from_str(text)?;
        ensure!(
            wrangler.assets.run_worker_first,
            "assets.run_worker_first must be true: the Worker sets the pages' security headers"
        );
        ensure!(
            wrangler.assets.html_handling == "none",
            "assets.html_handling must be \"none\": a disk knows no redirects, so the Worker names files itself"
        );
        for object in &wrangler.durable_objects.bindings {
            let known = wrangler
                .migrations
                .iter()
                .any(|migration| migration.new_sqlite_classes.contains(&object.class_name));
            ensure!(
                known,
                "no migration creates the class {}",
                object.class_name
            );
        }
        Ok(wrangler)
    }

    /// The vars of the file, with what is other under plain workerd and those of a run over them.
    fn all_vars<'a>(&'a self, run: &'a Run<'_>) -> BTreeMap<&'a str, &'a str> {
        fn texts<'a>((name, value): (&'a String, &'a String)) -> (&'a str, &'a str) {
            (name, value)
        }
        let ours = self.vars.iter().map(texts);
        ours.chain([FRAMES_PER_SECOND_MAX])
            .chain(run.vars.iter().map(texts))
            .collect()
    }

    /// What the bindings are under plain workerd unless a run says otherwise.
    pub(crate) fn workerd_vars(&self) -> BTreeMap<String, String> {
        let mut vars = self.vars.clone();
        let (name, value) = FRAMES_PER_SECOND_MAX;
        vars.insert(name.to_owned(), value.to_owned());
        vars
    }

    /// Writes a config for `workerd serve`; module files are named relative to it.
    pub(crate) fn workerd_config(&self, run: &Run<'_>) -> Result<String> {
        let main = file_name(&self.main)?;
        let mut objects = String::new();
        let mut bindings = String::new();
        for object in &self.durable_objects.bindings {
            let class = quoted(&object.class_name);
            let key = quoted(&format!("heliograph-{}", object.class_name));
            writeln!(
                objects,
                "    (className = {class}, uniqueKey = {key}, enableSql = true),"
            )?;
            let name = quoted(&object.name);
            writeln!(
                bindings,
                "    (name = {name}, durableObjectNamespace = {class}),"
            )?;
        }
        let assets = quoted(&self.assets.binding);
        writeln!(bindings, "    (name = {assets}, service = \"pages\"),")?;
        for name in run.from_environment {
            let name = quoted(name);
            writeln!(bindings, "    (name = {name}, fromEnvironment = {name}),")?;
        }
        let vars = self.all_vars(run);
        let fixed = vars
            .into_iter()
            .filter(|(name, _)| !run.from_environment.iter().any(|other| other == name));
        for (name, value) in fixed {
            let (name, value) = (quoted(name), quoted(value));
            writeln!(bindings, "    (name = {name}, text = {value}),")?;
        }
        let flags: Vec<String> = self
            .compatibility_flags
            .iter()
            .map(|flag| quoted(flag))
            .collect();
        Ok(format!(
            "# Generated from wrangler.toml by xtask; do not edit.\n\
             using Workerd = import \"/workerd/workerd.capnp\";\n\n\
             const config :Workerd.Config = (\n\
             \x20 services = [\n\
             \x20   (name = \"relay\", worker = .relay),\n\
             \x20   (name = \"pages\", disk = (path = {pages})),\n\
             \x20   (name = \"store\", disk = (path = {persist}, writable = true)),\n\
             \x20   (name = \"internet\", network = (allow = [\"public\"], tlsOptions = (trustBrowserCas = true))),\n\
             \x20 ],\n\
             \x20 sockets = [(name = \"http\", address = {listen}, http = (), service = \"relay\")],\n\
             );\n\n\
             const relay :Workerd.Worker = (\n\
             \x20 modules = [\n\
             \x20   (name = {main}, esModule = embed {main}),\n\
             \x20   (name = \"index_bg.wasm\", wasm = embed \"index_bg.wasm\"),\n\
             \x20 ],\n\
             \x20 compatibilityDate = {date},\n\
             \x20 compatibilityFlags = [{flags}],\n\
             \x20 durableObjectNamespaces = [\n{objects}  ],\n\
             \x20 durableObjectStorage = (localDisk = \"store\"),\n\
             \x20 bindings = [\n{bindings}  ],\n\
             );\n",
            pages = quoted_path(run.pages)?,
            persist = quoted_path(run.persist)?,
            listen = quoted(run.listen),
            main = quoted(main),
            date = quoted(&self.compatibility_date),
            flags = flags.join(", "),
        ))
    }
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} names no file", path.display()))
}

fn quoted_path(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if path.is_absolute() => Ok(quoted(text)),
        _ => bail!("{} is not an absolute path in UTF-8", path.display()),
    }
}

/// A string of Cap'n Proto's schema language, which escapes as C does.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../wrangler.toml");

    fn config(vars: &[(&str, &str)]) -> String {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let run = Run {
            listen: "127.0.0.1:8787",
            persist: Path::new("/run/persist"),
            pages: Path::new("/clone/build/pages"),
            vars: &vars,
            from_environment: &[],
        };
        Wrangler::parse(OURS).unwrap().workerd_config(&run).unwrap()
    }

    #[test]
    fn every_object_flag_and_var_of_wrangler_toml_reaches_workerd() {
        let text = config(&[]);
        for part in [
            r#"(name = "POOL", durableObjectNamespace = "Pool")"#,
            r#"(className = "Pool", uniqueKey = "heliograph-Pool", enableSql = true)"#,
            r#""no_web_socket_compression", "enable_request_signal""#,
            r#"(name = "AUTH_MODE", text = "keys")"#,
            r#"(name = "ASSETS", service = "pages")"#,
            r#"address = "127.0.0.1:8787""#,
            r#"disk = (path = "/run/persist", writable = true)"#,
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn a_runs_var_replaces_the_files() {
        let text = config(&[("AUTH_MODE", "open"), ("EXTRA", "a\"b\\c\nd")]);
        assert!(text.contains(r#"(name = "AUTH_MODE", text = "open")"#));
        assert!(!text.contains(r#"text = "keys""#));
        assert!(text.contains(r#"(name = "EXTRA", text = "a\"b\\c\nd")"#));
    }

    #[test]
    fn plain_workerd_takes_more_frames_than_a_platform_that_counts_them() {
        assert!(OURS.contains("FRAMES_PER_SECOND_MAX = \"1000\""));
        assert!(config(&[]).contains(r#"(name = "FRAMES_PER_SECOND_MAX", text = "6000")"#));
        let text = config(&[("FRAMES_PER_SECOND_MAX", "50")]);
        assert!(text.contains(r#"(name = "FRAMES_PER_SECOND_MAX", text = "50")"#));
    }

    #[test]
    fn a_key_that_workerd_would_not_get_is_refused() {
        let text = format!("kv_namespaces = []\n{OURS}");
        let error = Wrangler::parse(&text).unwrap_err().to_string();
        assert!(error.contains("kv_namespaces"), "{error}");
    }

    #[test]
    fn a_class_without_a_migration_is_refused() {
        let text = OURS.replace("new_sqlite_classes = [\"Pool\"]", "");
        assert!(Wrangler::parse(&text).is_err());
    }
}
