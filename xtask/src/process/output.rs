//! What a program writes, line by line, and the last of it that is still on its way when the program has ended.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long the last output of a program that has ended may take to arrive. It is cut off there, since something that
/// the program left behind may hold its pipes open for ever.
pub(super) const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// How many lines of a failed step are repeated.
const TAIL_LINES: usize = 40;

/// One line that a program wrote.
pub(super) struct Line {
    /// It came by standard output.
    pub(super) is_result: bool,
    pub(super) text: String,
}

/// What a step wrote so far.
#[derive(Default)]
pub(super) struct Output {
    pub(super) result: String,
    /// Its last lines, for the one who has to find out why it failed.
    pub(super) tail: Vec<String>,
}

impl Output {
    /// Adds a line.
    pub(super) fn take(&mut self, line: Line) {
        if self.tail.len() == TAIL_LINES {
            self.tail.remove(0);
        }
        if line.is_result {
            self.result.push_str(&line.text);
            self.result.push('\n');
        }
        self.tail.push(line.text);
    }

    /// Takes what is still on its way once the program has ended: all of it, or what comes within a time.
    pub(super) fn drain(&mut self, lines: &Receiver<Line>, within: Duration) {
        let deadline = Instant::now() + within;
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.take(line);
        }
    }
}

/// Sends what a pipe brings until it closes.
pub(super) fn read_lines(
    source: impl Read + Send + 'static,
    is_result: bool,
    sender: Sender<Line>,
) {
    thread::spawn(move || {
        let mut reader = BufReader::new(source);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(Line { is_result, text }).is_err() {
                break;
            }
            line.clear();
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_last_output_of_a_program_that_has_ended_is_not_lost() {
        let (sender, lines) = mpsc::channel();
        let late = thread::spawn(move || {
            for number in 0..100 {
                let text = number.to_string();
                let is_result = number % 2 == 0;
                sender.send(Line { is_result, text }).unwrap();
            }
        });
        let mut output = Output::default();
        output.drain(&lines, Duration::from_mins(1));
        late.join().unwrap();
        assert_eq!(output.result.lines().count(), 50);
        assert_eq!(output.result.lines().last(), Some("98"));
        assert_eq!(output.tail.len(), TAIL_LINES);
        assert_eq!(output.tail.last().map(String::as_str), Some("99"));
    }

    #[test]
    fn a_pipe_that_stays_open_is_not_waited_for_for_ever() {
        let (sender, lines) = mpsc::channel();
        let text = "last".to_owned();
        let is_result = true;
        sender.send(Line { is_result, text }).unwrap();
        let mut output = Output::default();
        output.drain(&lines, Duration::from_millis(1));
        assert_eq!(output.result, "last\n");
        drop(sender);
    }
}
