//! `up`: from flags to a healthy rig.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectNetworkOptions, StartContainerOptions,
};
use serde_json::json;

use crate::cli::RigOptions;
use crate::engine::{self, explain, is_conflict, is_missing};
use crate::gpu::{self, Gpu};
use crate::plan::{self, Plan};
use crate::rigs::Rig;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::voice::Voice;
use crate::{health, image, native, rigs};

/// What an engine that does not know its memory is taken to have.
const MEMORY_BYTES: i64 = 8 << 30;

/// Render nodes will come.
pub(crate) fn render() -> Result<std::process::ExitCode> {
    bail!("render nodes are not there yet; `heliograph up rig` serves language models")
}

/// Starts a rig and waits until it is healthy.
pub(crate) async fn rig(voice: Voice, settings: &Settings, options: RigOptions) -> Result<()> {
    let relay = settings.needed_relay(options.serves.relay.as_deref())?;
    let key = settings.node_key(options.serves.key_file.as_deref())?;
    let key = key.context(
        "no node key: put it into a file and say `--key-file`, or into HELIOGRAPH_KEY; who runs the relay gives them out",
    )?;
    if options.native {
        return native::run(&options, &relay, &key);
    }
    // What is wrong with the flags is said before anything is asked of Docker.
    let relay = plan::relay(&relay, options.network.as_deref())?;
    check_model(&options)?;
    let docker = engine::connect().await?;
    make_room(&docker, &options.name).await?;
    let found = gpu::chosen(options.image.gpu);
    let gpu = found.gpu;
    voice.event(
        "gpu",
        json!({ "gpu": gpu.as_str(), "because": found.because }),
        &format!("computing with: {} ({})", gpu.as_str(), found.because),
    );
    let reference = image::wanted(&options.image, settings, gpu);
    let plan = plan(&docker, options.clone(), relay, key, gpu, reference).await?;
    let image_id = image::ensure(&docker, voice, &plan.image, options.pull).await?;
    ensure_network(&docker, &plan.network).await?;
    ensure_volume(&docker, &plan.volume).await?;
    let name = rigs::container_name(&plan.name);
    let id = create(&docker, &name, plan.container()).await?;
    begin(&docker, &id).await?;
    voice.event(
        "started",
        json!({ "name": plan.name, "container": name }),
        &format!("started {name}"),
    );
    health::wait(&docker, voice, &id, &plan.name, &options.patience)
        .await
        .with_context(|| {
            format!(
                "`heliograph logs {0}` shows more, `heliograph down {0}` clears it away",
                plan.name
            )
        })?;
    voice.result(
        &json!({
            "event": "up", "name": plan.name, "container": name, "id": id, "image": plan.image,
            "image_id": image_id, "gpu": gpu.as_str(),
        }),
        &format!("{} is healthy and takes work", plan.name),
    );
    Ok(())
}

/// A rig of that name that runs is in the way; one that has ended is cleared away. While an update is under way there are
/// two, and the one that has ended is what the other falls back on: neither is touched where one of them runs.
async fn make_room(docker: &Docker, name: &str) -> Result<()> {
    let mut there = Vec::new();
    for container in [rigs::container_name(name), rigs::next_name(name)] {
        there.extend(rigs::inspect(docker, &container).await?);
    }
    if let Some(rig) = in_the_way(&there) {
        bail!(
            "{name} is there already ({}, {}); `heliograph update {name}` renews it, `heliograph down {name}` \
             removes it, `--name` starts another",
            rig.state(),
            rig.health()
        );
    }
    for rig in there {
        rigs::remove(docker, &rig.id).await?;
    }
    Ok(())
}

/// The first that runs. One that cannot go on has no jobs, and is in nobody's way.
fn in_the_way(rigs: &[Rig]) -> Option<&Rig> {
    rigs.iter()
        .find(|rig| rig.is_up() && rig.broken().is_none())
}

fn check_model(options: &RigOptions) -> Result<()> {
    match options.model.as_deref() {
        Some(model) if is_path(model) => bail!(
            "--model: a file of this machine goes into the container with `--model-file PATH`; `--model` is then the \
             catalog id that it is offered as"
        ),
        Some(_) => Ok(()),
        None => bail!(
            "which model? `--model auto` (the best that fits this machine), or `--model ID`, an entry of the relay's catalog"
        ),
    }
}

async fn plan(
    docker: &Docker,
    options: RigOptions,
    relay: String,
    key: Secret,
    gpu: Gpu,
    image: String,
) -> Result<Plan> {
    let network = options.network.as_deref();
    let model_file = options
        .model_file
        .as_deref()
        .map(plan::model_file)
        .transpose()?;
    let memory = match options.memory {
        Some(bytes) => bytes,
        None => nine_tenths(docker.info().await.map_err(explain)?.mem_total),
    };
    let metrics_port = (network == Some("host")).then(free_port).transpose()?;
    Ok(Plan {
        relay,
        network: options.network.unwrap_or_else(|| rigs::NETWORK.to_owned()),
        name: options.name,
        image,
        gpu,
        needs_card: gpu::is_needed(gpu, options.image.gpu, options.image.image.as_deref()),
        key,
        model: options.model,
        model_file,
        slots: options.slots,
        cpus: options.cpus,
        memory,
        drain_seconds: options.drain_seconds,
        volume: options.volume,
        metrics_port,
        groups: groups(gpu),
        flags: options.flags,
    })
}

/// What the rig would take for a path; inside a container there is nothing at it.
fn is_path(model: &str) -> bool {
    model.starts_with(['/', '.', '~'])
}

/// A leak shall end the rig and not the machine.
fn nine_tenths(total: Option<i64>) -> i64 {
    let total = total.filter(|total| *total > 0).unwrap_or(MEMORY_BYTES);
    total / 10 * 9
}

/// A port that nobody has at the moment; on the host's network the rigs share all ports.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Groups that the host's device files ask for; the container's account is in none of them by itself.
fn groups(gpu: Gpu) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt as _;

    let paths: &[&str] = match gpu {
        Gpu::Cpu | Gpu::Cuda => &[],
        Gpu::Rocm => &["/dev/kfd", "/dev/dri/renderD128"],
        Gpu::Vulkan => &["/dev/dri/renderD128"],
    };
    let mut groups: Vec<u32> = paths
        .iter()
        .filter_map(|path| Some(std::fs::metadata(path).ok()?.gid()))
        .filter(|group| *group != 0)
        .collect();
    groups.dedup();
    groups
}

/// Creates a container.
pub(crate) async fn create(
    docker: &Docker,
    name: &str,
    body: ContainerCreateBody,
) -> Result<String> {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let created = docker
        .create_container(Some(options), body)
        .await
        .map_err(explain)?;
    Ok(created.id)
}

/// Starts a container, and leaves none behind that does not start.
pub(crate) async fn begin(docker: &Docker, id: &str) -> Result<()> {
    let started = docker.start_container(id, None::<StartContainerOptions>);
    if let Err(error) = started.await {
        // The first error is the one that matters.
        _ = rigs::remove(docker, id).await;
        return Err(explain(error));
    }
    Ok(())
}

fn ours() -> HashMap<String, String> {
    HashMap::from([(rigs::OURS.to_owned(), "true".to_owned())])
}

/// Our own network is made where it is not there; somebody else's must be.
async fn ensure_network(docker: &Docker, name: &str) -> Result<()> {
    if name == "host" {
        return Ok(());
    }
    match docker
        .inspect_network(name, None::<InspectNetworkOptions>)
        .await
    {
        Ok(_) => return Ok(()),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(explain(error)),
    }
    if name != rigs::NETWORK {
        bail!(
            "--network: Docker has no network called {name}; `docker network create {name}` makes it"
        );
    }
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(ours()),
        ..NetworkCreateRequest::default()
    };
    match docker.create_network(request).await {
        Ok(_) => Ok(()),
        // Another `up` was quicker.
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) => Err(explain(error)),
    }
}

/// Made with our label, so that `down --volumes` knows it; one that is there stays as it is.
async fn ensure_volume(docker: &Docker, name: &str) -> Result<()> {
    let request = VolumeCreateRequest {
        name: Some(name.to_owned()),
        labels: Some(ours()),
        ..VolumeCreateRequest::default()
    };
    docker
        .create_volume(request)
        .await
        .map(drop)
        .map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use bollard::models::ContainerStateStatusEnum as State;

    fn container(id: &str, status: State, says: &str) -> Rig {
        Rig {
            id: id.into(),
            ..fake::rig(status, None, says)
        }
    }

    #[test]
    fn a_rig_that_runs_is_in_the_way_also_as_the_next_of_an_update() {
        let drained = container("drained", State::EXITED, "draining");
        let starts = container("starts", State::RUNNING, "loading");
        let serves = container("serves", State::RUNNING, "ready");
        let broken = container("broken", State::RUNNING, "broken: no card");
        for (there, wanted) in [
            (vec![drained.clone(), starts.clone()], Some("starts")),
            (vec![broken.clone(), starts], Some("starts")),
            (vec![serves, drained.clone()], Some("serves")),
            (vec![drained, broken], None),
            (vec![], None),
        ] {
            let found = in_the_way(&there).map(|rig| rig.id.as_str());
            assert_eq!(found, wanted, "{there:?}");
        }
    }

    #[test]
    fn a_rig_leaves_the_machine_a_tenth_of_its_memory() {
        assert_eq!(nine_tenths(Some(100)), 90);
        assert_eq!(nine_tenths(Some(0)), nine_tenths(None));
    }

    #[test]
    fn a_path_is_no_model_of_the_catalog() {
        assert!(is_path("./model.gguf") && is_path("/m.gguf"));
        assert!(!is_path("smollm2-135m") && !is_path("auto") && !is_path("https://x/m.gguf"));
    }

    #[test]
    fn render_nodes_say_that_they_are_not_there_yet() {
        let error = render().unwrap_err().to_string();
        assert!(
            error.contains("not there yet") && error.contains("up rig"),
            "{error}"
        );
    }
}
