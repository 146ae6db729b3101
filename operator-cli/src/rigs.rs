//! Our containers, as Docker knows them: labels say whose they are and what they run, so nothing has to be remembered
//! anywhere else.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, bail};
use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    StopContainerOptionsBuilder, WaitContainerOptions,
};
use futures_util::StreamExt as _;

use crate::engine::explain;

/// The kind of node in a container; only `rig` so far.
pub(crate) const ROLE: &str = "network.heliograph.role";
/// What the operator calls it.
pub(crate) const NAME: &str = "network.heliograph.name";
/// What computes.
pub(crate) const GPU: &str = "network.heliograph.gpu";
/// What it offers.
pub(crate) const MODEL: &str = "network.heliograph.model";
/// How long its answers may go on after it was asked to stop, in seconds.
pub(crate) const DRAIN_SECONDS: &str = "network.heliograph.drain-seconds";
/// On what we made beside containers, so that `down` removes nothing of anybody else's.
pub(crate) const OURS: &str = "network.heliograph.ours";

/// The volume with downloaded models, unless said otherwise.
pub(crate) const VOLUME: &str = "heliograph-models";
/// The network of our containers, unless said otherwise: nobody can connect to them, they can connect to anybody.
pub(crate) const NETWORK: &str = "heliograph";

/// What is said where there is nothing to say anything about.
pub(crate) const NONE: &str = "no nodes on this machine; `heliograph up rig` starts one";

/// What a stop gets on top of the drain, before the engine kills.
const STOP_SECONDS_MORE: u32 = 10;

/// How long one has to end after each of two signals, where nobody waits for its answers. A rig ends at once at the second,
/// or at the first while it starts.
const END_SECONDS: u8 = 5;

/// How much of a log an error repeats.
const TAIL_LINES: &str = "15";

/// What the container of a node is called. Nothing else on the machine is likely to be.
pub(crate) fn container_name(name: &str) -> String {
    format!("heliograph-{name}")
}

/// What the next one is called until it has taken over.
pub(crate) fn next_name(name: &str) -> String {
    // A node's name cannot have this in it.
    format!("heliograph-{name}--next")
}

/// A container of ours.
#[derive(Debug, Clone)]
pub(crate) struct Rig {
    /// The operator's name for it.
    pub(crate) name: String,
    /// Docker's name, without the slash.
    pub(crate) container: String,
    /// Docker's id.
    pub(crate) id: String,
    /// Everything that Docker knows.
    pub(crate) inspected: ContainerInspectResponse,
}

impl Rig {
    /// What a label says.
    pub(crate) fn label(&self, label: &str) -> Option<&str> {
        let labels = self.inspected.config.as_ref()?.labels.as_ref()?;
        labels.get(label).map(String::as_str)
    }

    /// The image as it was asked for.
    pub(crate) fn image(&self) -> &str {
        let image = self
            .inspected
            .config
            .as_ref()
            .and_then(|config| config.image.as_deref());
        image.unwrap_or("?")
    }

    /// Running, exited, …
    pub(crate) fn state(&self) -> &'static str {
        let state = self.inspected.state.as_ref();
        match state.and_then(|state| state.status) {
            Some(ContainerStateStatusEnum::RUNNING) => "running",
            Some(ContainerStateStatusEnum::CREATED) => "created",
            Some(ContainerStateStatusEnum::PAUSED) => "paused",
            Some(ContainerStateStatusEnum::RESTARTING) => "restarting",
            Some(ContainerStateStatusEnum::REMOVING) => "removing",
            Some(ContainerStateStatusEnum::EXITED) => "exited",
            Some(ContainerStateStatusEnum::DEAD) => "dead",
            Some(ContainerStateStatusEnum::STOPPING) => "stopping",
            Some(ContainerStateStatusEnum::EMPTY) | None => "unknown",
        }
    }

    /// Whether its process lives, or is about to again.
    pub(crate) fn is_up(&self) -> bool {
        matches!(
            self.state(),
            "running" | "paused" | "restarting" | "stopping"
        )
    }

    /// What its health check says.
    pub(crate) fn health(&self) -> &'static str {
        let state = self.inspected.state.as_ref();
        match state.and_then(|state| state.health.as_ref()?.status) {
            Some(HealthStatusEnum::STARTING) => "starting",
            Some(HealthStatusEnum::HEALTHY) => "healthy",
            Some(HealthStatusEnum::UNHEALTHY) => "unhealthy",
            Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => "none",
        }
    }

    /// The last thing that its health check wrote: a word where it is the rig's own.
    pub(crate) fn health_says(&self) -> Option<String> {
        let health = self.inspected.state.as_ref()?.health.as_ref()?;
        let output = health.log.as_ref()?.last()?.output.as_deref()?;
        let line = output.lines().next().map(str::trim)?;
        let status = serde_json::from_str::<serde_json::Value>(line)
            .ok()
            .and_then(|body| Some(body.get("status")?.as_str()?.to_owned()));
        status.or_else(|| (!line.is_empty()).then(|| line.to_owned()))
    }

    /// What it says of itself where it cannot go on: `broken: …`. Docker calls such a rig "starting" for as long as a
    /// download may take, or "healthy" until three checks have failed.
    pub(crate) fn broken(&self) -> Option<String> {
        self.says_first("broken")
    }

    /// What it says of itself where it died and waits before it loads again: `waiting: …`.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.says_first("waiting")
    }

    fn says_first(&self, word: &str) -> Option<String> {
        let says = self
            .health_says()
            .filter(|says| says.split(':').next() == Some(word))?;
        (self.state() == "running").then_some(says)
    }

    /// The exit code, where it has ended.
    pub(crate) fn exit_code(&self) -> Option<i64> {
        self.inspected
            .state
            .as_ref()?
            .exit_code
            .filter(|_| !self.is_up())
    }

    /// Whether the kernel killed it for want of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let state = self.inspected.state.as_ref();
        state.and_then(|state| state.oom_killed).unwrap_or(false)
    }

    fn drain_seconds(&self) -> u32 {
        self.label(DRAIN_SECONDS)
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(30)
    }

    fn of(inspected: ContainerInspectResponse) -> Option<Self> {
        let labels = inspected.config.as_ref()?.labels.as_ref()?;
        Some(Self {
            name: labels.get(NAME)?.clone(),
            container: inspected
                .name
                .as_deref()?
                .trim_start_matches('/')
                .to_owned(),
            id: inspected.id.clone()?,
            inspected,
        })
    }
}

/// All of our rigs, sorted by name.
pub(crate) async fn all(docker: &Docker) -> Result<Vec<Rig>> {
    let filters = HashMap::from([("label", vec![format!("{ROLE}=rig")])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let summaries = docker
        .list_containers(Some(options))
        .await
        .map_err(explain)?;
    let mut rigs = Vec::new();
    for id in summaries.into_iter().filter_map(|summary| summary.id) {
        rigs.extend(inspect(docker, &id).await?);
    }
    rigs.sort_by(|a, b| a.container.cmp(&b.container));
    Ok(rigs)
}

/// Those with these names, or all; a name that nobody has is an error.
pub(crate) async fn named(docker: &Docker, names: &[String]) -> Result<Vec<Rig>> {
    let all = all(docker).await?;
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
        if !all.iter().any(|rig| rig.name == *name) {
            let known: Vec<&str> = all.iter().map(|rig| rig.name.as_str()).collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            bail!("there is no node called {name} on this machine; there are: {known}");
        }
    }
    Ok(all
        .into_iter()
        .filter(|rig| names.contains(&rig.name))
        .collect())
}

/// One container by name or id, if it is there and ours.
pub(crate) async fn inspect(docker: &Docker, container: &str) -> Result<Option<Rig>> {
    match docker
        .inspect_container(container, None::<InspectContainerOptions>)
        .await
    {
        Ok(inspected) => Ok(Rig::of(inspected)),
        Err(error) if crate::engine::is_missing(&error) => Ok(None),
        Err(error) => Err(explain(error)),
    }
}

/// How long the engine lets a rig drain before it kills.
pub(crate) const fn stop_seconds(drain_seconds: u32) -> u32 {
    drain_seconds.saturating_add(STOP_SECONDS_MORE)
}

/// Asks a rig to drain and waits for its end.
pub(crate) async fn stop(docker: &Docker, rig: &Rig) -> Result<()> {
    let seconds = stop_seconds(rig.drain_seconds());
    let options = StopContainerOptionsBuilder::new()
        .t(i32::try_from(seconds).unwrap_or(i32::MAX))
        .build();
    docker
        .stop_container(&rig.id, Some(options))
        .await
        .map_err(explain)
}

/// Ends a container within ten seconds, whatever it does; afterwards the engine does not start it again. It gets the time
/// to end by itself, since a rig that was killed leaves the sign of a crash (docs/rig.md), and the next one of its name
/// waits because of it.
pub(crate) async fn end(docker: &Docker, id: &str) -> Result<()> {
    let signal = KillContainerOptionsBuilder::new().signal("SIGTERM").build();
    // What does not run, but is to be started again, has nothing to tell the signal to.
    if docker.kill_container(id, Some(signal)).await.is_ok() {
        let mut ends = Box::pin(docker.wait_container(id, None::<WaitContainerOptions>));
        let most = Duration::from_secs(u64::from(END_SECONDS));
        // The exit code is no matter here, and what has not ended is stopped below.
        drop(tokio::time::timeout(most, ends.next()).await);
    }
    let options = StopContainerOptionsBuilder::new()
        .t(i32::from(END_SECONDS))
        .build();
    docker
        .stop_container(id, Some(options))
        .await
        .map_err(explain)
}

/// Removes a container; one that is up is ended first.
pub(crate) async fn remove(docker: &Docker, id: &str) -> Result<()> {
    if let Ok(Some(rig)) = inspect(docker, id).await
        && rig.is_up()
    {
        // Where that fails, it is killed.
        _ = end(docker, id).await;
    }
    // Volumes without a name hold nothing of ours: the cache has a name.
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if crate::engine::is_missing(&error) => Ok(()),
        Err(error) => Err(explain(error)),
    }
}

/// Gives a container another name.
pub(crate) async fn rename(docker: &Docker, id: &str, name: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    docker.rename_container(id, options).await.map_err(explain)
}

/// The end of a container's log, for the reader of an error.
pub(crate) async fn tail(docker: &Docker, id: &str) -> String {
    let options = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .tail(TAIL_LINES)
        .build();
    let mut stream = Box::pin(docker.logs(id, Some(options)));
    let mut text = String::new();
    while let Some(Ok(piece)) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(piece.as_ref()));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests;
