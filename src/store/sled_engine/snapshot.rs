//! A space as it was at one commit, read page by page while its committer goes
//! on.
//!
//! sled has no snapshots, so the committer keeps what it replaces. It begins a
//! snapshot between two drains, when all that was applied is durable. From then
//! on, before a drain is applied, it puts aside the row that stands under each
//! key that will change (or that none does): the key's image, the first one only,
//! and only for keys that a cursor has still before it. A cursor reads a page from
//! the tree and then, under the snapshot's lock, lets the images in the stretch it
//! read override what it found, and moves past that stretch.
//!
//! Why each page is the state at the beginning: take a key in the stretch. Either
//! no drain changed it before the tree was read; then the tree held its row as of
//! the beginning, and if there is an image, it is the same. Or a drain did; then
//! the first such drain put the image aside before it was applied, hence before
//! the tree was read, and at that time the key lay before the cursor, because only
//! the reading itself moves the cursor, after it read. The image is still there
//! when the lock is taken, for the same reason. Images of drains that failed are
//! copies of what stands in the tree, or of what stood there before a part of the
//! drain survived; both are right. So what a page holds is durable without
//! waiting: every row of it stands as of the beginning.
//!
//! No tree is held from one page to the next: the database may be opened again,
//! or its trees replaced by others with the same rows, between two.
//!
//! Images take memory. All snapshots of a store have one budget; a commit whose
//! images find no room is refused, until the reader gets on. A reader that did not
//! ask for longer than the patience of the store loses its snapshot then, so that
//! a forgotten one does not keep writers out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::committer::{RETRY_AFTER, Shared};
use super::read_page;
use super::shelf::Shelf;
use crate::store::staging::PageBuilder;
use crate::store::{Page, Row, RowKey, Scan, Snapshot, StoreError};

/// What all snapshots of a store keep, bounded.
pub(super) struct Holdings {
    limit: usize,
    patience: Duration,
    held: AtomicUsize,
    live: Mutex<Vec<Weak<Live>>>,
}

impl Holdings {
    pub fn new(limit: usize, patience: Duration) -> Self {
        Self { limit, patience, held: AtomicUsize::new(0), live: Mutex::default() }
    }

    fn reserve(&self, bytes: usize) -> Result<(), NoRoom> {
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        let reserved = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, grown);
        reserved.map(drop).map_err(|_| NoRoom)
    }

    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Ends the snapshots whose readers seem to have gone.
    fn end_forgotten(&self) {
        for live in upgraded(&self.live) {
            if live.state().progress.elapsed() >= self.patience {
                log::warn!("a snapshot that nobody reads is ended, since writers need its memory");
                live.end();
            }
        }
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// The live ones; the others are forgotten.
fn upgraded(list: &Mutex<Vec<Weak<Live>>>) -> Vec<Arc<Live>> {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    let live: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
    if live.len() < list.len() {
        *list = live.iter().map(Arc::downgrade).collect();
    }
    live
}

/// The snapshots of one space, for its committer.
#[derive(Default)]
pub(super) struct Snapshots(Mutex<Vec<Weak<Live>>>);

/// There is no memory for what a commit would replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

const NOT_NOW: StoreError = StoreError::NotApplied { retry_after: RETRY_AFTER };

impl Snapshots {
    /// Between two drains. `ledger` stands as of the last of them.
    pub fn begin(&self, live: &Arc<Live>, ledger: Option<Vec<u8>>) {
        live.ledger.get_or_init(|| ledger);
        for list in [&self.0, &live.holdings.live] {
            list.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(live));
        }
    }

    /// Before `keys` change: puts aside what stands under them, for each snapshot
    /// that has still to read it. After an error nothing may be applied; what was
    /// put aside until then does no harm.
    pub fn preserve<'a>(
        &self,
        keys: impl Iterator<Item = &'a RowKey> + Clone,
        stands: impl Fn(&RowKey) -> Result<Option<Row>, StoreError>,
    ) -> Result<(), StoreError> {
        for live in upgraded(&self.0) {
            if live.preserve(keys.clone(), &stands)? == Err(NoRoom) {
                live.holdings.end_forgotten();
                live.preserve(keys.clone(), &stands)?.map_err(|NoRoom| NOT_NOW)?;
            }
        }
        Ok(())
    }
}

/// What a reader and the committer share of one snapshot.
pub(super) struct Live {
    holdings: Arc<Holdings>,
    /// Set when it begins.
    ledger: OnceLock<Option<Vec<u8>>>,
    state: Mutex<State>,
}

struct State {
    cursors: Vec<Cursor>,
    /// What the images of all cursors weigh.
    held: usize,
    /// When its reader last asked for a page.
    progress: Instant,
    ended: bool,
}

struct Cursor {
    /// What it reads next.
    scan: Scan,
    finished: bool,
    /// Of keys it has not passed.
    images: BTreeMap<RowKey, Option<Row>>,
}

/// The memory an image stands for, its place in the map included.
fn weight(key: &RowKey, image: Option<&Row>) -> usize {
    128 + key.as_bytes().len() + image.map_or(0, |row| row.bytes.len())
}

impl Live {
    fn new(holdings: &Arc<Holdings>, prefixes: &[&[u8]], page_rows: usize) -> Self {
        let alone = |prefix: &&[u8]| prefixes.iter().filter(|p| p.starts_with(prefix)).count() == 1;
        assert!(prefixes.iter().all(alone), "no prefix of a snapshot begins another");
        let cursor = |prefix: &&[u8]| Cursor {
            scan: Scan { prefix: prefix.to_vec(), after: None, limit: page_rows.max(1) },
            finished: false,
            images: BTreeMap::new(),
        };
        let cursors = prefixes.iter().map(cursor).collect();
        Self {
            holdings: Arc::clone(holdings),
            ledger: OnceLock::new(),
            state: Mutex::new(State { cursors, held: 0, progress: Instant::now(), ended: false }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn preserve<'a>(
        &self,
        keys: impl Iterator<Item = &'a RowKey>,
        stands: impl Fn(&RowKey) -> Result<Option<Row>, StoreError>,
    ) -> Result<Result<(), NoRoom>, StoreError> {
        let mut state = self.state();
        let mut images = Vec::new();
        let mut bytes = 0;
        for key in keys {
            if let Some(cursor) = state.cursors.iter().position(|cursor| cursor.lacks(key)) {
                let image = stands(key)?;
                bytes += weight(key, image.as_ref());
                images.push((cursor, key.clone(), image));
            }
        }
        if let Err(refused) = self.holdings.reserve(bytes) {
            return Ok(Err(refused));
        }
        state.held += bytes;
        for (cursor, key, image) in images {
            if let Some(cursor) = state.cursors.get_mut(cursor) {
                cursor.images.insert(key, image);
            }
        }
        Ok(Ok(()))
    }

    /// What `cursor` reads next; `None` at its end.
    fn ask(&self, cursor: usize) -> Result<Option<Scan>, StoreError> {
        let mut state = self.state();
        state.refuse_if_ended()?;
        state.progress = Instant::now();
        let cursor = state.cursors.get(cursor).filter(|cursor| !cursor.finished);
        Ok(cursor.map(|cursor| cursor.scan.clone()))
    }

    /// The page as of the beginning, from the one just `found`.
    fn pass(&self, cursor: usize, found: Page) -> Result<Page, StoreError> {
        let mut state = self.state();
        state.refuse_if_ended()?;
        let Some(cursor) = state.cursors.get_mut(cursor) else { return Ok(Page::default()) };
        let (page, released) = cursor.pass(found);
        state.held -= released;
        self.holdings.release(released);
        Ok(page)
    }

    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.cursors.clear();
        self.holdings.release(std::mem::take(&mut state.held));
    }
}

impl State {
    fn refuse_if_ended(&self) -> Result<(), StoreError> {
        if self.ended { Err(NOT_NOW) } else { Ok(()) }
    }
}

impl Cursor {
    /// Whether it needs an image of `key`.
    fn lacks(&self, key: &RowKey) -> bool {
        !self.finished
            && key.as_bytes().starts_with(&self.scan.prefix)
            && self.scan.after.as_ref().is_none_or(|after| key > after)
            && !self.images.contains_key(key)
    }

    /// Merges its images into the stretch that was read, up to where a page ends,
    /// and moves there. Also answers the weight of the images it passed.
    fn pass(&mut self, found: Page) -> (Page, usize) {
        // Behind the last row found there may be more in the tree, so images from
        // there on belong to a later page; without more, they all belong here.
        let last = if found.more { found.rows.last().map(|(key, _)| key.clone()) } else { None };
        let mut more = found.more;
        let mut rows = found.rows.into_iter().peekable();
        let mut page = PageBuilder::new(&self.scan);
        let mut released = 0;
        loop {
            let image = self.images.first_key_value().map(|(key, _)| key);
            let image = image.filter(|image| last.as_ref().is_none_or(|last| *image <= last));
            let row = rows.peek().map(|(key, _)| key);
            let overridden = match (image, row) {
                (None, None) => break,
                (Some(image), Some(row)) if image > row => None,
                (None, Some(_)) => None,
                (Some(image), row) => Some(row == Some(image)),
            };
            if page.is_full() {
                more = true;
                break;
            }
            let next = match overridden {
                None => rows.next().map(|(key, row)| (key, Some(row))),
                Some(overridden) => {
                    if overridden {
                        rows.next();
                    }
                    let image = self.images.pop_first();
                    released += image.as_ref().map_or(0, |(key, row)| weight(key, row.as_ref()));
                    image
                }
            };
            let Some((key, row)) = next else { break };
            self.scan.after = Some(key.clone());
            if let Some(row) = row {
                page.push(key, row);
            }
        }
        self.finished = !more;
        (if more { page.with_more() } else { page.last() }, released)
    }
}

/// The reader's half; dropping it frees what is kept for it.
pub(super) struct SledSnapshot {
    pub live: Arc<Live>,
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
}

impl SledSnapshot {
    /// Not begun yet.
    ///
    /// # Panics
    /// If one of `prefixes` begins another.
    pub fn new(
        holdings: &Arc<Holdings>,
        shared: &Arc<Shared>,
        shelf: &Arc<Shelf>,
        prefixes: &[&[u8]],
        page_rows: usize,
    ) -> Self {
        let live = Arc::new(Live::new(holdings, prefixes, page_rows));
        Self { live, shared: Arc::clone(shared), shelf: Arc::clone(shelf) }
    }
}

impl Drop for SledSnapshot {
    fn drop(&mut self) {
        self.live.end();
    }
}

#[async_trait]
impl Snapshot for SledSnapshot {
    fn ledger(&self) -> Option<&[u8]> {
        self.live.ledger.get()?.as_deref()
    }

    async fn next(&mut self, cursor: usize) -> Result<Page, StoreError> {
        loop {
            let scan = self.live.ask(cursor)?;
            let found = self.shelf.read(|tree| match &scan {
                Some(scan) => read_page(tree, scan),
                None => Ok(Page::default()),
            });
            let found = found.map_err(|error| self.shared.explain(self.shelf.space, error))?;
            let page = if scan.is_some() { self.live.pass(cursor, found)? } else { found };
            // Where all that was found is newer than the snapshot, go on.
            if !page.rows.is_empty() || !page.more {
                return Ok(page);
            }
        }
    }
}
