//! What a tenant has and may have: secrets, bytes, and requests in a second.
//!
//! Guarantees: writers that come together never pass a limit together, since each
//! takes what it adds before it commits. What is counted is what is stored: the rows as
//! of a moment at which no writer is under way, at first need, and from then on every
//! write says what it changes, while they are counted too. A write whose outcome is
//! unknown, or whose task was broken off, drops the count, so that the next one counts
//! anew.
//!
//! Of a tenant without such a limit nothing is counted but when an operator asks. Its
//! writers enter here as well, so that they need not wait for that, and so that a limit
//! can be set while they write.
//!
//! **Bytes** are those of the values, as UTF-8: what was sent, and not names, windows or
//! what encryption and the engine add. A secret that has expired counts until it is
//! removed: it takes its place until then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::VaultError;
use crate::auth::{Limited, Turnstile};
use crate::domain::{Bound, Clock, OwnLimits, Rate, TenantLimits};
use crate::store::StoreError;

/// Secrets, and the bytes of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) secrets: u64,
    pub(super) bytes: u64,
}

impl Usage {
    pub(super) fn one(bytes: u64) -> Self {
        Self { secrets: 1, bytes }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { secrets: self.secrets + other.secrets, bytes: self.bytes + other.bytes }
    }

    fn beyond(self, other: Self) -> Self {
        Self {
            secrets: self.secrets.saturating_sub(other.secrets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The tenant asks more often than it may; nothing was looked at (429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant asks more than {per_second} times a second")]
pub struct TenantLimited {
    pub per_second: u64,
    pub retry_after: Duration,
}

/// Of one tenant.
pub(super) struct Quota {
    /// Held, shared, from before a write draws its version until what came of it is
    /// known, and alone by who counts.
    writers: RwLock<()>,
    /// Held by who counts. Not the same: writers do not wait for it.
    counting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

struct State {
    own: OwnLimits,
    limits: TenantLimits,
    turnstile: Option<Turnstile>,
    known: Known,
}

/// How much of it is known what a tenant has.
enum Known {
    Nothing,
    /// What was stored is being counted. What writers have changed since, or are about to.
    Counting {
        grown: Usage,
        freed: Usage,
    },
    /// What is stored and what is about to be.
    Used(Usage),
}

impl Quota {
    pub(super) fn new(own: OwnLimits, for_all: TenantLimits, clock: Arc<dyn Clock>) -> Self {
        let limits = own.over(for_all);
        let turnstile = turnstile(limits.requests_per_second, &clock);
        let state = Mutex::new(State { own, limits, turnstile, known: Known::Nothing });
        Self { writers: RwLock::default(), counting: Default::default(), state, clock }
    }

    pub(super) fn limits(&self) -> (OwnLimits, TenantLimits) {
        let state = self.lock();
        (state.own, state.limits)
    }

    /// What was counted stays, unless nothing needs it any more.
    pub(super) fn change(&self, own: OwnLimits, for_all: TenantLimits) {
        let mut state = self.lock();
        let limits = own.over(for_all);
        // The same rate goes on where it stands: setting it again gives nothing away.
        if limits.requests_per_second != state.limits.requests_per_second {
            state.turnstile = turnstile(limits.requests_per_second, &self.clock);
        }
        (state.own, state.limits) = (own, limits);
        state.forget_needless();
    }

    /// One more request, if the tenant does not ask too often.
    pub(super) fn ask(&self) -> Result<(), TenantLimited> {
        let state = self.lock();
        let Some(turnstile) = &state.turnstile else { return Ok(()) };
        let per_second = state.limits.requests_per_second.number();
        turnstile
            .pass()
            .map_err(|Limited { retry_after }| TenantLimited { per_second, retry_after })
    }

    pub(super) fn is_rated(&self) -> bool {
        self.lock().turnstile.is_some()
    }

    /// Begins to write, or to remove.
    pub(super) async fn enter(&self) -> Writing<'_> {
        let held = self.writers.read().await;
        Writing { quota: self, _held: held }
    }

    /// Waits for the writers under way, and keeps others out.
    pub(super) async fn alone(&self) -> Alone<'_> {
        let held = self.writers.write().await;
        Alone { _held: held }
    }

    /// What is stored and about to be, if it was counted. Alone: for one who counts it
    /// otherwise, by [`Alone::begin`].
    pub(super) async fn counted(&self) -> Result<Usage, Uncounted<'_>> {
        let held = self.counting.lock().await;
        self.lock().used().ok_or(Uncounted { quota: self, held })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn turnstile(per_second: Bound, clock: &Arc<dyn Clock>) -> Option<Turnstile> {
    let per_second = usize::try_from(per_second.get()?).unwrap_or(usize::MAX);
    Some(Turnstile::new(Rate::of(per_second, per_second)?, clock))
}

impl State {
    fn needs_count(&self) -> bool {
        let TenantLimits { secrets, bytes, requests_per_second: _ } = self.limits;
        secrets.get().is_some() || bytes.get().is_some()
    }

    fn used(&self) -> Option<Usage> {
        match self.known {
            Known::Used(used) => Some(used),
            Known::Nothing | Known::Counting { .. } => None,
        }
    }

    /// What was counted, and no limit needs.
    fn forget_needless(&mut self) {
        if self.used().is_some() && !self.needs_count() {
            self.known = Known::Nothing;
        }
    }

    /// Takes what a write adds. What does not grow goes on, at and beyond a limit.
    fn take(&mut self, growth: Usage) -> Result<(), VaultError> {
        let used = match &mut self.known {
            Known::Used(used) => *used,
            Known::Counting { grown, freed: _ } => {
                *grown = grown.and(growth);
                return Ok(());
            }
            Known::Nothing => return Ok(()),
        };
        let after = used.and(growth);
        let passes = |grown: u64, after: u64, bound: Bound| {
            bound.get().filter(|max| grown > 0 && after > *max)
        };
        if let Some(max) = passes(growth.secrets, after.secrets, self.limits.secrets) {
            return Err(VaultError::SecretsLimit { max });
        }
        if let Some(max) = passes(growth.bytes, after.bytes, self.limits.bytes) {
            return Err(VaultError::BytesLimit { max });
        }
        self.known = Known::Used(after);
        Ok(())
    }

    fn give_back(&mut self, usage: Usage) {
        match &mut self.known {
            Known::Used(used) => *used = used.beyond(usage),
            Known::Counting { grown: _, freed } => *freed = freed.and(usage),
            Known::Nothing => {}
        }
    }
}

/// Nobody writes.
pub(super) struct Alone<'q> {
    _held: RwLockWriteGuard<'q, ()>,
}

/// It must be counted, by who holds this.
pub(super) struct Uncounted<'q> {
    quota: &'q Quota,
    held: tokio::sync::MutexGuard<'q, ()>,
}

impl<'q> Uncounted<'q> {
    /// What is stored at this moment is to be counted: by rows that were fixed while `alone`
    /// was held.
    pub(super) fn begin(self, _: &Alone<'q>) -> Count<'q> {
        let Self { quota, held } = self;
        quota.lock().known = Known::Counting { grown: Usage::default(), freed: Usage::default() };
        Count { quota, _held: held }
    }
}

/// A count that is under way. Dropped before its end, nothing is known.
pub(super) struct Count<'q> {
    quota: &'q Quota,
    _held: tokio::sync::MutexGuard<'q, ()>,
}

impl Count<'_> {
    /// So much was stored when it began. Answers what is now, and keeps that where a limit
    /// needs it.
    pub(super) fn end(self, stored: Usage) -> Usage {
        let mut state = self.quota.lock();
        // A writer whose outcome nobody knows makes it a good guess.
        let Known::Counting { grown, freed } = state.known else { return stored };
        let used = stored.and(grown).beyond(freed);
        state.known = Known::Used(used);
        state.forget_needless();
        used
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.lock();
        if matches!(state.known, Known::Counting { .. }) {
            state.known = Known::Nothing;
        }
    }
}

/// A write that is under way.
pub(super) struct Writing<'q> {
    quota: &'q Quota,
    _held: RwLockReadGuard<'q, ()>,
}

impl Writing<'_> {
    /// Whether a limit needs a count that there is not.
    pub(super) fn must_count(&self) -> bool {
        let state = self.quota.lock();
        state.used().is_none() && state.needs_count()
    }

    /// Whether it matters what is replaced or removed.
    pub(super) fn is_counted(&self) -> bool {
        !matches!(self.quota.lock().known, Known::Nothing)
    }

    /// Takes what `new` needs beyond `old`, which it replaces; `old` is `None` where
    /// nobody can tell.
    pub(super) fn take(&self, new: Usage, old: Option<Usage>) -> Result<Taken<'_>, VaultError> {
        let replaced = old.unwrap_or_default();
        let growth = new.beyond(replaced);
        self.quota.lock().take(growth)?;
        let freed = old.map(|old| old.beyond(new));
        Ok(Taken { quota: self.quota, growth, freed, settled: false })
    }

    /// For what is removed.
    pub(super) fn free(&self, old: Option<Usage>) -> Taken<'_> {
        Taken { quota: self.quota, growth: Usage::default(), freed: old, settled: false }
    }
}

/// What a write has taken, until it is known what came of it. Dropped before that, its
/// outcome is unknown.
pub(super) struct Taken<'q> {
    quota: &'q Quota,
    growth: Usage,
    /// What it frees where it is applied; `None`: nobody can tell.
    freed: Option<Usage>,
    settled: bool,
}

impl Taken<'_> {
    pub(super) fn settle(mut self, outcome: &Result<(), StoreError>) {
        match (outcome, self.freed) {
            (Ok(()), Some(freed)) => self.quota.lock().give_back(freed),
            (
                Err(
                    StoreError::Conflict
                    | StoreError::NotApplied { .. }
                    | StoreError::Full
                    | StoreError::TooLarge,
                ),
                _,
            ) => self.quota.lock().give_back(self.growth),
            // The drop forgets what was counted.
            _ => return,
        }
        self.settled = true;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.quota.lock().known = Known::Nothing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::{Manual, START};

    fn limited(secrets: u64, bytes: u64) -> Quota {
        let limits = TenantLimits {
            secrets: Bound::of(secrets),
            bytes: Bound::of(bytes),
            requests_per_second: Bound::NONE,
        };
        Quota::new(OwnLimits::NONE, limits, Manual::at(START))
    }

    async fn counted(secrets: u64, bytes: u64, used: Usage) -> Quota {
        let quota = limited(secrets, bytes);
        begin(&quota).await.end(used);
        quota
    }

    async fn begin(quota: &Quota) -> Count<'_> {
        let Err(uncounted) = quota.counted().await else { panic!("it was counted") };
        uncounted.begin(&quota.alone().await)
    }

    async fn used(quota: &Quota) -> Option<Usage> {
        quota.counted().await.ok()
    }

    #[tokio::test]
    async fn what_is_taken_counts_at_once_and_what_is_freed_when_it_is_applied() {
        let quota = counted(2, 100, Usage::one(60)).await;
        let writing = quota.enter().await;
        let first = writing.take(Usage::one(30), Some(Usage::default())).unwrap();
        let beyond = writing.take(Usage::one(1), Some(Usage::default()));
        assert_eq!(beyond.err(), Some(VaultError::SecretsLimit { max: 2 }));
        // A secret that is replaced by a longer one adds what it is longer by.
        let longer = writing.take(Usage::one(71), Some(Usage::one(60)));
        assert_eq!(longer.err(), Some(VaultError::BytesLimit { max: 100 }));
        let shorter = writing.take(Usage::one(10), Some(Usage::one(60))).unwrap();
        let early = writing.take(Usage::one(50), Some(Usage::one(30)));
        assert_eq!(early.err(), Some(VaultError::BytesLimit { max: 100 }), "not applied yet");
        shorter.settle(&Ok(()));
        first.settle(&Err(StoreError::Conflict));
        drop(writing);
        assert_eq!(used(&quota).await, Some(Usage::one(10)));
    }

    #[tokio::test]
    async fn writers_go_on_while_it_is_counted_and_what_they_change_is_in_it() {
        let quota = limited(0, 0);
        let count = begin(&quota).await;
        let writing = quota.enter().await;
        assert!(writing.is_counted() && !writing.must_count());
        writing.take(Usage::one(7), Some(Usage::default())).unwrap().settle(&Ok(()));
        writing.take(Usage::one(9), Some(Usage::one(10))).unwrap().settle(&Ok(()));
        writing.free(Some(Usage::one(40))).settle(&Ok(()));
        let refused = writing.take(Usage::one(1), Some(Usage::default())).unwrap();
        refused.settle(&Err(StoreError::Conflict));
        let last = writing.take(Usage::one(3), Some(Usage::default())).unwrap();
        let stored = Usage { secrets: 5, bytes: 100 };
        assert_eq!(count.end(stored), Usage { secrets: 6, bytes: 69 });
        last.settle(&Ok(()));
        assert_eq!(used(&quota).await, None, "no limit needs it");
    }

    #[tokio::test]
    async fn a_writer_that_was_under_way_when_it_ended_settles_as_ever() {
        let quota = limited(9, 0);
        let count = begin(&quota).await;
        let writing = quota.enter().await;
        let [one, other] = [(); 2].map(|()| writing.take(Usage::one(1), Some(Usage::default())));
        assert!(writing.must_count(), "it is not known yet");
        assert_eq!(count.end(Usage::one(5)), Usage { secrets: 3, bytes: 7 });
        one.unwrap().settle(&Ok(()));
        other.unwrap().settle(&Err(StoreError::Full));
        assert_eq!(used(&quota).await, Some(Usage { secrets: 2, bytes: 6 }));
    }

    #[tokio::test]
    async fn a_count_that_is_broken_off_or_disturbed_is_none() {
        let quota = limited(9, 0);
        drop(begin(&quota).await);
        assert_eq!(used(&quota).await, None);
        let count = begin(&quota).await;
        let writing = quota.enter().await;
        drop(writing.take(Usage::one(1), Some(Usage::default())).unwrap());
        assert_eq!(count.end(Usage::one(5)), Usage::one(5));
        assert_eq!(used(&quota).await, None);
    }

    #[tokio::test]
    async fn beyond_a_lowered_limit_what_does_not_grow_goes_on() {
        let quota = counted(1, 10, Usage { secrets: 5, bytes: 50 }).await;
        let writing = quota.enter().await;
        let same = writing.take(Usage::one(10), Some(Usage::one(10))).unwrap();
        same.settle(&Ok(()));
        assert!(writing.take(Usage::one(11), Some(Usage::one(10))).is_err());
        writing.free(Some(Usage::one(10))).settle(&Ok(()));
        drop(writing);
        assert_eq!(used(&quota).await, Some(Usage { secrets: 4, bytes: 40 }));
    }

    #[tokio::test]
    async fn an_outcome_that_nobody_knows_drops_the_count() {
        for broken in [
            (|taken: Taken<'_>| taken.settle(&Err(StoreError::Unknown))) as fn(Taken<'_>),
            |taken| drop(taken),
        ] {
            let quota = counted(10, 0, Usage::default()).await;
            let writing = quota.enter().await;
            let other = writing.take(Usage::one(1), Some(Usage::default())).unwrap();
            broken(writing.take(Usage::one(1), Some(Usage::default())).unwrap());
            assert!(writing.must_count());
            other.settle(&Ok(()));
            drop(writing);
            assert_eq!(used(&quota).await, None);
        }
    }

    #[tokio::test]
    async fn what_was_there_and_cannot_be_told_is_counted_anew() {
        let quota = counted(10, 0, Usage::one(5)).await;
        let writing = quota.enter().await;
        writing.take(Usage::one(1), None).unwrap().settle(&Ok(()));
        assert!(writing.must_count());
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_counted_and_a_limit_that_is_taken_away_ends_it() {
        let quota = counted(0, 0, Usage::one(5)).await;
        assert_eq!(used(&quota).await, None);
        assert!(!quota.enter().await.must_count());
        let quota = counted(10, 0, Usage::one(5)).await;
        quota.change(OwnLimits::UNLIMITED, TenantLimits::default());
        assert_eq!(used(&quota).await, None);
        quota.change(OwnLimits::NONE, TenantLimits { bytes: Bound::of(1), ..Default::default() });
        assert!(quota.enter().await.must_count());
    }

    #[test]
    fn the_same_rate_set_again_gives_nothing_away() {
        let clock = Manual::at(START);
        let rate = |number| TenantLimits {
            requests_per_second: Bound::of(number),
            ..TenantLimits::default()
        };
        let quota = Quota::new(OwnLimits::NONE, rate(2), clock.clone());
        assert_eq!((quota.ask(), quota.ask()), (Ok(()), Ok(())));
        let retry_after = Duration::from_millis(500);
        let limited = Err(TenantLimited { per_second: 2, retry_after });
        assert_eq!(quota.ask(), limited);
        quota.change(OwnLimits::NONE, rate(2));
        assert_eq!(quota.ask(), limited);
        clock.pass(1);
        assert_eq!(quota.ask(), Ok(()));
        quota.change(OwnLimits::UNLIMITED, rate(2));
        assert!((0..100).all(|_| quota.ask() == Ok(())) && !quota.is_rated());
    }
}
