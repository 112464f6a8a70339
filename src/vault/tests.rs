//! The vault over the in-memory model, with a clock that tests set.

mod audit;
mod audit_copies;
mod batches;
mod counting;
mod credentials;
mod forged_exports;
mod lists;
mod notices;
mod proof;
mod quotas;
mod recording;
mod rotation;
mod sealing;
mod tampering;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use zeroize::Zeroizing;

use super::maintenance::Exchange;
use super::*;
use crate::api::admin::{Command, FailureKind, Reply, SecretCounts};
use crate::domain::{ClockReading, SecretName};
use crate::store::{Change, MemoryStore};

pub(super) const START: i64 = 1_900_000_000;
pub(super) const DAY: i64 = 24 * 60 * 60;

/// A clock that tests set: wall seconds and seconds since boot.
#[derive(Debug)]
pub(super) struct Manual(pub(super) Mutex<(i64, u64)>);

impl Manual {
    pub(super) fn at(wall: i64) -> Arc<Self> {
        Arc::new(Self(Mutex::new((wall, 1_000))))
    }

    /// Time passes, on both clocks.
    pub(super) fn pass(&self, seconds: u64) {
        let mut clocks = self.0.lock().unwrap();
        clocks.0 += i64::try_from(seconds).unwrap();
        clocks.1 += seconds;
    }

    /// Someone sets the wall clock.
    fn step(&self, seconds: i64) {
        self.0.lock().unwrap().0 += seconds;
    }
}

impl Clock for Manual {
    fn read(&self) -> ClockReading {
        let (wall, boot) = *self.0.lock().unwrap();
        ClockReading {
            wall: Timestamp::from_unix_seconds(wall),
            since_boot: Duration::from_secs(boot),
        }
    }
}

/// A vault with a tenant `acme`, and all that it takes to open it again.
pub(super) struct Bench {
    pub(super) store: Arc<MemoryStore>,
    pub(super) kek: Kek,
    pub(super) clock: Arc<Manual>,
    pub(super) vault: Arc<Vault>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let (store, kek, clock) =
            (Arc::new(MemoryStore::new()), Kek::generate(), Manual::at(START));
        Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.unwrap();
        let vault = open(&store, &kek, &clock).await.unwrap();
        let bench = Self { store, kek, clock, vault };
        bench.run(Command::TenantCreate { name: "acme".into() }).await.unwrap();
        bench
    }

    /// A restart: nothing of the old process is left but the store.
    pub(super) async fn reopen(&mut self) {
        self.vault = open(&self.store, &self.kek, &self.clock).await.unwrap();
    }

    pub(super) async fn run(&self, command: Command) -> Result<Reply, crate::api::admin::Failure> {
        maintenance::execute(&self.vault, command, Exchange::none()).await
    }

    pub(super) async fn token(&self, tenant: &str) -> String {
        let scopes = vec!["*".to_owned()];
        let (tenant, subject) = (tenant.to_owned(), "test".to_owned());
        let mint = Command::TokenMint { tenant, scopes, ttl_seconds: 315_360_000, subject };
        match self.run(mint).await.unwrap() {
            Reply::Token { token, .. } => token,
            _ => panic!("not a token"),
        }
    }

    pub(super) async fn principal(&self) -> Arc<Principal> {
        self.vault.authenticate(&self.token("acme").await, self.vault.now()).unwrap()
    }

    pub(super) async fn put(
        &self,
        name: &str,
        value: Option<&str>,
        window: ValidityWindow,
    ) -> Result<u64, VaultError> {
        self.put_if(name, value, window, Precondition::None).await
    }

    pub(super) async fn put_if(
        &self,
        name: &str,
        value: Option<&str>,
        window: ValidityWindow,
        precondition: Precondition,
    ) -> Result<u64, VaultError> {
        let now = self.vault.now();
        let permit = self.principal().await.may_write(&acme(), secret(name), now).unwrap();
        let value = value.map(|text| SecretValue::new(Zeroizing::new(text.to_owned())));
        self.vault.write(&permit, NewSecret { value, window }, precondition, now).await
    }

    /// The outer option: whether it is readable.
    pub(super) async fn get(&self, name: &str) -> Option<Option<String>> {
        let now = self.vault.now();
        let permit = self.principal().await.may_read(&acme(), secret(name), now).unwrap();
        let read = self.vault.read(&permit, now).await.unwrap();
        read.map(|secret| secret.value.map(|value| value.expose().to_owned()))
    }

    pub(super) async fn delete(&self, name: &str) -> Deleted {
        let now = self.vault.now();
        let permit = self.principal().await.may_write(&acme(), secret(name), now).unwrap();
        self.vault.delete(&permit, Precondition::None, now).await.unwrap()
    }

    pub(super) async fn list(&self) -> Vec<String> {
        let now = self.vault.now();
        let permit = self.principal().await.may_list(&acme(), now).unwrap();
        let page = self.vault.list(&permit, &ListRequest::default(), now).await.unwrap();
        assert!(!page.more);
        page.names.iter().map(str::to_owned).collect()
    }

    pub(super) async fn sweep(
        &self,
        retain_seconds: u64,
        dry_run: bool,
    ) -> Result<u64, FailureKind> {
        let sweep = Command::Sweep { tenant: None, retain_seconds, dry_run };
        match self.run(sweep).await.map_err(|failure| failure.kind)? {
            Reply::Swept { tenants, .. } => Ok(tenants.iter().map(|tenant| tenant.secrets).sum()),
            _ => panic!("not a sweep"),
        }
    }

    pub(super) async fn counts(&self) -> SecretCounts {
        match self.run(Command::Status).await.unwrap() {
            Reply::Status(status) => status.secrets,
            _ => panic!("not a status"),
        }
    }

    /// How many rows the tenant has in the store.
    pub(super) async fn rows(&self) -> usize {
        let tenant = self.vault.tenant_named(&acme()).unwrap();
        let scan = Scan { prefix: Vec::new(), after: None, limit: usize::MAX };
        self.store.scan(Space::Tenant(tenant.id), scan).await.unwrap().rows.len()
    }
}

pub(super) async fn open(
    store: &Arc<MemoryStore>,
    kek: &Kek,
    clock: &Arc<Manual>,
) -> Result<Arc<Vault>, OpenError> {
    Vault::open(store.clone(), kek, clock.clone(), VaultOptions::default()).await
}

pub(super) fn acme() -> TenantName {
    TenantName::parse("acme").unwrap()
}

pub(super) fn secret(name: &str) -> SecretName {
    SecretName::parse(name).unwrap()
}

pub(super) fn window(from: Option<i64>, to: Option<i64>) -> ValidityWindow {
    let at = |offset: i64| Timestamp::from_unix_seconds(START + offset);
    ValidityWindow::new(from.map(at), to.map(at)).unwrap()
}

pub(super) const OPEN: fn() -> ValidityWindow = ValidityWindow::default;

#[tokio::test]
async fn what_was_written_is_read_until_it_is_replaced_or_deleted() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("a").await, None);
    let first = bench.put("a", Some("one"), OPEN()).await.unwrap();
    assert_eq!(bench.get("a").await, Some(Some("one".into())));
    let second = bench.put("a", None, OPEN()).await.unwrap();
    assert!(second > first);
    assert_eq!(bench.get("a").await, Some(None));
    assert_eq!(bench.delete("a").await, Deleted::Removed);
    assert_eq!(bench.get("a").await, None);
    assert_eq!(bench.delete("a").await, Deleted::NothingThere);
    assert!(
        bench.put("a", Some("three"), OPEN()).await.unwrap() > second,
        "versions never go back"
    );
}

#[tokio::test]
async fn values_of_every_size_survive_a_restart_and_leave_no_rows_behind() {
    let mut bench = Bench::new().await;
    let sizes = [0, 1, 3_546, 3_547, 3_600, 7_200, 65_535, 65_536];
    for size in sizes {
        bench.put("v", Some(&"x".repeat(size)), OPEN()).await.unwrap();
        bench.reopen().await;
        assert_eq!(bench.get("v").await.unwrap().unwrap().len(), size);
    }
    bench.put("v", Some(""), window(None, Some(DAY))).await.unwrap();
    assert_eq!(bench.rows().await, 3, "head, one value row, expiry");
    bench.put("v", None, window(None, Some(2 * DAY))).await.unwrap();
    assert_eq!(bench.rows().await, 2, "head and the new expiry");
    assert_eq!(bench.delete("v").await, Deleted::Removed);
    assert_eq!(bench.rows().await, 0);
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused() {
    let bench = Bench::new().await;
    let value = "x".repeat(65_537);
    let refused = bench.put("v", Some(&value), OPEN()).await;
    assert_eq!(refused, Err(VaultError::ValueTooLarge { max: 65_536 }));
}

#[tokio::test]
async fn a_window_is_enforced_on_reads_and_lists() {
    let bench = Bench::new().await;
    bench.put("now", Some("v"), window(Some(0), Some(100))).await.unwrap();
    bench.put("later", Some("v"), window(Some(50), None)).await.unwrap();
    bench.put("past", Some("v"), window(None, Some(-1))).await.unwrap();
    assert_eq!(bench.get("past").await, None);
    assert_eq!(bench.get("later").await, None);
    assert_eq!(bench.list().await, ["later", "now"], "pending is listed, expired is not");
    assert_eq!(bench.counts().await, SecretCounts { valid: 1, pending: 1, expired: 1 });
    bench.clock.pass(50);
    assert_eq!(bench.get("later").await, Some(Some("v".into())));
    bench.clock.pass(49);
    assert_eq!(bench.get("now").await, Some(Some("v".into())));
    bench.clock.pass(1);
    assert_eq!(bench.get("now").await, None);
    assert_eq!(bench.list().await, ["later"]);
    assert_eq!(bench.delete("now").await, Deleted::Expired);
    assert_eq!(bench.counts().await, SecretCounts { valid: 1, pending: 0, expired: 1 });
}

#[tokio::test]
async fn preconditions_are_judged_by_what_a_list_would_show() {
    let bench = Bench::new().await;
    let put = |name, window, precondition| bench.put_if(name, Some("v"), window, precondition);
    let failed = Err(VaultError::PreconditionFailed);
    assert_eq!(put("a", OPEN(), Precondition::Exists).await, failed);
    let version = put("a", OPEN(), Precondition::Absent).await.unwrap();
    assert_eq!(put("a", OPEN(), Precondition::Absent).await, failed);
    assert_eq!(put("a", OPEN(), Precondition::Versions(vec![version + 1])).await, failed);
    let version =
        put("a", OPEN(), Precondition::Versions(vec![version - 1, version])).await.unwrap();
    put("a", window(None, Some(10)), Precondition::Exists).await.unwrap();
    bench.clock.pass(10);
    assert_eq!(put("a", OPEN(), Precondition::Versions(vec![version - 1, version])).await, failed);
    assert!(put("a", OPEN(), Precondition::Absent).await.is_ok(), "an expired name is free");
}

#[tokio::test]
async fn a_sweep_removes_what_expired_longer_ago_than_it_retains() {
    let bench = Bench::new().await;
    for (name, end) in [("a", 10), ("b", 20), ("c", 30)] {
        bench.put(name, Some("v"), window(None, Some(end))).await.unwrap();
    }
    bench.put("forever", Some("v"), OPEN()).await.unwrap();
    bench.clock.pass(25);
    assert_eq!(bench.sweep(10, true).await, Ok(1));
    assert_eq!(bench.sweep(0, true).await, Ok(2));
    assert_eq!(bench.rows().await, 11, "a dry run removes nothing");
    assert_eq!(bench.sweep(10, false).await, Ok(1));
    assert_eq!(bench.sweep(0, false).await, Ok(1));
    assert_eq!(bench.sweep(0, false).await, Ok(0));
    assert_eq!(bench.list().await, ["c", "forever"]);
    assert_eq!(bench.rows().await, 5);
}

#[tokio::test]
async fn a_replaced_window_is_swept_by_the_new_one_only() {
    let bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(10))).await.unwrap();
    bench.put("a", Some("w"), window(None, Some(1_000))).await.unwrap();
    bench.clock.pass(500);
    assert_eq!(bench.sweep(0, false).await, Ok(0));
    assert_eq!(bench.get("a").await, Some(Some("w".into())));
}

#[tokio::test]
async fn a_clock_that_jumps_ten_years_ahead_destroys_nothing() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(DAY))).await.unwrap();
    bench.clock.step(3_650 * DAY);
    assert_eq!(bench.sweep(0, false).await, Err(FailureKind::ClockDisputed));
    bench.vault.sweep_expired(Duration::ZERO).await;
    bench.reopen().await;
    assert_eq!(bench.sweep(0, false).await, Err(FailureKind::ClockDisputed));
    bench.clock.step(-3_650 * DAY);
    bench.reopen().await;
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
    assert_eq!(bench.sweep(0, false).await, Ok(0));
}

#[tokio::test]
async fn what_expired_stays_gone_when_the_clock_goes_back_over_a_restart() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(10))).await.unwrap();
    bench.clock.pass(DAY.unsigned_abs());
    assert_eq!(bench.get("a").await, None);
    bench.vault.keep_house().await.unwrap();
    bench.clock.step(-DAY);
    bench.reopen().await;
    assert_eq!(bench.get("a").await, None);
    assert_eq!(bench.list().await, [""; 0]);
    assert_eq!(bench.sweep(0, false).await, Err(FailureKind::ClockDisputed));
}

#[tokio::test]
async fn a_commit_persists_the_time_without_any_other_help() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(10))).await.unwrap();
    bench.clock.pass(100);
    bench.put("b", Some("v"), OPEN()).await.unwrap();
    bench.clock.step(-95);
    bench.reopen().await;
    assert_eq!(bench.get("a").await, None);
}

#[tokio::test]
async fn an_accepted_clock_ends_the_dispute_over_restarts_too() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    bench.clock.step(-10 * DAY);
    bench.reopen().await;
    assert_eq!(bench.sweep(0, false).await, Err(FailureKind::ClockDisputed));
    bench.run(Command::ClockAccept).await.unwrap();
    assert_eq!(bench.sweep(0, false).await, Ok(0));
    bench.reopen().await;
    assert_eq!(bench.sweep(0, false).await, Ok(0), "older floors do not outrank it");
}

#[tokio::test]
async fn a_tenant_made_again_under_its_name_honours_nothing_older() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let old = bench.token("acme").await;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    let now = bench.vault.now();
    assert_eq!(bench.vault.authenticate(&old, now).unwrap_err(), Refusal::TenantGone);
    bench.run(Command::TenantCreate { name: "acme".into() }).await.unwrap();
    assert_eq!(bench.vault.authenticate(&old, now).unwrap_err(), Refusal::TenantGone);
    assert_eq!(bench.get("a").await, None);
    bench.reopen().await;
    assert_eq!(bench.vault.authenticate(&old, now).unwrap_err(), Refusal::TenantGone);
    assert_eq!(bench.list().await, [""; 0]);
}

#[tokio::test]
async fn tenants_are_created_once_and_deleted_once() {
    let bench = Bench::new().await;
    let create = || bench.run(Command::TenantCreate { name: "acme".into() });
    assert_eq!(create().await.err().unwrap().kind, FailureKind::Conflict);
    let delete = || bench.run(Command::TenantDelete { name: "acme".into() });
    delete().await.unwrap();
    assert_eq!(delete().await.err().unwrap().kind, FailureKind::NotFound);
    assert_eq!(bench.store.tenants().await, Ok(vec![]));
    let bad = bench.run(Command::TenantCreate { name: "a/b".into() }).await.err().unwrap();
    assert_eq!(bad.kind, FailureKind::Usage);
}

#[tokio::test]
async fn what_an_interrupted_creation_left_is_removed_at_open() {
    let mut bench = Bench::new().await;
    let stray = TenantId::from_bytes([9; 16]);
    bench
        .vault
        .keyring
        .create_keys(stray, Timestamp::from_unix_seconds(START), Floor::START)
        .await
        .unwrap();
    bench.store.create_tenant(stray).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.store.tenants().await.unwrap().len(), 1);
    assert_eq!(bench.vault.keyring.tenants().await.len(), 1);
    bench.put("a", Some("v"), OPEN()).await.unwrap();
}

#[tokio::test]
async fn an_interrupted_deletion_is_finished_at_open() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let id = bench.vault.tenant_named(&acme()).unwrap().id;
    bench.vault.system.forget((&acme(), id), &[], Floor::START, &[]).await.unwrap();
    bench.reopen().await;
    assert!(bench.vault.tenant_named(&acme()).is_none());
    assert_eq!(bench.store.tenants().await, Ok(vec![]));
    assert!(bench.vault.keyring.tenants().await.is_empty());
    bench.run(Command::TenantCreate { name: "acme".into() }).await.unwrap();
    assert_eq!(bench.get("a").await, None);
}

#[tokio::test]
async fn a_store_opens_with_its_own_kek_only_and_is_initialized_once() {
    let bench = Bench::new().await;
    let other = Kek::generate();
    assert_eq!(open(&bench.store, &other, &bench.clock).await.err(), Some(OpenError::WrongKek));
    let again = Vault::init(bench.store.clone(), &bench.kek, KekWay::File, &*bench.clock).await;
    assert_eq!(again, Err(OpenError::AlreadyInitialized));
    let empty = Arc::new(MemoryStore::new());
    let opened = open(&empty, &bench.kek, &bench.clock).await;
    assert_eq!(opened.err(), Some(OpenError::NotInitialized));
}

#[tokio::test]
async fn an_interrupted_init_is_finished_by_the_next() {
    let (store, kek, clock) = (Arc::new(MemoryStore::new()), Kek::generate(), Manual::at(START));
    Keyring::create(
        store.clone(),
        StoreId::generate(),
        &kek,
        KekOrigin { way: KekWay::File, since: Timestamp::from_unix_seconds(START) },
    )
    .await
    .unwrap();
    assert_eq!(open(&store, &kek, &clock).await.err(), Some(OpenError::NotInitialized));
    Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.unwrap();
    assert!(open(&store, &kek, &clock).await.is_ok());
}

#[tokio::test]
async fn lists_are_right_when_no_memory_is_given_to_them() {
    let bench = Bench::new().await;
    let options = VaultOptions { list_cache_bytes: 0, ..VaultOptions::default() };
    let vault = Vault::open(bench.store.clone(), &bench.kek, bench.clock.clone(), options);
    let bench = Bench { vault: vault.await.unwrap(), ..bench };
    for name in ["b", "a", "C"] {
        bench.put(name, Some("v"), OPEN()).await.unwrap();
        bench.list().await;
    }
    assert_eq!(bench.list().await, ["C", "a", "b"]);
    assert_eq!(bench.vault.list_budget.used(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_name_at_once_leave_one_value_and_no_other_rows() {
    let bench = Arc::new(Bench::new().await);
    let writers = (0..32).map(|n| {
        let bench = bench.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                if (n + round) % 4 == 0 {
                    bench.delete("hot").await;
                } else {
                    bench.put("hot", Some(&format!("{n}")), window(None, Some(DAY))).await.unwrap();
                }
            }
        })
    });
    futures_util::future::join_all(writers).await.into_iter().for_each(Result::unwrap);
    bench.put("hot", Some("last"), OPEN()).await.unwrap();
    assert_eq!(bench.get("hot").await, Some(Some("last".into())));
    assert_eq!(bench.rows().await, 2);
    assert_eq!(bench.list().await, ["hot"]);
}

/// Someone who can write the disk, and has no key: rows change, the sealed
/// ledger stays as it is.
struct DiskWriter {
    sealed: Vec<u8>,
}

impl LedgerSeal for DiskWriter {
    fn digest_row(&self, _: &RowKey, _: &Row) -> [u8; 32] {
        [0; 32]
    }

    fn pack(&self, _: &[&str]) -> crate::store::Block {
        panic!("it appends nothing")
    }

    fn link(&self, _: &crate::store::Chain, _: &crate::store::Block) -> [u8; 32] {
        [0; 32]
    }

    fn seal(&self, _: &Ledger) -> Vec<u8> {
        self.sealed.clone()
    }

    fn open(&self, _: &[u8]) -> Result<Ledger, crate::store::ForgedLedger> {
        Ok(Ledger::EMPTY)
    }
}

impl Bench {
    pub(super) async fn all_rows(&self, space: Space) -> Vec<(RowKey, Row)> {
        let scan = Scan { prefix: Vec::new(), after: None, limit: usize::MAX };
        self.store.scan(space, scan).await.unwrap().rows
    }

    pub(super) async fn write_disk(&self, space: Space, changes: Vec<Change>) {
        let sealed = self.store.ledger(space).await.unwrap().unwrap();
        let batch = Batch { changes, floor: Floor::START, seal: Arc::new(DiskWriter { sealed }) };
        self.store.commit(space, batch).await.unwrap();
    }

    async fn opens(&self) -> Option<OpenError> {
        open(&self.store, &self.kek, &self.clock).await.err()
    }
}

#[tokio::test]
async fn a_system_or_keyring_row_that_is_altered_added_or_gone_is_noticed_at_open() {
    let bench = Bench::new().await;
    for space in [Space::System, Space::Keyring] {
        for (key, row) in bench.all_rows(space).await {
            let mut altered = row.clone();
            *altered.bytes.last_mut().unwrap() ^= 1;
            let other = RowKey::new([key.as_bytes(), b"2"].concat());
            for (tampering, undo) in [
                (
                    Change::Delete { key: key.clone() },
                    Change::Put { key: key.clone(), row: row.clone() },
                ),
                (
                    Change::Put { key: key.clone(), row: altered },
                    Change::Put { key: key.clone(), row: row.clone() },
                ),
                (
                    Change::Put { key: other.clone(), row: row.clone() },
                    Change::Delete { key: other.clone() },
                ),
            ] {
                bench.write_disk(space, vec![tampering]).await;
                let refused = bench.opens().await;
                let expected = matches!(
                    refused,
                    Some(
                        OpenError::Store(StoreError::Corrupted { .. })
                            | OpenError::WrongKek
                            | OpenError::NotInitialized
                    )
                );
                assert!(expected, "{space:?}: {refused:?}");
                bench.write_disk(space, vec![undo]).await;
            }
        }
    }
    assert_eq!(bench.opens().await, None, "as it was, it opens");
}

#[tokio::test]
async fn a_system_row_put_back_from_an_earlier_time_is_noticed_at_open() {
    let bench = Bench::new().await;
    let before = bench.all_rows(Space::System).await;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    let back = before.into_iter().map(|(key, row)| Change::Put { key, row }).collect();
    bench.write_disk(Space::System, back).await;
    assert!(matches!(bench.opens().await, Some(OpenError::Store(StoreError::Corrupted { .. }))));
}

#[tokio::test]
async fn a_tenants_altered_or_moved_rows_are_errors_and_never_another_value() {
    let bench = Bench::new().await;
    bench.put("a", Some("value of a"), OPEN()).await.unwrap();
    bench.put("b", Some("value of b"), OPEN()).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let space = Space::Tenant(tenant.id);
    let rows = bench.all_rows(space).await;
    let read = async |name: &str| {
        let now = bench.vault.now();
        let permit = bench.principal().await.may_read(&acme(), secret(name), now).unwrap();
        let read = bench.vault.read(&permit, now).await;
        read.map(|secret| secret.map(|secret| secret.value.unwrap().expose().to_owned()))
    };
    for (key, row) in &rows {
        for (_, other) in rows.iter().filter(|(other, _)| other != key) {
            let mut flipped = row.clone();
            let middle = flipped.bytes.len() / 2;
            flipped.bytes[middle] ^= 0x10;
            let mut cut = row.clone();
            cut.bytes.pop();
            let empty = Row { version: row.version, bytes: Vec::new() };
            for wrong in [other.clone(), flipped, cut, empty] {
                let put = Change::Put { key: key.clone(), row: wrong };
                bench.write_disk(space, vec![put]).await;
                let (a, b) = (read("a").await, read("b").await);
                let right = [
                    a == Ok(Some("value of a".to_owned())),
                    b == Ok(Some("value of b".to_owned())),
                ];
                let error = |read: &Result<Option<String>, VaultError>| {
                    matches!(read, Err(VaultError::Store(StoreError::Corrupted { .. })))
                };
                assert!(right[0] || error(&a), "{a:?}");
                assert!(right[1] || error(&b), "{b:?}");
                assert_ne!(right, [true, true], "one of them is damaged");
                let undo = Change::Put { key: key.clone(), row: row.clone() };
                bench.write_disk(space, vec![undo]).await;
            }
        }
    }
    assert_eq!(read("a").await, Ok(Some("value of a".to_owned())));
}

#[tokio::test]
async fn a_damaged_record_does_not_stop_the_sweep_of_others() {
    let bench = Bench::new().await;
    for (name, end) in [("a", 10), ("b", 20)] {
        bench.put(name, Some("v"), window(None, Some(end))).await.unwrap();
    }
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let key = layout::head_key(&tenant.locate(&secret("a")));
    let space = Space::Tenant(tenant.id);
    let mut row = bench.store.get(space, &key).await.unwrap().unwrap();
    row.bytes[40] ^= 1;
    let sealed = bench.store.ledger(space).await.unwrap().unwrap();
    let seal = Arc::new(DiskWriter { sealed });
    let changes = vec![Change::Put { key, row }];
    bench.store.commit(space, Batch { changes, floor: Floor::START, seal }).await.unwrap();
    bench.clock.pass(100);
    let sweep = Command::Sweep { tenant: None, retain_seconds: 0, dry_run: false };
    let Ok(Reply::Swept { tenants, .. }) = bench.run(sweep).await else { panic!("no sweep") };
    assert_eq!((tenants[0].secrets, tenants[0].damaged), (1, 1));
}

#[tokio::test]
async fn after_an_accepted_step_back_the_time_is_persisted_as_it_passes() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), window(None, Some(-9 * DAY + 50))).await.unwrap();
    bench.clock.step(-9 * DAY);
    bench.run(Command::ClockAccept).await.unwrap();
    assert_eq!(bench.get("a").await, Some(Some("v".into())), "the operator says it is earlier");
    bench.clock.pass(60);
    bench.vault.keep_house().await.unwrap();
    bench.clock.step(-30);
    bench.reopen().await;
    assert_eq!(bench.get("a").await, None);
}

impl Bench {
    /// Every fault of the whole store, and of how many secrets.
    pub(super) async fn faults(&self) -> (Vec<String>, u64) {
        let verify = Command::Verify { tenant: None, rows_per_second: None };
        let Reply::Verified(found) = self.run(verify).await.unwrap() else { panic!("no report") };
        let faults: Vec<_> = found.parts.iter().flat_map(|part| part.faults.clone()).collect();
        assert_eq!(found.sound, faults.is_empty());
        (faults, found.parts.iter().map(|part| part.secrets).sum())
    }
}

/// Of every shape: small, null, in several rows, with either end.
async fn of_every_shape(bench: &Bench) {
    let long = "0123456789abcdef".repeat(600);
    for (name, value, bounds) in [
        ("small", Some("a"), (None, None)),
        ("null", None, (None, None)),
        ("long", Some(long.as_str()), (None, Some(START + 5))),
        ("later", Some("b"), (Some(START + DAY), Some(START + 2 * DAY))),
        ("gone", Some("c"), (None, Some(START - 1))),
    ] {
        bench.put(name, value, window(bounds.0, bounds.1)).await.unwrap();
    }
    bench.put("small", Some("again"), window(None, None)).await.unwrap();
    bench.put("dropped", Some("d"), window(None, None)).await.unwrap();
    bench.delete("dropped").await;
}

#[tokio::test]
async fn a_whole_store_verifies_as_sound() {
    let bench = Bench::new().await;
    of_every_shape(&bench).await;
    bench.run(Command::TenantCreate { name: "empty".into() }).await.unwrap();
    assert_eq!(bench.faults().await, (vec![], 5));
    let one = Command::Verify { tenant: Some("acme".into()), rows_per_second: Some(1_000_000) };
    let Reply::Verified(found) = bench.run(one).await.unwrap() else { panic!("no report") };
    assert_eq!((found.parts.len(), found.parts[0].secrets, found.sound), (1, 5, true));
    let nobody = Command::Verify { tenant: Some("nobody".into()), rows_per_second: None };
    assert_eq!(bench.run(nobody).await.err().unwrap().kind, FailureKind::NotFound);
}

#[tokio::test]
async fn every_row_altered_removed_or_added_is_found_by_verify() {
    let bench = Bench::new().await;
    of_every_shape(&bench).await;
    let id = bench.vault.tenant_named(&acme()).unwrap().id;
    for space in [Space::Tenant(id), Space::System, Space::Keyring] {
        for (key, row) in bench.all_rows(space).await {
            let mut altered = row.clone();
            match altered.bytes.last_mut() {
                Some(last) => *last ^= 1,
                None => altered.bytes.push(1),
            }
            let newer = Row { version: row.version + 1, ..row.clone() };
            let other = RowKey::new([key.as_bytes(), b"2"].concat());
            let put = |row: &Row| Change::Put { key: key.clone(), row: row.clone() };
            for (tampering, undo) in [
                (Change::Delete { key: key.clone() }, put(&row)),
                (put(&altered), put(&row)),
                (put(&newer), put(&row)),
                (
                    Change::Put { key: other.clone(), row: row.clone() },
                    Change::Delete { key: other.clone() },
                ),
            ] {
                let what = format!("{space}: {tampering:?}");
                bench.write_disk(space, vec![tampering]).await;
                assert_ne!(bench.faults().await.0, Vec::<String>::new(), "{what}");
                bench.write_disk(space, vec![undo]).await;
            }
        }
    }
    assert_eq!(bench.faults().await, (vec![], 5));
}

#[tokio::test]
async fn a_whole_secret_put_back_from_an_older_copy_is_found_by_verify() {
    let bench = Bench::new().await;
    let id = bench.vault.tenant_named(&acme()).unwrap().id;
    let space = Space::Tenant(id);
    bench.put("password", Some("old"), window(None, None)).await.unwrap();
    let old = bench.all_rows(space).await;
    bench.put("password", Some("new"), window(None, None)).await.unwrap();
    let new = bench.all_rows(space).await;
    let drop_new = new.iter().map(|(key, _)| Change::Delete { key: key.clone() });
    bench.write_disk(space, drop_new.collect()).await;
    let put_old = old.into_iter().map(|(key, row)| Change::Put { key, row });
    bench.write_disk(space, put_old.collect()).await;
    assert_eq!(bench.get("password").await, Some(Some("old".into())), "nothing else shows it");
    let (faults, _) = bench.faults().await;
    assert_eq!(faults, ["a row is not the one that was last written: put back or altered"]);
}

#[tokio::test]
async fn an_index_that_disagrees_with_the_secrets_is_named() {
    let bench = Bench::new().await;
    of_every_shape(&bench).await;
    let space = Space::Tenant(bench.vault.tenant_named(&acme()).unwrap().id);
    let (key, _) = bench.all_rows(space).await.pop().unwrap();
    bench.write_disk(space, vec![Change::Delete { key }]).await;
    let (faults, _) = bench.faults().await;
    assert!(faults[0].contains("3 have an end, and 2 are in the index"), "{faults:?}");
}

#[tokio::test]
async fn secrets_verify_as_sound_while_others_write() {
    let bench = Bench::new().await;
    let writer = async {
        for round in 0..200 {
            let name = format!("n{}", round % 7);
            bench.put(&name, Some("value"), window(None, Some(START + DAY))).await.unwrap();
            if round % 3 == 0 {
                bench.delete(&name).await;
            }
            tokio::task::yield_now().await;
        }
    };
    let verifier = async {
        for _ in 0..20 {
            assert_eq!(bench.faults().await.0, Vec::<String>::new());
        }
    };
    tokio::join!(writer, verifier);
}
