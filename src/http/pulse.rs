//! Whether the workers still turn: a thread that has stuck in a request cannot say so
//! itself, and takes no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

const BEAT: Duration = Duration::from_secs(1);

/// The workers of a server.
pub(super) struct Pulse {
    start: Instant,
    /// When each last came round, in milliseconds since the start.
    workers: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Pulse {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), workers: Mutex::default() })
    }

    /// Called on a worker's own thread, whose runtime then beats. One that ends is
    /// forgotten.
    pub fn join(self: &Arc<Self>) {
        let last = Arc::new(AtomicU64::new(self.millis()));
        self.workers().push(Arc::downgrade(&last));
        let pulse = Arc::clone(self);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(BEAT);
            loop {
                every.tick().await;
                last.store(pulse.millis(), Ordering::Relaxed);
            }
        });
    }

    /// How long ago the worker that is furthest behind came round.
    pub fn silent_for(&self) -> Duration {
        let mut workers = self.workers();
        workers.retain(|worker| worker.strong_count() > 0);
        let beats = workers.iter().filter_map(Weak::upgrade);
        let oldest = beats.map(|last| last.load(Ordering::Relaxed)).min();
        let silent = oldest.map_or(0, |last| self.millis().saturating_sub(last));
        Duration::from_millis(silent)
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_sticks_is_told_by_its_silence() {
        let pulse = Pulse::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            pulse.join();
            tokio::task::yield_now().await;
        });
        // Nobody runs it now: it is a thread that does not come back.
        let stuck = Instant::now();
        while pulse.silent_for() < Duration::from_millis(20) {
            assert!(stuck.elapsed() < Duration::from_secs(10), "it was never missed");
            std::thread::yield_now();
        }
        drop(runtime);
        assert_eq!(pulse.silent_for(), Duration::ZERO, "one that ended is forgotten");
    }
}
