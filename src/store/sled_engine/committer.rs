//! The only writer of a database, a thread of its own.
//!
//! It takes what waits, judges each batch against the rows and what the drain
//! holds so far, applies all of them as one transaction, syncs once, marks once,
//! and only then answers. After any error in that it answers `Unknown`, lets
//! nobody write, and opens the database again.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::compaction::{Compaction, NOT_NOW, News, Order};
use super::database::{CommitError, Kind, OnDisk, PLACEMENT, Presence, Site};
use super::encoding::{
    BLOCKS, LEDGER, TENANT_TREE, block_key, decode_row, encode_block, encode_row, stored_key,
    tree_name,
};
use super::engine::{Bytes, EngineError, Tree, TreeWrites};
use super::pulse::Pulse;
use super::queue::{Done, Queue, RowWork, Taken};
use super::rewrite::{Rewrite, Step};
use super::shelf::{Shelf, ShelfError, Slot, Touched, Unsynced};
use super::snapshot::Live;
use super::{OpenError, files};
use crate::measure;
use crate::store::staging::{place, stage};
use crate::store::{Appended, Batch, Change, Ledger, LedgerSeal, Row, RowKey, Space, StoreError};

pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How much is written before a snapshot is left at the end, in keys and values:
/// an opening takes about a second for a gigabyte of them.
const SNAPSHOT_WORTH: u64 = 16 << 20;
/// How many blocks of a chain one batch removes at most.
const FORGOTTEN_AT_ONCE: usize = 4_096;
/// How often it looks whether the copy of its database is open again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What the committer shares with readers and writers of its database.
pub(super) struct Shared {
    pub name: String,
    pub queue: Queue,
    pub unsynced: Unsynced,
    pub pulse: Pulse,
    /// Which one counts.
    pub generation: AtomicU64,
    /// In bytes of keys and values, since it was opened.
    pub written: AtomicU64,
    status: RwLock<Status>,
    shelves: Mutex<HashMap<Space, Arc<Shelf>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Serving,
    /// Why it is being opened again.
    ReadOnly(String),
    /// What is damaged; it stays so until someone repairs it.
    Broken(String),
    Closed,
}

/// The bytes of free space that writes leave alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    pub full: u64,
    pub hard: u64,
}

impl Shared {
    pub fn new(name: &str, queue_bytes: usize, status: Status) -> Self {
        Self {
            name: name.to_owned(),
            queue: Queue::new(queue_bytes),
            unsynced: Unsynced::default(),
            pulse: Pulse::new(),
            generation: AtomicU64::new(0),
            written: AtomicU64::new(0),
            status: RwLock::new(status),
            shelves: Mutex::default(),
        }
    }

    pub fn status(&self) -> Status {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_status(&self, status: Status) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = status;
    }

    pub fn add_shelf(&self, shelf: &Arc<Shelf>) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.insert(shelf.space, Arc::clone(shelf));
    }

    fn remove_shelf(&self, space: Space) {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).remove(&space);
    }

    pub fn spaces(&self) -> usize {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn shelves(&self) -> Vec<Arc<Shelf>> {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.values().map(Arc::clone).collect()
    }

    /// Why nothing can be written just now.
    pub fn refusal(&self) -> Option<StoreError> {
        match self.status() {
            Status::Serving => None,
            Status::ReadOnly(_) | Status::Closed => {
                Some(StoreError::NotApplied { retry_after: RETRY_AFTER })
            }
            Status::Broken(reason) => {
                Some(StoreError::Corrupted { what: format!("database {} ({reason})", self.name) })
            }
        }
    }

    /// What a failed reading means to the caller.
    pub fn explain(&self, space: Space, error: ShelfError) -> StoreError {
        match error {
            ShelfError::Away => {
                self.refusal().unwrap_or(StoreError::NotApplied { retry_after: RETRY_AFTER })
            }
            ShelfError::Dropped | ShelfError::Engine(EngineError::Gone) => StoreError::TenantGone,
            ShelfError::Missing => {
                StoreError::Corrupted { what: format!("database {} ({space})", self.name) }
            }
            // Of the disk, and not of what is on it.
            ShelfError::Engine(error @ EngineError::Io(_)) => {
                log::error!("database {}: reading {space}: {error}", self.name);
                StoreError::NotApplied { retry_after: RETRY_AFTER }
            }
            ShelfError::Engine(error) => {
                log::error!("database {}: reading {space}: {error}", self.name);
                StoreError::Corrupted { what: format!("database {}", self.name) }
            }
        }
    }
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    site: Site,
    floors: Floors,
    /// `None` while it is being opened again, or for good.
    disk: Option<OnDisk>,
    /// Ledgers as of the last drain, so that each is opened once.
    ledgers: HashMap<Space, Ledger>,
    compaction: Option<Compaction>,
}

/// Why nothing can be written as it stands.
enum Failed {
    /// The database must be opened again.
    Reopen(String),
    /// It is damaged, and what it holds in memory must not reach the disk.
    BrokenOff(String),
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Reopen(error.to_string())
    }
}

impl From<CommitError> for Failed {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Failed(error) => error.into(),
            CommitError::BrokenOff(error) => Self::BrokenOff(error.to_string()),
        }
    }
}

impl Committer {
    /// Puts the trees of `disk` on their shelves.
    pub fn new(
        shared: Arc<Shared>,
        site: Site,
        floors: Floors,
        disk: OnDisk,
    ) -> Result<Self, OpenError> {
        let (ledgers, compaction) = (HashMap::new(), None);
        let mut committer = Self { shared, site, floors, disk: None, ledgers, compaction };
        committer.serve(disk)?;
        Ok(committer)
    }

    /// Until the queue is closed and empty; then everything of sled's is dropped
    /// and its lock released.
    pub fn run(mut self) {
        while let Some(taken) = self.take() {
            self.shared.pulse.begin();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                self.work(taken)?;
                self.go_on_compacting()
            }));
            let panicked = |_| Err(Failed::Reopen("a panic in the committer".to_owned()));
            match outcome.unwrap_or_else(panicked) {
                Ok(()) => {}
                Err(Failed::BrokenOff(reason)) => self.stop_writing(&reason),
                Err(Failed::Reopen(reason)) => {
                    if catch_unwind(AssertUnwindSafe(|| self.recover(reason))).is_err() {
                        let error = self.site.corrupted("a panic while it was opened again");
                        self.give_up(&error);
                    }
                }
            }
            self.shared.pulse.end();
        }
        let written = self.disk.as_ref().map_or(0, OnDisk::written);
        self.put_away();
        if written >= SNAPSHOT_WORTH {
            self.leave_a_snapshot();
        }
        if !matches!(self.shared.status(), Status::Broken(_)) {
            self.shared.set_status(Status::Closed);
        }
    }

    /// sled writes its snapshot when it opens a database, and an opening reads all
    /// of the log since. Who stops has the time for that; who starts has not.
    fn leave_a_snapshot(&self) {
        let begun = Instant::now();
        let opened = catch_unwind(AssertUnwindSafe(|| {
            OnDisk::open(&self.site, Presence::Required).map(drop)
        }));
        let name = &self.site.name;
        match opened {
            Ok(Ok(())) => log::info!(
                "database {name}: a snapshot for the next start took {} ms",
                begun.elapsed().as_millis()
            ),
            // Nothing is lost by it: the next start says what it finds.
            Ok(Err(error)) => log::warn!("no snapshot for the next start: {error}"),
            Err(_) => log::warn!("no snapshot for the next start: a panic in {name}"),
        }
    }

    fn work(&mut self, taken: Taken) -> Result<(), Failed> {
        // What was let in just before the database was found to be damaged.
        if let Some(refusal @ StoreError::Corrupted { .. }) = self.shared.refusal() {
            taken.refuse(&refusal);
            return Ok(());
        }
        match taken {
            Taken::Rows(works) => self.drain(works),
            Taken::Create { shelf, done } => match self.refuse_growth() {
                Some(error) => {
                    done(Err(error));
                    Ok(())
                }
                None => answer(done, self.create(&shelf)),
            },
            Taken::Drop { shelf, done } => answer(done, self.drop_tree(&shelf)),
            Taken::Snapshot { shelf, live, done } => {
                done(self.begin_snapshot(&shelf, &live));
                Ok(())
            }
            Taken::Compact(order) => {
                self.begin_compaction(order);
                Ok(())
            }
            Taken::Nothing => Ok(()),
        }
    }

    fn disk(&mut self) -> Result<&mut OnDisk, Failed> {
        self.disk.as_mut().ok_or_else(|| Failed::Reopen("the database is not open".to_owned()))
    }

    fn free_bytes(&self) -> u64 {
        // A file system that cannot say how much is left gets nothing more.
        files::free_bytes(&self.site.folder).unwrap_or(0)
    }

    fn refuse_growth(&self) -> Option<StoreError> {
        (self.free_bytes() < self.floors.full).then_some(StoreError::Full)
    }
}

/// Tells the caller about a failure before the recovery from it begins.
fn answer(done: Done, outcome: Result<(), Failed>) -> Result<(), Failed> {
    done(if outcome.is_ok() { Ok(()) } else { Err(StoreError::Unknown) });
    outcome
}

// Rows.

/// Batches that become one transaction.
struct Drain {
    free: u64,
    spaces: HashMap<Space, SpaceDrain>,
    places: HashMap<Bytes, Option<Bytes>>,
    answers: Vec<(Done, Result<(), StoreError>)>,
}

struct SpaceDrain {
    shelf: Arc<Shelf>,
    tree: Tree,
    rows: HashMap<Bytes, Option<Bytes>>,
    /// What all batches append.
    appended: Vec<Appended>,
    /// But for its chain.
    ledger: Ledger,
    /// Of the last batch that changed something.
    seal: Option<Arc<dyn LedgerSeal>>,
}

impl SpaceDrain {
    /// The row as the batches before in this drain leave it.
    fn current(&self, key: &RowKey) -> Result<Option<Row>, EngineError> {
        let stored = stored_key(key.as_bytes());
        let bytes = match self.rows.get(stored.as_slice()) {
            Some(changed) => changed.clone(),
            None => self.tree.get(&stored)?,
        };
        bytes.map(|bytes| decode_row(&bytes)).transpose()
    }

    /// Removes blocks of before this entry, as many as one drain may.
    fn forget_before(&mut self, first: u64) -> Result<(), EngineError> {
        let (end, mut left) = (block_key(first), FORGOTTEN_AT_ONCE);
        self.tree.visit(BLOCKS, |key, _| {
            if key >= end.as_ref() || left == 0 {
                return Ok(false);
            }
            left -= 1;
            self.rows.insert(key.into(), None);
            Ok(true)
        })
    }
}

impl Committer {
    fn drain(&mut self, works: Vec<RowWork>) -> Result<(), Failed> {
        let mut drain = Drain {
            free: self.free_bytes(),
            spaces: HashMap::new(),
            places: HashMap::new(),
            answers: Vec::with_capacity(works.len()),
        };
        for work in works {
            let (done, outcome) = match work {
                RowWork::Commit { shelf, batch, done, .. } => {
                    (done, self.stage(&mut drain, &shelf, batch))
                }
                RowWork::Place { key, value, done } => (done, self.place(&mut drain, key, value)),
            };
            drain.answers.push((done, outcome));
        }
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.write(drain.spaces, drain.places)))
            .unwrap_or_else(|_| Err(Failed::Reopen("a panic while writing".to_owned())));
        match &outcome {
            Ok(()) => measure::synced(drain.answers.len(), begun.elapsed()),
            Err(_) => self.shared.unsynced.failed(),
        }
        for (done, judged) in drain.answers {
            done(match judged {
                Ok(()) if outcome.is_err() => Err(StoreError::Unknown),
                // With a row of this drain, maybe, that will never have been.
                Err(StoreError::Conflict) if outcome.is_err() => {
                    Err(StoreError::NotApplied { retry_after: RETRY_AFTER })
                }
                judged => judged,
            });
        }
        outcome
    }

    fn stage(&self, drain: &mut Drain, shelf: &Arc<Shelf>, batch: Batch) -> Result<(), StoreError> {
        self.refuse_below_floor(drain.free, shelf.space, &batch)?;
        let part = match drain.spaces.entry(shelf.space) {
            std::collections::hash_map::Entry::Occupied(part) => part.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.open_space(shelf, &batch)?)
            }
        };
        let explain = |error| self.shared.explain(shelf.space, ShelfError::Engine(error));
        let staged = stage(&batch, part.ledger, |key| part.current(key).map_err(explain))?;
        if let Some(ledger) = staged.ledger {
            // The first change of a row since a snapshot began finds the row of then.
            let current = |key: &RowKey| part.current(key).map_err(explain);
            shelf.snapshots.preserve(staged.rows.keys().copied(), current)?;
            if staged.forgets {
                part.forget_before(ledger.kept_from.next).map_err(explain)?;
            }
            part.ledger = ledger;
            let stored = |(key, row): (&RowKey, Option<&Row>)| {
                (stored_key(key.as_bytes()).into(), row.map(encode_row))
            };
            part.rows.extend(staged.rows.into_iter().map(stored));
            let Batch { changes, seal, floor: _ } = batch;
            part.appended.extend(changes.into_iter().filter_map(Change::into_appended));
            part.seal = Some(seal);
        }
        Ok(())
    }

    /// Before sled sees an error that stays until it is opened again. Deleting
    /// appends to the log too. The system's rows are few and small, and one of them
    /// may be a revocation: they go on as deletes do. What is appended along with a
    /// change goes the way of the change.
    fn refuse_below_floor(&self, free: u64, space: Space, batch: &Batch) -> Result<(), StoreError> {
        let (mut puts, mut appends, mut deletes) = (false, false, false);
        for change in &batch.changes {
            match change {
                Change::Put { .. } => puts = true,
                Change::Append(_) => appends = true,
                Change::Delete { .. } | Change::Forget { .. } => deletes = true,
                Change::Expect { .. } => {}
            }
        }
        let grows = puts || (appends && !deletes);
        let floor =
            if grows && space != Space::System { self.floors.full } else { self.floors.hard };
        if free < floor { Err(StoreError::Full) } else { Ok(()) }
    }

    fn open_space(&self, shelf: &Arc<Shelf>, batch: &Batch) -> Result<SpaceDrain, StoreError> {
        let space = shelf.space;
        let explain = |error| self.shared.explain(space, error);
        let tree = shelf.read(|tree| Ok(tree.clone())).map_err(explain)?;
        let ledger = match self.ledgers.get(&space) {
            Some(ledger) => *ledger,
            None => match shelf.read(|tree| tree.get(LEDGER)).map_err(explain)? {
                None => Ledger::EMPTY,
                Some(sealed) => batch.seal.open(&sealed).map_err(|_| StoreError::Corrupted {
                    what: format!("the ledger of {space}"),
                })?,
            },
        };
        let shelf = Arc::clone(shelf);
        let (rows, appended, seal) = (HashMap::new(), Vec::new(), None);
        Ok(SpaceDrain { shelf, tree, rows, appended, ledger, seal })
    }

    fn place(
        &self,
        drain: &mut Drain,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let floor = if value.is_some() { self.floors.full } else { self.floors.hard };
        if drain.free < floor {
            return Err(StoreError::Full);
        }
        drain.places.insert(key.into(), value.map(Bytes::from));
        Ok(())
    }

    fn write(
        &mut self,
        spaces: HashMap<Space, SpaceDrain>,
        places: HashMap<Bytes, Option<Bytes>>,
    ) -> Result<(), Failed> {
        let mut writes = Vec::with_capacity(spaces.len() + 1);
        let mut touched = Touched::new();
        let mut shelves = Vec::with_capacity(spaces.len());
        let mut ledgers = Vec::with_capacity(spaces.len());
        for (space, part) in spaces {
            let SpaceDrain { shelf, tree, mut rows, appended, mut ledger, seal } = part;
            let Some(seal) = seal else {
                ledgers.push((space, ledger));
                continue;
            };
            for placed in place(&appended, &mut ledger.chain, &*seal) {
                let (key, block) = encode_block(&placed);
                rows.insert(key, Some(block));
            }
            ledgers.push((space, ledger));
            rows.insert(LEDGER.into(), Some(seal.seal(&ledger).into()));
            let all = rows.iter().map(|(key, value)| (key.clone(), value.clone()));
            writes.push(TreeWrites { tree, writes: all.collect() });
            touched.insert(space, rows);
            shelves.push(shelf);
        }
        let disk = self.disk()?;
        if !places.is_empty() {
            let tree = disk.engine.tree(PLACEMENT)?;
            writes.push(TreeWrites { tree, writes: places.into_iter().collect() });
        }
        if let Some(compaction) = &mut self.compaction {
            for TreeWrites { tree, writes } in &writes {
                compaction.rewrite.note_rows(&tree.name(), writes.iter().map(|(key, _)| key));
            }
        }
        if !writes.is_empty() {
            self.shared.unsynced.declare(touched, shelves);
            let disk = self.disk()?;
            disk.commit(writes)?;
            let written = disk.written();
            self.shared.unsynced.settled();
            self.shared.written.store(written, Ordering::Relaxed);
        }
        self.ledgers.extend(ledgers);
        Ok(())
    }
}

// Snapshots.

impl Committer {
    /// Here, between two drains, all that was applied is durable.
    fn begin_snapshot(&self, shelf: &Shelf, live: &Arc<Live>) -> Result<(), StoreError> {
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        let ledger = shelf.read(|tree| Ok(tree.get(LEDGER)?.map(|sealed| sealed.to_vec())));
        let ledger = ledger.map_err(|error| self.shared.explain(shelf.space, error))?;
        shelf.snapshots.begin(live, ledger);
        Ok(())
    }
}

// Trees.

impl Committer {
    fn create(&mut self, shelf: &Arc<Shelf>) -> Result<(), Failed> {
        let name = tree_name(shelf.space);
        self.ledgers.remove(&shelf.space);
        self.note_tree(&name);
        let disk = self.disk()?;
        // One that stands here already was left by a deletion that was cut off.
        disk.engine.drop_tree(&name)?;
        let tree = disk.engine.tree(&name)?;
        disk.commit(Vec::new())?;
        disk.sync_files()?;
        shelf.put(Slot::Open(tree));
        self.shared.add_shelf(shelf);
        Ok(())
    }

    fn drop_tree(&mut self, shelf: &Arc<Shelf>) -> Result<(), Failed> {
        shelf.put(Slot::Dropped);
        self.shared.remove_shelf(shelf.space);
        self.ledgers.remove(&shelf.space);
        let name = tree_name(shelf.space);
        self.note_tree(&name);
        let disk = self.disk()?;
        disk.engine.drop_tree(&name)?;
        disk.commit(Vec::new())?;
        Ok(())
    }
}

// Compaction.

impl Committer {
    /// Between two slices it does not wait for work.
    fn take(&mut self) -> Option<Taken> {
        match &self.compaction {
            Some(Compaction { rewrite, .. }) if !self.shared.queue.is_closed() => {
                let patience = if rewrite.is_waiting() { LOOK_AGAIN } else { Duration::ZERO };
                Some(self.shared.queue.take_within(patience).unwrap_or(Taken::Nothing))
            }
            _ => self.shared.queue.take(),
        }
    }

    fn note_tree(&mut self, name: &[u8]) {
        if let Some(compaction) = &mut self.compaction {
            compaction.rewrite.note_tree(name);
        }
    }

    fn begin_compaction(&mut self, order: Order) {
        if let Some(error) = self.refuse_growth() {
            return order.refuse(error);
        }
        match Rewrite::begin(&self.site) {
            Ok(rewrite) => self.compaction = Some(Compaction { rewrite, order }),
            Err(error) => {
                log::error!("compacting failed: {error}");
                order.refuse(NOT_NOW);
            }
        }
    }

    /// A slice. What goes wrong ends the compaction, and nothing else.
    fn go_on_compacting(&mut self) -> Result<(), Failed> {
        let Some(mut compaction) = self.compaction.take() else { return Ok(()) };
        if let Some(error) = self.refuse_growth() {
            compaction.give_up(error);
            return Ok(());
        }
        let Some(old) = &self.disk else {
            compaction.give_up(NOT_NOW);
            return Ok(());
        };
        let step = catch_unwind(AssertUnwindSafe(|| compaction.rewrite.step(old)))
            .unwrap_or_else(|_| Err(self.site.corrupted("a panic while it was compacted")));
        match step {
            Ok(Step::Even) => self.change_over(compaction),
            Ok(Step::More | Step::Waiting) => {
                compaction.order.tell(News::Copied(compaction.rewrite.copied()));
                self.compaction = Some(compaction);
                Ok(())
            }
            Err(error) => {
                log::error!("compacting failed: {error}");
                compaction.give_up(NOT_NOW);
                Ok(())
            }
        }
    }

    /// Readers and writers turn to the new generation.
    fn change_over(&mut self, compaction: Compaction) -> Result<(), Failed> {
        let Compaction { rewrite, order } = compaction;
        let (site, disk) = match rewrite.switch() {
            Ok(switched) => switched,
            Err(error) => {
                // Whatever was written to the old one now might be gone at the
                // next open.
                log::error!("{error}");
                let why = "which generation is current is unknown; start the server again";
                self.give_up(&self.site.unreadable(&why));
                order.refuse(StoreError::Unknown);
                return Ok(());
            }
        };
        self.shared.generation.store(site.generation, Ordering::SeqCst);
        self.site = site;
        let old = self.disk.take();
        let served = self.serve(disk).map_err(|error| Failed::Reopen(error.to_string()));
        order.tell(News::Ended(old.map(Box::new).ok_or(StoreError::Unknown)));
        served
    }

    fn give_up_compaction(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            compaction.give_up(NOT_NOW);
        }
    }
}

// Opening, failing, and opening again.

impl Committer {
    /// Puts each tree on its shelf, and drops trees that belong on none: what a
    /// creation or a deletion left that was cut off.
    fn serve(&mut self, mut disk: OnDisk) -> Result<(), OpenError> {
        let failed = |error| self.site.failed(error);
        let mut trees: HashSet<Bytes> = disk.engine.tree_names().into_iter().collect();
        for shelf in self.shared.shelves() {
            let name = tree_name(shelf.space);
            shelf.put(if trees.remove(name.as_slice()) {
                Slot::Open(disk.engine.tree(&name).map_err(failed)?)
            } else {
                log::error!("database {}: the rows of {} are missing", self.site.name, shelf.space);
                Slot::Missing
            });
        }
        if self.site.kind == Kind::Tenants {
            trees.retain(|name| name.starts_with(TENANT_TREE));
            for name in &trees {
                disk.engine.drop_tree(name).map_err(failed)?;
            }
            if !trees.is_empty() {
                disk.commit(Vec::new()).map_err(|error| failed(error.into()))?;
            }
        }
        self.shared.written.store(disk.written(), Ordering::Relaxed);
        self.disk = Some(disk);
        Ok(())
    }

    /// Drops every handle of sled's, which releases its lock.
    fn put_away(&mut self) {
        for shelf in self.shared.shelves() {
            shelf.put_away();
        }
        self.ledgers.clear();
        self.give_up_compaction();
        self.disk = None;
    }

    /// Reads go on from memory until there is reason to believe that opening can
    /// succeed, and writes are refused until it has.
    fn recover(&mut self, reason: String) {
        log::error!("database {}: a write failed ({reason}); opening it again", self.site.name);
        self.give_up_compaction();
        self.shared.unsynced.failed();
        self.shared.set_status(Status::ReadOnly(reason));
        let mut interrupted = self.disk.as_mut().and_then(OnDisk::take_interrupted);
        let mut pause = Duration::from_millis(20);
        loop {
            self.shared.pulse.begin();
            for work in self.shared.queue.take_all() {
                work.refuse(StoreError::NotApplied { retry_after: RETRY_AFTER });
            }
            // At once, and before sled lets go of the files: another process may
            // be the one that opens them.
            interrupted.take_if(|redo| self.takes_writes(redo.store(&self.site.path())));
            if interrupted.is_none() && self.is_worth_opening() {
                self.put_away();
                match OnDisk::open(&self.site, Presence::Required).and_then(|disk| self.serve(disk))
                {
                    Ok(()) => {
                        self.shared.unsynced.reopened();
                        log::info!("database {}: open again", self.site.name);
                        return self.shared.set_status(Status::Serving);
                    }
                    Err(error @ OpenError::Corrupted { .. }) => return self.give_up(&error),
                    Err(error) => log::error!("{error}"),
                }
            }
            if self.shared.queue.pause(pause) {
                return;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Closed, it serves no reads, and cannot be opened where nothing can be
    /// written.
    fn is_worth_opening(&self) -> bool {
        self.free_bytes() >= self.floors.hard
            && self.takes_writes(files::try_writing(&self.site.path()))
    }

    fn takes_writes(&self, tried: std::io::Result<()>) -> bool {
        if let Err(error) = &tried {
            log::error!("database {}: the disk takes no writes: {error}", self.site.name);
        }
        tried.is_ok()
    }

    /// A drain broke off over a damaged page. What it did in memory is shown to
    /// nobody and never flushed, so that the next start finds all that was
    /// acknowledged; until then the rest can be read.
    fn stop_writing(&mut self, reason: &str) {
        let error = self.site.corrupted(reason);
        log::error!("{error}; nothing is written to it any more");
        self.give_up_compaction();
        self.shared.set_status(Status::Broken(error.reason()));
        if let Some(mut disk) = self.disk.take() {
            // A part may have reached the disk, where the drain was large.
            if let Some(redo) = disk.take_interrupted() {
                self.takes_writes(redo.store(&self.site.path()));
            }
            disk.abandon();
        }
        for work in self.shared.queue.take_all() {
            work.refuse(self.shared.refusal().unwrap_or(StoreError::Unknown));
        }
    }

    fn give_up(&mut self, error: &OpenError) {
        log::error!("{error}");
        self.put_away();
        self.shared.set_status(Status::Broken(error.reason()));
        self.shared.queue.close();
        for work in self.shared.queue.take_all() {
            work.refuse(self.shared.refusal().unwrap_or(StoreError::Unknown));
        }
    }
}
