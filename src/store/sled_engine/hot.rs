//! Rows that were read lately, in front of sled.
//!
//! While sled applies a transaction it holds off every reader of the process, for
//! milliseconds where many write, and a reader that waits there blocks its worker
//! with all of its other requests. A row that is here is read without sled.
//!
//! What is here is durable. Once a drain is, all rows that it changed leave, then
//! what they became comes, and then who waited is told: whoever was shown any of a
//! commit finds nothing of before it. Who found a row missing reads the tree, and
//! what that says may be of before a drain or of after it; so it is left here only
//! if no drain of the space became durable in between.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};

use super::engine::Bytes;

const SHARDS: usize = 16;
/// What a row takes beside its key and its bytes: 120 bytes of the cache, which
/// doubles what it has when that is full, and two allocations with their counts.
const OVERHEAD: u64 = 320;
/// Of rows that gave way the cache remembers half as many as there is room for at this
/// size, so as to keep those that come back.
const TYPICAL: u64 = 1024;

/// The room that the spaces of a store share.
pub(super) struct HotRows {
    /// `None`: nothing is kept.
    shards: Option<[Mutex<Shard>; SHARDS]>,
    hasher: DefaultHashBuilder,
    /// How many were given to spaces.
    numbers: AtomicU64,
}

type Shard = Cache<HotKey, Bytes, Weigh>;

/// The rows of one space.
pub(super) struct HotSpace {
    rows: Arc<HotRows>,
    /// Its own among all spaces there ever were. With another one, what is here of
    /// it is found no more, and gives way to others.
    number: AtomicU64,
    /// How often rows changed, or may have.
    changes: AtomicU64,
}

/// How things stood when a row was not found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    number: u64,
    changes: u64,
}

#[derive(Hash, PartialEq, Eq)]
struct HotKey {
    space: u64,
    key: Bytes,
}

/// A [`HotKey`] by reference.
#[derive(Clone, Copy, Hash)]
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
        let share = bytes / SHARDS as u64;
        let rows = usize::try_from(share / TYPICAL).unwrap_or_default();
        let shard = |_| Mutex::new(Cache::with_weighter(rows, share, Weigh));
        Arc::new(Self { shards: Some(std::array::from_fn(shard)), ..Self::nothing() })
    }

    /// For what is read seldom.
    pub fn none() -> Arc<Self> {
        Arc::new(Self::nothing())
    }

    fn nothing() -> Self {
        Self { shards: None, hasher: DefaultHashBuilder::default(), numbers: AtomicU64::new(0) }
    }

    fn new_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// One in which something panicked is used no more.
    fn shard(&self, at: At<'_>) -> Option<MutexGuard<'_, Shard>> {
        let shards = self.shards.as_ref()?;
        let index = self.hasher.hash_one(at) % SHARDS as u64;
        shards.get(index as usize)?.lock().ok()
    }
}

impl HotSpace {
    pub fn of(rows: &Arc<HotRows>) -> Self {
        let number = AtomicU64::new(rows.new_number());
        Self { rows: Arc::clone(rows), number, changes: AtomicU64::new(0) }
    }

    fn at<'a>(&self, key: &'a [u8]) -> At<'a> {
        At { space: self.number.load(Ordering::SeqCst), key }
    }

    pub fn get(&self, key: &[u8]) -> Result<Bytes, Missed> {
        let changes = self.changes.load(Ordering::SeqCst);
        let at = self.at(key);
        let found = self.rows.shard(at).and_then(|shard| shard.get(&at).cloned());
        found.ok_or(Missed { number: at.space, changes })
    }

    /// Leaves here what the tree said after this miss. The caller has waited until it is
    /// durable; of a drain that failed, nothing ever is.
    pub fn fill(&self, missed: Missed, key: &[u8], row: &[u8]) {
        let at = At { space: missed.number, key };
        // Who changes rows from here on waits for this shard.
        let Some(mut shard) = self.rows.shard(at) else { return };
        if self.changes.load(Ordering::SeqCst) == missed.changes {
            // Of its own: sled's are often parts of a page.
            shard.insert(HotKey { space: missed.number, key: key.into() }, row.into());
        }
    }

    /// A drain that changed these rows is durable, and nobody was told yet. What nobody
    /// read does not come here by it.
    pub fn replace(&self, changed: &HashMap<Bytes, Option<Bytes>>) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let leave = |(key, row): (&Bytes, &Option<Bytes>)| {
            let at = self.at(key);
            let (hot, _) = self.rows.shard(at)?.remove(&at)?;
            Some((hot, row.clone()?))
        };
        let left: Vec<_> = changed.iter().filter_map(leave).collect();
        for (hot, row) in left {
            if let Some(mut shard) = self.rows.shard(At { space: hot.space, key: &hot.key }) {
                shard.insert(hot, row);
            }
        }
    }

    /// What its rows are is to be asked of the tree again.
    pub fn forget(&self) {
        self.number.store(self.rows.new_number(), Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// As where there is no room for it any more.
    #[cfg(test)]
    pub fn evict(&self, key: &[u8]) {
        let at = self.at(key);
        drop(self.rows.shard(at).and_then(|mut shard| shard.remove(&at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(changed: &[(&str, Option<&str>)]) -> HashMap<Bytes, Option<Bytes>> {
        changed.iter().map(|(key, row)| ((*key).into(), row.map(Bytes::from))).collect()
    }

    fn read(space: &HotSpace, key: &str, row: &[u8]) {
        let missed = space.get(key.as_bytes()).unwrap_err();
        space.fill(missed, key.as_bytes(), row);
    }

    fn hot() -> HotSpace {
        let space = HotSpace::of(&HotRows::new(1 << 20));
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
        let (one, other) = (HotSpace::of(&all), HotSpace::of(&all));
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
            let missed = space.get(b"slow").unwrap_err();
            change(&space);
            space.fill(missed, b"slow", b"old");
            assert!(space.get(b"slow").is_err());
        }
    }

    #[test]
    fn where_there_is_no_room_nothing_is_here() {
        for all in [HotRows::none(), HotRows::new(0)] {
            let space = HotSpace::of(&all);
            read(&space, "read", b"old");
            assert!(space.get(b"read").is_err());
        }
    }

    #[test]
    fn no_more_is_here_than_there_is_room_for() {
        let all = HotRows::new(256 << 10);
        let space = HotSpace::of(&all);
        let weight = || -> u64 {
            let weigh = |shard: &Mutex<Shard>| shard.lock().unwrap().weight();
            all.shards.iter().flatten().map(weigh).sum()
        };
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
