//! Rigs that cannot go on: what they say, to whom, and with which code they end.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use protocol::{ErrorCode, NodeToRelay};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::operating::{free_port, get, rig_command};
use crate::relay::Relay;
use crate::rig::{KEY, assign, exit_code, log_file, request, rig, signal};

/// A rig that stays, and what can be seen of it.
struct Staying {
    child: Child,
    port: u16,
    lines: Lines<BufReader<ChildStderr>>,
    log: String,
}

impl Staying {
    fn start(relay: &Relay, cache: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let port = free_port();
        let mut command = rig(relay, Path::new("/dev/null"));
        command
            .env("HELIOGRAPH_ON_FAILURE", "stay")
            .env("HELIOGRAPH_METRICS_PORT", port.to_string())
            .env("HELIOGRAPH_CACHE", cache)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("rig starts");
        let log = child.stderr.take().expect("piped");
        Self {
            child,
            port,
            lines: BufReader::new(log).lines(),
            log: String::new(),
        }
    }

    /// Reads its log up to a line with these words.
    async fn says(&mut self, words: &str) {
        loop {
            let line = self.lines.next_line().await.expect("text");
            let line = line.unwrap_or_else(|| panic!("it never says {words:?}: {}", self.log));
            self.log += &line;
            self.log.push('\n');
            if line.contains(words) {
                return;
            }
        }
    }

    /// That it is broken, with this reason, wherever an operator looks.
    fn is_broken(&self, reason: &str) {
        let health = get(self.port, "/healthz");
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
        let (_, body) = health.split_once("\r\n\r\n").expect("a body");
        assert!(
            body.starts_with("broken: ") && body.contains(reason),
            "{body}"
        );
        let checked = rig_command(&["health", "--metrics-port", &self.port.to_string()]);
        assert!(!checked.status.success());
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            said.starts_with("broken: ") && said.contains(reason),
            "{said}"
        );
        let metrics = get(self.port, "/metrics");
        let state = "heliograph_rig_state{state=\"broken\"} 1";
        assert!(metrics.contains(state), "{metrics}");
        assert!(
            metrics.contains("heliograph_rig_trouble{reason="),
            "{metrics}"
        );
        assert!(!self.log.contains(KEY) && !metrics.contains(KEY));
    }

    async fn stop(self) -> Option<i32> {
        signal(&self.child, Signal::SIGTERM);
        exit_code(self.child).await
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("heliograph-rig-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("removed");
    }
}

#[tokio::test]
async fn a_refused_key_ends_the_rig_before_anything_is_loaded() {
    let relay = Relay::bind().await;
    let log = log_file("refused");
    let child = rig(&relay, &log).spawn().expect("rig starts");
    relay.refuse().await;
    assert_eq!(exit_code(child).await, Some(3));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("refuses this node's key"), "{text}");
    assert!(!text.contains("loading the model"), "{text}");
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_rig_with_a_refused_key_stays_says_so_and_comes_again_later() {
    let relay = Relay::bind().await;
    let cache = Folder::new("stay-key");
    let mut staying = Staying::start(&relay, &cache.0, |_| {});
    relay.refuse().await;
    // A quarter of an hour.
    staying.says("It ends with code 3 in 900 s").await;
    staying.is_broken("refuses this node's key");
    assert!(!staying.log.contains("loading"), "{}", staying.log);
    assert!(!relay.was_asked().await, "once is enough");
    assert_eq!(staying.stop().await, Some(3));
}

#[tokio::test]
async fn a_rig_with_a_wrong_flag_stays_and_says_so_until_it_is_stopped() {
    let relay = Relay::bind().await;
    let cache = Folder::new("stay-flag");
    let mut staying = Staying::start(&relay, &cache.0, |command| {
        command.args(["--slots", "0"]);
    });
    staying.says("broken: a setting is wrong").await;
    staying.is_broken("--slots");
    assert_eq!(staying.stop().await, Some(2));
    assert!(!relay.was_asked().await);
}

#[tokio::test]
async fn a_rig_that_must_have_a_card_and_has_none_does_not_load() {
    let relay = Relay::bind().await;
    let cache = Folder::new("stay-card");
    let mut staying = Staying::start(&relay, &cache.0, |command| {
        command.args(["--gpu", "required"]);
        // A build for cards finds none either.
        for hidden in ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
            command.env(hidden, "-1");
        }
        command.env("VK_DRIVER_FILES", "/dev/null");
    });
    staying.says("broken: ").await;
    staying.is_broken("no graphics card");
    staying.is_broken("heliograph up --gpu cpu");
    assert!(!staying.log.contains("loading"), "{}", staying.log);
    // It would have ended by itself after minutes.
    assert_eq!(staying.stop().await, Some(1));
    assert!(!relay.was_asked().await);
}

#[tokio::test]
async fn an_engine_whose_steps_fail_three_times_ends_the_rig_and_its_relay_hears_of_each() {
    let relay = Relay::bind().await;
    let log = log_file("broken-engine");
    let folder = Folder::new("broken-engine");
    let fault = folder.0.join("fault");
    let mut command = rig(&relay, &log);
    command.arg("--break-while").arg(&fault);
    let child = command.spawn().expect("rig starts");
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    connection.welcome().await;
    assign(&mut connection, 1, request("Tell me about the sea.", 20)).await;
    connection.follow(1).await;
    std::fs::write(&fault, "").expect("written");
    for alias in [2, 3] {
        assign(&mut connection, alias, request("And the wind?", 20)).await;
        let failure = connection.failed(alias).await;
        assert_eq!(failure.code, ErrorCode::EngineFailed);
    }
    assign(&mut connection, 4, request("And the wind?", 20)).await;
    let said = connection.last_words().await;
    let is_failed = |said: &NodeToRelay| matches!(said, NodeToRelay::Failed { alias: 4, .. });
    assert!(said.iter().any(is_failed), "{said:?}");
    assert_eq!(exit_code(child).await, Some(4));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("the engine died"), "{text}");
    std::fs::remove_file(log).expect("removed");
}

#[tokio::test]
async fn a_rig_whose_predecessor_was_killed_waits_before_it_loads_again() {
    let relay = Relay::bind().await;
    let cache = Folder::new("killed");
    let first = Staying::start(&relay, &cache.0, |_| {});
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    signal(&first.child, Signal::SIGKILL);
    assert_eq!(exit_code(first.child).await, None);

    let mut second = Staying::start(&relay, &cache.0, |_| {});
    second.says("died in mid-work").await;
    let health = get(second.port, "/healthz");
    assert!(
        health.contains("\r\n\r\nwaiting: the rig before"),
        "{health}"
    );
    assert!(!relay.was_asked().await);
    assert_eq!(second.stop().await, Some(0));

    // What was stopped has not died.
    let mut third = Staying::start(&relay, &cache.0, |_| {});
    relay.accept(Some(KEY)).await.message().await;
    third.says("self-test passed").await;
    assert!(!third.log.contains("died"), "{}", third.log);
    assert_eq!(third.stop().await, Some(0));
}

/// The one file in which a rig with this cache counts deaths.
fn counted(cache: &Path) -> String {
    let mut files = std::fs::read_dir(cache.join("running")).expect("a folder");
    let file = files.next().expect("a file").expect("an entry");
    assert!(files.next().is_none(), "one rig lives");
    std::fs::read_to_string(file.path()).expect("text")
}

#[tokio::test]
async fn a_rig_that_dies_three_times_before_it_is_ready_is_broken_and_loads_nothing() {
    let relay = Relay::bind().await;
    let cache = Folder::new("dying");
    let first = Staying::start(&relay, &cache.0, |_| {});
    relay.accept(Some(KEY)).await.message().await;
    signal(&first.child, Signal::SIGKILL);
    assert_eq!(exit_code(first.child).await, None);
    for deaths in ["2", "3"] {
        let mut next = Staying::start(&relay, &cache.0, |_| {});
        next.says("died in mid-work").await;
        assert_eq!(counted(&cache.0), deaths);
        signal(&next.child, Signal::SIGKILL);
        assert_eq!(exit_code(next.child).await, None);
    }
    let mut last = Staying::start(&relay, &cache.0, |_| {});
    last.says("broken: it died 3 times in a row").await;
    last.is_broken("it loads again after 15 min");
    assert!(!last.log.contains("loading"), "{}", last.log);
    assert!(!relay.was_asked().await);
    assert_eq!(last.stop().await, Some(0));
}

#[tokio::test]
async fn being_ready_begins_the_count_of_deaths_anew() {
    let relay = Relay::bind().await;
    let cache = Folder::new("ready-death");
    let mut first = Staying::start(&relay, &cache.0, |_| {});
    let mut connection = relay.accept(Some(KEY)).await;
    connection.message().await;
    assert_eq!(counted(&cache.0), "1");
    connection.welcome().await;
    first.says(" ready").await;
    assert_eq!(counted(&cache.0), "0");
    signal(&first.child, Signal::SIGKILL);
    assert_eq!(exit_code(first.child).await, None);
    let mut second = Staying::start(&relay, &cache.0, |_| {});
    second.says("died in mid-work").await;
    assert_eq!(counted(&cache.0), "1");
    assert_eq!(second.stop().await, Some(0));
}
