//! How long a committer has been at what it does: one that has stuck cannot say so itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Waits for work.
const IDLE: u64 = u64::MAX;

pub(super) struct Pulse {
    start: Instant,
    /// Milliseconds since then, or [`IDLE`].
    at_work_since: AtomicU64,
}

impl Pulse {
    pub fn new() -> Self {
        Self { start: Instant::now(), at_work_since: AtomicU64::new(IDLE) }
    }

    /// Begins a piece of work.
    pub fn begin(&self) {
        self.at_work_since.store(self.millis(), Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.at_work_since.store(IDLE, Ordering::Relaxed);
    }

    /// Zero where it waits for work.
    pub fn at_work_for(&self) -> Duration {
        match self.at_work_since.load(Ordering::Relaxed) {
            IDLE => Duration::ZERO,
            since => Duration::from_millis(self.millis().saturating_sub(since)),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(IDLE - 1)
    }
}
