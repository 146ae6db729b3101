//! What an operation took, over and over.

use std::fmt;
use std::time::{Duration, Instant};

/// Times of one kind of operation.
#[derive(Debug, Default)]
pub(crate) struct Times {
    nanoseconds: Vec<u32>,
}

/// What is told of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    mean_us: f64,
    p99_us: f64,
}

impl Times {
    /// Does it, and notes how long it took.
    pub(crate) fn take<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let from = Instant::now();
        let result = operation();
        self.note(from.elapsed());
        result
    }

    fn note(&mut self, time: Duration) {
        let nanoseconds = u32::try_from(time.as_nanos()).unwrap_or(u32::MAX);
        self.nanoseconds.push(nanoseconds);
    }

    /// Mean and 99th percentile; zeros where there was nothing.
    pub(crate) fn summary(mut self) -> Summary {
        let count = u32::try_from(self.nanoseconds.len().max(1)).unwrap_or(u32::MAX);
        let sum: f64 = self.nanoseconds.iter().copied().map(f64::from).sum();
        self.nanoseconds.sort_unstable();
        let p99 = self.nanoseconds.len().saturating_mul(99) / 100;
        let p99 = self.nanoseconds.get(p99).copied().unwrap_or(0);
        Summary {
            mean_us: sum / f64::from(count) / 1e3,
            p99_us: f64::from(p99) / 1e3,
        }
    }
}

impl Summary {
    /// As an object of JSON.
    pub(crate) fn json(self) -> String {
        format!(r#"{{"mean":{:.3},"p99":{:.3}}}"#, self.mean_us, self.p99_us)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} / {:.2}", self.mean_us, self.p99_us))
    }
}
