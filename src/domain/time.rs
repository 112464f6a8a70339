//! Moments, and the two clocks by which windows are judged.

use std::fmt;
use std::time::Duration;

use ::time::format_description::well_known::Rfc3339;
use ::time::{OffsetDateTime, UtcOffset};

/// A moment, in microseconds since 1970-01-01T00:00:00Z; finer fractions are cut
/// off on parsing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// Why a text is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("must be an RFC 3339 date-time with an offset, such as 2030-01-31T12:00:00Z")]
    Shape,
    #[error("must not be a leap second")]
    LeapSecond,
    #[error("is not a date and time of the calendar")]
    Calendar,
}

impl Timestamp {
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded towards the past.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// RFC 3339 with an offset: `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`.
    ///
    /// Stricter than the `time` crate, which also takes a space or a lower-case
    /// letter as the separator, and a leap second.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        if !has_rfc3339_shape(text.as_bytes()) {
            return Err(TimeError::Shape);
        }
        if text.get(17..19) == Some("60") {
            return Err(TimeError::LeapSecond);
        }
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimeError::Calendar)?;
        // It is told in UTC, where it may be of the year before or after those of RFC 3339.
        let utc = parsed.checked_to_offset(UtcOffset::UTC).filter(|utc| utc.year() >= 0);
        let micros = utc.ok_or(TimeError::Calendar)?.unix_timestamp_nanos().div_euclid(1000);
        i64::try_from(micros).map(Self).map_err(|_| TimeError::Calendar)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Digits and separators where RFC 3339 §5.6 wants them; the calendar is checked
/// by the parser behind it.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    let matches = |bytes: &[u8], pattern: &[u8]| {
        bytes.len() == pattern.len()
            && bytes.iter().zip(pattern).all(|(byte, want)| match want {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                other => byte == other,
            })
    };
    let Some((stem, mut rest)) = text.split_at_checked(19) else { return false };
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return false;
        }
        rest = fraction.get(digits..).unwrap_or_default();
    }
    matches(stem, b"0000-00-00T00:00:00") && (rest == b"Z" || matches(rest, b"+00:00"))
}

impl Timestamp {
    const LONGEST: usize = "9999-12-31T23:59:59.999999Z".len();

    /// `None`: it is outside the calendar of RFC 3339, which ends with the year 9999.
    fn rfc3339(self, text: &mut [u8; Self::LONGEST]) -> Option<&str> {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).ok()?;
        let mut room = text.as_mut_slice();
        // How much it says that it wrote leaves out the fraction (time 0.3.55).
        moment.format_into(&mut room, &Rfc3339).ok()?;
        let written = Self::LONGEST - room.len();
        std::str::from_utf8(text.get(..written)?).ok()
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::LONGEST];
        match self.rfc3339(&mut text) {
            Some(text) => f.write_str(text),
            None => write!(f, "{}s since 1970", self.unix_seconds()),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The latest time that nobody disputed. It goes back only when an operator
/// accepts a clock, which begins a new epoch; so floors are ordered by epoch
/// first, and one read back from an older commit never wins over an acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor {
    pub epoch: u32,
    pub at: Timestamp,
}

impl Floor {
    /// Before any time was seen.
    pub const START: Self = Self { epoch: 0, at: Timestamp(i64::MIN) };
}

/// The time of one act, as its caller saw it.
///
/// Two clocks, because each mistake must fail on the safe side: a wall clock set
/// back must not revive what expired (so expiry is judged at the later of wall
/// clock and floor), and a floor must not open a window before its time (so
/// `not_before` is judged at the wall clock).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    wall: Timestamp,
    for_expiry: Timestamp,
}

impl Now {
    pub fn new(wall: Timestamp, floor: Timestamp) -> Self {
        Self { wall, for_expiry: wall.max(floor) }
    }

    /// A moment on which wall clock and floor agree.
    pub fn undisputed(at: Timestamp) -> Self {
        Self { wall: at, for_expiry: at }
    }

    pub fn wall(self) -> Timestamp {
        self.wall
    }

    pub fn for_expiry(self) -> Timestamp {
        self.for_expiry
    }
}

/// One look at the machine's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// What the machine believes the time is; anyone may set it.
    pub wall: Timestamp,
    /// Time since boot, suspension included; nobody can set it.
    pub since_boot: Duration,
}

/// The only source of time. The edge holds the real one, tests another.
pub trait Clock: Send + Sync + 'static {
    fn read(&self) -> ClockReading;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_with_an_offset_is_a_moment() {
        let noon = Timestamp::from_unix_seconds(1_893_499_200);
        for text in
            ["2030-01-01T12:00:00Z", "2030-01-01T13:30:00+01:30", "2030-01-01T12:00:00.000Z"]
        {
            assert_eq!(Timestamp::parse(text), Ok(noon), "{text}");
        }
        assert_eq!(noon.to_string(), "2030-01-01T12:00:00Z");
        let fraction = Timestamp::parse("2030-01-01T12:00:00.1234567Z").unwrap();
        assert_eq!(fraction.unix_micros(), noon.unix_micros() + 123_456);
    }

    #[test]
    fn a_moment_is_shown_whole_and_read_back() {
        for text in [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00.1Z",
            "2030-01-31T12:00:00.000001Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        let beyond = Timestamp::from_unix_seconds(253_402_300_800);
        assert_eq!(beyond.to_string(), "253402300800s since 1970");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2030-01-01",
            "2030-01-01T12:00:00",
            "2030-01-01 12:00:00Z",
            "2030-01-01t12:00:00Z",
            "2030-01-01T12:00:00z",
            "10000-01-01T00:00:00Z",
            "+12030-01-01T00:00:00Z",
            "2030-01-01T12:00Z",
            "2030-01-01T12:00:00.Z",
            "2030-01-01T12:00:00.0123456789Z",
            "2030-01-01T12:00:00+0100",
            "1893499200",
            "2030-01-01T12:00:00Zé",
        ] {
            assert_eq!(Timestamp::parse(text), Err(TimeError::Shape), "{text}");
        }
        assert_eq!(Timestamp::parse("2030-06-30T23:59:60Z"), Err(TimeError::LeapSecond));
        for text in [
            "2030-02-30T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:00:00+99:00",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(Timestamp::parse(text), Err(TimeError::Calendar), "{text}");
        }
    }

    #[test]
    fn an_accepted_clock_outranks_every_older_floor() {
        let old = Floor { epoch: 0, at: Timestamp::from_unix_seconds(9_000) };
        let accepted = Floor { epoch: 1, at: Timestamp::from_unix_seconds(10) };
        assert!(accepted > old && old > Floor::START);
    }
}
