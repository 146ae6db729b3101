//! What the person or the program at the other end gets to see. Results go to standard output, everything else to
//! standard error; with `--json` everything goes to standard output, one object a line.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

/// How to say things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    json: bool,
    terminal: bool,
}

impl Voice {
    /// For a person, or for a program.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether a program listens.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches, so that lines may be redrawn.
    pub(crate) const fn is_live(self) -> bool {
        self.terminal && !self.json
    }

    /// Something has happened on the way. `fields` gets the event's name.
    pub(crate) fn event(self, event: &str, mut fields: Value, text: &str) {
        if self.json {
            if let Some(fields) = fields.as_object_mut() {
                fields.insert("event".to_owned(), json!(event));
            }
            out(&fields.to_string());
        } else {
            self.clear();
            err(text);
        }
    }

    /// What is going on right now; on a terminal only, and gone with the next word.
    pub(crate) fn now(self, text: &str) {
        if self.is_live() {
            let mut out = io::stderr().lock();
            // A closed terminal is no reason to fail.
            _ = write!(out, "\r\x1b[K{text}");
            _ = out.flush();
        }
    }

    fn clear(self) {
        self.now("");
    }

    /// What was asked for.
    pub(crate) fn result(self, value: &Value, text: &str) {
        self.clear();
        if self.json {
            out(&value.to_string());
        } else if !text.is_empty() {
            out(text);
        }
    }

    /// Why it did not work.
    pub(crate) fn error(self, error: &anyhow::Error) {
        self.clear();
        if self.json {
            out(&json!({ "error": format!("{error:#}") }).to_string());
        } else {
            err(&format!("heliograph: {error:#}"));
        }
    }
}

/// A piece of a result as it comes.
pub(crate) fn print(text: &str) -> io::Result<()> {
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
