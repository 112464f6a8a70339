//! The sorted names of one tenant, in memory.
//!
//! Row keys are HMACs, so the store cannot list in the order of names: the heads
//! are decrypted once, at first use, and kept current by every write. All that
//! is held here can be dropped at any moment and filled again.
//!
//! What all tenants hold together is bounded by the [`Budget`]. A tenant whose
//! names do not fit has a [`Window`] of them: a list that walks on fills it again
//! further on, at the cost of decrypting every head once more.

mod block;
mod window;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Semaphore;

use crate::domain::{SecretName, ValidityWindow};

use window::Deletes;

pub(super) use block::Entry;
pub(super) use window::{Look, Place, Window};

/// What a list needs to know of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadEntry {
    pub(super) version: u64,
    pub(super) window: ValidityWindow,
}

/// One committed write, as the heads see it.
#[derive(Debug, Clone)]
pub(super) enum HeadChange {
    Put(SecretName, HeadEntry),
    /// Of the version that was deleted.
    Delete(SecretName, u64),
}

pub(super) struct Heads {
    state: RwLock<State>,
    budget: Arc<Budget>,
    /// When it was last listed, in ticks of a counter that the vault keeps.
    last_used: AtomicU64,
    /// One filling at a time.
    filling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    /// A scan is under way. What is committed meanwhile may not be in it, so both
    /// go into the window, where the later version of a name stays.
    Filling(Window, Keep),
    Ready(Window),
}

/// What becomes of a window that was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    /// It answers the call that filled it: a write's outcome became unknown
    /// meanwhile.
    No,
}

/// How many heads go into a window under one lock.
const BATCH: usize = 128;
/// How many fillings there are at once.
const FILLINGS: usize = 4;

/// What the heads of all tenants share.
pub(super) struct Budget {
    limit: usize,
    /// Bytes of all blocks that are alive: kept, being filled, or only looked at
    /// any more.
    used: AtomicUsize,
    /// Taken while heads are filled. Each filling may hold its share whatever the
    /// others do, and a page of rows and heads that is not counted (some 2 MiB).
    fillings: Semaphore,
}

impl Budget {
    /// What a filling may hold even where the limit is less: with some names at
    /// least in each window, a walk over all of them ends.
    const LEAST_SHARE: usize = 4096;

    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), fillings: Semaphore::new(FILLINGS) }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// By how much it is exceeded.
    pub(super) fn excess(&self) -> usize {
        self.used().saturating_sub(self.limit)
    }

    /// Whether there is room for a while, so that whoever makes room makes some
    /// for those to come.
    pub(super) fn is_roomy(&self) -> bool {
        self.used() <= self.limit - self.limit / 16
    }

    /// What one gives up where nobody else is left to: not only the excess, or each
    /// write into a full window would look at all tenants for something to evict.
    pub(super) fn to_spare(&self) -> usize {
        self.excess() + self.limit / 64
    }

    /// What each filling may hold whatever the others do.
    fn share(&self) -> usize {
        (self.limit / FILLINGS).max(Self::LEAST_SHARE)
    }

    fn grow(&self, by: usize) {
        self.used.fetch_add(by, Ordering::Relaxed);
    }

    fn shrink(&self, by: usize) {
        self.used.fetch_sub(by, Ordering::Relaxed);
    }
}

/// Without a limit.
impl Default for Budget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Heads {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            state: RwLock::default(),
            budget,
            last_used: AtomicU64::new(0),
            filling: tokio::sync::Mutex::default(),
        }
    }

    /// Takes note of a committed write. Writers of one name call in the order of
    /// their commits, since they hold the name's lock.
    pub(super) fn note(&self, change: &HeadChange) {
        match &mut *self.write() {
            State::Empty => {}
            State::Filling(window, _) => window.apply(change, Deletes::Remember),
            State::Ready(window) => window.apply(change, Deletes::Forget),
        }
    }

    /// A write's outcome is unknown: forgets everything; the next list fills it
    /// again.
    pub(super) fn drop_all(&self) {
        let mut state = self.write();
        match &mut *state {
            State::Filling(_, keep) => *keep = Keep::No,
            State::Empty | State::Ready(_) => set(state, State::Empty),
        }
    }

    /// Gives its memory to others.
    pub(super) fn evict(&self) {
        let state = self.write();
        if matches!(*state, State::Ready(_)) {
            set(state, State::Empty);
        }
    }

    /// Gives up so many bytes, from the end.
    pub(super) fn shrink(&self, by: usize) {
        let mut state = self.write();
        let State::Ready(window) = &mut *state else { return };
        if by < window.bytes() {
            window.shrink_end(window.bytes() - by);
        } else if by > 0 {
            set(state, State::Empty);
        }
    }

    /// Bytes that can be given to others.
    pub(super) fn bytes(&self) -> usize {
        match &*self.read() {
            State::Ready(window) => window.bytes(),
            State::Empty | State::Filling(..) => 0,
        }
    }

    /// It is listed now; `tick` orders uses for eviction.
    pub(super) fn touch(&self, tick: u64) {
        self.last_used.store(tick, Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// What there is from `place` on, as it is now, where it is known.
    pub(super) fn look(&self, place: &Place) -> Option<Look> {
        match &*self.read() {
            State::Ready(window) => window.look(place),
            State::Empty | State::Filling(..) => None,
        }
    }

    /// A window with `place` in it; where there is none, `fill` reads every head
    /// into one. What must be given up of it is what lies before `from` first,
    /// which is not after `place`. Whoever asked has the window, even if others
    /// take its place the next moment.
    pub(super) async fn window<E>(
        &self,
        place: &Place,
        from: &Place,
        fill: impl AsyncFnOnce(&mut Filling<'_>) -> Result<(), E>,
    ) -> Result<Window, E> {
        let _one = self.filling.lock().await;
        if let State::Ready(window) = &*self.read()
            && window.covers(place)
        {
            return Ok(window.clone());
        }
        // Never closed; an error would only mean that nobody is counted.
        let _few = self.budget.fillings.acquire().await.ok();
        let mut filling = Filling::begin(self, from.clone());
        fill(&mut filling).await?;
        Ok(filling.finish())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees what was there when the lock is free: that takes a while.
fn set(mut state: RwLockWriteGuard<'_, State>, new: State) {
    let old = std::mem::replace(&mut *state, new);
    drop(state);
    drop(old);
}

/// A window while it is filled. Left by an error or by a caller who went away, it
/// leaves nothing behind.
pub(super) struct Filling<'h> {
    heads: &'h Heads,
    from: Place,
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Others may still make room.
    Growing,
    /// It had to give up names; from then on only those that others leave it.
    Full,
}

impl<'h> Filling<'h> {
    fn begin(heads: &'h Heads, from: Place) -> Self {
        set(heads.write(), State::Filling(Window::new(heads.budget.clone()), Keep::Yes));
        Self { heads, from, extent: Extent::Growing }
    }

    /// Takes heads as a scan finds them, in no order. Where they do not fit, calls
    /// `make_room`, and gives up names if that does not help.
    pub(super) fn add(&mut self, heads: Vec<(SecretName, HeadEntry)>, make_room: impl Fn()) {
        let mut heads = heads.into_iter().map(|(name, entry)| HeadChange::Put(name, entry));
        loop {
            let batch: Vec<_> = heads.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            if let State::Filling(window, _) = &mut *self.heads.write() {
                batch.iter().for_each(|change| window.apply(change, Deletes::Remember));
            }
            self.fit(&make_room);
        }
    }

    fn fit(&mut self, make_room: impl Fn()) {
        let budget = &*self.heads.budget;
        if budget.excess() > 0 && self.extent == Extent::Growing {
            make_room();
        }
        let excess = budget.excess();
        if excess > 0
            && let State::Filling(window, _) = &mut *self.heads.write()
        {
            self.extent = Extent::Full;
            let target = window.bytes().saturating_sub(excess).max(budget.share());
            window.shrink_to(target, &self.from);
        }
    }

    fn finish(self) -> Window {
        let mut state = self.heads.write();
        match std::mem::take(&mut *state) {
            State::Filling(window, Keep::Yes) => {
                *state = State::Ready(window.clone());
                window
            }
            State::Filling(window, Keep::No) => window,
            State::Empty | State::Ready(_) => {
                unreachable!("nobody but `Filling` ends a filling, and only once")
            }
        }
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let state = self.heads.write();
        if matches!(*state, State::Filling(..)) {
            set(state, State::Empty);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    fn entry(version: u64) -> HeadEntry {
        HeadEntry { version, window: ValidityWindow::default() }
    }

    fn put(text: &str, version: u64) -> HeadChange {
        HeadChange::Put(name(text), entry(version))
    }

    fn delete(text: &str, version: u64) -> HeadChange {
        HeadChange::Delete(name(text), version)
    }

    fn scanned(stored: &[(&str, u64)]) -> Vec<(SecretName, HeadEntry)> {
        stored.iter().map(|(text, version)| (name(text), entry(*version))).collect()
    }

    /// Names and versions from `place` on, to where nothing is known any more.
    fn known(mut look: impl FnMut(&Place) -> Option<Look>, place: &Place) -> Vec<(String, u64)> {
        let (mut names, mut next) = (Vec::new(), Some(place.clone()));
        while let Some(place) = next.take()
            && let Some(found) = look(&place)
        {
            let entries = found.block.iter().flat_map(|block| block.entries());
            let entries = entries.filter(|entry| entry.name >= place.as_str());
            let there = entries.filter(|entry| entry.window.is_some());
            names.extend(there.map(|entry| (entry.name.to_owned(), entry.version)));
            next = found.next;
        }
        names
    }

    fn of(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(text, version)| ((*text).to_owned(), *version)).collect()
    }

    async fn list(heads: &Heads, stored: &[(&str, u64)]) -> Vec<(String, u64)> {
        let fill = async |filling: &mut Filling<'_>| {
            filling.add(scanned(stored), || {});
            Ok::<_, Infallible>(())
        };
        let window = heads.window(&Place::start(), &Place::start(), fill).await.unwrap();
        known(|place| window.look(place), &Place::start())
    }

    #[tokio::test]
    async fn it_is_filled_once_and_then_follows_the_writes() {
        let heads = Heads::new(Arc::default());
        heads.note(&put("ignored", 1));
        assert_eq!(list(&heads, &[("b", 2), ("a", 1)]).await, of(&[("a", 1), ("b", 2)]));
        heads.note(&put("a", 5));
        heads.note(&delete("b", 2));
        heads.note(&put("c", 6));
        heads.note(&put("c", 4));
        heads.note(&delete("c", 5));
        assert_eq!(list(&heads, &[("unused", 9)]).await, of(&[("a", 5), ("c", 6)]));
        assert_eq!(known(|place| heads.look(place), &Place::before("b")), of(&[("c", 6)]));
    }

    #[tokio::test]
    async fn what_is_written_during_the_filling_is_not_lost() {
        let heads = Heads::new(Arc::default());
        let fill = async |filling: &mut Filling<'_>| {
            heads.note(&put("new", 7));
            heads.note(&put("old", 6));
            heads.note(&delete("gone", 3));
            heads.note(&delete("again", 3));
            let rows = [("old", 4), ("gone", 3), ("again", 8), ("new", 7), ("late", 9)];
            filling.add(scanned(&rows), || {});
            heads.note(&delete("late", 9));
            Ok::<_, Infallible>(())
        };
        let window = heads.window(&Place::start(), &Place::start(), fill).await.unwrap();
        let expected = of(&[("again", 8), ("new", 7), ("old", 6)]);
        assert_eq!(known(|place| window.look(place), &Place::start()), expected);
        assert_eq!(known(|place| heads.look(place), &Place::start()), expected);
        heads.note(&put("gone", 10));
        assert_eq!(known(|place| heads.look(place), &Place::before("gonf")), expected[1..]);
    }

    #[tokio::test]
    async fn a_failed_filling_leaves_nothing_behind() {
        let budget = Arc::<Budget>::default();
        let heads = Heads::new(budget.clone());
        let fill = async |filling: &mut Filling<'_>| {
            filling.add(scanned(&[("a", 1)]), || {});
            assert!(budget.used() > 0, "it is counted while it is filled");
            Err::<(), _>("no")
        };
        let filled = heads.window(&Place::start(), &Place::start(), fill).await;
        assert_eq!(filled.err(), Some("no"));
        assert!(matches!(&*heads.read(), State::Empty));
        assert_eq!(budget.used(), 0);
        assert_eq!(list(&heads, &[("a", 1)]).await, of(&[("a", 1)]));
    }

    #[tokio::test]
    async fn an_unknown_outcome_during_the_filling_is_not_kept() {
        let heads = Heads::new(Arc::default());
        let fill = async |filling: &mut Filling<'_>| {
            filling.add(scanned(&[("a", 1)]), || {});
            heads.drop_all();
            Ok::<_, Infallible>(())
        };
        let window = heads.window(&Place::start(), &Place::start(), fill).await.unwrap();
        assert_eq!(known(|place| window.look(place), &Place::start()), of(&[("a", 1)]));
        assert!(heads.look(&Place::start()).is_none());
    }

    /// So long that some 35 of them fill the least share.
    fn long(number: usize) -> String {
        format!("{number:03}{}", "x".repeat(100))
    }

    const NAMES: usize = 151;

    #[derive(Debug, Clone)]
    enum Step {
        Write(Write),
        /// Asks for the window at a name; writes come between the batches of the
        /// scan, whose order the last number makes.
        Fill(usize, Vec<Write>, usize),
        Evict,
        Shrink(usize),
        UnknownOutcome,
    }

    #[derive(Debug, Clone)]
    enum Write {
        Put(usize),
        Delete(usize),
    }

    fn write() -> impl Strategy<Value = Write> {
        prop_oneof![2 => (0..NAMES).prop_map(Write::Put), 1 => (0..NAMES).prop_map(Write::Delete)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let fill = (0..NAMES, proptest::collection::vec(write(), 0..40), 1..NAMES);
        prop_oneof![
            9 => write().prop_map(Step::Write),
            3 => fill.prop_map(|(at, writes, order)| Step::Fill(at, writes, order)),
            1 => Just(Step::Evict),
            1 => (0..3_000usize).prop_map(Step::Shrink),
            1 => Just(Step::UnknownOutcome),
        ]
    }

    #[derive(Default)]
    struct Stored {
        versions: BTreeMap<String, u64>,
        latest: u64,
    }

    impl Stored {
        fn write(&mut self, write: &Write) -> Option<HeadChange> {
            match write {
                Write::Put(number) => {
                    self.latest += 1;
                    self.versions.insert(long(*number), self.latest);
                    Some(put(&long(*number), self.latest))
                }
                Write::Delete(number) => {
                    let version = self.versions.remove(&long(*number))?;
                    Some(delete(&long(*number), version))
                }
            }
        }

        fn read(&self, names: &[String]) -> Vec<(SecretName, HeadEntry)> {
            let there = names.iter().filter_map(|text| {
                let version = self.versions.get(text)?;
                Some((name(text), entry(*version)))
            });
            there.collect()
        }

        /// What is known from `place` on is what is stored, as far as it goes.
        fn assert_known(&self, look: impl Fn(&Place) -> Option<Look>, place: &Place) {
            let mut end = Some(place.clone());
            while let Some(found) = end.as_ref().and_then(&look) {
                end = found.next;
            }
            let from_place = self.versions.range(place.as_str().to_owned()..);
            let in_range = from_place.take_while(|(name, _)| {
                end.as_ref().is_none_or(|end| name.as_str() < end.as_str())
            });
            let expected: Vec<_> =
                in_range.map(|(name, version)| (name.clone(), *version)).collect();
            assert_eq!(known(look, place), expected);
        }
    }

    async fn fill(stored: &mut Stored, heads: &Heads, at: usize, writes: &[Write], order: usize) {
        let place = Place::before(&long(at));
        let known_before = heads.look(&place).is_some();
        let mut scanned = false;
        let scan = async |filling: &mut Filling<'_>| {
            scanned = true;
            let all: Vec<_> = (0..NAMES).map(|number| long(number * order % NAMES)).collect();
            let mut writes = writes.iter();
            for names in all.chunks(16) {
                // What was read is older than what is written before it arrives.
                let read = stored.read(names);
                for write in writes.by_ref().take(4) {
                    stored.write(write).iter().for_each(|change| heads.note(change));
                }
                filling.add(read, || {});
            }
            Ok::<_, Infallible>(())
        };
        let window = heads.window(&place, &place, scan).await.unwrap();
        assert_eq!(scanned, !known_before);
        assert!(window.covers(&place), "whoever walks on gets on");
        stored.assert_known(|place| window.look(place), &place);
    }

    proptest! {
        #[test]
        fn heads_are_what_is_stored_as_far_as_they_go(
            limit in 0..20_000usize,
            steps in proptest::collection::vec(step(), 1..30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (mut stored, budget) = (Stored::default(), Arc::new(Budget::new(limit)));
            let heads = Heads::new(budget.clone());
            (0..NAMES).step_by(2).for_each(|number| drop(stored.write(&Write::Put(number))));
            for step in steps {
                match step {
                    Step::Write(write) => {
                        stored.write(&write).iter().for_each(|change| heads.note(change));
                    }
                    Step::Fill(at, writes, order) => {
                        runtime.block_on(fill(&mut stored, &heads, at, &writes, order));
                    }
                    Step::Evict => heads.evict(),
                    Step::Shrink(by) => heads.shrink(by),
                    Step::UnknownOutcome => heads.drop_all(),
                }
                for number in [0, 40, 90, 150] {
                    let place = Place::before(&long(number));
                    stored.assert_known(|place| heads.look(place), &place);
                }
                prop_assert_eq!(heads.bytes(), budget.used());
            }
            drop(heads);
            prop_assert_eq!(budget.used(), 0);
        }
    }

    /// A filling of all names, in an order that is none.
    async fn fill_all(heads: &Heads, place: &Place, make_room: impl Fn() + Copy) -> Window {
        let fill = async |filling: &mut Filling<'_>| {
            for number in 0..NAMES {
                let text = long(number * 40 % NAMES);
                filling.add(vec![(name(&text), entry(1))], make_room);
            }
            Ok::<_, Infallible>(())
        };
        heads.window(place, place, fill).await.unwrap()
    }

    #[tokio::test]
    async fn a_window_is_as_large_as_the_budget_and_no_larger() {
        for limit in [0, 6_000, 9_000, 12_000, usize::MAX] {
            let budget = Arc::new(Budget::new(limit));
            let heads = Heads::new(budget.clone());
            for at in [0, 50, 120] {
                let place = Place::before(&long(at));
                let window = fill_all(&heads, &place, || {}).await;
                let bound = limit.max(Budget::LEAST_SHARE);
                assert!(budget.used() <= bound, "{} of {bound}", budget.used());
                let names = known(|place| window.look(place), &place).len();
                let room = bound / 140;
                assert!(names >= room.min(NAMES - at) * 9 / 10, "{names} in {bound} bytes");
                heads.evict();
            }
        }
    }

    #[tokio::test]
    async fn names_before_the_place_are_given_up_first() {
        let place = Place::before(&long(120));
        let heads = Heads::new(Arc::new(Budget::new(8_000)));
        let window = fill_all(&heads, &place, || {}).await;
        assert_eq!(known(|place| window.look(place), &place).len(), 31, "all that follow it");
        assert!(!window.covers(&Place::start()));
        let heads = Heads::new(Arc::default());
        let window = fill_all(&heads, &place, || {}).await;
        assert!(window.covers(&Place::start()), "not where there is room");
    }

    #[tokio::test]
    async fn others_make_room_before_names_are_given_up() {
        let budget = Arc::new(Budget::new(24_000));
        let (first, second) = (Heads::new(budget.clone()), Heads::new(budget.clone()));
        fill_all(&first, &Place::start(), || {}).await;
        assert!(budget.used() > 12_000, "two do not fit");
        let window = fill_all(&second, &Place::start(), || first.evict()).await;
        assert_eq!(known(|place| window.look(place), &Place::start()).len(), NAMES);
        assert!(first.look(&Place::start()).is_none());
        assert!(budget.excess() == 0);
    }

    #[tokio::test]
    async fn memory_that_a_reader_still_holds_is_counted() {
        let budget = Arc::new(Budget::new(24_000));
        let heads = Heads::new(budget.clone());
        fill_all(&heads, &Place::start(), || {}).await;
        let look = heads.look(&Place::start()).unwrap();
        heads.evict();
        let held = budget.used();
        assert!(held > 0 && held < 8_000, "one block");
        drop(look);
        assert_eq!(budget.used(), 0);
    }
}
