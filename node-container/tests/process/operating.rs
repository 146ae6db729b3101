//! What an operator sees of a running rig.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use protocol::{ErrorCode, NodeToRelay};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::relay::Relay;
use crate::rig::{
    KEY, assign, assign_with, exit_code, log_file, request, rig, rig_without_model, signal,
};

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

pub(crate) fn get(port: u16, path: &str) -> String {
    let mut stream =
        TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: rig\r\nConnection: close\r\n\r\n"
    )
    .expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

pub(crate) fn rig_command(words: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
    command.args(words).env_clear();
    command.output().expect("it runs")
}

#[tokio::test]
async fn a_rig_says_what_it_is_how_it_is_and_what_it_did() {
    let relay = Relay::bind().await;
    let log = log_file("metrics");
    let port = free_port();
    let mut command = rig(&relay, &log);
    command.env("HELIOGRAPH_METRICS_PORT", port.to_string());
    let child = command.spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    let NodeToRelay::Hello {
        machine, models, ..
    } = connection.message().await
    else {
        panic!("expected hello");
    };
    let machine = machine.expect("it says what it runs on");
    assert!(machine.memory_bytes > 0 && machine.runtime.starts_with("llama.cpp"));
    let measured = models[0].measured.expect("it has tested itself");
    assert!(measured.prefill_tokens_per_second > 0 && measured.decode_tokens_per_second > 0);

    assert!(get(port, "/healthz").starts_with("HTTP/1.1 503"));
    let words = ["health", "--metrics-port", &port.to_string()];
    assert!(!rig_command(&words).status.success());
    connection.welcome().await;
    assign(&mut connection, 1, request("Tell me about the sea.", 20)).await;
    connection.follow(1).await;
    assert!(get(port, "/healthz").starts_with("HTTP/1.1 200"));
    let health = rig_command(&words);
    assert!(health.status.success());
    assert_eq!(String::from_utf8_lossy(&health.stdout).trim(), "ready");
    let metrics = get(port, "/metrics");
    for line in [
        "heliograph_rig_jobs_total{outcome=\"finished\"} 1",
        "heliograph_rig_jobs_running 0",
        "heliograph_rig_slots 2",
        "heliograph_rig_state{state=\"ready\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn what_the_drains_time_does_not_suffice_for_is_handed_back() {
    let relay = Relay::bind().await;
    let log = log_file("hand-back");
    let mut command = rig(&relay, &log);
    command.args(["--drain-seconds", "1"]);
    let child = command.spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    // Nobody acknowledges it, so that it pauses at its window and can never end.
    let asked = request("Tell me about the sea.", 400);
    assign_with(&mut connection, 1, asked, 100).await;
    connection.first_token(1).await;
    signal(&child, Signal::SIGTERM);
    let failure = loop {
        let message = connection.message_after_tokens().await;
        if let NodeToRelay::Failed { alias: 1, failure } = message {
            break failure;
        }
    };
    assert_eq!(failure.code, ErrorCode::Draining);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_signal_ends_a_rig_that_loads_its_model_or_tests_itself() {
    for (begun, next) in [
        ("loading the model", "model loaded"),
        ("model loaded", "self-test passed"),
    ] {
        let relay = Relay::bind().await;
        let mut command = rig(&relay, Path::new("/dev/null"));
        // Room for the longest self-test.
        command.args(["--context", "2048"]).stderr(Stdio::piped());
        let mut child = command.spawn().expect("rig starts");
        relay.admit().await;
        let log = child.stderr.take().expect("piped");
        let mut lines = BufReader::new(log).lines();
        let mut text = String::new();
        while let Some(line) = lines.next_line().await.expect("it logs text") {
            if line.contains(begun) {
                signal(&child, Signal::SIGTERM);
            }
            text += &line;
            text.push('\n');
        }
        assert_eq!(exit_code(child).await, Some(0), "{text}");
        assert!(text.contains("stopped while loading"), "{text}");
        assert!(!text.contains(next), "it went on: {text}");
        assert!(!relay.was_asked().await);
    }
}

/// A host that gives so many bytes of each file, says that it has `total`, and then nothing more.
fn stalling_host(given: usize, total: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut clients = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.extend(byte);
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n");
            // Who only looked has gone.
            drop(stream.write_all(answer.as_bytes()));
            drop(stream.write_all(&vec![0; given]));
            clients.push(stream);
        }
    });
    port
}

#[tokio::test]
async fn a_rig_that_fetches_says_how_far_it_is() {
    let relay = Relay::bind().await;
    let log = log_file("fetches");
    let cache = log.with_extension("cache");
    let port = free_port();
    let host = stalling_host(8_000_000, 40_000_000);
    let mut command = rig_without_model(&relay, &log);
    command
        .env("HELIOGRAPH_METRICS_PORT", port.to_string())
        .arg("--model")
        .arg(format!("http://127.0.0.1:{host}/model.gguf"))
        .args(["--offer-as", "test-model", "--cache"])
        .arg(&cache);
    let child = command.spawn().expect("rig starts");
    relay.admit().await;
    let said = loop {
        let answer = get(port, "/healthz");
        if answer.contains("8.0 MB") {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    let line = "fetching: model.gguf, 8.0 MB of 40.0 MB (20 %), ";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("/s, ") && said.contains(" left"), "{said}");
    let health = rig_command(&["health", "--metrics-port", &port.to_string()]);
    assert!(!health.status.success());
    let health = String::from_utf8_lossy(&health.stdout);
    assert!(health.starts_with(line), "{health}");
    signal(&child, Signal::SIGTERM);
    assert_eq!(exit_code(child).await, Some(0));
    std::fs::remove_file(log).expect("removed");
    std::fs::remove_dir_all(cache).expect("removed");
}

#[tokio::test]
async fn the_doctor_finds_a_relay_that_is_not_there_and_a_key_that_is_none() {
    let report = |words: &[&str]| {
        let output = rig_command(words);
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("one JSON object");
        (output.status.code(), report)
    };
    let gone = format!("ws://127.0.0.1:{}", free_port());
    let (code, found) = report(&["doctor", "--json", "--relay", &gone, "--key", "hgn-x"]);
    assert_eq!(code, Some(1));
    let findings = found["findings"].as_array().expect("a list");
    let relay = findings.iter().find(|finding| finding["what"] == "relay");
    assert_eq!(relay.expect("looked at")["grade"], "bad");
    assert!(
        findings
            .iter()
            .all(|finding| finding["grade"] == "ok" || finding["mend"].is_string())
    );
    assert!(!found.to_string().contains("hgn-x"));
}
