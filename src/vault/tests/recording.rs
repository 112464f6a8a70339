//! Reads, and what was refused, on their way into the audit.

use super::audit::said;
use super::counting::Counting;
use super::*;
use crate::api::audit::{AuditActor, AuditFilter, AuditFrom};
use crate::auth::Origin;
use crate::vault::{About, Act, AuditPolicy, Reads, TurnedAway, Unrecorded};

const BUSY: StoreError = StoreError::NotApplied { retry_after: Duration::from_secs(1) };

impl Bench {
    /// The same store behind one that counts, with reads recorded so.
    async fn recording(mut self, reads: Reads, queue_bytes: usize) -> (Self, Arc<Counting>) {
        let audit = AuditPolicy { reads, queue_bytes };
        let options = VaultOptions { audit, ..VaultOptions::default() };
        let store = Counting::over(self.store.clone());
        let opened = Vault::open(store.clone(), &self.kek, self.clock.clone(), options);
        self.vault = opened.await.unwrap();
        (self, store)
    }

    async fn buffered(queue_bytes: usize) -> (Self, Arc<Counting>) {
        Self::new().await.recording(Reads::Buffered, queue_bytes).await
    }

    /// One of acme's has read this name.
    async fn act(&self, name: &str) -> Act {
        let principal = self.principal().await;
        let origin = Origin { request: Some("r-1".into()), address: None };
        Act {
            at: self.vault.now().wall(),
            op: AuditOp::SecretRead,
            about: About::Secret {
                tenant: principal.tenant_id().unwrap(),
                name: Some(secret(name)),
            },
            result: Act::OK,
            caller: principal.requested_by(origin),
            detail: None,
        }
    }

    /// The same of others.
    async fn leave<const N: usize>(&self, act: &Act, names: [&str; N]) {
        for name in names {
            self.vault.record_read(named(act, name)).await.unwrap();
        }
    }

    async fn read_acts<const N: usize>(&self, names: [&str; N]) {
        self.leave(&self.act("a").await, names).await;
    }

    async fn of_acme(&self) -> Vec<String> {
        said(&self.audit(Some("acme")).await)
    }

    fn space(&self) -> Space {
        Space::Tenant(self.vault.tenant_named(&acme()).unwrap().id)
    }
}

const ROOMY: usize = 1 << 20;

fn named(act: &Act, name: &str) -> Act {
    let About::Secret { tenant, .. } = act.about else { panic!("of a secret") };
    Act { about: About::Secret { tenant, name: Some(secret(name)) }, ..act.clone() }
}

/// What an act with a name of one letter takes in the queue.
async fn weight() -> usize {
    let (bench, _) = Bench::buffered(ROOMY).await;
    bench.read_acts(["a"]).await;
    bench.vault.audit_vitals().bytes
}

#[tokio::test]
async fn a_read_is_recorded_with_who_and_by_which_request() {
    let (bench, _) = Bench::buffered(ROOMY).await;
    bench.read_acts(["db"]).await;
    assert_eq!(bench.of_acme().await, [] as [&str; 0], "it waits");
    bench.vault.record_waiting().await;
    let [entry] = bench.audit(Some("acme")).await.try_into().unwrap();
    assert_eq!(said(std::slice::from_ref(&entry)), ["secret.read db ok"]);
    assert_eq!((entry.by, entry.subject.as_deref()), (AuditActor::Token, Some("test")));
    assert_eq!(entry.request.as_deref(), Some("r-1"));
    assert_eq!(entry.credential.map(|id| id.len()), Some(128));
    bench.vault.record_waiting().await;
    assert_eq!(bench.of_acme().await.len(), 1, "once");
}

/// What is written once for those of one credential must not be said of another's.
#[tokio::test]
async fn entries_of_several_credentials_do_not_run_into_one_another() {
    let (bench, _) = Bench::buffered(ROOMY).await;
    let (one, other) = (bench.act("a").await, bench.act("b").await);
    let failed = Act { result: "not_found", detail: Some("why".into()), ..one.clone() };
    let server = Act { caller: Caller::server(), ..one.clone() };
    for act in [one.clone(), failed, server, other, one] {
        bench.vault.record_read(act).await.unwrap();
    }
    bench.vault.record_waiting().await;
    let entries = bench.audit(Some("acme")).await;
    let ids: Vec<_> = entries.iter().map(|entry| entry.credential.clone()).collect();
    assert!(ids[0].is_some() && ids[0] == ids[1] && ids[0] == ids[4]);
    assert!(ids[2].is_none() && ids[3].is_some() && ids[3] != ids[0]);
    let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_deref()).collect();
    assert_eq!(details, [None, Some("why"), None, None, None]);
    let actors: Vec<_> = entries.iter().map(|entry| entry.by).collect();
    assert_eq!(actors[2..4], [AuditActor::Server, AuditActor::Token]);
}

#[tokio::test]
async fn a_durable_read_is_let_go_when_it_is_recorded_and_not_before() {
    let (bench, store) = Bench::new().await.recording(Reads::Durable, ROOMY).await;
    let acts = [bench.act("a").await, bench.act("b").await, bench.act("c").await];
    let held = store.hold(bench.space()).await;
    let reads: Vec<_> = acts
        .into_iter()
        .map(|act| {
            let vault = bench.vault.clone();
            tokio::spawn(async move { vault.record_read(act).await })
        })
        .collect();
    store.holds_one().await;
    assert!(reads.iter().all(|read| !read.is_finished()));
    assert_eq!(bench.of_acme().await, [] as [&str; 0]);
    drop(held);
    for read in reads {
        assert_eq!(read.await.unwrap(), Ok(()));
    }
    assert_eq!(bench.of_acme().await.len(), 3);
    bench.assert_chains_hold().await;
}

/// Whoever asked may go away meanwhile; what was taken out of the queue must not go too.
#[tokio::test]
async fn a_durable_read_that_nobody_waits_for_any_more_is_recorded() {
    let (bench, store) = Bench::new().await.recording(Reads::Durable, ROOMY).await;
    let (act, vault) = (bench.act("a").await, bench.vault.clone());
    let held = store.hold(bench.space()).await;
    let read = tokio::spawn(async move { vault.record_read(act).await });
    store.holds_one().await;
    read.abort();
    assert!(read.await.unwrap_err().is_cancelled());
    drop(held);
    bench.vault.record_waiting().await;
    assert_eq!(bench.of_acme().await, ["secret.read a ok"]);
}

#[tokio::test]
async fn a_full_queue_refuses_durable_reads_and_counts_the_others() {
    let both = 2 * weight().await;
    let (bench, store) = Bench::new().await.recording(Reads::Durable, both).await;
    let act = bench.act("a").await;
    let held = store.hold(bench.space()).await;
    let waits: Vec<_> = (0..2)
        .map(|_| {
            let (vault, act) = (bench.vault.clone(), act.clone());
            tokio::spawn(async move { vault.record_read(act).await })
        })
        .collect();
    // Whether or not they were taken out of it to be stored.
    while bench.vault.audit_vitals().bytes < both {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert_eq!(bench.vault.record_read(act.clone()).await, Err(Unrecorded));
    }
    bench.vault.set_reads(Reads::Buffered);
    bench.leave(&act, ["x", "y", "z"]).await;
    drop(held);
    for wait in waits {
        assert_eq!(wait.await.unwrap(), Ok(()));
    }
    bench.vault.record_waiting().await;
    let entries = bench.audit(Some("acme")).await;
    assert_eq!(said(&entries), ["secret.read a ok", "secret.read a ok", "lost - ok"]);
    let detail = entries[2].detail.as_deref().unwrap();
    assert!(detail.starts_with("3 entries are missing here"), "{detail}");
    assert_eq!(bench.vault.audit_vitals().bytes, 0);
    bench.assert_chains_hold().await;
}

#[tokio::test]
async fn what_a_full_disk_takes_away_is_told_when_there_is_room_again() {
    let (bench, store) = Bench::buffered(ROOMY).await;
    let beta = Command::TenantCreate { name: "beta".into() };
    bench.run(beta).await.unwrap();
    let act = bench.act("a").await;
    let before = bench.audit(None).await.len();
    for error in [StoreError::Full, StoreError::Unknown] {
        bench.leave(&act, ["a", "b"]).await;
        store.refuse(Some(error));
        bench.vault.record_waiting().await;
        // What tells of it does not count again.
        bench.vault.record_waiting().await;
    }
    bench.vault.set_reads(Reads::Durable);
    assert_eq!(bench.vault.record_read(act.clone()).await, Err(Unrecorded));
    // Whoever is refused is told so all the same.
    bench.vault.record_refusal(Act { result: "forbidden", ..act }).await;
    store.refuse(None);
    bench.vault.record_waiting().await;
    let entries = bench.audit(Some("acme")).await;
    assert_eq!(said(&entries), ["lost - ok"]);
    let detail = entries[0].detail.as_deref().unwrap();
    assert!(detail.starts_with("5 entries"), "{detail}");
    assert_eq!(bench.audit(Some("beta")).await, []);
    assert_eq!(bench.since(before).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_store_that_is_busy_is_asked_again_and_nothing_is_lost() {
    let (bench, store) = Bench::buffered(ROOMY).await;
    let act = bench.act("a").await;
    bench.leave(&act, ["a", "b"]).await;
    store.refuse(Some(BUSY));
    bench.vault.record_waiting().await;
    bench.leave(&act, ["c"]).await;
    bench.vault.record_waiting().await;
    let since = bench.vault.audit_vitals().since;
    assert_eq!(since, Some(bench.vault.now().wall()));
    // Nor does one that was answered as if it had not been, stand there later.
    bench.vault.set_reads(Reads::Durable);
    assert_eq!(bench.vault.record_read(act).await, Err(Unrecorded));
    store.refuse(None);
    bench.vault.record_waiting().await;
    let expected = ["secret.read a ok", "secret.read b ok", "secret.read c ok"];
    assert_eq!(bench.of_acme().await, expected);
    assert_eq!(bench.vault.audit_vitals().since, None);
}

#[tokio::test]
async fn what_waits_for_a_tenant_that_goes_goes_with_it() {
    let (bench, _) = Bench::buffered(ROOMY).await;
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let beta = TenantName::parse("beta").unwrap();
    let space = bench.vault.tenant_named(&beta).unwrap().id;
    let act = bench.act("a").await;
    bench.leave(&act, ["a"]).await;
    let of_beta = Act { about: About::Secret { tenant: space, name: None }, ..act };
    bench.vault.record_read(of_beta).await.unwrap();
    let before = bench.audit(None).await.len();
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    bench.vault.record_waiting().await;
    assert_eq!(bench.audit(Some("beta")).await.len(), 1);
    assert_eq!(bench.since(before).await, ["tenant.delete acme ok"]);
    assert_eq!(bench.vault.audit_vitals().bytes, 0);
}

#[tokio::test]
async fn thousands_of_acts_of_several_chains_leave_one_entry_each_in_their_order() {
    let (bench, _) = Bench::buffered(1 << 24).await;
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let beta = bench.vault.tenant_named(&TenantName::parse("beta").unwrap()).unwrap().id;
    let act = bench.act("x").await;
    let acme = bench.vault.tenant_named(&acme()).unwrap().id;
    for n in 0..6_000u32 {
        let tenant = if n % 3 == 0 { beta } else { acme };
        let about = About::Secret { tenant, name: Some(secret(&format!("s{n}"))) };
        bench.vault.record_read(Act { about, ..act.clone() }).await.unwrap();
        if n % 1_700 == 0 {
            bench.vault.record_waiting().await;
        }
    }
    bench.vault.record_waiting().await;
    bench.assert_chains_hold().await;
    let names = async |tenant: &str, from: u64, limit: usize| {
        let (all, next) =
            bench.query(Some(tenant), AuditFilter::default(), AuditFrom::Entry(from), limit).await;
        let names = all.into_iter().map(|found| (found.number, found.entry.name.unwrap()));
        (names.collect::<Vec<_>>(), next)
    };
    let expected: Vec<_> = (0..6_000).filter(|n| n % 3 != 0).map(|n| format!("s{n}")).collect();
    let (mut found, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let page;
        (page, next) = names("acme", from, 333).await;
        found.extend(page);
    }
    let numbered: Vec<_> = (0..).zip(expected.iter().cloned()).collect();
    assert_eq!(found, numbered);
    // From the middle of a block as from its beginning.
    for from in [1, 62, 999, 2_048, 3_998] {
        let (page, _) = names("acme", from, 2).await;
        assert_eq!(page, numbered[from as usize..][..2]);
    }
    assert_eq!(names("beta", 0, 1_000).await.0.len(), 1_000);
    let stored = bench.store.chain(Space::Tenant(acme), 0).await.unwrap().blocks.len();
    assert!(stored < 4_000 / 20, "{stored} blocks");
    assert_eq!(bench.verify_faults().await, [] as [&str; 0]);
}

impl Bench {
    async fn verify_faults(&self) -> Vec<String> {
        match self.run(Command::Verify { tenant: None, rows_per_second: None }).await.unwrap() {
            Reply::Verified(found) => {
                found.parts.into_iter().flat_map(|part| part.faults).collect()
            }
            _ => panic!("not a verification"),
        }
    }
}

#[tokio::test]
async fn where_reads_are_off_refusals_are_recorded_still() {
    let (bench, _) = Bench::new().await.recording(Reads::Off, ROOMY).await;
    assert!(!bench.vault.records_reads());
    let refused = Act { result: "forbidden", ..bench.act("a").await };
    bench.vault.record_refusal(refused).await;
    bench.run(Command::TenantList).await.unwrap();
    bench.vault.record_waiting().await;
    assert_eq!(bench.of_acme().await, ["secret.read a forbidden"]);
    bench.vault.set_reads(Reads::Buffered);
    assert!(bench.vault.records_reads());
}

#[tokio::test]
async fn refused_credentials_are_summed_in_the_systems_chain() {
    let (bench, _) = Bench::buffered(ROOMY).await;
    let before = bench.audit(None).await.len();
    let why = TurnedAway { code: "credential_invalid", reason: "signature" };
    let now = || bench.vault.now().wall();
    for address in ["192.0.2.1", "192.0.2.1", "2001:db8::1"] {
        bench.vault.record_turned_away(address.parse().ok(), why, now());
    }
    bench.clock.pass(9);
    bench.vault.record_waiting().await;
    assert_eq!(bench.audit(None).await.len(), before);
    bench.clock.pass(1);
    bench.vault.record_waiting().await;
    let mut entries = bench.audit(None).await.split_off(before);
    entries.sort_by(|a, b| a.from.cmp(&b.from));
    let [one, other] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(said(&entries), ["credential.refused - credential_invalid"; 2]);
    assert_eq!((one.from.as_deref(), one.by), (Some("192.0.2.1"), AuditActor::Stranger));
    assert_eq!(one.detail.as_deref(), Some("2 times: signature"));
    assert_eq!(other.from.as_deref(), Some("2001:db8::1"));
    assert_eq!(other.detail.as_deref(), Some("once: signature"));
}

#[tokio::test]
async fn a_service_that_did_not_end_in_good_order_leaves_a_gap_and_others_do_not() {
    let mut bench = Bench::new().await;
    let before = bench.audit(None).await.len();
    let begin = async |bench: &Bench| {
        bench.vault.enter_service(&Caller::server(), AuditOp::Start).await;
    };
    begin(&bench).await;
    bench.reopen().await;
    // A command on the data folder neither ends that service nor begins one.
    bench.vault.settle_audit().await;
    bench.reopen().await;
    begin(&bench).await;
    let entries = bench.audit(None).await.split_off(before);
    assert_eq!(said(&entries), ["start - ok", "gap - ok", "start - ok"]);
    assert!(entries[1].detail.as_deref().unwrap().contains(&entries[0].at), "{entries:?}");
    // In good order, by way of a seal.
    let sealed = bench.vault.clone();
    bench.vault = open(&bench.store, &bench.kek, &bench.clock).await.unwrap();
    let sealed = sealed.seal().await;
    bench.vault = sealed.unseal(&bench.kek).await.unwrap();
    bench.vault.enter_service(&Caller::local(None), AuditOp::Unseal).await;
    let entries = bench.audit(None).await.split_off(before + 3);
    assert_eq!(said(&entries), ["unseal - ok"]);
    assert_eq!(bench.verify_faults().await, [] as [&str; 0]);
}

#[tokio::test]
async fn what_waits_is_stored_before_a_seal_and_what_comes_while_it_waits_too() {
    let (mut bench, _) = Bench::buffered(ROOMY).await;
    bench.vault.enter_service(&Caller::server(), AuditOp::Start).await;
    let act = bench.act("early").await;
    bench.leave(&act, ["early"]).await;
    // A request that is under way.
    let under_way = bench.vault.clone();
    let vault = std::mem::replace(
        &mut bench.vault,
        open(&bench.store, &bench.kek, &bench.clock).await.unwrap(),
    );
    let sealing = tokio::spawn(vault.seal());
    while bench.of_acme().await.is_empty() {
        tokio::task::yield_now().await;
    }
    under_way.record_read(named(&act, "late")).await.unwrap();
    drop(under_way);
    let sealed = sealing.await.unwrap();
    bench.vault = sealed.unseal(&bench.kek).await.unwrap();
    assert_eq!(bench.of_acme().await, ["secret.read early ok", "secret.read late ok"]);
}

#[tokio::test]
async fn a_service_whose_last_entries_could_not_be_stored_leaves_a_gap() {
    let (mut bench, store) = Bench::buffered(ROOMY).await;
    bench.vault.enter_service(&Caller::server(), AuditOp::Start).await;
    bench.read_acts(["a"]).await;
    store.refuse(Some(StoreError::Full));
    bench.vault.settle_audit().await;
    bench.reopen().await;
    bench.vault.enter_service(&Caller::server(), AuditOp::Start).await;
    let entries = bench.audit(None).await;
    assert_eq!(said(&entries)[entries.len() - 2..], ["gap - ok", "start - ok"]);
}

#[tokio::test]
async fn looks_and_refused_commands_of_operators_are_recorded() {
    let (bench, _) = Bench::buffered(ROOMY).await;
    let before = bench.audit(None).await.len();
    let of_acme = || Some("acme".to_owned());
    for command in [
        Command::TenantList,
        Command::TenantShow { name: "acme".into() },
        Command::TokenRevocations { tenant: of_acme(), after: None, limit: 9 },
        Command::TokenRoots,
        Command::ApiKeyList { tenant: of_acme() },
        Command::KekStatus,
        Command::DekList { tenant: None },
        // Of these there is nothing to tell.
        Command::Status,
        Command::Verify { tenant: of_acme(), rows_per_second: None },
    ] {
        bench.run(command).await.unwrap();
    }
    for command in [
        Command::TenantCreate { name: "acme".into() },
        Command::TenantDelete { name: "\u{1b}[2J".into() },
        Command::ApiKeyRevoke { id: "none".into(), dry_run: false },
    ] {
        bench.run(command).await.map(drop).unwrap_err();
    }
    bench.vault.record_waiting().await;
    let expected = [
        "tenant.list - ok",
        "tenant.show acme ok",
        "token.list acme ok",
        "root.list - ok",
        "api_key.list acme ok",
        "kek.status - ok",
        "dek.list - ok",
        "tenant.create acme conflict",
    ];
    let found = bench.since(before).await;
    assert_eq!(found[..expected.len()], expected);
    let rest = &found[expected.len()..];
    assert!(rest[0].starts_with("tenant.delete sha256:") && rest[0].ends_with(" usage"));
    assert_eq!(rest[1..], ["api_key.revoke - usage"]);
}
