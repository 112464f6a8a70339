//! The store on disk: sled, with what its measured faults ask for.
//!
//! A store is a row of sled databases: `system`, `keyring`, and `tenants-0000`
//! and on, each with at most so many tenants, because sled rewrites the map of
//! all trees whenever it makes one. The system database knows which tenant is
//! where. Each database has one thread that writes (`committer`); reads take
//! place where they are called.
//!
//! | file | its one concern |
//! | --- | --- |
//! | `engine` | sled; nothing else names it |
//! | `honest_sync` | that sled's syncs are syncs |
//! | `cuts` | whoever watches a file is asked before it is cut |
//! | `mark` | that a rolled-back database is noticed |
//! | `log_length` | that one whose log was cut is |
//! | `stall` | flushes that sled forgets to wake |
//! | `redo` | what an error broke off is finished |
//! | `files` | folders, syncing them, the current generation |
//! | `database` | one database on disk, verified |
//! | `encoding` | the stored form of a row |
//! | `recovery` | damage that sled would pass over |
//! | `shelf` | readers see only what is durable |
//! | `hot` | rows that were read lately are read without sled |
//! | `queue` | what waits, bounded |
//! | `committer` | one drain: judge, apply, sync, mark, answer |
//! | `placement` | which tenant is where |
//! | `snapshot` | a space as of one commit, while others write |
//! | `rewrite` | a database copied while it is written to |
//! | `compaction` | the copy takes its place |

mod committer;
mod compaction;
mod cuts;
mod database;
mod encoding;
mod engine;
mod files;
mod honest_sync;
mod hot;
mod index;
mod log_length;
mod mark;
mod placement;
mod pulse;
mod queue;
mod recovery;
mod redo;
mod rewrite;
mod shelf;
mod snapshot;
mod stall;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{mpsc as mpsc_async, oneshot};

use self::committer::{Committer, Floors, RETRY_AFTER, Shared, Status};
use self::database::{Kind, OnDisk, Presence, ROWS, Site};
use self::encoding::{
    BLOCKS, LEDGER, block_key, decode_block, decode_row, encode_row, row_key, stored_key,
};
use self::engine::{Bytes, EngineError, Tree, TreeWrites};
use self::hot::HotRows;
use self::placement::{Placement, Record};
use self::queue::{Done, Refusal, RowWork, Work};
use self::shelf::{Era, Seen, Shelf, ShelfError, Slot, Withdrawn};
use self::snapshot::{Holdings, SledSnapshot};
use super::chain::ChainPageBuilder;
use super::staging::{PageBuilder, ledger_of, weigh};
use super::{
    Batch, ChainPage, Compacted, DatabaseUse, Health, LedgerSeal, Page, Row, RowKey, Scan,
    Snapshot, Space, Store, StoreError,
};
use crate::domain::{Floor, TenantId};

#[cfg(test)]
pub(crate) use self::tests::copy;

#[cfg(test)]
pub(crate) use self::tampering::{StoredBlock, chain_rows, replace_chain_rows};

/// How much the engine may take.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// What all databases together keep in memory of their pages, and of rows of tenants
    /// that were read lately.
    pub cache_bytes_total: u64,
    /// What may wait to be committed, per database; one tenant has at most an
    /// eighth of it. Never less than eight of the largest batches.
    pub queue_bytes: usize,
    /// With less than this free on the file system, what grows is refused.
    pub full_floor_bytes: u64,
    /// With less than this free, deletions are refused too: they append.
    pub hard_floor_bytes: u64,
    /// Measured: creating the 10,000th tree of a database costs 90 KB, and
    /// 10,000 of them 911 MB.
    pub tenants_per_database: usize,
    /// How much is written to a database, in keys and values, before it is worn; zero:
    /// none ever is.
    pub worn_bytes: u64,
    /// What all snapshots together may keep of rows that were replaced since.
    /// Beyond it, writes that would need more are refused.
    pub snapshot_bytes: usize,
    /// A snapshot whose reader has not asked for so long ends when a writer needs
    /// its memory.
    pub snapshot_patience: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes_total: 256 << 20,
            queue_bytes: 32 << 20,
            full_floor_bytes: 256 << 20,
            hard_floor_bytes: 64 << 20,
            tenants_per_database: 512,
            worn_bytes: 256 << 20,
            snapshot_bytes: 64 << 20,
            snapshot_patience: Duration::from_secs(60),
        }
    }
}

/// So that what leads to a million rows is in memory.
const LEAST_FOR_PAGES: u64 = 128 << 20;

/// How far an opening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Databases that are open, or were found damaged.
    pub opened: usize,
    pub of: usize,
}

/// Why a store does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("another process uses the database {database}")]
    InUse { database: String },
    #[error("the database {database} is corrupted: {reason}")]
    Corrupted { database: String, reason: String },
    #[error("the database {database} cannot be read or written: {reason}")]
    Unreadable { database: String, reason: String },
    #[error(
        "this binary was linked so that its storage engine cannot sync files; it would lose \
         acknowledged writes in a power cut"
    )]
    DishonestSync,
}

impl OpenError {
    /// Without the name of the database.
    fn reason(&self) -> String {
        match self {
            Self::Corrupted { reason, .. } | Self::Unreadable { reason, .. } => reason.clone(),
            Self::InUse { .. } | Self::DishonestSync => self.to_string(),
        }
    }
}

/// The engine. Dropping it closes it.
pub struct SledStore {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    options: SledOptions,
    hot: Arc<HotRows>,
    system: Home,
    keyring: RwLock<Home>,
    tenants: RwLock<Tenants>,
    snapshots: Arc<Holdings>,
    /// Held while tenants are created or dropped, or the keyring is replaced.
    changing: Mutex<()>,
    /// Held while a database is compacted, until its old files are unlinked. Taken
    /// before `changing` where both are.
    compacting: Mutex<()>,
    /// Given back when the store is closed; the last field, so that it is dropped
    /// after all that it protects.
    lock: Mutex<Option<File>>,
}

const LOCK: &str = "LOCK";

/// Where a space is.
#[derive(Clone)]
struct Home {
    database: Arc<Database>,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Tenants {
    databases: BTreeMap<u32, Arc<Database>>,
    homes: BTreeMap<TenantId, (u32, Home)>,
}

// One database and its thread.

struct Database {
    shared: Arc<Shared>,
    /// As it was opened.
    site: Site,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Database {
    fn start(
        site: Site,
        disk: OnDisk,
        spaces: &[Space],
        options: &SledOptions,
        hot: &Arc<HotRows>,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(&site.name, options.queue_bytes, Status::Serving));
        shared.generation.store(site.generation, Ordering::SeqCst);
        for space in spaces {
            shared.add_shelf(&Arc::new(Shelf::new(*space, hot)));
        }
        let floors = Floors { full: options.full_floor_bytes, hard: options.hard_floor_bytes };
        let committer = Committer::new(Arc::clone(&shared), site.clone(), floors, disk)?;
        let thread = std::thread::Builder::new()
            .name(format!("commit {}", site.name))
            .spawn(|| committer.run())
            .map_err(|error| site.failed(EngineError::Io(error.to_string())))?;
        Ok(Self { shared, site, thread: Mutex::new(Some(thread)) })
    }

    /// One that did not open: its tenants are told so, and the others served.
    fn broken(site: Site, spaces: &[Space], error: &OpenError, hot: &Arc<HotRows>) -> Self {
        log::error!("{error}");
        let shared = Arc::new(Shared::new(&site.name, 0, Status::Broken(error.reason())));
        for space in spaces {
            shared.add_shelf(&Arc::new(Shelf::new(*space, hot)));
        }
        Self { shared, site, thread: Mutex::new(None) }
    }

    fn homes(self: &Arc<Self>) -> impl Iterator<Item = Home> {
        let home = |shelf| Home { database: Arc::clone(self), shelf };
        self.shared.shelves().into_iter().map(home)
    }

    /// Of a database with one space.
    fn home(self: Arc<Self>) -> Result<Home, OpenError> {
        let home = self.homes().next();
        home.ok_or_else(|| self.site.corrupted("it has no rows"))
    }

    /// With the generation that counts by now.
    fn current_site(&self) -> Site {
        let generation = self.shared.generation.load(Ordering::SeqCst);
        Site { generation, ..self.site.clone() }
    }

    fn submit(&self, work: Work) -> Result<(), StoreError> {
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        let pushed = self.shared.queue.push(work);
        pushed.map_err(|refusal| match refusal {
            Refusal::Full | Refusal::Closed => StoreError::NotApplied { retry_after: RETRY_AFTER },
        })
    }

    /// For threads that may block.
    fn submit_and_wait(&self, work: impl FnOnce(Done) -> Work) -> Result<(), StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(work(Box::new(move |outcome| {
            // A sender whose receiver is gone has nobody to tell.
            let _ = sender.send(outcome);
        })))?;
        receiver.recv().unwrap_or(Err(StoreError::Unknown))
    }

    /// Finishes what waits, and releases the files.
    fn close(&self) {
        self.shared.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("database {}: its committer panicked", self.site.name);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.close();
    }
}

impl Home {
    /// What `read` finds, once it is durable.
    async fn read<T>(
        &self,
        seen: Seen<'_>,
        read: impl FnOnce(&Tree) -> Result<T, EngineError>,
    ) -> Result<T, StoreError> {
        let era = self.database.shared.unsynced.era();
        let found = self.look(read)?;
        self.durable(seen, era).await?;
        Ok(found)
    }

    /// A row, from memory if it was read lately: that was durable before.
    async fn get(&self, stored: &[u8]) -> Result<Option<Row>, StoreError> {
        let (hot, era) = (&self.shelf.hot, self.database.shared.unsynced.era());
        let (row, missed) = self.look(|tree| match hot.get(stored) {
            Ok(row) => Ok((Some(row), None)),
            Err(missed) => Ok((tree.get(stored)?, Some(missed))),
        })?;
        if let Some(missed) = missed {
            self.durable(Seen::Key(stored), era).await?;
            if let Some(row) = &row {
                missed.fill(row);
            }
        }
        let row = row.map(|row| decode_row(&row)).transpose();
        row.map_err(|error| self.explain(ShelfError::Engine(error)))
    }

    fn look<T>(&self, look: impl FnOnce(&Tree) -> Result<T, EngineError>) -> Result<T, StoreError> {
        self.shelf.read(look).map_err(|error| self.explain(error))
    }

    fn explain(&self, error: ShelfError) -> StoreError {
        self.database.shared.explain(self.shelf.space, error)
    }

    /// Returns when what was seen since `era` is durable.
    async fn durable(&self, seen: Seen<'_>, era: Era) -> Result<(), StoreError> {
        let shared = &self.database.shared;
        shared.unsynced.wait(&self.shelf, seen, era).await.map_err(|Withdrawn| {
            shared.refusal().unwrap_or(StoreError::NotApplied { retry_after: RETRY_AFTER })
        })
    }
}

/// Reads one page; `visit` starts at the first key that may belong to it.
fn read_page(tree: &Tree, scan: &Scan) -> Result<Page, EngineError> {
    let prefix = stored_key(&scan.prefix);
    let after = scan.after.as_ref().map(|key| stored_key(key.as_bytes()));
    let from = after.as_ref().filter(|after| **after > prefix).unwrap_or(&prefix);
    let mut page = PageBuilder::new(scan);
    let mut more = false;
    tree.visit(from, |key, value| {
        if !key.starts_with(&prefix) {
            return Ok(false);
        }
        if after.as_deref() == Some(key) {
            return Ok(true);
        }
        if page.is_full() {
            more = true;
            return Ok(false);
        }
        page.push(row_key(key)?, decode_row(value)?);
        Ok(true)
    })?;
    Ok(if more { page.with_more() } else { page.last() })
}

fn read_chain(tree: &Tree, from: u64) -> Result<ChainPage, EngineError> {
    let mut page = ChainPageBuilder::default();
    let mut more = false;
    tree.visit(&block_key(from), |key, value| {
        if !key.starts_with(BLOCKS) {
            return Ok(false);
        }
        if page.is_full() {
            more = true;
            return Ok(false);
        }
        match decode_block(key, value) {
            // Those before it come first: a reader who fails knows at which entry.
            Err(_) if !page.is_empty() => more = true,
            block => page.push(block?),
        }
        Ok(!more)
    })?;
    Ok(if more { page.with_more() } else { page.last() })
}

// Opening.

const SYSTEM: &str = "system";
const KEYRING: &str = "keyring";

impl SledStore {
    /// Opens the store in `folder`, or makes one. Blocks; `progress` is called
    /// from several threads.
    pub fn open(
        folder: &Path,
        options: SledOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, OpenError> {
        if !honest_sync::probe() || !cuts::probe() {
            return Err(OpenError::DishonestSync);
        }
        let inner = Inner::open(folder, options, progress)?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl SledOptions {
    /// System and keyring are small.
    fn fixed_cache(&self) -> u64 {
        (self.cache_bytes_total / 8).min(16 << 20)
    }

    /// What is left for tenants.
    fn tenants_bytes(&self) -> u64 {
        self.cache_bytes_total - 2 * self.fixed_cache()
    }

    /// For pages of tenants: a quarter, or half of little. Those that lead to rows must
    /// find room; a row itself costs as much in its page as alone, and a reading of it
    /// less where it is alone.
    fn page_bytes(&self) -> u64 {
        let left = self.tenants_bytes();
        (left / 4).max(LEAST_FOR_PAGES.min(left / 2))
    }

    /// For rows of tenants that were read lately.
    fn hot_bytes(&self) -> u64 {
        self.tenants_bytes() - self.page_bytes()
    }

    /// With `databases` of tenants open. The divisor is one more than there are,
    /// so that the next one has its share too.
    ///
    /// Of what a database may take, sled is told the half: it counts pages as they
    /// are stored, while each row in memory has allocations of its own; and it looks
    /// at what it holds only after 64 accesses in each of 256 shards, until when
    /// 16,384 pages may have come uncounted.
    fn tenants_cache(&self, databases: usize) -> u64 {
        (self.page_bytes() / (databases as u64 + 1) / 2).max(1 << 20)
    }
}

/// How long the lock of a killed process may linger.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Taken before anything is looked at, and held until the store is closed. sled
/// locks each of its databases, but only once it is open: until then two
/// processes could each take the other's half-made files for leftovers.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |error: std::io::Error| OpenError::Unreadable {
        database: LOCK.to_owned(),
        reason: error.to_string(),
    };
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(folder.join(LOCK)).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(OpenError::InUse { database: LOCK.to_owned() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn open_one(
    folder: &Path,
    name: &str,
    kind: Kind,
    presence: Presence,
    cache: u64,
) -> Result<(Site, OnDisk), OpenError> {
    let (site, presence) = Site::find(folder, name, kind, presence, cache)?;
    let disk = OnDisk::open(&site, presence)?;
    if presence == Presence::Optional {
        site.make_current()?;
    }
    Ok((site, disk))
}

impl Inner {
    fn open(
        folder: &Path,
        options: SledOptions,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Self, OpenError> {
        let cache = options.fixed_cache();
        let unreadable = |error: std::io::Error| OpenError::Unreadable {
            database: SYSTEM.to_owned(),
            reason: error.to_string(),
        };
        files::make_folder(folder).map_err(unreadable)?;
        let lock = lock(folder)?;
        let hot = HotRows::new(options.hot_bytes());
        // The keyring is made after the system database, so where it is, that was.
        let made = folder.join(KEYRING).join("CURRENT").exists();
        let presence = if made { Presence::Required } else { Presence::Optional };
        let (site, disk) = open_one(folder, SYSTEM, Kind::System, presence, cache)?;
        let placement = Placement::read(&disk.engine).map_err(|error| site.failed(error))?;
        let system =
            Arc::new(Database::start(site, disk, &[Space::System], &options, &hot)?).home()?;

        let presence = if placement.keyring { Presence::Required } else { Presence::Optional };
        let (site, disk) = open_one(folder, KEYRING, Kind::Keyring, presence, cache)?;
        let keyring =
            Arc::new(Database::start(site, disk, &[Space::Keyring], &options, &hot)?).home()?;
        if !placement.keyring {
            system
                .database
                .record(Record::Keyring, true)
                .map_err(|error| system.database.site.failed(EngineError::Io(error.to_string())))?;
        }

        let tenants = Self::open_tenants(folder, &options, &hot, &placement, progress)?;
        let snapshots = Holdings::new(options.snapshot_bytes, options.snapshot_patience);
        Ok(Self {
            folder: folder.to_owned(),
            options,
            hot,
            snapshots: Arc::new(snapshots),
            system,
            keyring: RwLock::new(keyring),
            tenants: RwLock::new(tenants),
            changing: Mutex::new(()),
            compacting: Mutex::new(()),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// All databases of tenants, a few at a time.
    fn open_tenants(
        folder: &Path,
        options: &SledOptions,
        hot: &Arc<HotRows>,
        placement: &Placement,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Tenants, OpenError> {
        let of = placement.databases.len() + 2;
        let opened = AtomicUsize::new(2);
        progress(Progress { opened: 2, of });
        let cache = options.tenants_cache(placement.databases.len());
        let waiting = Mutex::new(placement.databases.iter());
        let ready = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, tenants)) = next else { break };
                let database = open_tenant_database(
                    folder,
                    *number,
                    Presence::Required,
                    cache,
                    tenants,
                    options,
                    hot,
                );
                ready
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(*number, Arc::new(database));
                let opened = opened.fetch_add(1, Ordering::SeqCst) + 1;
                progress(Progress { opened, of });
            }
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(placement.databases.len()) {
                scope.spawn(work);
            }
        });
        let databases = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = Tenants { databases, homes: BTreeMap::new() };
        for (number, database) in &tenants.databases {
            for home in database.homes() {
                if let Space::Tenant(id) = home.shelf.space {
                    tenants.homes.insert(id, (*number, home));
                }
            }
        }
        Ok(tenants)
    }
}

/// Answers a broken one if it does not open.
fn open_tenant_database(
    folder: &Path,
    number: u32,
    presence: Presence,
    cache: u64,
    tenants: &[TenantId],
    options: &SledOptions,
    hot: &Arc<HotRows>,
) -> Database {
    let name = placement::database_name(number);
    let spaces: Vec<_> = tenants.iter().copied().map(Space::Tenant).collect();
    let open = || {
        let (site, disk) = open_one(folder, &name, Kind::Tenants, presence, cache)?;
        Database::start(site, disk, &spaces, options, hot)
    };
    // One damaged database must not keep the others from being opened.
    let panicked = |_| {
        let reason = "a panic while it was opened".to_owned();
        Err(OpenError::Corrupted { database: name.clone(), reason })
    };
    let opened = catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(panicked);
    opened.unwrap_or_else(|error| {
        let site = Site {
            folder: folder.join(&name),
            name,
            kind: Kind::Tenants,
            generation: 0,
            cache_bytes: cache,
        };
        Database::broken(site, &spaces, &error, hot)
    })
}

// Tenants come and go, and the keyring is replaced. All of it blocks.

impl Database {
    /// Writes or removes a record of the placement, durably.
    fn record(&self, record: Record, present: bool) -> Result<(), StoreError> {
        let (key, value) = record.encode();
        let value = present.then_some(value);
        self.submit_and_wait(|done| Work::Rows(RowWork::Place { key, value, done }))
    }
}

impl Inner {
    /// The tree first, then the record: cut off in between, it leaves a tree
    /// that nobody was told of, and that the next opening drops.
    fn create_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tenants().homes.contains_key(&id) {
            return Err(StoreError::Conflict);
        }
        let (number, database) = self.database_with_room()?;
        let shelf = Arc::new(Shelf::new(Space::Tenant(id), &self.hot));
        database.submit_and_wait(|done| Work::Create { shelf: Arc::clone(&shelf), done })?;
        self.system.database.record(Record::Tenant(id, number), true)?;
        let home = Home { database, shelf };
        self.change_tenants(|tenants| tenants.homes.insert(id, (number, home)));
        Ok(())
    }

    /// The record first, then the tree: cut off in between, the tenant is gone,
    /// and the next opening drops its tree.
    fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((number, home)) = self.tenants().homes.get(&id).cloned() else {
            return Ok(());
        };
        self.system.database.record(Record::Tenant(id, number), false)?;
        home.shelf.put(Slot::Dropped);
        self.change_tenants(|tenants| tenants.homes.remove(&id));
        let shelf = home.shelf;
        let dropped = home.database.submit_and_wait(|done| Work::Drop { shelf, done });
        if let Err(error) = dropped {
            log::warn!(
                "tenant {id} is deleted; its rows go when the store is next opened: {error}"
            );
        }
        Ok(())
    }

    fn tenants(&self) -> std::sync::RwLockReadGuard<'_, Tenants> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_tenants<T>(&self, change: impl FnOnce(&mut Tenants) -> T) -> T {
        change(&mut self.tenants.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn database_with_room(&self) -> Result<(u32, Arc<Database>), StoreError> {
        let number = {
            let tenants = self.tenants();
            let roomy = tenants.databases.iter().find(|(_, database)| {
                database.shared.spaces() < self.options.tenants_per_database
                    && database.shared.refusal().is_none()
            });
            if let Some((number, database)) = roomy {
                return Ok((*number, Arc::clone(database)));
            }
            tenants.databases.keys().next_back().map_or(0, |last| last + 1)
        };
        self.make_database(number).map(|database| (number, database))
    }

    /// Its files first, then the record: a database without a record holds no
    /// tenants, and is taken up when its number comes again.
    fn make_database(&self, number: u32) -> Result<Arc<Database>, StoreError> {
        if files::free_bytes(&self.folder).unwrap_or(0) < self.options.full_floor_bytes {
            return Err(StoreError::Full);
        }
        let cache = self.options.tenants_cache(number as usize);
        let database = open_tenant_database(
            &self.folder,
            number,
            Presence::Optional,
            cache,
            &[],
            &self.options,
            &self.hot,
        );
        match database.shared.refusal() {
            Some(refusal) => return Err(refusal),
            None => self.system.database.record(Record::Database(number), true)?,
        }
        let database = Arc::new(database);
        self.change_tenants(|tenants| tenants.databases.insert(number, Arc::clone(&database)));
        Ok(database)
    }

    fn keyring(&self) -> Home {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// sled keeps old bytes in its files, so the new rows get files of their
    /// own, and the old ones are unlinked.
    fn replace_keyring(
        &self,
        rows: BTreeMap<RowKey, Row>,
        floor: Floor,
        seal: &dyn LedgerSeal,
    ) -> Result<(), StoreError> {
        let ledger = ledger_of(&rows, floor, seal)?;
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.keyring();
        if let Some(refusal) = old.database.shared.refusal() {
            return Err(refusal);
        }
        if files::free_bytes(&self.folder).unwrap_or(0) < self.options.full_floor_bytes {
            return Err(StoreError::Full);
        }
        let mut site = old.database.current_site();
        site.generation += 1;
        let not_applied = |error: OpenError| {
            log::error!("replacing the keyring: {error}");
            StoreError::NotApplied { retry_after: RETRY_AFTER }
        };
        let disk = write_keyring(&site, rows, seal.seal(&ledger)).map_err(not_applied)?;
        let new = Database::start(site.clone(), disk, &[Space::Keyring], &self.options, &self.hot)
            .and_then(|database| Arc::new(database).home())
            .map_err(not_applied)?;
        // From here on the outcome is on disk, whatever is answered.
        let unknown = |error: OpenError| {
            log::error!("replacing the keyring: {error}");
            StoreError::Unknown
        };
        if let Err(error) = site.make_current() {
            // Which of the two generations counts is not known. Whatever was
            // written to the old one now might be gone at the next open.
            let why = "which generation is current is unknown; start the server again";
            old.database.shared.set_status(Status::Broken(why.to_owned()));
            return Err(unknown(error));
        }
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = new;
        old.database.close();
        files::remove_other_generations(&site.folder, Some(site.generation))
            .map_err(|error| unknown(site.failed(EngineError::Io(error.to_string()))))
    }
}

/// A generation with exactly these rows, durable.
fn write_keyring(
    site: &Site,
    rows: BTreeMap<RowKey, Row>,
    ledger: Vec<u8>,
) -> Result<OnDisk, OpenError> {
    files::remove_other_generations(&site.folder, Some(site.generation - 1))
        .map_err(|error| site.failed(EngineError::Io(error.to_string())))?;
    let mut disk = OnDisk::open(site, Presence::Optional)?;
    let fill = |disk: &mut OnDisk| {
        let tree = disk.engine.tree(ROWS)?;
        let mut all: Vec<(Bytes, Option<Bytes>)> = rows
            .iter()
            .map(|(key, row)| (stored_key(key.as_bytes()).into(), Some(encode_row(row))))
            .collect();
        all.push((LEDGER.into(), Some(ledger.into())));
        for writes in all.chunks(1000) {
            disk.commit(vec![TreeWrites { tree: tree.clone(), writes: writes.to_vec() }])?;
        }
        disk.sync_files()
    };
    fill(&mut disk).map_err(|error| site.failed(error))?;
    Ok(disk)
}

// The contract.

#[cfg(test)]
impl SledStore {
    pub(super) fn snapshot_bytes_held(&self) -> usize {
        self.inner.snapshots.held()
    }
}

/// How many rows a page of a snapshot has at most; its bytes end it earlier.
const SNAPSHOT_PAGE: usize = 1_000;

impl SledStore {
    pub(super) async fn snapshot_in_pages(
        &self,
        space: Space,
        prefixes: &[&[u8]],
        page_rows: usize,
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        let Home { database, shelf } = self.home(space)?;
        let holdings = &self.inner.snapshots;
        let snapshot = SledSnapshot::new(holdings, &database.shared, &shelf, prefixes, page_rows);
        let live = Arc::clone(&snapshot.live);
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |outcome| {
            // A caller that stopped waiting is not told.
            let _ = sender.send(outcome);
        });
        database.submit(Work::Snapshot { shelf, live, done })?;
        let begun = receiver.await;
        begun.unwrap_or(Err(StoreError::NotApplied { retry_after: RETRY_AFTER }))?;
        Ok(Box::new(snapshot))
    }

    fn home(&self, space: Space) -> Result<Home, StoreError> {
        match space {
            Space::System => Ok(self.inner.system.clone()),
            Space::Keyring => Ok(self.inner.keyring()),
            Space::Tenant(id) => {
                let tenants = self.inner.tenants();
                let home = tenants.homes.get(&id).map(|(_, home)| home.clone());
                home.ok_or_else(|| match self.inner.system.database.shared.status() {
                    Status::Closed => StoreError::NotApplied { retry_after: RETRY_AFTER },
                    _ => StoreError::TenantGone,
                })
            }
        }
    }

    /// On a thread of its own: it blocks, and must be finished even if its
    /// caller stops waiting.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let (sender, receiver) = oneshot::channel();
        let thread = std::thread::Builder::new().name("change store".to_owned()).spawn(move || {
            let outcome = work(&inner);
            drop(inner);
            // A caller that stopped waiting is not told.
            let _ = sender.send(outcome);
        });
        match thread {
            Ok(_) => receiver.await.unwrap_or(Err(StoreError::Unknown)),
            Err(_) => Err(StoreError::NotApplied { retry_after: RETRY_AFTER }),
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, space: Space, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let stored = stored_key(key.as_bytes());
        self.home(space)?.get(&stored).await
    }

    async fn scan(&self, space: Space, scan: Scan) -> Result<Page, StoreError> {
        self.home(space)?.read(Seen::Any, |tree| read_page(tree, &scan)).await
    }

    async fn commit(&self, space: Space, batch: Batch) -> Result<(), StoreError> {
        let bytes = weigh(&batch)?;
        let Home { database, shelf } = self.home(space)?;
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |outcome| {
            // A caller that stopped waiting is not told.
            let _ = sender.send(outcome);
        });
        database.submit(Work::Rows(RowWork::Commit { shelf, batch, bytes, done }))?;
        receiver.await.unwrap_or(Err(StoreError::Unknown))
    }

    async fn chain(&self, space: Space, from: u64) -> Result<ChainPage, StoreError> {
        self.home(space)?.read(Seen::Any, |tree| read_chain(tree, from)).await
    }

    async fn ledger(&self, space: Space) -> Result<Option<Vec<u8>>, StoreError> {
        let read = |tree: &Tree| Ok(tree.get(LEDGER)?.map(|sealed| sealed.to_vec()));
        self.home(space)?.read(Seen::Key(LEDGER), read).await
    }

    async fn snapshot(
        &self,
        space: Space,
        prefixes: &[&[u8]],
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        self.snapshot_in_pages(space, prefixes, SNAPSHOT_PAGE).await
    }

    async fn create_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.detached(move |inner| inner.create_tenant(id)).await
    }

    async fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.detached(move |inner| inner.drop_tenant(id)).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        match self.inner.system.database.shared.status() {
            Status::Closed => Err(StoreError::NotApplied { retry_after: RETRY_AFTER }),
            _ => Ok(self.inner.tenants().homes.keys().copied().collect()),
        }
    }

    async fn replace_keyring(
        &self,
        rows: Vec<(RowKey, Row)>,
        floor: Floor,
        seal: Arc<dyn LedgerSeal>,
    ) -> Result<(), StoreError> {
        let rows = rows.into_iter().collect();
        self.detached(move |inner| inner.replace_keyring(rows, floor, seal.as_ref())).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn at_work_for(&self) -> Duration {
        let databases = self.inner.databases();
        databases.iter().map(|d| d.shared.pulse.at_work_for()).max().unwrap_or_default()
    }

    async fn size(&self) -> u64 {
        let measured = self.detached(|inner| Ok(files::bytes_below(&inner.folder)));
        measured.await.unwrap_or(0)
    }

    async fn usage(&self) -> Result<Vec<DatabaseUse>, StoreError> {
        self.detached(|inner| Ok(inner.usage())).await
    }

    async fn compact(
        &self,
        database: &str,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Compacted>, StoreError> {
        let name = database.to_owned();
        let (sender, mut steps) = mpsc_async::unbounded_channel();
        let work = self.detached(move |inner| {
            inner.compact(&name, &|done, of| {
                // A caller that stopped waiting is not told.
                let _ = sender.send((done, of));
            })
        });
        let shown = async {
            while let Some((done, of)) = steps.recv().await {
                progress(done, of);
            }
        };
        tokio::join!(work, shown).0
    }

    fn worn(&self) -> Vec<String> {
        self.inner.worn()
    }

    async fn close(&self) {
        let closed = self.detached(|inner| {
            inner.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            log::error!("closing the store: {error}");
        }
    }
}

impl Inner {
    fn databases(&self) -> Vec<Arc<Database>> {
        let mut all = vec![Arc::clone(&self.system.database), self.keyring().database];
        all.extend(self.tenants().databases.values().map(Arc::clone));
        all
    }

    fn health(&self) -> Health {
        let free = files::free_bytes(&self.folder).ok();
        let mut writable = true;
        let mut reasons = Vec::new();
        for database in self.databases() {
            match database.shared.status() {
                Status::Serving => {}
                // The others serve; it is for an operator to mend.
                Status::Broken(reason) => {
                    reasons.push(format!("{}: {reason}", database.site.name));
                }
                Status::ReadOnly(reason) => {
                    writable = false;
                    reasons.push(format!("{}: {reason}", database.site.name));
                }
                Status::Closed => {
                    writable = false;
                    reasons.push(format!("{} is closed", database.site.name));
                }
            }
        }
        if free.unwrap_or(0) < self.options.full_floor_bytes {
            writable = false;
            reasons.push("the disk is nearly full".to_owned());
        }
        Health {
            writable,
            free_bytes: free,
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        }
    }

    fn close(&self) {
        {
            let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let databases = self.databases();
            // Each takes its time to finish, all of them at once.
            databases.iter().for_each(|database| database.shared.queue.close());
            databases.iter().for_each(|database| database.close());
        }
        let _compacted = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
