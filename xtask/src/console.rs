//! What the person at the terminal sees: one line a step, on standard error.
//! Standard output belongs to results (the answer of `demo --prompt`), so that they can be piped.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// On a terminal the line of a running step is redrawn in place; elsewhere it is repeated this often.
const REPEAT: Duration = Duration::from_secs(20);

/// Steps shorter than this leave no trace unless they did something.
const QUIET: Duration = Duration::from_secs(1);

/// The widest line that is redrawn in place; a wrapped line could not be.
const COLUMNS: usize = 100;

/// Prints one line to standard error. A closed terminal is no reason to fail.
pub(crate) fn say(line: &str) {
    let mut out = io::stderr().lock();
    _ = writeln!(out, "{line}");
}

/// Prints a piece of a result to standard output, at once.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One step of work, shown with the time it takes and the last line of what it says.
#[derive(Debug)]
pub(crate) struct Step {
    label: String,
    started: Instant,
    shown: Option<Instant>,
    last: String,
    terminal: bool,
}

impl Step {
    /// Starts the clock. Nothing is shown before the step turns out to take time.
    pub(crate) fn begin(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            started: Instant::now(),
            shown: None,
            last: String::new(),
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Remembers what the step said last.
    pub(crate) fn heard(&mut self, line: &str) {
        let line = line.trim();
        // Messages of cargo that are meant for programs begin with a brace.
        if !line.is_empty() && !line.starts_with('{') {
            line.clone_into(&mut self.last);
        }
    }

    /// Redraws when it is time to.
    pub(crate) fn tick(&mut self) {
        let elapsed = self.started.elapsed();
        if elapsed < QUIET {
            return;
        }
        let due = match self.shown {
            None => true,
            Some(_) if self.terminal => true,
            Some(at) => at.elapsed() >= REPEAT,
        };
        if !due {
            return;
        }
        let seconds = elapsed.as_secs();
        let line = if self.last.is_empty() {
            format!("  {} … {seconds} s", self.label)
        } else {
            format!("  {} … {seconds} s · {}", self.label, self.last)
        };
        let line: String = line.chars().take(COLUMNS).collect();
        if self.terminal {
            let mut out = io::stderr().lock();
            _ = write!(out, "\r\x1b[K{line}");
            _ = out.flush();
        } else {
            say(&line);
        }
        self.shown = Some(Instant::now());
    }

    /// Says something while the step goes on.
    pub(crate) fn remark(&self, line: &str) {
        self.clear();
        say(&format!("  {line}"));
    }

    /// The step is over and did something worth a line.
    pub(crate) fn done(self) {
        self.finish("✓");
    }

    /// The step is over. A line only if it took long enough to be wondered about.
    pub(crate) fn done_quietly(self) {
        if self.started.elapsed() >= QUIET {
            self.finish("✓");
        } else {
            self.clear();
        }
    }

    /// The step failed; the error itself is told by whoever gets it.
    pub(crate) fn failed(self) {
        self.finish("✗");
    }

    fn clear(&self) {
        if self.terminal && self.shown.is_some() {
            let mut out = io::stderr().lock();
            _ = write!(out, "\r\x1b[K");
        }
    }

    fn finish(&self, mark: &str) {
        self.clear();
        let seconds = self.started.elapsed().as_secs_f32();
        say(&format!("{mark} {} ({seconds:.1} s)", self.label));
    }
}

impl Drop for Step {
    /// A step that ended by an error leaves no half line for the error to be appended to.
    fn drop(&mut self) {
        self.clear();
    }
}
