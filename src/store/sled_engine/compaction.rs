//! Compaction: the space of what was deleted or replaced is given back, and its
//! bytes leave the disk.
//!
//! A database is written anew by its committer, a slice between two drains, and
//! the copy takes its place (`rewrite`). Writers wait for a slice; readers for
//! nothing: they change over from one handle to the other. One database is
//! compacted at a time. What goes wrong before the change of place leaves all as
//! it was.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};

use super::committer::{RETRY_AFTER, Status};
use super::database::OnDisk;
use super::engine::{EngineError, Tree};
use super::queue::Work;
use super::rewrite::Rewrite;
use super::shelf::{Shelf, ShelfError};
use super::{Database, Inner, KEYRING, files};
use crate::store::{Compacted, DatabaseUse, StoreError};

/// What a committer tells who asked for a compaction.
pub(super) enum News {
    /// So many bytes of keys and values.
    Copied(u64),
    /// The old generation is to be closed and unlinked, which takes a while.
    Ended(Result<Box<OnDisk>, StoreError>),
}

/// An order to compact.
pub(super) struct Order {
    news: mpsc::Sender<News>,
}

impl Order {
    pub fn tell(&self, news: News) {
        // Nobody may be listening any more.
        let _ = self.news.send(news);
    }

    pub fn refuse(&self, error: StoreError) {
        self.tell(News::Ended(Err(error)));
    }
}

/// A compaction under way, in its committer's hands.
pub(super) struct Compaction {
    pub rewrite: Rewrite,
    pub order: Order,
}

impl Compaction {
    /// Everything stays as it was.
    pub fn give_up(self, error: StoreError) {
        self.rewrite.discard();
        self.order.refuse(error);
    }
}

// Asking for it. All of it blocks.

impl Inner {
    /// Reads everything, page by page.
    pub(super) fn usage(&self) -> Vec<DatabaseUse> {
        let one = |database: &Database| DatabaseUse {
            name: database.site.name.clone(),
            bytes: files::bytes_below(&database.site.folder),
            live: live_bytes(database).ok(),
        };
        self.databases().iter().map(|database| one(database)).collect()
    }

    /// A crash makes the next opening read all that was written since the last one, and
    /// the files of a database that is written to grow. Both end when it is written
    /// anew; which costs as much as it holds, so that a large one waits longer for it:
    /// for a quarter of its files.
    pub(super) fn worn(&self) -> Vec<String> {
        let enough = self.options.worn_bytes;
        let is_worn = |database: &Arc<Database>| {
            let written = database.shared.written.load(Ordering::Relaxed);
            enough > 0
                && written >= enough
                && written >= files::bytes_below(&database.site.folder) / 4
                && database.shared.status() == Status::Serving
        };
        let worn = self.databases().into_iter().filter(is_worn);
        worn.map(|database| database.site.name.clone()).collect()
    }

    /// `None` where there is no such database.
    pub(super) fn compact(
        &self,
        name: &str,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Option<Compacted>, StoreError> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        // The keyring's database is another one after it was replaced.
        let _settled =
            (name == KEYRING).then(|| self.changing.lock().unwrap_or_else(PoisonError::into_inner));
        let named = self.databases().into_iter().find(|database| database.site.name == name);
        let Some(database) = named else { return Ok(None) };
        let live = live_bytes(&database)?;
        let before = files::bytes_below(&database.site.folder);
        self.refuse_without_room(live)?;
        let (news, heard) = mpsc::channel();
        database.submit(Work::Compact(Order { news }))?;
        let old = loop {
            match heard.recv() {
                Ok(News::Copied(bytes)) => progress(bytes.min(live), live),
                Ok(News::Ended(outcome)) => break outcome?,
                Err(_) => return Err(StoreError::Unknown),
            }
        };
        drop(old);
        let site = database.current_site();
        files::remove_other_generations(&site.folder, Some(site.generation)).map_err(|error| {
            log::error!("database {name} is compacted, but its old files are left: {error}");
            StoreError::Unknown
        })?;
        Ok(Some(Compacted { before, after: files::bytes_below(&site.folder) }))
    }

    /// sled needs up to half as much again as what it holds.
    fn refuse_without_room(&self, live: u64) -> Result<(), StoreError> {
        let needed = self.options.full_floor_bytes.saturating_add(live + live / 2);
        let free = files::free_bytes(&self.folder).unwrap_or(0);
        if free < needed { Err(StoreError::Full) } else { Ok(()) }
    }
}

/// Keys and values of all spaces of a database.
fn live_bytes(database: &Database) -> Result<u64, StoreError> {
    if let Status::Broken(_) = database.shared.status()
        && let Some(refusal) = database.shared.refusal()
    {
        return Err(refusal);
    }
    let mut total = 0;
    for shelf in database.shared.shelves() {
        match weigh(&shelf) {
            Ok(bytes) => total += bytes,
            // Deleted meanwhile.
            Err(ShelfError::Dropped | ShelfError::Engine(EngineError::Gone)) => {}
            Err(error) => return Err(database.shared.explain(shelf.space, error)),
        }
    }
    Ok(total)
}

fn weigh(shelf: &Shelf) -> Result<u64, ShelfError> {
    let mut total = 0;
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        let (bytes, rest) = shelf.read(|tree| weigh_page(tree, &key))?;
        total += bytes;
        from = rest;
    }
    Ok(total)
}

/// Few enough that nobody who wants the shelf waits long.
const PAGE_ROWS: usize = 1000;

/// Answers where the next page begins, too.
fn weigh_page(tree: &Tree, from: &[u8]) -> Result<(u64, Option<Vec<u8>>), EngineError> {
    let (mut bytes, mut rows, mut rest) = (0, 0, None);
    tree.visit(from, |key, value| {
        if rows == PAGE_ROWS {
            rest = Some(key.to_vec());
            return Ok(false);
        }
        rows += 1;
        bytes += (key.len() + value.len()) as u64;
        Ok(true)
    })?;
    Ok((bytes, rest))
}

/// Said to who asked when the database is closed or opened again.
pub(super) const NOT_NOW: StoreError = StoreError::NotApplied { retry_after: RETRY_AFTER };

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::domain::Floor;
    use crate::store::conformance::{
        assert_ledger_adds_up, batch, delete, everything, key, ledger, open, put, row, seal, small,
        tenant,
    };
    use crate::store::sled_engine::recovery::SEGMENT;
    use crate::store::sled_engine::{SledOptions, SledStore};
    use crate::store::{Change, Row, Space, Store};

    const DATABASE: &str = "tenants-0000";

    fn space(number: u8) -> Space {
        Space::Tenant(tenant(number))
    }

    fn roomy() -> SledOptions {
        SledOptions { tenants_per_database: 100, ..small() }
    }

    fn open_roomy(folder: &tempfile::TempDir) -> Arc<SledStore> {
        Arc::new(SledStore::open(folder.path(), roomy(), &|_| {}).unwrap())
    }

    fn is_anywhere(folder: &Path, needle: &[u8]) -> bool {
        fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return is_anywhere(&path, needle);
            }
            fs::read(path).unwrap().windows(needle.len()).any(|bytes| bytes == needle)
        })
    }

    async fn compact(store: &SledStore, database: &str) -> Compacted {
        store.compact(database, &|_, _| {}).await.unwrap().unwrap()
    }

    /// Commits rows of about 1 KB, and answers the last version.
    async fn fill(store: &SledStore, space: Space, rows: u64) {
        for part in 0..rows.div_ceil(500) {
            let numbers = part * 500..rows.min((part + 1) * 500);
            let changes = numbers.map(|n| put(&format!("{n:05}"), n + 1, [n as u8; 1000]));
            store.commit(space, batch(changes.collect())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_deleted_or_replaced_is_in_no_file_after_a_compaction() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        fill(&store, space(1), 4000).await;
        let old = |n: u64| format!("ciphertext number {n} that must go");
        let change = vec![put("deleted", 5001, old(1)), put("replaced", 5002, old(2))];
        store.commit(space(1), batch(change)).await.unwrap();
        let change = vec![delete("deleted"), put("replaced", 5003, "what replaced it")];
        store.commit(space(1), batch(change)).await.unwrap();
        let deletes: Vec<Change> = (100..4000).map(|n| delete(&format!("{n:05}"))).collect();
        store.commit(space(1), batch(deletes)).await.unwrap();
        assert!(is_anywhere(folder.path(), old(1).as_bytes()));
        assert!(is_anywhere(folder.path(), old(2).as_bytes()));
        let before = (everything(&store, space(1)).await.unwrap(), ledger(&store, space(1)).await);
        let usage = store.usage().await.unwrap();
        let used = usage.iter().find(|used| used.name == DATABASE).unwrap();
        let compacted = compact(&store, DATABASE).await;
        // Reads end splits and merges of sled's that writes began, and a segment that they
        // fill is written.
        assert!(compacted.before.abs_diff(used.bytes) <= SEGMENT as u64, "{compacted:?} {used:?}");
        assert!(compacted.after < compacted.before / 2, "{compacted:?} {used:?}");
        assert!(!is_anywhere(folder.path(), b"that must go"));
        assert!(is_anywhere(folder.path(), b"what replaced it"));
        for reopened in [false, true] {
            if reopened {
                drop(store);
                store = open(&folder);
            }
            let rows = everything(&store, space(1)).await.unwrap();
            assert_eq!((rows, ledger(&store, space(1)).await), before);
            assert_ledger_adds_up(&store, space(1)).await;
        }
    }

    /// Its copy is opened twice, and goes no further than it did.
    #[tokio::test]
    async fn a_database_that_nothing_was_written_to_is_compacted_and_opens() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        compact(&store, "keyring").await;
        drop(store);
        assert_eq!(open(&folder).health().reason, None);
    }

    #[tokio::test]
    async fn each_database_is_listed_with_what_lives_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for n in 1..=3 {
            store.create_tenant(tenant(n)).await.unwrap();
        }
        fill(&store, space(3), 10).await;
        let usage = store.usage().await.unwrap();
        let names: Vec<_> = usage.iter().map(|used| used.name.as_str()).collect();
        assert_eq!(names, ["system", "keyring", DATABASE, "tenants-0001"]);
        // Ten rows of a version, a format and 1000 bytes under keys of 5 and 1,
        // and a ledger.
        let live: Vec<_> = usage.iter().map(|used| used.live.unwrap()).collect();
        assert!((10_150..10_350).contains(&live[3]), "{live:?}");
        assert_eq!(live[2], 0);
        let compacted = compact(&store, "tenants-0001").await;
        assert_eq!(usage[3].bytes, compacted.before);
        assert_eq!(store.compact("tenants-0002", &|_, _| {}).await, Ok(None));
    }

    /// What writers of one space may have left, by its key.
    type Model = BTreeMap<String, Option<Row>>;

    /// Puts, replaces and deletes until told to stop.
    async fn write(
        store: Arc<SledStore>,
        number: u8,
        writes: Arc<AtomicU64>,
        stop: Arc<AtomicBool>,
    ) -> Model {
        let mut model = Model::new();
        for n in 1u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let (a, b) = (format!("w{:03}", n * 7919 % 300), format!("x{:03}", n * 104_729 % 300));
            let changes = vec![put(&a, 10_000 + n, n.to_be_bytes().repeat(20)), delete(&b)];
            match store.commit(space(number), batch(changes)).await {
                Ok(()) => {}
                Err(StoreError::NotApplied { .. }) => continue,
                other => panic!("{other:?}"),
            }
            model.insert(a, Some(row(10_000 + n, n.to_be_bytes().repeat(20))));
            model.insert(b, None);
            let other = format!("x{:03}", n * 31 % 300);
            let changes = vec![put(&other, 10_000 + n, "x")];
            store.commit(space(number), batch(changes)).await.unwrap();
            model.insert(other, Some(row(10_000 + n, "x")));
            writes.fetch_add(1, Ordering::SeqCst);
        }
        model
    }

    /// Tenants of the same database, until told to stop. Answers who is left.
    async fn come_and_go(store: Arc<SledStore>, stop: Arc<AtomicBool>) -> Vec<u8> {
        let mut there: Vec<u8> = Vec::new();
        for number in (10..90).cycle() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            if there.contains(&number) {
                continue;
            }
            store.create_tenant(tenant(number)).await.unwrap();
            let changes = vec![put("of", 1, [number])];
            store.commit(space(number), batch(changes)).await.unwrap();
            there.push(number);
            if there.len() > 5 {
                store.drop_tenant(tenant(there.remove(2))).await.unwrap();
            }
        }
        there
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn readers_and_writers_go_on_during_a_compaction_and_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_roomy(&folder);
        for n in 1..=3 {
            store.create_tenant(tenant(n)).await.unwrap();
            fill(&store, space(n), 1500).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writes: [Arc<AtomicU64>; 3] = Default::default();
        let writers: Vec<_> = (1..=3)
            .zip(&writes)
            .map(|(n, writes)| (Arc::clone(&store), n, Arc::clone(writes), Arc::clone(&stop)))
            .map(|(store, n, writes, stop)| tokio::spawn(write(store, n, writes, stop)))
            .collect();
        let coming = tokio::spawn(come_and_go(Arc::clone(&store), Arc::clone(&stop)));
        let reads = Arc::new(AtomicU64::new(0));
        let reader = tokio::spawn({
            let (store, stop, reads) = (Arc::clone(&store), Arc::clone(&stop), Arc::clone(&reads));
            async move {
                while !stop.load(Ordering::SeqCst) {
                    let n = reads.fetch_add(1, Ordering::SeqCst) % 1500;
                    let found = store.get(space(2), &key(&format!("{n:05}"))).await;
                    assert_eq!(found, Ok(Some(row(n + 1, [n as u8; 1000]))));
                    tokio::task::yield_now().await;
                }
            }
        });
        for _ in 0..3 {
            let steps = AtomicU64::new(0);
            let progress = |done, of| {
                assert!(done <= of);
                steps.fetch_add(1, Ordering::SeqCst);
            };
            let now = || writes.iter().chain([&reads]).map(|count| count.load(Ordering::SeqCst));
            let before: Vec<_> = now().collect();
            store.compact(DATABASE, &progress).await.unwrap().unwrap();
            assert!(steps.load(Ordering::SeqCst) > 10);
            assert!(now().zip(&before).all(|(now, before)| now > *before));
        }
        stop.store(true, Ordering::SeqCst);
        let mut models = Vec::new();
        for writer in writers {
            models.push(writer.await.unwrap());
        }
        reader.await.unwrap();
        let there = coming.await.unwrap();
        store.close().await;
        drop(store);
        let store = open_roomy(&folder);
        let mut tenants: Vec<_> = there.iter().chain(&[1, 2, 3]).map(|n| tenant(*n)).collect();
        tenants.sort_unstable();
        assert_eq!(store.tenants().await.unwrap(), tenants);
        for (number, model) in (1..).zip(models) {
            assert_ledger_adds_up(&*store, space(number)).await;
            for (name, row) in model {
                assert_eq!(store.get(space(number), &key(&name)).await, Ok(row), "{name}");
            }
        }
        for number in there {
            assert_ledger_adds_up(&*store, space(number)).await;
            assert_eq!(store.get(space(number), &key("of")).await, Ok(Some(row(1, [number]))));
        }
    }

    #[tokio::test]
    async fn system_and_keyring_are_compacted_too_and_the_keyring_replaced_after() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        for space in [Space::System, Space::Keyring] {
            store.commit(space, batch(vec![put("a", 1, "one")])).await.unwrap();
        }
        for _ in 0..2 {
            compact(&store, "system").await;
            compact(&store, "keyring").await;
        }
        store.replace_keyring(vec![(key("a"), row(2, "two"))], Floor::START, seal()).await.unwrap();
        compact(&store, "keyring").await;
        store.create_tenant(tenant(2)).await.unwrap();
        drop(store);
        let store = open(&folder);
        assert_eq!(store.get(Space::System, &key("a")).await, Ok(Some(row(1, "one"))));
        assert_eq!(store.get(Space::Keyring, &key("a")).await, Ok(Some(row(2, "two"))));
        assert_eq!(store.tenants().await.unwrap(), [tenant(1), tenant(2)]);
    }

    #[tokio::test]
    async fn a_database_without_room_for_its_copy_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        drop(store);
        let options = SledOptions { full_floor_bytes: u64::MAX / 2, ..small() };
        let store = SledStore::open(folder.path(), options, &|_| {}).unwrap();
        let answer = store.compact(DATABASE, &|_, _| {}).await;
        assert_eq!(answer, Err(StoreError::Full));
        assert!(!folder.path().join(DATABASE).join("2").exists());
    }

    #[tokio::test]
    async fn a_compaction_that_cannot_begin_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        let in_the_way = folder.path().join(DATABASE).join("2");
        fs::write(&in_the_way, "no folder").unwrap();
        assert_eq!(store.compact(DATABASE, &|_, _| {}).await, Err(NOT_NOW));
        store.commit(space(1), batch(vec![put("a", 1, "still")])).await.unwrap();
        fs::remove_file(in_the_way).unwrap();
        compact(&store, DATABASE).await;
        assert_eq!(store.get(space(1), &key("a")).await, Ok(Some(row(1, "still"))));
    }

    #[tokio::test]
    async fn when_it_is_not_known_which_generation_counts_nothing_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        store.commit(space(1), batch(vec![put("a", 1, "kept")])).await.unwrap();
        let in_the_way = folder.path().join(DATABASE).join("CURRENT.new");
        fs::create_dir(&in_the_way).unwrap();
        assert_eq!(store.compact(DATABASE, &|_, _| {}).await, Err(StoreError::Unknown));
        let refused = store.commit(space(1), batch(vec![put("a", 2, "lost?")])).await;
        assert!(matches!(refused, Err(StoreError::Corrupted { .. })), "{refused:?}");
        assert!(store.health().reason.unwrap().contains("start the server again"));
        let usage = store.usage().await.unwrap();
        assert!(usage.iter().any(|used| used.name == DATABASE && used.live.is_none()));
        drop(store);
        fs::remove_dir(in_the_way).unwrap();
        let store = open(&folder);
        assert_eq!(store.get(space(1), &key("a")).await, Ok(Some(row(1, "kept"))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn closing_breaks_a_compaction_off() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_roomy(&folder);
        store.create_tenant(tenant(1)).await.unwrap();
        fill(&store, space(1), 5000).await;
        let (closing, store_to_close) = (AtomicBool::new(false), Arc::clone(&store));
        let (begun, begins) = tokio::sync::watch::channel(());
        let closed = tokio::spawn(async move {
            let mut begins = begins;
            begins.changed().await.unwrap();
            store_to_close.close().await;
        });
        let progress = |_, _| {
            if !closing.swap(true, Ordering::SeqCst) {
                begun.send(()).unwrap();
            }
        };
        let answer = store.compact(DATABASE, &progress).await;
        assert!(matches!(answer, Err(StoreError::NotApplied { .. })), "{answer:?}");
        closed.await.unwrap();
        drop(store);
        assert!(!folder.path().join(DATABASE).join("2").exists());
        let store = open_roomy(&folder);
        assert_ledger_adds_up(&*store, space(1)).await;
        assert_eq!(ledger(&*store, space(1)).await.rows, 5000);
    }
}
