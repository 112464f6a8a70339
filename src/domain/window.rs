//! When a secret may be read.

use super::{Now, Timestamp};

/// The half-open interval `[not_before, expires_on)`; a missing end is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValidityWindow {
    not_before: Option<Timestamp>,
    expires_on: Option<Timestamp>,
}

/// Where a moment lies relative to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// Before `not_before`.
    Pending,
    Valid,
    /// At or after `expires_on`.
    Expired,
}

/// A window in which no moment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expiresOn must be later than notBefore")]
pub struct EmptyWindow;

impl ValidityWindow {
    pub fn new(
        not_before: Option<Timestamp>,
        expires_on: Option<Timestamp>,
    ) -> Result<Self, EmptyWindow> {
        match (not_before, expires_on) {
            (Some(from), Some(to)) if to <= from => Err(EmptyWindow),
            _ => Ok(Self { not_before, expires_on }),
        }
    }

    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    pub fn expires_on(&self) -> Option<Timestamp> {
        self.expires_on
    }

    /// Expiry is asked first, and of a clock that never goes back: what has
    /// expired once stays expired even where the wall clock is set back to
    /// before the window began.
    pub fn state_at(&self, now: Now) -> WindowState {
        if self.expires_on.is_some_and(|end| now.for_expiry() >= end) {
            WindowState::Expired
        } else if self.not_before.is_some_and(|start| now.wall() < start) {
            WindowState::Pending
        } else {
            WindowState::Valid
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    #[test]
    fn the_window_is_half_open() {
        let window = ValidityWindow::new(Some(at(10)), Some(at(20))).unwrap();
        let state = |t| window.state_at(Now::undisputed(at(t)));
        assert_eq!(state(9), WindowState::Pending);
        assert_eq!(state(10), WindowState::Valid);
        assert_eq!(state(19), WindowState::Valid);
        assert_eq!(state(20), WindowState::Expired);
    }

    #[test]
    fn a_missing_end_is_open() {
        let forever = ValidityWindow::default();
        assert_eq!(forever.state_at(Now::undisputed(at(i64::MAX / 2_000_000))), WindowState::Valid);
        assert_eq!(forever.state_at(Now::undisputed(at(-1))), WindowState::Valid);
    }

    #[test]
    fn an_empty_window_does_not_exist() {
        assert_eq!(ValidityWindow::new(Some(at(5)), Some(at(5))), Err(EmptyWindow));
        assert_eq!(ValidityWindow::new(Some(at(6)), Some(at(5))), Err(EmptyWindow));
    }

    #[test]
    fn a_clock_set_back_revives_nothing() {
        let window = ValidityWindow::new(None, Some(at(20))).unwrap();
        assert_eq!(window.state_at(Now::new(at(5), at(30))), WindowState::Expired);
    }

    #[test]
    fn a_floor_does_not_open_a_window_early() {
        let window = ValidityWindow::new(Some(at(20)), None).unwrap();
        assert_eq!(window.state_at(Now::new(at(5), at(30))), WindowState::Pending);
    }
}
