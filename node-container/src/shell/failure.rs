//! A rig that cannot go on: why, what an operator is told, and whether it stays to say so.
//!
//! ```text
//! --on-failure end    log ─▶ the exit code
//! --on-failure stay   log, `broken` on the board ─▶ a signal, or a pause where time may help ─▶ the exit code
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use model_files::FetchError;

use super::Signals;
use crate::config::OnFailure;
use crate::engine::llama::LoadError;
use crate::health::PORT;
use crate::operating::board::Board;
use crate::operating::server;

/// The rig could not start.
const EXIT_START: u8 = 1;
/// A setting is wrong; clap's own code.
const EXIT_SETTINGS: u8 = 2;
/// The relay will not have this node.
const EXIT_REFUSED: u8 = 3;
/// The engine failed its self-test, or its thread died.
const EXIT_ENGINE: u8 = 4;

/// How long a rig stays that time may mend. A load reads up to tens of gigabytes, and what passes by itself (a driver that
/// is renewed, another program's memory, a host that is down) mostly takes minutes.
const PAUSE: Duration = Duration::from_mins(5);

/// How long a rig stays that its relay refuses. The relay may be wrong (a deploy with a list of keys that lacks one), and
/// nobody should have to go round and start every rig again. The key is tried before anything is loaded, so that four tries
/// an hour cost the relay nothing and the machine next to it.
const REFUSED_PAUSE: Duration = Duration::from_mins(15);

/// Why a rig cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u8,
    reason: String,
    /// How long it stays before it is started again; none where only a person can mend it, and starting again would end the
    /// same way.
    pause: Option<Duration>,
}

impl Failure {
    /// It could not start.
    pub(super) fn start(error: &anyhow::Error) -> Self {
        let fetch = error.downcast_ref().is_some_and(FetchError::is_lasting);
        let load = error.downcast_ref().is_some_and(LoadError::is_lasting);
        Self {
            code: EXIT_START,
            reason: format!("{error:#}"),
            pause: (!fetch && !load).then_some(PAUSE),
        }
    }

    /// The card that it needs is not there.
    pub(super) fn no_card() -> Self {
        Self {
            code: EXIT_START,
            reason: "no graphics card can be used, and --gpu required (HELIOGRAPH_GPU) keeps it from running on the \
                     processor: look whether the card and its driver are there and whether the container was given it; \
                     `rig doctor` says what it finds; to let it compute on the processor, start it with \
                     `heliograph up --gpu cpu`, or with --gpu auto where it is started by hand"
                .to_owned(),
            pause: Some(PAUSE),
        }
    }

    /// A setting is wrong. `said` is what the reader of the settings says, its first line is enough.
    fn settings(said: &str) -> Self {
        let line = said.lines().next().unwrap_or_default();
        let what = line.strip_prefix("error: ").unwrap_or(line);
        Self {
            code: EXIT_SETTINGS,
            reason: format!("a setting is wrong: {what}"),
            pause: None,
        }
    }

    /// The relay will not have it.
    pub(super) fn refused(reason: String) -> Self {
        Self {
            code: EXIT_REFUSED,
            reason,
            pause: Some(REFUSED_PAUSE),
        }
    }

    /// The engine is of no use.
    pub(super) fn engine(reason: String) -> Self {
        Self {
            code: EXIT_ENGINE,
            reason,
            pause: Some(PAUSE),
        }
    }

    /// Says it, and stays as long as it shall. Returns the exit code.
    pub(super) async fn end(self, on: OnFailure, board: &Board, signals: &mut Signals) -> u8 {
        let Self {
            code,
            reason,
            pause,
        } = self;
        board.set_broken(&reason);
        match (on, pause) {
            (OnFailure::End, _) => tracing::error!("{reason}"),
            (OnFailure::Stay, None) => {
                tracing::error!(
                    "broken: {reason}. Nothing else is tried: mend it and start the rig anew"
                );
                signals.next().await;
            }
            (OnFailure::Stay, Some(pause)) => {
                tracing::error!(
                    "broken: {reason}. It ends with code {code} in {} s, to be started again",
                    pause.as_secs()
                );
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = signals.next() => {}
                }
            }
        }
        code
    }
}

/// What becomes of a rig whose settings cannot be read: it stays where the environment says so, and says why.
pub fn settings_are_wrong(said: &str) -> ExitCode {
    let code = ExitCode::from(EXIT_SETTINGS);
    if OnFailure::of_environment() == OnFailure::End {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return code;
    };
    runtime.block_on(async {
        let Ok(mut signals) = Signals::listen() else {
            return code;
        };
        let board = Board::default();
        let port = std::env::var("HELIOGRAPH_METRICS_PORT").ok();
        let port = port.map_or(Some(PORT), |port| port.trim().parse().ok());
        if let Some(port) = port.filter(|port| *port != 0) {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if let Err(error) = server::start(address, board.clone()) {
                tracing::warn!(%address, %error, "nobody can ask how this rig is");
            }
        }
        let failure = Failure::settings(said);
        ExitCode::from(failure.end(OnFailure::Stay, &board, &mut signals).await)
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_what_time_cannot_mend_lasts() {
        let is_lasting = |failure: &Failure| failure.pause.is_none();
        let wrong = FetchError::WrongSize {
            name: "m.gguf".into(),
            expected: 2,
            found: 1,
        };
        assert!(is_lasting(&Failure::start(
            &anyhow::Error::from(wrong).context("m")
        )));
        let gave_up = FetchError::GaveUp {
            host: "h".into(),
            tries: 8,
            why: "it is silent".into(),
        };
        assert!(!is_lasting(&Failure::start(&gave_up.into())));
        let no_model = LoadError::NotGguf(PathBuf::from("/m"));
        assert!(is_lasting(&Failure::start(&no_model.into())));
        let no_memory = LoadError::Context {
            slots: 1,
            context_tokens: 1,
            error: String::new(),
        };
        assert!(!is_lasting(&Failure::start(&no_memory.into())));
        assert!(!is_lasting(&Failure::no_card()) && !is_lasting(&Failure::engine(String::new())));
        assert!(!is_lasting(&Failure::refused(String::new())));
        assert!(is_lasting(&Failure::settings("wrong")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_may_mend_ends_by_itself_and_the_rest_stays() {
        let mut signals = Signals::listen().expect("signals");
        let board = Board::default();
        let passing = Failure::engine("the card is gone".into());
        let code = passing.end(OnFailure::Stay, &board, &mut signals).await;
        assert_eq!(code, EXIT_ENGINE);
        assert_eq!(board.says(), "broken: the card is gone");
        let lasting = || Failure::settings("error: no such flag");
        let stays = lasting().end(OnFailure::Stay, &board, &mut signals);
        let long = tokio::time::timeout(100 * PAUSE, stays).await;
        assert!(long.is_err(), "it ended with {long:?}");
        let ends = lasting().end(OnFailure::End, &board, &mut signals).await;
        assert_eq!(ends, EXIT_SETTINGS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rig_that_is_refused_stays_for_a_while_and_ends_with_its_own_code() {
        let mut signals = Signals::listen().expect("signals");
        let board = Board::default();
        let began = tokio::time::Instant::now();
        let refused = Failure::refused("the key is wrong".into());
        let code = refused.end(OnFailure::Stay, &board, &mut signals).await;
        assert_eq!((code, began.elapsed()), (EXIT_REFUSED, REFUSED_PAUSE));
        assert_eq!(board.says(), "broken: the key is wrong");
    }

    #[test]
    fn a_wrong_setting_is_told_in_one_line() {
        let said =
            "error: invalid value '0' for '--slots <COUNT>'\n\nFor more information, try '--help'.";
        let failure = Failure::settings(said);
        assert_eq!(
            failure.reason,
            "a setting is wrong: invalid value '0' for '--slots <COUNT>'"
        );
        assert_eq!((failure.code, failure.pause), (2, None));
    }
}
