//! What a rig's container may do: as little as it needs. Pure, so that a test can read all of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use reqwest::Url;

use crate::gpu::Gpu;
use crate::rigs;
use crate::secret::Secret;

/// The account inside the image (`Dockerfile`).
pub(crate) const USER: &str = "10001:10001";

/// Where the image keeps downloaded models, and where a file of the host's appears.
const CACHE: &str = "/var/cache/heliograph";
const MODEL_FOLDER: &str = "/models";

/// Where the rig answers its health check, inside its own network.
const METRICS_PORT: u16 = 9464;

/// What becomes of a rig that cannot go on: Docker would start it again at once, and again, each time with a whole load.
pub(crate) const ON_FAILURE: &str = "HELIOGRAPH_ON_FAILURE=";
pub(crate) const STAYS: &str = "HELIOGRAPH_ON_FAILURE=stay";

/// Without its card it would be a hundred times slower, and healthy.
pub(crate) const NEEDS_CARD: &str = "HELIOGRAPH_GPU=required";

/// A rig has a thread per core and a handful more; a hundred times that is a fault.
const PROCESSES_MAX: i64 = 1_024;

/// How long a log may become, in files of this size: a log must not fill the disk.
const LOG_FILES: &str = "3";
const LOG_FILE_SIZE: &str = "10m";

/// Room in the tmpfs: caches of graphics drivers, nothing else.
const TMP_OPTIONS: &str = "rw,noexec,nosuid,nodev,size=64m,mode=1777";

/// How often health is looked at, and how long a start may take, in ns: a first start downloads a model.
const SECOND: i64 = 1_000_000_000;
const HEALTH_INTERVAL: i64 = 2 * SECOND;
const HEALTH_TIMEOUT: i64 = 5 * SECOND;
const HEALTH_START: i64 = 12 * 3_600 * SECOND;
const HEALTH_RETRIES: i64 = 3;

/// Everything that decides how a rig's container looks.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Which image.
    pub(crate) image: String,
    /// What computes.
    pub(crate) gpu: Gpu,
    /// Whether it must not run without a card ([`crate::gpu::is_needed`]).
    pub(crate) needs_card: bool,
    /// Where it connects to.
    pub(crate) relay: String,
    /// Its key.
    pub(crate) key: Secret,
    /// What it offers.
    pub(crate) model: Option<String>,
    /// A file of the host's with the weights.
    pub(crate) model_file: Option<PathBuf>,
    /// Chats at once.
    pub(crate) slots: Option<u32>,
    /// Cores it may use.
    pub(crate) cpus: Option<f64>,
    /// Bytes of memory it may use.
    pub(crate) memory: i64,
    /// How long answers may go on.
    pub(crate) drain_seconds: u32,
    /// The network that it joins.
    pub(crate) network: String,
    /// The volume with downloaded models.
    pub(crate) volume: String,
    /// Where it answers its health check, where the network is the host's and the usual port may be taken.
    pub(crate) metrics_port: Option<u16>,
    /// Groups of the host that may use the card.
    pub(crate) groups: Vec<u32>,
    /// Further flags of the rig's.
    pub(crate) flags: Vec<String>,
}

impl Plan {
    /// What Docker is asked for.
    pub(crate) fn container(&self) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(USER.to_owned()),
            hostname: (self.network != "host").then(|| rigs::container_name(&self.name)),
            env: Some(self.environment()),
            cmd: (!self.flags.is_empty()).then(|| self.flags.clone()),
            labels: Some(self.labels()),
            stop_signal: Some("SIGTERM".to_owned()),
            // For who stops it without us: `docker stop`, and the machine going down.
            stop_timeout: Some(i64::from(rigs::stop_seconds(self.drain_seconds))),
            healthcheck: Some(HealthConfig {
                // The command is the image's own; only its times are ours.
                test: None,
                interval: Some(HEALTH_INTERVAL),
                timeout: Some(HEALTH_TIMEOUT),
                start_period: Some(HEALTH_START),
                retries: Some(HEALTH_RETRIES),
                start_interval: None,
            }),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn environment(&self) -> Vec<String> {
        let port = self.metrics_port.unwrap_or(METRICS_PORT);
        let mut all = vec![
            format!("HELIOGRAPH_RELAY={}", self.relay),
            format!("HELIOGRAPH_KEY={}", self.key.reveal()),
            format!("HELIOGRAPH_NAME={}", self.name),
            format!("HELIOGRAPH_DRAIN_SECONDS={}", self.drain_seconds),
            format!("HELIOGRAPH_METRICS_PORT={port}"),
            STAYS.to_owned(),
        ];
        if self.needs_card {
            all.push(NEEDS_CARD.to_owned());
        }
        let model_file = self.model_file_inside();
        let threads = self.cpus.map(whole_cores);
        let further = [
            ("MODEL", self.model.clone()),
            ("MODEL_FILE", model_file),
            ("SLOTS", self.slots.map(|slots| slots.to_string())),
            // More threads than cores would make each wait for the others.
            ("THREADS", threads.map(|threads| threads.to_string())),
        ];
        for (name, value) in further {
            all.extend(value.map(|value| format!("HELIOGRAPH_{name}={value}")));
        }
        all
    }

    fn model_file_inside(&self) -> Option<String> {
        let name = self.model_file.as_ref()?.file_name()?;
        Some(format!("{MODEL_FOLDER}/{}", name.to_string_lossy()))
    }

    /// The key is not among them: labels are for everybody who can list containers.
    fn labels(&self) -> HashMap<String, String> {
        let mut labels = HashMap::from([
            (rigs::ROLE.to_owned(), "rig".to_owned()),
            (rigs::NAME.to_owned(), self.name.clone()),
            (rigs::GPU.to_owned(), self.gpu.as_str().to_owned()),
            (
                rigs::DRAIN_SECONDS.to_owned(),
                self.drain_seconds.to_string(),
            ),
        ]);
        if let Some(model) = &self.model {
            labels.insert(rigs::MODEL.to_owned(), model.clone());
        }
        labels
    }

    fn host_config(&self) -> HostConfig {
        HostConfig {
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            privileged: Some(false),
            pids_limit: Some(PROCESSES_MAX),
            memory: Some(self.memory),
            // The same again would be swap: a model that swaps is of no use to anybody.
            memory_swap: Some(self.memory),
            nano_cpus: self.cpus.map(nano_cpus),
            restart_policy: Some(restart_policy()),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP_OPTIONS.to_owned())])),
            mounts: Some(self.mounts()),
            network_mode: Some(self.network.clone()),
            extra_hosts: self
                .relay
                .contains("host.docker.internal")
                .then(|| vec!["host.docker.internal:host-gateway".to_owned()]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), LOG_FILE_SIZE.to_owned()),
                    ("max-file".to_owned(), LOG_FILES.to_owned()),
                ])),
            }),
            devices: self.devices(),
            device_requests: self.device_requests(),
            group_add: (!self.groups.is_empty())
                .then(|| self.groups.iter().map(u32::to_string).collect()),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let cache = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.volume.clone()),
            target: Some(CACHE.to_owned()),
            ..Mount::default()
        };
        let file = self.model_file.as_ref().map(|path| Mount {
            typ: Some(MountType::BIND),
            source: Some(path.display().to_string()),
            target: self.model_file_inside(),
            read_only: Some(true),
            ..Mount::default()
        });
        std::iter::once(cache).chain(file).collect()
    }

    fn devices(&self) -> Option<Vec<DeviceMapping>> {
        let paths: &[&str] = match self.gpu {
            Gpu::Cpu | Gpu::Cuda => return None,
            Gpu::Rocm => &["/dev/kfd", "/dev/dri"],
            Gpu::Vulkan => &["/dev/dri"],
        };
        let device = |path: &&str| DeviceMapping {
            path_on_host: Some((*path).to_owned()),
            path_in_container: Some((*path).to_owned()),
            cgroup_permissions: Some("rw".to_owned()),
        };
        Some(paths.iter().map(device).collect())
    }

    fn device_requests(&self) -> Option<Vec<DeviceRequest>> {
        (self.gpu == Gpu::Cuda).then(|| {
            vec![DeviceRequest {
                driver: Some("nvidia".to_owned()),
                // All of them.
                count: Some(-1),
                capabilities: Some(vec![vec!["gpu".to_owned()]]),
                ..DeviceRequest::default()
            }]
        })
    }
}

/// It comes back with the machine and with Docker, whatever it ended with before; what was stopped stays so. A rig that
/// fails in words stays as it is ([`STAYS`]); what dies without any again and again while it starts is stopped by who waits
/// for it (`health::wait`).
pub(crate) fn restart_policy() -> RestartPolicy {
    RestartPolicy {
        name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
        maximum_retry_count: None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the command line takes 0.1 to 1024"
)]
fn whole_cores(cpus: f64) -> u32 {
    (cpus.floor() as u32).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the command line takes 0.1 to 1024"
)]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// The relay's address as a container can use it. An address of loopback means the container itself in there, which is
/// the mistake that everybody makes once.
pub(crate) fn relay(url: &str, network: Option<&str>) -> Result<String> {
    let Ok(parsed) = Url::parse(url) else {
        bail!("--relay: write it as wss://relay.example");
    };
    if !["ws", "wss", "http", "https"].contains(&parsed.scheme()) {
        bail!("--relay: write it as wss://relay.example; the scheme must be wss or ws");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        bail!(
            "--relay: no user name or password belongs here; the key comes from --key-file or HELIOGRAPH_KEY"
        );
    }
    let host = parsed.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if is_loopback && network != Some("host") {
        bail!(
            "--relay: inside a container {host} is the container itself; add `--network host`, or use \
             host.docker.internal where the relay listens for more than loopback"
        );
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// A file of weights as it can be mounted: absolute, there, and readable for the account in the container.
pub(crate) fn model_file(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    let whole = path
        .canonicalize()
        .map_err(|error| anyhow::anyhow!("--model-file: {}: {error}", path.display()))?;
    let metadata = whole.metadata()?;
    if !metadata.is_file() {
        bail!("--model-file: {} is no file", path.display());
    }
    if metadata.permissions().mode() & 0o004 == 0 {
        bail!(
            "--model-file: the container's account ({USER}) may not read {}; `chmod o+r` lets it",
            path.display()
        );
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
