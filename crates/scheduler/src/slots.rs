//! A node's slots: a count that cannot be over-granted, because a slot is a value that must be given back.

/// One taken slot. Neither copied nor cloned; [`Slots::give_back`] takes it, or it ends with its node.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is dropped stays taken"]
pub(crate) struct Slot(());

/// How many there are and how many are taken.
#[derive(Debug)]
pub(crate) struct Slots {
    total: u32,
    taken: u32,
}

impl Slots {
    /// All free.
    pub(crate) const fn new(total: u32) -> Self {
        Self { total, taken: 0 }
    }

    /// Takes one, if one is free.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        (self.taken < self.total).then(|| {
            self.taken += 1;
            Slot(())
        })
    }

    /// Frees one.
    pub(crate) fn give_back(&mut self, _slot: Slot) {
        assert!(self.taken > 0, "a slot came back that was never taken");
        self.taken -= 1;
    }

    /// How many there are.
    pub(crate) const fn total(&self) -> u32 {
        self.total
    }

    /// How many are free.
    pub(crate) const fn free(&self) -> u32 {
        self.total - self.taken
    }
}

#[cfg(test)]
mod tests;
