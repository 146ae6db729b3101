//! Other relays, on the same machine in the same run: SMG (a gateway for inference servers) and nginx. One that cannot
//! be installed is left out, and named.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::parts::{Part, free_port};
use crate::console::say;
use crate::places::Places;
use crate::process::guarded;
use crate::setup::peers::{nginx, smg};

/// Whom to measure beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// No relay: the load client and the backend alone
    Direct,
    /// Shepherd Model Gateway
    Smg,
    /// A plain streaming reverse proxy
    Nginx,
}

/// A peer that is there.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) peer: Peer,
    program: PathBuf,
}

/// Installs what is wanted, once.
pub(super) fn install(places: &Places, wanted: &[Peer]) -> Vec<Installed> {
    let mut installed = Vec::new();
    for &peer in wanted {
        let program = match peer {
            Peer::Direct => Ok(PathBuf::new()),
            Peer::Smg => smg(places),
            Peer::Nginx => nginx(),
        };
        match program {
            Ok(program) => installed.push(Installed { peer, program }),
            Err(error) => say(&format!("left out: {} ({error:#})", peer.name())),
        }
    }
    installed
}

impl Peer {
    /// As the table calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Smg => "SMG",
            Self::Nginx => "nginx",
        }
    }
}

impl Installed {
    /// Starts it before the backend; the port to ask, and the process unless there is none.
    pub(super) fn start(&self, folder: &Path, backend: u16) -> Result<(u16, Option<Part>)> {
        match self.peer {
            Peer::Direct => Ok((backend, None)),
            Peer::Smg => self.start_smg(folder, backend),
            Peer::Nginx => self.start_nginx(folder, backend),
        }
    }

    fn start_smg(&self, folder: &Path, backend: u16) -> Result<(u16, Option<Part>)> {
        let (port, metrics) = (free_port()?, free_port()?);
        let mut command = guarded(&self.program);
        command
            .args(["-m", "smg.launch_router", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .args(["--worker-urls", &format!("http://127.0.0.1:{backend}")])
            .args(["--policy", "round_robin", "--log-level", "warn"])
            .args(["--prometheus-host", "127.0.0.1"])
            .args(["--prometheus-port", &metrics.to_string()])
            .env("HF_HUB_OFFLINE", "1")
            .current_dir(folder);
        let mut running = Part::start(folder, "smg", &mut command)?;
        running.wait_for_http(port, "/readiness")?;
        Ok((port, Some(running)))
    }

    fn start_nginx(&self, folder: &Path, backend: u16) -> Result<(u16, Option<Part>)> {
        let port = free_port()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(folder, port, backend))?;
        let mut command = guarded(&self.program);
        command
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.join("nginx.error"));
        let mut running = Part::start(folder, "nginx", &mut command)?;
        running.wait_for_http(port, "/health")?;
        Ok((port, Some(running)))
    }
}

fn nginx_config(folder: &Path, port: u16, backend: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes auto;\npid {folder}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         \x20 access_log off; tcp_nodelay on;\n\
         \x20 client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n\
         \x20 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         \x20 upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; }}\n\
         \x20 server {{\n\
         \x20   listen 127.0.0.1:{port};\n\
         \x20   location / {{\n\
         \x20     proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         \x20     proxy_buffering off; proxy_read_timeout 300s;\n\
         \x20   }}\n\
         \x20 }}\n}}\n"
    )
}
