//! The pool's clock: `scheduler` takes the time as an argument.

use std::cell::Cell;

use scheduler::Millis;
use worker::Date;

/// Milliseconds that never run backwards, whatever the machine's clock does.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    latest: Cell<Millis>,
}

impl Clock {
    /// Now.
    pub(crate) fn now(&self) -> Millis {
        let now = Date::now().as_millis().max(self.latest.get());
        self.latest.set(now);
        now
    }
}
