//! The sorted names of one tenant, in memory.
//!
//! Row keys are HMACs, so the store cannot list in the order of names: the heads
//! are decrypted once, at first use, and kept current by every write. All that
//! is held here can be dropped at any moment and filled again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Semaphore;

use crate::domain::{SecretName, ValidityWindow};

/// What a list needs to know of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadEntry {
    pub(super) version: u64,
    pub(super) window: ValidityWindow,
}

pub(super) type HeadMap = BTreeMap<SecretName, HeadEntry>;

/// One committed write, as the heads see it.
#[derive(Debug, Clone)]
pub(super) enum HeadChange {
    Put(SecretName, HeadEntry),
    /// Of the version that was deleted.
    Delete(SecretName, u64),
}

/// An entry's cost in memory, measured as nothing but estimated high: name,
/// allocation headers, entry and its share of the tree.
fn cost(name: &SecretName) -> usize {
    name.as_str().len() + 160
}

pub(super) struct Heads {
    state: RwLock<State>,
    /// Estimated bytes held.
    bytes: AtomicUsize,
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
    /// A scan is under way; what is committed meanwhile may not be in it.
    Filling(Vec<HeadChange>),
    /// Shared with the lists under way, which look at it without the lock.
    Ready(Arc<HeadMap>),
}

/// What the heads of all tenants share.
pub(super) struct Budget {
    /// Estimated bytes held.
    bytes: AtomicUsize,
    /// Taken while heads are filled: what is gathered then is not counted yet,
    /// so only a few may gather at once.
    fillings: Semaphore,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: AtomicUsize::new(0), fillings: Semaphore::new(4) }
    }
}

impl Budget {
    pub(super) fn used(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Heads {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            state: RwLock::default(),
            bytes: AtomicUsize::new(0),
            budget,
            last_used: AtomicU64::new(0),
            filling: tokio::sync::Mutex::default(),
        }
    }

    /// Takes note of a committed write. Writers of one name call in the order of
    /// their commits, since they hold the name's lock.
    pub(super) fn note(&self, change: HeadChange) {
        match &mut *self.write() {
            State::Empty => {}
            State::Filling(missed) => missed.push(change),
            State::Ready(map) => self.apply(Arc::make_mut(map), change),
        }
    }

    /// Applies a change unless the map is ahead of it already, as it is where a
    /// scan saw a later version.
    fn apply(&self, map: &mut HeadMap, change: HeadChange) {
        match change {
            HeadChange::Put(name, entry) => {
                if map.get(&name).is_none_or(|held| held.version < entry.version) {
                    let added = cost(&name);
                    if map.insert(name, entry).is_none() {
                        self.grow(added);
                    }
                }
            }
            HeadChange::Delete(name, version) => {
                if map.get(&name).is_some_and(|held| held.version <= version) {
                    map.remove(&name);
                    self.shrink(cost(&name));
                }
            }
        }
    }

    /// Forgets everything; the next list fills it again.
    pub(super) fn drop_all(&self) {
        let mut state = self.write();
        *state = State::Empty;
        self.shrink(self.bytes());
    }

    fn grow(&self, by: usize) {
        self.bytes.fetch_add(by, Ordering::Relaxed);
        self.budget.bytes.fetch_add(by, Ordering::Relaxed);
    }

    fn shrink(&self, by: usize) {
        self.bytes.fetch_sub(by, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(by, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// The heads where they are filled, as they are now.
    pub(super) fn ready(&self) -> Option<Arc<HeadMap>> {
        match &*self.read() {
            State::Ready(map) => Some(map.clone()),
            State::Empty | State::Filling(_) => None,
        }
    }

    /// The heads as they are now, filled first with `fill` where they are not
    /// there. `tick` orders uses for eviction.
    pub(super) async fn get<E>(
        &self,
        tick: u64,
        fill: impl AsyncFnOnce() -> Result<HeadMap, E>,
    ) -> Result<Arc<HeadMap>, E> {
        self.last_used.store(tick, Ordering::Relaxed);
        if let Some(map) = self.ready() {
            return Ok(map);
        }
        let _one = self.filling.lock().await;
        if let Some(map) = self.ready() {
            return Ok(map);
        }
        // Never closed; an error would only mean that nobody is counted.
        let _few = self.budget.fillings.acquire().await.ok();
        *self.write() = State::Filling(Vec::new());
        // Left by an error or by a caller who went away: later changes would be
        // gathered for ever.
        let mut abandoned = Abandon { heads: self, armed: true };
        let mut map = fill().await?;
        let mut state = self.write();
        abandoned.armed = false;
        let State::Filling(missed) = std::mem::take(&mut *state) else {
            // Dropped while filling, because a write's outcome became unknown:
            // what was scanned answers this call, and is not kept.
            return Ok(Arc::new(map));
        };
        self.grow(map.keys().map(cost).sum());
        missed.into_iter().for_each(|change| self.apply(&mut map, change));
        let map = Arc::new(map);
        *state = State::Ready(map.clone());
        Ok(map)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        self.shrink(self.bytes());
    }
}

/// Ends a filling that was not finished.
struct Abandon<'a> {
    heads: &'a Heads,
    armed: bool,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.heads.drop_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

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

    fn versions(map: &HeadMap) -> Vec<(String, u64)> {
        map.iter().map(|(name, entry)| (name.as_str().to_owned(), entry.version)).collect()
    }

    async fn list(heads: &Heads, stored: &[(&str, u64)]) -> Vec<(String, u64)> {
        let fill = async || {
            Ok::<_, Infallible>(stored.iter().map(|(n, v)| (name(n), entry(*v))).collect())
        };
        versions(&heads.get(1, fill).await.unwrap())
    }

    #[tokio::test]
    async fn it_is_filled_once_and_then_follows_the_writes() {
        let heads = Heads::new(Arc::default());
        heads.note(put("ignored", 1));
        assert_eq!(list(&heads, &[("b", 2), ("a", 1)]).await, [("a".into(), 1), ("b".into(), 2)]);
        heads.note(put("a", 5));
        heads.note(HeadChange::Delete(name("b"), 2));
        assert_eq!(list(&heads, &[("unused", 9)]).await, [("a".into(), 5)]);
        assert_eq!(heads.bytes(), cost(&name("a")));
    }

    #[tokio::test]
    async fn what_is_written_during_the_filling_is_not_lost() {
        let heads = Heads::new(Arc::default());
        let fill = async || {
            heads.note(put("new", 7));
            heads.note(put("old", 6));
            heads.note(HeadChange::Delete(name("gone"), 3));
            heads.note(HeadChange::Delete(name("again"), 3));
            let scanned = [("old", 4), ("gone", 3), ("again", 8), ("new", 7)];
            Ok::<_, Infallible>(scanned.iter().map(|(n, v)| (name(n), entry(*v))).collect())
        };
        let seen = versions(&heads.get(1, fill).await.unwrap());
        assert_eq!(seen, [("again".into(), 8), ("new".into(), 7), ("old".into(), 6)]);
        assert_eq!(heads.bytes(), 3 * 160 + "againnewold".len());
    }

    #[tokio::test]
    async fn a_failed_filling_leaves_nothing_behind() {
        let heads = Heads::new(Arc::default());
        assert_eq!(heads.get(1, async || Err::<HeadMap, _>("no")).await, Err("no"));
        assert!(matches!(&*heads.read(), State::Empty));
        assert_eq!(list(&heads, &[("a", 1)]).await, [("a".into(), 1)]);
    }

    #[tokio::test]
    async fn an_unknown_outcome_during_the_filling_is_not_kept() {
        let heads = Heads::new(Arc::default());
        let fill = async || {
            heads.drop_all();
            Ok::<_, Infallible>(HeadMap::new())
        };
        heads.get(1, fill).await.unwrap();
        assert!(heads.ready().is_none());
    }
}
