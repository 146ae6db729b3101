//! Starts, asks and ends the `rig` program.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::chat::{LogitBias, Sampling};
use protocol::{ChatMessage, ChatRequest, JobId, NodeToRelay, RelayToNode, Role};
use tokio::process::{Child, Command};

use crate::relay::{Connection, Record, Relay, model_file};

pub(crate) const KEY: &str = "hgn-process-test-key";

pub(crate) fn rig(relay: &Relay, log: &std::path::Path) -> Command {
    let mut command = rig_without_model(relay, log);
    command
        .args(["--model", "test-model", "--model-file"])
        .arg(model_file());
    command
}

pub(crate) fn rig_without_model(relay: &Relay, log: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
    // What tells these tests where the tools are would be settings to a rig.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HELIOGRAPH_")) {
        command.env_remove(name);
    }
    command
        .args(["--relay", &relay.url()])
        .args(["--slots", "2", "--context", "512", "--threads", "1"])
        .env("HELIOGRAPH_METRICS_PORT", "0")
        .env("HELIOGRAPH_KEY", KEY)
        // Nothing may depend on where it is started from, or on what cargo sets for tests.
        .env_remove("LD_LIBRARY_PATH")
        .env("RUST_LOG", "trace")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).expect("a log file"))
        .kill_on_drop(true);
    command
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs").cast_signed();
    kill(Pid::from_raw(pid), signal).expect("signal sent");
}

pub(crate) async fn exit_code(mut child: Child) -> Option<i32> {
    child.wait().await.expect("it ends").code()
}

pub(crate) fn log_file(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("heliograph-rig-{name}-{}.log", std::process::id()))
}

/// Goes on until `max_tokens`.
pub(crate) fn request(content: &str, max_tokens: u32) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
            ..ChatMessage::default()
        }],
        sampling: Sampling {
            temperature: Some(0.0),
            logit_bias: [0, 2]
                .map(|token| LogitBias {
                    token,
                    bias: -100.0,
                })
                .to_vec(),
            ..Sampling::default()
        },
        max_tokens: Some(max_tokens),
        ..ChatRequest::default()
    }
}

/// The job that is assigned first under this alias.
pub(crate) fn job_id(alias: u32) -> JobId {
    JobId::from_random([u8::try_from(alias).expect("small"); 16])
}

pub(crate) async fn assign(connection: &mut Connection, alias: u32, request: ChatRequest) {
    assign_with(connection, alias, request, 64 << 10).await;
}

pub(crate) async fn assign_with(
    connection: &mut Connection,
    alias: u32,
    request: ChatRequest,
    window_bytes: u32,
) {
    let assignment = RelayToNode::Assign {
        job: job_id(alias),
        attempt: 1,
        alias,
        model: "test-model".to_owned(),
        lease_ms: 10_000,
        window_bytes,
        ticket: format!("ticket {alias}"),
        request: request.into(),
        answer: None,
        prefix: None,
    };
    connection.send(&assignment).await;
}

/// Reads `hello` and the announcements that it promises, welcomed in between.
pub(crate) async fn announced(connection: &mut Connection) -> Vec<NodeToRelay> {
    let NodeToRelay::Hello { announces, .. } = connection.message().await else {
        panic!("expected hello");
    };
    connection.welcome().await;
    let mut announcements = Vec::new();
    for _ in 0..announces {
        announcements.push(connection.message().await);
    }
    announcements
}

/// Hands the job that was assigned as `first` over to this connection, with what was read of it.
pub(crate) async fn adopt(connection: &mut Connection, first: u32, alias: u32, record: Record) {
    let message = RelayToNode::Adopt {
        job: job_id(first),
        attempt: 1,
        alias,
        lease_ms: 10_000,
        window_bytes: 100,
        offset: record.offset,
        tokens: record.tokens,
        hash: record.hash(),
    };
    connection.go_on(record);
    connection.send(&message).await;
}
