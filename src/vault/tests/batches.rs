//! Several writes together, held against the same ones one after the other, over both
//! engines.

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::api::secret::SecretState;
use crate::store::{SledOptions, SledStore};

/// A vault over some store, with a tenant `acme`.
struct Side {
    vault: Arc<Vault>,
    principal: Arc<Principal>,
}

/// All that can be seen of the secrets.
type Seen = Vec<(String, Detail, Option<Option<String>>)>;

impl Side {
    async fn over(store: Arc<dyn Store>, options: VaultOptions) -> Self {
        let (kek, clock) = (Kek::generate(), Manual::at(START));
        Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.unwrap();
        let vault = Vault::open(store, &kek, clock, options).await.unwrap();
        let create = Command::TenantCreate { name: "acme".into() };
        maintenance::execute(&vault, create, Exchange::none()).await.unwrap();
        let (scopes, subject) = (vec!["*".to_owned()], "test".to_owned());
        let mint =
            Command::TokenMint { tenant: "acme".into(), scopes, ttl_seconds: 1_000, subject };
        let minted = maintenance::execute(&vault, mint, Exchange::none()).await.unwrap();
        let Reply::Token { token, .. } = minted else { panic!("not a token") };
        let principal = vault.authenticate(&token, vault.now()).unwrap();
        Self { vault, principal }
    }

    async fn in_memory() -> Self {
        Self::over(Arc::new(MemoryStore::new()), VaultOptions::default()).await
    }

    async fn on_sled(folder: &std::path::Path) -> Self {
        let options = SledOptions {
            cache_bytes_total: 16 << 20,
            full_floor_bytes: 0,
            hard_floor_bytes: 0,
            ..SledOptions::default()
        };
        let store = SledStore::open(&folder.join("store"), options, &|_| {}).unwrap();
        Self::over(Arc::new(store), VaultOptions::default()).await
    }

    async fn one(&self, name: SecretName, planned: Planned) -> Result<u64, VaultError> {
        let now = self.vault.now();
        let permit = self.principal.may_write(&acme(), name, now).unwrap();
        self.vault.write(&permit, planned.new, planned.precondition, now).await
    }

    async fn together(&self, writes: Vec<(SecretName, Planned)>) -> Result<Vec<u64>, VaultError> {
        let now = self.vault.now();
        let permit = self.principal.may_write_some(&acme(), now).unwrap();
        let permit = permit.all(ByName::new(writes).unwrap(), now).unwrap();
        self.vault.write_all(permit, now).await
    }

    async fn seen(&self) -> Seen {
        let now = self.vault.now();
        let permit = self.principal.may_list(&acme(), now).unwrap();
        let request = ListRequest { shows: Shows::Details, ..ListRequest::default() };
        let page = self.vault.list(&permit, &request, now).await.unwrap();
        let mut seen = Vec::new();
        for (name, detail) in page.names.iter().zip(page.details.unwrap()) {
            let permit = self.principal.may_read(&acme(), secret(name), now).unwrap();
            let read = self.vault.read(&permit, now).await.unwrap();
            assert_eq!(read.is_some(), detail.state == SecretState::Valid);
            let value = read.map(|secret| {
                assert_eq!((secret.version, secret.window), (detail.version, detail.window));
                secret.value.map(|value| value.expose().to_owned())
            });
            seen.push((name.to_owned(), detail, value));
        }
        seen
    }

    /// Ledger, digests and indexes agree with the rows, and the rows with the names in
    /// memory.
    async fn assert_sound(&self) {
        let verify = Command::Verify { tenant: None, rows_per_second: None };
        let verified = maintenance::execute(&self.vault, verify, Exchange::none()).await.unwrap();
        let Reply::Verified(found) = verified else { panic!("no report") };
        assert!(found.sound);
        let seen = self.seen().await;
        self.vault.tenant_named(&acme()).unwrap().heads.drop_all();
        assert_eq!(self.seen().await, seen);
    }
}

fn planned(value: Option<String>, window: ValidityWindow, precondition: Precondition) -> Planned {
    let value = value.map(|text| SecretValue::new(Zeroizing::new(text)));
    Planned { new: NewSecret { value, window }, precondition }
}

fn plain(length: usize) -> Planned {
    planned(Some("x".repeat(length)), OPEN(), Precondition::None)
}

const NAMES: usize = 6;

fn name(number: usize) -> SecretName {
    secret(&format!("n{number}"))
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Any,
    Exists,
    Absent,
    /// The version that is there, if one is.
    Current,
    Older,
}

#[derive(Debug, Clone)]
struct Write {
    name: usize,
    size: Option<usize>,
    window: ValidityWindow,
    wish: Wish,
}

impl Write {
    /// Made anew for each side: what is planned has no copies.
    fn plan(&self, seen: &Seen) -> (SecretName, Planned) {
        let text = |size| format!("{}-{size}-", self.name).repeat(size / 4);
        let precondition = match self.wish {
            Wish::Any => Precondition::None,
            Wish::Exists => Precondition::Exists,
            Wish::Absent => Precondition::Absent,
            Wish::Current => Precondition::Versions(
                self.there(seen).map(|there| there.version).into_iter().collect(),
            ),
            Wish::Older => Precondition::Versions(vec![0]),
        };
        (name(self.name), planned(self.size.map(text), self.window, precondition))
    }

    fn there<'s>(&self, seen: &'s Seen) -> Option<&'s Detail> {
        let named = seen.iter().find(|(held, ..)| *held == name(self.name).as_str());
        named.map(|(_, detail, _)| detail)
    }

    fn holds(&self, seen: &Seen) -> bool {
        match self.wish {
            Wish::Any => true,
            Wish::Exists | Wish::Current => self.there(seen).is_some(),
            Wish::Absent => self.there(seen).is_none(),
            Wish::Older => false,
        }
    }
}

fn batch() -> impl Strategy<Value = Vec<Write>> {
    let all: Vec<_> = (0..NAMES).collect();
    let names = proptest::sample::subsequence(all, 1..=NAMES).prop_shuffle();
    let size =
        prop_oneof![Just(None), (0..300usize).prop_map(Some), (0..9_000usize).prop_map(Some)];
    let ends = [(None, None), (None, Some(DAY)), (Some(DAY), Some(2 * DAY)), (None, Some(-1))];
    let ends = proptest::sample::select(ends.to_vec());
    let wish = prop_oneof![
        12 => Just(Wish::Any),
        2 => Just(Wish::Exists),
        2 => Just(Wish::Absent),
        4 => Just(Wish::Current),
        1 => Just(Wish::Older),
    ];
    let rest = proptest::collection::vec((size, ends, wish), NAMES);
    (names, rest).prop_map(|(names, rest)| {
        let write =
            |(name, (size, (from, to), wish))| Write { name, size, window: window(from, to), wish };
        names.into_iter().zip(rest).map(write).collect()
    })
}

/// A batch that fails changes nothing, and draws no version.
async fn batches_are_their_writes(together: &Side, single: &Side, batches: &[Vec<Write>]) {
    for batch in batches {
        let before = together.seen().await;
        let failing: Vec<_> = batch
            .iter()
            .enumerate()
            .filter_map(|(place, write)| (!write.holds(&before)).then_some(place))
            .collect();
        let plan = batch.iter().map(|write| write.plan(&before));
        let written = together.together(plan.clone().collect()).await;
        if failing.is_empty() {
            let mut versions = Vec::new();
            for (name, planned) in plan {
                versions.push(single.one(name, planned).await.unwrap());
            }
            assert_eq!(written, Ok(versions));
        } else {
            assert_eq!(written, Err(VaultError::PreconditionsFailed { of: failing }));
            assert_eq!(together.seen().await, before);
        }
        assert_eq!(together.seen().await, single.seen().await);
    }
    together.assert_sound().await;
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_batch_is_as_its_writes_one_after_the_other(
        batches in proptest::collection::vec(batch(), 1..12),
    ) {
        run(async {
            let single = Side::in_memory().await;
            batches_are_their_writes(&Side::in_memory().await, &single, &batches).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn a_batch_is_as_its_writes_on_sled_too(
        batches in proptest::collection::vec(batch(), 1..12),
    ) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (together, single) = (Side::on_sled(folder.path()).await, Side::in_memory().await);
            batches_are_their_writes(&together, &single, &batches).await;
            together.vault.close().await;
        });
    }
}

/// The most that is taken, over the most that it may replace by default.
#[test]
fn a_batch_of_all_that_it_may_hold_fits_one_commit() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let side = Side::on_sled(folder.path()).await;
        let full = Vault::MAX_TOGETHER_BYTES / 65_536;
        for first in (0..96).step_by(full) {
            let writes = (first..first + full).map(|number| (name(number), plain(65_536)));
            side.together(writes.collect()).await.unwrap();
        }
        let ends = window(Some(-5), Some(DAY));
        let size = Vault::MAX_TOGETHER_BYTES / 100;
        let writes = (0..100).map(|number| {
            (name(number), planned(Some("y".repeat(size)), ends, Precondition::None))
        });
        assert_eq!(side.together(writes.collect()).await.unwrap().len(), 100);
        assert!(side.seen().await.iter().all(|(_, detail, _)| detail.window == ends));
        side.assert_sound().await;
        side.vault.close().await;
    });
}

#[tokio::test]
async fn what_is_too_large_to_happen_together_changes_nothing() {
    let options =
        VaultOptions { max_value_bytes: SecretValue::HARD_MAX_BYTES, ..VaultOptions::default() };
    let side = Side::over(Arc::new(MemoryStore::new()), options).await;
    let half = Vault::MAX_TOGETHER_BYTES / 2;
    let mut writes = vec![(name(0), plain(half)), (name(1), plain(half))];
    side.together(writes.split_off(0)).await.unwrap();
    let before = side.seen().await;
    let over = vec![(name(0), plain(half)), (name(1), plain(half)), (name(2), plain(1))];
    assert_eq!(side.together(over).await, Err(VaultError::TooLargeTogether));
    let max = SecretValue::HARD_MAX_BYTES;
    let over = vec![(name(0), plain(1)), (name(1), plain(max + 1))];
    assert_eq!(side.together(over).await, Err(VaultError::ValueTooLarge { max }));
    assert_eq!(side.seen().await, before);
    // Little in itself, but the removal of what it replaces is more than a commit takes.
    for number in 2..100 {
        side.one(name(number), plain(max)).await.unwrap();
    }
    let before = side.seen().await;
    let all = (0..100).map(|number| (name(number), plain(1))).collect();
    assert_eq!(side.together(all).await, Err(VaultError::TooLargeTogether));
    assert_eq!(side.seen().await, before);
    let some = (0..50).map(|number| (name(number), plain(1))).collect();
    assert_eq!(side.together(some).await.unwrap().len(), 50);
    side.assert_sound().await;
}

/// Batches over the same names in unlike orders, and single writes among them: each
/// holds several locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_and_single_writes_do_not_wait_for_each_other_for_ever() {
    let side = Arc::new(Side::in_memory().await);
    let writers = (0..8_usize).map(|writer| {
        let side = side.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let names = (0..60).map(|number| (number * 7 + writer * 13 + round) % 60);
                let writes = names.map(|number| (name(number), plain(writer))).collect();
                side.together(writes).await.unwrap();
                side.one(name(round), plain(writer)).await.unwrap();
            }
        })
    });
    let all = join_all(writers.collect::<Vec<_>>());
    let all = tokio::time::timeout(Duration::from_secs(60), all).await.expect("none is stuck");
    all.into_iter().for_each(Result::unwrap);
    side.assert_sound().await;
}
