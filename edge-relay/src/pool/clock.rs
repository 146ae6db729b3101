//! The pool's clock: `scheduler` takes the time as an argument.

use std::cell::Cell;

use scheduler::Millis;

/// Milliseconds that never run backwards, whatever the machine's clock does.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    latest: Cell<Millis>,
}

impl Clock {
    /// Now.
    pub(crate) fn now(&self) -> Millis {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "invariant: milliseconds since 1970 are a whole number below 2^53"
        )]
        let now = (js_sys::Date::now() as Millis).max(self.latest.get());
        self.latest.set(now);
        now
    }

    /// When [`Self::now`] was last asked: the present event's time, without asking the platform again.
    pub(crate) fn latest(&self) -> Millis {
        self.latest.get()
    }
}
