//! What a device was asked for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that only grow. They are read before and after a step, and the difference is what the step took.
#[derive(Debug, Default)]
pub struct Counters {
    dispatches: AtomicU64,
    passes: AtomicU64,
    submits: AtomicU64,
    read_backs: AtomicU64,
    created: AtomicU64,
    bytes_created: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
}

/// Their values at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Dispatches of kernels.
    pub dispatches: u64,
    /// Compute passes.
    pub passes: u64,
    /// Command buffers that were submitted.
    pub submits: u64,
    /// Times that something was read back.
    pub read_backs: u64,
    /// Buffers, groups of bindings and pipelines that were created.
    pub created: u64,
    /// Bytes of the buffers among them.
    pub bytes_created: u64,
    /// Writes into buffers.
    pub writes: u64,
    /// Bytes of them.
    pub bytes_written: u64,
}

impl Counters {
    /// As they are now.
    pub fn read(&self) -> Counts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            dispatches: of(&self.dispatches),
            passes: of(&self.passes),
            submits: of(&self.submits),
            read_backs: of(&self.read_backs),
            created: of(&self.created),
            bytes_created: of(&self.bytes_created),
            writes: of(&self.writes),
            bytes_written: of(&self.bytes_written),
        }
    }

    pub(super) fn dispatched(&self) {
        self.dispatches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn passed(&self) {
        self.passes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn submitted(&self) {
        self.submits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read_back(&self) {
        self.read_backs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn created(&self, bytes: u64) {
        self.created.fetch_add(1, Ordering::Relaxed);
        self.bytes_created.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counts {
    /// What came to these since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            dispatches: self.dispatches.saturating_sub(before.dispatches),
            passes: self.passes.saturating_sub(before.passes),
            submits: self.submits.saturating_sub(before.submits),
            read_backs: self.read_backs.saturating_sub(before.read_backs),
            created: self.created.saturating_sub(before.created),
            bytes_created: self.bytes_created.saturating_sub(before.bytes_created),
            writes: self.writes.saturating_sub(before.writes),
            bytes_written: self.bytes_written.saturating_sub(before.bytes_written),
        }
    }
}
