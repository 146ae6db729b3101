//! The relay as it is deployed, under plain workerd, with keys and storage of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::parts::{Part, free_port};
use crate::keys::Key;
use crate::places::Places;
use crate::process::guarded;
use crate::relay_config::{Run, Wrangler};
use crate::setup::Tools;

/// A relay that answers. Dropping it ends it.
#[derive(Debug)]
pub(super) struct OurRelay {
    /// Its process.
    pub(super) process: Part,
    /// Where it listens on loopback.
    pub(super) port: u16,
    /// What a user shows.
    pub(super) api_key: String,
    /// What a node shows.
    pub(super) node_key: String,
}

impl OurRelay {
    /// Starts it with everything it has in a folder.
    pub(super) fn start(places: &Places, tools: &Tools, folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let (api, node) = (Key::random("hg-")?, Key::random("hgn-")?);
        let vars = BTreeMap::from([
            ("AUTH_MODE".to_owned(), "keys".to_owned()),
            ("API_KEY_HASHES".to_owned(), api.hash),
            ("NODE_KEY_HASHES".to_owned(), node.hash),
        ]);
        let (persist, pages) = (folder.join("persist"), folder.join("pages"));
        for folder in [&persist, &pages] {
            fs::create_dir_all(folder)?;
        }
        copy_worker(&places.worker(), folder)?;
        let wrangler = Wrangler::read(&places.root.join("wrangler.toml"))?;
        let config = wrangler.workerd_config(&Run {
            listen: &format!("127.0.0.1:{port}"),
            persist: &persist,
            pages: &pages,
            vars: &vars,
            from_environment: &[],
        })?;
        let mut process = start_workerd(tools, folder, &config)?;
        process.wait_for_http(port, "/health")?;
        Ok(Self {
            process,
            port,
            api_key: api.secret,
            node_key: node.secret,
        })
    }

    /// Host and port.
    pub(super) fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Copies a built Worker, so that a build does not change one that runs.
pub(super) fn copy_worker(from: &Path, to: &Path) -> Result<()> {
    for name in ["index.js", "index_bg.wasm"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

/// Starts workerd with a configuration.
pub(super) fn start_workerd(tools: &Tools, folder: &Path, config: &str) -> Result<Part> {
    let path = folder.join("config.capnp");
    fs::write(&path, config)?;
    let mut command = guarded(&tools.workerd);
    command.arg("serve").arg(&path);
    Part::start(folder, "workerd", &mut command)
}
