//! `doctor`: what stands between this machine and a rig that serves, and how to mend it. Each rig that runs is asked for
//! its own opinion too (`rig doctor`), since only it sees the card, the clock and the relay from where it is.

mod opinion;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bollard::Docker;
use bollard::models::SystemInfo;
use serde_json::{Value, json};

use crate::cli::DoctorOptions;
use crate::engine::{self, Refusal, explain};
use crate::gpu::{self, Gpu};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::voice::{Voice, bytes};
use crate::{chat, image, rigs};

/// A relay that takes longer is of no use to anybody.
const RELAY_MAX: Duration = Duration::from_secs(10);

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
    checks.extend(look_at_relay(relay.as_deref(), key).await);
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

async fn look_at_relay(relay: Option<&str>, key: Result<Option<Secret>>) -> Vec<Check> {
    let mut checks = Vec::new();
    let key = match key {
        Ok(Some(key)) => Some(key),
        Ok(None) => {
            let mend =
                "`--key-file PATH` or HELIOGRAPH_KEY; the relay's operator gives out node keys";
            checks.push(check(
                "key",
                Verdict::Warning,
                "no node key was given",
                Some(mend),
            ));
            None
        }
        Err(error) => {
            checks.push(check("key", Verdict::Wrong, format!("{error:#}"), None));
            None
        }
    };
    let Some(relay) = relay else {
        checks.push(check(
            "relay",
            Verdict::Skipped,
            "no relay was named",
            Some("`--relay wss://relay.example` looks at one, and whether it takes the key"),
        ));
        return checks;
    };
    match reach(relay).await {
        Ok(client) => {
            checks.push(check(
                "relay",
                Verdict::Fine,
                format!("{relay} answers"),
                None,
            ));
            if let Some(key) = key {
                checks.push(try_key(&client, relay, &key).await);
            }
        }
        Err(error) => checks.push(check(
            "relay",
            Verdict::Wrong,
            format!("{relay} does not answer: {error:#}"),
            Some("check the address, this machine's network and its proxy settings"),
        )),
    }
    checks
}

async fn reach(relay: &str) -> Result<reqwest::Client> {
    let client = chat::client()?;
    let url = format!("{}/health", chat::base(relay)?);
    let answer = client
        .get(url)
        .timeout(RELAY_MAX)
        .send()
        .await
        .map_err(chat::causes)?;
    answer.error_for_status().map_err(chat::causes)?;
    Ok(client)
}

/// Begins to connect as a node would. A wrong key is refused before the connection becomes a WebSocket.
async fn try_key(client: &reqwest::Client, relay: &str, key: &Secret) -> Check {
    let answer = match chat::base(relay) {
        Ok(base) => {
            let request = client
                .get(format!("{base}/node"))
                .bearer_auth(key.reveal())
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13")
                // Any 16 bytes; nothing is said over the connection.
                .header("Sec-WebSocket-Key", "aGVsaW9ncmFwaC1kb2N0bw==")
                .header("Sec-WebSocket-Protocol", "heliograph.v1");
            request
                .timeout(RELAY_MAX)
                .send()
                .await
                .map_err(chat::causes)
        }
        Err(error) => Err(error),
    };
    match answer.map(|answer| answer.status().as_u16()) {
        Ok(101) => check("key", Verdict::Fine, "the relay takes this node key", None),
        Ok(401 | 403) => check(
            "key",
            Verdict::Wrong,
            "the relay refuses this node key",
            Some(
                "ask the relay's operator for one (it begins with hgn-), or whether it was taken back",
            ),
        ),
        Ok(status) => check(
            "key",
            Verdict::Warning,
            format!("the relay said {status} to it"),
            None,
        ),
        Err(error) => check(
            "key",
            Verdict::Warning,
            format!("could not be tried: {error:#}"),
            None,
        ),
    }
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
    async fn a_relay_that_is_not_there_is_wrong_and_no_key_is_sent_to_it() {
        let checks = look_at_relay(Some("ws://127.0.0.1:1"), Ok(None)).await;
        let verdicts: Vec<_> = checks
            .iter()
            .map(|check| (check.what.as_str(), check.verdict))
            .collect();
        assert_eq!(
            verdicts,
            [("key", Verdict::Warning), ("relay", Verdict::Wrong)]
        );
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
