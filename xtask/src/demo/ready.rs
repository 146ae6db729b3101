//! The ready file: what another program needs to use, drive and break this network.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::network::Network;

/// Writes it in one step: a reader sees all of it or nothing. It holds keys, so only the owner may read it.
pub(super) fn write(path: &Path, network: &Network) -> Result<()> {
    let pids: Map<String, Value> = network
        .parts
        .iter()
        .map(|part| (part.name.clone(), part.running.id().into()))
        .collect();
    let text = json!({
        "relay": format!("http://127.0.0.1:{}", network.port),
        "api_key": network.api_key,
        "node_key": network.node_key,
        "persist": network.persist(),
        "logs": network.logs(),
        "pids": pids,
        "model": network.model.id,
        "model_file": network.model.path,
        "rig_binary": network.rig_binary,
        "relay_command": network.relay_command,
        "node": network.tools.node(),
        "node_modules": network.tools.node_modules,
        "python": network.tools.python,
    });
    let partial = path.with_extension("partial");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    file.write_all(text.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
