//! The log: standard error, one line per event, `RUST_LOG` as usual. Never a prompt, an answer or a key.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

/// llama.cpp talks a lot while it loads; its errors are enough unless somebody asks.
const LLAMA: &str = "llama-cpp-2=error";

/// These write whole messages to their debug and trace logs, so no `RUST_LOG` may turn that on.
const QUIET: [&str; 2] = ["tungstenite=info", "tokio_tungstenite=info"];

/// Starts the log of this process.
pub fn start() {
    tracing_subscriber::fmt()
        .with_env_filter(filter(std::env::var("RUST_LOG").ok().as_deref()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn filter(wanted: Option<&str>) -> EnvFilter {
    let base = match wanted.filter(|wanted| !wanted.trim().is_empty()) {
        Some(wanted) => EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .parse_lossy(wanted),
        None => with(
            EnvFilter::default().add_directive(LevelFilter::INFO.into()),
            LLAMA,
        ),
    };
    QUIET.into_iter().fold(base, with)
}

fn with(filter: EnvFilter, directive: &str) -> EnvFilter {
    match directive.parse::<Directive>() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_shows_our_lines_and_only_errors_of_llama_cpp() {
        let text = filter(None).to_string();
        assert!(text.contains("info"), "{text}");
        assert!(text.contains(LLAMA), "{text}");
    }

    #[test]
    fn nobody_can_ask_for_whole_messages() {
        let text = filter(Some("trace,tungstenite=trace")).to_string();
        assert!(text.contains("trace"), "{text}");
        for directive in QUIET {
            assert!(text.contains(directive), "{text}");
        }
        assert!(!text.contains("tungstenite=trace"), "{text}");
    }
}
