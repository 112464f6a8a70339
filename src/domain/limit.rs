//! How often something may happen, and how much of it there may be.

use std::num::{NonZeroU32, NonZeroU64};

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

/// The most of something. Without a bound it is written as zero, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bound(Option<NonZeroU64>);

impl Bound {
    pub const NONE: Self = Self(None);

    pub const fn of(number: u64) -> Self {
        Self(NonZeroU64::new(number))
    }

    pub fn get(self) -> Option<u64> {
        self.0.map(NonZeroU64::get)
    }

    /// As it is written.
    pub fn number(self) -> u64 {
        self.get().unwrap_or(0)
    }
}

/// What a tenant may have, and how often it may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantLimits {
    pub secrets: Bound,
    /// Of its values, as UTF-8.
    pub bytes: Bound,
    pub requests_per_second: Bound,
}

/// What one tenant has instead of the limits for all; `None` is the one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnLimits {
    pub secrets: Option<Bound>,
    pub bytes: Option<Bound>,
    pub requests_per_second: Option<Bound>,
}

impl OwnLimits {
    pub const NONE: Self = Self { secrets: None, bytes: None, requests_per_second: None };
    pub const UNLIMITED: Self = Self {
        secrets: Some(Bound::NONE),
        bytes: Some(Bound::NONE),
        requests_per_second: Some(Bound::NONE),
    };

    pub fn over(self, for_all: TenantLimits) -> TenantLimits {
        let Self { secrets, bytes, requests_per_second } = self;
        TenantLimits {
            secrets: secrets.unwrap_or(for_all.secrets),
            bytes: bytes.unwrap_or(for_all.bytes),
            requests_per_second: requests_per_second.unwrap_or(for_all.requests_per_second),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_its_own_takes_the_place_of_that_for_all_even_where_it_is_none() {
        let for_all = TenantLimits {
            secrets: Bound::of(10),
            bytes: Bound::of(20),
            requests_per_second: Bound::of(30),
        };
        let own =
            OwnLimits { secrets: Some(Bound::of(5)), bytes: Some(Bound::NONE), ..OwnLimits::NONE };
        let limits = own.over(for_all);
        assert_eq!(limits.secrets.get(), Some(5));
        assert_eq!(limits.bytes.get(), None);
        assert_eq!(limits.requests_per_second.get(), Some(30));
        assert_eq!(OwnLimits::NONE.over(for_all), for_all);
        assert_eq!(OwnLimits::UNLIMITED.over(for_all), TenantLimits::default());
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(Rate::of(0, 5), None);
        assert_eq!(Rate::of(5, 0), None);
        let rate = Rate::of(5, usize::MAX).unwrap();
        assert_eq!((rate.per_second().get(), rate.burst().get()), (5, u32::MAX));
    }
}
