//! Lists and sweeps of many names, with little memory.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::counting::{Counting, Reads};
use super::*;
use crate::api::secret::SecretState;
use crate::domain::NamePrefix;

/// So long that some 35 of them fill the least that a filling may hold.
fn long(number: usize) -> String {
    format!("{}{number:03}{}", ["a", "b", "B"][number % 3], "x".repeat(100))
}

/// A tenant's names and a principal, kept so that nothing is minted meanwhile.
struct Lists {
    vault: Arc<Vault>,
    tenant: TenantName,
    principal: Arc<Principal>,
}

impl Lists {
    async fn new(bench: &Bench, tenant: &str) -> Self {
        let principal = bench.token(tenant).await;
        let principal = bench.vault.authenticate(&principal, bench.vault.now()).unwrap();
        let tenant = TenantName::parse(tenant).unwrap();
        Self { vault: bench.vault.clone(), tenant, principal }
    }

    /// Answers the version.
    async fn put(&self, name: &str, window: ValidityWindow) -> u64 {
        let now = self.vault.now();
        let permit = self.principal.may_write(&self.tenant, secret(name), now).unwrap();
        let new = NewSecret { value: None, window };
        self.vault.write(&permit, new, Precondition::None, now).await.unwrap()
    }

    async fn delete(&self, name: &str) {
        let now = self.vault.now();
        let permit = self.principal.may_write(&self.tenant, secret(name), now).unwrap();
        self.vault.delete(&permit, Precondition::None, now).await.unwrap();
    }

    async fn page(&self, prefix: &str, after: Option<&str>, limit: u16) -> (Vec<String>, bool) {
        let page = self.ask(&asked(prefix, after, limit)).await;
        assert!(page.details.is_none());
        (page.names.iter().map(str::to_owned).collect(), page.more)
    }

    async fn ask(&self, request: &ListRequest) -> ListPage {
        let now = self.vault.now();
        let permit = self.principal.may_list(&self.tenant, now).unwrap();
        self.vault.list(&permit, request, now).await.unwrap()
    }

    /// The same as [`Self::page`], with details.
    async fn details(&self, request: ListRequest) -> (Vec<(String, Detail)>, bool) {
        let page = self.ask(&ListRequest { shows: Shows::Details, ..request }).await;
        let details = page.details.unwrap();
        assert_eq!(page.names.len(), details.len());
        (page.names.iter().map(str::to_owned).zip(details).collect(), page.more)
    }

    /// Page by page to the end.
    async fn walk(&self, prefix: &str, limit: u16) -> Vec<String> {
        let (mut names, mut more) = (Vec::new(), true);
        while more {
            let after = names.last().cloned();
            let page = self.page(prefix, after.as_deref(), limit).await;
            assert!(!page.1 || page.0.len() == usize::from(limit), "only the last is short");
            more = page.1;
            names.extend(page.0);
        }
        names
    }
}

fn asked(prefix: &str, after: Option<&str>, limit: u16) -> ListRequest {
    ListRequest {
        prefix: NamePrefix::parse(prefix).unwrap(),
        after: after.map(secret),
        limit: PageSize::new(limit).unwrap(),
        ..ListRequest::default()
    }
}

impl Bench {
    /// A restart with so much memory for lists.
    async fn with_list_cache(self, list_cache_bytes: usize) -> Self {
        let options = VaultOptions { list_cache_bytes, ..VaultOptions::default() };
        let store = self.store.clone();
        let vault = Vault::open(store, &self.kek, self.clock.clone(), options).await.unwrap();
        Self { vault, ..self }
    }

    /// A restart over a store that counts.
    async fn counting(self, list_cache_bytes: usize) -> (Self, Arc<Counting>) {
        let options = VaultOptions { list_cache_bytes, ..VaultOptions::default() };
        let store = Counting::over(self.store.clone());
        let vault = Vault::open(store.clone(), &self.kek, self.clock.clone(), options);
        (Self { vault: vault.await.unwrap(), ..self }, store)
    }
}

const NAMES: usize = 151;

#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    /// Valid later, which lists show.
    PutPending(usize),
    /// Expired already, which they do not.
    PutExpired(usize),
    Delete(usize),
    /// Begins a walk over the names with a prefix, in pages of a size.
    Walk(&'static str, u16),
    /// The next page of the walk.
    Page,
    /// Another tenant wants the memory.
    ListOther,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..NAMES;
    prop_oneof![
        3 => at().prop_map(Step::Put),
        1 => at().prop_map(Step::PutPending),
        1 => at().prop_map(Step::PutExpired),
        2 => at().prop_map(Step::Delete),
        1 => (prop_oneof![Just(""), Just("a"), Just("b0"), Just("B"), Just("c")], 1..60u16)
            .prop_map(|(prefix, limit)| Step::Walk(prefix, limit)),
        6 => Just(Step::Page),
        1 => Just(Step::ListOther),
    ]
}

/// A page is just what a sorted map would have answered at that moment, so a walk
/// lists each name that is there throughout exactly once.
async fn pages_are_those_of_a_sorted_map(list_cache_bytes: usize, steps: Vec<Step>) {
    let bench = Bench::new().await.with_list_cache(list_cache_bytes).await;
    bench.run(Command::TenantCreate { name: "other".into() }).await.unwrap();
    let (lists, other) = (Lists::new(&bench, "acme").await, Lists::new(&bench, "other").await);
    let detail = |version, window, state| Detail { version, window, state };
    let mut listed: BTreeMap<String, Detail> = BTreeMap::new();
    for number in (0..NAMES).step_by(2) {
        let version = lists.put(&long(number), OPEN()).await;
        other.put(&long(number), OPEN()).await;
        listed.insert(long(number), detail(version, OPEN(), SecretState::Valid));
    }
    let (mut prefix, mut limit, mut after) = ("", 20, None);
    for step in steps {
        match step {
            Step::Put(number) => {
                let version = lists.put(&long(number), OPEN()).await;
                listed.insert(long(number), detail(version, OPEN(), SecretState::Valid));
            }
            Step::PutPending(number) => {
                let later = window(Some(DAY), Some(3 * DAY));
                let version = lists.put(&long(number), later).await;
                listed.insert(long(number), detail(version, later, SecretState::NotYetValid));
            }
            Step::PutExpired(number) => {
                lists.put(&long(number), window(None, Some(-1))).await;
                listed.remove(&long(number));
            }
            Step::Delete(number) => {
                lists.delete(&long(number)).await;
                listed.remove(&long(number));
            }
            Step::Walk(of, size) => (prefix, limit, after) = (of, size, None),
            Step::Page => {
                let (names, more) = lists.page(prefix, after.as_deref(), limit).await;
                let past = |name: &&String| after.as_ref().is_none_or(|after| *name > after);
                let there = listed.keys().filter(|name| name.starts_with(prefix)).filter(past);
                let expected: Vec<_> = there.clone().take(usize::from(limit)).cloned().collect();
                assert_eq!(names, expected);
                assert_eq!(more, there.clone().count() > names.len());
                let request = asked(prefix, after.as_deref(), limit);
                let with_details = expected.iter().map(|name| (name.clone(), listed[name]));
                assert_eq!(lists.details(request.clone()).await, (with_details.collect(), more));
                let expiring_within = Some(3 * Duration::from_secs(DAY.unsigned_abs()));
                let (ending, _) = lists.details(ListRequest { expiring_within, ..request }).await;
                let ends = |name: &&String| listed[*name].window.expires_on().is_some();
                let ending = ending.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
                assert!(ending.iter().eq(there.filter(ends).take(usize::from(limit))));
                after = if more { names.last().cloned() } else { None };
            }
            Step::ListOther => {
                assert_eq!(other.walk("", 60).await.len(), NAMES.div_ceil(2));
            }
        }
        // Two that are filled take turns; each may hold its least share.
        assert!(bench.vault.list_budget.used() <= list_cache_bytes.max(4_096) + 256);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn walks_among_writes_are_right_however_little_memory_there_is(
        list_cache_bytes in 0..24_000usize,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(pages_are_those_of_a_sorted_map(list_cache_bytes, steps));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_throughout_is_listed_once_while_others_write() {
    let bench = Bench::new().await.with_list_cache(8_000).await;
    let lists = Arc::new(Lists::new(&bench, "acme").await);
    let (staying, passing): (Vec<_>, Vec<_>) = (0..NAMES).map(long).partition(|name| {
        let number: usize = name[1..4].parse().unwrap();
        number.is_multiple_of(2)
    });
    for name in &staying {
        lists.put(name, OPEN()).await;
    }
    let writers = passing.chunks(20).map(<[String]>::to_vec).map(|names| {
        let lists = lists.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                for name in &names {
                    lists.put(name, OPEN()).await;
                    lists.delete(name).await;
                }
            }
        })
    });
    let walkers = [7, 40, 10_000].map(|limit| {
        let (lists, staying) = (lists.clone(), staying.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let names = lists.walk("", limit).await;
                assert!(names.is_sorted_by(|a, b| a < b));
                let seen: Vec<_> = names.iter().filter(|name| staying.contains(name)).collect();
                let mut expected: Vec<_> = staying.iter().collect();
                expected.sort();
                assert_eq!(seen, expected);
            }
        })
    });
    let all = writers.chain(walkers).collect::<Vec<_>>();
    join_all(all).await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_walk_reads_every_head_once_for_each_window() {
    let mut bench = Bench::new().await.with_list_cache(0).await;
    let lists = Lists::new(&bench, "acme").await;
    for number in 0..NAMES {
        lists.put(&long(number), OPEN()).await;
    }
    let heads = NAMES as u64;
    for (list_cache_bytes, windows) in [(64_000, 1), (12_500, 2), (8_500, 3)] {
        for limit in [1, 9, 10_000] {
            let (again, store) = bench.counting(list_cache_bytes).await;
            bench = again;
            let lists = Lists::new(&bench, "acme").await;
            store.reads();
            assert_eq!(lists.walk("", limit).await.len(), NAMES);
            let Reads { rows, .. } = store.reads();
            assert_eq!(rows, windows * heads, "{list_cache_bytes} {limit}");
        }
    }
}

#[tokio::test]
async fn details_are_known_without_reading_anything_for_them() {
    let (bench, store) = Bench::new().await.counting(64_000).await;
    let lists = Lists::new(&bench, "acme").await;
    let ends = window(Some(-5), Some(DAY));
    let version = lists.put("ends", ends).await;
    lists.put("later", window(Some(DAY), None)).await;
    lists.put("over", window(None, Some(-1))).await;
    assert_eq!(lists.walk("", 10).await, ["ends", "later"]);
    store.reads();
    let (details, more) = lists.details(ListRequest::default()).await;
    assert_eq!(store.reads(), Reads { calls: 0, rows: 0 });
    assert_eq!((details.len(), more), (2, false));
    let first = Detail { version, window: ends, state: SecretState::Valid };
    assert_eq!(details[0], ("ends".to_owned(), first));
    assert_eq!(details[1].1.state, SecretState::NotYetValid);
}

#[tokio::test]
async fn what_expires_within_a_span_is_asked_of_the_moment_of_the_list() {
    let bench = Bench::new().await;
    let lists = Lists::new(&bench, "acme").await;
    for (name, from, to) in
        [("forever", None, None), ("in-10", None, Some(10)), ("in-20", Some(15), Some(20))]
    {
        lists.put(name, window(from, to)).await;
    }
    let within = async |seconds| {
        let expiring_within = Some(Duration::from_secs(seconds));
        let page = lists.ask(&ListRequest { expiring_within, ..ListRequest::default() }).await;
        page.names.iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(within(9).await, [""; 0]);
    assert_eq!(within(10).await, ["in-10"]);
    assert_eq!(within(20).await, ["in-10", "in-20"]);
    bench.clock.pass(10);
    assert_eq!(within(9).await, [""; 0], "one is over, the other ends in 10");
    assert_eq!(within(u64::MAX).await, ["in-20"]);
}

#[tokio::test]
async fn a_write_into_a_full_window_costs_its_end_and_no_more() {
    let (bench, store) = Bench::new().await.counting(10_000).await;
    let lists = Lists::new(&bench, "acme").await;
    for number in (0..NAMES).step_by(2) {
        lists.put(&long(number), OPEN()).await;
    }
    lists.page("", None, 10).await;
    for number in (1..NAMES).step_by(2) {
        lists.put(&long(number), OPEN()).await;
        assert!(bench.vault.list_budget.excess() == 0);
    }
    store.reads();
    let mut all: Vec<_> = (0..NAMES).map(long).collect();
    all.sort();
    assert_eq!(lists.page("", None, 50).await.0, all[..50]);
    assert_eq!(store.reads().rows, 0);
    assert_eq!(lists.walk("", 50).await, all);
}

#[tokio::test]
async fn many_tenants_share_the_memory_and_none_takes_more_than_there_is() {
    const LIMIT: usize = 40_000;
    let bench = Bench::new().await.with_list_cache(LIMIT).await;
    let mut tenants = Vec::new();
    for tenant in 0..10 {
        let name = format!("t{tenant}");
        bench.run(Command::TenantCreate { name: name.clone() }).await.unwrap();
        let lists = Lists::new(&bench, &name).await;
        for number in 0..60 + tenant * 30 {
            lists.put(&long(number % 300), OPEN()).await;
        }
        tenants.push(lists);
    }
    let budget = &bench.vault.list_budget;
    for round in 0..3 {
        for (index, lists) in tenants.iter().enumerate() {
            assert_eq!(lists.walk("", 50).await.len(), (60 + index * 30).min(300), "{round}");
            assert!(budget.used() <= LIMIT, "{}", budget.used());
        }
        join_all(tenants.iter().map(|lists| lists.walk("", 25))).await;
        assert!(budget.used() <= LIMIT, "{}", budget.used());
    }
    assert!(budget.used() > LIMIT / 4, "what there is room for is kept");
}

#[tokio::test]
async fn a_sweep_reads_what_has_expired_and_not_what_exists() {
    let (bench, store) = Bench::new().await.counting(0).await;
    let lists = Lists::new(&bench, "acme").await;
    for number in 0..10_000 {
        let end = if number % 1_000 == 7 { 10 } else { DAY + number };
        lists.put(&format!("s{number}"), window(None, Some(end))).await;
    }
    bench.clock.pass(20);
    store.reads();
    bench.vault.sweep_expired(Duration::ZERO).await;
    let swept = store.reads();
    // A page of the index, and the head of each that has expired.
    assert_eq!(swept, Reads { calls: 11, rows: 16 + 10 });
    let left = SecretCounts { valid: 9_990, pending: 0, expired: 0 };
    assert_eq!(bench.counts().await, left);
    store.reads();
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert_eq!(store.reads().rows, 16, "nothing is left to remove");
}

#[tokio::test]
async fn a_sweep_of_many_tenants_asks_each_once() {
    const TENANTS: u64 = 200;
    let (bench, store) = Bench::new().await.counting(0).await;
    for tenant in 0..TENANTS {
        bench.run(Command::TenantCreate { name: format!("t{tenant}") }).await.unwrap();
    }
    store.reads();
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert_eq!(store.reads(), Reads { calls: TENANTS + 1, rows: 0 });
}
