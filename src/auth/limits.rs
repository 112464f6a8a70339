//! Who asks too often. The rate limiting library, behind types of our own; no
//! other file names it.
//!
//! Four things are counted, each where it is configured: the requests of a source,
//! the requests with a credential, the refused credentials of a source, and the
//! first sights of a credential. The last two stand in front of what costs most, a
//! signature, and a token that is remembered is never subject to them: who shares
//! an address with an attacker is not locked out. What belongs to one owner, who keeps
//! it, is counted by a [`Turnstile`].
//!
//! Guaranteed here: memory is bounded, however many sources there are. Where more
//! than [`COUNTED`] are counted at once, some are forgotten, those asked about once
//! before the others, and what is forgotten begins anew: an attacker with that many
//! addresses is limited less, and nobody else more.
//!
//! This module must not know what an address or a token is.

use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::Family;
use super::bounded::Bounded;
use crate::domain::{Clock, Rate, Source};

/// How many of one kind are counted at once; some 100 bytes each.
const COUNTED: usize = 16_384;

/// Asked too often; nothing was looked at (429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; the next one in {} s", retry_after.as_secs_f64())]
pub struct Limited {
    pub retry_after: Duration,
}

/// What is limited to what; `None` is not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Requests of one source.
    pub source: Option<Rate>,
    /// Requests with the credentials of one family.
    pub credential: Option<Rate>,
    /// Refused credentials of one source. Beyond them none of its credentials is
    /// looked at that is not remembered.
    pub failures: Option<Rate>,
    /// Tokens of one family that are not remembered.
    pub first_sights: Option<Rate>,
}

impl Rates {
    pub const NONE: Self =
        Self { source: None, credential: None, failures: None, first_sights: None };
}

/// Counts, and says when it is too much.
pub struct Limits {
    source: ArcSwapOption<Limiter<Source>>,
    credential: ArcSwapOption<Limiter<Family>>,
    failures: ArcSwapOption<Limiter<Source>>,
    first_sights: ArcSwapOption<Limiter<Family>>,
}

impl Limits {
    pub fn new(rates: Rates, clock: &Arc<dyn Clock>) -> Self {
        let limits = Self::none();
        limits.replace(rates, clock);
        limits
    }

    /// Limits nothing.
    pub fn none() -> Self {
        Self {
            source: ArcSwapOption::empty(),
            credential: ArcSwapOption::empty(),
            failures: ArcSwapOption::empty(),
            first_sights: ArcSwapOption::empty(),
        }
    }

    /// Limits by other rates from now on; what was counted is forgotten.
    pub fn replace(&self, rates: Rates, clock: &Arc<dyn Clock>) {
        let Rates { source, credential, failures, first_sights } = rates;
        self.source.store(limiter(source, clock));
        self.credential.store(limiter(credential, clock));
        self.failures.store(limiter(failures, clock));
        self.first_sights.store(limiter(first_sights, clock));
    }

    /// A request that needs a credential, before that is looked at.
    pub fn request_of(&self, source: Source) -> Result<(), Limited> {
        ask(&self.source, source, Act::Take)
    }

    /// A request whose credential was good.
    pub fn request_with(&self, family: Family) -> Result<(), Limited> {
        ask(&self.credential, family, Act::Take)
    }

    /// Whether a source may show a credential that is not remembered.
    pub(super) fn stranger(&self, source: Source) -> Result<(), Limited> {
        ask(&self.failures, source, Act::Look)
    }

    /// Its credential was refused.
    pub(super) fn failed(&self, source: Source) {
        // Whether this was one too many, the next one is told.
        let _ = ask(&self.failures, source, Act::Take);
    }

    /// A token that is not remembered, before its signatures are checked.
    pub(super) fn first_sight(&self, family: Family) -> Result<(), Limited> {
        ask(&self.first_sights, family, Act::Take)
    }
}

fn limiter<K: Copy + Eq + Hash>(
    rate: Option<Rate>,
    clock: &Arc<dyn Clock>,
) -> Option<Arc<Limiter<K>>> {
    rate.map(|rate| Arc::new(Limiter::new(rate, clock)))
}

fn ask<K: Copy + Eq + Hash>(
    limiter: &ArcSwapOption<Limiter<K>>,
    key: K,
    act: Act,
) -> Result<(), Limited> {
    limiter.load().as_ref().map_or(Ok(()), |limiter| limiter.ask(key, act))
}

/// Whether one is taken, or only looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Look,
    Take,
}

struct Limiter<K: Copy + Eq + Hash>(RateLimiter<(Act, K), Counts<K>, SinceBoot>);

impl<K: Copy + Eq + Hash> Limiter<K> {
    fn new(rate: Rate, clock: &Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(rate.per_second()).allow_burst(rate.burst());
        Self(RateLimiter::new(quota, Counts(Bounded::new(COUNTED)), SinceBoot(clock.clone())))
    }

    fn ask(&self, key: K, act: Act) -> Result<(), Limited> {
        self.0.check_key(&(act, key)).map_err(|until| {
            let now = clock::Clock::now(self.0.clock());
            Limited { retry_after: until.wait_time_from(now) }
        })
    }
}

/// Counts what one owner does, whoever does it for them.
pub struct Turnstile(RateLimiter<NotKeyed, InMemoryState, SinceBoot>);

impl Turnstile {
    pub fn new(rate: Rate, clock: &Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(rate.per_second()).allow_burst(rate.burst());
        Self(RateLimiter::direct_with_clock(quota, SinceBoot(clock.clone())))
    }

    /// One more, if that is not too often.
    pub fn pass(&self) -> Result<(), Limited> {
        self.0.check().map_err(|until| {
            let now = clock::Clock::now(self.0.clock());
            Limited { retry_after: until.wait_time_from(now) }
        })
    }
}

/// Where each key stands (GCRA, the leaky bucket of ITU-T I.371).
struct Counts<K>(Bounded<K, Arc<InMemoryState>>);

impl<K: Copy + Eq + Hash> StateStore for Counts<K> {
    type Key = (Act, K);

    fn measure_and_replace<T, F, E>(&self, (act, key): &(Act, K), judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let found = self.0.get(key);
        match (act, found) {
            (Act::Look, None) => judge(None).map(|(verdict, _)| verdict),
            // An error leaves the state as it is, so that the verdict is made one.
            (Act::Look, Some(state)) => {
                let Err(judged) = state.measure_and_replace(&NotKeyed::NonKey, |at| {
                    Err::<(Infallible, Nanos), _>(judge(at))
                });
                judged.map(|(verdict, _)| verdict)
            }
            (Act::Take, Some(state)) => state.measure_and_replace(&NotKeyed::NonKey, judge),
            (Act::Take, None) => {
                // Two that come at once may begin twice, which forgives one of them.
                let state = Arc::new(InMemoryState::default());
                self.0.insert(*key, state.clone(), 1);
                state.measure_and_replace(&NotKeyed::NonKey, judge)
            }
        }
    }
}

/// The time that nobody can set: a wall clock set back would prolong a wait.
#[derive(Clone)]
struct SinceBoot(Arc<dyn Clock>);

impl clock::Clock for SinceBoot {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.read().since_boot.into()
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, credential, failures, first_sights } = self;
        f.debug_struct("Limits")
            .field("source", &source.load().is_some())
            .field("credential", &credential.load().is_some())
            .field("failures", &failures.load().is_some())
            .field("first_sights", &first_sights.load().is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::{ClockReading, Timestamp};

    /// Milliseconds since boot; the wall clock stands still.
    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Hand {
        fn pass(&self, millis: u64) {
            self.0.fetch_add(millis, Ordering::SeqCst);
        }
    }

    impl Clock for Hand {
        fn read(&self) -> ClockReading {
            let since_boot = Duration::from_millis(self.0.load(Ordering::SeqCst));
            ClockReading { wall: Timestamp::from_unix_seconds(0), since_boot }
        }
    }

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn limits(rates: Rates) -> (Arc<Hand>, Limits) {
        let hand = Arc::new(Hand::default());
        let clock: Arc<dyn Clock> = hand.clone();
        (hand, Limits::new(rates, &clock))
    }

    #[test]
    fn a_burst_passes_and_then_what_the_rate_lets_through() {
        let (hand, limits) = limits(Rates { source: Rate::of(2, 3), ..Rates::NONE });
        for _ in 0..3 {
            limits.request_of(source(1)).unwrap();
        }
        let Limited { retry_after } = limits.request_of(source(1)).unwrap_err();
        assert_eq!(retry_after, Duration::from_millis(500));
        limits.request_of(source(2)).expect("another source is another count");
        hand.pass(499);
        assert!(limits.request_of(source(1)).is_err());
        hand.pass(1);
        limits.request_of(source(1)).unwrap();
        assert!(limits.request_of(source(1)).is_err());
        hand.pass(60_000);
        for _ in 0..3 {
            limits.request_of(source(1)).unwrap();
        }
        assert!(limits.request_of(source(1)).is_err(), "a pause is worth one burst");
    }

    #[test]
    fn a_turnstile_lets_a_second_of_its_rate_through_at_once() {
        let hand = Arc::new(Hand::default());
        let clock: Arc<dyn Clock> = hand.clone();
        let turnstile = Turnstile::new(Rate::of(2, 2).unwrap(), &clock);
        turnstile.pass().unwrap();
        turnstile.pass().unwrap();
        let Limited { retry_after } = turnstile.pass().unwrap_err();
        assert_eq!(retry_after, Duration::from_millis(500));
        hand.pass(500);
        turnstile.pass().unwrap();
        assert!(turnstile.pass().is_err());
    }

    #[test]
    fn looking_takes_nothing_and_failing_does() {
        let (hand, limits) = limits(Rates { failures: Rate::of(1, 2), ..Rates::NONE });
        for _ in 0..100 {
            limits.stranger(source(1)).unwrap();
        }
        limits.failed(source(1));
        limits.stranger(source(1)).unwrap();
        limits.failed(source(1));
        for _ in 0..100 {
            assert_eq!(
                limits.stranger(source(1)),
                Err(Limited { retry_after: Duration::from_secs(1) })
            );
        }
        limits.failed(source(1));
        hand.pass(1_000);
        limits.stranger(source(1)).unwrap();
        limits.stranger(source(2)).unwrap();
        limits.request_of(source(1)).expect("requests are counted apart");
    }

    #[test]
    fn without_a_rate_nothing_is_limited() {
        for limits in [Limits::none(), limits(Rates::NONE).1] {
            for _ in 0..10_000 {
                limits.request_of(source(1)).unwrap();
                limits.request_with(Family::from_bytes([1; 32])).unwrap();
                limits.first_sight(Family::from_bytes([1; 32])).unwrap();
                limits.failed(source(1));
                limits.stranger(source(1)).unwrap();
            }
        }
    }

    #[test]
    fn many_sources_take_bounded_memory_and_a_frequent_one_is_not_forgotten() {
        let (_, limits) = limits(Rates { failures: Rate::of(1, 2), ..Rates::NONE });
        for _ in 0..2 {
            limits.failed(source(1));
        }
        for number in 0..200_000_u32 {
            limits.failed(Source::of(number.to_be_bytes().into()));
            if number % 100 == 0 {
                assert!(limits.stranger(source(1)).is_err(), "after {number} others");
            }
        }
        let failures = Arc::into_inner(limits.failures.swap(None).unwrap()).unwrap();
        let counted = failures.0.into_state_store().0.len();
        assert!(counted <= COUNTED, "{counted}");
    }
}
