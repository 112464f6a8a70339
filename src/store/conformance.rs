//! What every engine promises: one suite, run against each, and the model that
//! sled is held against with random operations.
//!
//! A new engine adds one line to `engines!` and passes all of it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::{
    Batch, Change, ForgedLedger, Ledger, LedgerSeal, MemoryStore, Page, Row, RowKey, Scan,
    SledOptions, SledStore, Space, Store, StoreError,
};
use crate::domain::{Floor, TenantId, Timestamp};

// A ledger's keyed half, of toy strength: checksums over a key.

pub(super) struct TestSeal(pub u32);

impl TestSeal {
    fn checksum(&self, lane: u8, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0.to_be_bytes());
        hasher.update(&[lane]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }
}

impl LedgerSeal for TestSeal {
    fn digest_row(&self, key: &RowKey, row: &Row) -> [u8; 32] {
        let mut digest = [0; 32];
        for (lane, bytes) in digest.chunks_mut(4).enumerate() {
            let parts = [key.as_bytes(), &row.version.to_be_bytes(), &row.bytes];
            bytes.copy_from_slice(&self.checksum(lane as u8, &parts).to_be_bytes());
        }
        digest
    }

    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        let Ledger { commits, rows, digest, highest_version, floor } = *ledger;
        let mut sealed = Vec::new();
        for number in [commits, rows, highest_version] {
            sealed.extend(number.to_be_bytes());
        }
        sealed.extend(digest);
        sealed.extend(floor.epoch.to_be_bytes());
        sealed.extend(floor.at.unix_micros().to_be_bytes());
        sealed.extend(self.checksum(255, &[&sealed]).to_be_bytes());
        sealed
    }

    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger> {
        let (body, checksum) = sealed.split_last_chunk::<4>().ok_or(ForgedLedger)?;
        if body.len() != 68 || *checksum != self.checksum(255, &[body]).to_be_bytes() {
            return Err(ForgedLedger);
        }
        let number = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
        Ok(Ledger {
            commits: number(0),
            rows: number(8),
            highest_version: number(16),
            digest: body[24..56].try_into().unwrap(),
            floor: Floor {
                epoch: u32::from_be_bytes(body[56..60].try_into().unwrap()),
                at: Timestamp::from_unix_micros(number(60) as i64),
            },
        })
    }
}

// Words for the tests.

pub(super) fn seal() -> Arc<dyn LedgerSeal> {
    Arc::new(TestSeal(7))
}

pub(super) fn key(name: &str) -> RowKey {
    RowKey::new(name.as_bytes().to_vec())
}

pub(super) fn row(version: u64, bytes: impl AsRef<[u8]>) -> Row {
    Row { version, bytes: bytes.as_ref().to_vec() }
}

pub(super) fn put(name: &str, version: u64, bytes: impl AsRef<[u8]>) -> Change {
    Change::Put { key: key(name), row: row(version, bytes) }
}

pub(super) fn delete(name: &str) -> Change {
    Change::Delete { key: key(name) }
}

pub(super) fn expect(name: &str, version: Option<u64>) -> Change {
    Change::Expect { key: key(name), version }
}

pub(super) fn batch(changes: Vec<Change>) -> Batch {
    Batch { changes, floor: Floor::START, seal: seal() }
}

pub(super) fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

fn scan(prefix: &str, after: Option<&str>, limit: usize) -> Scan {
    Scan { prefix: prefix.as_bytes().to_vec(), after: after.map(key), limit }
}

fn names(page: &Page) -> Vec<String> {
    let name = |(key, _): &(RowKey, Row)| String::from_utf8(key.as_bytes().to_vec()).unwrap();
    page.rows.iter().map(name).collect()
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Begins all, then waits for all.
async fn together<'a>(commits: impl Iterator<Item = Answering<'a>>) -> Vec<Result<(), StoreError>> {
    let begin = |mut commit: Answering<'a>| match commit.as_mut().now_or_never() {
        Some(answer) => Box::pin(std::future::ready(answer)) as Answering<'a>,
        None => commit,
    };
    let begun: Vec<_> = commits.map(begin).collect();
    let mut answers = Vec::new();
    for commit in begun {
        answers.push(commit.await);
    }
    answers
}

/// Every row of a space, page by page.
pub(super) async fn everything(
    store: &dyn Store,
    space: Space,
) -> Result<Vec<(RowKey, Row)>, StoreError> {
    let mut rows: Vec<(RowKey, Row)> = Vec::new();
    loop {
        let after = rows.last().map(|(key, _)| key.clone());
        let page = store.scan(space, Scan { prefix: Vec::new(), after, limit: 7 }).await?;
        let more = page.more;
        rows.extend(page.rows);
        if !more {
            return Ok(rows);
        }
    }
}

pub(super) async fn ledger(store: &dyn Store, space: Space) -> Ledger {
    match store.ledger(space).await.unwrap() {
        None => Ledger::EMPTY,
        Some(sealed) => seal().open(&sealed).unwrap(),
    }
}

/// Holds the ledger against the rows that are there.
pub(super) async fn assert_ledger_adds_up(store: &dyn Store, space: Space) {
    let found = ledger(store, space).await;
    let mut counted = Ledger::EMPTY;
    for (key, row) in everything(store, space).await.unwrap() {
        counted.add(&seal().digest_row(&key, &row));
    }
    assert_eq!((found.rows, found.digest), (counted.rows, counted.digest), "{space}");
}

/// Options for folders of tests: small, and content with any free space.
pub(super) fn small() -> SledOptions {
    SledOptions {
        cache_bytes_total: 16 << 20,
        full_floor_bytes: 0,
        hard_floor_bytes: 0,
        tenants_per_database: 2,
        ..SledOptions::default()
    }
}

pub(super) fn open(folder: &tempfile::TempDir) -> SledStore {
    SledStore::open(folder.path(), small(), &|_| {}).unwrap()
}

const A: Space = Space::Tenant(TenantId::from_bytes([1; 16]));

// The promises, each a function of a store with tenants 1 and 2.

async fn a_row_is_read_as_it_was_put(store: &dyn Store) {
    for space in [Space::System, Space::Keyring, A] {
        assert_eq!(store.get(space, &key("a")).await, Ok(None));
        store.commit(space, batch(vec![put("a", 1, "one"), put("b", 2, "")])).await.unwrap();
        assert_eq!(store.get(space, &key("a")).await, Ok(Some(row(1, "one"))));
        assert_eq!(store.get(space, &key("b")).await, Ok(Some(row(2, ""))));
        store.commit(space, batch(vec![put("a", 3, "three")])).await.unwrap();
        assert_eq!(store.get(space, &key("a")).await, Ok(Some(row(3, "three"))));
        store.commit(space, batch(vec![delete("a"), delete("never")])).await.unwrap();
        assert_eq!(store.get(space, &key("a")).await, Ok(None));
        assert_eq!(names(&store.scan(space, scan("", None, 9)).await.unwrap()), ["b"]);
        assert_ledger_adds_up(store, space).await;
    }
}

async fn spaces_do_not_see_each_other(store: &dyn Store) {
    let b = Space::Tenant(tenant(2));
    store.commit(A, batch(vec![put("a", 1, "of A")])).await.unwrap();
    store.commit(b, batch(vec![put("a", 1, "of B")])).await.unwrap();
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(1, "of A"))));
    assert_eq!(store.get(b, &key("a")).await, Ok(Some(row(1, "of B"))));
    assert_eq!(store.get(Space::System, &key("a")).await, Ok(None));
    assert_eq!(store.get(Space::Keyring, &key("a")).await, Ok(None));
}

async fn a_failed_precondition_changes_nothing(store: &dyn Store) {
    store.commit(A, batch(vec![put("a", 5, "five")])).await.unwrap();
    let before = ledger(store, A).await;
    for changes in [
        vec![expect("a", None), put("a", 6, "six")],
        vec![expect("a", Some(4)), put("b", 6, "six")],
        vec![put("b", 6, "six"), delete("a"), expect("b", Some(6))],
        vec![expect("a", Some(5)), expect("b", Some(1)), delete("a")],
    ] {
        let answer = store.commit(A, batch(changes)).await;
        assert_eq!(answer, Err(StoreError::Conflict));
    }
    assert_eq!(everything(store, A).await.unwrap(), [(key("a"), row(5, "five"))]);
    assert_eq!(ledger(store, A).await, before);
    let good = vec![expect("a", Some(5)), expect("b", None), put("b", 6, "six"), delete("a")];
    store.commit(A, batch(good)).await.unwrap();
    assert_eq!(everything(store, A).await.unwrap(), [(key("b"), row(6, "six"))]);
}

async fn the_ledger_accounts_for_every_commit(store: &dyn Store) {
    assert_eq!(store.ledger(A).await, Ok(None));
    let at = |epoch, seconds| Floor { epoch, at: Timestamp::from_unix_seconds(seconds) };
    let commit = async |changes, floor| {
        store.commit(A, Batch { changes, floor, seal: seal() }).await.unwrap();
        ledger(store, A).await
    };
    let first = commit(vec![put("a", 9, "x"), put("b", 4, "y")], at(0, 100)).await;
    assert_eq!((first.commits, first.rows, first.highest_version), (1, 2, 9));
    let second = commit(vec![delete("a")], at(0, 50)).await;
    assert_eq!((second.commits, second.rows, second.highest_version), (2, 1, 9));
    assert_eq!(second.floor, at(0, 100));
    let idle = commit(vec![delete("a"), expect("a", None)], at(0, 50)).await;
    assert_eq!(idle, second);
    let accepted = commit(Vec::new(), at(1, 10)).await;
    assert_eq!((accepted.commits, accepted.floor), (3, at(1, 10)));
    assert_ledger_adds_up(store, A).await;
}

async fn scans_page_in_order(store: &dyn Store) {
    let all = ["a", "b", "b1", "b2", "b22", "b3", "c", "\u{7f}"];
    let puts = all.iter().zip(1..).map(|(name, version)| put(name, version, "x")).collect();
    store.commit(A, batch(puts)).await.unwrap();
    let page = async |prefix, after, limit| {
        let page = store.scan(A, scan(prefix, after, limit)).await.unwrap();
        (names(&page).join(" "), page.more)
    };
    assert_eq!(page("", None, 99).await, ("a b b1 b2 b22 b3 c \u{7f}".to_owned(), false));
    assert!(!page("", None, 8).await.1);
    assert!(page("", None, 7).await.1);
    assert_eq!(page("b", None, 2).await, ("b b1".to_owned(), true));
    assert_eq!(page("b", Some("b1"), 2).await, ("b2 b22".to_owned(), true));
    assert_eq!(page("b", Some("b22"), 2).await, ("b3".to_owned(), false));
    assert_eq!(page("b", Some("a"), 1).await, ("b".to_owned(), true));
    assert_eq!(page("b", Some("c"), 9).await, (String::new(), false));
    assert_eq!(page("b", Some("b21"), 9).await, ("b22 b3".to_owned(), false));
    assert_eq!(page("", None, 0).await, (String::new(), true));
    assert_eq!(page("zz", None, 9).await, (String::new(), false));
}

async fn a_page_ends_at_its_bytes(store: &dyn Store) {
    let full = vec![1; Row::MAX_BYTES];
    for n in 0..4u64 {
        let puts = (0..100).map(|i| put(&format!("{n}-{i:03}"), n * 100 + i + 1, &full)).collect();
        store.commit(A, batch(puts)).await.unwrap();
    }
    let page = store.scan(A, scan("", None, usize::MAX)).await.unwrap();
    assert!(page.more);
    let bytes: usize = page.rows.iter().map(|(_, row)| row.bytes.len()).sum();
    assert!(
        (Page::MAX_BYTES - 2 * Row::MAX_BYTES..Page::MAX_BYTES + Row::MAX_BYTES).contains(&bytes)
    );
    assert_eq!(everything(store, A).await.unwrap().len(), 400);
}

async fn what_is_too_large_changes_nothing(store: &dyn Store) {
    let row = vec![put("a", 1, vec![0; Row::MAX_BYTES + 1])];
    assert_eq!(store.commit(A, batch(row)).await, Err(StoreError::TooLarge));
    let full = vec![0; Row::MAX_BYTES];
    let many = (0..800).map(|n| put(&format!("{n}"), n, &full)).collect();
    assert_eq!(store.commit(A, batch(many)).await, Err(StoreError::TooLarge));
    assert_eq!(everything(store, A).await, Ok(Vec::new()));
    // A value of 1 MiB in rows, with what goes along with it.
    let largest = (0..300).map(|n| put(&format!("{n}"), n, &full)).collect();
    store.commit(A, batch(largest)).await.unwrap();
    store.commit(A, batch(vec![put(&"k".repeat(255), 400, "x")])).await.unwrap();
    assert_ledger_adds_up(store, A).await;
}

async fn tenants_come_and_go(store: &dyn Store) {
    let five = Space::Tenant(tenant(5));
    assert_eq!(store.get(five, &key("a")).await, Err(StoreError::TenantGone));
    assert_eq!(store.commit(five, batch(vec![])).await, Err(StoreError::TenantGone));
    store.create_tenant(tenant(5)).await.unwrap();
    assert_eq!(store.create_tenant(tenant(5)).await, Err(StoreError::Conflict));
    assert_eq!(store.tenants().await.unwrap(), [tenant(1), tenant(2), tenant(5)]);
    store.commit(five, batch(vec![put("a", 1, "first life")])).await.unwrap();
    store.drop_tenant(tenant(5)).await.unwrap();
    store.drop_tenant(tenant(5)).await.unwrap();
    assert_eq!(store.get(five, &key("a")).await, Err(StoreError::TenantGone));
    assert_eq!(store.scan(five, scan("", None, 1)).await, Err(StoreError::TenantGone));
    assert_eq!(store.ledger(five).await, Err(StoreError::TenantGone));
    assert_eq!(store.commit(five, batch(vec![])).await, Err(StoreError::TenantGone));
    assert_eq!(store.tenants().await.unwrap(), [tenant(1), tenant(2)]);
    store.create_tenant(tenant(5)).await.unwrap();
    assert_eq!(everything(store, five).await, Ok(Vec::new()));
    assert_eq!(store.ledger(five).await, Ok(None));
    store.commit(five, batch(vec![put("b", 1, "second life")])).await.unwrap();
    assert_ledger_adds_up(store, five).await;
}

async fn a_replaced_keyring_holds_exactly_the_new_rows(store: &dyn Store) {
    let before = vec![put("a", 1, "old"), put("b", 2, "old")];
    store.commit(Space::Keyring, batch(before)).await.unwrap();
    let rows: Vec<_> = (0..2500).map(|n| (key(&format!("{n:05}")), row(n, "new"))).collect();
    store.replace_keyring(rows.clone(), Floor::START, seal()).await.unwrap();
    assert_eq!(everything(store, Space::Keyring).await.unwrap(), rows);
    assert_ledger_adds_up(store, Space::Keyring).await;
    let found = ledger(store, Space::Keyring).await;
    assert_eq!((found.commits, found.highest_version), (1, 2499));
    store.commit(Space::Keyring, batch(vec![delete("00000")])).await.unwrap();
    assert_ledger_adds_up(store, Space::Keyring).await;
    // The key that sealed the old rows may be the one being replaced.
    store.replace_keyring(Vec::new(), Floor::START, Arc::new(TestSeal(9))).await.unwrap();
    assert_eq!(everything(store, Space::Keyring).await, Ok(Vec::new()));
}

async fn of_many_writers_of_one_version_one_wins(store: &dyn Store) {
    store.commit(A, batch(vec![put("a", 1, "start")])).await.unwrap();
    for round in 1..=20u64 {
        let writers = (0..16).map(|writer| {
            let changes = vec![
                expect("a", Some(round)),
                put("a", round + 1, format!("{writer}")),
                put(&format!("by {writer}"), round + 1, "mine"),
            ];
            store.commit(A, batch(changes))
        });
        let answers = together(writers).await;
        let winners: Vec<_> =
            answers.iter().zip(0..).filter(|(answer, _)| answer.is_ok()).collect();
        let [(_, winner)] = winners[..] else { panic!("{answers:?}") };
        assert!(answers.iter().all(|a| matches!(a, Ok(()) | Err(StoreError::Conflict))));
        let found = store.get(A, &key("a")).await.unwrap().unwrap();
        assert_eq!(found, row(round + 1, winner.to_string()));
        let mine = store.get(A, &key(&format!("by {winner}"))).await.unwrap().unwrap();
        assert_eq!(mine.version, round + 1);
    }
    assert_eq!(ledger(store, A).await.commits, 21);
    assert_ledger_adds_up(store, A).await;
}

async fn batches_of_one_drain_see_each_other(store: &dyn Store) {
    // Each batch stands on the one before; whether they share a drain or not.
    let chain = (0..200u64).map(|n| {
        let before = (n > 0).then_some(n);
        store.commit(A, batch(vec![expect("a", before), put("a", n + 1, format!("{n}"))]))
    });
    for answer in together(chain).await {
        answer.unwrap();
    }
    assert_eq!(store.get(A, &key("a")).await, Ok(Some(row(200, "199"))));
    assert_eq!(ledger(store, A).await.commits, 200);
    assert_ledger_adds_up(store, A).await;
}

async fn a_closed_store_answers_nothing(store: &dyn Store) {
    assert!(store.health().writable);
    store.close().await;
    let busy = |error: StoreError| matches!(error, StoreError::NotApplied { .. });
    assert!(busy(store.get(A, &key("a")).await.unwrap_err()));
    assert!(busy(store.commit(A, batch(vec![put("a", 1, "x")])).await.unwrap_err()));
    assert!(busy(store.create_tenant(tenant(9)).await.unwrap_err()));
    assert!(busy(store.tenants().await.unwrap_err()));
    assert!(!store.health().writable);
    assert!(store.health().reason.is_some());
    store.close().await;
}

macro_rules! engines {
    ($($promise:ident)*) => {
        mod memory { $(
            #[tokio::test]
            async fn $promise() {
                let store = super::MemoryStore::new();
                super::create_two(&store).await;
                super::$promise(&store).await;
            }
        )* }
        mod sled { $(
            #[tokio::test]
            async fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::open(&folder);
                super::create_two(&store).await;
                super::$promise(&store).await;
            }
        )* }
    };
}

async fn create_two(store: &dyn Store) {
    store.create_tenant(tenant(1)).await.unwrap();
    store.create_tenant(tenant(2)).await.unwrap();
}

engines! {
    a_row_is_read_as_it_was_put
    spaces_do_not_see_each_other
    a_failed_precondition_changes_nothing
    the_ledger_accounts_for_every_commit
    scans_page_in_order
    a_page_ends_at_its_bytes
    what_is_too_large_changes_nothing
    tenants_come_and_go
    a_replaced_keyring_holds_exactly_the_new_rows
    of_many_writers_of_one_version_one_wins
    batches_of_one_drain_see_each_other
    a_closed_store_answers_nothing
}

// sled against the model.

#[derive(Debug, Clone)]
enum Op {
    Commit { space: u8, changes: Vec<(u8, Kind)>, floor: i64 },
    Create(u8),
    Drop(u8),
    ReplaceKeyring(Vec<u8>),
    Scan { space: u8, prefix: u8, after: Option<u8>, limit: usize },
    Reopen,
}

#[derive(Debug, Clone)]
enum Kind {
    ExpectAsIs,
    ExpectOther,
    Put(usize),
    Delete,
}

fn space_of(number: u8) -> Space {
    match number {
        0 => Space::System,
        1 => Space::Keyring,
        n => Space::Tenant(tenant(n)),
    }
}

fn key_of(number: u8) -> RowKey {
    // Prefixes of one another, as names may be.
    RowKey::new([vec![number % 4], vec![number; usize::from(number / 4)]].concat())
}

fn ops() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        2 => Just(Kind::ExpectAsIs),
        1 => Just(Kind::ExpectOther),
        6 => prop_oneof![0..64usize, Just(Row::MAX_BYTES)].prop_map(Kind::Put),
        3 => Just(Kind::Delete),
    ];
    let changes = prop::collection::btree_map(0..24u8, kind, 0..6);
    prop_oneof![
        12 => (0..8u8, changes, 0..9i64).prop_map(|(space, changes, floor)| Op::Commit {
            space, changes: changes.into_iter().collect(), floor
        }),
        3 => (2..8u8).prop_map(Op::Create),
        1 => (2..8u8).prop_map(Op::Drop),
        1 => prop::collection::vec(0..24u8, 0..5).prop_map(Op::ReplaceKeyring),
        3 => (0..8u8, 0..24u8, prop::option::of(0..24u8), 0..6usize)
            .prop_map(|(space, prefix, after, limit)| Op::Scan { space, prefix, after, limit }),
        2 => Just(Op::Reopen),
    ]
}

/// Both stores, and the versions drawn so far.
struct Pair {
    folder: tempfile::TempDir,
    sled: Option<SledStore>,
    model: MemoryStore,
    version: u64,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sled = Some(open(&folder));
        Self { folder, sled, model: MemoryStore::new(), version: 0 }
    }

    fn sled(&self) -> &SledStore {
        self.sled.as_ref().unwrap()
    }

    async fn batch(&mut self, space: Space, changes: Vec<(u8, Kind)>, floor: i64) -> Batch {
        let mut made = Vec::new();
        for (number, kind) in changes {
            let key = key_of(number);
            let now = self.model.get(space, &key).await.ok().flatten().map(|row| row.version);
            self.version += 1;
            made.push(match kind {
                Kind::ExpectAsIs => Change::Expect { key, version: now },
                Kind::ExpectOther => Change::Expect { key, version: Some(self.version) },
                Kind::Put(len) => Change::Put { key, row: row(self.version, vec![number; len]) },
                Kind::Delete => Change::Delete { key },
            });
        }
        let floor = Floor { epoch: 0, at: Timestamp::from_unix_seconds(floor) };
        Batch { changes: made, floor, seal: seal() }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Commit { space, changes, floor } => {
                let space = space_of(space);
                let batch = self.batch(space, changes, floor).await;
                let expected = self.model.commit(space, batch.clone()).await;
                assert_eq!(self.sled().commit(space, batch).await, expected);
            }
            Op::Create(n) => assert_eq!(
                self.sled().create_tenant(tenant(n)).await,
                self.model.create_tenant(tenant(n)).await
            ),
            Op::Drop(n) => assert_eq!(
                self.sled().drop_tenant(tenant(n)).await,
                self.model.drop_tenant(tenant(n)).await
            ),
            Op::ReplaceKeyring(numbers) => {
                self.version += 1;
                let fresh = |n: u8| (key_of(n), row(self.version, [n]));
                let rows: BTreeMap<_, _> = numbers.into_iter().map(fresh).collect();
                let rows: Vec<_> = rows.into_iter().collect();
                let replaced = self.sled().replace_keyring(rows.clone(), Floor::START, seal());
                assert_eq!(replaced.await, Ok(()));
                self.model.replace_keyring(rows, Floor::START, seal()).await.unwrap();
            }
            Op::Scan { space, prefix, after, limit } => {
                let scan = Scan {
                    prefix: key_of(prefix).as_bytes().to_vec(),
                    after: after.map(key_of),
                    limit,
                };
                let expected = self.model.scan(space_of(space), scan.clone()).await;
                assert_eq!(self.sled().scan(space_of(space), scan).await, expected);
            }
            Op::Reopen => {
                self.sled = None;
                self.sled = Some(open(&self.folder));
            }
        }
    }

    async fn assert_alike(&self) {
        assert_eq!(self.sled().tenants().await, self.model.tenants().await);
        for space in (0..8).map(space_of) {
            let found = everything(self.sled(), space).await;
            assert_eq!(found, everything(&self.model, space).await);
            assert_eq!(self.sled().ledger(space).await, self.model.ledger(space).await);
            for (key, row) in found.unwrap_or_default() {
                assert_eq!(self.sled().get(space, &key).await, Ok(Some(row)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn sled_and_the_model_agree_on_every_answer(ops in prop::collection::vec(ops(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for op in ops {
                pair.apply(op).await;
                pair.assert_alike().await;
            }
            pair.apply(Op::Reopen).await;
            pair.assert_alike().await;
        });
    }
}

#[test]
fn a_ledger_sum_forgets_what_is_removed() {
    let digests = [[255; 32], [1; 32], [128; 32]];
    let mut ledger = Ledger::EMPTY;
    digests.iter().for_each(|digest| ledger.add(digest));
    digests.iter().for_each(|digest| ledger.remove(digest));
    assert_eq!(ledger, Ledger::EMPTY);
}
