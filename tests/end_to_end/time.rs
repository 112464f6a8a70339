//! A clock that jumps destroys nothing, and one that goes back revives nothing:
//! on the real store, with a clock that the test sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenure::api::admin::{Command, Failure, FailureKind, Reply, Status};
use tenure::crypto::{Kek, KekWay};
use tenure::domain::{
    Clock, ClockReading, SecretName, SecretValue, TenantName, Timestamp, ValidityWindow,
};
use tenure::store::{SledOptions, SledStore};
use tenure::vault::maintenance::{self, Exchange};
use tenure::vault::{ListRequest, NewSecret, Precondition, Vault, VaultOptions};
use zeroize::Zeroizing;

use crate::support::{Serve, init, maintain, store_in};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;
const TEN_YEARS: i64 = 3_652 * DAY;

/// Wall seconds and seconds since boot.
#[derive(Debug)]
struct Manual(Mutex<(i64, u64)>);

impl Manual {
    fn at(wall: i64) -> Arc<Self> {
        Arc::new(Self(Mutex::new((wall, 1_000))))
    }

    /// Time passes, on both clocks.
    fn pass(&self, seconds: i64) {
        let mut clocks = self.0.lock().expect("no panic before");
        clocks.0 += seconds;
        clocks.1 += u64::try_from(seconds).expect("forwards");
    }

    /// Someone sets the wall clock.
    fn step(&self, seconds: i64) {
        self.0.lock().expect("no panic before").0 += seconds;
    }
}

impl Clock for Manual {
    fn read(&self) -> ClockReading {
        let (wall, boot) = *self.0.lock().expect("no panic before");
        let since_boot = Duration::from_secs(boot);
        ClockReading { wall: Timestamp::from_unix_seconds(wall), since_boot }
    }
}

fn open_store(folder: &Path) -> Arc<SledStore> {
    Arc::new(SledStore::open(folder, SledOptions::default(), &|_| {}).expect("it opens"))
}

/// A vault on a folder, with a tenant `acme`, and all it takes to open it again.
struct Bench {
    folder: PathBuf,
    kek: Kek,
    clock: Arc<Manual>,
    start: i64,
    vault: Arc<Vault>,
}

impl Bench {
    async fn new(folder: &Path) -> Self {
        let start = 1_900_000_000;
        let (kek, clock) = (Kek::generate(), Manual::at(start));
        let folder = folder.join("store");
        let store = open_store(&folder);
        Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.expect("a new store");
        let options = VaultOptions::default();
        let vault = Vault::open(store, &kek, clock.clone(), options).await.expect("it opens");
        let bench = Self { folder, kek, clock, start, vault };
        bench.run(Command::TenantCreate { name: "acme".to_owned() }).await.expect("a new tenant");
        bench
    }

    /// A restart, with nothing left of the old process but the folder; what
    /// happens to the clock meanwhile.
    async fn restart(mut self, meanwhile: impl FnOnce(&Manual)) -> Self {
        self.vault.close().await;
        meanwhile(&self.clock);
        let (store, options) = (open_store(&self.folder), VaultOptions::default());
        let opened = Vault::open(store, &self.kek, self.clock.clone(), options).await;
        self.vault = opened.expect("it opens");
        self
    }

    async fn run(&self, command: Command) -> Result<Reply, Failure> {
        maintenance::execute(&self.vault, command, Exchange::none()).await
    }

    async fn principal(&self) -> Arc<tenure::auth::Principal> {
        let mint = Command::TokenMint {
            tenant: "acme".to_owned(),
            scopes: vec!["*".to_owned()],
            ttl_seconds: 9 * 365 * 24 * 3600,
            subject: "test".to_owned(),
        };
        let Ok(Reply::Token { token, .. }) = self.run(mint).await else { panic!("no token") };
        let now = self.vault.now();
        // With a clock ten years ahead no token of today is good, so this one was
        // minted by that clock.
        self.vault.authenticate(&token, now).expect("a good token")
    }

    /// Expires so many seconds after the test's start.
    async fn put(&self, name: &str, expires: i64) {
        let (principal, now) = (self.principal().await, self.vault.now());
        let permit = principal.may_write(&acme(), secret(name), now).expect("it may");
        let expires = Timestamp::from_unix_seconds(self.start + expires);
        let window = ValidityWindow::new(None, Some(expires)).expect("a window");
        let value = Some(SecretValue::new(Zeroizing::new(format!("the value of {name}"))));
        let new = NewSecret { value, window };
        self.vault.write(&permit, new, Precondition::None, now).await.expect("stored");
    }

    async fn is_readable(&self, name: &str) -> bool {
        let (principal, now) = (self.principal().await, self.vault.now());
        let permit = principal.may_read(&acme(), secret(name), now).expect("it may");
        self.vault.read(&permit, now).await.expect("the store answers").is_some()
    }

    async fn list(&self) -> Vec<String> {
        let (principal, now) = (self.principal().await, self.vault.now());
        let permit = principal.may_list(&acme(), now).expect("it may");
        let page = self.vault.list(&permit, &ListRequest::default(), now).await;
        let names = page.expect("the store answers").names;
        names.iter().map(str::to_owned).collect()
    }

    async fn status(&self) -> Status {
        match self.run(Command::Status).await {
            Ok(Reply::Status(status)) => *status,
            _ => panic!("no status"),
        }
    }

    async fn sweep(&self) -> Result<u64, FailureKind> {
        let sweep = Command::Sweep { tenant: None, retain_seconds: 0, dry_run: false };
        match self.run(sweep).await {
            Ok(Reply::Swept { tenants, .. }) => {
                Ok(tenants.iter().map(|tenant| tenant.secrets).sum())
            }
            Ok(_) => panic!("not a sweep"),
            Err(failure) => Err(failure.kind),
        }
    }

    async fn accept(&self) {
        self.run(Command::ClockAccept).await.expect("accepted");
    }

    async fn stored(&self) -> u64 {
        let secrets = self.status().await.secrets;
        secrets.valid + secrets.pending + secrets.expired
    }
}

fn acme() -> TenantName {
    TenantName::parse("acme").expect("a name")
}

fn secret(name: &str) -> SecretName {
    SecretName::parse(name).expect("a name")
}

#[tokio::test]
async fn a_clock_ten_years_ahead_sweeps_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::new(folder.path()).await;
    bench.put("soon", HOUR).await;
    bench.put("late", 100 * DAY).await;
    bench.clock.step(TEN_YEARS);
    assert!(!bench.is_readable("late").await, "an expired secret is not served");
    assert_eq!(bench.sweep().await, Err(FailureKind::ClockDisputed));
    bench.vault.sweep_expired(Duration::ZERO).await;
    assert!(bench.status().await.clock.disputed);
    assert_eq!(bench.stored().await, 2);

    // A restart does not make the wrong time right.
    let bench = bench.restart(|_| {}).await;
    assert!(bench.status().await.clock.disputed);
    assert_eq!(bench.sweep().await, Err(FailureKind::ClockDisputed));
    bench.vault.keep_house().await.expect("stored");
    assert_eq!(bench.stored().await, 2);

    // Set right again, all is as it was; the operator says so.
    bench.clock.step(-TEN_YEARS);
    assert!(bench.is_readable("soon").await && bench.is_readable("late").await);
    assert!(bench.status().await.clock.disputed);
    bench.accept().await;
    assert!(!bench.status().await.clock.disputed);
    assert_eq!(bench.sweep().await, Ok(0));
    bench.clock.pass(2 * HOUR);
    assert_eq!(bench.sweep().await, Ok(1));
    assert_eq!(bench.list().await, ["late"]);
    bench.vault.close().await;
}

#[tokio::test]
async fn a_machine_started_ten_years_ahead_sweeps_only_once_that_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::new(folder.path()).await;
    bench.put("late", 100 * DAY).await;
    let bench = bench.restart(|clock| clock.step(TEN_YEARS)).await;
    assert!(bench.status().await.clock.disputed);
    assert_eq!(bench.sweep().await, Err(FailureKind::ClockDisputed));
    assert_eq!(bench.stored().await, 1);
    bench.accept().await;
    let bench = bench.restart(|_| {}).await;
    assert!(!bench.status().await.clock.disputed, "the acceptance is durable");
    assert_eq!(bench.sweep().await, Ok(1));
    assert_eq!(bench.stored().await, 0);
    bench.vault.close().await;
}

#[tokio::test]
async fn what_had_expired_stays_gone_when_the_clock_goes_back_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench::new(folder.path()).await;
    bench.put("expired", HOUR).await;
    bench.put("valid", 10 * DAY).await;
    assert!(bench.is_readable("expired").await);
    bench.clock.pass(2 * HOUR);
    assert!(!bench.is_readable("expired").await);
    bench.vault.keep_house().await.expect("stored");
    let mut bench = bench.restart(|clock| clock.step(-DAY)).await;
    for round in ["one", "two", "three"] {
        assert!(bench.status().await.clock.disputed, "at start {round}");
        assert!(!bench.is_readable("expired").await, "at start {round}");
        assert!(bench.is_readable("valid").await);
        assert!(!bench.list().await.contains(&"expired".to_owned()));
        // Writes go on, and do not lower the floor.
        bench.put(round, 20 * DAY).await;
        bench.vault.keep_house().await.expect("stored");
        bench = bench.restart(|_| {}).await;
    }
    assert_eq!(bench.list().await, ["one", "three", "two", "valid"]);
    bench.vault.close().await;
}

/// Moves what the store in `data` takes for the latest undisputed time.
async fn move_floor(data: &Path, seconds: i64) {
    let text = fs::read_to_string(data.with_extension("kek")).expect("a KEK");
    let kek = Kek::parse(&text).expect("a KEK");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let clock = Manual::at(i64::try_from(now).expect("before 10,000") + seconds);
    let (store, options) = (open_store(&store_in(data)), VaultOptions::default());
    let vault = Vault::open(store, &kek, clock, options).await.expect("it opens");
    maintenance::execute(&vault, Command::ClockAccept, Exchange::none()).await.expect("accepted");
    vault.close().await;
}

#[tokio::test]
async fn a_disputed_clock_ends_a_sweep_with_6_until_it_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    for (floor, server) in [(400 * DAY, None), (-400 * DAY, Some(()))] {
        move_floor(&data, floor).await;
        let server = server.map(|()| Serve::start(&data));
        let status = maintain(&data, &["status"]);
        assert!(status.stdout.contains("(disputed: nothing is swept;"), "{status:?}");
        let swept = maintain(&data, &["sweep"]);
        assert_eq!((swept.code, swept.stdout.as_str()), (Some(6), ""), "{swept:?}");
        assert!(swept.stderr.contains("then run 'tenure clock accept'"), "{swept:?}");
        let accepted = maintain(&data, &["clock", "accept"]);
        assert_eq!(accepted.code, Some(0), "{accepted:?}");
        let status = maintain(&data, &["status"]);
        assert!(status.stdout.contains("(undisputed)"), "{status:?}");
        assert_eq!(maintain(&data, &["sweep"]).code, Some(0));
        if let Some(server) = server {
            let (code, log) = server.stop_by("TERM");
            assert_eq!(code, Some(0));
            assert!(log.contains("no sweep: the clock is disputed"), "{log}");
        }
    }
}
