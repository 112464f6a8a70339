//! The machine's clocks: the one place where time enters.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::domain::{Clock, ClockReading, Timestamp};

#[derive(Debug)]
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn read(&self) -> ClockReading {
        let wall = clock_gettime(ClockId::Realtime);
        let boot = clock_gettime(ClockId::Boottime);
        let micros = wall.tv_sec.saturating_mul(1_000_000).saturating_add(wall.tv_nsec / 1_000);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(boot.tv_nsec).unwrap_or(0);
        ClockReading {
            wall: Timestamp::from_unix_micros(micros),
            since_boot: Duration::new(seconds, nanos),
        }
    }
}
