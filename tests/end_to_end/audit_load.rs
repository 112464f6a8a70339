//! The audit under a long mixed load with kill -9: it proves itself afterwards, and has
//! just one entry for each change that was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Client, Dev, Random, Request, quiet, secret};

const CLIENTS: u64 = 4;
/// Of each client: few, so that each is put and deleted over and over.
const NAMES: u64 = 50;
const KILLS: u64 = 3;
/// What is asked for of the audit at once.
const PAGE: u64 = 20_000;

/// `TENURE_TEST_REQUESTS` says how many. A million take a debug build an hour.
fn requests() -> u64 {
    let said = std::env::var("TENURE_TEST_REQUESTS").ok();
    let long = std::env::var_os("TENURE_TEST_LONG").is_some();
    let usual = match (long, cfg!(debug_assertions)) {
        (true, false) => 1_000_000,
        (true, true) => 100_000,
        (false, _) => 4_000,
    };
    said.map_or(usual, |said| said.parse().expect("a number of requests"))
}

/// Changes of one name: those that were answered, and those that may have been made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Changes {
    acknowledged: u64,
    unanswered: u64,
}

/// By operation and name.
type Counted = BTreeMap<(&'static str, String), Changes>;

/// One client's requests to a server, until the connection ends.
struct Load<'l> {
    address: SocketAddr,
    token: &'l str,
    client: u64,
    /// By all clients together.
    sent: &'l AtomicU64,
    enough: u64,
    /// Once, when enough were sent.
    told: Sender<()>,
}

impl Load<'_> {
    fn run(self, mut random: Random, counted: &mut Counted) {
        let mut client = Client::new(self.address);
        // Whoever sends the last one tells, and all go on until the server is gone.
        while self.one(&mut client, &mut random, counted) {
            if self.sent.fetch_add(1, Ordering::Relaxed) + 1 == self.enough {
                self.told.send(()).expect("somebody waits");
            }
        }
    }

    /// Whether it was answered.
    fn one(&self, client: &mut Client, random: &mut Random, counted: &mut Counted) -> bool {
        let name = format!("c{}-{}", self.client, random.below(NAMES));
        let path = secret(&name);
        let (request, op) = match random.below(10) {
            0..4 => (Request::put(path, r#"{"value":"x"}"#), Some("secret.write")),
            4..6 => (Request::delete(path), Some("secret.delete")),
            6..9 => (Request::get(path), None),
            _ => (Request::get("/api/dev/secrets"), None),
        };
        let answer = client.send_unless_closed(&request.bearer(self.token));
        let status = answer.as_ref().map(|answer| answer.status);
        if let Some(op) = op {
            let changes = counted.entry((op, name)).or_default();
            match status {
                Some(204) => changes.acknowledged += 1,
                Some(404) if op == "secret.delete" => {}
                Some(_) => panic!("{answer:?}"),
                None => changes.unanswered += 1,
            }
        } else {
            assert!(matches!(status, Some(200 | 404) | None), "{answer:?}");
        }
        status.is_some()
    }
}

/// All clients send so many requests together; then the server is killed amid others.
fn burst(dev: Dev, requests: u64, random: &mut Random, counted: &mut [Counted]) {
    let (address, token) = (dev.address, dev.token.clone());
    let sent = AtomicU64::new(0);
    let (told, heard) = channel();
    thread::scope(|scope| {
        for (counted, client) in counted.iter_mut().zip(0..) {
            let (token, sent, told) = (token.as_str(), &sent, told.clone());
            let load = Load { address, token, client, sent, enough: requests, told };
            let random = random.fork();
            scope.spawn(move || load.run(random, counted));
        }
        heard.recv().expect("they send");
        dev.kill();
    });
}

fn recorded(dev: &Dev) -> BTreeMap<(String, String), u64> {
    let mut found = BTreeMap::new();
    let mut from = 0;
    loop {
        let (first, limit) = (from.to_string(), PAGE.to_string());
        let page = ["audit", "query", "--tenant", "dev", "--json", "--from", &first];
        let page = dev.run(&[page.as_slice(), &["--limit", &limit]].concat());
        assert_eq!(page.code, Some(0), "{}", page.stderr);
        let mut last = None;
        for line in page.stdout.lines() {
            let entry: Value = serde_json::from_str(line).expect("an entry is JSON");
            last = entry["number"].as_u64();
            let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
            let op = text("op");
            // What was not there to be deleted is told too, and is no change.
            if text("result") == "ok" && (op == "secret.write" || op == "secret.delete") {
                *found.entry((op, text("name"))).or_default() += 1;
            }
        }
        match last {
            Some(last) => from = last + 1,
            None => return found,
        }
    }
}

#[test]
fn each_acknowledged_change_of_a_mixed_load_with_kill_9_has_one_entry_and_all_is_proved() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (mut random, requests, begun) = (Random::seeded(), requests(), Instant::now());
    println!("seed {}, {requests} requests", random.0);
    let mut counted = vec![Counted::new(); CLIENTS as usize];
    let mut head = None;
    for round in 0..=KILLS {
        let dev = Dev::start_with(&data, quiet);
        if round > 0 {
            // All that this signs must be there at the end.
            let file = folder.path().join(format!("head-{round}"));
            let made = dev.run(&["audit", "head", "-o", file.to_str().expect("text")]);
            assert_eq!(made.code, Some(0), "{made:?}");
            head.get_or_insert(file);
        }
        if round < KILLS {
            burst(dev, requests / KILLS, &mut random, &mut counted);
        } else {
            check(&dev, &counted, head.as_ref().expect("one").to_str().expect("text"));
        }
    }
    println!("{:.0} requests a second", requests as f64 / begun.elapsed().as_secs_f64());
}

fn check(dev: &Dev, counted: &[Counted], head: &str) {
    let verified = dev.run(&["audit", "verify", "--head", head]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(dev.run(&["verify"]).code, Some(0));
    let mut recorded = recorded(dev);
    let (mut acknowledged, mut unanswered) = (0, 0);
    for ((op, name), changes) in counted.iter().flatten() {
        let found = recorded.remove(&((*op).to_owned(), name.clone())).unwrap_or(0);
        let most = changes.acknowledged + changes.unanswered;
        assert!(
            (changes.acknowledged..=most).contains(&found),
            "{op} {name}: {found} entries of {changes:?}"
        );
        acknowledged += changes.acknowledged;
        unanswered += changes.unanswered;
    }
    assert!(recorded.is_empty(), "entries of no change: {recorded:?}");
    println!("{acknowledged} changes acknowledged, {unanswered} unanswered");
    assert!(acknowledged > 100, "there was next to no load: {acknowledged}");
    assert!(unanswered <= CLIENTS * KILLS);
}
