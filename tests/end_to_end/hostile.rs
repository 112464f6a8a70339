//! Floods of tokens that are none, and of one good token in many texts: what they
//! cost the server, and who suffers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use crate::support::tokens::{self, foreign, narrowed};
use crate::support::{Client, Dev, Request, secret};

/// How long a flood lasts.
fn length() -> Duration {
    let long = std::env::var_os("TENURE_TEST_LONG").is_some();
    Duration::from_secs(if long { 60 } else { 3 })
}

/// Requests that are under way at once on one connection.
const PIPELINED: usize = 32;
/// Memory that a flood may take, for its counts and for what the allocator keeps.
const ALLOWANCE_KIB: u64 = 16 * 1024;

fn start(folder: &tempfile::TempDir, limits: &[(&str, &str)]) -> Dev {
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn");
        for (variable, value) in limits {
            command.env(variable, value);
        }
    });
    assert_eq!(dev.put("k", "v").status, 204);
    dev
}

/// What the server's process has used of all cores.
fn cpu(dev: &Dev) -> Duration {
    let stat = std::fs::read_to_string(Path::new(&format!("/proc/{}/stat", dev.pid()))).unwrap();
    // The fields after the name in brackets; a tick is 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// Well-formed tokens of a root that the server does not have, each of which has a
/// signature of its own.
struct Garbage {
    bytes: Vec<u8>,
    signature: usize,
}

impl Garbage {
    fn new() -> Self {
        let bytes = URL_SAFE.decode(foreign("dev", &"07".repeat(16))).unwrap();
        // The tag and the length of a signature; the first is the authority's.
        let signature = bytes.windows(2).position(|tag| tag == [0x1a, 0x40]).unwrap() + 2;
        Self { bytes, signature }
    }

    fn token(&self, number: u64) -> String {
        let mut bytes = self.bytes.clone();
        bytes[self.signature..self.signature + 8].copy_from_slice(&number.to_le_bytes());
        URL_SAFE.encode(bytes)
    }
}

/// The same token in another text: with a field that no library knows.
fn encoded_anew(token: &[u8], number: u64) -> String {
    // Field 15, of eight bytes.
    URL_SAFE.encode([token, &[0x79], &number.to_le_bytes()].concat())
}

fn get(token: &str) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n", secret("k"))
        .into_bytes()
}

/// Sends what `token` makes, as fast as one connection goes, and counts answers by
/// status.
fn flood(
    dev: &Dev,
    until: impl Fn(u64) -> bool,
    token: impl Fn(u64) -> String,
) -> std::collections::BTreeMap<u16, u64> {
    let mut counts = std::collections::BTreeMap::new();
    let (mut client, mut sent) = (dev.client(), 0);
    while until(sent) {
        let burst: Vec<u8> = (0..PIPELINED as u64).flat_map(|n| get(&token(sent + n))).collect();
        sent += PIPELINED as u64;
        *counts.entry(client.send_raw(&burst).unwrap().status).or_default() += 1;
        for _ in 1..PIPELINED {
            *counts.entry(client.receive().status).or_default() += 1;
        }
    }
    counts
}

/// Good requests, one after the other, until it is over; answers how many.
fn good(dev: &Dev, over: &AtomicBool) -> u64 {
    let mut client = Client::new(dev.address);
    let request = Request::get(secret("k")).bearer(&dev.token);
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        assert_eq!(client.send(&request).status, 200, "a good request");
        sent += 1;
    }
    sent
}

/// The rate of good requests and their CPU, for some time and beside nothing.
fn good_alone(dev: &Dev) -> (f64, Duration) {
    let (over, begun, before) = (AtomicBool::new(false), Instant::now(), cpu(dev));
    let sent = thread::scope(|scope| {
        let sent = scope.spawn(|| good(dev, &over));
        thread::sleep(length() / 3);
        over.store(true, Ordering::Relaxed);
        sent.join().unwrap()
    });
    let each = (cpu(dev) - before).div_f64(sent as f64);
    (sent as f64 / begun.elapsed().as_secs_f64(), each)
}

#[test]
fn a_flood_of_distinct_garbage_costs_little_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let dev = start(&folder, &[]);
    let garbage = Garbage::new();
    let (alone, each) = good_alone(&dev);
    let over = AtomicBool::new(false);
    // What the first failures bring about, the counts among it, is not growth.
    flood(&dev, |sent| sent < 2_000, |number| garbage.token(number));
    let (resident, before, begun) = (dev.resident_kib(), cpu(&dev), Instant::now());
    let (counts, beside) = thread::scope(|scope| {
        let good = scope.spawn(|| good(&dev, &over));
        let end = Instant::now() + length();
        let counts = flood(&dev, |_| Instant::now() < end, |number| garbage.token(2_000 + number));
        over.store(true, Ordering::Relaxed);
        (counts, good.join().unwrap())
    });
    let seconds = begun.elapsed().as_secs_f64();
    let bad: u64 = counts.values().sum();
    let of_good = each.mul_f64(beside as f64);
    let of_bad = (cpu(&dev) - before).saturating_sub(of_good).div_f64(bad as f64);
    let rate = beside as f64 / seconds;
    println!(
        "{:.0} garbage tokens/s at {of_bad:?} of CPU each: {counts:?}; good requests {rate:.0}/s, \
         alone {alone:.0}/s at {each:?} of CPU each",
        bad as f64 / seconds
    );
    assert!(counts.keys().all(|status| matches!(status, 401 | 429)), "{counts:?}");
    assert!(counts[&429] > counts.get(&401).copied().unwrap_or(0), "{counts:?}");
    let after = dev.resident_kib();
    assert!(after < resident + ALLOWANCE_KIB, "{resident} KiB before {bad} tokens, {after} after");
    // A debug build's costs are not the server's, nor are those of so short a time.
    if std::env::var_os("TENURE_TEST_LONG").is_some() && !cfg!(debug_assertions) {
        assert!(of_bad < Duration::from_micros(300), "{of_bad:?}");
        assert!(rate > alone / 2.0, "{rate:.0}/s beside the flood, {alone:.0}/s alone");
    }
}

#[test]
fn encodings_of_one_good_token_meet_a_limit_that_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let dev = start(&folder, &[]);
    let mine = dev.mint("dev", &["Secret.Read"]);
    let others: Vec<_> = (0..30).map(|_| dev.mint("dev", &["Secret.Read"])).collect();
    let text = |token: &str| dev.client().send(&Request::get(secret("k")).bearer(token)).status;
    assert_eq!((text(&mine), text(&others[0])), (200, 200));
    let bytes = URL_SAFE.decode(&mine).unwrap();
    flood(&dev, |sent| sent < 2_000, |number| encoded_anew(&bytes, number));
    let (resident, shown, over) = (dev.resident_kib(), AtomicU64::new(0), AtomicBool::new(false));
    let counts = thread::scope(|scope| {
        let good = scope.spawn(|| good(&dev, &over));
        let strangers = scope.spawn(|| {
            // Seen for the first time, in the midst of it.
            for other in &others {
                assert_eq!(text(other), 200);
                shown.fetch_add(1, Ordering::Relaxed);
                thread::sleep(length() / 60);
            }
        });
        let end = Instant::now() + length();
        let counts =
            flood(&dev, |_| Instant::now() < end, |number| encoded_anew(&bytes, 2_000 + number));
        over.store(true, Ordering::Relaxed);
        strangers.join().unwrap();
        assert!(good.join().unwrap() > 0);
        counts
    });
    println!("{counts:?} in {:?}", length());
    assert!(counts.keys().all(|status| matches!(status, 200 | 429)), "{counts:?}");
    assert!(counts[&429] > counts.get(&200).copied().unwrap_or(0), "{counts:?}");
    assert_eq!(shown.into_inner(), 30);
    // Narrowing it is a text more; what was remembered of the others is there still.
    let narrow = narrowed(&mine, r#"check if operation("read")"#);
    assert!(matches!(text(&narrow), 429 | 200));
    assert!(others.iter().all(|other| text(other) == 200));
    let after = dev.resident_kib();
    assert!(after < resident + ALLOWANCE_KIB, "{resident} KiB before, {after} after");
}

/// Those that one request each shows; the rest is in `credentials`.
#[test]
fn forged_tokens_are_refused_and_burn_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dev = start(&folder, &[]);
    let token = dev.mint("dev", &["*"]);
    let refused = |token: &str, code: &str| {
        let get = Request::get(secret("k")).bearer(token);
        let answer = dev.client().send(&get);
        assert_eq!((answer.status, answer.code().as_str()), (401, code));
    };
    // One of these burns 7 s in biscuit's own authorizer.
    let facts: String = (0..60).map(|i| format!("f({i}); ")).collect();
    let join = "check if f($a), f($b), f($c), f($d), $a + $b + $c + $d < 0";
    let join = narrowed(&token, &format!("{facts}{join}"));
    let before = cpu(&dev);
    (0..20).for_each(|_| refused(&join, "token_shape"));
    assert!(cpu(&dev) - before < Duration::from_secs(2));

    for source in [
        r#"check if resource($r), $r.matches("(a*)*b")"#,
        r#"check if resource($r), ["k"].any($x -> $x == $r)"#,
        r#"scope("*"); tenant("other");"#,
        r#"operation("write") <- operation("read");"#,
        r#"check all operation("read")"#,
        r#"reject if operation("write")"#,
        r#"check if operation("read") trusting previous"#,
    ] {
        refused(&narrowed(&token, source), "token_shape");
    }
    refused(&tokens::with_third_party_block(&token, "check if true"), "token_shape");
    refused(&tokens::with_p256_block(&token), "token_shape");
    for id in [None, Some(0), Some(2), Some(u32::MAX)] {
        refused(&tokens::with_root_id(&token, id), "credential_invalid");
    }
    refused(&"A".repeat(4_097), "credential_invalid");
    let bytes = URL_SAFE.decode(&token).unwrap();
    for bit in 0..8 * 64 {
        // Of the last signature; what follows it is its key.
        let mut bytes = bytes.clone();
        let signature = bytes.windows(2).rposition(|tag| tag == [0x1a, 0x40]).unwrap() + 2;
        bytes[signature + bit / 8] ^= 1 << (bit % 8);
        let get = Request::get(secret("k")).bearer(&URL_SAFE.encode(bytes));
        assert!(matches!(dev.client().send(&get).status, 401 | 429), "bit {bit}");
    }
    let get = Request::get(secret("k")).bearer(&dev.token);
    assert_eq!(dev.client().send(&get).status, 200);
}

/// The ratio of two measurements in one run, so that it holds on any machine and
/// for any build.
#[test]
fn an_unauthorized_request_costs_less_than_an_authorized_one_at_first_sight() {
    const REQUESTS: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    // However slow the machine, hardly any of the refused is looked at.
    let dev = start(
        &folder,
        &[
            ("TENURE_LIMITS_NEW_TOKEN_RATE", "0"),
            ("TENURE_LIMITS_FAILURE_RATE", "1"),
            ("TENURE_LIMITS_FAILURE_BURST", "10"),
        ],
    );
    let checks = r#"check if operation("read"); check if resource("k")"#;
    let good = URL_SAFE.decode(narrowed(&narrowed(&dev.token, checks), checks)).unwrap();
    let garbage = Garbage::new();
    let cost = |status: u16, token: &dyn Fn(u64) -> String| {
        let before = cpu(&dev);
        let counts = flood(&dev, |sent| sent < REQUESTS, token);
        let cost = cpu(&dev) - before;
        let right = counts.get(&status).copied().unwrap_or(0);
        let all: u64 = counts.values().sum();
        assert!(right * 10 >= all * 9, "{status}: {counts:?}");
        cost.div_f64(all as f64)
    };
    let first_sight = cost(200, &|number| encoded_anew(&good, number));
    flood(&dev, |sent| sent < 200, |number| garbage.token(number));
    let limited = cost(429, &|number| garbage.token(1_000 + number));
    let malformed = cost(429, &|number| format!("AAAA{number:04}"));
    println!("{first_sight:?} at first sight, {limited:?} and {malformed:?} when limited");
    for refused in [limited, malformed] {
        assert!(refused.mul_f64(1.5) < first_sight, "{refused:?} against {first_sight:?}");
    }
}
