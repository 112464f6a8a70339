//! What of the audit is copied out of the store.

use std::io;
use std::time::Duration;

use super::*;
use crate::api::audit::{AuditOp, CopiedEntry};
use crate::auth::Caller;
use crate::domain::SecretNaming;
use crate::store::{Change, LedgerSeal, Space};
use crate::vault::{CopiesTo, CopyCursors, CopyTaker, Follower, Left};

const VALUE: &str = "a-value-that-is-nowhere";

/// Takes so many times, then refuses.
struct Taker {
    taken: Vec<CopiedEntry>,
    times: usize,
    settled: usize,
}

impl Taker {
    fn willing() -> Self {
        Self { taken: Vec::new(), times: usize::MAX, settled: 0 }
    }

    /// The numbers of those of acme's chain.
    fn of_acme(&self) -> Vec<u64> {
        let of_acme = self.taken.iter().filter(|copy| copy.chain.as_deref() == Some("acme"));
        of_acme.map(|copy| copy.entry.number).collect()
    }

    /// Chain and number of each.
    fn places(&self) -> Vec<(Option<&str>, u64)> {
        self.taken.iter().map(|copy| (copy.chain_id.as_deref(), copy.entry.number)).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.taken.iter().filter_map(|copy| copy.entry.entry.name.as_deref()).collect()
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.taken).unwrap()
    }

    async fn all(&mut self, follower: &mut Follower) {
        while follower.copy_some(self).await.unwrap() == Left::More {}
    }
}

impl CopyTaker for Taker {
    fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()> {
        self.times = self.times.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.taken.extend_from_slice(entries);
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.settled = self.taken.len();
        Ok(())
    }

    fn reopen(&mut self) {}
}

impl Bench {
    fn follow(&self, cursors: CopyCursors) -> Follower {
        self.vault.follow_audit(CopiesTo::File, SecretNaming::Plain, cursors)
    }

    async fn copied(&self, names: SecretNaming) -> Taker {
        let mut taker = Taker::willing();
        let cursors = CopyCursors::default();
        taker.all(&mut self.vault.follow_audit(CopiesTo::Syslog, names, cursors)).await;
        taker
    }

    async fn puts(&self, names: &[&str]) {
        for name in names {
            self.put(name, Some(VALUE), OPEN()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn each_entry_is_copied_once_in_the_order_of_its_chain() {
    let bench = Bench::new().await;
    bench.puts(&["a", "b"]).await;
    let (mut taker, mut follower) = (Taker::willing(), bench.follow(CopyCursors::default()));
    taker.all(&mut follower).await;
    assert_eq!(taker.of_acme(), [0, 1]);
    let before = taker.taken.len();
    taker.all(&mut follower).await;
    assert_eq!(taker.taken.len(), before, "nothing happened since");
    let principal = bench.principal().await;
    taker.all(&mut follower).await;
    drop(principal);
    let mut places = taker.places();
    assert!(places.len() > before, "a token was minted");
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), taker.taken.len(), "one was copied twice");
    assert!(!taker.text().contains(VALUE));
}

#[tokio::test]
async fn what_was_not_taken_is_told_again_and_nothing_is_missing() {
    let bench = Bench::new().await;
    bench.puts(&["a", "b", "c"]).await;
    let all = bench.copied(SecretNaming::Plain).await;
    let mut follower = bench.follow(CopyCursors::default());
    let mut taker = Taker { times: 0, ..Taker::willing() };
    let mut refusals = 0;
    // It takes one block each time.
    while let Err(error) = follower.copy_some(&mut taker).await {
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        refusals += 1;
        taker.times = 1;
    }
    assert!(refusals > 1, "it was taken at once");
    assert_eq!(taker.taken, all.taken);
}

#[tokio::test]
async fn each_who_follows_is_told_of_everything() {
    let bench = Bench::new().await;
    let (mut one, mut first) = (Taker::willing(), bench.follow(CopyCursors::default()));
    let mut second =
        bench.vault.follow_audit(CopiesTo::Journal, SecretNaming::Plain, CopyCursors::default());
    let mut other = Taker::willing();
    for name in ["a", "b", "c"] {
        bench.puts(&[name]).await;
        one.all(&mut first).await;
        other.all(&mut second).await;
    }
    assert_eq!(one.of_acme(), [0, 1, 2]);
    assert_eq!(other.of_acme(), [0, 1, 2]);
}

#[tokio::test]
async fn a_hashed_name_tells_nothing_and_stays_the_same() {
    let mut bench = Bench::new().await;
    bench.puts(&["the-name", "another", "the-name"]).await;
    let before = bench.copied(SecretNaming::Hashed).await;
    assert!(!before.text().contains("the-name") && !before.text().contains("another"));
    let [one, other, again] = before.names()[..] else { panic!("{}", before.text()) };
    assert!(one == again && one != other && one.len() == 32);
    let rotate =
        Command::DekRotate { tenant: None, rewrite: false, per_second: None, dry_run: false };
    bench.run(rotate).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.copied(SecretNaming::Hashed).await.names(), before.names());
}

#[tokio::test]
async fn cursors_outlive_a_restart_and_are_those_of_one_store() {
    let mut bench = Bench::new().await;
    bench.puts(&["a", "b"]).await;
    let (mut taker, mut follower) = (Taker::willing(), bench.follow(CopyCursors::default()));
    taker.all(&mut follower).await;
    let text = follower.cursors().text(&bench.vault);
    bench.reopen().await;
    bench.puts(&["c"]).await;
    let cursors = CopyCursors::parse(&text, &bench.vault).unwrap();
    let mut later = Taker::willing();
    later.all(&mut bench.follow(cursors)).await;
    assert_eq!(later.of_acme(), [2]);

    let other = Bench::new().await;
    let refused = CopyCursors::parse(&text, &other.vault).unwrap_err();
    assert_eq!(refused.to_string(), "it is of another store");
    for damaged in ["", "{}", "{\"tenure\"", &text.replace("cursors/1", "cursors/2")] {
        assert!(CopyCursors::parse(damaged, &bench.vault).is_err(), "{damaged}");
    }
}

/// Cursors that outlived the entries: a store that was put back.
#[tokio::test]
async fn a_chain_that_is_shorter_than_what_was_copied_is_copied_anew() {
    let bench = Bench::new().await;
    bench.puts(&["a"]).await;
    let id = bench.vault.tenant_named(&acme()).unwrap().id;
    let follower = bench.follow(CopyCursors::default());
    let text = follower.cursors().text(&bench.vault);
    let ahead = text.replace("\"next\":{", &format!("\"next\":{{\"{id}\":5,"));
    let ahead = ahead.replace(",}", "}");
    let mut taker = Taker::willing();
    taker.all(&mut bench.follow(CopyCursors::parse(&ahead, &bench.vault).unwrap())).await;
    assert_eq!(taker.of_acme(), [0]);
}

#[tokio::test]
async fn who_begins_begins_where_what_is_kept_begins_and_who_is_late_goes_on_there() {
    let bench = Bench::new().await;
    bench.puts(&["a"]).await;
    let (mut late, mut behind) = (Taker::willing(), bench.follow(CopyCursors::default()));
    late.all(&mut behind).await;
    bench.puts(&["b", "c"]).await;
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let space = Space::Tenant(tenant.id);
    let sealed = bench.store.ledger(space).await.unwrap().unwrap();
    let kept_from = tenant.keys().1.open(&sealed).unwrap().chain;
    let floor = bench.vault.time.floor();
    tenant.commit(vec![Change::Forget { kept_from }], floor).await.unwrap();
    bench.puts(&["d"]).await;
    late.all(&mut behind).await;
    assert_eq!(late.of_acme(), [0, 3]);
    assert_eq!(bench.copied(SecretNaming::Plain).await.of_acme(), [3]);
}

#[tokio::test]
async fn a_damaged_block_keeps_nothing_else_from_being_copied() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.puts(&[name]).await;
    }
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    bench.store.tamper(Space::Tenant(tenant.id), |chain| {
        *chain.get_mut(&1).unwrap().block.bytes.last_mut().unwrap() ^= 1;
    });
    let taker = bench.copied(SecretNaming::Plain).await;
    assert_eq!(taker.of_acme(), [0, 2]);
    // The same of one that was cut out.
    bench.store.tamper(Space::Tenant(tenant.id), |chain| drop(chain.remove(&1)));
    let taker = bench.copied(SecretNaming::Plain).await;
    assert_eq!(taker.of_acme(), [0, 2]);
    assert!(taker.taken.iter().any(|copy| copy.chain.is_none()), "the system's");
}

#[tokio::test]
async fn what_is_left_of_a_tenant_is_taken_before_it_goes() {
    let bench = Arc::new(Bench::new().await);
    let (mut taker, mut follower) = (Taker::willing(), bench.follow(CopyCursors::default()));
    taker.all(&mut follower).await;
    bench.puts(&["a", "b"]).await;
    let deleting = bench.clone();
    let deleting = tokio::spawn(async move {
        deleting.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    });
    follower.asked().await;
    taker.all(&mut follower).await;
    deleting.await.unwrap();
    assert_eq!(taker.of_acme(), [0, 1]);
    assert!(taker.settled > 0, "it must be durable before the chain is destroyed");
    taker.all(&mut follower).await;
    let last = taker.taken.last().unwrap();
    assert_eq!(last.entry.entry.op, AuditOp::TenantDelete);
    // Its cursor went too.
    assert_eq!(follower.cursors().text(&bench.vault).matches(':').count(), 4);
}

#[tokio::test]
async fn a_tenant_goes_when_nobody_takes_what_is_left_of_it() {
    let bench = Bench::new().await;
    let mut follower = bench.follow(CopyCursors::default());
    bench.puts(&["a"]).await;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    let mut taker = Taker::willing();
    taker.all(&mut follower).await;
    assert!(taker.of_acme().is_empty(), "it was destroyed");
    assert!(!taker.taken.is_empty(), "the others are copied all the same");
}

#[tokio::test]
async fn a_tenant_is_not_kept_by_who_refuses_what_is_left_of_it() {
    let bench = Arc::new(Bench::new().await);
    let mut follower = bench.follow(CopyCursors::default());
    bench.puts(&["a"]).await;
    let deleting = bench.clone();
    let deleting = tokio::spawn(async move {
        deleting.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    });
    follower.asked().await;
    let mut unwilling = Taker { times: 0, ..Taker::willing() };
    follower.copy_some(&mut unwilling).await.unwrap_err();
    deleting.await.unwrap();
    // And the others are copied.
    let mut taker = Taker::willing();
    taker.all(&mut follower).await;
    assert!(taker.of_acme().is_empty());
    assert!(!taker.taken.is_empty());
}

#[tokio::test]
async fn how_far_copies_are_behind_is_known() {
    let bench = Bench::new().await;
    let (mut taker, mut follower) = (Taker::willing(), bench.follow(CopyCursors::default()));
    taker.all(&mut follower).await;
    assert_eq!(follower.behind(), Duration::ZERO);
    bench.vault.note(&Caller::server(), AuditOp::Seal).await;
    follower.look();
    bench.clock.pass(7);
    follower.look();
    assert_eq!(follower.behind(), Duration::from_secs(7));
    taker.all(&mut follower).await;
    assert_eq!(follower.behind(), Duration::ZERO);
}
