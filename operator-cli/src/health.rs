//! Waiting for a rig to become healthy, and saying meanwhile what it does.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bollard::Docker;
use serde_json::json;

use crate::cli::Patience;
use crate::progress::Progress;
use crate::rigs::{self, Rig};
use crate::voice::Voice;

/// The engine tells of health in its events too, but not of what a check wrote, so it is looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// How often a log is told of the same state in other numbers, as of a download that goes on.
const AGAIN: Duration = Duration::from_secs(10);

/// One that has ended so often before it served will not serve. Ours say what is wrong and wait; this is another program.
const RESTARTS_MAX: i64 = 3;

/// What a look at a starting rig means.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// It serves.
    Healthy,
    /// Not yet; what it does.
    Not(String),
    /// It will not.
    Never(String),
    /// It will not: it dies, and the engine starts it again.
    Dies(String),
}

/// Waits until a rig is healthy, or will not be.
pub(crate) async fn wait(
    docker: &Docker,
    voice: Voice,
    id: &str,
    name: &str,
    patience: &Patience,
) -> Result<()> {
    let begun = Instant::now();
    let mut progress = Progress::new(begun);
    let mut said: Option<(String, Instant)> = None;
    loop {
        let Some(rig) = rigs::inspect(docker, id).await? else {
            bail!("{name} was removed while it started");
        };
        let doing = match look(&rig) {
            Look::Healthy => return Ok(()),
            Look::Not(doing) => doing,
            Look::Never(why) => {
                let tail = rigs::tail(docker, id).await;
                bail!("{name} {why}; the end of its log:\n{tail}");
            }
            Look::Dies(why) => {
                let tail = rigs::tail(docker, id).await;
                let then = ended(docker, id).await;
                bail!("{name} {why}; {then}; the end of its log:\n{tail}");
            }
        };
        let seconds = begun.elapsed().as_secs();
        let still = progress.still(docker, id, &doing).await.as_secs();
        let too_long = if seconds >= u64::from(patience.wait_seconds) {
            Some(format!("is not healthy after {seconds} s ({doing})"))
        } else if still >= u64::from(patience.stall_seconds) {
            Some(format!(
                "is not healthy and gets nowhere: for {still} s it has been the same ({doing}), with no new bytes"
            ))
        } else {
            None
        };
        if let Some(why) = too_long {
            let tail = rigs::tail(docker, id).await;
            bail!("{name} {why}; the end of its log:\n{tail}");
        }
        voice.now(&format!("{name}: {doing} ({seconds} s)"));
        let now = Instant::now();
        if !voice.is_live() && is_news(said.as_ref(), &doing, now) {
            let text = format!("{name}: {doing}");
            voice.event("starting", json!({ "name": name, "doing": doing }), &text);
            said = Some((doing, now));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Keeps the engine from starting again and again what does not live; the container stays, for its log. Says so.
async fn ended(docker: &Docker, id: &str) -> String {
    match rigs::end(docker, id).await {
        Ok(()) => "it was stopped, or it would be started again and again".to_owned(),
        Err(error) => format!("it is started again and again, and cannot be stopped ({error:#})"),
    }
}

/// The state in what a rig says: `fetching` of `fetching: model.gguf, 200 MB of 1.0 GB (20 %), …`.
pub(crate) fn state(doing: &str) -> &str {
    doing.split(':').next().unwrap_or(doing)
}

/// Whether a log is to hear of it: a new state at once, the same in other numbers now and then.
fn is_news(said: Option<&(String, Instant)>, doing: &str, now: Instant) -> bool {
    said.is_none_or(|(before, at)| {
        before != doing && (state(before) != state(doing) || now.duration_since(*at) >= AGAIN)
    })
}

fn look(rig: &Rig) -> Look {
    if let Some(says) = rig.broken() {
        return Look::Never(format!("cannot go on ({says})"));
    }
    if let Some(says) = rig
        .waiting()
        .filter(|_| rig.inspected.restart_count.is_some_and(|count| count > 0))
    {
        return Look::Dies(format!("died while it started ({says})"));
    }
    match (rig.state(), rig.health()) {
        ("running", "healthy") => Look::Healthy,
        ("running" | "restarting", "unhealthy") => {
            let says = rig
                .health_says()
                .unwrap_or_else(|| "its health check fails".to_owned());
            Look::Never(format!("is not healthy: {says}"))
        }
        ("running", "none") => Look::Never(
            "runs, but its image has no health check, so nobody can tell when it serves".to_owned(),
        ),
        ("running" | "restarting", _) if restarts(rig) >= RESTARTS_MAX => Look::Dies(format!(
            "ended {} times and does not come up",
            restarts(rig)
        )),
        ("restarting", _) => Look::Not("ended and is started again".to_owned()),
        ("exited" | "dead" | "removing", _) => Look::Never(format!("ended: {}", reason(rig))),
        (_, _) => Look::Not(rig.health_says().unwrap_or_else(|| "starting".to_owned())),
    }
}

/// How often the engine has started it again.
fn restarts(rig: &Rig) -> i64 {
    rig.inspected.restart_count.unwrap_or(0)
}

/// What an exit code of the rig's means.
pub(crate) fn reason(rig: &Rig) -> String {
    if rig.is_out_of_memory() {
        return "the kernel killed it for want of memory; a smaller model, fewer slots, or more with --memory".to_owned();
    }
    let code = rig.exit_code().unwrap_or(-1);
    let meaning = match code {
        0 => "it was asked to stop and drained",
        1 => "it could not start",
        2 => "a setting is wrong",
        3 => "the relay refuses it for good; the key is wrong, or not for this relay",
        4 => "its engine died, or failed its self-test",
        130 => "it was interrupted",
        132 => {
            "its processor lacks an instruction that the image was built for; another image or machine"
        }
        134 => {
            "it aborted: llama.cpp does so where a CUDA or ROCm card is lost or out of memory, or its driver fails"
        }
        135 | 139 => "it crashed: a fault of a driver's or of llama.cpp's",
        137 => "it was killed",
        143 => "it was asked to stop before it could listen",
        _ => "for a reason of its own",
    };
    format!("{meaning} (exit code {code})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Fake};
    use bollard::models::{ContainerStateStatusEnum as State, HealthStatusEnum};

    fn rig(status: State, health: HealthStatusEnum, says: &str, exit_code: i64) -> Rig {
        let mut rig = fake::rig(status, Some(health), says);
        rig.inspected.state.as_mut().unwrap().exit_code = Some(exit_code);
        rig
    }

    /// As the rig's own board puts it.
    const FETCHING: &str =
        "fetching: model.gguf, 200 MB of 1.0 GB (20 %), 10.0 MB/s, 1 min 20 s left";

    #[test]
    fn a_log_hears_of_a_new_state_at_once_and_of_a_download_now_and_then() {
        let begun = Instant::now();
        let said = (FETCHING.to_owned(), begun);
        let later = "fetching: model.gguf, 210 MB of 1.0 GB (21 %), 10.0 MB/s, 1 min 19 s left";
        assert!(is_news(None, FETCHING, begun));
        assert!(!is_news(Some(&said), FETCHING, begun + 2 * AGAIN));
        assert!(!is_news(Some(&said), later, begun + AGAIN / 2));
        assert!(is_news(Some(&said), later, begun + AGAIN));
        assert!(is_news(Some(&said), "loading", begun));
    }

    #[test]
    fn a_starting_rig_says_what_it_does() {
        let starting = rig(
            State::RUNNING,
            HealthStatusEnum::STARTING,
            &format!("{FETCHING}\n"),
            0,
        );
        assert_eq!(look(&starting), Look::Not(FETCHING.into()));
        let loading = rig(State::RUNNING, HealthStatusEnum::STARTING, "loading\n", 0);
        assert_eq!(look(&loading), Look::Not("loading".into()));
        let silent = rig(State::RUNNING, HealthStatusEnum::STARTING, "", 0);
        assert_eq!(look(&silent), Look::Not("starting".into()));
    }

    #[test]
    fn healthy_is_only_what_runs_and_says_so() {
        assert_eq!(
            look(&rig(State::RUNNING, HealthStatusEnum::HEALTHY, "ok", 0)),
            Look::Healthy
        );
        let gone = look(&rig(State::EXITED, HealthStatusEnum::HEALTHY, "ok", 0));
        assert!(matches!(gone, Look::Never(_)), "{gone:?}");
        let unhealthy = look(&rig(
            State::RUNNING,
            HealthStatusEnum::UNHEALTHY,
            "no relay",
            0,
        ));
        assert_eq!(unhealthy, Look::Never("is not healthy: no relay".into()));
    }

    #[test]
    fn a_rig_that_cannot_go_on_is_not_waited_for_whatever_docker_calls_it() {
        let says = "broken: the relay refuses the key\n";
        for health in [HealthStatusEnum::STARTING, HealthStatusEnum::HEALTHY] {
            let look = look(&rig(State::RUNNING, health, says, 0));
            let Look::Never(why) = look else {
                panic!("{look:?}");
            };
            assert!(why.contains("refuses the key"), "{why}");
        }
        // What its last container said is over.
        let again = rig(State::RESTARTING, HealthStatusEnum::STARTING, says, 3);
        assert!(matches!(look(&again), Look::Not(_)));
    }

    #[test]
    fn a_rig_that_waits_after_a_crash_is_waited_for_unless_it_crashed_just_now() {
        let says = "waiting: it died while it ran\n";
        let mut waits = rig(State::RUNNING, HealthStatusEnum::STARTING, says, 0);
        assert!(matches!(look(&waits), Look::Not(_)));
        waits.inspected.restart_count = Some(1);
        let look = look(&waits);
        assert!(matches!(look, Look::Dies(_)), "{look:?}");
    }

    #[test]
    fn one_that_ends_again_and_again_is_not_waited_for() {
        let mut ends = rig(State::RESTARTING, HealthStatusEnum::STARTING, "", 1);
        ends.inspected.restart_count = Some(RESTARTS_MAX - 1);
        assert!(matches!(look(&ends), Look::Not(_)));
        ends.inspected.restart_count = Some(RESTARTS_MAX);
        assert!(matches!(look(&ends), Look::Dies(_)));
        // One that serves in the end does.
        let mut serves = rig(State::RUNNING, HealthStatusEnum::HEALTHY, "ready", 0);
        serves.inspected.restart_count = Some(RESTARTS_MAX);
        assert_eq!(look(&serves), Look::Healthy);
    }

    fn dies(request: &str) -> (u16, String) {
        let inspected = json!({
            "Id": "1", "Name": "/heliograph-rig", "RestartCount": RESTARTS_MAX,
            "State": { "Status": "restarting" }, "Config": { "Labels": { rigs::NAME: "rig" } },
        });
        match request.split_once(' ').unwrap() {
            ("GET", path) if path.contains("/json") => (200, inspected.to_string()),
            ("GET", _) => (200, String::new()),
            (_, path) if path.contains("/kill") => (409, "{\"message\":\"waits\"}".to_owned()),
            _ => (204, String::new()),
        }
    }

    fn is_broken(request: &str) -> (u16, String) {
        let inspected = json!({
            "Id": "1", "Name": "/heliograph-rig", "RestartCount": RESTARTS_MAX,
            "State": {
                "Status": "running",
                "Health": { "Status": "starting", "Log": [{ "Output": "broken: no card" }] },
            },
            "Config": { "Labels": { rigs::NAME: "rig" } },
        });
        let body = if request.contains("/json") {
            inspected.to_string()
        } else {
            String::new()
        };
        (200, body)
    }

    #[tokio::test]
    async fn what_dies_again_and_again_is_stopped_and_what_says_why_stays() {
        let patience = Patience {
            stall_seconds: 300,
            wait_seconds: 300,
        };
        let wait = async |fake: &Fake| {
            wait(&fake.docker, Voice::new(true), "1", "rig", &patience)
                .await
                .unwrap_err()
                .to_string()
        };
        let fake = Fake::start(dies).await;
        let error = wait(&fake).await;
        assert!(error.contains("it was stopped"), "{error}");
        let is_stop = |request: &String| request.contains("/containers/1/stop?");
        assert!(fake.asked().iter().any(is_stop), "{:?}", fake.asked());

        let fake = Fake::start(is_broken).await;
        let error = wait(&fake).await;
        assert!(error.contains("no card"), "{error}");
        let has_order = fake
            .asked()
            .iter()
            .any(|request| !request.starts_with("GET"));
        assert!(!has_order, "{:?}", fake.asked());
    }

    #[test]
    fn a_crash_is_told_in_words() {
        for (code, says) in [(132, "instruction"), (134, "card is lost"), (139, "driver")] {
            let reason = reason(&rig(State::EXITED, HealthStatusEnum::STARTING, "", code));
            assert!(reason.contains(says), "{reason}");
            assert!(reason.contains(&code.to_string()), "{reason}");
        }
    }

    #[test]
    fn an_end_is_explained_by_its_code() {
        let Look::Never(why) = look(&rig(State::EXITED, HealthStatusEnum::STARTING, "", 3)) else {
            panic!("it has ended");
        };
        assert!(why.contains("key is wrong") && why.contains('3'), "{why}");
    }
}
