//! `doctor`: what stands between this machine and a rig that serves, and how to mend it. Each rig that runs is asked for
//! its own opinion too (`rig doctor`), since only it sees the card, the clock and the relay from where it is.

mod opinion;
mod relay;

use std::process::ExitCode;

use anyhow::Result;
use bollard::Docker;
use bollard::models::SystemInfo;
use serde_json::{Value, json};

use crate::cli::DoctorOptions;
use crate::engine::{self, Refusal, explain};
use crate::gpu::{self, Gpu};
use crate::settings::Settings;
use crate::voice::{Voice, bytes};
use crate::{image, rigs};

/// Less room than this fails the first download.
const DISK_BYTES_MIN: u64 = 10 << 30;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    Warning,
    Wrong,
    Skipped,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    what: String,
    verdict: Verdict,
    says: String,
    mend: Option<&'static str>,
    /// What a rig says of itself.
    report: Option<Value>,
}

fn check(
    what: &str,
    verdict: Verdict,
    says: impl Into<String>,
    mend: Option<&'static str>,
) -> Check {
    Check {
        what: what.to_owned(),
        verdict,
        says: says.into(),
        mend,
        report: None,
    }
}

/// Looks at everything; the exit code is a failure where something is wrong.
pub(crate) async fn run(
    voice: Voice,
    settings: &Settings,
    options: DoctorOptions,
) -> Result<ExitCode> {
    let found = gpu::chosen(options.image.gpu);
    let mut checks = Vec::new();
    match engine::connect().await {
        Ok(docker) => {
            let reference = image::wanted(&options.image, settings, found.gpu);
            look_at_docker(&docker, &reference, &found, &mut checks).await;
        }
        Err(error) => checks.extend([refused("Docker", &error), card(&found, None)]),
    }
    let relay = settings.relay(options.serves.relay.as_deref());
    let key = settings.node_key(options.serves.key_file.as_deref());
    checks.extend(relay::look_at(relay.as_deref(), key).await);
    let is_wrong = checks.iter().any(|check| check.verdict == Verdict::Wrong);
    let values: Vec<Value> = checks.iter().map(value).collect();
    voice.result(
        &json!({ "ok": !is_wrong, "checks": values }),
        &text(&checks),
    );
    Ok(if is_wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn value(check: &Check) -> Value {
    let mut value = json!({
        "what": check.what, "verdict": check.verdict.as_str(), "says": check.says, "mend": check.mend,
    });
    if let (Some(report), Some(fields)) = (&check.report, value.as_object_mut()) {
        fields.insert("report".to_owned(), report.clone());
    }
    value
}

fn text(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.what.len())
        .max()
        .unwrap_or(0);
    let lines = checks.iter().map(|check| {
        let mut line = format!(
            "{:<7}  {:<width$}  {}",
            check.verdict.as_str(),
            check.what,
            check.says
        );
        if let Some(mend) = check.mend {
            line = format!("{line}\n{:<7}  {:<width$}  → {mend}", "", "");
        }
        if let Some(report) = &check.report {
            line = format!("{line}{}", opinion::text(report));
        }
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

async fn look_at_docker(
    docker: &Docker,
    reference: &str,
    found: &gpu::Found,
    checks: &mut Vec<Check>,
) {
    let info = match docker.info().await.map_err(explain) {
        Ok(info) => info,
        Err(error) => {
            checks.extend([refused("Docker", &error), card(found, None)]);
            return;
        }
    };
    let version = info.server_version.clone().unwrap_or_default();
    checks.push(check(
        "Docker",
        Verdict::Fine,
        format!("version {version}"),
        None,
    ));
    checks.push(card(found, Some(&info)));
    checks.push(match image::id(docker, reference).await {
        Ok(Some(_)) => check("image", Verdict::Fine, format!("{reference} is here"), None),
        Ok(None) => check(
            "image",
            Verdict::Warning,
            format!("{reference} is not here"),
            Some(if image::is_ours_alone(reference) {
                image::GET_ONE
            } else {
                "`up` pulls it"
            }),
        ),
        Err(error) => refused("image", &error),
    });
    checks.push(disk(info.docker_root_dir.as_deref()));
    match rigs::all(docker).await {
        Ok(all) => {
            for rig in all {
                checks.push(opinion::of(docker, &rig).await);
            }
        }
        Err(error) => checks.push(refused("rigs", &error)),
    }
}

/// What Docker said, with the remedy apart where we know one.
fn refused(what: &str, error: &anyhow::Error) -> Check {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => check(what, Verdict::Wrong, refusal.says.clone(), refusal.hint),
        None => check(what, Verdict::Wrong, error.to_string(), None),
    }
}

/// The card; whether Docker can hand it out is known where Docker answers.
fn card(found: &gpu::Found, info: Option<&SystemInfo>) -> Check {
    let says = format!("{} ({})", found.gpu.as_str(), found.because);
    match found.gpu {
        Gpu::Cpu => check(
            "card",
            Verdict::Warning,
            says,
            Some("rigs compute on the processor; if there is a card, install its driver"),
        ),
        Gpu::Cuda if info.is_some_and(|info| !knows_nvidia(info)) => check(
            "card",
            Verdict::Wrong,
            format!("{says}, but Docker cannot hand it out"),
            Some(
                "install nvidia-container-toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker` and \
                 restart Docker",
            ),
        ),
        Gpu::Cuda | Gpu::Rocm | Gpu::Vulkan => check("card", Verdict::Fine, says, None),
    }
}

fn knows_nvidia(info: &SystemInfo) -> bool {
    let runtimes = info.runtimes.as_ref();
    let devices = info.discovered_devices.iter().flatten();
    runtimes.is_some_and(|all| all.contains_key("nvidia"))
        || devices
            .filter_map(|device| device.id.as_deref())
            .any(|id| id.starts_with("nvidia.com/gpu"))
}

/// Where the engine keeps images and volumes, if that is on this machine.
fn disk(folder: Option<&str>) -> Check {
    let room = folder.and_then(|folder| nix::sys::statvfs::statvfs(folder).ok());
    let Some(room) = room else {
        return check(
            "disk",
            Verdict::Skipped,
            "the engine's disk cannot be seen from here",
            None,
        );
    };
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    let says = format!("{} free in {}", bytes(free), folder.unwrap_or_default());
    if free < DISK_BYTES_MIN {
        let mend = "models need room: `docker image prune`, or move Docker's data-root";
        return check("disk", Verdict::Warning, says, Some(mend));
    }
    check("disk", Verdict::Fine, says, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_card_that_docker_cannot_hand_out_is_wrong_and_says_what_to_install() {
        let found = gpu::Found {
            gpu: Gpu::Cuda,
            because: "/dev/nvidiactl is there".into(),
        };
        let without = card(&found, Some(&SystemInfo::default()));
        assert_eq!(without.verdict, Verdict::Wrong);
        assert!(without.mend.unwrap().contains("nvidia-container-toolkit"));
        let info = SystemInfo {
            runtimes: Some(HashMap::from([(
                "nvidia".to_owned(),
                bollard::models::Runtime::default(),
            )])),
            ..SystemInfo::default()
        };
        assert_eq!(card(&found, Some(&info)).verdict, Verdict::Fine);
        assert_eq!(card(&found, None).verdict, Verdict::Fine);
    }

    #[tokio::test]
    async fn what_docker_refuses_has_its_remedy_apart() {
        let gone = Docker::connect_with_http("http://127.0.0.1:1", 5, bollard::API_DEFAULT_VERSION);
        let error = explain(gone.unwrap().ping().await.unwrap_err());
        let check = refused("Docker", &error);
        assert!(check.mend.unwrap().contains("systemctl start docker"));
        assert!(check.says.contains("refused"), "{}", check.says);
    }

    #[test]
    fn the_text_puts_the_remedy_under_the_fault() {
        let checks = [check(
            "disk",
            Verdict::Warning,
            "1 GiB free",
            Some("tidy up"),
        )];
        assert_eq!(
            text(&checks),
            "warning  disk  1 GiB free\n               → tidy up"
        );
    }
}
