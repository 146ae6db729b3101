//! Which of two containers is the rig, after an update that was cut short: the one that serves, so that no second
//! fault makes an outage out of the first.

use std::fmt;

use anyhow::{Result, anyhow, bail};
use bollard::Docker;
use bollard::query_parameters::StartContainerOptions;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::UpdateOptions;
use crate::engine::explain;
use crate::rigs::{self, Rig};
use crate::voice::Voice;
use crate::{down, health};

/// An update that somebody stopped; what it says is what became of the rig.
#[derive(Debug)]
pub(crate) struct Stopped(String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

/// What is done about the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// There is only the rig; nothing is to be done.
    Stay,
    /// The new one serves: it takes over.
    TakeOver,
    /// The new one had taken over, but for the name.
    Rename,
    /// The old one serves, and the new one does not yet.
    KeepOld,
    /// The old one was asked to end for the new one, which does not serve: it comes back.
    OldAgain,
    /// Somebody removed both.
    Gone,
}

/// `asked` says that the old one was asked to end, even if it has not ended yet.
fn way(old: Option<&Rig>, next: Option<&Rig>, asked: bool) -> Way {
    match (old, next) {
        (Some(_), Some(next)) if serves(next) => Way::TakeOver,
        (Some(_), None) if !asked => Way::Stay,
        (Some(old), _) => {
            let ends = asked || says_first(old) == Some("draining".to_owned());
            if old.is_up() && !ends {
                Way::KeepOld
            } else {
                Way::OldAgain
            }
        }
        (None, Some(_)) => Way::Rename,
        (None, None) => Way::Gone,
    }
}

/// Docker calls one healthy until several checks have failed, so what it says itself counts too.
fn serves(rig: &Rig) -> bool {
    let is_well = rig.broken().is_none() && rig.waiting().is_none();
    rig.state() == "running" && rig.health() == "healthy" && is_well
}

fn says_first(rig: &Rig) -> Option<String> {
    let says = rig.health_says()?;
    Some(health::state(&says).to_owned())
}

/// Clears up after an update that was cut short, and says which container is the rig, and what was done.
pub(super) async fn settle(
    docker: &Docker,
    voice: Voice,
    name: &str,
    asked: bool,
) -> Result<(Rig, &'static str)> {
    let container = rigs::container_name(name);
    let old = rigs::inspect(docker, &container).await?;
    let next = rigs::inspect(docker, &rigs::next_name(name)).await?;
    let way = way(old.as_ref(), next.as_ref(), asked);
    let says = match way {
        Way::Stay | Way::KeepOld => "the old one goes on",
        Way::TakeOver | Way::Rename => "the new one was healthy already and has taken over",
        Way::OldAgain => "the old one was started again",
        Way::Gone => bail!("its container is gone"),
    };
    match (way, old, next) {
        (Way::TakeOver | Way::Rename, old, Some(next)) => {
            if let Some(old) = old {
                if old.is_up() {
                    down::drain_one(docker, voice, &old).await?;
                }
                rigs::remove(docker, &old.id).await?;
            }
            rigs::rename(docker, &next.id, &container).await?;
            Ok((Rig { container, ..next }, says))
        }
        (way, Some(old), next) => {
            if let Some(next) = next {
                rigs::remove(docker, &next.id).await?;
            }
            if way == Way::OldAgain {
                if old.is_up() {
                    // It cannot be told to stay; it has to end first.
                    down::drain_one(docker, voice, &old).await?;
                }
                docker
                    .start_container(&old.id, None::<StartContainerOptions>)
                    .await
                    .map_err(explain)?;
            }
            let now = rigs::inspect(docker, &old.id).await?;
            Ok((now.unwrap_or(old), says))
        }
        (_, None, _) => bail!("its container is gone"),
    }
}

/// Somebody wants the update to end.
pub(super) async fn stop_is_wanted() {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    match signals {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Signals then do what they do to any program; the next update clears up.
        (_, _) => std::future::pending().await,
    }
}

/// Ends an update in the middle so that one of the two serves, and says which.
pub(super) async fn stopped(
    docker: &Docker,
    voice: Voice,
    options: &UpdateOptions,
    name: &str,
    asked: bool,
) -> anyhow::Error {
    let text = format!(
        "{name}: stopped; one of the two is left to serve (Ctrl-C again ends at once, and leaves that to the next `update`)"
    );
    voice.event("stopping", json!({ "name": name }), &text);
    let settling = Box::pin(async {
        let (rig, says) = Box::pin(settle(docker, voice, name, asked)).await?;
        if rig.is_up() {
            health::wait(docker, voice, &rig.id, name, &options.patience).await?;
        }
        Ok::<_, anyhow::Error>(says)
    });
    let settled = tokio::select! {
        settled = settling => settled,
        () = stop_is_wanted() => Err(anyhow!("stopped again")),
    };
    match settled {
        Ok(says) => Stopped(format!("{name}: the update was stopped; {says}")).into(),
        Err(error) => error.context(Stopped(format!(
            "{name}: the update was stopped, and it is not certain that one serves; `heliograph ps` shows both, \
             `heliograph update {name}` clears up"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use bollard::models::{ContainerStateStatusEnum as State, HealthStatusEnum};

    fn rig(status: State, health: HealthStatusEnum, says: &str) -> Rig {
        fake::rig(status, Some(health), says)
    }

    #[test]
    fn what_serves_is_kept() {
        let serves = rig(State::RUNNING, HealthStatusEnum::HEALTHY, "ready");
        let starts = rig(State::RUNNING, HealthStatusEnum::STARTING, "loading");
        let drains = rig(State::RUNNING, HealthStatusEnum::HEALTHY, "draining");
        let broken = rig(State::RUNNING, HealthStatusEnum::HEALTHY, "broken: no card");
        let ended = rig(State::EXITED, HealthStatusEnum::UNHEALTHY, "draining");
        let made = rig(State::CREATED, HealthStatusEnum::STARTING, "");
        for (old, next, asked, wanted) in [
            // The only one that serves is the new one.
            (Some(&ended), Some(&serves), false, Way::TakeOver),
            (Some(&drains), Some(&serves), false, Way::TakeOver),
            (Some(&serves), Some(&serves), true, Way::TakeOver),
            (None, Some(&serves), false, Way::Rename),
            // The new one never served.
            (Some(&serves), Some(&starts), false, Way::KeepOld),
            (Some(&serves), Some(&made), false, Way::KeepOld),
            (Some(&serves), Some(&broken), false, Way::KeepOld),
            (Some(&serves), Some(&ended), false, Way::KeepOld),
            // It was to begin where the old one ended.
            (Some(&ended), Some(&starts), false, Way::OldAgain),
            (Some(&ended), Some(&made), false, Way::OldAgain),
            (Some(&drains), Some(&made), false, Way::OldAgain),
            (Some(&serves), Some(&made), true, Way::OldAgain),
            (Some(&serves), None, true, Way::OldAgain),
            // No update was under way; what is drained stays drained.
            (Some(&serves), None, false, Way::Stay),
            (Some(&drains), None, false, Way::Stay),
            (Some(&ended), None, false, Way::Stay),
            (None, None, false, Way::Gone),
        ] {
            assert_eq!(way(old, next, asked), wanted, "{old:?} {next:?}");
        }
    }
}
