//! How often something may happen.

use std::num::NonZeroU32;

/// So many times a second on average, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// `None`, which is no limit, where nothing would be let through: a limit of
    /// zero is how an operator switches one off.
    pub fn of(per_second: usize, burst: usize) -> Option<Self> {
        let whole = |number| NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX));
        Some(Self { per_second: whole(per_second)?, burst: whole(burst)? })
    }

    pub const fn per_second(self) -> NonZeroU32 {
        self.per_second
    }

    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(Rate::of(0, 5), None);
        assert_eq!(Rate::of(5, 0), None);
        let rate = Rate::of(5, usize::MAX).unwrap();
        assert_eq!((rate.per_second().get(), rate.burst().get()), (5, u32::MAX));
    }
}
