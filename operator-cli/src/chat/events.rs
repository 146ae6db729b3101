//! The events of a streamed answer: bytes in, pieces out. Bytes may be cut anywhere, also inside a letter.

use anyhow::{Result, bail};
use serde_json::Value;

/// A line longer than this is no event of ours; a relay that sends one shall not fill our memory.
const LINE_BYTES_MAX: usize = 4 << 20;

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks on its way there.
    Reasoning(String),
    /// Why it ended.
    Finished(String),
    /// What it cost.
    Usage(Value),
    /// It broke.
    Failed(String),
}

/// Reads events.
#[derive(Debug, Default)]
pub(super) struct Events {
    pending: Vec<u8>,
    done: bool,
}

impl Events {
    /// Whether the stream has said that it is over.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// What these bytes complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            if self.pending.len() > LINE_BYTES_MAX {
                bail!("the relay sends a line longer than {LINE_BYTES_MAX} bytes");
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                self.line(&String::from_utf8_lossy(&line), &mut pieces)?;
            }
        }
        Ok(pieces)
    }

    fn line(&mut self, line: &str, pieces: &mut Vec<Piece>) -> Result<()> {
        // Comments keep the connection alive; empty lines end events.
        let Some(data) = line.trim_end().strip_prefix("data: ") else {
            return Ok(());
        };
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            bail!("the relay sends an event that is not JSON");
        };
        let text = |pointer: &str| {
            let text = event.pointer(pointer)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        pieces.extend(text("/error/message").map(Piece::Failed));
        pieces.extend(text("/choices/0/delta/reasoning_content").map(Piece::Reasoning));
        pieces.extend(text("/choices/0/delta/content").map(Piece::Text));
        pieces.extend(text("/choices/0/finish_reason").map(Piece::Finished));
        pieces.extend(
            event
                .get("usage")
                .filter(|usage| usage.is_object())
                .cloned()
                .map(Piece::Usage),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STREAM: &str = concat!(
        ": waiting\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Grün, \"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"rot\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );

    fn expected() -> Vec<Piece> {
        vec![
            Piece::Reasoning("hm".into()),
            Piece::Text("Grün, ".into()),
            Piece::Text("rot".into()),
            Piece::Finished("stop".into()),
            Piece::Usage(json!({ "total_tokens": 7 })),
        ]
    }

    #[test]
    fn an_answer_is_the_same_wherever_its_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        for cut in 0..=bytes.len() {
            let (before, after) = bytes.split_at(cut);
            let mut events = Events::default();
            let mut pieces = events.take(before).unwrap();
            pieces.extend(events.take(after).unwrap());
            assert_eq!(pieces, expected(), "cut at {cut}");
            assert!(events.is_done());
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_not_done_and_an_error_is_told() {
        let mut events = Events::default();
        let pieces = events
            .take(b"data: {\"error\":{\"message\":\"gone\"}}\n\n")
            .unwrap();
        assert_eq!(pieces, [Piece::Failed("gone".into())]);
        assert!(!events.is_done());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(Events::default().take(b"data: nonsense\n").is_err());
        let endless = vec![b'a'; LINE_BYTES_MAX + 1];
        assert!(Events::default().take(&endless).is_err());
    }
}
