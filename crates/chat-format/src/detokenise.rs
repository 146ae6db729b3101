//! Bytes of tokens → whole characters, as they come.
//!
//! A token may end in the middle of a character; the rest is awaited. Bytes that can never become a character are
//! replaced by U+FFFD, once each maximal piece, as the Unicode standard recommends.

/// Collects bytes and hands out text. Holds at most three bytes between calls.
#[derive(Debug, Clone, Default)]
pub struct Detokeniser {
    pending: Vec<u8>,
}

impl Detokeniser {
    /// Appends the text that `bytes` complete to `text`.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, broken) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(whole).unwrap_or_default());
                    let Some(length) = error.error_len() else {
                        rest = broken;
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = broken.get(length..).unwrap_or_default();
                }
            }
        }
        let taken = self.pending.len() - rest.len();
        self.pending.drain(..taken);
    }

    /// The answer is over: half a character can no longer become a whole one.
    pub fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// The beginning of a character that waits for its rest.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Bytes that wait for the rest of their character.
    pub const fn pending_bytes(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (String, Vec<String>) {
        let mut detokeniser = Detokeniser::default();
        let (mut whole, mut pieces, mut rest) = (String::new(), Vec::new(), bytes);
        for cut in cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            let mut text = String::new();
            detokeniser.push(piece, &mut text);
            assert!(detokeniser.pending_bytes() <= 3);
            whole.push_str(&text);
            pieces.push(text);
            rest = after;
        }
        detokeniser.push(rest, &mut whole);
        detokeniser.finish(&mut whole);
        (whole, pieces)
    }

    #[test]
    fn an_emoji_in_single_bytes_comes_out_once_and_whole() {
        let (whole, pieces) = in_pieces("a🦀b".as_bytes(), &[1; 6]);
        assert_eq!(whole, "a🦀b");
        assert_eq!(pieces, ["a", "", "", "", "🦀", "b"]);
    }

    #[test]
    fn half_a_character_at_the_end_is_replaced() {
        let (whole, _) = in_pieces(&"é".as_bytes()[..1], &[1]);
        assert_eq!(whole, "\u{fffd}");
    }

    #[test]
    fn invalid_bytes_do_not_hold_back_what_follows() {
        let (_, pieces) = in_pieces(b"\xffa", &[1, 1]);
        assert_eq!(pieces, ["\u{fffd}", "a"]);
    }

    proptest! {
        #[test]
        fn text_survives_any_cutting(text in "\\PC{0,40}", cuts in prop::collection::vec(0usize..5, 0..60)) {
            prop_assert_eq!(in_pieces(text.as_bytes(), &cuts).0, text);
        }

        #[test]
        fn any_bytes_give_what_the_standard_library_gives(bytes in prop::collection::vec(any::<u8>(), 0..60), cuts in prop::collection::vec(0usize..5, 0..60)) {
            prop_assert_eq!(in_pieces(&bytes, &cuts).0, String::from_utf8_lossy(&bytes));
        }
    }
}
