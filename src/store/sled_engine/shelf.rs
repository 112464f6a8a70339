//! One space as its readers see it: from memory or straight from the tree, on the
//! calling thread, and nothing that a power cut could still take back.
//!
//! A row becomes visible in its tree before it is synced. So the committer
//! declares which rows a drain is about to change, and a reader that has read one
//! of them waits until the drain is durable. The order carries it: the committer
//! declares before it applies, and a reader looks at the declarations after it
//! read; whoever saw an applied row sees its declaration too, unless it is
//! durable already. What is in memory (`hot`) is durable, and is read without that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::engine::{Bytes, EngineError, Tree};
use super::hot::{HotRows, HotSpace};
use super::snapshot::Snapshots;
use crate::store::Space;

pub(super) struct Shelf {
    pub space: Space,
    /// Held shared while reading, so that a tree is neither dropped nor closed
    /// under a reader.
    slot: RwLock<Slot>,
    /// Whether a drain that touches this space is not durable yet.
    unsynced: AtomicBool,
    /// Those of its readers who see it as it was.
    pub snapshots: Snapshots,
    /// Of its rows, those that were read lately.
    pub hot: HotSpace,
}

pub(super) enum Slot {
    Open(Tree),
    /// The database is being opened again, or is closed or broken.
    Away,
    /// The tenant was dropped.
    Dropped,
    /// The tree that should be there is not.
    Missing,
}

/// Why a shelf could not be read.
#[derive(Debug)]
pub(super) enum ShelfError {
    Away,
    Dropped,
    Missing,
    Engine(EngineError),
}

impl Shelf {
    pub fn new(space: Space, hot: &Arc<HotRows>) -> Self {
        Self {
            space,
            slot: RwLock::new(Slot::Away),
            unsynced: AtomicBool::new(false),
            snapshots: Snapshots::default(),
            hot: HotSpace::new(space, hot),
        }
    }

    /// Waits for readers under way.
    pub fn put(&self, slot: Slot) {
        let mut current = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        *current = slot;
        self.hot.forget();
    }

    /// Forgets the tree, but not that a tenant was dropped.
    pub fn put_away(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*slot, Slot::Dropped) {
            *slot = Slot::Away;
            self.hot.forget();
        }
    }

    pub fn read<T>(
        &self,
        read: impl FnOnce(&Tree) -> Result<T, EngineError>,
    ) -> Result<T, ShelfError> {
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Open(tree) => read(tree).map_err(ShelfError::Engine),
            Slot::Away => Err(ShelfError::Away),
            Slot::Dropped => Err(ShelfError::Dropped),
            Slot::Missing => Err(ShelfError::Missing),
        }
    }
}

/// What a drain changes: the stored keys of each space, with their new values.
pub(super) type Touched = HashMap<Space, HashMap<Bytes, Option<Bytes>>>;

/// What a reader read.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    /// One stored key.
    Key(&'a [u8]),
    /// Any of the space.
    Any,
}

/// The drain under way, as far as readers are concerned.
#[derive(Default)]
pub(super) struct Unsynced {
    drain: Mutex<Option<Declared>>,
    /// Moves whenever a failed drain is forgotten.
    era: AtomicU64,
}

/// A reader takes it before it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Era(u64);

struct Declared {
    touched: Arc<Touched>,
    shelves: Arc<[Arc<Shelf>]>,
    readers: Vec<oneshot::Sender<()>>,
    /// The drain failed; what it changed must not be served until the database
    /// was opened again.
    failed: bool,
}

/// What was read may never become durable.
#[derive(Debug)]
pub(super) struct Withdrawn;

impl Unsynced {
    /// Before the drain is applied.
    pub fn declare(&self, touched: Touched, shelves: Vec<Arc<Shelf>>) {
        let mut drain = self.drain();
        for shelf in &shelves {
            shelf.unsynced.store(true, Ordering::SeqCst);
        }
        let (touched, shelves) = (Arc::new(touched), shelves.into());
        *drain = Some(Declared { touched, shelves, readers: Vec::new(), failed: false });
    }

    fn drain(&self) -> MutexGuard<'_, Option<Declared>> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn era(&self) -> Era {
        Era(self.era.load(Ordering::SeqCst))
    }

    /// After the database was opened again, and holds only what is durable. A
    /// reader that had read before, and looks only now, finds no declaration;
    /// the era tells it.
    pub fn reopened(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
        self.end();
    }

    /// After the drain is durable.
    pub fn settled(&self) {
        // It stays declared meanwhile, and the lock free for its readers.
        let durable = self
            .drain()
            .as_ref()
            .map(|declared| (Arc::clone(&declared.touched), Arc::clone(&declared.shelves)));
        if let Some((touched, shelves)) = durable {
            for shelf in shelves.iter() {
                if let Some(rows) = touched.get(&shelf.space) {
                    shelf.hot.replace(rows);
                }
            }
        }
        self.end();
    }

    fn end(&self) {
        let ended = self.drain().take();
        if let Some(declared) = ended {
            for shelf in declared.shelves.iter() {
                shelf.unsynced.store(false, Ordering::SeqCst);
            }
            for reader in declared.readers {
                // A reader that left does not matter.
                let _ = reader.send(());
            }
        }
    }

    /// The drain failed: its readers get an error, and so do later ones.
    pub fn failed(&self) {
        if let Some(declared) = self.drain().as_mut() {
            declared.failed = true;
            declared.readers.clear();
            // Who is told that nobody knows must not read on as if nothing was changed.
            for shelf in declared.shelves.iter() {
                shelf.hot.forget();
            }
        }
    }

    /// Returns when what was read since `era` is durable.
    pub async fn wait(&self, shelf: &Shelf, seen: Seen<'_>, era: Era) -> Result<(), Withdrawn> {
        if shelf.unsynced.load(Ordering::SeqCst)
            && let Some(synced) = self.queue_up(shelf, seen)?
        {
            synced.await.map_err(|_| Withdrawn)?;
        }
        if self.era() == era { Ok(()) } else { Err(Withdrawn) }
    }

    fn queue_up(
        &self,
        shelf: &Shelf,
        seen: Seen<'_>,
    ) -> Result<Option<oneshot::Receiver<()>>, Withdrawn> {
        let mut drain = self.drain();
        let Some(declared) = drain.as_mut() else { return Ok(None) };
        let touches = match (declared.touched.get(&shelf.space), seen) {
            (None, _) => false,
            (Some(keys), Seen::Key(key)) => keys.contains_key(key),
            (Some(_), Seen::Any) => true,
        };
        if !touches {
            return Ok(None);
        }
        if declared.failed {
            return Err(Withdrawn);
        }
        let (sender, receiver) = oneshot::channel();
        declared.readers.push(sender);
        Ok(Some(receiver))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Wake};

    use futures_util::FutureExt;

    use super::*;
    use crate::store::conformance::A;

    /// `changed` is in memory, and what it becomes is not durable yet.
    fn declared() -> (Arc<Shelf>, Unsynced) {
        let shelf = Arc::new(Shelf::new(A, &HotRows::new(1 << 20)));
        let unsynced = Unsynced::default();
        shelf.hot.get(b"changed").unwrap_err().fill(b"old");
        let rows = HashMap::from([(Bytes::from(b"changed"), Some(Bytes::from(b"new")))]);
        let touched = Touched::from([(A, rows)]);
        unsynced.declare(touched, vec![Arc::clone(&shelf)]);
        (shelf, unsynced)
    }

    const CHANGED: Seen<'static> = Seen::Key(b"changed");

    #[test]
    fn a_reader_of_an_unsynced_row_waits_for_its_sync() {
        let (shelf, unsynced) = declared();
        for seen in [CHANGED, Seen::Any] {
            let mut reading = Box::pin(unsynced.wait(&shelf, seen, unsynced.era()));
            assert!(reading.as_mut().now_or_never().is_none());
        }
        let mut reading = Box::pin(unsynced.wait(&shelf, CHANGED, unsynced.era()));
        assert!(reading.as_mut().now_or_never().is_none());
        unsynced.settled();
        assert!(matches!(reading.now_or_never(), Some(Ok(()))));
    }

    /// What is in memory when its task is woken.
    struct Woken {
        shelf: Arc<Shelf>,
        found: Mutex<Option<Bytes>>,
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.found.lock().unwrap() = self.shelf.hot.get(b"changed").ok();
        }
    }

    #[test]
    fn who_waited_finds_in_memory_what_it_waited_for() {
        let (shelf, unsynced) = declared();
        assert_eq!(shelf.hot.get(b"changed").unwrap(), b"old");
        let woken = Arc::new(Woken { shelf: Arc::clone(&shelf), found: Mutex::default() });
        let waker = Arc::clone(&woken).into();
        let mut reading = Box::pin(unsynced.wait(&shelf, CHANGED, unsynced.era()));
        assert!(reading.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        unsynced.settled();
        assert_eq!(woken.found.lock().unwrap().take().unwrap(), b"new");
    }

    #[test]
    fn nothing_is_in_memory_of_before_a_failed_drain_or_of_another_tree() {
        let (shelf, unsynced) = declared();
        unsynced.failed();
        assert!(shelf.hot.get(b"changed").is_err());
        unsynced.reopened();
        assert!(shelf.hot.get(b"changed").is_err());
        for put in [|shelf: &Shelf| shelf.put(Slot::Dropped), Shelf::put_away] {
            let (shelf, _unsynced) = declared();
            put(&shelf);
            assert!(shelf.hot.get(b"changed").is_err());
        }
    }

    #[test]
    fn readers_of_other_rows_and_spaces_do_not_wait() {
        let (shelf, unsynced) = declared();
        let era = unsynced.era();
        let other_row = unsynced.wait(&shelf, Seen::Key(b"other"), era);
        assert!(matches!(other_row.now_or_never(), Some(Ok(()))));
        let elsewhere = Shelf::new(Space::Keyring, &HotRows::new(0));
        let other_space = unsynced.wait(&elsewhere, Seen::Any, era);
        assert!(matches!(other_space.now_or_never(), Some(Ok(()))));
    }

    #[test]
    fn what_a_failed_drain_changed_is_served_to_nobody() {
        let (shelf, unsynced) = declared();
        let era = unsynced.era();
        let mut early = Box::pin(unsynced.wait(&shelf, CHANGED, era));
        assert!(early.as_mut().now_or_never().is_none());
        unsynced.failed();
        assert!(matches!(early.now_or_never(), Some(Err(Withdrawn))));
        let later = unsynced.wait(&shelf, CHANGED, era);
        assert!(matches!(later.now_or_never(), Some(Err(Withdrawn))));
        unsynced.reopened();
        let read_before_and_asked_after = unsynced.wait(&shelf, CHANGED, era);
        assert!(matches!(read_before_and_asked_after.now_or_never(), Some(Err(Withdrawn))));
        let afresh = unsynced.wait(&shelf, CHANGED, unsynced.era());
        assert!(matches!(afresh.now_or_never(), Some(Ok(()))));
    }
}
