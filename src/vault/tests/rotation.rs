//! New keys under a vault that is in use.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::counting::Counting;
use super::*;
use crate::api::admin::{DekRow, Failure, HiddenText, Reencrypted, When};
use crate::crypto::OldDeks;

impl Bench {
    async fn rotate_deks(&self, tenant: Option<&str>, rewrite: bool) -> Option<Reencrypted> {
        match self.run(rotation(tenant, rewrite)).await.unwrap() {
            Reply::DeksRotated { dry_run: false, reencrypted, .. } => reencrypted,
            _ => panic!("not a rotation"),
        }
    }

    async fn deks(&self, tenant: Option<&str>) -> Vec<DekRow> {
        let tenant = tenant.map(str::to_owned);
        match self.run(Command::DekList { tenant }).await.unwrap() {
            Reply::Deks { deks } => deks,
            _ => panic!("not a list of DEKs"),
        }
    }

    /// Id and state of each of acme's.
    async fn acme_deks(&self) -> Vec<(u32, String)> {
        self.deks(Some("acme")).await.into_iter().map(|dek| (dek.id, dek.state)).collect()
    }

    /// Under which DEKs rows of a space stand.
    async fn used_deks(&self, space: Space) -> BTreeSet<u32> {
        let scan = Scan { prefix: Vec::new(), after: None, limit: usize::MAX };
        let rows = self.store.scan(space, scan).await.unwrap().rows;
        // A later piece of a large value begins with no envelope.
        let first = |key: &RowKey| match layout::parse_value_key(key) {
            Ok((.., layout::Piece::Chunk(number))) => number == 0,
            _ => true,
        };
        let rows = rows.iter().filter(|(key, row)| first(key) && !row.bytes.is_empty());
        rows.map(|(_, row)| u32::from_be_bytes(row.bytes[1..5].try_into().unwrap())).collect()
    }

    fn acme_space(&self) -> Space {
        Space::Tenant(self.vault.tenant_named(&acme()).unwrap().id)
    }

    async fn is_sound(&self) -> bool {
        let verify = Command::Verify { tenant: None, rows_per_second: None };
        match self.run(verify).await.unwrap() {
            Reply::Verified(found) => found.sound,
            _ => panic!("not a verification"),
        }
    }

    /// A restart, over a store that can hold back what is written.
    async fn reopen_counting(&mut self) -> Arc<Counting> {
        let (store, clock) = (Counting::over(self.store.clone()), self.clock.clone());
        let options = VaultOptions::default();
        self.vault = Vault::open(store.clone(), &self.kek, clock, options).await.unwrap();
        store
    }

    /// A restart with other options.
    async fn reopen_with(&mut self, options: VaultOptions) {
        let clock = self.clock.clone();
        self.vault = Vault::open(self.store.clone(), &self.kek, clock, options).await.unwrap();
    }
}

fn rotation(tenant: Option<&str>, rewrite: bool) -> Command {
    let tenant = tenant.map(str::to_owned);
    Command::DekRotate { tenant, rewrite, per_second: None, dry_run: false }
}

fn states(states: &[(u32, &str)]) -> Vec<(u32, String)> {
    states.iter().map(|(id, state)| (*id, (*state).to_owned())).collect()
}

#[tokio::test]
async fn after_a_rotation_old_and_new_values_are_read_over_a_restart_too() {
    let mut bench = Bench::new().await;
    bench.put("before", Some("one"), OPEN()).await.unwrap();
    assert_eq!(bench.rotate_deks(None, false).await, None);
    bench.put("after", Some("two"), OPEN()).await.unwrap();
    assert_eq!(bench.acme_deks().await, states(&[(1, "retired"), (2, "active")]));
    assert_eq!(bench.used_deks(bench.acme_space()).await, BTreeSet::from([1, 2]));
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.get("before").await, Some(Some("one".into())));
        assert_eq!(bench.get("after").await, Some(Some("two".into())));
        assert_eq!(bench.list().await, ["after", "before"]);
        assert!(bench.is_sound().await);
        bench.reopen().await;
    }
}

#[tokio::test]
async fn a_dry_run_draws_nothing() {
    let bench = Bench::new().await;
    let dry = Command::DekRotate { tenant: None, rewrite: true, per_second: None, dry_run: true };
    match bench.run(dry).await.unwrap() {
        Reply::DeksRotated { dry_run: true, tenants: 1, system: true, reencrypted: None } => {}
        _ => panic!("another answer"),
    }
    assert_eq!(bench.acme_deks().await, states(&[(1, "active")]));
}

#[tokio::test]
async fn a_rewriting_leaves_nothing_under_an_old_dek_and_destroys_it() {
    let mut bench = Bench::new().await;
    let sizes = [0, 900, 1_000, 3_600, 9_000, 65_536];
    let mut versions = Vec::new();
    for size in sizes {
        let value = "x".repeat(size);
        let name = format!("v{size}");
        versions.push(bench.put(&name, Some(&value), window(None, Some(DAY))).await.unwrap());
    }
    bench.put("null", None, OPEN()).await.unwrap();
    bench.put("expired", Some("gone"), window(None, Some(-1))).await.unwrap();
    let rows = bench.rows().await;
    bench.rotate_deks(None, false).await;
    bench.put("newer", Some("v"), OPEN()).await.unwrap();
    let done = bench.rotate_deks(None, true).await;
    assert_eq!(done, Some(Reencrypted { secrets: 9, damaged: 0 }));
    for space in [bench.acme_space(), Space::System] {
        assert_eq!(bench.used_deks(space).await, BTreeSet::from([3]));
    }
    assert!(bench.deks(None).await.iter().all(|dek| (dek.id, dek.state.as_str()) == (3, "active")));
    assert_eq!(bench.rows().await, rows + 2);
    for _ in 0..2 {
        for (size, version) in sizes.iter().zip(&versions) {
            let name = format!("v{size}");
            let found = bench.get(&name).await.unwrap().unwrap();
            assert_eq!(found.len(), *size);
            let exact = Precondition::Versions(vec![*version]);
            let put = bench.put_if(&name, Some(&found), window(None, Some(DAY)), exact).await;
            assert!(put.is_ok(), "its ETag holds");
            bench.delete(&name).await;
            bench.put(&name, Some(&found), OPEN()).await.unwrap();
        }
        versions.clear();
        assert_eq!(bench.get("null").await, Some(None));
        assert_eq!(bench.get("expired").await, None);
        assert!(bench.is_sound().await);
        bench.reopen().await;
    }
}

/// Readers and writers of small and large values, all through many rewritings: a
/// large value is read in pieces, and must not be put together of two encryptions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_torn_while_everything_is_encrypted_anew() {
    const ROUNDS: usize = 12;
    const NAMES: usize = 24;
    let bench = Arc::new(Bench::new().await);
    let value = |name: usize, n: u64| {
        format!("{n:08}").repeat(if name.is_multiple_of(2) { 8_000 } else { 8 })
    };
    for name in 0..NAMES {
        bench.put(&format!("n{name}"), Some(&value(name, 0)), OPEN()).await.unwrap();
    }
    let (ended, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut work = Vec::new();
    for reader in 0..2 {
        let (bench, ended, reads) = (bench.clone(), ended.clone(), reads.clone());
        work.push(tokio::spawn(async move {
            for turn in (reader..).step_by(2) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let name = turn % NAMES;
                let read = bench.get(&format!("n{name}")).await.unwrap().unwrap();
                assert_eq!(read, value(name, read[..8].parse().unwrap()));
                reads.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let writer = {
        let (bench, ended) = (bench.clone(), ended.clone());
        tokio::spawn(async move {
            let mut n = 0;
            while !ended.load(Ordering::SeqCst) {
                n += 1;
                for name in (0..NAMES).step_by(3) {
                    bench.put(&format!("n{name}"), Some(&value(name, n)), OPEN()).await.unwrap();
                }
            }
            n
        })
    };
    for _ in 0..ROUNDS {
        let before = reads.load(Ordering::SeqCst);
        assert_eq!(bench.rotate_deks(None, true).await.unwrap().damaged, 0);
        while reads.load(Ordering::SeqCst) < before + 10 {
            tokio::task::yield_now().await;
        }
    }
    ended.store(true, Ordering::SeqCst);
    for task in work {
        task.await.unwrap();
    }
    let last = writer.await.unwrap();
    let newest = BTreeSet::from([ROUNDS as u32 + 1]);
    assert_eq!(bench.used_deks(bench.acme_space()).await, newest, "the last one is the only one");
    for name in 0..NAMES {
        let n = if name.is_multiple_of(3) { last } else { 0 };
        assert_eq!(bench.get(&format!("n{name}")).await.unwrap().unwrap(), value(name, n));
    }
    assert!(bench.is_sound().await);
}

/// What was encrypted under the old DEK and is not stored yet when the new one comes
/// must not be left behind when the old one is destroyed.
#[tokio::test]
async fn a_write_under_way_is_waited_for_before_its_dek_is_destroyed() {
    let mut bench = Bench::new().await;
    for space in [bench.acme_space(), Space::System] {
        let store = bench.reopen_counting().await;
        let gate = store.hold(space).await;
        let rotate = async {
            store.holds_one().await;
            let rewriting = bench.rotate_deks(None, true);
            tokio::pin!(rewriting);
            let waited = tokio::time::timeout(Duration::from_millis(100), &mut rewriting).await;
            assert!(waited.is_err(), "it waits for the write");
            drop(gate);
            rewriting.await
        };
        let write = async {
            match space {
                Space::System => drop(
                    bench.run(Command::TokenRotateRoot { honour_old: When::Now }).await.unwrap(),
                ),
                _ => drop(bench.put("a", Some("v"), OPEN()).await.unwrap()),
            }
        };
        let ((), done) = tokio::join!(write, rotate);
        assert_eq!(done.unwrap().damaged, 0);
        let active = bench.acme_deks().await[0].0;
        assert_eq!(bench.used_deks(space).await, BTreeSet::from([active]));
        assert!(bench.is_sound().await);
    }
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

/// The walk for the first may have passed what is under the second.
#[tokio::test]
async fn a_dek_that_begins_to_leave_during_a_rewriting_is_not_destroyed_by_it() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let space = bench.acme_space();
    let store = bench.reopen_counting().await;
    let gate = store.hold(space).await;
    let acme = vec![bench.vault.tenant_named(&acme()).unwrap().id];
    let rewriting = bench.rotate_deks(Some("acme"), true);
    let another = async {
        // The first is encrypting "a" anew, under DEK 2.
        store.holds_one().await;
        bench.vault.rotate_deks(acme, OldDeks::Replace).await.unwrap();
        drop(gate);
    };
    tokio::join!(rewriting, another);
    assert_eq!(bench.used_deks(space).await, BTreeSet::from([2]));
    assert_eq!(bench.acme_deks().await, states(&[(2, "leaving"), (3, "active")]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&[(3, "active")]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

/// The keyring says already that the old DEK leaves, and memory encrypts under it still.
#[tokio::test]
async fn a_rewriting_does_not_begin_amid_a_rotation() {
    let bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let acme = bench.vault.tenant_named(&acme()).unwrap().id;
    let rotating = bench.vault.keys_in_use.write().await;
    let floor = bench.vault.time.floor();
    let now = bench.vault.now().wall();
    let keyring = &bench.vault.keyring;
    let drawn = keyring.rotate_deks(&[acme], OldDeks::Replace, now, floor).await;
    let mut drawn = drawn.unwrap();
    let tending = bench.vault.tend_keys();
    tokio::pin!(tending);
    let waited = tokio::time::timeout(Duration::from_millis(100), &mut tending).await;
    assert!(waited.is_err(), "it waits for the rotation");
    assert_eq!(bench.acme_deks().await, states(&[(1, "leaving"), (2, "active")]));
    let (_, dek) = drawn.remove(0);
    bench.vault.tenant(acme).unwrap().keys().0.rotate(dek, OldDeks::Replace);
    drop(rotating);
    assert_eq!(tending.await, Tended::Done);
    assert_eq!(bench.used_deks(bench.acme_space()).await, BTreeSet::from([2]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

#[tokio::test]
async fn a_tenant_whose_deletion_fails_keeps_its_deks() {
    let bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    bench.vault.rotate_deks(vec![tenant.id], OldDeks::Replace).await.unwrap();
    // As a deletion does before it is stored.
    bench.vault.tenants.write().unwrap().remove(&tenant);
    bench.vault.tend_keys().await;
    bench.vault.tenants.write().unwrap().insert(tenant);
    assert_eq!(bench.acme_deks().await, states(&[(1, "leaving"), (2, "active")]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

#[tokio::test]
async fn what_was_interrupted_goes_on_after_a_restart() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let spaces = vec![bench.vault.tenant_named(&acme()).unwrap().id];
    // As far as a crash right after the rotation lets it come.
    bench.vault.rotate_deks(spaces, OldDeks::Replace).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.acme_deks().await, states(&[(1, "leaving"), (2, "active")]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
    // Another rotation does not take it back.
    bench.rotate_deks(Some("acme"), false).await;
    let before = [(1, "leaving"), (2, "retired"), (3, "active")];
    assert_eq!(bench.acme_deks().await, states(&before));
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&before[1..]));
    assert_eq!(bench.used_deks(bench.acme_space()).await, BTreeSet::from([3]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

#[tokio::test]
async fn what_is_damaged_keeps_its_dek_and_hinders_no_other_tenant() {
    let bench = Bench::new().await;
    bench.put("good", Some("v"), OPEN()).await.unwrap();
    bench.put("bad", Some("v"), OPEN()).await.unwrap();
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let value = layout::value_keys(&tenant.locate(&secret("bad")), 2, layout::ValueShape::Beside);
    let changes = value.map(|key| Change::Delete { key }).collect();
    tenant.commit(changes, Floor::START).await.unwrap();
    let done = bench.rotate_deks(None, true).await;
    assert_eq!(done, Some(Reencrypted { secrets: 1, damaged: 1 }));
    assert_eq!(bench.acme_deks().await, states(&[(1, "leaving"), (2, "active")]));
    assert_eq!(bench.deks(Some("beta")).await.len(), 1);
    assert_eq!(bench.get("good").await, Some(Some("v".into())));
    // Once it is gone, so is the DEK.
    bench.delete("bad").await;
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&[(2, "active")]));
}

#[tokio::test]
async fn deks_are_rotated_by_age_while_the_clock_is_undisputed() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    let deks = DekPolicy {
        rotate_after: Some(Duration::from_secs(10 * 86_400)),
        old: OldDeks::Retire,
        per_second: None,
    };
    bench.reopen_with(VaultOptions { deks, ..VaultOptions::default() }).await;
    bench.clock.pass(10 * 86_400 - 1);
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&[(1, "active")]));
    bench.clock.pass(1);
    bench.vault.tend_keys().await;
    let rotated = [(1, "retired"), (2, "active")];
    assert_eq!(bench.acme_deks().await, states(&rotated));
    assert_eq!(bench.deks(None).await.len(), 4, "the system's too");
    bench.vault.tend_keys().await;
    bench.clock.step(30 * DAY);
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&rotated), "once, and not by a wrong clock");
    let deks = DekPolicy { old: OldDeks::Replace, ..deks };
    bench.clock.step(-30 * DAY);
    bench.clock.pass(10 * 86_400);
    bench.reopen_with(VaultOptions { deks, ..VaultOptions::default() }).await;
    bench.vault.tend_keys().await;
    assert_eq!(bench.acme_deks().await, states(&[(3, "active")]));
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
}

#[tokio::test]
async fn keys_do_not_change_under_a_backup() {
    let bench = Bench::new().await;
    let _backup = bench.vault.keys_in_use.read().await;
    let new = Kek::generate();
    let replace = Command::KekReplace {
        kek: HiddenText::new(&new.to_text()),
        origin: hex::encode(origin().encode()),
    };
    for command in [rotation(None, false), rotation(None, true), replace] {
        let Err(Failure { kind, message }) = bench.run(command).await else { panic!("done") };
        assert_eq!(kind, FailureKind::Unavailable);
        assert!(message.contains("under way") && message.contains("no key was changed"));
    }
    assert_eq!(bench.acme_deks().await, states(&[(1, "active")]));
    assert!(bench.vault.keyring.store_keys().proves(&keyring_check(&bench).await));
}

fn origin() -> KekOrigin {
    KekOrigin { way: KekWay::Env, since: Timestamp::from_unix_seconds(START + 1) }
}

async fn keyring_check(bench: &Bench) -> [u8; 32] {
    Keyring::header(&*bench.store).await.unwrap().unwrap().check
}

#[tokio::test]
async fn a_replaced_kek_opens_nothing_and_the_new_one_all() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("v"), OPEN()).await.unwrap();
    bench.rotate_deks(Some("acme"), false).await;
    let new = Kek::generate();
    let replace =
        |kek: &str, origin: String| Command::KekReplace { kek: HiddenText::new(kek), origin };
    for wrong in
        [replace("4a", hex::encode(origin().encode())), replace(&new.to_text(), "00".into())]
    {
        let Err(refused) = bench.run(wrong).await else { panic!("taken") };
        assert_eq!(refused.kind, FailureKind::Usage);
        assert!(!refused.message.contains("4a"));
    }
    let before = keyring_check(&bench).await;
    let wanted = replace(&new.to_text(), hex::encode(origin().encode()));
    let Reply::KekReplaced(status) = bench.run(wanted).await.unwrap() else { panic!("not that") };
    assert_eq!((status.source.as_deref(), status.shares), (Some("env"), None));
    assert_ne!(status.fingerprint, hex::encode(&before[..4]));
    // It goes on, and what is written now is there after a restart.
    bench.put("b", Some("w"), OPEN()).await.unwrap();
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    assert!(bench.is_sound().await);
    let old = open(&bench.store, &bench.kek, &bench.clock).await;
    assert_eq!(old.err(), Some(OpenError::WrongKek));
    bench.kek = new;
    bench.reopen().await;
    assert_eq!(bench.get("a").await, Some(Some("v".into())));
    assert_eq!(bench.get("b").await, Some(Some("w".into())));
    let record = Vault::kek_record(&*bench.store).await.unwrap().unwrap();
    assert_eq!(record.origin, Some(origin()));
    assert!(bench.is_sound().await);
}
