//! Lengths of time and amounts of bytes, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: a whole number and a unit, such as `500ms`, `1h` or `30d`.
/// A day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(Duration);

/// Why a text is not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeSpanError {
    #[error("must be a whole number and a unit (ms, s, m, h or d), such as 500ms, 1h or 30d")]
    Shape,
    #[error("is longer than the program can count")]
    TooLong,
}

/// An amount of bytes: a whole number and a unit, such as `64KiB` or `1GiB`; a
/// number alone counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is not an amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    #[error("must be a whole number and a unit (B, KiB, MiB, GiB or TiB), such as 64KiB or 1GiB")]
    Shape,
    #[error("is more than the program can count")]
    TooLarge,
}

/// Largest first: the largest unit that divides is the one shown.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const BYTE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl TimeSpan {
    pub const ZERO: Self = Self(Duration::ZERO);

    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn days(days: u64) -> Self {
        Self::seconds(days.saturating_mul(86_400))
    }

    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub const fn as_duration(self) -> Duration {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for TimeSpan {
    type Err = TimeSpanError;

    fn from_str(text: &str) -> Result<Self, TimeSpanError> {
        let (number, unit) = split_unit(text).ok_or(TimeSpanError::Shape)?;
        let factor = factor(&TIME_UNITS, unit).ok_or(TimeSpanError::Shape)?;
        multiply(number, factor).map(Self::millis).ok_or(TimeSpanError::TooLong)
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_in_units(f, millis, &TIME_UNITS, "s")
    }
}

impl ByteSize {
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// For sizes of things in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let (number, unit) = split_unit(text).ok_or(ByteSizeError::Shape)?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let factor = factor(&BYTE_UNITS, unit).ok_or(ByteSizeError::Shape)?;
        multiply(number, factor).map(Self).ok_or(ByteSizeError::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_units(f, self.0, &BYTE_UNITS, "B")
    }
}

/// The digits in front, and what follows them.
fn split_unit(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits).filter(|(number, _)| !number.is_empty())
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

fn multiply(number: &str, factor: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn write_in_units(
    f: &mut fmt::Formatter<'_>,
    amount: u64,
    units: &[(&str, u64)],
    unit_of_zero: &str,
) -> fmt::Result {
    match units.iter().find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", amount / factor),
        None => write!(f, "{amount}{unit_of_zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_a_number_and_a_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("0s", 0),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(text.parse(), Ok(TimeSpan::millis(millis)), "{text}");
        }
        for text in ["", "1", "h", "1 h", "1H", "-1h", "+1h", "1.5h", "1h30m", "1w", "١h", "1é"] {
            assert_eq!(text.parse::<TimeSpan>(), Err(TimeSpanError::Shape), "{text}");
        }
        for text in ["18446744073709551616ms", "18446744073709551615d"] {
            assert_eq!(text.parse::<TimeSpan>(), Err(TimeSpanError::TooLong), "{text}");
        }
    }

    #[test]
    fn a_byte_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("64KiB", 65_536),
            ("1MiB", 1_048_576),
            ("1GiB", 1_073_741_824),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::bytes(bytes)), "{text}");
        }
        for text in ["", "KiB", "64 KiB", "64kib", "64KB", "64k", "-1B", "1.5GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(ByteSizeError::Shape), "{text}");
        }
        assert_eq!("16777216TiB".parse::<ByteSize>(), Err(ByteSizeError::TooLarge));
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for millis in [0, 1, 999, 1000, 60_000, 61_000, 3_600_000, 86_400_000, 86_400_001] {
            let span = TimeSpan::millis(millis);
            assert_eq!(span.to_string().parse(), Ok(span), "{span}");
        }
        for bytes in [0, 1, 1023, 1024, 65_536, 1 << 20, (1 << 30) + 1, u64::MAX] {
            let size = ByteSize::bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size), "{size}");
        }
        assert_eq!(TimeSpan::seconds(86_400).to_string(), "1d");
        assert_eq!(ByteSize::kib(64).to_string(), "64KiB");
    }
}
