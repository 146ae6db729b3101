//! What the page says: short sentences, one place.

use protocol::{ErrorCode, FinishReason, WaitRange};

use crate::link::Link;
use crate::state::{Meta, Trouble};

/// The one button under a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same question once more.
    AskAgain,
    /// A fresh conversation.
    NewChat,
    /// A key the relay knows.
    EnterKey,
}

impl Remedy {
    /// What the button says.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AskAgain => "Ask again",
            Self::NewChat => "Start a new chat",
            Self::EnterKey => "Enter a key",
        }
    }
}

/// A waiting question's place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Place in line, 1 is next.
    pub position: u32,
    /// Nodes that could take it, busy or not.
    pub nodes: u32,
    /// How long it may take, as it was told.
    pub wait: Option<WaitRange>,
    /// How long ago that was.
    pub elapsed_ms: u64,
    /// What the person asked for.
    pub name: &'a str,
    /// Whether a part of the answer is there already: its node was lost.
    pub goes_on: bool,
}

/// Where a waiting question stands.
pub fn queue_place(place: Place<'_>) -> String {
    let Place { name, nodes, .. } = place;
    if place.goes_on && nodes == 0 {
        return "The node that was answering went away. The answer goes on when another one joins."
            .to_owned();
    }
    let lost = if place.goes_on {
        "The node that was answering went away; another one goes on from here. "
    } else {
        ""
    };
    let line = if place.position <= 1 {
        format!("Next in line for {name}")
    } else {
        format!("{} in line for {name}", ordinal(place.position))
    };
    let rest = match (nodes, place.wait) {
        (0, _) => ". No node serves it right now; it is answered when one joins.".to_owned(),
        (_, Some(wait)) => time_left(wait, place.elapsed_ms),
        (1, None) => ". 1 node serves it.".to_owned(),
        (nodes, None) => format!(". {nodes} nodes serve it."),
    };
    format!("{lost}{line}{rest}")
}

/// The rest of a told range. What was told may turn out wrong, and that is said too.
fn time_left(wait: WaitRange, elapsed_ms: u64) -> String {
    let least = wait.ms_min.saturating_sub(elapsed_ms).div_ceil(1000);
    let most = wait.ms_max.saturating_sub(elapsed_ms).div_ceil(1000);
    match (least, most) {
        (_, 0) if elapsed_ms > 0 => ". It takes longer than expected.".to_owned(),
        (_, 0..=5) => ", a few seconds.".to_owned(),
        (_, 6..=90) => {
            let (least, most) = (least / 5 * 5, most.div_ceil(5) * 5);
            match least {
                0 => format!(", up to {most} s."),
                least if least == most => format!(", about {most} s."),
                least => format!(", about {least}–{most} s."),
            }
        }
        (_, _) => {
            let (least, most) = (least / 60, most.div_ceil(60));
            match least {
                0 => format!(", up to {most} min."),
                least if least == most => format!(", about {most} min."),
                least => format!(", about {least}–{most} min."),
            }
        }
    }
}

/// Who has an answer in hand that does not grow yet.
pub fn reading(node: Option<&str>, goes_on: bool) -> String {
    let node = node.unwrap_or("A node");
    if goes_on {
        format!("{node} goes on…")
    } else {
        format!("{node} is reading…")
    }
}

/// Where an answer stands that lost its connection.
pub const fn reconnecting(link: Link) -> &'static str {
    match link {
        Link::Open => "Connected again. Picking the answer up…",
        Link::Offline => "You are offline. The answer goes on when the network is back.",
        Link::Connecting | Link::Reconnecting | Link::KeyNeeded { .. } | Link::Broken { .. } => {
            "Connection lost. Reconnecting, then the answer goes on…"
        }
    }
}

/// `3rd`.
pub fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The quiet line under an answer.
pub fn meta_line(model: Option<&str>, meta: &Meta) -> String {
    let mut parts: Vec<String> = model.map(str::to_owned).into_iter().collect();
    if meta.tokens_per_second > 0.0 {
        parts.push(format!("{:.1} tokens/s", meta.tokens_per_second));
    }
    parts.push(match meta.completion_tokens {
        1 => "1 token".to_owned(),
        tokens => format!("{tokens} tokens"),
    });
    if meta.finish_reason == FinishReason::Length {
        parts.push("cut at the length limit".to_owned());
    }
    parts.join(" · ")
}

/// The quiet line under an answer that the person stopped.
pub fn stopped_line(model: Option<&str>) -> String {
    model.map_or_else(
        || "Stopped".to_owned(),
        |model| format!("{model} · stopped"),
    )
}

/// What happened, in a sentence or two, and what helps.
pub fn failure(trouble: &Trouble) -> (String, Remedy) {
    match trouble {
        Trouble::Interrupted => (
            "The connection was lost for too long to go on with this answer. Ask again to have it anew."
                .to_owned(),
            Remedy::AskAgain,
        ),
        Trouble::Reloaded => (
            "The page was closed before the answer was whole.".to_owned(),
            Remedy::AskAgain,
        ),
        Trouble::Failure(failure) => {
            let mut text = sentence(&failure.message, failure.code);
            if let Some(ms) = failure.retry_after_ms {
                text.push_str(&wait(ms));
            }
            (text, remedy(failure.code))
        }
    }
}

fn sentence(message: &str, code: ErrorCode) -> String {
    let message = message.trim();
    if message.is_empty() {
        return match code {
            ErrorCode::NodeLost | ErrorCode::LeaseExpired => {
                "The node that was answering went away.".to_owned()
            }
            ErrorCode::SlowReader => {
                "The answer came faster than this page could take it.".to_owned()
            }
            ErrorCode::QueueFull => "Too many people are waiting for this model.".to_owned(),
            ErrorCode::InvalidRequest
            | ErrorCode::UnknownModel
            | ErrorCode::ContextLengthExceeded
            | ErrorCode::CapabilityMissing
            | ErrorCode::MemoryFull
            | ErrorCode::TooLarge
            | ErrorCode::Unauthorized
            | ErrorCode::UnknownJob
            | ErrorCode::DuplicateJob
            | ErrorCode::ProtocolError
            | ErrorCode::EngineFailed
            | ErrorCode::Draining
            | ErrorCode::Cancelled
            | ErrorCode::ClientGone
            | ErrorCode::Internal
            | ErrorCode::Unknown => "The answer could not be finished.".to_owned(),
        };
    }
    let mut letters = message.chars();
    let mut text: String = letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default();
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

fn wait(ms: u64) -> String {
    match ms.div_ceil(1000) {
        0 | 1 => " Try again in a moment.".to_owned(),
        seconds @ 2..=90 => format!(" Try again in about {seconds} seconds."),
        seconds => format!(" Try again in about {} minutes.", seconds.div_ceil(60)),
    }
}

const fn remedy(code: ErrorCode) -> Remedy {
    match code {
        ErrorCode::ContextLengthExceeded | ErrorCode::TooLarge => Remedy::NewChat,
        ErrorCode::Unauthorized => Remedy::EnterKey,
        ErrorCode::InvalidRequest
        | ErrorCode::UnknownModel
        | ErrorCode::CapabilityMissing
        | ErrorCode::QueueFull
        | ErrorCode::MemoryFull
        | ErrorCode::UnknownJob
        | ErrorCode::DuplicateJob
        | ErrorCode::ProtocolError
        | ErrorCode::NodeLost
        | ErrorCode::LeaseExpired
        | ErrorCode::EngineFailed
        | ErrorCode::Draining
        | ErrorCode::Cancelled
        | ErrorCode::ClientGone
        | ErrorCode::SlowReader
        | ErrorCode::Internal
        | ErrorCode::Unknown => Remedy::AskAgain,
    }
}

/// How many nodes there are, busy or not, for the line under the composer.
pub fn nodes_online(nodes: u32) -> String {
    match nodes {
        0 => "no node right now".to_owned(),
        1 => "1 node online".to_owned(),
        nodes => format!("{nodes} nodes online"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Failure;

    #[test]
    fn a_place_in_line_reads_like_a_sentence() {
        let place = Place {
            position: 3,
            nodes: 2,
            wait: None,
            elapsed_ms: 0,
            name: "Light",
            goes_on: false,
        };
        assert_eq!(
            queue_place(place),
            "3rd in line for Light. 2 nodes serve it."
        );
        let alone = Place {
            position: 1,
            nodes: 0,
            name: "Heavy",
            ..place
        };
        assert_eq!(
            queue_place(alone),
            "Next in line for Heavy. No node serves it right now; it is answered when one joins."
        );
        let broken_off = Place {
            nodes: 1,
            goes_on: true,
            ..alone
        };
        assert_eq!(
            queue_place(broken_off),
            "The node that was answering went away; another one goes on from here. Next in line for Heavy. 1 node serves it."
        );
        let left_alone = Place {
            nodes: 0,
            ..broken_off
        };
        assert_eq!(
            queue_place(left_alone),
            "The node that was answering went away. The answer goes on when another one joins."
        );
        let endings: Vec<_> = [2, 4, 11, 12, 13, 21, 102, 113].map(ordinal).into();
        assert_eq!(
            endings,
            [
                "2nd", "4th", "11th", "12th", "13th", "21st", "102nd", "113th"
            ]
        );
    }

    #[test]
    fn a_wait_is_told_as_a_range_that_shrinks_and_owns_up() {
        let told = |ms_min, ms_max, elapsed_ms| time_left(WaitRange { ms_min, ms_max }, elapsed_ms);
        assert_eq!(told(21_000, 38_000, 0), ", about 20–40 s.");
        assert_eq!(told(21_000, 38_000, 12_000), ", about 5–30 s.");
        assert_eq!(told(21_000, 38_000, 20_000), ", up to 20 s.");
        assert_eq!(told(21_000, 38_000, 34_000), ", a few seconds.");
        assert_eq!(
            told(21_000, 38_000, 40_000),
            ". It takes longer than expected."
        );
        assert_eq!(told(70_000, 150_000, 0), ", about 1–3 min.");
        assert_eq!(told(120_000, 120_000, 0), ", about 2 min.");
        assert_eq!(told(0, 0, 0), ", a few seconds.");
    }

    #[test]
    fn meta_names_model_speed_and_length_and_an_early_end() {
        let meta = Meta {
            finish_reason: FinishReason::Length,
            completion_tokens: 128,
            tokens_per_second: 42.06,
            first_token_ms: 90,
        };
        assert_eq!(
            meta_line(Some("SmolLM2 135M"), &meta),
            "SmolLM2 135M · 42.1 tokens/s · 128 tokens · cut at the length limit"
        );
    }

    #[test]
    fn a_failure_is_a_sentence_with_what_helps() {
        let full =
            Failure::new(ErrorCode::QueueFull, "the queue is full").with_retry_after_ms(4200);
        assert_eq!(
            failure(&Trouble::Failure(full)),
            (
                "The queue is full. Try again in about 5 seconds.".to_owned(),
                Remedy::AskAgain
            )
        );
        let long = Failure::new(ErrorCode::ContextLengthExceeded, "Too long.");
        assert_eq!(failure(&Trouble::Failure(long)).1, Remedy::NewChat);
        let nameless = Failure::new(ErrorCode::NodeLost, "");
        assert_eq!(
            failure(&Trouble::Failure(nameless)).0,
            "The node that was answering went away."
        );
    }
}
