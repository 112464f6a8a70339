//! How fast long work goes, so that others are served meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// So many steps a second, or as many as can be. Time that was lost is not made up
/// for.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<u32>,
    due: Instant,
}

impl Pace {
    /// `None` or zero: as fast as can be.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self { per_second: per_second.filter(|rate| *rate > 0), due: Instant::now() }
    }

    /// Whether others are to notice little of it.
    pub(super) fn is_bounded(&self) -> bool {
        self.per_second.is_some()
    }

    /// Lets others go on; and waits, if these steps came too early.
    pub(super) async fn passed(&mut self, steps: u64) {
        let Some(rate) = self.per_second else { return tokio::task::yield_now().await };
        let took = Duration::from_secs_f64(steps as f64 / f64::from(rate));
        self.due = self.due.max(Instant::now()) + took;
        tokio::time::sleep_until(self.due).await;
    }
}
