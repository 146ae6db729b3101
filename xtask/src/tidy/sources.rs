//! Rules for each Rust file: how it opens, how long it is, what it is called, which notes it may carry.

/// Longer files hide things. clippy watches the length of functions.
const LINES_MAX: usize = 800;

/// Written in two halves, or this file would break its own rule.
const FIX: &str = concat!("FIX", "ME");
const LATER: &str = concat!("TO", "DO");

/// Complaints about one file; `name` is relative to the root of the clone.
pub(super) fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{name}:1: open with `//!` and say what this file is and is not; a reader starts there"
        ));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!(
            "{name}: {lines} lines; split it by noun below {LINES_MAX} (tests go to a `tests.rs` beside it)"
        ));
    }
    // Cargo's whole-system tests share code as tests/*/mod.rs: a file there would be a test of its own.
    if name.ends_with("/mod.rs") && !name.starts_with("tests/") && !name.contains("/tests/") {
        complaints.push(format!(
            "{name}: call it by its noun, `foo.rs` beside `foo/`; ten open files called mod.rs look alike"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        complaints.extend(note(name, number + 1, line));
    }
    complaints
}

fn note(name: &str, number: usize, line: &str) -> Option<String> {
    if words(line).any(|word| word == FIX) {
        return Some(format!(
            "{name}:{number}: repair it now, or open an issue and write {LATER}(#issue); a {FIX} does not merge"
        ));
    }
    let at = find_word(line, LATER)?;
    let rest = line.get(at + LATER.len()..)?;
    let issue = rest
        .strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'));
    let numbered = issue.is_some_and(|(digits, _)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    (!numbered).then(|| {
        format!("{name}:{number}: write {LATER}(#issue), so that somebody is going to do it")
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
}

fn find_word(line: &str, word: &str) -> Option<usize> {
    words(line)
        .any(|found| found == word)
        .then(|| line.find(word))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_that_says_what_it_is_passes() {
        let text = format!("//! What it is.\n\n// {LATER}(#12): more\n");
        assert_eq!(
            complaints("crates/a/src/lib.rs", &text),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_rule_is_told_with_its_place() {
        let text = format!(
            "fn main() {{}}\n// {FIX} later\n// {LATER}: more\n{}",
            "\n".repeat(LINES_MAX)
        );
        let found = complaints("crates/a/src/b/mod.rs", &text);
        for part in [
            "mod.rs:1: open",
            "lines; split",
            "noun, `foo.rs`",
            "mod.rs:2:",
            "mod.rs:3:",
        ] {
            assert!(
                found.iter().any(|complaint| complaint.contains(part)),
                "{part}: {found:?}"
            );
        }
    }

    #[test]
    fn shared_code_of_whole_system_tests_may_be_mod_rs() {
        assert!(complaints("tests/tests/support/mod.rs", "//! Shared.\n").is_empty());
    }

    #[test]
    fn a_word_that_only_contains_the_note_is_none() {
        let text = format!("//! {LATER}S and a{FIX}b.\n");
        assert!(complaints("a.rs", &text).is_empty());
    }
}
