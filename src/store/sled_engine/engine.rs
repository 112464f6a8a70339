//! sled, and the only file that names it.
//!
//! Trees of bytes that survive the faults measured on 0.34.7: a panic inside sled
//! becomes an error, a transaction over several trees is applied as one, nothing
//! flushes behind our back. It knows nothing of tenants, rows or ledgers, and
//! not when what was applied becomes durable: its caller calls [`Engine::flush`].

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sled::Transactional;
use sled::transaction::{TransactionError, TransactionResult};

use super::stall;

/// Stored bytes, shared with sled's cache.
pub(super) use sled::IVec as Bytes;

/// How long a lock may linger after its holder was killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// sled guards transactions with one lock for the whole process, which `flush`
/// holds shared through its I/O and every read takes too. A transaction waiting
/// behind another database's flush would make all reads of the process wait
/// behind it. It waits here instead, where reads do not come by.
static GATE: RwLock<()> = RwLock::new(());

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum EngineError {
    #[error("another process uses it")]
    InUse,
    /// The tree was dropped.
    #[error("the tree was dropped")]
    Gone,
    #[error("its files are damaged ({0})")]
    Corrupted(String),
    #[error("its files cannot be read or written ({0})")]
    Io(String),
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if is_lock(&error) => Self::InUse,
            sled::Error::Io(error) if is_cut(&error) => {
                Self::Corrupted("a file ends too early".to_owned())
            }
            sled::Error::Io(error) => Self::Io(error.to_string()),
            sled::Error::CollectionNotFound(_) => Self::Gone,
            sled::Error::Corruption { at: None, .. } => {
                Self::Corrupted("its log, its snapshot or its file conf".to_owned())
            }
            sled::Error::Corruption { at: Some(at), .. } => {
                Self::Corrupted(format!("near byte {} of its file db", at.lid()))
            }
            // They print offsets, never contents.
            sled::Error::Unsupported(what) | sled::Error::ReportableBug(what) => {
                Self::Corrupted(what)
            }
        }
    }
}

impl From<TransactionError<()>> for EngineError {
    fn from(error: TransactionError<()>) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            TransactionError::Abort(()) => Self::Corrupted("a transaction gave up".to_owned()),
        }
    }
}

/// sled has no kind of its own for a lock held elsewhere.
fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().starts_with("could not acquire lock")
}

/// sled 0.34.7 tells damage from a failing disk, but for a file that ends within what it
/// reads: of that it passes on the system's error. Waiting does not mend it.
fn is_cut(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Corruption { .. } => true,
        sled::Error::Io(error) => is_cut(error),
        _ => false,
    }
}

/// Runs a piece of sled that may panic over damaged pages. sled's own locks do
/// not poison and are released by unwinding; what it was about to do did not
/// happen, or the caller drops the database.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// More than a reading has to do beside reading.
const READINGS: usize = 8;

/// Reads, and again where it came upon damage, which may be none of its own: reads of
/// sled 0.34.7 end the splits and merges that writes began, and with each page that it
/// replaces so it moves another one out of a segment that it wants to use again
/// (`replace` of its pagecache). It forgets that one before it looks at it, so that what
/// is damaged spoils one reading of others, and the next is spoilt by none or by another.
fn read<T>(mut reading: impl FnMut() -> sled::Result<T>) -> Result<T, EngineError> {
    for _ in 1..READINGS {
        match reading() {
            Err(error) if is_damage(&error) => {}
            read => return Ok(read?),
        }
    }
    Ok(reading()?)
}

/// As many as a leaf of sled has, or a few more.
const ROWS_OF_A_PAGE: usize = 32;

/// An access of trees, which frees what it and others put away.
fn accessing<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    let done = guarded(work);
    free_pages();
    done
}

/// Frees the pages that sled put out of its cache or replaced, and that no reader sees any
/// more. Left to itself that is done seldom and to hundreds of pages at once, by whoever
/// comes by: of GETs of what is not in memory one in a hundred took a millisecond longer.
/// So whoever puts pages away has to do it: a reader would free what many writes left.
fn free_pages() {
    // As it panics over damage: no matter of who comes by.
    let _ = guarded(|| {
        crossbeam_epoch::pin().flush();
        Ok(())
    });
}

fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    // The message stays out of the error: it may print keys.
    let kind =
        if panic.is::<String>() || panic.is::<&str>() { "sled panicked" } else { "sled gave up" };
    EngineError::Corrupted(kind.to_owned())
}

/// Drops what it holds behind a guard: the last handle of a database flushes on
/// its way out, and panics where that fails.
#[derive(Clone)]
struct Held<T>(Option<T>);

impl<T> Held<T> {
    fn new(handle: T) -> Self {
        Self(Some(handle))
    }

    fn get(&self) -> &T {
        self.0.as_ref().expect("it is taken out only while it is dropped")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let handle = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err() {
            log::error!("sled panicked while it closed a database");
        }
    }
}

pub(super) struct Engine {
    db: Held<sled::Db>,
}

#[derive(Clone)]
pub(super) struct Tree(Held<sled::Tree>);

/// What a transaction does to one tree.
pub(super) struct TreeWrites {
    pub tree: Tree,
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

impl<T> Held<T> {
    /// Keeps it for as long as the process lives, so that it never flushes.
    fn abandon(&mut self) {
        std::mem::forget(self.0.take());
    }
}

impl Engine {
    /// Opens or creates the database in `folder`.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            match guarded(|| Self::open_once(folder, cache_bytes)) {
                Err(EngineError::InUse) if Instant::now() < deadline => {
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(250));
                }
                opened => return opened,
            }
        }
    }

    fn open_once(folder: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let config =
            sled::Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(None);
        Ok(Self { db: Held::new(config.open()?) })
    }

    pub fn has_tree(&self, name: &[u8]) -> bool {
        self.db.get().tree_names().iter().any(|known| known == name)
    }

    pub fn tree_names(&self) -> Vec<Bytes> {
        self.db.get().tree_names()
    }

    /// Opens or creates a tree; each creation rewrites the map of all names.
    pub fn tree(&self, name: &[u8]) -> Result<Tree, EngineError> {
        guarded(|| Ok(Tree(Held::new(self.db.get().open_tree(name)?))))
    }

    /// Nothing happens if there is none.
    pub fn drop_tree(&self, name: &[u8]) -> Result<(), EngineError> {
        guarded(|| {
            self.db.get().drop_tree(name)?;
            Ok(())
        })
    }

    /// Applies all writes or none, in memory; trees in the order given.
    pub fn apply(writes: &[TreeWrites]) -> Result<(), EngineError> {
        let trees: Vec<sled::Tree> = writes.iter().map(|part| part.tree.0.get().clone()).collect();
        accessing(|| {
            let _alone = GATE.write().unwrap_or_else(PoisonError::into_inner);
            let applied: TransactionResult<(), ()> = trees.as_slice().transaction(|views| {
                for (view, part) in views.iter().zip(writes) {
                    for (key, value) in &part.writes {
                        match value {
                            Some(value) => view.insert(key.clone(), value.clone())?,
                            None => view.remove(key.clone())?,
                        };
                    }
                }
                Ok(())
            });
            Ok(applied?)
        })
    }

    /// Instead of dropping it, after a transaction that broke off halfway: dropping
    /// flushes, which would make that half durable. Trees can still be read. Until
    /// the process ends, no other can open the database.
    pub fn abandon(mut self) {
        self.db.abandon();
    }

    /// Makes all that was applied durable.
    pub fn flush(&self) -> Result<(), EngineError> {
        let db = self.db.clone();
        let again = move || {
            // What comes of it is for the flush that waits.
            let _ = guarded(|| Ok(db.get().flush()?));
        };
        guarded(|| {
            let _shared = GATE.read().unwrap_or_else(PoisonError::into_inner);
            stall::watched(again, || self.db.get().flush())?;
            Ok(())
        })
    }
}

impl Tree {
    pub fn name(&self) -> Bytes {
        self.0.get().name()
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        accessing(|| read(|| self.0.get().get(key)))
    }

    /// Outside of any transaction: for trees that nobody else reads or writes.
    pub fn insert(&self, key: &[u8], value: Bytes) -> Result<(), EngineError> {
        accessing(|| {
            self.0.get().insert(key, value)?;
            Ok(())
        })
    }

    /// As [`Tree::insert`].
    pub fn remove(&self, key: &[u8]) -> Result<(), EngineError> {
        accessing(|| {
            self.0.get().remove(key)?;
            Ok(())
        })
    }

    /// Calls `visit` for each key from `from` on, until it answers `false`.
    pub fn visit(
        &self,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, EngineError>,
    ) -> Result<(), EngineError> {
        accessing(|| {
            let mut entries = self.0.get().range(from..);
            for rows in 1_usize.. {
                let Some((key, value)) = read(|| entries.next().transpose())? else { break };
                if !visit(&key, &value)? {
                    break;
                }
                if rows.is_multiple_of(ROWS_OF_A_PAGE) {
                    free_pages();
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    type Access<'a> = &'a dyn Fn() -> Result<(), EngineError>;

    /// What a thread puts away waits with it, until it is handed to all: then any of them
    /// frees it, once those who were reading meanwhile are done, as other tests may be.
    #[test]
    fn whoever_reads_or_writes_hands_on_what_was_put_away() {
        const LIMIT: Duration = Duration::from_secs(10);
        const ROWS: usize = 2 * ROWS_OF_A_PAGE;
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(folder.path(), 1 << 20).unwrap();
        let tree = engine.tree(b"tree").unwrap();
        for number in 0..ROWS as u32 {
            tree.insert(&number.to_be_bytes(), Bytes::from(b"row")).unwrap();
        }
        let put_away = || {
            free_pages();
            let freed = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&freed);
            crossbeam_epoch::pin().defer(move || told.store(true, Ordering::SeqCst));
            freed
        };
        let is_freed = |freed: &AtomicBool| {
            let start = Instant::now();
            while !freed.load(Ordering::SeqCst) && start.elapsed() < LIMIT {
                std::thread::spawn(free_pages).join().unwrap();
            }
            freed.load(Ordering::SeqCst)
        };

        let get = || tree.get(&[0; 4]).map(drop);
        let insert = || tree.insert(&[1; 4], Bytes::from(b"row"));
        let remove = || tree.remove(&[1; 4]);
        let visit = || tree.visit(&[], |_, _| Ok(false));
        let apply = || {
            let writes = vec![((&[0; 4]).into(), Some(Bytes::from(b"row")))];
            Engine::apply(&[TreeWrites { tree: tree.clone(), writes }])
        };
        let ways: [(&str, Access<'_>); 5] = [
            ("get", &get),
            ("insert", &insert),
            ("remove", &remove),
            ("visit", &visit),
            ("apply", &apply),
        ];
        for (name, access) in ways {
            let freed = put_away();
            access().unwrap();
            assert!(is_freed(&freed), "{name}");
        }
        let (freed, mut rows) = (put_away(), 0);
        let far_on = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(rows <= ROWS_OF_A_PAGE || is_freed(&freed))
        };
        tree.visit(&[], far_on).unwrap();
        assert_eq!(rows, ROWS, "a visit under way");
    }

    /// Rows of two trees stand side by side. The few of one are damaged, and the many of
    /// the other grow, so that segments are emptied of them and pages are split.
    #[test]
    fn what_is_damaged_spoils_no_reading_of_another_tree() {
        const ROWS: u32 = 2_000;
        let folder = tempfile::tempdir().unwrap();
        let open = || Engine::open(folder.path(), 1 << 20).unwrap();
        let value = |byte: u8, size: usize| Bytes::from(vec![byte; size]);
        let engine = open();
        let (damaged, sound) = (engine.tree(b"damaged").unwrap(), engine.tree(b"sound").unwrap());
        for number in 0..ROWS {
            if number % 8 == 0 {
                damaged.insert(&number.to_be_bytes(), value(0xdd, 700)).unwrap();
            }
            sound.insert(&number.to_be_bytes(), value(1, 700)).unwrap();
        }
        for number in ROWS..2 * ROWS {
            sound.insert(&number.to_be_bytes(), value(1, 700)).unwrap();
        }
        drop((damaged, sound, engine));

        // No page is in memory after an opening, which looks at the log itself.
        let engine = open();
        let path = folder.path().join("db");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        for (row, at) in std::fs::read(&path).unwrap().chunks(350).zip((0..).step_by(350)) {
            if row.iter().all(|byte| *byte == 0xdd) {
                file.write_all_at(&[0xdc], at).unwrap();
            }
        }
        let (damaged, sound) = (engine.tree(b"damaged").unwrap(), engine.tree(b"sound").unwrap());
        assert!((0..ROWS).step_by(8).all(|number| damaged.get(&number.to_be_bytes()).is_err()));
        let mut spoilt_writes = 0;
        for round in 0..4u8 {
            for number in 0..2 * ROWS {
                // Some are replaced, and some are new behind others.
                let key =
                    [&number.to_be_bytes()[..], &vec![round; usize::from(round) / 2]].concat();
                spoilt_writes += u32::from(sound.insert(&key, value(round, 700)).is_err());
                // By turns, since what one of them ends the other does not meet any more.
                let mut found = None;
                if number % 2 == 0 {
                    found = sound.get(&key).unwrap();
                } else {
                    let first = |_: &[u8], row: &[u8]| {
                        found = Some(row.into());
                        Ok(false)
                    };
                    sound.visit(&key, first).unwrap();
                }
                assert_eq!(found, Some(value(round, 700)), "{number}");
            }
        }
        let mut rows = 0;
        let count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok(true)
        };
        sound.visit(&[], count).unwrap();
        assert_eq!(rows, 6 * ROWS);
        assert!(spoilt_writes > 0, "what it is about");
    }
}
