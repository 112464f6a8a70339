//! What is recorded, and that nothing is that must not be.

use super::*;
use crate::api::admin::{Databases, HiddenText, Revocable, When};
use crate::api::audit::{AuditActor, AuditEntry, AuditFilter, AuditFrom, NumberedEntry};
use crate::auth::{Caller, Origin};
use crate::domain::{ByName, ScopeSet};
use crate::store::{Chain, PlacedBlock};
use crate::vault::credentials::NewApiKey;

const VALUE: &str = "a-value-that-is-nowhere";

impl Bench {
    pub(super) async fn audit(&self, tenant: Option<&str>) -> Vec<AuditEntry> {
        let found = self.query(tenant, AuditFilter::default(), AuditFrom::Entry(0), 1_000).await;
        found.0.into_iter().map(|numbered| numbered.entry).collect()
    }

    pub(super) async fn query(
        &self,
        tenant: Option<&str>,
        filter: AuditFilter,
        from: AuditFrom,
        limit: usize,
    ) -> (Vec<NumberedEntry>, Option<u64>) {
        let tenant = tenant.map(str::to_owned);
        match self.run(Command::AuditQuery { tenant, filter, from, limit }).await.unwrap() {
            Reply::Audit { entries, next, .. } => (entries, next),
            _ => panic!("no entries"),
        }
    }

    /// What the system's chain has beyond `before` entries: operation, tenant, result.
    pub(super) async fn since(&self, before: usize) -> Vec<String> {
        let said = |entry: &AuditEntry| {
            let tenant = entry.tenant.as_deref().unwrap_or("-");
            format!("{} {tenant} {}", entry.op, entry.result)
        };
        self.audit(None).await.iter().skip(before).map(said).collect()
    }

    /// Holds every chain against its ledger, link by link.
    pub(super) async fn assert_chains_hold(&self) {
        let vault = &self.vault;
        self.assert_chain_holds(Space::System, vault.system.seal()).await;
        for tenant in vault.all_tenants() {
            self.assert_chain_holds(Space::Tenant(tenant.id), tenant.keys().1).await;
        }
    }

    async fn assert_chain_holds(&self, space: Space, seal: &SpaceSeal) {
        let mut chain = Chain::EMPTY;
        for PlacedBlock { first, link, block } in self.store.chain(space, 0).await.unwrap().blocks {
            assert_eq!(first, chain.next, "{space}");
            chain = chain.with(&block, seal);
            assert_eq!(link, chain.head, "{space}");
        }
        let sealed = self.store.ledger(space).await.unwrap().unwrap();
        assert_eq!(seal.open(&sealed).unwrap().chain, chain, "{space}");
    }
}

pub(super) fn said(entries: &[AuditEntry]) -> Vec<String> {
    let said = |entry: &AuditEntry| {
        format!("{} {} {}", entry.op, entry.name.as_deref().unwrap_or("-"), entry.result)
    };
    entries.iter().map(said).collect()
}

#[tokio::test]
async fn each_change_of_a_secret_leaves_one_entry() {
    let bench = Bench::new().await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    bench.put("a", Some(VALUE), window(None, Some(DAY))).await.unwrap();
    bench.put("b", None, window(None, Some(1))).await.unwrap();
    assert_eq!(bench.delete("a").await, Deleted::Removed);
    bench.clock.pass(2);
    // An expired one is removed, and answered like one that is not there.
    assert_eq!(bench.delete("b").await, Deleted::Expired);
    let entries = bench.audit(Some("acme")).await;
    let expected = [
        "secret.write a ok",
        "secret.write a ok",
        "secret.write b ok",
        "secret.delete a ok",
        "secret.delete b not_found",
    ];
    assert_eq!(said(&entries), expected);
    bench.assert_chains_hold().await;
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_entry_of_a_change() {
    let bench = Bench::new().await;
    assert_eq!(bench.delete("never").await, Deleted::NothingThere);
    let refused = bench.put_if("a", Some("x"), OPEN(), Precondition::Exists).await;
    assert_eq!(refused, Err(VaultError::PreconditionFailed));
    assert_eq!(bench.audit(Some("acme")).await, []);
}

#[tokio::test]
async fn several_writes_leave_an_entry_each_in_one_commit() {
    let bench = Bench::new().await;
    let now = bench.vault.now();
    let permit = bench.principal().await.may_write_some(&acme(), now).unwrap();
    let names: Vec<_> = (0..100).map(|n| format!("secret-{n:03}")).collect();
    let planned = |name: &String| {
        let value = SecretValue::new(Zeroizing::new(VALUE.to_owned()));
        let new = NewSecret { value: Some(value), window: OPEN() };
        (secret(name), Planned { new, precondition: Precondition::None })
    };
    let writes = ByName::new(names.iter().map(planned).collect()).unwrap();
    let before = bench.commits("acme").await;
    bench.vault.write_all(permit.all(writes, now).unwrap(), now).await.unwrap();
    assert_eq!(bench.commits("acme").await, before + 1);
    let expected: Vec<_> = names.iter().map(|name| format!("secret.write {name} ok")).collect();
    assert_eq!(said(&bench.audit(Some("acme")).await), expected);
    bench.assert_chains_hold().await;
}

impl Bench {
    async fn commits(&self, tenant: &str) -> u64 {
        let tenant = self.vault.tenant_named(&TenantName::parse(tenant).unwrap()).unwrap();
        let sealed = self.store.ledger(Space::Tenant(tenant.id)).await.unwrap().unwrap();
        tenant.keys().1.open(&sealed).unwrap().commits
    }
}

#[tokio::test]
async fn an_entry_says_who_by_which_credential_and_request_and_from_where() {
    let bench = Bench::new().await;
    let (token, now) = (bench.token("acme").await, bench.vault.now());
    let principal = bench.vault.authenticate(&token, now).unwrap();
    let address = "192.0.2.7".parse().unwrap();
    let origin = Origin { request: Some("r-1".into()), address: Some(address) };
    let permit = principal.may_write(&acme(), secret("a"), now).unwrap().requested_by(origin);
    let new = || NewSecret { value: None, window: OPEN() };
    bench.vault.write(&permit, new(), Precondition::None, now).await.unwrap();
    let entries = bench.audit(Some("acme")).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let crate::auth::CredentialId::Biscuit(blocks) = principal.id() else { panic!("a token") };
    assert_eq!(entry.at, now.wall().to_string());
    assert_eq!(entry.by, AuditActor::Token);
    assert_eq!(entry.subject.as_deref(), Some("test"));
    assert_eq!(entry.credential, Some(blocks[0].to_string()));
    assert_eq!(entry.from.as_deref(), Some("192.0.2.7"));
    assert_eq!(entry.request.as_deref(), Some("r-1"));
    // What was minted is found again by the same id.
    let minted = bench.audit(None).await.pop().unwrap();
    assert_eq!(minted.op.word(), "token.mint");
    assert_eq!(minted.detail, Some(format!("{} for test", blocks[0])));
}

#[tokio::test]
async fn a_sweep_names_what_it_removed_and_is_the_servers() {
    let bench = Bench::new().await;
    bench.put("gone", Some(VALUE), window(None, Some(1))).await.unwrap();
    bench.put("stays", Some(VALUE), OPEN()).await.unwrap();
    bench.clock.pass(5);
    bench.vault.sweep_expired(Duration::ZERO).await;
    let entries = bench.audit(Some("acme")).await;
    let swept = entries.last().unwrap();
    assert_eq!(said(std::slice::from_ref(swept)), ["secret.sweep gone ok"]);
    assert_eq!((swept.by, entries.len()), (AuditActor::Server, 3));
}

#[tokio::test]
async fn what_an_operator_does_is_in_the_systems_chain() {
    let bench = Bench::new().await;
    assert_eq!(bench.since(0).await, ["tenant.create acme ok"]);
    let token = bench.token("acme").await;
    let revoke = Revocable::Token { token: HiddenText::new(&token) };
    let of_acme = || "acme".to_owned();
    let create = Command::ApiKeyCreate {
        tenant: of_acme(),
        scopes: vec!["Secret.Read".into()],
        name: None,
        expires: None,
    };
    let Reply::ApiKeyCreated { api_key, .. } = bench.run(create).await.unwrap() else {
        panic!("no API key");
    };
    let rotation = Command::DekRotate {
        tenant: Some(of_acme()),
        rewrite: false,
        per_second: None,
        dry_run: false,
    };
    for command in [
        Command::ApiKeyRevoke { id: api_key.id, dry_run: false },
        Command::TokenRevoke { what: revoke, dry_run: false },
        Command::TokenRotateRoot { honour_old: When::Now },
        rotation,
        Command::ClockAccept,
        Command::TenantDelete { name: of_acme() },
    ] {
        bench.run(command).await.unwrap();
    }
    let expected = [
        "token.mint acme ok",
        "api_key.create acme ok",
        "api_key.revoke acme ok",
        "token.revoke acme ok",
        "root.rotate - ok",
        "dek.rotate acme begun",
        "dek.rotate acme ok",
        "clock.accept - ok",
        "tenant.delete acme ok",
    ];
    assert_eq!(bench.since(1).await, expected);
    bench.assert_chains_hold().await;
}

#[tokio::test]
async fn what_is_only_looked_at_or_refused_leaves_no_entry_of_a_change() {
    let bench = Bench::new().await;
    let before = bench.audit(None).await.len();
    for command in [
        Command::Status,
        Command::TenantList,
        Command::Compact { databases: Databases::All, dry_run: true },
        Command::Sweep { tenant: None, retain_seconds: 0, dry_run: true },
    ] {
        bench.run(command).await.unwrap();
    }
    bench.run(Command::TenantCreate { name: "acme".into() }).await.map(drop).unwrap_err();
    bench.run(Command::TenantDelete { name: "none".into() }).await.map(drop).unwrap_err();
    assert_eq!(bench.since(before).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_deleted_tenants_last_link_is_kept() {
    let bench = Bench::new().await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let sealed = bench.store.ledger(Space::Tenant(tenant.id)).await.unwrap().unwrap();
    let head = tenant.keys().1.open(&sealed).unwrap().chain.head;
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    let detail = bench.audit(None).await.pop().unwrap().detail;
    let expected = format!("its audit had 1 entries; the last link is {}", hex::encode(head));
    assert_eq!(detail, Some(expected));
}

#[tokio::test]
async fn replacing_the_kek_leaves_an_entry_before_and_after() {
    let bench = Bench::new().await;
    let kek = HiddenText::new(&Kek::generate().to_text());
    let since = Timestamp::from_unix_seconds(START);
    let origin = hex::encode(KekOrigin { way: KekWay::File, since }.encode());
    bench.run(Command::KekReplace { kek, origin }).await.unwrap();
    assert_eq!(bench.since(1).await, ["kek.rotate - begun", "kek.rotate - ok"]);
}

#[tokio::test]
async fn nothing_that_opens_anything_and_no_value_is_recorded() {
    let bench = Bench::new().await;
    let token = bench.token("acme").await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    let new = NewApiKey {
        scopes: ScopeSet::NONE.with(crate::domain::Scope::SecretRead),
        name: None,
        expires_on: None,
    };
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let made = bench.vault.add_api_key(tenant, new, Caller::local(Some(7))).await.unwrap();
    // What opens something: it may have a `_` of its own.
    let key = made.text.splitn(3, '_').nth(2).unwrap().to_owned();
    assert_eq!(key.len(), 43);
    let mut all = bench.audit(None).await;
    all.extend(bench.audit(Some("acme")).await);
    let json = serde_json::to_string(&all).unwrap();
    for secret in [VALUE, &token, &key] {
        assert!(!json.contains(secret));
    }
    // Nor is a name on the disk.
    let stored = bench.store.chain(Space::Tenant(bench.vault.all_tenants()[0].id), 0);
    let stored = stored.await.unwrap().blocks;
    assert!(!stored.is_empty());
    for placed in stored {
        assert!(!placed.block.bytes.windows(6).any(|bytes| bytes == b"secret"));
    }
}

#[tokio::test]
async fn entries_outlive_a_rotation_of_deks_and_a_restart() {
    let mut bench = Bench::new().await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    let rotation =
        Command::DekRotate { tenant: None, rewrite: true, per_second: None, dry_run: false };
    bench.run(rotation).await.unwrap();
    bench.reopen().await;
    bench.put("b", Some(VALUE), OPEN()).await.unwrap();
    let entries = bench.audit(Some("acme")).await;
    assert_eq!(said(&entries), ["secret.write a ok", "secret.write b ok"]);
    bench.assert_chains_hold().await;
}

#[tokio::test]
async fn a_query_finds_what_it_asks_for_page_by_page() {
    let bench = Bench::new().await;
    for n in 0..30 {
        bench.put(&format!("s{}", n % 3), Some("x"), OPEN()).await.unwrap();
        bench.clock.pass(60);
    }
    bench.delete("s1").await;
    let numbers = |found: &[NumberedEntry]| found.iter().map(|e| e.number).collect::<Vec<_>>();
    let ask = async |filter: &AuditFilter, from, limit| {
        let (found, next) = bench.query(Some("acme"), filter.clone(), from, limit).await;
        (numbers(&found), next)
    };
    let named = AuditFilter { name: Some("s1".into()), ..AuditFilter::default() };
    let first = ask(&named, AuditFrom::Entry(0), 4).await;
    assert_eq!(first, (vec![1, 4, 7, 10], Some(11)));
    assert_eq!(ask(&named, AuditFrom::Entry(11), 99).await.0, [13, 16, 19, 22, 25, 28, 30]);
    assert_eq!(ask(&named, AuditFrom::Newest, 2).await.0, [28, 30]);
    let all = AuditFilter::default();
    assert_eq!(ask(&all, AuditFrom::Newest, 3).await.0, [28, 29, 30]);
    assert_eq!(ask(&all, AuditFrom::Entry(31), 3).await, (vec![], None));
    let at = |minutes: i64| Some(Timestamp::from_unix_seconds(START + minutes * 60).to_string());
    let within = AuditFilter { since: at(5), until: at(8), ..AuditFilter::default() };
    assert_eq!(ask(&within, AuditFrom::Entry(0), 99).await.0, [5, 6, 7]);
    let deletes = AuditFilter { op: Some("secret.delete".into()), ..AuditFilter::default() };
    assert_eq!(ask(&deletes, AuditFrom::Entry(0), 99).await.0, [30]);
    let others = AuditFilter { subject: Some("other".into()), ..AuditFilter::default() };
    assert_eq!(ask(&others, AuditFrom::Newest, 99).await.0, [] as [u64; 0]);
}

#[tokio::test]
async fn a_query_of_what_is_not_there_or_not_a_time_says_so() {
    let bench = Bench::new().await;
    let query = |tenant: Option<&str>, since: Option<&str>| Command::AuditQuery {
        tenant: tenant.map(str::to_owned),
        filter: AuditFilter { since: since.map(str::to_owned), ..AuditFilter::default() },
        from: AuditFrom::Newest,
        limit: 1,
    };
    let refused = bench.run(query(Some("none"), None)).await.map(drop).unwrap_err();
    assert_eq!(refused.kind, FailureKind::NotFound);
    let refused = bench.run(query(None, Some("soon"))).await.map(drop).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Usage);
    assert!(refused.message.starts_with("--since"), "{}", refused.message);
}

impl Bench {
    /// What `verify` finds wrong with acme, and that it finds nothing else wrong.
    async fn audit_faults(&self) -> Vec<String> {
        let verify = Command::Verify { tenant: Some("acme".into()), rows_per_second: None };
        match self.run(verify).await.unwrap() {
            Reply::Verified(found) => {
                found.parts.into_iter().flat_map(|part| part.faults).collect()
            }
            _ => panic!("not a verification"),
        }
    }

    fn tamper(&self, with: impl FnOnce(&mut std::collections::BTreeMap<u64, PlacedBlock>)) {
        let tenant = self.vault.tenant_named(&acme()).unwrap();
        self.store.tamper(Space::Tenant(tenant.id), with);
    }
}

/// A chain of 60 entries, of which 20 to 39 stand in blocks of several.
async fn bench_with_a_chain() -> Bench {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.put(&format!("s{n}"), Some("x"), OPEN()).await.unwrap();
    }
    let now = bench.vault.now();
    let permit = bench.principal().await.may_write_some(&acme(), now).unwrap();
    let planned = |n: u32| {
        let new = NewSecret { value: None, window: OPEN() };
        (secret(&format!("t{n}")), Planned { new, precondition: Precondition::None })
    };
    let writes = ByName::new((0..20).map(planned).collect()).unwrap();
    bench.vault.write_all(permit.all(writes, now).unwrap(), now).await.unwrap();
    for n in 0..20 {
        bench.put(&format!("u{n}"), Some("x"), OPEN()).await.unwrap();
    }
    assert_eq!(bench.audit_faults().await, [] as [&str; 0]);
    bench
}

/// Somebody who can write the disk and knows the formulas, but has no key.
fn link_again(bench: &Bench, chain: &mut std::collections::BTreeMap<u64, PlacedBlock>) {
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let mut end = Chain::EMPTY;
    for placed in chain.values_mut() {
        end = end.with(&placed.block, tenant.keys().1);
        placed.link = end.head;
    }
}

#[tokio::test]
async fn the_first_altered_entry_is_named_wherever_it_was_altered() {
    let bench = bench_with_a_chain().await;
    let mut firsts = Vec::new();
    bench.tamper(|chain| firsts = chain.keys().copied().collect());
    for (round, first) in (0u8..).zip(&firsts) {
        let mut before = None;
        bench.tamper(|chain| {
            let placed = chain.get_mut(first).unwrap();
            before = Some(placed.clone());
            let place = usize::from(round) * 7 % placed.block.bytes.len();
            placed.block.bytes[place] ^= 1 << (round % 8);
        });
        let faults = bench.audit_faults().await;
        let named = format!("entry {first} of the audit was altered");
        assert!(faults.len() == 1 && faults[0].starts_with(&named), "{first}: {faults:?}");
        bench.tamper(|chain| link_again(&bench, chain));
        let faults = bench.audit_faults().await;
        let named = format!("entry {first} of the audit does not decrypt");
        assert_eq!(faults, [named], "links take no key");
        bench.tamper(|chain| drop(chain.insert(*first, before.unwrap())));
        bench.tamper(|chain| link_again(&bench, chain));
        assert_eq!(bench.audit_faults().await, [] as [&str; 0]);
    }
}

#[tokio::test]
async fn the_first_removed_entry_is_named() {
    let bench = bench_with_a_chain().await;
    let mut firsts = Vec::new();
    bench.tamper(|chain| firsts = chain.keys().copied().collect());
    let last = *firsts.last().unwrap();
    for first in firsts {
        let mut gone = None;
        bench.tamper(|chain| gone = chain.remove(&first));
        let faults = bench.audit_faults().await;
        let named = if first == last {
            format!("the audit was cut off: entry {first} is missing, and so is all up to entry 59")
        } else {
            format!("entry {first} of the audit is missing")
        };
        assert_eq!(faults, [named]);
        bench.tamper(|chain| drop(chain.insert(first, gone.unwrap())));
    }
}

#[tokio::test]
async fn a_chain_that_was_cut_off_says_from_where() {
    for keep in [0, 1, 19, 20, 59] {
        let bench = bench_with_a_chain().await;
        let mut missing = 0;
        bench.tamper(|chain| {
            missing = chain.keys().copied().find(|first| *first >= keep).unwrap();
            chain.retain(|first, _| *first < keep);
        });
        let faults = bench.audit_faults().await;
        let named = format!(
            "the audit was cut off: entry {missing} is missing, and so is all up to entry 59"
        );
        assert_eq!(faults, [named]);
    }
}

#[tokio::test]
async fn entries_that_changed_places_are_found_even_where_they_were_linked_again() {
    let bench = bench_with_a_chain().await;
    for (one, other) in [(0, 1), (3, 50), (58, 59)] {
        let swap = |chain: &mut std::collections::BTreeMap<u64, PlacedBlock>| {
            let [a, b] = [one, other].map(|first| chain[&first].block.clone());
            chain.get_mut(&one).unwrap().block = b;
            chain.get_mut(&other).unwrap().block = a;
        };
        bench.tamper(swap);
        let faults = bench.audit_faults().await;
        let named = format!("entry {one} of the audit was altered, or stands in another's place");
        assert_eq!(faults, [named]);
        bench.tamper(|chain| link_again(&bench, chain));
        let faults = bench.audit_faults().await;
        assert_eq!(faults, ["the audit is not the one that was written: entries were exchanged"]);
        bench.tamper(swap);
        bench.tamper(|chain| link_again(&bench, chain));
        assert_eq!(bench.audit_faults().await, [] as [&str; 0]);
    }
}
