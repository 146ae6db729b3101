//! What can be written on the command line. No decisions, only names, help and limits.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::gpu::Gpu;

/// The most chats at once that a relay takes from one node.
const SLOTS_MAX: i64 = 256;

/// Docker takes names of 255 bytes; ours get something in front and behind.
const NAME_BYTES_MAX: usize = 64;

/// What somebody who sees this for the first time does first.
const FIRST_STEPS: &str = "First steps:
  heliograph doctor --relay wss://relay.example --key-file node.key    what is missing here
  heliograph up rig --relay wss://relay.example --key-file node.key --model auto
  heliograph ps
The node key comes from whoever runs the relay.";

/// Runs Heliograph nodes in containers, looks after them, and chats with a network.
#[derive(Debug, Parser)]
#[command(name = "heliograph", version, after_help = FIRST_STEPS)]
pub(crate) struct Arguments {
    /// Write JSON to standard output: one object, or one a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Settings for all commands [default: ~/.config/heliograph/config.toml, where it is]
    #[arg(long, global = true, env = "HELIOGRAPH_CONFIG", value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node
    #[command(subcommand)]
    Up(Up),
    /// List the nodes on this machine
    Ps,
    /// Show what nodes write
    Logs(LogsOptions),
    /// Show what nodes use
    Stats(StatsOptions),
    /// Take no new work, finish what runs, then stop
    Drain(NamesOptions),
    /// Drain, then remove: the container, and the network with the last one
    Down(DownOptions),
    /// Replace nodes by those of a newer image, and go back if the new ones are not healthy
    Update(UpdateOptions),
    /// Say what is wrong on this machine, and how to mend it
    Doctor(DoctorOptions),
    /// Chat with a network in the terminal
    Chat(ChatOptions),
    /// Print completions for a shell
    ///
    /// For all users: `heliograph completions bash | sudo tee /etc/bash_completion.d/heliograph`.
    Completions {
        /// Which
        shell: Shell,
    },
}

/// A kind of node.
#[derive(Debug, Subcommand)]
pub(crate) enum Up {
    /// A rig: language models with llama.cpp
    Rig(Box<RigOptions>),
    /// A render node (not there yet)
    Render,
}

/// Which network a rig serves, and as whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct NetworkFlags {
    /// The relay: `wss://relay.example`
    #[arg(long, env = "HELIOGRAPH_RELAY", value_name = "URL")]
    pub(crate) relay: Option<String>,
    /// A file that holds the node key; or set `HELIOGRAPH_KEY`
    #[arg(long, value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Which image a rig has.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageFlags {
    /// What computes; found out unless said
    #[arg(long, value_enum)]
    pub(crate) gpu: Option<Gpu>,
    /// The image; picked by the graphics card unless said
    #[arg(long, env = "HELIOGRAPH_IMAGE", value_name = "REFERENCE")]
    pub(crate) image: Option<String>,
    /// Where images come from, if not from this machine: `registry.example/heliograph`
    #[arg(long, env = "HELIOGRAPH_REGISTRY", value_name = "PREFIX")]
    pub(crate) registry: Option<String>,
}

/// How long a rig may take to become healthy.
#[derive(Debug, Clone, Args)]
pub(crate) struct Patience {
    /// Give up on a rig that gets nowhere for this long: the same state, and no new bytes
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stall_seconds: u32,
    /// Give up after this long even on one that gets on, such as a download
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200)]
    pub(crate) wait_seconds: u32,
}

/// How to run a rig.
#[derive(Debug, Clone, Args)]
pub(crate) struct RigOptions {
    #[command(flatten)]
    pub(crate) serves: NetworkFlags,
    /// An entry of the relay's catalog, or `auto`: the best one that fits this machine
    #[arg(long, env = "HELIOGRAPH_MODEL", value_name = "ID")]
    pub(crate) model: Option<String>,
    /// A GGUF file of this machine, instead of a download
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    pub(crate) model_file: Option<PathBuf>,
    /// What it is called, here and on the network
    #[arg(long, default_value = "rig", value_parser = name)]
    pub(crate) name: String,
    /// Chats at once [default: 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=SLOTS_MAX))]
    pub(crate) slots: Option<u32>,
    #[command(flatten)]
    pub(crate) image: ImageFlags,
    /// Pull the image even if it is here
    #[arg(long)]
    pub(crate) pull: bool,
    /// Processor cores that it may use, such as 1.5 [default: all]
    #[arg(long, value_name = "COUNT", value_parser = cores)]
    pub(crate) cpus: Option<f64>,
    /// Memory that it may use, such as 16g [default: nine tenths of the machine's]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) memory: Option<i64>,
    /// How long answers may go on after it was asked to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(..=3_600))]
    pub(crate) drain_seconds: u32,
    /// The network of Docker's that it joins: a name, or `host` [default: one of our own]
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// The volume with downloaded models, shared by all rigs
    #[arg(long, value_name = "NAME", default_value = crate::rigs::VOLUME)]
    pub(crate) volume: String,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// Run the program itself, without Docker: on a Mac, no container reaches the graphics card
    #[arg(long)]
    pub(crate) native: bool,
    /// With --native: the program [default: `rig` beside this one, or on the search path]
    #[arg(long, value_name = "PATH", requires = "native")]
    pub(crate) program: Option<PathBuf>,
    /// Further flags of the rig itself, after `--`; never a key
    #[arg(last = true, value_name = "FLAGS")]
    pub(crate) flags: Vec<String>,
}

/// Which nodes.
#[derive(Debug, Args)]
pub(crate) struct NamesOptions {
    /// Their names; all where none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Whose output, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct LogsOptions {
    /// Their names; all where none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go on as long as it writes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the last so many lines [default: all]
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
}

/// Whose numbers.
#[derive(Debug, Args)]
pub(crate) struct StatsOptions {
    /// Their names; all where none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Once, not again and again
    #[arg(long)]
    pub(crate) once: bool,
}

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct DownOptions {
    /// Their names; all where none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Also the volumes with downloaded models
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Give running answers five seconds at most; the network goes on with them elsewhere
    #[arg(long)]
    pub(crate) now: bool,
}

/// What to replace, and how.
#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Their names; all where none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Another image from now on
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) image: Option<String>,
    /// Replace even if the image is the same
    #[arg(long)]
    pub(crate) force: bool,
    /// Start the new one before the old one drains; needs room for both [default on the CPU]
    #[arg(long, conflicts_with = "in_place")]
    pub(crate) side_by_side: bool,
    /// Drain the old one first, since a card seldom has room for both [default on a graphics card]
    #[arg(long)]
    pub(crate) in_place: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    #[command(flatten)]
    pub(crate) serves: NetworkFlags,
    #[command(flatten)]
    pub(crate) image: ImageFlags,
}

/// Whom to talk to.
#[derive(Debug, Args)]
pub(crate) struct ChatOptions {
    /// The relay
    #[arg(long, env = "HELIOGRAPH_RELAY", value_name = "URL")]
    pub(crate) relay: Option<String>,
    /// A file that holds an API key; or set `HELIOGRAPH_API_KEY`
    #[arg(long, value_name = "PATH")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A tier or a model [default: the first that somebody serves]
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The longest answer
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_tokens: Option<u32>,
    /// Ask this, print the answer, and end
    #[arg(long, value_name = "PROMPT")]
    pub(crate) once: Option<String>,
}

/// A name of ours: what Docker takes, so that it needs no quoting anywhere.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = text.len() <= NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a name has letters, digits, `-`, `_` and `.`, begins with a letter or a digit, and has {NAME_BYTES_MAX} at most"
        ))
    }
}

fn cores(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(count) if (0.1..=1_024.0).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err("a number from 0.1 to 1024".to_owned()),
    }
}

/// Less cannot hold the smallest model.
const MEMORY_BYTES_MIN: i64 = 256 << 20;

fn bytes(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let (_, unit) = text.split_at(digits.len());
    let factor: i64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err("write it as 512m or 16g".to_owned()),
    };
    let bytes = digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes >= MEMORY_BYTES_MIN => Ok(bytes),
        Some(_) => Err("no model runs in less than 256m".to_owned()),
        None => Err("write it as 512m or 16g".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn rig(words: &[&str]) -> Result<RigOptions, String> {
        let all = ["heliograph", "up", "rig"].iter().chain(words);
        let arguments = Arguments::try_parse_from(all).map_err(|error| error.to_string())?;
        let Command::Up(Up::Rig(options)) = arguments.command else {
            return Err("another command".to_owned());
        };
        Ok(*options)
    }

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_goes_to_the_rig() {
        let options = rig(&["--slots", "8", "--", "--context", "4096"]).unwrap();
        assert_eq!(options.slots, Some(8));
        assert_eq!(options.flags, ["--context", "4096"]);
    }

    #[test]
    fn memory_and_cores_are_read_with_their_units_and_limits() {
        let options = rig(&["--memory", "16g", "--cpus", "1.5"]).unwrap();
        assert_eq!(options.memory, Some(16 << 30));
        assert_eq!(options.cpus, Some(1.5));
        for wrong in [
            ["--memory", "1m"],
            ["--memory", "16x"],
            ["--memory", "99999999t"],
        ] {
            assert!(rig(&wrong).unwrap_err().contains("--memory"));
        }
        for wrong in ["0", "-1", "many", "NaN"] {
            assert!(rig(&["--cpus", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_needs_quoting_is_refused() {
        for wrong in ["", "-a", "a b", "a/b", "../a", &"a".repeat(65)] {
            assert!(rig(&["--name", wrong]).is_err(), "{wrong}");
        }
        assert_eq!(rig(&["--name", "rig-2.b_c"]).unwrap().name, "rig-2.b_c");
    }

    #[test]
    fn the_key_has_no_flag_of_its_own() {
        assert!(
            rig(&["--key", "hgn-secret"]).is_err(),
            "other users can read flags"
        );
    }

    #[test]
    fn json_may_stand_behind_the_command() {
        let arguments = Arguments::try_parse_from(["heliograph", "ps", "--json"]).unwrap();
        assert!(arguments.json);
    }

    #[test]
    fn completions_know_every_command() {
        let mut out = Vec::new();
        clap_complete::generate(
            Shell::Bash,
            &mut Arguments::command(),
            "heliograph",
            &mut out,
        );
        let text = String::from_utf8(out).unwrap();
        for command in [
            "up", "ps", "logs", "stats", "drain", "down", "update", "doctor", "chat",
        ] {
            assert!(
                text.contains(&format!("heliograph,{command})")),
                "{command}"
            );
        }
    }
}
