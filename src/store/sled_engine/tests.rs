//! The faults of sled and of disks that the engine answers for.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::engine::Engine;
use super::mark::Mark;
use super::*;
use crate::store::conformance::{
    A, TestSeal, assert_ledger_adds_up, batch, delete, everything, expect, key, ledger, open, put,
    row, seal, small, tenant,
};
use crate::store::{Block, Chain, Ledger};

fn corrupted<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Corrupted { what }) => what,
        other => panic!("{other:?}"),
    }
}

fn open_error(folder: &tempfile::TempDir) -> OpenError {
    SledStore::open(folder.path(), small(), &|_| {}).err().unwrap()
}

/// A closed store in which each of `tenants` has a row.
async fn store_with(tenants: std::ops::RangeInclusive<u8>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.commit(Space::System, batch(vec![put("s", 1, "system")])).await.unwrap();
    for n in tenants {
        store.create_tenant(tenant(n)).await.unwrap();
        let changes = vec![put("a", 1, format!("of {n}"))];
        store.commit(Space::Tenant(tenant(n)), batch(changes)).await.unwrap();
    }
    folder
}

/// A closed store in which a tenant has a row of each of `numbers` too, written one by one.
async fn store_of(numbers: std::ops::Range<u64>, value: fn(u64) -> String) -> tempfile::TempDir {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    for n in numbers {
        store.commit(A, batch(vec![put(&format!("{n}"), n, value(n))])).await.unwrap();
    }
    folder
}

fn every_file(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(every_file(&path)) } else { files.push(path) }
    }
    files
}

// The keyring.

#[tokio::test]
async fn nothing_of_a_replaced_keyring_is_left_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let found = |needle: &[u8]| {
        every_file(folder.path())
            .iter()
            .any(|file| fs::read(file).unwrap().windows(needle.len()).any(|bytes| bytes == needle))
    };
    let store = open(&folder);
    let changes = vec![put("a", 1, "a wrapped key that must go")];
    store.commit(Space::Keyring, batch(changes)).await.unwrap();
    assert!(found(b"wrapped key that must go"));
    let rows = vec![(key("a"), row(2, "a wrapped key that stays"))];
    store.replace_keyring(rows, Floor::START, seal()).await.unwrap();
    assert!(!found(b"wrapped key that must go"));
    assert!(found(b"wrapped key that stays"));
    drop(store);
    let rows = everything(&open(&folder), Space::Keyring).await.unwrap();
    assert_eq!(rows, [(key("a"), row(2, "a wrapped key that stays"))]);
}

#[tokio::test]
async fn a_keyring_replacement_cut_off_before_it_counted_is_undone() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    store.commit(Space::Keyring, batch(vec![put("a", 1, "old")])).await.unwrap();
    let mut site = store.inner.keyring().database.site.clone();
    drop(store);
    site.generation = 2;
    let rows = [(key("a"), row(2, "new"))].into_iter().collect();
    drop(write_keyring(&site, rows, seal().seal(&Ledger::EMPTY)).unwrap());
    let store = open(&folder);
    assert_eq!(store.get(Space::Keyring, &key("a")).await, Ok(Some(row(1, "old"))));
    assert!(!site.path().exists());
}

#[tokio::test]
async fn a_keyring_replacement_cut_off_after_it_counted_is_finished() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    store.commit(Space::Keyring, batch(vec![put("a", 1, "old")])).await.unwrap();
    let old = store.inner.keyring().database.site.clone();
    drop(store);
    let new = Site { generation: 2, ..old.clone() };
    let rows = [(key("a"), row(2, "new"))].into_iter().collect();
    drop(write_keyring(&new, rows, seal().seal(&Ledger::EMPTY)).unwrap());
    new.make_current().unwrap();
    let store = open(&folder);
    assert_eq!(store.get(Space::Keyring, &key("a")).await, Ok(Some(row(2, "new"))));
    assert!(!old.path().exists());
}

// Rows in memory.

fn is_hot(store: &SledStore, space: Space, name: &str) -> bool {
    store.home(space).unwrap().shelf.hot.get(&stored_key(key(name).as_bytes())).is_ok()
}

#[tokio::test]
async fn a_row_that_was_read_is_in_memory_as_it_is_durable() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    assert!(!is_hot(&store, A, "a"));
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    assert!(is_hot(&store, A, "a"));
    store.commit(A, batch(vec![put("a", 2, "replaced"), put("b", 1, "beside")])).await.unwrap();
    assert!(is_hot(&store, A, "a") && !is_hot(&store, A, "b"));
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(2, "replaced"))));
    store.commit(A, batch(vec![delete("a")])).await.unwrap();
    assert!(!is_hot(&store, A, "a"));
    assert_eq!(store.get(A, &key("a")).await, Ok(None));
}

#[tokio::test]
async fn nothing_is_in_memory_of_a_tenant_that_was_dropped() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    store.drop_tenant(tenant(1)).await.unwrap();
    assert_eq!(store.get(A, &key("a")).await, Err(StoreError::TenantGone));
    store.create_tenant(tenant(1)).await.unwrap();
    assert_eq!(store.get(A, &key("a")).await, Ok(None));
}

#[tokio::test]
async fn nothing_is_in_memory_of_the_system_or_the_keyring() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    store.commit(Space::Keyring, batch(vec![put("s", 1, "keyring")])).await.unwrap();
    for (space, is) in [(Space::System, "system"), (Space::Keyring, "keyring")] {
        assert_eq!(store.get(space, &key("s")).await, Ok(Some(row(1, is))));
        assert!(!is_hot(&store, space, "s"));
    }
}

/// Both rows are of one commit. Each reader has been told of a version before it reads, by
/// the writer or by what it read last, of either row, and must not be answered an older one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reader_is_answered_what_was_before_the_version_it_knows_of() {
    let folder = store_with(1..=1).await;
    let store = Arc::new(open(&folder));
    let both = |version| batch(vec![put("a", version, "value"), put("b", version, "value")]);
    store.commit(A, both(2)).await.unwrap();
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(2));
    let last = 300;
    let reader = || {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            let mut seen = 2;
            for name in ["a", "b"].iter().cycle() {
                let known = seen.max(acknowledged.load(Ordering::SeqCst));
                seen = store.get(A, &key(name)).await.unwrap().unwrap().version;
                assert!(seen >= known, "{seen} was read after {known}");
                if seen == last {
                    break;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let readers: Vec<_> = (0..3).map(|_| reader()).collect();
    // They are in memory no longer again and again.
    let shelf = store.home(A).unwrap().shelf;
    let evictor = tokio::spawn(async move {
        for name in ["a", "b"].iter().cycle() {
            shelf.hot.evict(&stored_key(key(name).as_bytes()));
            tokio::task::yield_now().await;
        }
    });
    for version in 3..=last {
        store.commit(A, both(version)).await.unwrap();
        acknowledged.store(version, Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }
    evictor.abort();
}

// Openings cut off.

#[tokio::test]
async fn what_an_opening_left_of_a_snapshot_when_it_was_cut_off_is_no_snapshot() {
    let folder = store_with(1..=1).await;
    drop(open(&folder));
    let drafts = ["system/1", "tenants-0000/1"]
        .map(|generation| folder.path().join(generation).join("snap.7FFFFFFFFFFFFFFF.generating"));
    for (draft, left) in drafts.iter().zip([b"".as_slice(), b"torn in the middle"]) {
        fs::write(draft, left).unwrap();
    }
    let store = open(&folder);
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    assert!(drafts.iter().all(|draft| !draft.exists()));
}

/// The meta trees and one row of a drain, as if an error had broken it off before
/// its last part.
fn tear(site: &Site, row: (&str, &str)) -> redo::Redo {
    let disk = OnDisk::open(site, Presence::Required).unwrap();
    let sequence = disk.sequence() + 1;
    let write = |tree: &[u8], key: &[u8], value: &[u8]| TreeWrites {
        tree: disk.engine.tree(tree).unwrap(),
        writes: vec![(key.into(), Some(value.into()))],
    };
    let number = sequence.to_be_bytes();
    let all = [
        write(database::META_FIRST, b"sequence", &number),
        write(ROWS, row.0.as_bytes(), row.1.as_bytes()),
        write(database::META_LAST, b"sequence", &number),
    ];
    Engine::apply(&all[..1]).unwrap();
    disk.engine.flush().unwrap();
    redo::Redo::of(sequence, &all)
}

#[tokio::test]
async fn a_transaction_that_an_error_broke_off_is_finished_at_the_next_opening() {
    let folder = store_with(1..=1).await;
    let (site, _) =
        Site::find(folder.path(), "system", Kind::System, Presence::Required, 1 << 20).unwrap();
    let redo = tear(&site, ("key", "value"));
    let torn = OnDisk::open(&site, Presence::Required).err().unwrap();
    assert!(matches!(torn, OpenError::Corrupted { .. }), "{torn}");
    redo.store(&site.path()).unwrap();
    for _ in 0..2 {
        let disk = OnDisk::open(&site, Presence::Required).unwrap();
        assert_eq!(disk.sequence(), redo.sequence);
        let found = disk.engine.tree(ROWS).unwrap().get(b"key").unwrap();
        assert_eq!(found.as_deref(), Some(b"value".as_slice()));
    }
    assert_eq!(redo::Redo::find(&site.path()).unwrap(), None);
    assert_eq!(Mark::open(&site.path()).unwrap().sequence(), redo.sequence);
}

#[tokio::test]
async fn a_transaction_that_left_nothing_or_all_is_not_done_again() {
    let folder = store_with(1..=1).await;
    let (site, _) =
        Site::find(folder.path(), "system", Kind::System, Presence::Required, 1 << 20).unwrap();
    let disk = OnDisk::open(&site, Presence::Required).unwrap();
    let sequence = disk.sequence();
    drop(disk);
    for off in [0, 1] {
        redo::Redo { sequence: sequence + off, trees: Vec::new() }.store(&site.path()).unwrap();
        assert_eq!(OnDisk::open(&site, Presence::Required).unwrap().sequence(), sequence);
        assert_eq!(redo::Redo::find(&site.path()).unwrap(), None);
    }
}

// The mark.

fn damage_mark(generation: &Path, slots: &[u64]) {
    let file = OpenOptions::new().write(true).open(generation.join("mark")).unwrap();
    for at in slots {
        file.write_all_at(b"damage", *at).unwrap();
    }
}

#[tokio::test]
async fn a_database_behind_its_mark_does_not_open() {
    let folder = store_with(1..=1).await;
    let generation = folder.path().join("system/1");
    let mut mark = Mark::open(&generation).unwrap();
    let acknowledged = mark.sequence();
    assert!(acknowledged > 0);
    mark.advance(acknowledged + 1, 0).unwrap();
    assert!(
        matches!(open_error(&folder), OpenError::Corrupted { database, .. } if database == "system")
    );
}

#[tokio::test]
async fn a_database_ahead_of_its_mark_opens_and_moves_it() {
    let folder = store_with(1..=1).await;
    let generation = folder.path().join("system/1");
    let acknowledged = Mark::open(&generation).unwrap().sequence();
    fs::remove_file(generation.join("mark")).unwrap();
    Mark::create(&generation).unwrap();
    drop(open(&folder));
    assert_eq!(Mark::open(&generation).unwrap().sequence(), acknowledged);
}

/// What sled would serve older contents of, or nothing: it takes what is missing for free.
#[tokio::test]
async fn a_database_whose_log_was_cut_does_not_open_wherever_that_was() {
    let folder = store_with(1..=1).await;
    let (store, mut version) = (open(&folder), 1);
    // Some are replaced often, so that segments are free and used again.
    for round in 0..40 {
        for n in (0..200).filter(|n| round == 0 || n % 5 == 0) {
            version += 1;
            let row = put(&format!("row {n}"), version, "x".repeat(3_000));
            store.commit(A, batch(vec![row])).await.unwrap();
        }
    }
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    drop(store);
    let length = fs::metadata(killed.path().join("tenants-0000/1/db")).unwrap().len();
    let segment = recovery::SEGMENT as u64;
    assert!(length > 3 * segment, "{length}");
    let within = [1, length - length % segment - 1, length - 5_000];
    for cut in (0..length).step_by(recovery::SEGMENT).chain(within) {
        let folder = tempfile::tempdir().unwrap();
        copy(killed.path(), folder.path());
        let db = folder.path().join("tenants-0000/1/db");
        OpenOptions::new().write(true).open(db).unwrap().set_len(cut).unwrap();
        let store = open(&folder);
        let reason = store.health().reason.unwrap_or_default();
        assert!(reason.contains("was cut"), "{cut} of {length}: {reason}");
        assert!(corrupted(store.get(A, &key("row 1")).await).contains("tenants-0000"));
    }
    let store = open(&killed);
    assert_eq!(store.health().reason, None);
}

/// sled gives back what stands last in its log and is free.
#[tokio::test]
async fn a_database_that_gave_back_a_part_of_its_log_opens_as_a_kill_leaves_it() {
    let folder = store_with(1..=1).await;
    let (store, mut version) = (open(&folder), 1);
    let db = folder.path().join("tenants-0000/1/db");
    let (mut longest, mut shorter) = (0, 0);
    for round in 0..30 {
        for n in 0..60 {
            version += 1;
            let key = format!("row {n}");
            let change =
                if round % 3 == 2 { delete(&key) } else { put(&key, version, "x".repeat(3_000)) };
            store.commit(A, batch(vec![change])).await.unwrap();
        }
        let length = fs::metadata(&db).unwrap().len();
        longest = longest.max(length);
        shorter += usize::from(length < longest);
        let killed = tempfile::tempdir().unwrap();
        copy(folder.path(), killed.path());
        assert_eq!(open(&killed).health().reason, None, "{round}");
    }
    assert!(shorter > 0, "it never did: {longest}");
}

#[tokio::test]
async fn a_database_without_a_mark_does_not_open() {
    for lost in [true, false] {
        let folder = store_with(1..=1).await;
        let generation = folder.path().join("keyring/1");
        if lost {
            fs::remove_file(generation.join("mark")).unwrap();
        } else {
            damage_mark(&generation, &[0, 4096]);
        }
        assert!(
            matches!(open_error(&folder), OpenError::Corrupted { database, .. } if database == "keyring")
        );
    }
}

#[tokio::test]
async fn one_damaged_slot_of_a_mark_costs_nothing() {
    for slot in [0, 4096] {
        let folder = store_with(1..=1).await;
        damage_mark(&folder.path().join("tenants-0000/1"), &[slot]);
        let store = open(&folder);
        assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
        assert_eq!(store.health().reason, None);
    }
}

#[tokio::test]
async fn a_rolled_back_tenant_database_is_named_and_the_others_serve() {
    // Tenants 1 and 2 are in the first database, 3 in the second.
    let folder = store_with(1..=3).await;
    let mut mark = Mark::open(&folder.path().join("tenants-0000/1")).unwrap();
    mark.advance(mark.sequence() + 1, 0).unwrap();
    let store = open(&folder);
    assert!(corrupted(store.get(A, &key("a")).await).contains("tenants-0000"));
    assert!(
        corrupted(store.commit(A, batch(vec![put("a", 2, "")])).await).contains("tenants-0000")
    );
    assert!(store.health().reason.unwrap().contains("tenants-0000"));
    let three = Space::Tenant(tenant(3));
    assert_eq!(store.get(three, &key("a")).await, Ok(Some(row(1, "of 3"))));
    store.commit(three, batch(vec![put("a", 2, "still")])).await.unwrap();
    store.create_tenant(tenant(4)).await.unwrap();
    assert_eq!(store.tenants().await.unwrap().len(), 4);
}

// Failing writes.

#[tokio::test]
async fn after_a_failed_mark_the_outcome_is_unknown_and_the_store_recovers() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let before = ledger(&store, A).await;
    // What is in memory of it must not outlive the failure.
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    let generation = folder.path().join("tenants-0000/1");
    fs::write(generation.join(mark::tests::FAIL_ONCE), "").unwrap();
    let answer = store.commit(A, batch(vec![put("a", 2, "two"), put("b", 3, "three")])).await;
    assert_eq!(answer, Err(StoreError::Unknown));
    // It is opened again on the committer's thread; until then it says so.
    let found = loop {
        match store.get(A, &key("a")).await {
            Err(StoreError::NotApplied { .. }) => std::thread::yield_now(),
            found => break found.unwrap().unwrap(),
        }
    };
    let both = found == row(2, "two");
    assert_eq!(store.get(A, &key("b")).await.unwrap().is_some(), both);
    assert_eq!(ledger(&store, A).await.commits, before.commits + u64::from(both));
    assert_ledger_adds_up(&store, A).await;
    while store.commit(A, batch(vec![put("a", 4, "four")])).await.is_err() {
        std::thread::yield_now();
    }
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(4, "four"))));
    assert!(store.health().writable);
    drop(store);
    assert_ledger_adds_up(&open(&folder), A).await;
}

/// In an order in which a copy is as a kill would leave it: a log is cut only once its mark
/// says so.
pub(super) fn entries(folder: &Path) -> Vec<fs::DirEntry> {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name() == "mark");
    entries
}

/// What lies in a folder, to another.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in entries(from) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_drain_that_breaks_off_over_damage_never_happened_after_the_next_start() {
    let folder = store_with(1..=3).await;
    let store = open(&folder);
    store.commit(A, batch(vec![put("b", 2, "two")])).await.unwrap();
    let before = ledger(&store, A).await;
    let generation = folder.path().join("tenants-0000/1");
    fs::write(generation.join(database::tests::BREAK_OFF), "").unwrap();
    let halved = batch(vec![put("a", 3, "half"), put("c", 3, "half")]);
    assert_eq!(store.commit(A, halved).await, Err(StoreError::Unknown));
    // What it touched is shown to nobody, the rest is; nothing more is written.
    let again = store.commit(A, batch(vec![put("d", 4, "")])).await;
    assert!(corrupted(again).contains("tenants-0000"));
    assert!(corrupted(store.get(A, &key("a")).await).contains("tenants-0000"));
    assert_eq!(store.get(A, &key("b")).await, Ok(Some(row(2, "two"))));
    let two = Space::Tenant(tenant(2));
    assert_eq!(store.get(two, &key("a")).await, Ok(Some(row(1, "of 2"))));
    assert!(corrupted(store.commit(two, batch(vec![])).await).contains("tenants-0000"));
    assert!(store.health().reason.unwrap().contains("tenants-0000"));
    store.commit(Space::Tenant(tenant(3)), batch(vec![put("a", 5, "")])).await.unwrap();
    store.close().await;
    assert!(matches!(store.get(A, &key("b")).await, Err(StoreError::Corrupted { .. })));
    drop(store);

    // The lock is held until the process ends, as a kill would end it.
    let next = tempfile::tempdir().unwrap();
    copy(folder.path(), next.path());
    let store = open(&next);
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    assert_eq!(store.get(A, &key("c")).await, Ok(None));
    assert_eq!(ledger(&store, A).await, before);
    assert_ledger_adds_up(&store, A).await;
    store.commit(A, batch(vec![put("a", 6, "six")])).await.unwrap();
}

/// Panics when asked to seal.
struct Panicking;

impl LedgerSeal for Panicking {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        seal().digest_row(key, row)
    }
    fn pack(&self, entries: &[&str]) -> Block {
        seal().pack(entries)
    }
    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        seal().link(chain, block)
    }
    fn seal(&self, _: &Ledger) -> Vec<u8> {
        panic!("a panic the test asked for")
    }
    fn open(&self, sealed: &[u8]) -> Result<Ledger, crate::store::ForgedLedger> {
        seal().open(sealed)
    }
}

#[tokio::test]
async fn a_panic_in_the_committer_ends_neither_the_process_nor_the_store() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let bad = Batch { seal: Arc::new(Panicking), ..batch(vec![put("a", 2, "two")]) };
    assert_eq!(store.commit(A, bad).await, Err(StoreError::Unknown));
    while store.commit(A, batch(vec![expect("a", Some(1)), put("b", 3, "")])).await.is_err() {
        std::thread::yield_now();
    }
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
}

#[tokio::test]
async fn a_ledger_that_another_key_sealed_stops_the_commit() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let forger = |changes| Batch { seal: Arc::new(TestSeal(8)), ..batch(changes) };
    let answer = store.commit(A, forger(vec![put("a", 2, "forged")])).await;
    assert!(corrupted(answer).contains("ledger"));
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    store.commit(A, batch(vec![put("a", 2, "genuine")])).await.unwrap();
}

// Snapshots.

async fn names_of(snapshot: &mut dyn Snapshot) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    loop {
        let page = snapshot.next(0).await.unwrap();
        names.extend(page.rows.iter().map(|(key, _)| key.as_bytes().to_vec()));
        if !page.more {
            return names;
        }
    }
}

fn is_not_applied<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotApplied { .. }))
}

/// With 20 rows of 1,000 bytes, and memory for the images of about ten.
async fn tight(patience: Duration) -> (tempfile::TempDir, SledStore) {
    let folder = store_with(1..=2).await;
    let options = SledOptions { snapshot_bytes: 12_000, snapshot_patience: patience, ..small() };
    let store = SledStore::open(folder.path(), options, &|_| {}).unwrap();
    let rows = (0..20).map(|n| put(&format!("r{n:02}"), 2, vec![0; 1_000])).collect();
    store.commit(A, batch(rows)).await.unwrap();
    (folder, store)
}

fn replace_rows(rows: std::ops::Range<u64>, version: u64) -> Batch {
    batch(rows.map(|n| put(&format!("r{n:02}"), version, "short")).collect())
}

#[tokio::test]
async fn writes_that_a_snapshot_has_no_room_for_are_refused_until_it_is_read() {
    let (_folder, store) = tight(Duration::MAX).await;
    let mut snapshot = store.snapshot_in_pages(A, &[b"r"], 10).await.unwrap();
    store.commit(A, replace_rows(0..10, 3)).await.unwrap();
    let before = everything(&store, A).await.unwrap();
    assert!(is_not_applied(&store.commit(A, replace_rows(10..20, 4)).await));
    assert_eq!(everything(&store, A).await.unwrap(), before);
    // What needs no more is not refused, nor are others.
    store.commit(A, replace_rows(0..10, 5)).await.unwrap();
    store.commit(A, batch(vec![put("x", 5, "outside of its prefixes")])).await.unwrap();
    let two = Space::Tenant(tenant(2));
    store.commit(two, batch(vec![put("r", 5, vec![0; 3_000])])).await.unwrap();
    store.commit(two, batch(vec![delete("r")])).await.unwrap();
    assert_eq!(snapshot.next(0).await.unwrap().rows.len(), 10);
    store.commit(A, replace_rows(10..20, 6)).await.unwrap();
    let page = snapshot.next(0).await.unwrap();
    assert_eq!(page.rows.len(), 10);
    assert!(page.rows.iter().all(|(_, found)| *found == row(2, vec![0; 1_000])));
    assert!(!page.more);
    assert_eq!(store.snapshot_bytes_held(), 0);
    assert_ledger_adds_up(&store, A).await;
}

#[tokio::test]
async fn a_forgotten_snapshot_ends_when_a_writer_needs_its_memory() {
    let (_folder, store) = tight(Duration::ZERO).await;
    let mut forgotten = store.snapshot(A, &[b"r"]).await.unwrap();
    store.commit(A, replace_rows(0..10, 3)).await.unwrap();
    assert!(store.snapshot_bytes_held() > 10_000);
    store.commit(A, replace_rows(10..20, 4)).await.unwrap();
    assert!(is_not_applied(&forgotten.next(0).await));
    assert_eq!(store.snapshot_bytes_held(), 0);
}

#[tokio::test]
async fn a_dropped_snapshot_leaves_nothing_behind() {
    let (_folder, store) = tight(Duration::MAX).await;
    let dropped = store.snapshot(A, &[b"r"]).await.unwrap();
    store.commit(A, replace_rows(0..10, 3)).await.unwrap();
    assert!(is_not_applied(&store.commit(A, replace_rows(10..20, 4)).await));
    drop(dropped);
    assert_eq!(store.snapshot_bytes_held(), 0);
    store.commit(A, replace_rows(10..20, 5)).await.unwrap();
    assert_eq!(store.snapshot_bytes_held(), 0);
}

#[tokio::test]
async fn a_snapshot_outlives_a_failed_drain_and_the_opening_after_it() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let mut snapshot = store.snapshot_in_pages(A, &[b""], 1).await.unwrap();
    let generation = folder.path().join("tenants-0000/1");
    fs::write(generation.join(mark::tests::FAIL_ONCE), "").unwrap();
    let changes = vec![delete("a"), put("0", 2, "before"), put("b", 2, "behind")];
    assert_eq!(store.commit(A, batch(changes)).await, Err(StoreError::Unknown));
    while store.commit(A, batch(vec![put("a", 3, "three")])).await.is_err() {
        std::thread::yield_now();
    }
    let page = snapshot.next(0).await.unwrap();
    assert_eq!(page.rows, [(key("a"), row(1, "of 1"))]);
    assert_eq!(names_of(&mut *snapshot).await, [""; 0].map(Vec::from));
}

#[test]
#[should_panic(expected = "no prefix of a snapshot begins another")]
fn prefixes_of_a_snapshot_that_overlap_are_a_fault_of_the_caller() {
    let holdings = Arc::new(Holdings::new(0, Duration::ZERO));
    let shared = Arc::new(Shared::new("", 0, Status::Serving));
    let shelf = Arc::new(Shelf::new(A, &HotRows::new(0)));
    SledSnapshot::new(&holdings, &shared, &shelf, &[b"a", b"ab"], 1);
}

// Bounds.

/// Stops the committer in `seal` until told to go on.
struct Blocking {
    reached: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl LedgerSeal for Blocking {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        seal().digest_row(key, row)
    }
    fn pack(&self, entries: &[&str]) -> Block {
        seal().pack(entries)
    }
    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        seal().link(chain, block)
    }
    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        self.reached.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        seal().seal(ledger)
    }
    fn open(&self, sealed: &[u8]) -> Result<Ledger, crate::store::ForgedLedger> {
        seal().open(sealed)
    }
}

/// A commit at which the committer stands until it is told to go on: what is sent
/// meanwhile waits, and is of one drain.
async fn stand(store: &Arc<SledStore>) -> (JoinHandle<Result<(), StoreError>>, Sender<()>) {
    let ((reached, at_seal), (go, go_on)) = (channel(), channel());
    let seal = Arc::new(Blocking { reached, go_on: Mutex::new(go_on) });
    let store = Arc::clone(store);
    let standing = tokio::spawn(async move {
        store.commit(A, Batch { seal, ..batch(vec![put("x", 2, "")]) }).await
    });
    tokio::task::yield_now().await;
    at_seal.recv().unwrap();
    (standing, go)
}

#[tokio::test]
async fn nobody_is_told_of_a_row_that_a_failed_drain_would_have_put_there() {
    let folder = store_with(1..=1).await;
    let store = Arc::new(open(&folder));
    let (standing, go) = stand(&store).await;
    let seal = Arc::new(Panicking);
    let mut put_there = store.commit(A, batch(vec![put("b", 3, "three")]));
    let mut meets_it = store.commit(A, batch(vec![expect("b", None), put("b", 4, "four")]));
    let mut fails = store.commit(A, Batch { seal, ..batch(vec![put("a", 5, "five")]) });
    for commit in [&mut put_there, &mut meets_it, &mut fails] {
        assert!(commit.as_mut().now_or_never().is_none());
    }
    go.send(()).unwrap();
    standing.await.unwrap().unwrap();
    assert_eq!(put_there.await, Err(StoreError::Unknown));
    assert_eq!(fails.await, Err(StoreError::Unknown));
    let met = meets_it.await;
    assert!(is_not_applied(&met), "{met:?}");
}

#[tokio::test]
async fn one_tenant_fills_its_eighth_of_the_queue_and_nobody_elses() {
    let folder = store_with(1..=2).await;
    let store = Arc::new(open(&folder));
    let (first, go) = stand(&store).await;
    let big = |n: u64| {
        let name = |i: u64| format!("{n}-{i:03}");
        (0..250).map(|i| put(&name(i), 3 + n, vec![0; Row::MAX_BYTES])).collect()
    };
    let mut waiting = Vec::new();
    let refused = 'full: {
        for n in 0..100 {
            let mut commit = store.commit(A, batch(big(n)));
            match commit.as_mut().now_or_never() {
                Some(answer) => break 'full answer,
                None => waiting.push(commit),
            }
        }
        panic!("the queue has no bound");
    };
    assert!(matches!(refused, Err(StoreError::NotApplied { .. })), "{refused:?}");
    assert!((1..=5).contains(&waiting.len()), "{}", waiting.len());
    let mut other = store.commit(Space::Tenant(tenant(2)), batch(vec![put("x", 2, "")]));
    assert!(other.as_mut().now_or_never().is_none());
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    other.await.unwrap();
    for commit in waiting {
        commit.await.unwrap();
    }
    store.commit(A, batch(big(99))).await.unwrap();
    assert_ledger_adds_up(store.as_ref(), A).await;
}

#[tokio::test]
async fn below_the_first_floor_puts_are_refused_and_below_the_second_deletes_too() {
    let folder = store_with(1..=1).await;
    let open = |options| SledStore::open(folder.path(), options, &|_| {}).unwrap();
    let store = open(SledOptions { full_floor_bytes: u64::MAX, ..small() });
    let changes = vec![put("b", 2, ""), delete("a")];
    assert_eq!(store.commit(A, batch(changes)).await, Err(StoreError::Full));
    assert_eq!(store.create_tenant(tenant(9)).await, Err(StoreError::Full));
    assert_eq!(store.replace_keyring(vec![], Floor::START, seal()).await, Err(StoreError::Full));
    assert!(!store.health().writable);
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    store.commit(A, batch(vec![delete("a")])).await.unwrap();
    // One may be a revocation.
    store.commit(Space::System, batch(vec![put("v", 1, "")])).await.unwrap();
    drop(store);

    let hard = SledOptions { full_floor_bytes: u64::MAX, hard_floor_bytes: u64::MAX, ..small() };
    let store = open(hard);
    assert_eq!(store.commit(A, batch(vec![delete("a")])).await, Err(StoreError::Full));
    let system = store.commit(Space::System, batch(vec![put("v", 2, "")])).await;
    assert_eq!(system, Err(StoreError::Full));
    assert_eq!(store.drop_tenant(tenant(1)).await, Err(StoreError::Full));
    assert_eq!(everything(&store, A).await, Ok(Vec::new()));
}

#[tokio::test]
async fn no_page_is_ever_stored_outside_of_the_log() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let mut version = 10;
    for (value, size) in [(0, 64 * 1024), (1, 1024 * 1024), (2, 1024 * 1024)] {
        let chunks = (0..size / Row::MAX_BYTES + 1).map(|chunk| {
            version += 1;
            put(&format!("{value}-{chunk:05}"), version, vec![value as u8; Row::MAX_BYTES])
        });
        store.commit(A, batch(chunks.collect())).await.unwrap();
    }
    for round in 0..25u64 {
        let mixed = (0..200u64).map(|i| {
            let number = (round * 200 + i).wrapping_mul(2_654_435_761) % 5000;
            let size = (number * 7 % (Row::MAX_BYTES as u64 + 1)) as usize;
            put(&format!("{}{number}", "m".repeat(200)), 5000 + round * 200 + i, vec![3; size])
        });
        let (first, second): (Vec<_>, Vec<_>) =
            mixed.enumerate().partition(|(index, _)| index % 2 == 0);
        for half in [first, second] {
            let changes = half.into_iter().map(|(_, change)| change).collect();
            store.commit(A, batch(changes)).await.unwrap();
        }
    }
    let blobs = folder.path().join("tenants-0000/1/blobs");
    assert!(blobs.is_dir() && files::is_empty(&blobs).unwrap());
    drop(store);
    let store = open(&folder);
    assert_ledger_adds_up(&store, A).await;
    drop(store);
    fs::write(blobs.join("77"), "a page").unwrap();
    assert!(open(&folder).health().reason.unwrap().contains("tenants-0000"));
}

// Damage.

#[tokio::test]
async fn a_flipped_byte_is_an_error_and_never_a_wrong_value_or_a_crash() {
    let value = |n: u64| format!("{n}").repeat(60);
    let folder = store_of(2..120, value).await;
    let file = folder.path().join("tenants-0000/1/db");
    let sound = fs::read(&file).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    let mut noticed = 0;
    for step in 0..24 {
        let mut flipped = sound.clone();
        flipped[step * used / 24 + 13] ^= 0x10;
        fs::write(&file, flipped).unwrap();
        for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
            // A snapshot would hide what a scan of the log finds.
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
                fs::remove_file(path).unwrap();
            }
        }
        let store = open(&folder);
        assert_eq!(store.get(Space::System, &key("s")).await, Ok(Some(row(1, "system"))));
        for n in 2..120u64 {
            match store.get(A, &key(&format!("{n}"))).await {
                Ok(found) => assert_eq!(found, Some(row(n, value(n)))),
                Err(StoreError::Corrupted { what }) => {
                    assert!(what.contains("tenants-0000"));
                    noticed += 1;
                    break;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    assert!(noticed > 0);
}

/// Cut when it is open: what sled writes at its opening may make it as long as before.
#[tokio::test]
async fn a_file_that_ends_too_early_is_damaged_and_not_busy() {
    let value = |n: u64| format!("{n}").repeat(1_000);
    let folder = store_of(2..40, value).await;
    // The second opening finds something to write a snapshot of.
    drop(open(&folder));
    let sound = fs::read(folder.path().join("tenants-0000/1/db")).unwrap();
    for n in 2..40u64 {
        let text = value(n).into_bytes();
        let newest = sound.windows(text.len()).rposition(|bytes| bytes == text).unwrap();
        let cut = tempfile::tempdir().unwrap();
        copy(folder.path(), cut.path());
        let store = open(&cut);
        let file = OpenOptions::new().write(true).open(cut.path().join("tenants-0000/1/db"));
        file.unwrap().set_len((newest + text.len() / 2) as u64).unwrap();
        let found = store.get(A, &key(&format!("{n}"))).await;
        assert!(corrupted(found).contains("tenants-0000"));
        assert_eq!(store.get(Space::System, &key("s")).await, Ok(Some(row(1, "system"))));
    }
}

#[tokio::test]
async fn the_small_files_of_sled_are_made_anew_where_a_crash_or_damage_left_them_useless() {
    let folder = store_with(1..=1).await;
    // The second opening finds something to write a snapshot of.
    drop(open(&folder));
    let generation = folder.path().join("tenants-0000/1");
    let conf = fs::read(generation.join("conf")).unwrap();
    let snapshot = || {
        let files = every_file(&generation).into_iter();
        let is_one = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().contains("snap.");
        files.filter(is_one).collect::<Vec<_>>()
    };
    for text in [None, Some(""), Some("segment_size: 1\n")] {
        let [only] = &snapshot()[..] else { panic!("{:?}", snapshot()) };
        let unfinished = only.with_extension("FFFFFFFFFFFFFFFF.generating");
        match text {
            None => {
                fs::remove_file(generation.join("conf")).unwrap();
                fs::remove_file(only).unwrap();
            }
            Some(text) => {
                fs::write(generation.join("conf"), text).unwrap();
                fs::write(only, text).unwrap();
                fs::write(&unfinished, text).unwrap();
            }
        }
        let store = open(&folder);
        assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
        assert!(!unfinished.exists());
        drop(store);
        assert_eq!(fs::read(generation.join("conf")).unwrap(), conf);
    }
}

/// Several segments of rows, most of them replaced since.
async fn large_store() -> tempfile::TempDir {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    for round in 0..4u64 {
        for n in 0..40u64 {
            if round == 0 || n % 2 == 0 {
                let version = round * 100 + n + 2;
                let rows = (0..4).map(|part| put(&format!("{n}-{part}"), version, vec![7; 1_500]));
                store.commit(A, batch(rows.collect())).await.unwrap();
            }
        }
    }
    folder
}

#[tokio::test]
async fn a_torn_sector_anywhere_in_the_log_takes_nothing_back_unseen() {
    let folder = large_store().await;
    let sound = everything(&open(&folder), A).await.unwrap();
    let (mut refused, mut harmless) = (0, 0);
    let db = folder.path().join("tenants-0000/1/db");
    let length = fs::metadata(&db).unwrap().len();
    for at in (0..length / 512).step_by(97).map(|sector| sector * 512) {
        let torn = tempfile::tempdir().unwrap();
        copy(folder.path(), torn.path());
        let generation = torn.path().join("tenants-0000/1");
        for file in every_file(&generation) {
            if file.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
                fs::remove_file(file).unwrap();
            }
        }
        let file = OpenOptions::new().write(true).open(generation.join("db")).unwrap();
        file.write_all_at(&[0xa5; 512], at).unwrap();
        let store = open(&torn);
        let lost = match everything(&store, A).await {
            Err(error) => corrupted::<()>(Err(error)).contains("tenants-0000"),
            Ok(rows) => {
                assert_eq!(rows, sound, "sector at {at}");
                false
            }
        };
        *(if lost { &mut refused } else { &mut harmless }) += 1;
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_said_to_be_one() {
    let folder = store_with(1..=1).await;
    let file = fs::File::open(folder.path().join("system/1/db")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(open_error(&folder), OpenError::InUse { database: "system".to_owned() });
    drop(file);
    open(&folder);
}

// Placement.

#[tokio::test]
async fn tenants_spread_over_databases_and_fill_gaps() {
    let folder = store_with(1..=5).await;
    let store = open(&folder);
    let databases = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("tenants-")).count()
    };
    assert_eq!(databases(), 3);
    store.drop_tenant(tenant(2)).await.unwrap();
    store.create_tenant(tenant(6)).await.unwrap();
    store.create_tenant(tenant(7)).await.unwrap();
    assert_eq!(databases(), 3);
    store.create_tenant(tenant(8)).await.unwrap();
    assert_eq!(databases(), 4);
    drop(store);
    let steps = Mutex::new(Vec::new());
    let store = SledStore::open(folder.path(), small(), &|step| {
        steps.lock().unwrap().push(step.opened);
    });
    let ids = [1, 3, 4, 5, 6, 7, 8].map(tenant);
    assert_eq!(store.unwrap().tenants().await.unwrap(), ids);
    let mut steps = steps.into_inner().unwrap();
    steps.sort_unstable();
    assert_eq!(steps, [2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_creation_cut_off_before_its_record_leaves_nothing() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    let database = Arc::clone(&store.inner.tenants().databases[&0]);
    let shelf = Arc::new(Shelf::new(Space::Tenant(tenant(2)), &HotRows::new(0)));
    let create = |done| Work::Create { shelf: Arc::clone(&shelf), done };
    let made = std::thread::scope(|scope| scope.spawn(|| database.submit_and_wait(create)).join());
    made.unwrap().unwrap();
    drop((database, shelf, store));
    let store = open(&folder);
    assert_eq!(store.tenants().await.unwrap(), [tenant(1)]);
    store.create_tenant(tenant(2)).await.unwrap();
    assert_eq!(everything(&store, Space::Tenant(tenant(2))).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_deletion_cut_off_after_its_record_is_finished() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    store.inner.system.database.record(Record::Tenant(tenant(1), 0), false).unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(store.tenants().await.unwrap(), []);
    store.create_tenant(tenant(1)).await.unwrap();
    assert_eq!(everything(&store, A).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_tenant_whose_rows_are_gone_is_corrupted_and_not_empty() {
    let folder = store_with(1..=1).await;
    let store = open(&folder);
    store.inner.system.database.record(Record::Tenant(tenant(2), 0), true).unwrap();
    drop(store);
    let store = open(&folder);
    assert!(
        corrupted(store.get(Space::Tenant(tenant(2)), &key("a")).await).contains("tenants-0000")
    );
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
}

// CURRENT.

#[tokio::test]
async fn a_first_start_cut_off_anywhere_starts_again() {
    let finished = store_with(1..=1).await;
    for step in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("system/1")).unwrap();
        if step > 0 {
            let db = fs::read(finished.path().join("system/1/db")).unwrap();
            fs::write(at("system/1/db"), db).unwrap();
        }
        if step > 1 {
            fs::write(at("system/CURRENT.new"), "1").unwrap();
        }
        if step > 2 {
            fs::create_dir_all(at("keyring/1")).unwrap();
        }
        let store = open(&folder);
        assert_eq!(everything(&store, Space::System).await, Ok(Vec::new()));
        store.create_tenant(tenant(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_or_damaged_current_is_not_a_fresh_start() {
    for (database, damage) in [
        ("system", None),
        ("system", Some("x")),
        ("system", Some("7\n")),
        ("keyring", None),
        ("keyring", Some("")),
    ] {
        let folder = store_with(1..=1).await;
        let current = folder.path().join(database).join("CURRENT");
        match damage {
            None => fs::remove_file(&current).unwrap(),
            Some(text) => fs::write(&current, text).unwrap(),
        }
        let error = open_error(&folder);
        assert!(matches!(error, OpenError::Corrupted { database: named, .. } if named == database));
        assert!(folder.path().join(database).join("1/db").exists());
    }
}

#[tokio::test]
async fn a_lost_tenant_database_is_named_and_the_others_serve() {
    let folder = store_with(1..=3).await;
    fs::remove_dir_all(folder.path().join("tenants-0000")).unwrap();
    let store = open(&folder);
    assert!(corrupted(store.get(A, &key("a")).await).contains("tenants-0000"));
    let three = Space::Tenant(tenant(3));
    assert_eq!(store.get(three, &key("a")).await, Ok(Some(row(1, "of 3"))));
}

#[tokio::test]
async fn other_generations_are_unlinked_at_open() {
    let folder = store_with(1..=1).await;
    for other in ["system/2", "tenants-0000/7"] {
        fs::create_dir_all(folder.path().join(other)).unwrap();
        fs::write(folder.path().join(other).join("db"), "left over").unwrap();
    }
    let store = open(&folder);
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of 1"))));
    assert!(!folder.path().join("system/2").exists());
    assert!(!folder.path().join("tenants-0000/7").exists());
}

#[test]
fn a_store_that_is_being_made_is_left_alone_by_a_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = super::lock(folder.path()).unwrap();
    let half_made = folder.path().join("system").join("1");
    std::fs::create_dir_all(&half_made).unwrap();
    let second = SledStore::open(folder.path(), SledOptions::default(), &|_| {});
    assert!(matches!(second.err(), Some(OpenError::InUse { .. })));
    assert!(half_made.exists(), "another's half-made files are no leftovers");
    drop(first);
    assert!(SledStore::open(folder.path(), SledOptions::default(), &|_| {}).is_ok());
}

// Memory.

#[test]
fn no_more_is_given_away_than_is_configured() {
    for total in [256 << 20, 2 << 30, 64 << 30] {
        let options = SledOptions { cache_bytes_total: total, ..SledOptions::default() };
        let fixed = 2 * options.fixed_cache();
        for databases in [1, 2, 20] {
            // Pages take twice what sled is told.
            let pages = 2 * databases * options.tenants_cache(databases as usize);
            assert!(fixed + options.hot_bytes() + pages <= total, "{total} for {databases}");
        }
    }
}

#[test]
fn rows_have_half_of_little_and_three_quarters_of_much() {
    let rows = |total| {
        let options = SledOptions { cache_bytes_total: total, ..SledOptions::default() };
        options.hot_bytes()
    };
    assert_eq!(rows(256 << 20), 112 << 20);
    assert_eq!(rows(2 << 30), 1512 << 20);
}

// Openings.

/// sled's, by the log it covers.
fn snapshots_of(generation: &Path) -> Vec<String> {
    let names = fs::read_dir(generation).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("snap.")).collect()
}

#[tokio::test]
async fn a_stop_after_many_writes_leaves_a_snapshot_for_the_next_start() {
    let folder = store_with(1..=1).await;
    let generation = folder.path().join("tenants-0000/1");
    for (many, batches) in [(false, 1), (true, 9)] {
        let store = open(&folder);
        let before = snapshots_of(&generation);
        for n in 0..batches {
            let rows = (0..600).map(|i| put(&format!("{n}-{i}"), 9, vec![n; Row::MAX_BYTES]));
            store.commit(A, batch(rows.collect())).await.unwrap();
        }
        store.close().await;
        assert_eq!(snapshots_of(&generation) != before, many);
    }
    let store = open(&folder);
    assert_ledger_adds_up(&store, A).await;
    assert_eq!(ledger(&store, A).await.rows, 1 + 9 * 600);
}
