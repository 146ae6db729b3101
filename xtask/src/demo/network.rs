//! The parts of a running network: one relay, some rigs, their folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Options, Via};
use crate::artefacts::files_below;
use crate::console::{Step, say};
use crate::http::{Request, ask};
use crate::keys::Key;
use crate::places::Places;
use crate::process::{self, Running, guarded, guarded_with_children};
use crate::relay_config::{Run, Wrangler};
use crate::setup::{ModelFile, Tools, fresh_folder};

/// How long the relay may take to answer, and then the rigs to serve. A busy laptop loads a model slowly.
const START_MAX: Duration = Duration::from_mins(2);

/// How much of a log is repeated when its writer dies.
const LOG_TAIL_LINES: usize = 25;

/// What the folder of a failed run is called, and how long it stays.
const KEPT: &str = "kept-";
const KEPT_MAX: Duration = Duration::from_hours(24);

/// A program of the network.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) running: Running,
    log: PathBuf,
    reported: bool,
}

/// A running network. Dropping it kills its programs.
pub(super) struct Network {
    pub(super) parts: Vec<Part>,
    pub(super) port: u16,
    pub(super) api_key: String,
    pub(super) node_key: String,
    pub(super) model: ModelFile,
    pub(super) rig_binary: PathBuf,
    pub(super) relay_command: Vec<String>,
    pub(super) tools: Tools,
    folder: PathBuf,
    slots_expected: u64,
    keep: bool,
}

impl Network {
    /// Starts the relay, and the rigs once it listens.
    pub(super) fn start(places: &Places, tools: &Tools, options: &Options) -> Result<Self> {
        let port = free_port(options.port)?;
        let folder = run_folder(places)?;
        let mut network = Self {
            parts: Vec::new(),
            port,
            api_key: String::new(),
            node_key: String::new(),
            model: tools.model.clone(),
            rig_binary: places.rig().join("rig"),
            relay_command: Vec::new(),
            tools: tools.clone(),
            folder,
            slots_expected: u64::from(options.rigs) * u64::from(options.slots),
            keep: options.keep,
        };
        for folder in [network.persist(), network.logs()] {
            fs::create_dir_all(&folder)?;
        }
        network.start_relay(places, options)?;
        network.wait_for("the relay", Self::relay_answers)?;
        for number in 1..=options.rigs {
            network.start_rig(number, options)?;
        }
        Ok(network)
    }

    /// Where the relay keeps its storage.
    pub(super) fn persist(&self) -> PathBuf {
        self.folder.join("persist")
    }

    /// Where everybody's output goes.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    fn start_relay(&mut self, places: &Places, options: &Options) -> Result<()> {
        let api = Key::random("hg-")?;
        let node = Key::random("hgn-")?;
        let listen = format!("127.0.0.1:{}", self.port);
        let mut vars = BTreeMap::from([
            ("AUTH_MODE".to_owned(), "open".to_owned()),
            ("BIND_ADDRESS".to_owned(), listen.clone()),
            ("API_KEY_HASHES".to_owned(), api.hash),
            ("NODE_KEY_HASHES".to_owned(), node.hash),
        ]);
        (self.api_key, self.node_key) = (api.secret, node.secret);
        if let Some(lease_ms) = options.lease_ms {
            vars.insert("LEASE_MS".to_owned(), lease_ms.to_string());
        }
        let mut command = match options.via {
            Via::Workerd => {
                let worker = if options.fault_injection {
                    places.faulty_worker()
                } else {
                    places.worker()
                };
                self.workerd(places, &worker, &listen, &vars)?
            }
            Via::Wrangler => self.wrangler(places, &vars)?,
        };
        self.start_part("relay", &mut command)
    }

    /// Plain workerd with its own copy of the Worker and the pages, so that a build does not change a running relay.
    fn workerd(
        &mut self,
        places: &Places,
        worker: &Path,
        listen: &str,
        vars: &BTreeMap<String, String>,
    ) -> Result<Command> {
        let folder = self.folder.join("relay");
        let pages = folder.join("pages");
        for path in files_below(&places.pages())? {
            copy_into(&pages, &places.pages(), &path)?;
        }
        for name in ["index.js", "index_bg.wasm"] {
            copy_into(&folder, worker, &worker.join(name))?;
        }
        let wrangler = Wrangler::read(&places.root.join("wrangler.toml"))?;
        let config = wrangler.workerd_config(&Run {
            listen,
            persist: &self.persist(),
            pages: &pages,
            vars,
            from_environment: &[],
        })?;
        let path = folder.join("config.capnp");
        fs::write(&path, config)?;
        let words = [self.tools.workerd.as_path(), Path::new("serve"), &path];
        self.relay_command = words
            .iter()
            .map(|word| word.display().to_string())
            .collect();
        let mut command = guarded(&self.tools.workerd);
        command.arg("serve").arg(&path);
        Ok(command)
    }

    /// `wrangler dev`. Its own workerd runs in the same process group and ends with it.
    fn wrangler(&mut self, places: &Places, vars: &BTreeMap<String, String>) -> Result<Command> {
        let mut command = guarded_with_children(self.tools.node());
        command
            .arg(self.tools.wrangler())
            .args(["dev", "--local", "--ip", "127.0.0.1"])
            .args(["--port", &self.port.to_string()])
            .args(["--inspector-port", &free_port(0)?.to_string()])
            .args(["--show-interactive-dev-session", "false"])
            .arg("--persist-to")
            .arg(self.persist());
        for (name, value) in vars {
            command.args(["--var", &format!("{name}:{value}")]);
        }
        command
            .current_dir(&places.root)
            .env("PATH", self.tools.search_path()?)
            .env("WRANGLER_SEND_METRICS", "false")
            .env("WRANGLER_LOG_PATH", self.logs())
            .env("CI", "1")
            // Everything is built already; wrangler.toml's build command has nothing to do.
            .env(crate::BUILT, "1");
        Ok(command)
    }

    fn start_rig(&mut self, number: u32, options: &Options) -> Result<()> {
        let name = format!("rig-{number}");
        let mut command = guarded(&self.rig_binary);
        command
            .args(["--relay", &format!("ws://127.0.0.1:{}", self.port)])
            .args(["--model", &self.model.id])
            .arg("--model-file")
            .arg(&self.model.path)
            .args(["--slots", &options.slots.to_string()])
            .args(["--threads", &options.cpu_threads.to_string()])
            .args(["--name", &name])
            // By environment and not by argument: arguments are readable by every user of the machine.
            // Several rigs on one machine would fight for the one port.
            .env("HELIOGRAPH_METRICS_PORT", "0")
            .env("HELIOGRAPH_KEY", &self.node_key);
        self.start_part(&name, &mut command)
    }

    fn start_part(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = self.logs().join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        self.parts.push(Part {
            name: name.to_owned(),
            running: Running::start(command)?,
            log,
            reported: false,
        });
        Ok(())
    }

    /// Waits until every rig's slots are on offer.
    pub(super) fn wait_until_serving(&mut self) -> Result<()> {
        if self.slots_expected == 0 {
            return Ok(());
        }
        self.wait_for("the model", Self::rigs_serve)
    }

    fn wait_for(&mut self, what: &str, is_there: fn(&Self) -> bool) -> Result<()> {
        let mut step = Step::begin(format!("{what} is up"));
        let deadline = Instant::now() + START_MAX;
        while !is_there(self) {
            step.tick();
            if process::interrupted() {
                bail!("interrupted");
            }
            let complaint = self.complaint()?;
            if complaint.is_some() || Instant::now() > deadline {
                step.failed();
                self.keep_folder();
                bail!(complaint.unwrap_or_else(|| format!(
                    "{what} was not up after {} s; logs: {}",
                    START_MAX.as_secs(),
                    self.logs().display()
                )));
            }
            thread::sleep(process::POLL);
        }
        step.done_quietly();
        Ok(())
    }

    fn relay_answers(&self) -> bool {
        ask(self.port, "/health", &Request::default()).is_ok_and(|response| response.status == 200)
    }

    fn rigs_serve(&self) -> bool {
        let request = Request {
            key: Some(&self.api_key),
            json: None,
        };
        let Ok(text) = ask(self.port, "/v1/models", &request).and_then(crate::http::Response::text)
        else {
            return false;
        };
        slots_available(&text, &self.model.id) >= self.slots_expected
    }

    /// What to say about a part that ended since the last time.
    pub(super) fn complaint(&mut self) -> Result<Option<String>> {
        for part in &mut self.parts {
            if part.reported {
                continue;
            }
            if let Some(status) = part.running.ended()? {
                part.reported = true;
                let log = fs::read(&part.log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(LOG_TAIL_LINES);
                let tail = lines.get(from..).unwrap_or_default().join("\n");
                return Ok(Some(format!("{} ended ({status})\n{tail}", part.name)));
            }
        }
        Ok(None)
    }

    /// What a person wants to know.
    pub(super) fn summary(&self) -> String {
        let Self {
            port,
            api_key,
            node_key,
            ..
        } = self;
        let model = &self.model.id;
        let logs = self.logs();
        format!(
            "\nHeliograph is up.\n\n\
             \x20 chat       http://127.0.0.1:{port}/\n\
             \x20 API        http://127.0.0.1:{port}/v1   key {api_key}\n\
             \x20 logs       {}\n\n\
             \x20 curl -N http://127.0.0.1:{port}/v1/chat/completions \\\n\
             \x20   -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\\n\
             \x20   -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": \
             [{{\"role\": \"user\", \"content\": \"Name three primary colours.\"}}]}}'\n\n\
             Another rig:\n\
             \x20 HELIOGRAPH_KEY={node_key} build/rig/rig --relay ws://127.0.0.1:{port} --name rig-9 \\\n\
             \x20   --model {model} --model-file {}\n\n\
             Ctrl-C ends it.",
            logs.display(),
            self.model.path.display()
        )
    }

    /// Leaves the storage and the logs to be looked at.
    pub(super) fn keep_folder(&mut self) {
        self.keep = true;
    }

    /// Ends the rigs, then the relay, so that rigs can say goodbye; then clears up.
    pub(super) fn end(mut self) {
        for part in &mut self.parts {
            if part.name != "relay" {
                part.running.ask_to_end();
            }
        }
        while let Some(part) = self.parts.pop() {
            part.running.end();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.parts.clear();
        if self.keep {
            // Under a name of its own, or the next run would clear it up as a dead process's.
            let kept = self
                .folder
                .with_file_name(format!("{KEPT}{}", std::process::id()));
            _ = fs::remove_dir_all(&kept);
            if fs::rename(&self.folder, &kept).is_ok() {
                say(&format!("kept {}", kept.display()));
            }
        } else {
            _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// How many slots `/v1/models` offers for a model.
pub(crate) fn slots_available(models: &str, id: &str) -> u64 {
    let Ok(answer) = serde_json::from_str::<Value>(models) else {
        return 0;
    };
    let list = answer.get("data").and_then(Value::as_array);
    let entry = list
        .into_iter()
        .flatten()
        .find(|entry| entry.get("id").and_then(Value::as_str) == Some(id));
    entry
        .and_then(|entry| entry.get("slots"))
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

/// A folder of this process. Those of processes that were killed, and kept ones that are old, are removed on the way.
fn run_folder(places: &Places) -> Result<PathBuf> {
    let runs = places.cache.join("runs");
    fs::create_dir_all(&runs)?;
    for entry in fs::read_dir(&runs)? {
        let entry = entry?;
        let name = entry.file_name();
        let dead = if name.to_string_lossy().starts_with(KEPT) {
            let age = entry.metadata()?.modified()?.elapsed();
            age.is_ok_and(|age| age > KEPT_MAX)
        } else {
            !Path::new("/proc").join(&name).exists()
        };
        if dead {
            _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = runs.join(std::process::id().to_string());
    fresh_folder(&folder)?;
    Ok(folder)
}

/// The port asked for, if nobody has it, or any for 0.
fn free_port(port: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} is taken; `--port 0` takes a free one"))?;
    Ok(listener.local_addr()?.port())
}

fn copy_into(folder: &Path, base: &Path, path: &Path) -> Result<()> {
    let target = folder.join(path.strip_prefix(base)?);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_model_asked_about() {
        let models = r#"{"data": [{"id": "a", "slots": 3}, {"id": "b", "slots": 1}]}"#;
        assert_eq!(slots_available(models, "a"), 3);
        assert_eq!(slots_available(models, "c"), 0);
        assert_eq!(slots_available("no JSON", "a"), 0);
    }
}
