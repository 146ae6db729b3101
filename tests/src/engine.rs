//! A container engine of a test's own: a fresh data root, a base image made from Debian's packages, a registry.
//!
//! Needs root and Debian's packages (`cargo xtask setup --tests` installs them). Where no engine can be started, the
//! test has nothing to look at, which is written where it is seen; where `CI` is set, it fails.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::{Output, leave_out, programs, run, tools, until};

/// What the engine gets to stop containers and itself.
const END_MAX: Duration = Duration::from_secs(40);

/// The base image, by the name that the Dockerfile asks for.
const BASE: &str = "debian:bookworm-slim";

/// Made once and kept, since it takes a minute. The number changes with what is in it.
const BASE_FILE: &str = "debian-bookworm-1.tar";

/// What the Dockerfile installs into every image: here already, so that a build has nothing to fetch.
const BASE_PACKAGES: &str = "ca-certificates,libgcc-s1,libssl3,libstdc++6";

/// Programs without which there is no engine.
const PROGRAMS: [&str; 6] = [
    "dockerd",
    "docker",
    "debootstrap",
    "docker-registry",
    "iptables",
    "ip",
];

/// Before the reason.
const NO_ENGINE: &str = "no container engine can be started here";

/// A running engine. Dropping it stops it and everything in it.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    bridge: String,
    dockerd: Option<Child>,
    registry: Option<Child>,
    registry_port: u16,
}

impl Engine {
    /// Starts one. None where there can be none; where `CI` is set, that is an error.
    pub async fn start() -> Result<Option<Self>> {
        if let Some(reason) = missing() {
            leave_out(&format!("{NO_ENGINE}: {reason}"))?;
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("heliograph-engine-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut engine = Self {
            bridge: format!("hg{}", std::process::id()),
            folder,
            dockerd: None,
            registry: None,
            registry_port: free_port()?,
        };
        if let Err(error) = engine.boot().await {
            let log = fs::read_to_string(engine.log()).unwrap_or_default();
            let from = log.len().saturating_sub(2_000);
            let log = log.get(from..).unwrap_or_default();
            leave_out(&format!("{NO_ENGINE}: {error:#}\n{log}"))?;
            return Ok(None);
        }
        engine.load_base().await?;
        engine.start_registry()?;
        Ok(Some(engine))
    }

    async fn boot(&mut self) -> Result<()> {
        // Numbers of this process, so that an engine that is on this machine already is not in the way.
        let net = std::process::id() % 200 + 20;
        let address = format!("10.213.{net}.1/24");
        let ip = |words: &[&str]| {
            let mut command = Command::new(program("ip").unwrap_or_default());
            command.args(words);
            command
        };
        succeed(&mut ip(&["link", "add", &self.bridge, "type", "bridge"])).await?;
        succeed(&mut ip(&["addr", "add", &address, "dev", &self.bridge])).await?;
        succeed(&mut ip(&["link", "set", &self.bridge, "up"])).await?;
        let output = File::create(self.log())?;
        let dockerd = programs::guarded(program("dockerd").unwrap_or_default(), "TERM")
            .arg(format!(
                "--data-root={}",
                self.folder.join("data").display()
            ))
            .arg(format!(
                "--exec-root={}",
                self.folder.join("exec").display()
            ))
            .arg(format!(
                "--pidfile={}",
                self.folder.join("docker.pid").display()
            ))
            .arg(format!("--host={}", self.host()))
            .arg(format!("--bridge={}", self.bridge))
            .arg(format!(
                "--default-address-pool=base=10.214.{net}.0/24,size=28"
            ))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        self.dockerd = Some(dockerd);
        let deadline = Instant::now() + END_MAX;
        loop {
            if self.docker(&["version"]).await?.status.success() {
                return Ok(());
            }
            let ended = self
                .dockerd
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten();
            if let Some(status) = ended {
                bail!("dockerd ended with {status}");
            }
            ensure!(Instant::now() < deadline, "dockerd does not answer");
            // It says nowhere when it is ready but by answering.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("dockerd.log")
    }

    /// A folder that goes with the engine.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }

    /// What names of images in the registry begin with.
    pub fn registry(&self) -> String {
        format!("127.0.0.1:{}/heliograph", self.registry_port)
    }

    /// Runs `docker` with these arguments.
    pub async fn docker(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program("docker").unwrap_or_default());
        command
            .args(arguments)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_BUILDKIT", "1")
            .env("DOCKER_CONFIG", &self.folder)
            .current_dir(tools::root());
        run(&mut command).await
    }

    /// The same, which must succeed; what it says.
    pub async fn docker_says(&self, arguments: &[&str]) -> Result<String> {
        let output = self.docker(arguments).await?;
        output.expect_success(&format!("docker {arguments:?}"))?;
        Ok(output.stdout.trim().to_owned())
    }

    /// `heliograph` with these arguments, in front of this engine.
    pub fn heliograph(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(heliograph());
        command.args(arguments);
        self.in_front(&mut command);
        command
    }

    /// The same at a terminal: what is written to its standard input is typed there. The arguments are words of a shell.
    pub fn heliograph_on_terminal(&self, arguments: &[&str]) -> Command {
        // In the shell's place, or Ctrl-C would reach the shell too, and its exit code be the shell's.
        let words = format!("exec {} {}", heliograph().display(), arguments.join(" "));
        let mut command = Command::new("script");
        command
            .args([
                "--quiet",
                "--flush",
                "--return",
                "--command",
                &words,
                "/dev/null",
            ])
            .env("SHELL", "/bin/sh");
        self.in_front(&mut command);
        command
    }

    fn in_front(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", self.host())
            // Whoever runs the tests may use the program too.
            .env("XDG_CONFIG_HOME", &self.folder)
            .env_remove("HELIOGRAPH_KEY")
            .env_remove("HELIOGRAPH_API_KEY")
            .stdin(Stdio::null())
            .kill_on_drop(true);
    }

    /// Builds a target of the Dockerfile from what is laid out, and puts it into the registry.
    pub async fn build(&self, target: &str, tag: &str, revision: &str) -> Result<String> {
        let reference = format!("{}/{target}:{tag}", self.registry());
        let revision = format!("REVISION={revision}");
        self.docker_says(&[
            "build",
            "--network=host",
            "--build-arg=ARTEFACTS=prebuilt",
            "--build-arg",
            &revision,
            "--target",
            target,
            "--tag",
            &reference,
            ".",
        ])
        .await?;
        self.docker_says(&["push", &reference]).await?;
        Ok(reference)
    }

    /// Waits until a container's health check says so.
    pub async fn healthy(&self, container: &str) -> Result<()> {
        until(&format!("{container} is healthy"), || async {
            let words = ["inspect", "--format={{.State.Health.Status}}", container];
            Ok((self.docker_says(&words).await? == "healthy").then_some(()))
        })
        .await
    }

    async fn load_base(&self) -> Result<()> {
        let file = base_file().await?;
        let file = file.display().to_string();
        self.docker_says(&["import", &file, BASE]).await.map(drop)
    }

    fn start_registry(&mut self) -> Result<()> {
        let storage = self.folder.join("registry");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{}\n",
            storage.display(),
            self.registry_port
        );
        let path = self.folder.join("registry.yml");
        fs::write(&path, config)?;
        let output = File::create(self.folder.join("registry.log"))?;
        let child = programs::guarded(program("docker-registry").unwrap_or_default(), "KILL")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start docker-registry")?;
        self.registry = Some(child);
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut registry) = self.registry.take() {
            _ = registry.kill();
            _ = registry.wait();
        }
        if let Some(mut dockerd) = self.dockerd.take() {
            // It stops the containers, and its own helpers.
            _ = programs::signal(dockerd.id(), Signal::SIGTERM);
            let deadline = Instant::now() + END_MAX;
            while Instant::now() < deadline && matches!(dockerd.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(50));
            }
            _ = dockerd.kill();
            _ = dockerd.wait();
        }
        _ = std::process::Command::new(program("ip").unwrap_or_default())
            .args(["link", "del", &self.bridge])
            .stderr(Stdio::null())
            .status();
        // The engine leaves this mounted; a folder with a mount in it cannot be removed.
        _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(self.folder.join("exec/netns/default"))
            .stderr(Stdio::null())
            .status();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Why there can be no engine here, as far as one can see before trying.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can start a container engine".to_owned());
    }
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|name| program(name).is_none())
        .collect();
    (!missing.is_empty()).then(|| format!("these programs are not there: {}", missing.join(", ")))
}

/// The program that was built.
fn heliograph() -> PathBuf {
    tools::root().join("build/heliograph")
}

/// Where a program is. Debian's own before what may shadow it, and what only root's search path has.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["/usr/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

async fn succeed(command: &mut Command) -> Result<()> {
    let what = format!("{:?}", command.as_std());
    run(command).await?.expect_success(&what)
}

/// A port that nobody has.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?
        .local_addr()?
        .port())
}

/// The base image as an archive in the user's cache folder, made if it is not there.
async fn base_file() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let folder = cache.join("heliograph/images");
    let file = folder.join(BASE_FILE);
    if file.is_file() {
        return Ok(file);
    }
    let root = folder.join(format!("rootfs-{}", std::process::id()));
    let partial = folder.join(format!("{BASE_FILE}.{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let mut debootstrap = Command::new(program("debootstrap").unwrap_or_default());
    debootstrap
        .arg("--variant=minbase")
        .arg(format!("--include={BASE_PACKAGES}"))
        .arg("bookworm")
        .arg(&root);
    succeed(&mut debootstrap).await?;
    for cached in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        _ = fs::remove_dir_all(root.join(cached));
        fs::create_dir_all(root.join(cached).join("partial"))?;
    }
    let mut tar = Command::new("tar");
    tar.arg("--numeric-owner")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&partial)
        .arg(".");
    succeed(&mut tar).await?;
    fs::remove_dir_all(&root)?;
    fs::rename(&partial, &file)?;
    Ok(file)
}
