//! Stop strings that span tokens.
//!
//! Text that could still become a stop string is held back until that is decided; a stop string and what follows it
//! never come out.

/// Looks for stop strings in a growing text.
#[derive(Debug, Clone)]
pub struct StopScanner {
    stops: Vec<String>,
    held: String,
}

impl StopScanner {
    /// A scanner for these strings; empty ones are ignored.
    pub fn new(stops: &[String]) -> Self {
        Self {
            stops: stops
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            held: String::new(),
        }
    }

    /// Appends to `released` what can be told for sure; `true` where a stop string was completed.
    pub fn push(&mut self, text: &str, released: &mut String) -> bool {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(start) = first {
            released.push_str(self.held.get(..start).unwrap_or_default());
            self.held.clear();
            return true;
        }
        let undecided = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        released.extend(self.held.drain(..self.held.len() - undecided));
        false
    }

    /// Bytes that are held back.
    pub const fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// The answer is over: what was held back is text after all.
    pub fn finish(&mut self, released: &mut String) {
        released.push_str(&self.held);
        self.held.clear();
    }
}

/// Bytes of the longest end of `text` that `stop` begins with, `stop` itself excluded.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    // Equal bytes begin and end characters alike, so every length found is a character boundary of `text`.
    (1..=longest)
        .rev()
        .find(|length| {
            text.as_bytes()
                .ends_with(stop.as_bytes().get(..*length).unwrap_or_default())
                && text.is_char_boundary(text.len() - length)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut scanner = StopScanner::new(&stops);
        let mut told = Vec::new();
        for piece in pieces {
            let mut released = String::new();
            let stopped = scanner.push(piece, &mut released);
            told.push(released);
            if stopped {
                return (told, true);
            }
        }
        let mut released = String::new();
        scanner.finish(&mut released);
        told.push(released);
        (told, false)
    }

    #[test]
    fn a_stop_string_over_three_pieces_never_shows() {
        let (told, stopped) = scan(&["###"], &["hello #", "#", "# not this"]);
        assert_eq!(told, ["hello ", "", ""]);
        assert!(stopped);
    }

    #[test]
    fn what_turns_out_to_be_text_is_released_at_once() {
        let (told, stopped) = scan(&["END"], &["E", "N", "X"]);
        assert_eq!(told, ["", "", "ENX", ""]);
        assert!(!stopped);
    }

    #[test]
    fn a_repeated_beginning_keeps_the_right_part_back() {
        let (told, stopped) = scan(&["aab"], &["aaa", "b"]);
        assert_eq!(told, ["a", ""]);
        assert!(stopped);
    }

    #[test]
    fn held_text_comes_out_at_the_end() {
        let (told, stopped) = scan(&["\n\n"], &["a\n"]);
        assert_eq!(told, ["a", "\n"]);
        assert!(!stopped);
    }

    #[test]
    fn the_earliest_of_several_stop_strings_wins() {
        let (told, stopped) = scan(&["dog", "cat"], &["a cat and a dog"]);
        assert_eq!(told, ["a "]);
        assert!(stopped);
    }

    proptest! {
        #[test]
        fn cutting_does_not_change_what_comes_out(
            text in "[ab\u{e9}]{0,30}",
            stop in "[ab\u{e9}]{1,4}",
            cuts in prop::collection::vec(1usize..4, 0..30),
        ) {
            let characters: Vec<char> = text.chars().collect();
            let (mut pieces, mut rest) = (Vec::new(), characters.as_slice());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece.iter().collect::<String>());
                rest = after;
            }
            pieces.push(rest.iter().collect::<String>());
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (told, stopped) = scan(&[&stop], &pieces);
            let expected = text.find(&stop).map_or(text.as_str(), |start| &text[..start]);
            prop_assert_eq!(told.concat(), expected);
            prop_assert_eq!(stopped, text.contains(&stop));
        }
    }
}
