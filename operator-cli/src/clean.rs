//! What others wrote, made harmless for a terminal: answers, names and errors come over the network, and a control
//! character among them could move the cursor, rename the window or type for whoever reads.

use std::fmt::Write as _;

/// The text without control characters (C0, DEL, C1), but for line ends and tabs. `\r\n` becomes `\n`, since a carriage
/// return alone would write over what stands there already.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

/// The same on one line, for a cell of a table or a line that is drawn over.
pub(crate) fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// JSON that a terminal may show: inside strings JSON itself escapes C0 only.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            // Writing to a text cannot fail.
            _ = write!(out, "\\u{:04x}", u32::from(letter));
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_a_terminal_is_left() {
        let text = "a\u{1b}[31mb\u{7}\u{9b}2J\u{7f}\r\nc\td\re\0 grün";
        assert_eq!(clean(text), "a[31mb2J\nc\tde grün");
        assert_eq!(one_line(text), "a[31mb2J c de grün");
        for code in (0..0x20).chain(0x7f..0xa0) {
            let letter = char::from_u32(code).unwrap();
            let is_kept = matches!(letter, '\n' | '\t');
            assert_eq!(clean(&letter.to_string()).is_empty(), !is_kept, "{code:x}");
        }
    }

    #[test]
    fn json_stays_the_same_value_and_has_no_raw_control_character() {
        let value = serde_json::json!({ "answer": "a\u{1b}[31m\u{9b}2J\u{7f}\n" });
        let text = json(&value.to_string());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
