//! What the engine is asked where a container is to go.

use super::*;
use crate::fake::Fake;

/// A container of ours in this state.
fn inspected(status: &str) -> String {
    serde_json::json!({
        "Id": "1", "Name": "/heliograph-rig", "State": { "Status": status },
        "Config": { "Labels": { NAME: "rig" } },
    })
    .to_string()
}

fn running(request: &str) -> (u16, String) {
    match request.split_once(' ').unwrap() {
        ("GET", _) => (200, inspected("running")),
        (_, path) if path.contains("/wait") => (200, "{\"StatusCode\":0}\n".to_owned()),
        _ => (204, String::new()),
    }
}

fn restarting(request: &str) -> (u16, String) {
    match request.split_once(' ').unwrap() {
        ("GET", _) => (200, inspected("restarting")),
        (_, path) if path.contains("/kill") => (409, "{\"message\":\"is not running\"}".to_owned()),
        _ => (204, String::new()),
    }
}

fn ended(request: &str) -> (u16, String) {
    match request.split_once(' ').unwrap() {
        ("GET", _) => (200, inspected("exited")),
        _ => (204, String::new()),
    }
}

fn missing(_: &str) -> (u16, String) {
    (404, "{\"message\":\"No such container\"}".to_owned())
}

/// The method and the last part of the path of each request.
fn steps(fake: &Fake) -> Vec<String> {
    let asked = fake.asked();
    let steps = asked.iter().map(|request| {
        let (method, path) = request.split_once(' ').unwrap();
        format!("{method} {}", path.rsplit('/').next().unwrap())
    });
    steps.collect()
}

#[tokio::test]
async fn what_runs_is_asked_to_end_twice_before_it_is_removed() {
    let fake = Fake::start(running).await;
    remove(&fake.docker, "1").await.unwrap();
    let steps = steps(&fake);
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert_eq!(steps[0].split('?').next(), Some("GET json"));
    assert_eq!(steps[1], "POST kill?signal=SIGTERM");
    assert_eq!(steps[2].split('?').next(), Some("POST wait"));
    assert_eq!(steps[3], "POST stop?t=5");
    assert!(steps[4].starts_with("DELETE 1?") && steps[4].contains("force=true"));
}

#[tokio::test]
async fn what_is_between_two_starts_is_only_kept_from_the_next() {
    let fake = Fake::start(restarting).await;
    remove(&fake.docker, "1").await.unwrap();
    let steps = steps(&fake);
    assert_eq!(steps[2..3], ["POST stop?t=5"], "{steps:?}");
    assert_eq!(steps.len(), 4, "{steps:?}");
}

#[tokio::test]
async fn what_has_ended_or_is_gone_is_not_stopped() {
    let fake = Fake::start(ended).await;
    remove(&fake.docker, "1").await.unwrap();
    assert_eq!(fake.asked().len(), 2, "{:?}", fake.asked());
    let fake = Fake::start(missing).await;
    remove(&fake.docker, "1").await.unwrap();
    assert_eq!(fake.asked().len(), 2, "{:?}", fake.asked());
}
