//! `update`: nodes of a newer image in the place of the old ones. Nobody loses an answer by it: the old one drains, and
//! where the new one is not healthy the old one goes on.
//!
//! ```text
//! side by side   start the new one ─ healthy? ─ drain the old one ─ remove it ─ rename      (CPU: both fit)
//! in place       drain the old one ─ start the new one ─ healthy? ─ remove the old ─ rename (a card has room for one)
//! not healthy    remove the new one; the old one still runs, or is started again
//! ```
//!
//! While it runs, the new container is called `heliograph-NAME--next`. Where Ctrl-C cuts it short, one of the two is left
//! to serve; where nothing could be done any more, the next update clears up: Docker knows all of it.

mod settle;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig};
use bollard::query_parameters::StartContainerOptions;
use serde_json::json;

use crate::cli::UpdateOptions;
use crate::engine::{self, explain};
use crate::gpu::Gpu;
use crate::rigs::{self, Rig};
use crate::voice::Voice;
use crate::{down, health, image, plan, up};

pub(crate) use settle::Stopped;

/// Labels that go with a rig from container to container; the others are the image's own.
const LABELS: [&str; 5] = [
    rigs::ROLE,
    rigs::NAME,
    rigs::GPU,
    rigs::MODEL,
    rigs::DRAIN_SECONDS,
];

/// Environment of ours; the rest is the image's own.
const OURS: &str = "HELIOGRAPH_";
const METRICS_PORT: &str = "HELIOGRAPH_METRICS_PORT=";
const GPU: &str = "HELIOGRAPH_GPU=";

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Updated,
    Unchanged,
    /// Nobody knows whether there is a newer image.
    NotPulled,
}

/// Updates the rigs with these names, or all that are up, one after the other.
pub(crate) async fn run(voice: Voice, options: &UpdateOptions) -> Result<ExitCode> {
    let docker = engine::connect().await?;
    let all = rigs::named(&docker, &options.names).await?;
    if all.is_empty() {
        bail!(rigs::NONE);
    }
    let mut code = ExitCode::SUCCESS;
    for (name, is_up) in by_name(&all) {
        if !is_up && options.names.is_empty() {
            let text = format!(
                "{name} is not up and stays so; `heliograph update {name}` renews it and starts it"
            );
            voice.result(
                &json!({ "event": "skipped", "name": name, "because": "it is not up" }),
                &text,
            );
            continue;
        }
        if one(&docker, voice, options, name).await? == Outcome::NotPulled {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// The names, and whether one of that name is up: after an update that was cut short there may be two.
fn by_name(rigs: &[Rig]) -> BTreeMap<&str, bool> {
    let up: BTreeSet<&str> = rigs
        .iter()
        .filter(|rig| rig.is_up())
        .map(|rig| rig.name.as_str())
        .collect();
    let names = rigs.iter().map(|rig| rig.name.as_str());
    names.map(|name| (name, up.contains(name))).collect()
}

/// Updates one; where somebody stops it in the middle, one of the two serves.
async fn one(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    name: &str,
) -> Result<Outcome> {
    let asked = Cell::new(false);
    let replacing = Box::pin(replace(docker, voice, options, name, &asked));
    tokio::select! {
        done = replacing => done.with_context(|| format!("{name} was not updated")),
        () = settle::stop_is_wanted() => {
            Err(settle::stopped(docker, voice, options, name, asked.get()).await)
        }
    }
}

/// `asked` says whether the old one was asked to end, and has not been started again.
async fn replace(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    name: &str,
    asked: &Cell<bool>,
) -> Result<Outcome> {
    let (old, _) = Box::pin(settle::settle(docker, voice, name, false)).await?;
    let reference = options
        .image
        .as_deref()
        .unwrap_or_else(|| old.image())
        .to_owned();
    let (image_id, not_pulled) = newest(docker, voice, &reference).await?;
    let same = old.inspected.image.as_deref() == Some(image_id.as_str());
    if !is_replaced(old.is_up(), same, options.force) {
        return Ok(stays(voice, name, &reference, &image_id, not_pulled));
    }
    let gpu = old.label(rigs::GPU).and_then(Gpu::of).unwrap_or(Gpu::Cpu);
    // What is not running needs no room beside it.
    let side_by_side =
        old.is_up() && (options.side_by_side || (gpu == Gpu::Cpu && !options.in_place));
    let body = successor(&old.inspected, &reference)?;
    let next = up::create(docker, &rigs::next_name(name), body).await?;
    if side_by_side {
        beside(docker, voice, options, &old, &next, asked).await?;
    } else {
        in_place(docker, voice, options, &old, &next, asked).await?;
    }
    rigs::remove(docker, &old.id).await?;
    rigs::rename(docker, &next, &rigs::container_name(name)).await?;
    voice.result(
        &json!({ "event": "updated", "name": name, "id": next, "image": reference, "image_id": image_id }),
        &format!("{name} runs {reference} now"),
    );
    Ok(Outcome::Updated)
}

/// Whether another container takes its place. Somebody named one that is not up: it comes back, with whatever image there
/// is, also where the registry is away.
const fn is_replaced(is_up: bool, is_same_image: bool, is_forced: bool) -> bool {
    !is_up || !is_same_image || is_forced
}

/// What runs is the image that is here; whether it is also the newest depends on the registry's answer.
fn stays(
    voice: Voice,
    name: &str,
    reference: &str,
    image_id: &str,
    not_pulled: Option<String>,
) -> Outcome {
    if let Some(because) = not_pulled {
        voice.result(
            &json!({
                "event": "not_pulled", "name": name, "image": reference, "image_id": image_id, "because": because,
            }),
            &format!(
                "{name} was not updated: whether there is a newer {reference} is not known; it goes on as it is"
            ),
        );
        return Outcome::NotPulled;
    }
    voice.result(
        &json!({ "event": "unchanged", "name": name, "image": reference, "image_id": image_id }),
        &format!("{name} runs the newest {reference} already; --force replaces it anyway"),
    );
    Outcome::Unchanged
}

/// The newest image of that name: the registry's, or the one on this machine where none can be pulled; then also why.
/// What was built on this machine is the newest there is.
async fn newest(
    docker: &Docker,
    voice: Voice,
    reference: &str,
) -> Result<(String, Option<String>)> {
    if image::is_ours_alone(reference) {
        return match image::id(docker, reference).await? {
            Some(id) => Ok((id, None)),
            None => bail!(
                "the image {reference} is not on this machine; {}",
                image::GET_ONE
            ),
        };
    }
    let pulled = image::pull(docker, voice, reference).await;
    match (pulled, image::id(docker, reference).await?) {
        (Ok(()), Some(id)) => Ok((id, None)),
        (Err(error), Some(id)) => {
            let because = format!("{error:#}");
            let text = format!("{reference} could not be pulled: {because}");
            voice.event(
                "pull_failed",
                json!({ "image": reference, "because": because }),
                &text,
            );
            Ok((id, Some(because)))
        }
        (Err(error), None) => Err(error),
        (Ok(()), None) => bail!("the image {reference} was pulled and is not here"),
    }
}

/// The new one first; what runs is not touched before the new one serves.
async fn beside(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    old: &Rig,
    next: &str,
    asked: &Cell<bool>,
) -> Result<()> {
    begin(docker, voice, options, &old.name, next)
        .await
        .context("the new one is gone again, the old one goes on")?;
    asked.set(true);
    down::drain_one(docker, voice, old).await
}

/// The old one first; it comes back where the new one does not serve. The new one is made before, and only started
/// after, so that Docker knows of the update should it be cut short.
async fn in_place(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    old: &Rig,
    next: &str,
    asked: &Cell<bool>,
) -> Result<()> {
    let ran = old.is_up();
    if ran {
        asked.set(true);
        down::drain_one(docker, voice, old).await?;
    }
    let error = match begin(docker, voice, options, &old.name, next).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if !ran {
        return Err(error.context("the new one is gone again"));
    }
    docker
        .start_container(&old.id, None::<StartContainerOptions>)
        .await
        .map_err(explain)
        .with_context(|| {
            format!("the new one is not healthy ({error:#}), and the old one does not start again")
        })?;
    asked.set(false);
    health::wait(docker, voice, &old.id, &old.name, &options.patience)
        .await
        .with_context(|| {
            format!("the new one is not healthy ({error:#}), and neither is the old one now")
        })?;
    Err(error.context("the new one is gone again, the old one serves as before"))
}

/// Starts the new one and waits until it serves; leaves nothing where it does not.
async fn begin(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    name: &str,
    next: &str,
) -> Result<()> {
    let container = rigs::next_name(name);
    up::begin(docker, next).await?;
    let text = format!("started {container}");
    voice.event(
        "started",
        json!({ "name": name, "container": container }),
        &text,
    );
    let healthy = health::wait(docker, voice, next, name, &options.patience).await;
    if let Err(error) = healthy {
        rigs::remove(docker, next).await?;
        let text = format!("{name}: the new one is not healthy and was removed");
        voice.event("rolled_back", json!({ "name": name }), &text);
        return Err(error);
    }
    Ok(())
}

/// A container like this one, of another image. What the old image set stays with the old image. One that an older
/// heliograph made gets what [`crate::plan`] gives today.
fn successor(old: &ContainerInspectResponse, image: &str) -> Result<ContainerCreateBody> {
    let config = old
        .config
        .clone()
        .context("Docker says nothing about its configuration")?;
    let mut host_config = old
        .host_config
        .clone()
        .context("Docker says nothing about its limits")?;
    let labels: BTreeMap<String, String> = config.labels.unwrap_or_default().into_iter().collect();
    let on_host = host_config.network_mode.as_deref() == Some("host");
    let mut environment: Vec<String> = config.env.unwrap_or_default();
    environment.retain(|line| line.starts_with(OURS));
    if !environment
        .iter()
        .any(|line| line.starts_with(plan::ON_FAILURE))
    {
        let gpu = labels.get(rigs::GPU).and_then(|gpu| Gpu::of(gpu));
        renew(&mut environment, &mut host_config, image, gpu);
    }
    if on_host {
        // Both run at the same time, on the same ports.
        environment.retain(|line| !line.starts_with(METRICS_PORT));
        environment.push(format!("{METRICS_PORT}{}", up::free_port()?));
    }
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        user: config.user,
        hostname: config.hostname.filter(|_| !on_host),
        env: Some(environment),
        cmd: config.cmd,
        labels: Some(
            labels
                .into_iter()
                .filter(|(name, _)| LABELS.contains(&name.as_str()))
                .collect(),
        ),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: None,
            ..check
        }),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    })
}

/// Gives a rig that an older heliograph made what it lacks: it ended where it could not go on, Docker tried a few times
/// more, and it took the processor where it found no card. The label tells the card of the machine, the image's name
/// whether it was chosen by that.
fn renew(
    environment: &mut Vec<String>,
    host_config: &mut HostConfig,
    image: &str,
    gpu: Option<Gpu>,
) {
    environment.push(plan::STAYS.to_owned());
    let card = gpu.filter(|gpu| *gpu != Gpu::Cpu);
    let has_said = environment.iter().any(|line| line.starts_with(GPU));
    if !has_said && card.is_some_and(|card| image::is_for(image, card)) {
        environment.push(plan::NEEDS_CARD.to_owned());
    }
    host_config.restart_policy = Some(plan::restart_policy());
}

#[cfg(test)]
mod tests;
