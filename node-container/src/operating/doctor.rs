//! `rig doctor`: looks at everything that a rig needs, says what is wrong, and how to mend it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use crate::config::{NodeKey, RelayUrl};
use crate::console;
use crate::health::{self, Health, PORT};
use crate::models::RoomFlags;

mod local;
mod relay;

/// The word after `rig`.
pub const COMMAND: &str = "doctor";

/// Looks at GPU, driver, memory, processor, clock, disk, relay and key, and says how to mend what is wrong.
///
/// Ends with 0 when a rig can run here, with 1 when something keeps it from running.
#[derive(Debug, Parser)]
#[command(name = "rig doctor")]
struct Options {
    /// The relay's address, as for `rig`; without it, the network is not looked at.
    #[arg(long, env = "HELIOGRAPH_RELAY", value_name = "URL", value_parser = RelayUrl::parse)]
    relay: Option<RelayUrl>,

    /// This node's key. Better in the environment: other users of this machine can read flags.
    #[arg(long, env = "HELIOGRAPH_KEY", value_name = "KEY", hide_env_values = true, value_parser = NodeKey::parse)]
    key: Option<NodeKey>,

    /// A model file that is to fit.
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    model_file: Option<PathBuf>,

    /// What turns pictures into tokens beside it.
    #[arg(long, env = "HELIOGRAPH_PROJECTOR", value_name = "PATH")]
    projector: Option<PathBuf>,

    #[command(flatten)]
    room: RoomFlags,

    /// Where models are kept [default: heliograph/models in the user's cache folder].
    #[arg(long, env = "HELIOGRAPH_CACHE", value_name = "PATH")]
    cache: Option<PathBuf>,

    /// Threads that are to compute.
    #[arg(long, env = "HELIOGRAPH_THREADS", value_name = "COUNT")]
    threads: Option<usize>,

    /// The port of a rig that runs here.
    #[arg(long, env = "HELIOGRAPH_METRICS_PORT", value_name = "PORT", default_value_t = PORT)]
    metrics_port: u16,

    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Grade {
    /// As it should be.
    Ok,
    /// A rig runs, but not as well as it could, or this could not be looked at.
    Warning,
    /// No rig runs like this.
    Bad,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    grade: Grade,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            grade: Grade::Ok,
            found: found.into(),
            mend: None,
        }
    }

    fn warning(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what,
            grade: Grade::Warning,
            found: found.into(),
            mend: Some(mend.into()),
        }
    }

    fn bad(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            grade: Grade::Bad,
            ..Self::warning(what, found, mend)
        }
    }

    fn line(&self) -> String {
        let word = match self.grade {
            Grade::Ok => "ok     ",
            Grade::Warning => "warning",
            Grade::Bad => "BAD    ",
        };
        let mend = self.mend.as_ref();
        let mend = mend.map_or_else(String::new, |mend| format!("\n                   → {mend}"));
        format!("{word}  {:<10}{}{mend}", self.what, self.found)
    }
}

/// Runs with these arguments, the first of which is its name.
pub fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    let findings = look(&options);
    let is_bad = findings.iter().any(|finding| finding.grade == Grade::Bad);
    if options.json {
        let report = serde_json::json!({ "ok": !is_bad, "findings": findings });
        console::say(&report.to_string());
    } else {
        for finding in &findings {
            console::say(&finding.line());
        }
    }
    ExitCode::from(u8::from(is_bad))
}

fn look(options: &Options) -> Vec<Finding> {
    let mut findings = local::devices();
    let health = health::ask(options.metrics_port).ok();
    let wanted = local::Wanted {
        file: options.model_file.as_deref(),
        projector: options.projector.as_deref(),
        room: &options.room,
        is_loaded: health.as_ref().is_some_and(has_model),
    };
    findings.push(local::memory(&wanted));
    findings.push(local::processor(options.threads));
    findings.push(local::disk(&cache_folder(options.cache.as_deref())));
    findings.push(running(options.metrics_port, health));
    match &options.relay {
        Some(relay) => findings.extend(relay::look(relay, options.key.as_ref())),
        None => findings.push(Finding::warning(
            "relay",
            "no address was given",
            "give it as --relay wss://relay.example, and the key in HELIOGRAPH_KEY",
        )),
    }
    findings
}

fn cache_folder(given: Option<&Path>) -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    given.map_or_else(
        || {
            let base = from("XDG_CACHE_HOME").map(PathBuf::from);
            let base = base.or_else(|| Some(PathBuf::from(from("HOME")?).join(".cache")));
            base.unwrap_or_else(std::env::temp_dir)
                .join("heliograph/models")
        },
        Path::to_path_buf,
    )
}

/// Whether what runs here has its model in memory, or is about to: then what is free is what that leaves.
fn has_model(health: &Health) -> bool {
    let word = health.says.split(':').next().unwrap_or_default();
    ["loading", "connecting", "ready", "draining"].contains(&word)
}

/// Whether a rig runs on this machine, and how it is.
fn running(port: u16, health: Option<Health>) -> Finding {
    match health {
        Some(health) if health.is_healthy => {
            Finding::ok("rig", format!("one runs here and is ready (port {port})"))
        }
        Some(health) => Finding::warning(
            "rig",
            format!("one runs here and is not ready: {}", health.says),
            "look into its log",
        ),
        None => Finding::ok("rig", format!("none answers on port {port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_how_to_mend_it() {
        let finding = Finding::bad("disk", "full", "delete something");
        let line = finding.line();
        assert!(line.starts_with("BAD") && line.contains("full"));
        assert!(line.ends_with("→ delete something"));
        assert!(!Finding::ok("disk", "fine").line().contains('→'));
    }

    #[test]
    fn a_rig_that_runs_has_its_model_unless_it_fetches_it_or_cannot_go_on() {
        for (says, has) in [
            ("ready", true),
            ("connecting", true),
            ("fetching: model.gguf, 1 B, 0 B/s", false),
            ("broken: the file is wrong", false),
        ] {
            let health = Health {
                is_healthy: has,
                says: says.to_owned(),
            };
            assert_eq!(has_model(&health), has, "{says}");
        }
    }

    #[test]
    fn a_key_never_shows() {
        let arguments = ["rig doctor", "--key", "hgn-secret"];
        let options = Options::try_parse_from(arguments).unwrap();
        assert!(!format!("{options:?}").contains("secret"));
    }
}
