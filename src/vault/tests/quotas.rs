//! What a tenant may have, over the in-memory model.

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::api::admin::{LimitChange, OtherLimits, TenantLimitRows};
use crate::domain::Bound;

const UNCHANGED: LimitChange = LimitChange {
    secrets: None,
    bytes: None,
    requests_per_second: None,
    others: OtherLimits::Kept,
};

fn at_most(secrets: u64, bytes: u64) -> LimitChange {
    LimitChange { secrets: Some(secrets), bytes: Some(bytes), ..UNCHANGED }
}

impl Bench {
    async fn limit(&self, change: LimitChange) -> TenantLimitRows {
        match self.run(Command::TenantLimit { name: "acme".into(), change }).await.unwrap() {
            Reply::TenantLimited { limits, .. } => limits,
            _ => panic!("not limits"),
        }
    }

    async fn used(&self) -> (u64, u64) {
        match self.run(Command::TenantShow { name: "acme".into() }).await.unwrap() {
            Reply::TenantShown { secrets, bytes, .. } => (secrets, bytes),
            _ => panic!("not a tenant"),
        }
    }

    /// What was counted along the way is what is there.
    async fn assert_counted(&mut self, secrets: u64, bytes: u64) {
        let tenant = self.vault.tenant_named(&acme()).unwrap();
        assert!(tenant.quota.enter().await.is_counted());
        assert_eq!(self.used().await, (secrets, bytes));
        self.reopen().await;
        assert_eq!(self.used().await, (secrets, bytes));
    }
}

#[tokio::test]
async fn a_secret_beyond_the_limit_is_refused_and_replacing_and_deleting_go_on() {
    let mut bench = Bench::new().await;
    bench.put("before", Some("12345"), OPEN()).await.unwrap();
    bench.limit(at_most(2, 0)).await;
    bench.put("a", Some("x"), OPEN()).await.unwrap();
    let refused = Err(VaultError::SecretsLimit { max: 2 });
    assert_eq!(bench.put("b", Some("x"), OPEN()).await, refused);
    assert_eq!(bench.get("b").await, None);
    bench.put("a", Some("longer by far"), OPEN()).await.unwrap();
    bench.delete("a").await;
    bench.put("b", None, OPEN()).await.unwrap();
    assert_eq!(bench.put("a", Some("x"), OPEN()).await, refused);
    bench.assert_counted(2, 5).await;
}

#[tokio::test]
async fn the_bytes_are_those_of_the_values_however_they_are_laid_out() {
    let mut bench = Bench::new().await;
    bench.limit(at_most(0, 60_000)).await;
    let value = |bytes: usize| "x".repeat(bytes);
    let lengths = [0, 1, 971, 972, 3_547, 3_548, 20_000];
    for (number, bytes) in lengths.into_iter().enumerate() {
        bench.put(&format!("n{number}"), Some(&value(bytes)), OPEN()).await.unwrap();
    }
    bench.put("umlaut", Some("äö"), OPEN()).await.unwrap();
    bench.put("null", None, OPEN()).await.unwrap();
    let sum = lengths.iter().sum::<usize>() as u64 + 4;
    assert_eq!(bench.used().await, (9, sum));
    let rest = 60_000 - usize::try_from(sum).unwrap();
    let refused = Err(VaultError::BytesLimit { max: 60_000 });
    assert_eq!(bench.put("a", Some(&value(rest + 1)), OPEN()).await.err(), refused.clone().err());
    bench.put("a", Some(&value(rest)), OPEN()).await.unwrap();
    assert_eq!(bench.put("b", Some("x"), OPEN()).await, refused);
    bench.put("empty", Some(""), OPEN()).await.unwrap();
    // Each is replaced by one that is as long, shorter and longer.
    for bytes in [20_000, 3_548, 972, 10] {
        bench.put("n6", Some(&value(bytes)), OPEN()).await.unwrap();
    }
    assert_eq!(bench.put("n6", Some(&value(20_001)), OPEN()).await, refused);
    bench.put("n6", Some(&value(20_000)), OPEN()).await.unwrap();
    bench.assert_counted(11, 60_000).await;
}

/// A million take some seconds, for which nobody may have to wait who writes.
#[tokio::test]
async fn while_an_operator_asks_what_there_is_writers_go_on() {
    let bench = Bench::new().await;
    for number in 0..1_200 {
        bench.put(&format!("n{number:04}"), Some("x"), OPEN()).await.unwrap();
    }
    let (exchange, mut ends) = Exchange::new();
    let show = Command::TenantShow { name: "acme".into() };
    let mut asked = std::pin::pin!(maintenance::execute(&bench.vault, show, exchange));
    assert!(asked.as_mut().now_or_never().is_none(), "there is more than a page");
    let told = ends.progress.recv().await.unwrap();
    assert_eq!((&*told.what, told.done, told.of), ("counting acme", 1_000, None));
    bench.put("n0000", Some("longer"), OPEN()).await.unwrap();
    bench.put("n1199", Some("longer"), OPEN()).await.unwrap();
    bench.put("new", Some("abc"), OPEN()).await.unwrap();
    bench.delete("n0001").await;
    let counted = (1_200, 1_200 + 2 * 5 + 3 - 1);
    let Ok(Reply::TenantShown { secrets, bytes, .. }) = asked.await else { panic!("no tenant") };
    assert_eq!((secrets, bytes), counted);
    assert_eq!(bench.used().await, counted);
}

#[tokio::test]
async fn a_limit_is_counted_for_before_anybody_writes() {
    let mut bench = Bench::new().await;
    bench.put("a", Some("x"), OPEN()).await.unwrap();
    bench.limit(at_most(1, 0)).await;
    bench.reopen().await;
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    assert!(tenant.quota.enter().await.must_count());
    bench.vault.prepare_counts().await;
    assert!(!tenant.quota.enter().await.must_count());
}

#[tokio::test]
async fn what_expired_counts_until_it_is_removed() {
    let mut bench = Bench::new().await;
    bench.limit(at_most(2, 0)).await;
    bench.put("short", Some("abc"), window(None, Some(10))).await.unwrap();
    bench.put("shorter", Some("de"), window(None, Some(5))).await.unwrap();
    bench.clock.pass(20);
    let refused = Err(VaultError::SecretsLimit { max: 2 });
    assert_eq!(bench.put("a", None, OPEN()).await, refused);
    // Removed by hand, by another in its place, or swept.
    assert_eq!(bench.delete("short").await, Deleted::Expired);
    bench.put("a", None, OPEN()).await.unwrap();
    bench.put("shorter", Some("f"), window(None, Some(25))).await.unwrap();
    bench.clock.pass(20);
    assert_eq!(bench.sweep(0, false).await, Ok(1));
    bench.assert_counted(1, 0).await;
}

#[tokio::test]
async fn several_writes_together_are_all_within_a_limit_or_none_is_done() {
    let mut bench = Bench::new().await;
    bench.limit(at_most(3, 10)).await;
    bench.put("long", Some("12345678"), OPEN()).await.unwrap();
    let write = |name: &str, value: &str| {
        let value = Some(SecretValue::new(Zeroizing::new(value.to_owned())));
        let new = NewSecret { value, window: OPEN() };
        (secret(name), Planned { new, precondition: Precondition::None })
    };
    let together = async |writes: Vec<(SecretName, Planned)>| {
        let now = bench.vault.now();
        let permit = bench.principal().await.may_write_some(&acme(), now).unwrap();
        let permit = permit.all(ByName::new(writes).unwrap(), now).unwrap();
        bench.vault.write_all(permit, now).await
    };
    let too_many = together(["a", "b", "c"].map(|name| write(name, "")).into()).await;
    assert_eq!(too_many, Err(VaultError::SecretsLimit { max: 3 }));
    let too_long = together(vec![write("a", "12"), write("b", "3")]).await;
    assert_eq!(too_long, Err(VaultError::BytesLimit { max: 10 }));
    assert_eq!(bench.list().await, ["long"]);
    // What one of them frees, another may have.
    let exchanged = together(vec![write("long", ""), write("a", "12345"), write("b", "67890")]);
    exchanged.await.unwrap();
    bench.assert_counted(3, 10).await;
}

#[tokio::test]
async fn many_writers_at_once_come_to_the_limit_and_not_past_it() {
    let mut bench = Bench::new().await;
    bench.limit(at_most(40, 0)).await;
    let names: Vec<_> = (0..64).map(|number| format!("n{number}")).collect();
    let written = join_all(names.iter().map(|name| bench.put(name, Some("x"), OPEN()))).await;
    let (stored, refused): (Vec<_>, Vec<_>) = written.into_iter().partition(Result::is_ok);
    assert_eq!((stored.len(), refused.len()), (40, 24));
    let limit = Err(VaultError::SecretsLimit { max: 40 });
    assert!(refused.iter().all(|refused| *refused == limit));
    assert_eq!(bench.list().await.len(), 40);
    bench.assert_counted(40, 40).await;
}

#[tokio::test]
async fn a_write_that_is_refused_otherwise_takes_nothing() {
    let mut bench = Bench::new().await;
    bench.limit(at_most(1, 0)).await;
    for _ in 0..10 {
        let absent = bench.put_if("a", Some("x"), OPEN(), Precondition::Exists).await;
        assert_eq!(absent, Err(VaultError::PreconditionFailed));
    }
    bench.put("a", Some("x"), OPEN()).await.unwrap();
    bench.assert_counted(1, 1).await;
}

#[tokio::test]
async fn limits_outlive_a_restart_and_stand_for_those_of_the_configuration() {
    let mut bench = Bench::new().await;
    let for_all = TenantLimits { secrets: Bound::of(1), bytes: Bound::of(5), ..Default::default() };
    let reopened = async |bench: &mut Bench| {
        let options = VaultOptions { tenant_limits: for_all, ..VaultOptions::default() };
        let (store, clock) = (bench.store.clone(), bench.clock.clone());
        bench.vault = Vault::open(store, &bench.kek, clock, options).await.unwrap();
    };
    reopened(&mut bench).await;
    bench.put("a", None, OPEN()).await.unwrap();
    assert_eq!(bench.put("b", None, OPEN()).await, Err(VaultError::SecretsLimit { max: 1 }));
    let rows = bench.limit(LimitChange { secrets: Some(2), ..UNCHANGED }).await;
    assert_eq!((rows.secrets.max, rows.secrets.own), (Some(2), true));
    assert_eq!((rows.bytes.max, rows.bytes.own), (Some(5), false));
    reopened(&mut bench).await;
    bench.put("b", None, OPEN()).await.unwrap();
    assert_eq!(bench.put("c", None, OPEN()).await, Err(VaultError::SecretsLimit { max: 2 }));
    let long = bench.put("b", Some("123456"), OPEN()).await;
    assert_eq!(long, Err(VaultError::BytesLimit { max: 5 }));
    let rows = bench.limit(LimitChange { others: OtherLimits::Unlimited, ..UNCHANGED }).await;
    assert_eq!((rows.secrets.max, rows.bytes.max), (None, None));
    bench.put("b", Some("123456"), OPEN()).await.unwrap();
    bench.put("c", None, OPEN()).await.unwrap();
    let rows = bench.limit(LimitChange { others: OtherLimits::Default, ..UNCHANGED }).await;
    assert_eq!((rows.secrets.max, rows.secrets.own), (Some(1), false));
    // Beyond it now: what does not add goes on.
    bench.put("b", Some("12345"), OPEN()).await.unwrap();
    assert_eq!(bench.put("d", None, OPEN()).await, Err(VaultError::SecretsLimit { max: 1 }));
    assert_eq!(bench.used().await, (3, 5));
}

#[tokio::test]
async fn a_damaged_secret_takes_its_place_and_stops_no_other() {
    let bench = Bench::new().await;
    bench.put("a", Some("x"), OPEN()).await.unwrap();
    let tenant = bench.vault.tenant_named(&acme()).unwrap();
    let key = layout::head_key(&tenant.locate(&secret("a")));
    let row = Row { version: 1, bytes: vec![1; 100] };
    tenant.commit(vec![Change::Put { key, row }], Floor::START).await.unwrap();
    bench.limit(at_most(2, 0)).await;
    bench.put("b", Some("x"), OPEN()).await.unwrap();
    assert_eq!(bench.put("c", None, OPEN()).await, Err(VaultError::SecretsLimit { max: 2 }));
}

#[tokio::test]
async fn a_tenant_that_is_not_there_has_no_limits() {
    let bench = Bench::new().await;
    let (name, change) = ("none".to_owned(), UNCHANGED);
    for command in
        [Command::TenantShow { name: name.clone() }, Command::TenantLimit { name, change }]
    {
        let failure = bench.run(command).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::NotFound);
    }
}

#[tokio::test]
async fn limits_for_all_are_changed_while_it_serves_and_those_of_one_stay() {
    let bench = Bench::new().await;
    let at_most =
        |secrets: u64| TenantLimits { secrets: Bound::of(secrets), ..TenantLimits::default() };
    bench.put("a", None, OPEN()).await.unwrap();
    bench.vault.set_tenant_limits(at_most(1)).await;
    let refused = Err(VaultError::SecretsLimit { max: 1 });
    assert_eq!(bench.put("b", None, OPEN()).await, refused);
    bench.run(Command::TenantCreate { name: "beta".into() }).await.unwrap();
    let beta = bench.vault.tenant_named(&TenantName::parse("beta").unwrap()).unwrap();
    assert_eq!(beta.quota.limits().1, at_most(1), "one that is made later too");
    // What is set for it alone, and what is set to be as for all.
    bench.limit(LimitChange { secrets: Some(2), ..UNCHANGED }).await;
    bench.vault.set_tenant_limits(TenantLimits::default()).await;
    bench.put("b", None, OPEN()).await.unwrap();
    let refused = Err(VaultError::SecretsLimit { max: 2 });
    assert_eq!(bench.put("c", None, OPEN()).await, refused);
    bench.limit(LimitChange { others: OtherLimits::Default, ..UNCHANGED }).await;
    bench.put("c", None, OPEN()).await.unwrap();
}
