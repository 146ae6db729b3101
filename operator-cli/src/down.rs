//! `drain` and `down`: letting go of nodes, so that nobody loses an answer and nothing is left behind.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use bollard::Docker;
use bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions,
};
use serde_json::json;

use crate::cli::{DownOptions, NamesOptions};
use crate::engine::{self, explain, is_conflict, is_missing};
use crate::health;
use crate::rigs::{self, OURS, Rig};
use crate::voice::Voice;

/// Stops nodes once their answers are done; their containers stay, for their logs.
pub(crate) async fn drain(voice: Voice, options: &NamesOptions) -> Result<()> {
    let docker = engine::connect().await?;
    let chosen = rigs::named(&docker, &options.names).await?;
    for rig in chosen.iter().filter(|rig| rig.is_up()) {
        drain_one(&docker, voice, rig).await?;
    }
    let text = if chosen.is_empty() { rigs::NONE } else { "" };
    voice.result(&json!({ "event": "drained" }), text);
    Ok(())
}

/// Asks one to drain, waits, and says how it ended.
pub(crate) async fn drain_one(docker: &Docker, voice: Voice, rig: &Rig) -> Result<()> {
    let name = &rig.name;
    voice.event(
        "draining",
        json!({ "name": name, "container": rig.container }),
        &format!("{name} takes no new work and finishes what runs"),
    );
    rigs::stop(docker, rig).await?;
    let ended = rigs::inspect(docker, &rig.id).await?;
    let reason = ended
        .as_ref()
        .map_or_else(|| "removed".to_owned(), health::reason);
    let code = ended.as_ref().and_then(Rig::exit_code);
    voice.event(
        "stopped",
        json!({ "name": name, "container": rig.container, "exit_code": code }),
        &format!("{name} stopped: {reason}"),
    );
    Ok(())
}

/// Drains and removes.
pub(crate) async fn down(voice: Voice, options: &DownOptions) -> Result<()> {
    let docker = engine::connect().await?;
    let chosen = rigs::named(&docker, &options.names).await?;
    let mut volumes = BTreeSet::new();
    for rig in &chosen {
        if rig.is_up() && !options.now {
            drain_one(&docker, voice, rig).await?;
        }
        let mounts = rig.inspected.mounts.iter().flatten();
        volumes.extend(mounts.filter_map(|mount| mount.name.clone()));
        rigs::remove(&docker, &rig.id).await?;
        let text = format!("removed {}", rig.container);
        voice.event(
            "removed",
            json!({ "name": rig.name, "container": rig.container }),
            &text,
        );
    }
    let mut removed = Vec::new();
    if rigs::all(&docker).await?.is_empty() {
        removed.extend(remove_networks(&docker).await?);
    }
    if options.volumes {
        removed.extend(remove_volumes(&docker, voice, options.names.is_empty(), &volumes).await?);
    }
    let names: BTreeSet<&str> = chosen.iter().map(|rig| rig.name.as_str()).collect();
    let text = match (names.len(), removed.is_empty()) {
        (0, true) => "nothing was there".to_owned(),
        (_, true) => String::new(),
        (_, false) => format!("removed {}", removed.join(", ")),
    };
    voice.result(
        &json!({ "event": "down", "names": names, "also_removed": removed }),
        &text,
    );
    Ok(())
}

fn labelled() -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("{OURS}=true")])])
}

/// Networks that we made and that nobody else has joined.
async fn remove_networks(docker: &Docker) -> Result<Vec<String>> {
    let options = ListNetworksOptionsBuilder::new()
        .filters(&labelled())
        .build();
    let networks = docker.list_networks(Some(options)).await.map_err(explain)?;
    let mut removed = Vec::new();
    for name in networks.into_iter().filter_map(|network| network.name) {
        match docker.remove_network(&name).await {
            Ok(()) => removed.push(format!("network {name}")),
            Err(error) if is_missing(&error) => {}
            // Somebody's own container is in it; it is theirs now.
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 403, ..
            }) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(removed)
}

/// Volumes that we made: all of them, or those that the removed nodes had.
async fn remove_volumes(
    docker: &Docker,
    voice: Voice,
    all: bool,
    used: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let options = ListVolumesOptionsBuilder::new()
        .filters(&labelled())
        .build();
    let volumes = docker
        .list_volumes(Some(options))
        .await
        .map_err(explain)?
        .volumes;
    let mut removed = Vec::new();
    for name in volumes.into_iter().flatten().map(|volume| volume.name) {
        if !all && !used.contains(&name) {
            continue;
        }
        match docker
            .remove_volume(&name, None::<RemoveVolumeOptions>)
            .await
        {
            Ok(()) => removed.push(format!("volume {name}")),
            Err(error) if is_missing(&error) => {}
            Err(error) if is_conflict(&error) => {
                let text = format!("volume {name} stays: another node uses it");
                voice.event("kept", json!({ "volume": name }), &text);
            }
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(removed)
}
