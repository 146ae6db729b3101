//! Which image, and getting it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::cli::ImageFlags;
use crate::engine::{explain, is_missing};
use crate::gpu::Gpu;
use crate::login;
use crate::settings::Settings;
use crate::voice::{Voice, bytes};

/// What the names of images begin with that can only have been built on a machine: no registry is called so.
const THIS_MACHINE: &str = "localhost/";

/// Where images are said to come from unless somebody says otherwise: this machine, where `docker build` put them.
/// No public registry has them yet, and a name there that is not ours would be an invitation.
const HERE: &str = "localhost/heliograph";

/// What to do where such an image is not here.
pub(crate) const GET_ONE: &str = "say with --registry where it comes from, or build it in a clone of Heliograph (docs/images.md)";

/// How often a pull tells a log how far it is.
const REPORT: Duration = Duration::from_secs(5);

/// The image that these flags and settings mean, for a card.
pub(crate) fn wanted(flags: &ImageFlags, settings: &Settings, gpu: Gpu) -> String {
    let registry = flags.registry.as_deref().or(settings.registry.as_deref());
    reference(flags.image.as_deref(), registry, gpu)
}

/// The image for a card.
fn reference(image: Option<&str>, registry: Option<&str>, gpu: Gpu) -> String {
    image.map_or_else(
        || {
            let prefix = registry.unwrap_or(HERE).trim_end_matches('/');
            format!(
                "{prefix}/rig-{}:{}",
                gpu.as_str(),
                env!("CARGO_PKG_VERSION")
            )
        },
        str::to_owned,
    )
}

/// Whether an image is called as ours for this card is, wherever it comes from.
pub(crate) fn is_for(reference: &str, gpu: Gpu) -> bool {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    let name = name.split([':', '@']).next().unwrap_or(name);
    name.strip_prefix("rig-") == Some(gpu.as_str())
}

/// Whether an image can only have been built on this machine.
pub(crate) fn is_ours_alone(reference: &str) -> bool {
    reference.starts_with(THIS_MACHINE)
}

/// The id of an image that is here.
pub(crate) async fn id(docker: &Docker, reference: &str) -> Result<Option<String>> {
    match docker.inspect_image(reference).await {
        Ok(image) => Ok(image.id),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(explain(error)),
    }
}

/// Makes sure that an image is here, and says which it is.
pub(crate) async fn ensure(
    docker: &Docker,
    voice: Voice,
    reference: &str,
    pull_anyway: bool,
) -> Result<String> {
    let here = id(docker, reference).await?;
    match here {
        Some(id) if !pull_anyway => return Ok(id),
        None if is_ours_alone(reference) => {
            bail!("the image {reference} is not on this machine; {GET_ONE}")
        }
        Some(_) | None => {}
    }
    let got = pull(docker, voice, reference).await;
    got.with_context(|| format!("cannot get the image {reference}"))?;
    let id = id(docker, reference).await?;
    id.with_context(|| format!("the image {reference} was pulled and is not here"))
}

/// Pulls an image, saying how far it is.
pub(crate) async fn pull(docker: &Docker, voice: Voice, reference: &str) -> Result<()> {
    voice.event(
        "pull",
        json!({ "image": reference }),
        &format!("pulling {reference}"),
    );
    // Without a tag the engine would pull every tag there is.
    let (_, last) = reference.rsplit_once('/').unwrap_or(("", reference));
    let tagged = if last.contains([':', '@']) {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    };
    let options = CreateImageOptionsBuilder::new().from_image(&tagged).build();
    let mut layers = Layers::default();
    let mut reported = Instant::now();
    let login = login::of(reference).unwrap_or_else(|error| {
        // Most images want none.
        let text = format!("pulling without a login: {error:#}");
        voice.event(
            "no_login",
            json!({ "image": reference, "because": format!("{error:#}") }),
            &text,
        );
        None
    });
    let mut stream = Box::pin(docker.create_image(Some(options), None, login));
    while let Some(step) = stream.next().await {
        layers.take(step.map_err(explain)?);
        let (done, total) = layers.sum();
        let text = format!("pulling {reference}: {} of {}", bytes(done), bytes(total));
        voice.now(&text);
        if !voice.is_live() && total > 0 && reported.elapsed() > REPORT {
            reported = Instant::now();
            voice.event(
                "pulling",
                json!({ "image": reference, "bytes": done, "bytes_total": total }),
                &text,
            );
        }
    }
    Ok(())
}

/// How far each layer is. The engine names layers by itself; an image has at most some hundred.
#[derive(Debug, Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    fn take(&mut self, step: CreateImageInfo) {
        let (Some(id), Some(detail)) = (step.id, step.progress_detail) else {
            return;
        };
        // Unpacking counts the same bytes again.
        if step.status.as_deref() != Some("Downloading") {
            return;
        }
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        if let (Some(current), Some(total)) = (count(detail.current), count(detail.total)) {
            self.0.insert(id, (current, total));
        }
    }

    fn sum(&self) -> (u64, u64) {
        self.0
            .values()
            .fold((0, 0), |(done, total), (current, all)| {
                (done + current, total + all)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn the_image_follows_the_card_unless_it_is_named() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            reference(None, None, Gpu::Cpu),
            format!("localhost/heliograph/rig-cpu:{version}")
        );
        assert_eq!(
            reference(None, Some("registry.example/h/"), Gpu::Rocm),
            format!("registry.example/h/rig-rocm:{version}")
        );
        assert_eq!(reference(Some("mine:1"), Some("x"), Gpu::Cuda), "mine:1");
        assert!(is_ours_alone(&reference(None, None, Gpu::Cpu)));
        assert!(is_ours_alone("localhost/mine:1"));
        let elsewhere = ["localhost:5000/heliograph/rig-cpu:1", "mine:1"];
        assert!(!elsewhere.into_iter().any(is_ours_alone));
    }

    #[test]
    fn only_downloads_count_and_each_layer_once() {
        let step = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        layers.take(step("a", "Downloading", 10, 100));
        layers.take(step("a", "Downloading", 60, 100));
        layers.take(step("b", "Downloading", 5, 50));
        layers.take(step("a", "Extracting", 100, 100));
        layers.take(step("b", "Downloading", -1, 50));
        assert_eq!(layers.sum(), (65, 150));
    }

    #[test]
    fn our_images_are_known_by_their_names() {
        for (reference, gpu, wanted) in [
            ("localhost/heliograph/rig-cuda:0.1.0", Gpu::Cuda, true),
            ("registry.example:5000/rig-rocm", Gpu::Rocm, true),
            ("registry.example/rig-vulkan@sha256:ab", Gpu::Vulkan, true),
            ("localhost/heliograph/rig-cpu:0.1.0", Gpu::Cuda, false),
            ("somebody/rig-cuda-mine:1", Gpu::Cuda, false),
            ("rig-cuda/mine:1", Gpu::Cuda, false),
        ] {
            assert_eq!(is_for(reference, gpu), wanted, "{reference}");
        }
    }
}
