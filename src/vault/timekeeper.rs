//! Whom to believe about the time.
//!
//! Anyone who can set the machine's clock could otherwise revive what expired
//! (by setting it back) or have everything swept (by setting it ahead). So the
//! latest undisputed time is a floor that outlives restarts, and a clock that
//! jumps is disputed: the floor stands still and nothing is destroyed by it
//! until an operator accepts the clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{Clock, ClockReading, Floor, Now, Timestamp};

/// How far the wall clock may step against the time since boot.
const MAX_STEP: Duration = Duration::from_secs(60);
/// How far past the floor a start is still believed.
const MAX_ABSENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) struct Timekeeper {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    floor: Floor,
    /// Wall clock minus time since boot, at the last undisputed look.
    boot_instant: Timestamp,
    disputed: bool,
}

impl Timekeeper {
    /// Begins from the floor that was persisted. A start before it, or more than
    /// 30 days past it, is disputed: while the machine was off nothing vouches
    /// for its clock.
    pub(super) fn start(clock: Arc<dyn Clock>, persisted: Floor) -> Self {
        let reading = clock.read();
        let fresh = persisted == Floor::START;
        let disputed = !fresh
            && (reading.wall < persisted.at
                || reading.wall > persisted.at.saturating_add(MAX_ABSENCE));
        if disputed {
            log::warn!(
                "the clock is disputed: it says {}, and the latest undisputed time was {}; \
                 nothing is swept until 'tenure clock accept'",
                reading.wall,
                persisted.at
            );
        }
        let at = if disputed { persisted.at } else { reading.wall.max(persisted.at) };
        let floor = Floor { epoch: persisted.epoch, at };
        let state = State { floor, boot_instant: boot_instant(reading), disputed };
        Self { clock, state: Mutex::new(state) }
    }

    /// The time of an act that begins now. Raises the floor, or disputes the
    /// clock.
    pub(super) fn now(&self) -> Now {
        let reading = self.clock.read();
        let mut state = self.lock();
        if !state.disputed {
            self.judge(&mut state, reading);
        }
        Now::new(reading.wall, state.floor.at)
    }

    fn judge(&self, state: &mut State, reading: ClockReading) {
        let boot = boot_instant(reading);
        let step = boot.unix_micros().abs_diff(state.boot_instant.unix_micros());
        if u128::from(step) > MAX_STEP.as_micros() {
            state.disputed = true;
            log::warn!(
                "the clock is disputed: it stepped by {} s to {}; nothing is swept until \
                 'tenure clock accept'",
                step / 1_000_000,
                reading.wall
            );
        } else {
            state.boot_instant = boot;
            state.floor.at = state.floor.at.max(reading.wall);
        }
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(super) fn floor(&self) -> Floor {
        self.lock().floor
    }

    pub(super) fn is_disputed(&self) -> bool {
        self.now();
        self.lock().disputed
    }

    /// What an acceptance would make of the floor: the wall clock, in a new
    /// epoch, so that no floor of an older commit outranks it.
    pub(super) fn propose(&self) -> Floor {
        Floor { epoch: self.lock().floor.epoch.saturating_add(1), at: self.clock.read().wall }
    }

    /// Takes over a proposal once it is durable.
    pub(super) fn accept(&self, accepted: Floor) {
        let reading = self.clock.read();
        *self.lock() =
            State { floor: accepted, boot_instant: boot_instant(reading), disputed: false };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the machine was started, as its wall clock has it: constant while nobody
/// sets the clock.
fn boot_instant(reading: ClockReading) -> Timestamp {
    reading.wall.saturating_sub(reading.since_boot)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Manual;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn started(wall: i64, floor: Floor) -> (Arc<Manual>, Timekeeper) {
        let clock = Arc::new(Manual(Mutex::new((wall, 100))));
        (clock.clone(), Timekeeper::start(clock, floor))
    }

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn the_floor_follows_an_honest_clock() {
        let (clock, keeper) = started(1_000, Floor::START);
        *clock.0.lock().unwrap() = (2_000, 1_100);
        assert_eq!(keeper.now(), Now::undisputed(at(2_000)));
        assert_eq!(keeper.floor().at, at(2_000));
        assert!(!keeper.is_disputed());
    }

    #[test]
    fn a_small_step_back_does_not_lower_the_floor() {
        let (clock, keeper) = started(1_000, Floor::START);
        *clock.0.lock().unwrap() = (950, 110);
        assert_eq!(keeper.now(), Now::new(at(950), at(1_000)));
        assert!(!keeper.is_disputed());
    }

    #[test]
    fn a_jump_ahead_is_disputed_and_leaves_the_floor() {
        let (clock, keeper) = started(1_000, Floor::START);
        *clock.0.lock().unwrap() = (1_000 + 3_650 * DAY, 101);
        assert_eq!(keeper.now().for_expiry(), at(1_000 + 3_650 * DAY));
        assert!(keeper.is_disputed());
        assert_eq!(keeper.floor().at, at(1_000));
        *clock.0.lock().unwrap() = (1_002, 102);
        assert!(keeper.is_disputed(), "only an operator ends a dispute");
        assert_eq!(keeper.now().for_expiry(), at(1_002));
    }

    #[test]
    fn sixty_seconds_are_no_step_and_sixty_one_are() {
        for (step, disputed) in [(60, false), (61, true), (-60, false), (-61, true)] {
            let (clock, keeper) = started(1_000, Floor::START);
            *clock.0.lock().unwrap() = (1_010 + step, 110);
            assert_eq!(keeper.is_disputed(), disputed, "{step}");
        }
    }

    #[test]
    fn a_start_before_the_floor_or_long_past_it_is_disputed() {
        let floor = Floor { epoch: 0, at: at(1_000_000) };
        for (wall, disputed) in [
            (999_999, true),
            (1_000_000, false),
            (1_000_000 + 30 * DAY, false),
            (1_000_001 + 30 * DAY, true),
        ] {
            let (_, keeper) = started(wall, floor);
            assert_eq!(keeper.is_disputed(), disputed, "{wall}");
            assert!(keeper.now().for_expiry() >= floor.at);
        }
    }

    #[test]
    fn an_accepted_clock_is_the_new_floor_even_when_earlier() {
        let (_, keeper) = started(1_000, Floor { epoch: 4, at: at(9_000) });
        assert!(keeper.is_disputed());
        let accepted = keeper.propose();
        assert_eq!(accepted, Floor { epoch: 5, at: at(1_000) });
        keeper.accept(accepted);
        assert!(!keeper.is_disputed());
        assert_eq!(keeper.now(), Now::undisputed(at(1_000)));
    }
}
