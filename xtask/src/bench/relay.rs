//! `bench relay`: the relay as it is deployed, under fake nodes and fake users.
//!
//! ```text
//! load ──▶ workerd: our Worker ◀── fake-node     each chat on a node of its own, then eight chats a node;
//!                                                users over WebSocket, then over HTTP streaming
//! load ──▶ workerd: echo                         the platform's floor: one message in, one out; over two sockets,
//!                                                and over two for each chat
//! load ──▶ SMG, nginx, nothing ──▶ fake-backend  the same tokens through other relays
//! ```
//! Every row of a round runs alone, one after the other, with programs of its own; the best round counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::build;
use super::machine;
use super::ours::{OurRelay, copy_worker, start_workerd};
use super::parts::{Folder, Part, free_port, load};
use super::peers::{Installed, Peer, install};
use super::scenario::Scenario;
use super::table::{Row, draw, is_whole};
use crate::artefacts;
use crate::console::{print, say};
use crate::places::Places;
use crate::process::{guarded, interrupted};
use crate::setup::{Purpose, Tools, setup};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// One object of JSON with every round's figures instead of tables
    #[arg(long)]
    json: bool,
    /// These only; all of them otherwise
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Whom to measure beside us; `--peers` alone means nobody
    #[arg(long, value_enum, num_args = 0.., value_delimiter = ',', default_values = ["direct", "smg", "nginx"])]
    peers: Vec<Peer>,
    /// How often everything is run
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// How users come, as the load client calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    Socket,
    Http,
}

/// One row.
#[derive(Debug)]
enum Subject {
    Echo,
    EchoPairs,
    Relay { users: Users, chats_a_node: u32 },
    Peer(Installed),
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Echo => "echo".to_owned(),
            Self::EchoPairs => "echo, two sockets a chat".to_owned(),
            Self::Peer(installed) => installed.peer.name().to_owned(),
            Self::Relay {
                users,
                chats_a_node,
            } => {
                let users = match users {
                    Users::Socket => "WebSocket",
                    Users::Http => "HTTP",
                };
                format!("Heliograph, {users}, {chats_a_node} a node")
            }
        }
    }
}

/// Everything that is built and installed.
struct Stage<'a> {
    places: &'a Places,
    tools: &'a Tools,
    programs: PathBuf,
    echo: PathBuf,
}

/// Measures and prints.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let tools = setup(places, Purpose::Demo)?;
    if std::env::var_os(crate::BUILT).is_none() {
        artefacts::build_worker_and_pages(places, &tools)?;
    }
    let stage = Stage {
        places,
        tools: &tools,
        programs: build::programs(places)?,
        echo: build::echo(places, &tools)?,
    };
    let subjects = subjects(install(places, &options.peers));
    let scenarios = match &options.scenario[..] {
        [] => &Scenario::ALL[..],
        chosen => chosen,
    };
    let mut all = BTreeMap::new();
    for &scenario in scenarios {
        let rows = measure(&stage, scenario, &subjects, options.rounds)?;
        if options.json {
            let rows: BTreeMap<String, Vec<Value>> =
                rows.into_iter().map(|row| (row.name, row.rounds)).collect();
            all.insert(scenario.name(), rows);
        } else {
            print(&draw(scenario, &rows))?;
        }
    }
    if options.json {
        print(&format!(
            "{}\n",
            json!({ "machine": machine(), "scenarios": all })
        ))?;
    } else {
        print(&format!("\n{}\n", machine()))?;
    }
    Ok(())
}

fn subjects(peers: Vec<Installed>) -> Vec<Subject> {
    let ours = [
        (Users::Socket, 1),
        (Users::Socket, 8),
        (Users::Http, 1),
        (Users::Http, 8),
    ];
    let ours = ours.map(|(users, chats_a_node)| Subject::Relay {
        users,
        chats_a_node,
    });
    let peers = peers.into_iter().map(Subject::Peer);
    [Subject::Echo, Subject::EchoPairs]
        .into_iter()
        .chain(ours)
        .chain(peers)
        .collect()
}

/// Rounds go round all rows, so that whatever else the machine does meets all alike.
fn measure(
    stage: &Stage<'_>,
    scenario: Scenario,
    subjects: &[Subject],
    rounds: u32,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = subjects
        .iter()
        .map(|subject| Row {
            name: subject.name(),
            rounds: Vec::new(),
        })
        .collect();
    for round in 1..=rounds {
        for (subject, row) in subjects.iter().zip(&mut rows) {
            if interrupted() {
                bail!("interrupted");
            }
            let figures = stage.measure(scenario, subject)?;
            let mark = if is_whole(&figures) {
                ""
            } else {
                ": tokens are missing"
            };
            say(&format!(
                "  {} {round}/{rounds} {}{mark}",
                scenario.name(),
                row.name
            ));
            row.rounds.push(figures);
        }
    }
    Ok(rows)
}

impl Stage<'_> {
    fn measure(&self, scenario: Scenario, subject: &Subject) -> Result<Value> {
        let folder = Folder::new(&self.places.cache)?;
        match subject {
            Subject::Echo => self.measure_echo(&folder.0, scenario, "echo"),
            Subject::EchoPairs => self.measure_echo(&folder.0, scenario, "echo-pairs"),
            Subject::Relay {
                users,
                chats_a_node,
            } => self.measure_relay(&folder.0, scenario, *users, *chats_a_node),
            Subject::Peer(peer) => self.measure_peer(&folder.0, scenario, peer),
        }
    }

    fn measure_echo(&self, folder: &Path, scenario: Scenario, users: &str) -> Result<Value> {
        let port = free_port()?;
        copy_worker(&self.echo, folder)?;
        let mut relay = start_workerd(self.tools, folder, &echo_config(port))?;
        relay.wait_for_http(port, "/health")?;
        self.load(port, scenario, users, &relay, "", "")
    }

    fn measure_relay(
        &self,
        folder: &Path,
        scenario: Scenario,
        users: Users,
        chats_a_node: u32,
    ) -> Result<Value> {
        let relay = OurRelay::start(self.places, self.tools, folder)?;
        let listen = relay.listen();
        let model = &self.tools.model.id;
        let mut command = guarded(self.programs.join("fake-node"));
        command
            .args(["--address", &listen, "--model", model])
            .args([
                "--nodes",
                &scenario.chats().div_ceil(chats_a_node).to_string(),
            ])
            .args(["--slots", &chats_a_node.to_string()])
            .env("HELIOGRAPH_KEY", &relay.node_key);
        let mut nodes = Part::start(folder, "nodes", &mut command)?;
        nodes.wait_until("the nodes", |nodes| nodes.said().contains("READY"))?;
        let users = match users {
            Users::Socket => "socket",
            Users::Http => "http",
        };
        self.load(
            relay.port,
            scenario,
            users,
            &relay.process,
            model,
            &relay.api_key,
        )
    }

    fn measure_peer(&self, folder: &Path, scenario: Scenario, peer: &Installed) -> Result<Value> {
        let backend_port = free_port()?;
        let mut command = guarded(self.programs.join("fake-backend"));
        command.args(["--port", &backend_port.to_string()]);
        let mut backend = Part::start(folder, "backend", &mut command)?;
        backend.wait_for_http(backend_port, "/health")?;
        let (port, relay) = peer.start(folder, backend_port)?;
        // Nothing stands between in the direct row, so nothing is charged for.
        match relay {
            Some(relay) => self.load(port, scenario, "http", &relay, "mock", "sk-bench"),
            None => self.users(port, scenario, "http", None, "mock", "sk-bench"),
        }
    }

    fn load(
        &self,
        port: u16,
        scenario: Scenario,
        users: &str,
        charged: &Part,
        model: &str,
        key: &str,
    ) -> Result<Value> {
        self.users(port, scenario, users, Some(charged), model, key)
    }

    /// A warm-up of two seconds, so that no row pays for a compiler or a first connection; then the run that counts. The
    /// runtime compiles our megabyte of WebAssembly a second time while it runs, which a relay that stays up pays once.
    fn users(
        &self,
        port: u16,
        scenario: Scenario,
        users: &str,
        charged: Option<&Part>,
        model: &str,
        key: &str,
    ) -> Result<Value> {
        let program = self.programs.join("load");
        let mut common = vec!["--users".to_owned(), users.to_owned()];
        if !model.is_empty() {
            common.extend(["--model".to_owned(), model.to_owned()]);
        }
        let chats = scenario.chats().min(20).to_string();
        let warm_up = [
            "--chats",
            &chats,
            "--tokens",
            "400",
            "--interval-us",
            "5000",
        ];
        let arguments: Vec<String> = common
            .iter()
            .cloned()
            .chain(warm_up.map(ToOwned::to_owned))
            .collect();
        load(&program, port, &arguments, key)?;
        let mut arguments = common;
        arguments.extend(scenario.arguments());
        if let Some(part) = charged {
            arguments.extend(["--pid".to_owned(), part.id().to_string()]);
        }
        load(&program, port, &arguments, key)
    }
}

/// The echo under plain workerd, with the flags that the relay has.
fn echo_config(port: u16) -> String {
    format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
         \x20 services = [(name = \"echo\", worker = .echo)],\n\
         \x20 sockets = [(name = \"http\", address = \"127.0.0.1:{port}\", http = (), service = \"echo\")],\n\
         );\n\
         const echo :Workerd.Worker = (\n\
         \x20 modules = [\n\
         \x20   (name = \"index.js\", esModule = embed \"index.js\"),\n\
         \x20   (name = \"index_bg.wasm\", wasm = embed \"index_bg.wasm\"),\n\
         \x20 ],\n\
         \x20 compatibilityDate = \"2026-10-01\",\n\
         \x20 compatibilityFlags = [\"no_web_socket_compression\", \"no_websocket_standard_binary_type\"],\n\
         \x20 durableObjectNamespaces = [(className = \"Echo\", uniqueKey = \"echo\", enableSql = true)],\n\
         \x20 durableObjectStorage = (inMemory = void),\n\
         \x20 bindings = [(name = \"ECHO\", durableObjectNamespace = \"Echo\")],\n\
         );\n"
    )
}
