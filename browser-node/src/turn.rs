//! Who may use the model: one at a time, since a load replaces what an answer is drawn from.

use std::cell::Cell;
use std::fmt;

/// What can be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A model is being loaded.
    Load,
    /// An answer is being drawn.
    Answer,
    /// Rows of logits are being computed.
    Logits,
}

/// Something else is under way: it ends by itself, or is cancelled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy(pub Work);

impl fmt::Display for Busy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0 {
            Work::Load => "a load is",
            Work::Answer => "an answer is",
            Work::Logits => "rows of logits are",
        };
        write!(formatter, "{what} under way: wait for the end or cancel it")
    }
}

/// The one turn that there is.
#[derive(Debug, Default)]
pub struct Turn(Cell<Option<Work>>);

impl Turn {
    /// Takes it until what is returned is dropped.
    pub fn take(&self, work: Work) -> Result<Taken<'_>, Busy> {
        if let Some(other) = self.0.get() {
            return Err(Busy(other));
        }
        self.0.set(Some(work));
        Ok(Taken(self))
    }
}

/// A turn that was taken.
#[derive(Debug)]
pub struct Taken<'t>(&'t Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_refused_while_an_answer_is_under_way_and_taken_behind_it() {
        let turn = Turn::default();
        let answer = turn.take(Work::Answer).unwrap();
        let refused = turn.take(Work::Load).unwrap_err();
        assert_eq!(refused, Busy(Work::Answer));
        assert!(refused.to_string().starts_with("an answer is under way"));
        drop(answer);
        assert!(turn.take(Work::Load).is_ok());
    }
}
