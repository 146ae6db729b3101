//! What the person or the program at the other end gets to see. Results go to standard output, everything else to
//! standard error; with `--json` everything goes to standard output, one object a line.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::clean::{self, clean, one_line};

/// What a program's exit code is when Ctrl-C stopped it before it was done (128 and the signal's number).
pub(crate) const STOPPED: u8 = 130;

/// How to say things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    json: bool,
    /// Whether a person watches what goes to standard error.
    notes: bool,
    /// Whether a person watches the results.
    results: bool,
}

impl Voice {
    /// For a person, or for a program.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            notes: io::stderr().is_terminal(),
            results: io::stdout().is_terminal(),
        }
    }

    /// Whether a program listens.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches the progress, so that its line may be redrawn.
    pub(crate) const fn is_live(self) -> bool {
        self.notes && !self.json
    }

    /// Whether the results go to a terminal, which takes colours, and lines that are drawn over.
    pub(crate) const fn is_drawn(self) -> bool {
        self.results && !self.json
    }

    /// Something has happened on the way. `fields` gets the event's name.
    pub(crate) fn event(self, event: &str, mut fields: Value, text: &str) {
        if self.json {
            if let Some(fields) = fields.as_object_mut() {
                fields.insert("event".to_owned(), json!(event));
            }
            out(&clean::json(&fields.to_string()));
        } else {
            self.clear();
            err(&clean(text));
        }
    }

    /// What is going on right now; on a terminal only, and gone with the next word.
    pub(crate) fn now(self, text: &str) {
        if self.is_live() {
            let mut out = io::stderr().lock();
            // A closed terminal is no reason to fail.
            _ = write!(out, "\r\x1b[K{}", one_line(text));
            _ = out.flush();
        }
    }

    fn clear(self) {
        self.now("");
    }

    /// What was asked for.
    pub(crate) fn result(self, value: &Value, text: &str) {
        self.drawn_over(0, value, text);
    }

    /// The same; on a terminal it takes the place of the last so many lines.
    pub(crate) fn drawn_over(self, lines: usize, value: &Value, text: &str) {
        self.clear();
        if self.json {
            out(&clean::json(&value.to_string()));
        } else if !text.is_empty() {
            let up = if self.is_drawn() && lines > 0 {
                format!("\x1b[{lines}A\x1b[J")
            } else {
                String::new()
            };
            out(&format!("{up}{}", clean(text)));
        }
    }

    /// Why it did not work.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.clear();
        if self.json {
            let line = json!({ "error": format!("{error:#}") });
            out(&clean::json(&line.to_string()));
        } else {
            err(&clean(&format!("heliograph: {error:#}")));
        }
    }
}

/// A piece of a result as it comes, from whomever it may be.
pub(crate) fn print(text: &str) -> io::Result<()> {
    put(&clean(text))
}

/// The same, dimmed: only for a terminal.
pub(crate) fn print_dimmed(text: &str) -> io::Result<()> {
    put(&format!("\x1b[2m{}\x1b[0m", clean(text)))
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn out(text: &str) {
    _ = writeln!(io::stdout().lock(), "{text}");
}

fn err(text: &str) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// Lines of a table, each column as wide as its widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let clean = |row: &Vec<String>| row.iter().map(|cell| one_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(clean).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let line = cells.fold(String::new(), |line, (cell, width)| {
            format!("{line}{cell:<width$}  ")
        });
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut divisor = 1_u64;
    let mut unit = "B";
    for next in UNITS {
        unit = next;
        if count / divisor < 1024 || next == "TiB" {
            break;
        }
        divisor = divisor.saturating_mul(1024);
    }
    if divisor == 1 {
        return format!("{count} B");
    }
    let tenths = count.saturating_mul(10) / divisor;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [
            vec!["NAME".into(), "GPU".into()],
            vec!["rig-10".into(), "cpu".into()],
        ];
        assert_eq!(table(&rows), "NAME    GPU\nrig-10  cpu");
        assert_eq!(table(&[]), "");
        // A name from somewhere else cannot break the table.
        let odd = [vec!["a\nb\u{1b}[2J".into(), "cpu".into()]];
        assert_eq!(table(&odd), "a b[2J  cpu");
    }

    #[test]
    fn bytes_have_the_unit_that_keeps_them_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (98_362_432, "93.8 MiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with("TiB"));
    }
}
