//! What damage to the files of a store does to the secrets in it.
//!
//! Each case is a copy of a store with one thing wrong: a flipped bit, a file that
//! is cut, missing, overwritten or another database's. It is opened, everything is
//! read, listed, verified and written to, in a process that may end or hang over
//! it without taking the test along. What must never come of it: a value that is
//! not the current one, a secret that is missing without `tenure verify` telling,
//! anything in another database, the end of the process.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::mpsc::channel;

use zeroize::Zeroizing;

use super::list::ListRequest;
use super::maintenance::Exchange;
use super::pace::Pace;
use super::tests::Manual;
use super::verify::verify;
use super::*;
use crate::api::admin::{Command, Reply};
use crate::domain::{NamePrefix, SecretName};
use crate::store::sled_engine::copy;
use crate::store::{SledOptions, SledStore};

// The store: two tenants in each of two databases, and in each some segments of
// sled's log, with secrets that were written once, replaced, deleted or expired.

const TENANTS: [(&str, &str); 4] = [
    ("alpha", "tenants-0000"),
    ("beta", "tenants-0000"),
    ("gamma", "tenants-0001"),
    ("delta", "tenants-0001"),
];
const NAMES: usize = 50;
const ROUNDS: usize = 8;
const START: i64 = 1_900_000_000;

fn options() -> SledOptions {
    SledOptions {
        cache_bytes_total: 16 << 20,
        full_floor_bytes: 0,
        hard_floor_bytes: 0,
        tenants_per_database: 2,
        ..SledOptions::default()
    }
}

fn name(n: usize) -> SecretName {
    SecretName::parse(&format!("secret-{n:02}")).unwrap()
}

fn value(tenant: &str, n: usize, round: usize) -> String {
    let size = if n == 7 { 40_000 } else { [0, 30, 100, 700, 3_000, 9_000][(n + round) % 6] };
    let mut text = format!("{tenant}/{n}/{round}/");
    while text.len() < size {
        text.push_str("filler");
    }
    text
}

fn last_round(n: usize) -> usize {
    if n.is_multiple_of(2) { 0 } else { ROUNDS - 1 }
}

fn is_deleted(n: usize) -> bool {
    n % 7 == 3
}

fn is_expired(n: usize) -> bool {
    n % 7 == 5
}

fn expected(tenant: &str, n: usize) -> Option<String> {
    (!is_deleted(n) && !is_expired(n)).then(|| value(tenant, n, last_round(n)))
}

async fn open(folder: &Path, kek: &Kek) -> Result<Arc<Vault>, String> {
    let store = SledStore::open(folder, options(), &|_| {}).map_err(|error| error.to_string())?;
    let clock = Manual::at(START + 100);
    let opened = Vault::open(Arc::new(store), kek, clock, VaultOptions::default()).await;
    opened.map_err(|error| error.to_string())
}

async fn principal(vault: &Arc<Vault>, tenant: &str) -> Arc<Principal> {
    let (scopes, subject) = (vec!["*".to_owned()], "test".to_owned());
    let mint =
        Command::TokenMint { tenant: tenant.to_owned(), scopes, ttl_seconds: 1_000, subject };
    match maintenance::execute(vault, mint, Exchange::none()).await.unwrap() {
        Reply::Token { token, .. } => vault.authenticate(&token, vault.now()).unwrap(),
        _ => panic!("not a token"),
    }
}

/// As a kill leaves it: sled replays its whole log.
const KILLED: &str = "killed";
/// Closed, and opened since: sled has a snapshot of it.
const CLOSED: &str = "closed";

async fn make(folder: &Path, kek: &Kek) {
    let made = folder.join("made");
    let store = Arc::new(SledStore::open(&made, options(), &|_| {}).unwrap());
    let clock = Manual::at(START);
    Vault::init(store.clone(), kek, KekWay::File, &*clock).await.unwrap();
    let vault = Vault::open(store, kek, clock, VaultOptions::default()).await.unwrap();
    for (tenant, _) in TENANTS {
        let create = Command::TenantCreate { name: tenant.into() };
        maintenance::execute(&vault, create, Exchange::none()).await.unwrap();
    }
    for round in 0..ROUNDS {
        for (tenant, _) in TENANTS {
            write_round(&vault, tenant, round).await;
        }
    }
    copy(&made, &folder.join(KILLED));
    vault.close().await;
    drop(vault);
    open(&made, kek).await.unwrap().close().await;
    copy(&made, &folder.join(CLOSED));
}

async fn write_round(vault: &Arc<Vault>, tenant: &str, round: usize) {
    let (principal, now) = (principal(vault, tenant).await, vault.now());
    let address = TenantName::parse(tenant).unwrap();
    for n in (0..NAMES).filter(|n| round <= last_round(*n)) {
        let permit = principal.may_write(&address, name(n), now).unwrap();
        let value = SecretValue::new(Zeroizing::new(value(tenant, n, round)));
        let end = is_expired(n).then(|| Timestamp::from_unix_seconds(START + 50));
        let window = ValidityWindow::new(None, end).unwrap();
        let new = NewSecret { value: Some(value), window };
        vault.write(&permit, new, Precondition::None, now).await.unwrap();
        if is_deleted(n) && round == last_round(n) {
            vault.delete(&permit, Precondition::None, now).await.unwrap();
        }
    }
}

/// Every file below, by its path from there, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            all.extend(files(&entry.path()).iter().map(|below| format!("{name}/{below}")));
        } else {
            all.push(name);
        }
    }
    all.sort();
    all
}

// Damage.

#[derive(Debug, Clone)]
enum Damage {
    Flip {
        at: u64,
        bit: u8,
    },
    Cut(u64),
    Missing,
    Overwritten,
    /// In the place of another's, and that in its place.
    SwappedWith(String),
}

#[derive(Debug, Clone)]
struct Case {
    store: &'static str,
    file: String,
    damage: Damage,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {:?}", self.store, self.file, self.damage)
    }
}

impl Case {
    fn concerns(&self, database: &str) -> bool {
        let other = match &self.damage {
            Damage::SwappedWith(other) => Some(other),
            _ => None,
        };
        [Some(&self.file), other].into_iter().flatten().any(|file| file.starts_with(database))
    }

    fn apply(&self, folder: &Path) {
        let file = folder.join(&self.file);
        let write = || File::options().read(true).write(true).open(&file).unwrap();
        match &self.damage {
            Damage::Flip { at, bit } => {
                let mut byte = [0];
                write().read_exact_at(&mut byte, *at).unwrap();
                byte[0] ^= 1 << bit;
                write().write_all_at(&byte, *at).unwrap();
            }
            Damage::Cut(length) => write().set_len(*length).unwrap(),
            Damage::Missing => fs::remove_file(file).unwrap(),
            Damage::Overwritten => fs::write(file, "something else").unwrap(),
            Damage::SwappedWith(other) => {
                let (other, aside) = (folder.join(other), folder.join("aside"));
                fs::rename(&file, &aside).unwrap();
                fs::rename(&other, &file).unwrap();
                fs::rename(&aside, &other).unwrap();
            }
        }
    }
}

/// xorshift64*: enough to choose bits by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn flip(&mut self, at: u64) -> Damage {
        Damage::Flip { at, bit: self.below(8) as u8 }
    }
}

fn is_long() -> bool {
    std::env::var_os("TENURE_TEST_LONG").is_some()
}

const SEGMENT: u64 = 512 * 1024;

/// The same in each process.
fn cases(folder: &Path, seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for store in [KILLED, CLOSED] {
        let folder = folder.join(store);
        let files = files(&folder);
        for file in files.iter().filter(|file| *file != "LOCK") {
            let bytes = fs::read(folder.join(file)).unwrap();
            let mut add = |damage| all.push(Case { store, file: file.clone(), damage });
            // Each kind of file once, in the usual run.
            let first = if store == KILLED { "tenants-0000/" } else { "tenants-0000/1/snap." };
            if is_long() || file.starts_with(first) {
                header_bytes(file, &bytes).for_each(|at| add(random.flip(at)));
            }
            for length in cuts(file, bytes.len() as u64) {
                add(Damage::Cut(length));
            }
            add(Damage::Missing);
            add(Damage::Overwritten);
            let other = file.replace("tenants-0000", "tenants-0001");
            if other != *file && files.contains(&other) {
                add(Damage::SwappedWith(other));
            }
        }
        for damage in [Damage::Missing, Damage::Overwritten] {
            all.push(Case { store, file: "LOCK".into(), damage });
        }
        let logs: Vec<_> = files.iter().filter(|file| file.ends_with("db")).collect();
        let of_tenants: Vec<_> = logs.iter().filter(|file| file.starts_with('t')).collect();
        for n in 0..if is_long() { 500 } else { 125 } {
            // One in eight in a small database.
            let file = if n % 8 == 0 { logs[n / 8 % 2] } else { of_tenants[n % 2] };
            let bytes = fs::read(folder.join(file)).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            let at = random.below(used);
            let damage = random.flip(at);
            all.push(Case { store, file: file.clone(), damage });
        }
    }
    all
}

/// Where a file says what the rest of it is.
fn header_bytes(file: &str, bytes: &[u8]) -> Box<dyn Iterator<Item = u64>> {
    let length = bytes.len() as u64;
    let last = file.rsplit('/').next().unwrap();
    match last {
        "db" => {
            let segments = (0..length).step_by(SEGMENT as usize);
            Box::new(segments.flat_map(|at| at..at + 20).filter(move |at| *at < length))
        }
        "mark" => Box::new((0..20).chain(4096..4116)),
        "conf" | "CURRENT" => Box::new(0..length),
        // Numbers, places of pages, and a checksum at the end.
        _ => Box::new((0..40.min(length)).chain(length.saturating_sub(40).max(40)..length)),
    }
}

fn cuts(file: &str, length: u64) -> Vec<u64> {
    let mut cuts = vec![0, 1, length / 2, length - 1];
    if file.ends_with("db") {
        let segments = (0..length).step_by(SEGMENT as usize);
        cuts.extend(segments.flat_map(|at| [at, at + 20, at + SEGMENT / 2]));
    }
    cuts.retain(|cut| *cut < length);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

// What came of it.

/// What may come of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is as it was.
    Harmless,
    /// The store did not open, and said which database is why.
    Refused,
    /// A tenant answers errors; the other databases serve.
    Marked,
    /// `tenure verify` tells, and nothing else does.
    Verified,
}

const OUTCOMES: [Outcome; 4] =
    [Outcome::Harmless, Outcome::Refused, Outcome::Marked, Outcome::Verified];

async fn outcome(case: &Case, folder: &Path, kek: &Kek) -> Result<Outcome, String> {
    let vault = match open(folder, kek).await {
        Ok(vault) => vault,
        Err(error) => {
            let named = |database: &str| case.concerns(database) && error.contains(database);
            return if named("system") || named("keyring") {
                Ok(Outcome::Refused)
            } else {
                Err(format!("did not open: {error}"))
            };
        }
    };
    let mut worst = Outcome::Harmless;
    for (tenant, database) in TENANTS {
        let found = examine(&vault, tenant).await;
        let found = found.map_err(|fault| format!("{tenant}: {fault}"))?;
        if found != Outcome::Harmless && !case.concerns(database) {
            return Err(format!("{tenant} is in another database, and {found:?}"));
        }
        worst = worst.max(found);
    }
    vault.close().await;
    Ok(worst)
}

/// What an error over damage must name.
fn marked(error: &impl fmt::Display) -> Result<Outcome, String> {
    let text = error.to_string();
    let named = text.contains("tenants-000") || text.contains("tenant '");
    if named && text.contains("corrupted") { Ok(Outcome::Marked) } else { Err(text) }
}

async fn examine(vault: &Arc<Vault>, tenant: &str) -> Result<Outcome, String> {
    let (principal, now) = (principal(vault, tenant).await, vault.now());
    let address = TenantName::parse(tenant).unwrap();
    let (mut found, mut missing) = (Outcome::Harmless, 0);
    let mut said = BTreeSet::new();
    for n in 0..NAMES {
        let permit = principal.may_read(&address, name(n), now).unwrap();
        match vault.read(&permit, now).await {
            Ok(secret) => {
                let text = secret.map(|secret| secret.value.unwrap().expose().to_owned());
                match (text, expected(tenant, n)) {
                    (found, expected) if found == expected => {}
                    (None, Some(_)) => missing += 1,
                    (Some(found), _) => return Err(format!("secret {n} reads as {found:.20}")),
                    (None, None) => {}
                }
            }
            Err(error) => {
                found = found.max(marked(&error)?);
                said.insert(error.to_string());
            }
        }
    }
    let permit = principal.may_list(&address, now).unwrap();
    let request = ListRequest { prefix: NamePrefix::parse("").unwrap(), ..ListRequest::default() };
    match vault.list(&permit, &request, now).await {
        Ok(page) => {
            let present = (0..NAMES).filter(|n| expected(tenant, *n).is_some()).map(name);
            let listed: HashSet<_> = page.names.iter().collect();
            let lost = present.filter(|name| !listed.contains(name.as_str())).count();
            missing = missing.max(lost);
        }
        Err(error) => {
            found = found.max(marked(&error)?);
            said.insert(error.to_string());
        }
    }
    let verified = verify(vault, Some(tenant), Pace::new(None), &|_| {}).await;
    let sound = verified.map_err(|error| error.message)?.sound;
    if sound && missing > 0 {
        return Err(format!("{missing} secrets are missing, and nothing tells"));
    }
    if sound && found == Outcome::Marked {
        return Err(format!("it answers errors, and verify finds no fault: {said:?}"));
    }
    if !sound && found == Outcome::Harmless {
        found = Outcome::Verified;
    }
    let permit = principal.may_write(&address, SecretName::parse("new").unwrap(), now).unwrap();
    let new = NewSecret { value: None, window: ValidityWindow::default() };
    match vault.write(&permit, new, Precondition::None, now).await {
        Ok(_) => {}
        // It came upon the damage while it was applied.
        Err(VaultError::Store(StoreError::Unknown)) => found = found.max(Outcome::Marked),
        Err(error) => found = found.max(marked(&error)?),
    }
    Ok(found)
}

// The processes.

/// Longer than any opening takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the worker is told: the folder, the seed, the first case and the step.
const WORK: &str = "TENURE_DAMAGE";

/// What is logged goes to the parent: it says why a fault is one.
struct Said;

impl log::Log for Said {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("log: {}", record.args());
    }

    fn flush(&self) {}
}

#[test]
#[ignore = "the process in which the test below does its damage"]
fn worker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let [folder, seed, first, step] = work.split('|').collect::<Vec<_>>()[..] else { panic!() };
    let (folder, first) = (Path::new(folder), first.parse().unwrap());
    let step: usize = step.parse().unwrap();
    let kek = Kek::parse(&fs::read_to_string(folder.join("kek")).unwrap()).unwrap();
    let here = folder.join(format!("work-{}", first % step));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = cases(folder, seed.parse().unwrap());
    log::set_logger(&Said).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    for (index, case) in cases.iter().enumerate().skip(first).step_by(step) {
        // A lock of the case before may be held until this process ends.
        let _ = fs::remove_dir_all(&here);
        copy(&folder.join(case.store), &here);
        case.apply(&here);
        println!("\nbegin {index}");
        let examined = || runtime.block_on(outcome(case, &here, &kek));
        let outcome = catch_unwind(AssertUnwindSafe(examined));
        match outcome.unwrap_or_else(|_| Err("a panic came out of it".to_owned())) {
            Ok(outcome) => println!("\nend {index} {outcome:?}"),
            Err(fault) => println!("\nend {index} FAULT {}", fault.replace('\n', " ")),
        }
    }
}

/// Does the cases `first`, `first + step`, …, in as many processes as it takes.
/// Answers a word or a fault for each.
fn work(folder: &Path, seed: u64, count: usize, first: usize, step: usize) -> Vec<(usize, String)> {
    let mut results = Vec::new();
    let mut next = first;
    while next < count {
        // A length that a flipped bit made huge must not be taken for a success.
        let mut process = Process::new("sh")
            .args(["-c", "ulimit -v 4194304; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "vault::damage::worker", "--ignored", "--nocapture"])
            .env(WORK, format!("{}|{seed}|{next}|{step}", folder.display()))
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .take_while(|line| sender.send(line.clone()).is_ok())
                .count()
        });
        let (mut begun, mut said) = (None, Vec::new());
        let ended = loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                break if reader.is_finished() { "ended" } else { "hung" };
            };
            match line.split_once(' ') {
                Some(("begin", index)) => {
                    begun = Some(index.parse().unwrap());
                    said.clear();
                }
                Some(("end", rest)) => {
                    let (index, word) = rest.split_once(' ').unwrap();
                    if word.starts_with("FAULT") {
                        println!("case {index} said {said:#?}");
                    }
                    results.push((index.parse().unwrap(), word.to_owned()));
                    next = index.parse::<usize>().unwrap() + step;
                    begun = None;
                }
                _ => said.push(line),
            }
        };
        process.kill().unwrap();
        let status = process.wait().unwrap();
        reader.join().unwrap();
        if let Some(index) = begun {
            println!("case {index} said {said:#?}");
            results.push((index, format!("FAULT the process {ended}, {status}")));
            next = index + step;
        } else {
            assert!(next >= count, "the worker did not work: {status}");
        }
    }
    results
}

#[test]
fn damage_is_harmless_or_told_and_never_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let kek = Kek::generate();
    fs::write(folder.path().join("kek"), &*kek.to_text()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(make(folder.path(), &kek));
    let seed = u64::from_le_bytes(random()) | 1;
    println!("seed {seed}");
    let cases = cases(folder.path(), seed);
    let count = cases.len();
    let processes = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let folder = folder.path();
        let one = |first| scope.spawn(move || work(folder, seed, count, first, processes));
        let all: Vec<_> = (0..processes).map(one).collect();
        all.into_iter().flat_map(|work| work.join().unwrap()).collect()
    });
    let mut tally: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (index, word) in &results {
        let case = &cases[*index];
        assert!(!word.starts_with("FAULT"), "{case}: {word} (seed {seed})");
        let kind = format!("{:?}", case.damage);
        let kind = kind.split([' ', '(']).next().unwrap();
        let file = case.file.rsplit('/').next().unwrap().split('.').next().unwrap();
        *tally.entry((format!("{kind} {file} {}", case.store), word.clone())).or_default() += 1;
    }
    for ((kind, word), count) in &tally {
        println!("{kind}: {count} {word}");
    }
    assert_eq!(results.len(), cases.len());
    for outcome in &OUTCOMES[..3] {
        let word = format!("{outcome:?}");
        assert!(results.iter().any(|(_, found)| *found == word), "none is {word}");
    }
}
