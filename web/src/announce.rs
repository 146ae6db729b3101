//! What a screen reader hears of an answer that still arrives: whole sentences, now and then, never tokens.

use crate::markdown::{parse, spoken};

/// Shorter pieces wait for more.
const PIECE_CHARS_MIN: usize = 80;

/// Gathers an answer's text and hands it out in pieces fit for speech.
#[derive(Debug, Clone, Default)]
pub struct Announcer {
    pending: String,
}

impl Announcer {
    /// Takes text in; gives out the sentences that are whole, once they are worth an interruption.
    pub fn push(&mut self, text: &str) -> Option<String> {
        self.pending.push_str(text);
        let end = self.sentence_end()?;
        if self.pending.get(..end)?.chars().count() < PIECE_CHARS_MIN {
            return None;
        }
        let rest = self.pending.split_off(end);
        say(&std::mem::replace(&mut self.pending, rest))
    }

    /// The text paused or ended: gives out all there is.
    pub fn flush(&mut self) -> Option<String> {
        say(&std::mem::take(&mut self.pending))
    }

    /// Where the last whole sentence or line ends, if no code block is open there.
    fn sentence_end(&self) -> Option<usize> {
        let mut end = None;
        let mut fences = 0_u32;
        let mut before = ' ';
        for (index, c) in self.pending.char_indices() {
            if c == '`' && before == '`' {
                fences += 1;
            }
            // A fence has two pairs of adjacent marks, so that whole blocks have a multiple of four.
            let ends = c == '\n' || (c == ' ' && matches!(before, '.' | '!' | '?' | ':'));
            if ends && fences.is_multiple_of(4) {
                end = Some(index + 1);
            }
            before = c;
        }
        end
    }
}

fn say(text: &str) -> Option<String> {
    let words = spoken(&parse(text));
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_announced_whole_and_not_token_by_token() {
        let mut announcer = Announcer::default();
        let text = "The mirror catches the light of the sun. A distant reader sees it flash and writes down what it says. And then";
        let said: Vec<_> = text
            .split_inclusive(' ')
            .filter_map(|token| announcer.push(token))
            .collect();
        assert_eq!(
            said,
            [
                "The mirror catches the light of the sun. A distant reader sees it flash and writes down what it says."
            ]
        );
        assert_eq!(announcer.flush().as_deref(), Some("And then"));
        assert_eq!(announcer.flush(), None);
    }

    #[test]
    fn code_is_named_and_not_spelt() {
        let mut announcer = Announcer::default();
        assert_eq!(
            announcer
                .push("Try this, which prints a greeting and nothing else at all, since it is so short:\n```py\nprint('hi')\n")
                .as_deref(),
            Some("Try this, which prints a greeting and nothing else at all, since it is so short:")
        );
        assert_eq!(announcer.push("```\n"), None);
        assert_eq!(announcer.flush().as_deref(), Some("Code block: py."));
    }
}
