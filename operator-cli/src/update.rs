//! `update`: nodes of a newer image in the place of the old ones. Nobody loses an answer by it: the old one drains, and
//! where the new one is not healthy the old one goes on.
//!
//! ```text
//! side by side   start the new one ─ healthy? ─ drain the old one ─ remove it ─ rename      (CPU: both fit)
//! in place       drain the old one ─ start the new one ─ healthy? ─ remove the old ─ rename (a card has room for one)
//! not healthy    remove the new one; the old one still runs, or is started again
//! ```
//!
//! While it runs, the new container is called `heliograph-NAME--next`. An update that was cut short is cleared up by the
//! next one: Docker knows all of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HealthConfig};
use bollard::query_parameters::StartContainerOptions;
use serde_json::json;

use crate::cli::UpdateOptions;
use crate::engine::{self, explain};
use crate::gpu::Gpu;
use crate::rigs::{self, Rig};
use crate::voice::Voice;
use crate::{down, health, image, up};

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

/// Updates the rigs with these names, or all, one after the other.
pub(crate) async fn run(voice: Voice, options: &UpdateOptions) -> Result<()> {
    let docker = engine::connect().await?;
    let chosen = rigs::named(&docker, &options.names).await?;
    let names: BTreeSet<String> = chosen.into_iter().map(|rig| rig.name).collect();
    if names.is_empty() {
        bail!(rigs::NONE);
    }
    for name in &names {
        Box::pin(one(&docker, voice, options, name))
            .await
            .with_context(|| format!("{name} was not updated"))?;
    }
    Ok(())
}

async fn one(docker: &Docker, voice: Voice, options: &UpdateOptions, name: &str) -> Result<()> {
    let old = Box::pin(settle(docker, name)).await?;
    let reference = options
        .image
        .as_deref()
        .unwrap_or_else(|| old.image())
        .to_owned();
    let image_id = newest(docker, voice, &reference).await?;
    let same = old.inspected.image.as_deref() == Some(image_id.as_str());
    if same && !options.force {
        voice.result(
            &json!({ "event": "unchanged", "name": name, "image": reference, "image_id": image_id }),
            &format!("{name} runs the newest {reference} already; --force replaces it anyway"),
        );
        return Ok(());
    }
    let gpu = old.label(rigs::GPU).and_then(Gpu::of).unwrap_or(Gpu::Cpu);
    // What is not running needs no room beside it.
    let side_by_side =
        old.is_up() && (options.side_by_side || (gpu == Gpu::Cpu && !options.in_place));
    let body = successor(&old.inspected, &reference)?;
    let id = if side_by_side {
        beside(docker, voice, options, &old, body).await?
    } else {
        in_place(docker, voice, options, &old, body).await?
    };
    rigs::remove(docker, &old.id).await?;
    rigs::rename(docker, &id, &rigs::container_name(name)).await?;
    voice.result(
        &json!({ "event": "updated", "name": name, "id": id, "image": reference, "image_id": image_id }),
        &format!("{name} runs {reference} now"),
    );
    Ok(())
}

/// Clears up after an update that was cut short, and says which container is the rig.
async fn settle(docker: &Docker, name: &str) -> Result<Rig> {
    let current = rigs::inspect(docker, &rigs::container_name(name)).await?;
    let next = rigs::inspect(docker, &rigs::next_name(name)).await?;
    match (current, next) {
        // It never took over.
        (Some(current), Some(next)) => {
            rigs::remove(docker, &next.id).await?;
            Ok(current)
        }
        (Some(current), None) => Ok(current),
        // It had taken over, but for the name.
        (None, Some(next)) => {
            let container = rigs::container_name(name);
            rigs::rename(docker, &next.id, &container).await?;
            Ok(Rig { container, ..next })
        }
        (None, None) => bail!("its container is gone"),
    }
}

/// The newest image of that name: the registry's, or the one on this machine where no registry has it.
async fn newest(docker: &Docker, voice: Voice, reference: &str) -> Result<String> {
    let pulled = image::pull(docker, voice, reference).await;
    match (pulled, image::id(docker, reference).await?) {
        (Ok(()), Some(id)) => Ok(id),
        (Err(error), Some(id)) => {
            let text = format!(
                "no newer {reference} could be pulled, so the one on this machine is taken: {error:#}"
            );
            voice.event(
                "not_pulled",
                json!({ "image": reference, "because": format!("{error:#}") }),
                &text,
            );
            Ok(id)
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
    body: ContainerCreateBody,
) -> Result<String> {
    let id = match begin(docker, voice, options, &old.name, body).await {
        Ok(id) => id,
        Err(error) => return Err(error.context("the new one is gone again, the old one goes on")),
    };
    down::drain_one(docker, voice, old).await?;
    Ok(id)
}

/// The old one first; it comes back where the new one does not serve.
async fn in_place(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    old: &Rig,
    body: ContainerCreateBody,
) -> Result<String> {
    let ran = old.is_up();
    if ran {
        down::drain_one(docker, voice, old).await?;
    }
    let error = match begin(docker, voice, options, &old.name, body).await {
        Ok(id) => return Ok(id),
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
    health::wait(docker, voice, &old.id, &old.name, options.wait_seconds)
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
    body: ContainerCreateBody,
) -> Result<String> {
    let container = rigs::next_name(name);
    let id = up::start(docker, &container, body).await?;
    let text = format!("started {container}");
    voice.event(
        "started",
        json!({ "name": name, "container": container }),
        &text,
    );
    let healthy = health::wait(docker, voice, &id, name, options.wait_seconds).await;
    if let Err(error) = healthy {
        rigs::remove(docker, &id).await?;
        let text = format!("{name}: the new one is not healthy and was removed");
        voice.event("rolled_back", json!({ "name": name }), &text);
        return Err(error);
    }
    Ok(id)
}

/// A container like this one, of another image. What the old image set stays with the old image.
fn successor(old: &ContainerInspectResponse, image: &str) -> Result<ContainerCreateBody> {
    let config = old
        .config
        .clone()
        .context("Docker says nothing about its configuration")?;
    let host_config = old
        .host_config
        .clone()
        .context("Docker says nothing about its limits")?;
    let labels: BTreeMap<String, String> = config.labels.unwrap_or_default().into_iter().collect();
    let on_host = host_config.network_mode.as_deref() == Some("host");
    let mut environment: Vec<String> = config.env.unwrap_or_default();
    environment.retain(|line| line.starts_with(OURS));
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
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: None,
            ..check
        }),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerConfig, HostConfig};
    use std::collections::HashMap;

    fn inspected(network: &str) -> ContainerInspectResponse {
        let text = |text: &str| text.to_owned();
        ContainerInspectResponse {
            config: Some(ContainerConfig {
                user: Some(text("10001:10001")),
                hostname: Some(text("heliograph-rig")),
                env: Some(vec![
                    text("PATH=/old/image"),
                    text("HELIOGRAPH_KEY=hgn-x"),
                    text("HELIOGRAPH_METRICS_PORT=9464"),
                ]),
                cmd: Some(vec![text("--context"), text("4096")]),
                labels: Some(HashMap::from([
                    (rigs::NAME.to_owned(), text("rig")),
                    (text("org.opencontainers.image.version"), text("old")),
                ])),
                healthcheck: Some(HealthConfig {
                    test: Some(vec![text("CMD"), text("old")]),
                    interval: Some(5),
                    ..HealthConfig::default()
                }),
                ..ContainerConfig::default()
            }),
            host_config: Some(HostConfig {
                readonly_rootfs: Some(true),
                cap_drop: Some(vec![text("ALL")]),
                network_mode: Some(text(network)),
                ..HostConfig::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    #[test]
    fn the_new_one_is_limited_as_the_old_one_and_takes_the_rest_from_its_own_image() {
        let body = successor(&inspected("heliograph"), "new:2").unwrap();
        assert_eq!(body.image.as_deref(), Some("new:2"));
        assert_eq!(body.user.as_deref(), Some("10001:10001"));
        assert_eq!(body.cmd.unwrap(), ["--context", "4096"]);
        let environment = body.env.unwrap();
        assert_eq!(
            environment,
            ["HELIOGRAPH_KEY=hgn-x", "HELIOGRAPH_METRICS_PORT=9464"]
        );
        let labels = body.labels.unwrap();
        assert_eq!(labels.len(), 1, "{labels:?}");
        let check = body.healthcheck.unwrap();
        assert_eq!((check.test, check.interval), (None, Some(5)));
        let host = body.host_config.unwrap();
        assert_eq!(
            (host.readonly_rootfs, host.cap_drop.unwrap()),
            (Some(true), vec!["ALL".to_owned()])
        );
    }

    #[test]
    fn on_the_hosts_network_two_rigs_have_two_ports() {
        let body = successor(&inspected("host"), "new:2").unwrap();
        let environment = body.env.unwrap();
        let ports: Vec<&String> = environment
            .iter()
            .filter(|line| line.starts_with(METRICS_PORT))
            .collect();
        assert_eq!(ports.len(), 1);
        assert_ne!(ports[0], "HELIOGRAPH_METRICS_PORT=9464");
        assert_eq!(body.hostname, None, "it is the host's");
    }
}
