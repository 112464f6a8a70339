//! What every engine promises: one suite, run against each, and the model that
//! sled is held against with random operations.
//!
//! A new engine adds one line to `engines!` and passes all of it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::{
    Appended, Batch, Block, Chain, Change, ForgedLedger, Ledger, LedgerSeal, MemoryStore, Page,
    PlacedBlock, Row, RowKey, Scan, SledOptions, SledStore, Snapshot, Space, Store, StoreError,
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

    /// Three at most, each behind its length.
    fn pack(&self, entries: &[&str]) -> Block {
        let mut bytes = Vec::new();
        let mut taken = 0;
        for entry in entries.iter().take(3) {
            if bytes.len() + 2 + entry.len() > Block::MAX_BYTES {
                break;
            }
            bytes.extend((entry.len() as u16).to_be_bytes());
            bytes.extend(entry.as_bytes());
            taken += 1;
        }
        Block { entries: NonZeroU32::new(taken).unwrap(), bytes }
    }

    fn link(&self, chain: &Chain, block: &Block) -> [u8; 32] {
        let mut link = [0; 32];
        let (at, entries) = (chain.next.to_be_bytes(), block.entries.get().to_be_bytes());
        for (lane, bytes) in link.chunks_mut(4).enumerate() {
            let parts = [chain.head.as_slice(), &at, &entries, &block.bytes];
            bytes.copy_from_slice(&self.checksum(100 + lane as u8, &parts).to_be_bytes());
        }
        link
    }

    fn seal(&self, ledger: &Ledger) -> Vec<u8> {
        let Ledger { commits, rows, digest, highest_version, floor, chain, kept_from } = *ledger;
        let mut sealed = Vec::new();
        for number in [commits, rows, highest_version] {
            sealed.extend(number.to_be_bytes());
        }
        sealed.extend(digest);
        sealed.extend(floor.epoch.to_be_bytes());
        sealed.extend(floor.at.unix_micros().to_be_bytes());
        for chain in [chain, kept_from] {
            sealed.extend(chain.next.to_be_bytes());
            sealed.extend(chain.head);
        }
        sealed.extend(self.checksum(255, &[&sealed]).to_be_bytes());
        sealed
    }

    fn open(&self, sealed: &[u8]) -> Result<Ledger, ForgedLedger> {
        let (body, checksum) = sealed.split_last_chunk::<4>().ok_or(ForgedLedger)?;
        if body.len() != 148 || *checksum != self.checksum(255, &[body]).to_be_bytes() {
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
            chain: Chain { next: number(68), head: body[76..108].try_into().unwrap() },
            kept_from: Chain { next: number(108), head: body[116..148].try_into().unwrap() },
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

pub(super) fn append(text: impl AsRef<str>) -> Change {
    append_all(&[text.as_ref()])
}

fn append_all(texts: &[&str]) -> Change {
    Change::Append(Appended::Entries(Arc::new(texts.iter().copied().collect())))
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

/// Every block of a space, page by page.
pub(super) async fn blocks(
    store: &dyn Store,
    space: Space,
) -> Result<Vec<PlacedBlock>, StoreError> {
    let mut blocks: Vec<PlacedBlock> = Vec::new();
    loop {
        let from = blocks.last().map_or(0, |placed| placed.first + 1);
        let page = store.chain(space, from).await?;
        blocks.extend(page.blocks);
        if !page.more {
            return Ok(blocks);
        }
    }
}

/// The entries of blocks that [`TestSeal`] packed.
fn texts(placed: &[PlacedBlock]) -> Vec<String> {
    let mut texts = Vec::new();
    for PlacedBlock { block, .. } in placed {
        let mut rest = block.bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (text, after) = after.split_at(u16::from_be_bytes(*length).into());
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            rest = after;
        }
    }
    texts
}

/// Holds the chain that the ledger knows against the blocks that are there.
pub(super) async fn assert_chain_holds(store: &dyn Store, space: Space) {
    let mut chain = ledger(store, space).await.kept_from;
    for PlacedBlock { first, link, block } in blocks(store, space).await.unwrap() {
        assert_eq!(first, chain.next, "{space}");
        chain = chain.with(&block, &*seal());
        assert_eq!(link, chain.head, "{space}");
    }
    assert_eq!(ledger(store, space).await.chain, chain, "{space}");
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

/// What is left to read of one cursor.
async fn rest(snapshot: &mut dyn Snapshot, cursor: usize) -> Vec<(RowKey, Row)> {
    let mut rows = Vec::new();
    loop {
        let page = snapshot.next(cursor).await.unwrap();
        rows.extend(page.rows);
        if !page.more {
            return rows;
        }
    }
}

/// Holds a snapshot's rows against its own ledger.
pub(super) fn assert_adds_up(snapshot: &dyn Snapshot, rows: &[(RowKey, Row)]) {
    let found = snapshot.ledger().map_or(Ledger::EMPTY, |sealed| seal().open(sealed).unwrap());
    let mut counted = Ledger::EMPTY;
    rows.iter().for_each(|(key, row)| counted.add(&seal().digest_row(key, row)));
    assert_eq!((found.rows, found.digest), (counted.rows, counted.digest));
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

pub(super) const A: Space = Space::Tenant(TenantId::from_bytes([1; 16]));

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

/// From which entry on, and what.
fn said(placed: &[PlacedBlock]) -> Vec<String> {
    let said = |placed: &PlacedBlock| {
        format!("{}: {}", placed.first, texts(std::slice::from_ref(placed)).join(", "))
    };
    placed.iter().map(said).collect()
}

async fn blocks_stand_in_the_order_of_their_commits(store: &dyn Store) {
    for space in [Space::System, Space::Keyring, A] {
        assert_eq!(blocks(store, space).await, Ok(Vec::new()));
        let first = ["one", "two", "three", "four"].map(append);
        let first = first.into_iter().chain([put("a", 1, "x"), append("five")]);
        store.commit(space, batch(first.collect())).await.unwrap();
        // Nothing but an entry is a change too.
        store.commit(space, batch(vec![append("six")])).await.unwrap();
        let found = blocks(store, space).await.unwrap();
        assert_eq!(said(&found), ["0: one, two, three", "3: four, five", "5: six"]);
        let ledger = ledger(store, space).await;
        assert_eq!((ledger.commits, ledger.chain.next), (2, 6));
        for (from, first) in [(0, Some(0)), (1, Some(3)), (3, Some(3)), (5, Some(5)), (6, None)] {
            let page = store.chain(space, from).await.unwrap();
            assert_eq!(page.blocks.first().map(|placed| placed.first), first, "{from}");
            assert!(!page.more);
        }
        assert_chain_holds(store, space).await;
    }
}

async fn a_block_that_is_appended_stands_as_it_is(store: &dyn Store) {
    let whole = |entries: u32, bytes: usize| {
        let entries = NonZeroU32::new(entries).unwrap();
        Change::Append(Appended::Block(Block { entries, bytes: vec![0xff; bytes] }))
    };
    let changes = vec![append_all(&["one", "two"]), whole(7, 9), whole(1, 1), append("three")];
    store.commit(A, batch(changes)).await.unwrap();
    let found = blocks(store, A).await.unwrap();
    let places: Vec<_> = found.iter().map(|placed| placed.first).collect();
    assert_eq!(places, [0, 2, 9, 10]);
    assert_eq!(said(&found[..1]), ["0: one, two"]);
    assert_eq!(found[1].block.bytes, [0xff; 9]);
    assert_eq!(said(&found[3..]), ["10: three"]);
    let too_large = vec![whole(1, Block::MAX_BYTES + 1)];
    assert_eq!(store.commit(A, batch(too_large)).await, Err(StoreError::TooLarge));
    store.commit(A, batch(vec![whole(1, Block::MAX_BYTES)])).await.unwrap();
    assert_chain_holds(store, A).await;
}

async fn blocks_are_no_rows(store: &dyn Store) {
    store.commit(A, batch(vec![put("a", 1, "x")])).await.unwrap();
    let before = ledger(store, A).await;
    let snapshot = store.snapshot(A, &[b""]).await.unwrap();
    store.commit(A, batch(vec![append("one"), append("two")])).await.unwrap();
    assert_eq!(everything(store, A).await.unwrap(), [(key("a"), row(1, "x"))]);
    let after = ledger(store, A).await;
    assert_eq!((after.rows, after.digest), (before.rows, before.digest));
    assert_eq!(after.highest_version, 1);
    let (mut then, mut now) = (snapshot, store.snapshot(A, &[b""]).await.unwrap());
    assert_eq!(rest(&mut *then, 0).await, rest(&mut *now, 0).await);
}

async fn what_is_refused_appends_nothing(store: &dyn Store) {
    store.commit(A, batch(vec![put("a", 5, "five"), append("one")])).await.unwrap();
    let before = ledger(store, A).await;
    let refused = vec![append("two"), expect("a", None), put("a", 6, "six")];
    assert_eq!(store.commit(A, batch(refused)).await, Err(StoreError::Conflict));
    let too_large = vec![append("x".repeat(Block::ENTRY_MAX_BYTES + 1))];
    assert_eq!(store.commit(A, batch(too_large)).await, Err(StoreError::TooLarge));
    let many = (0..800).map(|_| append("x".repeat(Block::ENTRY_MAX_BYTES))).collect();
    assert_eq!(store.commit(A, batch(many)).await, Err(StoreError::TooLarge));
    assert_eq!(ledger(store, A).await, before);
    store.commit(A, batch(vec![append("x".repeat(Block::ENTRY_MAX_BYTES))])).await.unwrap();
    assert_eq!(blocks(store, A).await.unwrap().len(), 2);
    assert_chain_holds(store, A).await;
}

async fn writers_who_append_at_the_same_time_have_places_of_their_own(store: &dyn Store) {
    let writers = (0..300u32).map(|writer| {
        let text = format!("{writer} {}", "x".repeat(1_000));
        let name = format!("{writer}");
        // Every third loses: there is no such row.
        let expected = expect(&name, (writer % 3 == 0).then_some(9));
        store.commit(A, batch(vec![expected, put(&name, 1, "x"), append(text)]))
    });
    let answers = together(writers).await;
    let won = (0..300u32).zip(&answers).filter(|(_, answer)| answer.is_ok());
    let won: Vec<_> = won.map(|(writer, _)| writer).collect();
    assert_eq!(won.len(), 200);
    let found = blocks(store, A).await.unwrap();
    let writer = |text: String| text.split(' ').next().unwrap().parse::<u32>().unwrap();
    let mut writers: Vec<_> = texts(&found).into_iter().map(writer).collect();
    writers.sort_unstable();
    assert_eq!(writers, won);
    assert_chain_holds(store, A).await;
}

async fn a_page_of_a_chain_ends_at_its_bytes(store: &dyn Store) {
    for _ in 0..2 {
        let full = (0..200).map(|_| append("x".repeat(Block::ENTRY_MAX_BYTES))).collect();
        store.commit(A, batch(full)).await.unwrap();
    }
    let page = store.chain(A, 0).await.unwrap();
    assert!(page.more && (200..350).contains(&page.blocks.len()));
    assert_eq!(blocks(store, A).await.unwrap().len(), 400);
    assert_chain_holds(store, A).await;
}

async fn the_beginning_of_a_chain_is_forgotten(store: &dyn Store) {
    for text in ["one", "two", "three"] {
        store.commit(A, batch(vec![append(text)])).await.unwrap();
    }
    let after = |placed: &PlacedBlock| Chain {
        next: placed.first + u64::from(placed.block.entries.get()),
        head: placed.link,
    };
    let ends: Vec<_> = blocks(store, A).await.unwrap().iter().map(after).collect();
    let forget = |kept_from| batch(vec![Change::Forget { kept_from }, append("it was")]);
    let beyond = Chain { next: 4, head: [0; 32] };
    assert_eq!(store.commit(A, forget(beyond)).await, Err(StoreError::Conflict));
    store.commit(A, forget(ends[1])).await.unwrap();
    assert_eq!(ledger(store, A).await.kept_from, ends[1]);
    assert_eq!(said(&blocks(store, A).await.unwrap()), ["2: three", "3: it was"]);
    assert_chain_holds(store, A).await;
    // What is forgotten does not come back.
    assert_eq!(store.commit(A, forget(ends[0])).await, Err(StoreError::Conflict));
    assert_eq!(ledger(store, A).await.chain.next, 4);
    let all = ledger(store, A).await.chain;
    store.commit(A, batch(vec![Change::Forget { kept_from: all }])).await.unwrap();
    assert_eq!(blocks(store, A).await, Ok(Vec::new()));
    store.commit(A, batch(vec![append("goes on")])).await.unwrap();
    assert_eq!(said(&blocks(store, A).await.unwrap()), ["4: goes on"]);
    assert_chain_holds(store, A).await;
}

async fn a_chain_ends_with_its_tenant(store: &dyn Store) {
    store.commit(A, batch(vec![append("one")])).await.unwrap();
    store.drop_tenant(tenant(1)).await.unwrap();
    assert_eq!(store.chain(A, 0).await, Err(StoreError::TenantGone));
    store.create_tenant(tenant(1)).await.unwrap();
    assert_eq!(blocks(store, A).await, Ok(Vec::new()));
    store.commit(A, batch(vec![append("of another")])).await.unwrap();
    assert_eq!(said(&blocks(store, A).await.unwrap()), ["0: of another"]);
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

async fn a_snapshot_stays_as_it_was_while_others_write(store: &dyn Store) {
    let empty = store.snapshot(A, &[b""]).await.unwrap();
    assert_eq!(empty.ledger(), None);
    let puts = ["a1", "a2", "a3", "b1", "c1"].map(|name| put(name, 1, name));
    store.commit(A, batch(puts.to_vec())).await.unwrap();
    let before = store.ledger(A).await.unwrap();
    let mut snapshot = store.snapshot(A, &[b"a", b"b", b"z"]).await.unwrap();
    let changes = vec![delete("a1"), put("a2", 2, "new"), put("a4", 2, "new"), delete("b1")];
    store.commit(A, batch(changes)).await.unwrap();
    store.commit(A, batch(vec![put("a1", 3, "again"), put("z", 3, "new")])).await.unwrap();
    assert_eq!(snapshot.ledger(), before.as_deref());
    let as_it_was = |name: &str| (key(name), row(1, name));
    assert_eq!(rest(&mut *snapshot, 1).await, [as_it_was("b1")]);
    assert_eq!(rest(&mut *snapshot, 0).await, ["a1", "a2", "a3"].map(as_it_was));
    assert_eq!(rest(&mut *snapshot, 2).await, []);
    for cursor in 0..4 {
        assert_eq!(snapshot.next(cursor).await, Ok(Page::default()));
    }
    let mut empty = empty;
    assert_eq!(rest(&mut *empty, 0).await, []);
    let mut later = store.snapshot(A, &[b""]).await.unwrap();
    let rows = rest(&mut *later, 0).await;
    assert_eq!(rows, everything(store, A).await.unwrap());
    assert_adds_up(&*later, &rows);
}

async fn what_is_removed_while_a_snapshot_is_read_is_still_in_it(store: &dyn Store) {
    let name = |n: u64| format!("{:?}-{n:04}", n % 2);
    for n in 0..30u64 {
        let puts = (0..100).map(|i| put(&name(n * 100 + i), 1, "as it was")).collect();
        store.commit(A, batch(puts)).await.unwrap();
    }
    let all = everything(store, A).await.unwrap();
    let mut snapshot = store.snapshot(A, &[b"0", b"1"]).await.unwrap();
    let first = snapshot.next(1).await.unwrap();
    assert!(first.more && !first.rows.is_empty() && first.rows.len() < 1_500);
    for n in 0..30u64 {
        let gone = (0..100).map(|i| delete(&name(n * 100 + i)));
        let new = (0..100).map(|i| put(&format!("{}-new", name(n * 100 + i)), 2, "new"));
        store.commit(A, batch(gone.chain(new).collect())).await.unwrap();
    }
    let mut rows = rest(&mut *snapshot, 0).await;
    rows.extend(first.rows);
    rows.extend(rest(&mut *snapshot, 1).await);
    assert_eq!(rows, all);
    assert_adds_up(&*snapshot, &rows);
}

async fn a_page_of_a_snapshot_ends_at_its_bytes(store: &dyn Store) {
    let full = vec![1; Row::MAX_BYTES];
    let name = |n: u64, i: u64| format!("{n}-{i:03}");
    for n in 0..4 {
        let puts = (0..100).map(|i| put(&name(n, i), 1, &full)).collect();
        store.commit(A, batch(puts)).await.unwrap();
    }
    let mut snapshot = store.snapshot(A, &[b""]).await.unwrap();
    for n in 0..4 {
        store.commit(A, batch((0..100).map(|i| delete(&name(n, i))).collect())).await.unwrap();
    }
    let page = snapshot.next(0).await.unwrap();
    let bytes: usize = page.rows.iter().map(|(_, row)| row.bytes.len()).sum();
    assert!(page.more && bytes < Page::MAX_BYTES + Row::MAX_BYTES);
    assert_eq!(page.rows.len() + rest(&mut *snapshot, 0).await.len(), 400);
}

async fn a_snapshot_ends_with_its_tenant_and_its_store(store: &dyn Store) {
    store.commit(A, batch(vec![put("a", 1, "x")])).await.unwrap();
    let mut of_a = store.snapshot(A, &[b""]).await.unwrap();
    let mut of_b = store.snapshot(Space::Tenant(tenant(2)), &[b""]).await.unwrap();
    store.drop_tenant(tenant(1)).await.unwrap();
    assert_eq!(of_a.next(0).await, Err(StoreError::TenantGone));
    assert!(matches!(store.snapshot(A, &[b""]).await.err(), Some(StoreError::TenantGone)));
    store.create_tenant(tenant(1)).await.unwrap();
    assert_eq!(of_a.next(0).await, Err(StoreError::TenantGone));
    assert_eq!(of_b.next(0).await, Ok(Page::default()));
    let mut of_b = store.snapshot(Space::Tenant(tenant(2)), &[b""]).await.unwrap();
    store.close().await;
    assert!(matches!(of_b.next(0).await, Err(StoreError::NotApplied { .. })));
    assert!(matches!(store.snapshot(A, &[b""]).await.err(), Some(StoreError::NotApplied { .. })));
}

async fn a_compaction_changes_nothing_that_can_be_read(store: &dyn Store) {
    let spaces = [Space::System, Space::Keyring, A, Space::Tenant(tenant(2))];
    for (version, space) in (1..).zip(spaces) {
        let changes = vec![put("a", version, "a"), put("b", 9, "b"), append("said")];
        store.commit(space, batch(changes)).await.unwrap();
        store.commit(space, batch(vec![delete("b")])).await.unwrap();
    }
    for used in store.usage().await.unwrap() {
        assert!(used.live.unwrap() <= used.bytes);
        let compacted = store.compact(&used.name, &|done, of| assert!(done <= of)).await;
        assert!(compacted.unwrap().is_some());
    }
    assert_eq!(store.compact("no such database", &|_, _| {}).await, Ok(None));
    for (version, space) in (1..).zip(spaces) {
        assert_eq!(everything(store, space).await.unwrap(), [(key("a"), row(version, "a"))]);
        assert_ledger_adds_up(store, space).await;
        assert_eq!(ledger(store, space).await.commits, 2);
        assert_eq!(said(&blocks(store, space).await.unwrap()), ["0: said"]);
        assert_chain_holds(store, space).await;
        store.commit(space, batch(vec![put("c", 10, "c")])).await.unwrap();
    }
}

async fn a_closed_store_answers_nothing(store: &dyn Store) {
    assert!(store.health().writable);
    store.close().await;
    let busy = |error: StoreError| matches!(error, StoreError::NotApplied { .. });
    assert!(busy(store.get(A, &key("a")).await.unwrap_err()));
    assert!(busy(store.commit(A, batch(vec![put("a", 1, "x")])).await.unwrap_err()));
    assert!(busy(store.chain(A, 0).await.unwrap_err()));
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
    blocks_stand_in_the_order_of_their_commits
    a_block_that_is_appended_stands_as_it_is
    blocks_are_no_rows
    what_is_refused_appends_nothing
    writers_who_append_at_the_same_time_have_places_of_their_own
    a_page_of_a_chain_ends_at_its_bytes
    a_chain_ends_with_its_tenant
    the_beginning_of_a_chain_is_forgotten
    tenants_come_and_go
    a_replaced_keyring_holds_exactly_the_new_rows
    of_many_writers_of_one_version_one_wins
    batches_of_one_drain_see_each_other
    a_snapshot_stays_as_it_was_while_others_write
    what_is_removed_while_a_snapshot_is_read_is_still_in_it
    a_page_of_a_snapshot_ends_at_its_bytes
    a_snapshot_ends_with_its_tenant_and_its_store
    a_closed_store_answers_nothing
    a_compaction_changes_nothing_that_can_be_read
}

// sled against the model.

#[derive(Debug, Clone)]
enum Op {
    Commit {
        space: u8,
        changes: Vec<(u8, Kind)>,
        floor: i64,
    },
    Create(u8),
    Drop(u8),
    ReplaceKeyring(Vec<u8>),
    Scan {
        space: u8,
        prefix: u8,
        after: Option<u8>,
        limit: usize,
    },
    Snapshot {
        space: u8,
        split: bool,
    },
    /// One page of a snapshot, by their ages.
    Next {
        snapshot: usize,
        cursor: usize,
    },
    Compact(usize),
    Reopen,
}

#[derive(Debug, Clone)]
enum Kind {
    ExpectAsIs,
    ExpectOther,
    Put(usize),
    Delete,
    Append(usize),
    /// What came before so many of the blocks.
    Forget(usize),
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
        3 => prop_oneof![0..64usize, Just(Block::ENTRY_MAX_BYTES)].prop_map(Kind::Append),
        1 => (0..3usize).prop_map(Kind::Forget),
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
        2 => (0..8u8, any::<bool>()).prop_map(|(space, split)| Op::Snapshot { space, split }),
        6 => (0..9usize, 0..4usize).prop_map(|(snapshot, cursor)| Op::Next { snapshot, cursor }),
        2 => (0..4usize).prop_map(Op::Compact),
        2 => Just(Op::Reopen),
    ]
}

/// Both stores, and the versions drawn so far.
struct Pair {
    folder: tempfile::TempDir,
    sled: Option<SledStore>,
    model: MemoryStore,
    version: u64,
    snapshots: Vec<Taken>,
}

/// A snapshot of sled's, and what it must hold.
struct Taken {
    space: Space,
    snapshot: Box<dyn Snapshot>,
    expected: Vec<Vec<(RowKey, Row)>>,
    read: Vec<Vec<(RowKey, Row)>>,
    /// What reading it answers since its space went away.
    ended: Option<StoreError>,
}

const SPLIT: [&[u8]; 4] = [&[0], &[2], &[1], &[3]];

impl Taken {
    /// Answers whether there is more.
    async fn next(&mut self, cursor: usize) -> bool {
        let page = match (self.snapshot.next(cursor).await, &self.ended) {
            (Ok(page), None) => page,
            (answer, ended) => {
                assert_eq!(answer.err(), *ended);
                return false;
            }
        };
        match self.read.get_mut(cursor) {
            Some(read) => read.extend(page.rows),
            None => assert_eq!(page, Page::default()),
        }
        page.more
    }

    async fn finish(mut self) {
        for cursor in 0..self.read.len() {
            while self.next(cursor).await {}
        }
        if self.ended.is_none() {
            assert_eq!(self.read, self.expected);
            assert_adds_up(&*self.snapshot, &self.read.concat());
        }
    }
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sled = Some(open(&folder));
        Self { folder, sled, model: MemoryStore::new(), version: 0, snapshots: Vec::new() }
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
                Kind::Forget(blocks) => {
                    Change::Forget { kept_from: self.end_of(space, blocks).await }
                }
                Kind::Append(len) => append(char::from(b'a' + number).to_string().repeat(len)),
            });
        }
        let floor = Floor { epoch: 0, at: Timestamp::from_unix_seconds(floor) };
        Batch { changes: made, floor, seal: seal() }
    }

    /// Where so many of the blocks that there are end.
    async fn end_of(&self, space: Space, number: usize) -> Chain {
        let all = blocks(&self.model, space).await.unwrap_or_default();
        let end = |PlacedBlock { first, link, block }: &PlacedBlock| Chain {
            next: first + u64::from(block.entries.get()),
            head: *link,
        };
        number.checked_sub(1).and_then(|last| all.get(last)).map_or(Chain::EMPTY, end)
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
            Op::Drop(n) => {
                let expected = self.model.drop_tenant(tenant(n)).await;
                assert_eq!(self.sled().drop_tenant(tenant(n)).await, expected);
                self.end_snapshots(|space| space == space_of(n), StoreError::TenantGone);
            }
            Op::ReplaceKeyring(numbers) => {
                self.version += 1;
                let fresh = |n: u8| (key_of(n), row(self.version, [n]));
                let rows: BTreeMap<_, _> = numbers.into_iter().map(fresh).collect();
                let rows: Vec<_> = rows.into_iter().collect();
                let replaced = self.sled().replace_keyring(rows.clone(), Floor::START, seal());
                assert_eq!(replaced.await, Ok(()));
                self.model.replace_keyring(rows, Floor::START, seal()).await.unwrap();
                self.end_snapshots(|space| space == Space::Keyring, not_now());
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
            Op::Snapshot { space, split } => self.take(space_of(space), split).await,
            Op::Next { snapshot, cursor } => {
                if let Some(taken) = self.snapshots.get_mut(snapshot) {
                    taken.next(cursor).await;
                }
            }
            Op::Compact(database) => {
                let usage = self.sled().usage().await.unwrap();
                let Some(used) = usage.get(database) else { return };
                let compacted = self.sled().compact(&used.name, &|_, _| {}).await;
                assert!(compacted.unwrap().is_some());
            }
            Op::Reopen => {
                self.sled = None;
                self.end_snapshots(|_| true, not_now());
                self.sled = Some(open(&self.folder));
            }
        }
    }

    async fn take(&mut self, space: Space, split: bool) {
        let prefixes = if split { &SPLIT[..] } else { &[&[] as &[u8]][..] };
        let snapshot = match self.sled().snapshot_in_pages(space, prefixes, 2).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                return assert_eq!(self.model.snapshot(space, prefixes).await.err(), Some(error));
            }
        };
        let mut model = self.model.snapshot(space, prefixes).await.unwrap();
        assert_eq!(snapshot.ledger(), model.ledger());
        let mut expected = Vec::new();
        for cursor in 0..prefixes.len() {
            expected.push(rest(&mut *model, cursor).await);
        }
        let read = vec![Vec::new(); prefixes.len()];
        self.snapshots.push(Taken { space, snapshot, expected, read, ended: None });
    }

    fn end_snapshots(&mut self, which: impl Fn(Space) -> bool, error: StoreError) {
        let alive = |taken: &&mut Taken| taken.ended.is_none() && which(taken.space);
        for taken in self.snapshots.iter_mut().filter(alive) {
            taken.ended = Some(error.clone());
        }
    }

    async fn finish_snapshots(&mut self) {
        for taken in std::mem::take(&mut self.snapshots) {
            taken.finish().await;
        }
    }

    async fn assert_alike(&self) {
        assert_eq!(self.sled().tenants().await, self.model.tenants().await);
        for space in (0..8).map(space_of) {
            let found = everything(self.sled(), space).await;
            assert_eq!(found, everything(&self.model, space).await);
            assert_eq!(self.sled().ledger(space).await, self.model.ledger(space).await);
            let chain = blocks(self.sled(), space).await;
            assert_eq!(chain, blocks(&self.model, space).await);
            if chain.is_ok() {
                assert_chain_holds(self.sled(), space).await;
            }
            for (key, row) in found.unwrap_or_default() {
                assert_eq!(self.sled().get(space, &key).await, Ok(Some(row)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn sled_and_the_model_agree_on_every_answer(ops in prop::collection::vec(ops(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for op in ops {
                pair.apply(op).await;
                pair.assert_alike().await;
            }
            pair.finish_snapshots().await;
            pair.apply(Op::Reopen).await;
            pair.assert_alike().await;
        });
    }
}

fn not_now() -> StoreError {
    StoreError::NotApplied { retry_after: Duration::from_secs(1) }
}

// Snapshots while a writer does not wait for them.

/// What each of `batches` makes of the rows, from none on.
fn history(batches: &[Vec<Change>]) -> Vec<Vec<(RowKey, Row)>> {
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    let mut states = vec![Vec::new()];
    for batch in batches {
        for change in batch {
            match change {
                Change::Put { key, row } => drop(rows.insert(key.clone(), row.clone())),
                Change::Delete { key } => drop(rows.remove(key)),
                Change::Expect { .. } | Change::Append(_) | Change::Forget { .. } => {}
            }
        }
        states.push(rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect());
    }
    states
}

/// Up to 60 names of three beginnings; every batch changes something.
fn batches() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let len = prop::option::weighted(0.6, 0..600usize);
    let batch = prop::collection::btree_map(0..60u8, len, 0..12);
    prop::collection::vec(batch, 100..200).prop_map(|batches| {
        let one = |(version, changes): (u64, BTreeMap<u8, Option<usize>>)| {
            let name = |n: u8| format!("{}{n:02}", ["a", "b", "c"][usize::from(n % 3)]);
            let change = |(n, len): (u8, Option<usize>)| match len {
                Some(len) => put(&name(n), version, vec![n; len]),
                None => delete(&name(n)),
            };
            let always = put("a", version, "in every batch");
            changes.into_iter().map(change).chain([always]).collect()
        };
        (1..).zip(batches).map(one).collect()
    })
}

/// Takes snapshots and reads them, a little of each cursor in turn, until told
/// that the writer is done. Answers how many.
async fn read_snapshots(
    store: &SledStore,
    states: &[Vec<(RowKey, Row)>],
    done: &AtomicBool,
) -> u32 {
    let mut taken = 0;
    let mut last = false;
    while !last {
        last = done.load(Ordering::SeqCst);
        let mut snapshot = store.snapshot_in_pages(A, &[b"c", b"a", b"b"], 3).await.unwrap();
        let sealed = snapshot.ledger().map(<[u8]>::to_vec);
        let ledger = sealed.map_or(Ledger::EMPTY, |sealed| seal().open(&sealed).unwrap());
        let mut read = [Vec::new(), Vec::new(), Vec::new()];
        let mut more = [true; 3];
        while more.contains(&true) {
            for cursor in 0..3 {
                let page = snapshot.next(cursor).await.unwrap();
                more[cursor] = page.more;
                read[cursor].extend(page.rows);
            }
            tokio::task::yield_now().await;
        }
        let [c, a, b] = read;
        let rows = [a, b, c].concat();
        assert_adds_up(&*snapshot, &rows);
        assert_eq!(rows, states[usize::try_from(ledger.commits).unwrap()]);
        taken += 1;
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn a_snapshot_is_the_state_at_its_ledgers_commit(batches in batches()) {
        let states = history(&batches);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(open(&folder));
            create_two(&*store).await;
            let done = Arc::new(AtomicBool::new(false));
            let states = Arc::new(states);
            let readers: Vec<_> = (0..2).map(|_| tokio::spawn({
                let (store, states, done) = (store.clone(), states.clone(), done.clone());
                async move { read_snapshots(&store, &states, &done).await }
            })).collect();
            for some in batches.chunks(5) {
                let commits = some.iter().map(|changes| store.commit(A, batch(changes.clone())));
                for answer in together(commits).await {
                    answer.unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
            for reader in readers {
                assert!(reader.await.unwrap() > 1);
            }
            assert_eq!(&everything(&*store, A).await.unwrap(), states.last().unwrap());
            assert_eq!(store.snapshot_bytes_held(), 0);
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
