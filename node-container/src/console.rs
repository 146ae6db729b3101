//! Lines for people, on standard output: commands that answer a question. A running rig logs instead.

use std::io::Write as _;

/// Prints a line. A reader that is gone misses it.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
