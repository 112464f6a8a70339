//! Rows that were read lately, in front of sled.
//!
//! While sled applies a transaction it holds off every reader of the process, for
//! milliseconds where many write, and a reader that waits there blocks its worker
//! with all of its other requests. A row that is here is read without sled.
//!
//! What is here is durable. Once a drain is, all rows that it changed leave, then
//! what they became comes, and then who waited is told: whoever was shown any of a
//! commit finds nothing of before it. Who finds a row missing holds its place and
//! reads the tree, and what that says may be of before a drain or of after it; so a
//! drain that changed the row takes the place away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};

use super::engine::Bytes;
use crate::store::Space;

/// What a row takes beside its key and its bytes: 120 bytes of the cache, which
/// doubles what it has when that is full, and two allocations with their counts.
const OVERHEAD: u64 = 320;
/// Of rows that gave way the cache remembers half as many as there is room for at this
/// size, so as to keep those that come back.
const TYPICAL: u64 = 1024;

/// The room that the spaces of a store share.
pub(super) struct HotRows {
    rows: Cache<HotKey, Bytes, Weigh>,
    /// How many were given to spaces.
    numbers: AtomicU64,
}

/// The rows of one space.
pub(super) struct HotSpace {
    /// `None`: nothing is kept.
    all: Option<Arc<HotRows>>,
    /// Its own among all spaces there ever were. With another one, what is here of
    /// it is found no more, and gives way to others.
    number: AtomicU64,
}

/// A row that was not found, whose place is held unless somebody else does, and until
/// the row changes.
#[derive(Debug)]
pub(super) struct Missed<'a>(Option<Place<'a>>);

type Place<'a> =
    PlaceholderGuard<'a, HotKey, Bytes, Weigh, DefaultHashBuilder, DefaultLifecycle<HotKey, Bytes>>;

#[derive(Clone, Hash, PartialEq, Eq)]
struct HotKey {
    space: u64,
    key: Bytes,
}

/// A [`HotKey`] by reference.
#[derive(Hash)]
struct At<'a> {
    space: u64,
    key: &'a [u8],
}

impl Equivalent<HotKey> for At<'_> {
    fn equivalent(&self, hot: &HotKey) -> bool {
        self.space == hot.space && self.key == hot.key.as_ref()
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<HotKey, Bytes> for Weigh {
    fn weight(&self, hot: &HotKey, row: &Bytes) -> u64 {
        OVERHEAD + (hot.key.len() + row.len()) as u64
    }
}

impl HotRows {
    pub fn new(bytes: u64) -> Arc<Self> {
        let rows = usize::try_from(bytes / TYPICAL).unwrap_or_default();
        let rows = Cache::with_weighter(rows, bytes, Weigh);
        Arc::new(Self { rows, numbers: AtomicU64::new(0) })
    }

    fn new_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

impl HotSpace {
    /// Those of tenants are kept; others are read seldom.
    pub fn new(space: Space, all: &Arc<HotRows>) -> Self {
        let all = matches!(space, Space::Tenant(_)).then(|| Arc::clone(all));
        let number = all.as_ref().map_or(0, |all| all.new_number());
        Self { all, number: AtomicU64::new(number) }
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    pub fn get(&self, key: &[u8]) -> Result<Bytes, Missed<'_>> {
        let Some(all) = &self.all else { return Err(Missed(None)) };
        let space = self.number();
        // Most are here, and are looked for without a key of their own.
        if let Some(row) = all.rows.get(&At { space, key }) {
            return Ok(row);
        }
        // Waits for nobody.
        let place =
            all.rows.get_value_or_guard(&HotKey { space, key: key.into() }, Some(Duration::ZERO));
        match place {
            GuardResult::Value(row) => Ok(row),
            GuardResult::Guard(place) => Err(Missed(Some(place))),
            GuardResult::Timeout => Err(Missed(None)),
        }
    }

    /// A drain that changed these rows is durable, and nobody was told yet. What nobody
    /// read does not come here by it.
    pub fn replace(&self, changed: &HashMap<Bytes, Option<Bytes>>) {
        let Some(all) = &self.all else { return };
        let space = self.number();
        // Places held for readers leave too: what these bring is then refused.
        let leave = |(key, row): (&Bytes, &Option<Bytes>)| {
            let (hot, _) = all.rows.remove(&At { space, key })?;
            Some((hot, row.clone()?))
        };
        let left: Vec<_> = changed.iter().filter_map(leave).collect();
        for (hot, row) in left {
            all.rows.insert(hot, row);
        }
    }

    /// What its rows are is to be asked of the tree again.
    pub fn forget(&self) {
        if let Some(all) = &self.all {
            self.number.store(all.new_number(), Ordering::SeqCst);
        }
    }

    /// As where there is no room for it any more.
    #[cfg(test)]
    pub fn evict(&self, key: &[u8]) {
        if let Some(all) = &self.all {
            all.rows.remove_if(&At { space: self.number(), key }, |_| true);
        }
    }
}

impl Missed<'_> {
    /// Leaves here what the tree said after this miss. The caller has waited until it is
    /// durable; of a drain that failed, nothing ever is.
    pub fn fill(self, row: &[u8]) {
        if let Some(place) = self.0 {
            // Of its own: sled's are often parts of a page. It is refused where the row
            // changed meanwhile.
            let _ = place.insert(row.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::A;

    fn rows(changed: &[(&str, Option<&str>)]) -> HashMap<Bytes, Option<Bytes>> {
        changed.iter().map(|(key, row)| ((*key).into(), row.map(Bytes::from))).collect()
    }

    fn miss<'a>(space: &'a HotSpace, key: &str) -> Missed<'a> {
        space.get(key.as_bytes()).unwrap_err()
    }

    fn read(space: &HotSpace, key: &str, row: &[u8]) {
        miss(space, key).fill(row);
    }

    fn hot() -> HotSpace {
        let space = HotSpace::new(A, &HotRows::new(1 << 20));
        read(&space, "read", b"old");
        space
    }

    #[test]
    fn what_was_read_is_here_until_it_changes() {
        let space = hot();
        assert_eq!(space.get(b"read").unwrap(), b"old");
        space.replace(&rows(&[("other", Some("new"))]));
        assert_eq!(space.get(b"read").unwrap(), b"old");
        space.replace(&rows(&[("read", Some("new"))]));
        assert_eq!(space.get(b"read").unwrap(), b"new");
        space.replace(&rows(&[("read", None)]));
        assert!(space.get(b"read").is_err());
    }

    #[test]
    fn what_was_only_written_is_not_here() {
        let space = hot();
        space.replace(&rows(&[("written", Some("new"))]));
        assert!(space.get(b"written").is_err());
    }

    #[test]
    fn spaces_share_the_room_and_nothing_else() {
        let all = HotRows::new(1 << 20);
        let (one, other) = (HotSpace::new(A, &all), HotSpace::new(A, &all));
        read(&one, "read", b"of one");
        read(&other, "read", b"of the other");
        one.replace(&rows(&[("read", Some("new"))]));
        assert_eq!(one.get(b"read").unwrap(), b"new");
        assert_eq!(other.get(b"read").unwrap(), b"of the other");
        one.forget();
        assert!(one.get(b"read").is_err());
        assert_eq!(other.get(b"read").unwrap(), b"of the other");
    }

    #[test]
    fn what_may_have_changed_since_it_was_read_is_not_left_here() {
        let changes: [&dyn Fn(&HotSpace); 2] =
            [&|space| space.replace(&rows(&[("slow", Some("new"))])), &HotSpace::forget];
        for change in changes {
            let space = hot();
            let missed = miss(&space, "slow");
            change(&space);
            missed.fill(b"old");
            assert!(space.get(b"slow").is_err());
        }
    }

    #[test]
    fn of_two_who_miss_a_row_neither_waits_and_one_leaves_it_here() {
        let space = hot();
        let (first, second) = (miss(&space, "slow"), miss(&space, "slow"));
        second.fill(b"row");
        assert!(space.get(b"slow").is_err());
        first.fill(b"row");
        assert_eq!(space.get(b"slow").unwrap(), b"row");
    }

    #[test]
    fn who_misses_a_row_and_leaves_nothing_is_in_nobodys_way() {
        let space = hot();
        drop(miss(&space, "slow"));
        read(&space, "slow", b"row");
        assert_eq!(space.get(b"slow").unwrap(), b"row");
    }

    #[test]
    fn whoever_finds_a_row_of_a_drain_finds_none_of_before_it() {
        let space = HotSpace::new(A, &HotRows::new(8 << 20));
        let keys: Vec<_> = (0..1000).map(|n| format!("{n:04}")).collect();
        for key in &keys {
            read(&space, key, &0u64.to_be_bytes());
        }
        let (last, mut seen) = (100u64, 0);
        let version = |row: Bytes| u64::from_be_bytes(row.as_ref().try_into().unwrap());
        std::thread::scope(|scope| {
            let drains = scope.spawn(|| {
                for drain in 1..=last {
                    let row = || Some(Bytes::from(&drain.to_be_bytes()));
                    space.replace(&keys.iter().map(|key| (key.as_str().into(), row())).collect());
                }
            });
            for key in keys.iter().cycle() {
                if drains.is_finished() {
                    break;
                }
                let Ok(row) = space.get(key.as_bytes()) else { continue };
                let found = version(row);
                assert!(found >= seen, "{found} was found after {seen}");
                seen = found;
            }
        });
        for key in &keys {
            assert_eq!(version(space.get(key.as_bytes()).unwrap()), last);
        }
    }

    #[test]
    fn nothing_is_here_where_there_is_no_room_or_of_spaces_that_are_not_kept() {
        let (none, some) = (HotRows::new(0), HotRows::new(1 << 20));
        for (space, all) in [(A, none), (Space::System, some.clone()), (Space::Keyring, some)] {
            let space = HotSpace::new(space, &all);
            read(&space, "read", b"old");
            assert!(space.get(b"read").is_err());
        }
    }

    #[test]
    fn no_more_is_here_than_there_is_room_for() {
        let all = HotRows::new(256 << 10);
        let space = HotSpace::new(A, &all);
        let weight = || all.rows.weight();
        let keys: Vec<_> = (0..10_000).map(|n| format!("{n:04}")).collect();
        for key in &keys {
            read(&space, key, &[0; 100]);
        }
        assert!((128 << 10..=256 << 10).contains(&weight()), "{}", weight());
        let grown = "x".repeat(4000);
        for key in &keys {
            space.replace(&rows(&[(key, Some(&grown))]));
            assert!(weight() <= 256 << 10, "{}", weight());
        }
    }
}
