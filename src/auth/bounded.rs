//! A map of bounded memory: the cache library, behind a type of our own. No other
//! file of this layer names it.
//!
//! Where it is full, entries that were looked at once give way before those that
//! were looked at again. A look takes the lock of one shard, for reading.

use std::hash::Hash;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub(super) struct Bounded<K, V>(Cache<K, Weighed<V>, ByWeight>);

#[derive(Clone)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

#[derive(Clone)]
struct ByWeight;

impl<K, V> Weighter<K, Weighed<V>> for ByWeight {
    fn weight(&self, _: &K, entry: &Weighed<V>) -> u64 {
        entry.weight
    }
}

impl<K: Eq + Hash, V: Clone> Bounded<K, V> {
    /// `capacity`: what all entries may weigh together.
    pub fn new(capacity: usize) -> Self {
        Self(Cache::with_weighter(capacity, capacity as u64, ByWeight))
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|entry| entry.value)
    }

    pub fn insert(&self, key: K, value: V, weight: u64) {
        self.0.insert(key, Weighed { value, weight });
    }

    pub fn remove(&self, key: &K) {
        self.0.remove(key);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
