//! Chance that can be had again.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// SplitMix64: what fails can be repeated from the seed in its message.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn seeded() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Self(now.as_nanos() as u64)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// True with a chance of one half.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Another one, that begins where this one is.
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }

    /// A random moment, and so a pause that waits for nothing.
    pub fn pause(&mut self, most: Duration) {
        thread::sleep(Duration::from_micros(self.below(most.as_micros() as u64)));
    }
}
