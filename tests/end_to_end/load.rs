//! Many names, many clients at one name, and much bad input.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use crate::input::{bad_bodies, bad_names};
use crate::support::tokens::{foreign, narrowed};
use crate::support::{Answer, Client, Dev, Request, secret};

/// Its log would be larger than what it is about.
fn quiet(folder: &tempfile::TempDir) -> Dev {
    Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn");
    })
}

#[test]
fn ten_thousand_names_are_listed_sorted_and_whole() {
    const NAMES: usize = 10_000;
    const CLIENTS: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let dev = quiet(&folder);
    // Neither in order nor of one length, and of every kind of character.
    let alphabet = b"-09AZ_az";
    let name = |number: usize| {
        let digits = (0..5).map(|at| char::from(alphabet[number >> (3 * at) & 7]));
        digits.chain("x".repeat(number % 50).chars()).collect::<String>()
    };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = dev.client();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= NAMES {
                        break;
                    }
                    let put =
                        Request::put(secret(&name(number * 7_919 % NAMES)), r#"{"value":null}"#);
                    assert_eq!(client.send(&put.bearer(&dev.token)).status, 204);
                }
            });
        }
    });
    let expected: BTreeSet<_> = (0..NAMES).map(name).collect();
    assert_eq!(expected.len(), NAMES);
    let list = dev.send(Request::get("/api/dev/secrets"));
    assert_eq!(list.status, 200);
    let listed: Vec<String> = serde_json::from_slice(&list.body).unwrap();
    assert!(listed.iter().eq(expected.iter()), "{} names", listed.len());
    let narrow = narrowed(&dev.token, r#"check if resource($r), $r.starts_with("-0")"#);
    let list = dev.client().send(&Request::get("/api/dev/secrets").bearer(&narrow));
    let listed: Vec<String> = serde_json::from_slice(&list.body).unwrap();
    assert!(listed.iter().eq(expected.iter().filter(|name| name.starts_with("-0"))));
}

#[test]
fn of_32_clients_at_one_name_each_is_answered_and_one_state_remains() {
    const CLIENTS: usize = 32;
    const ROUNDS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let dev = quiet(&folder);
    let start = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (start, dev) = (&start, &dev);
            scope.spawn(move || {
                let mut client = dev.client();
                let mut send = |request: Request| client.send(&request.bearer(&dev.token));
                start.wait();
                for round in 0..ROUNDS {
                    let answer = match (number + round) % 3 {
                        0 => send(Request::delete(secret("k"))),
                        _ => send(Request::put(secret("k"), written(number, round))),
                    };
                    assert!(matches!(answer.status, 204 | 404), "{answer:?}");
                    assert_is_one_of_the_written(&send(Request::get(secret("k"))));
                    let list = send(Request::get("/api/dev/secrets")).json();
                    assert!(list == json!([]) || list == json!(["k"]), "{list}");
                }
            });
        }
    });
    let read = dev.get("k");
    assert_is_one_of_the_written(&read);
    let names = if read.status == 200 { json!(["k"]) } else { json!([]) };
    assert_eq!(dev.send(Request::get("/api/dev/secrets")).json(), names);
    // The same after a restart.
    let data = dev.data.clone();
    assert_eq!(dev.stop(), Some(0));
    let dev = Dev::start(&data);
    let again = dev.get("k");
    assert_eq!((again.status, again.header("etag")), (read.status, read.header("etag")));
    assert_eq!(dev.send(Request::get("/api/dev/secrets")).json(), names);
}

/// Long enough to be stored in several pieces.
fn written(number: usize, round: usize) -> String {
    json!({ "value": format!("{number}.{round} ").repeat(2_000) }).to_string()
}

fn assert_is_one_of_the_written(answer: &Answer) {
    if answer.status == 404 {
        return;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let value = answer.json();
    let value = value.as_str().unwrap();
    let first = value.split_inclusive(' ').next().unwrap();
    assert_eq!(value, first.repeat(2_000), "no mixture of two");
}

#[test]
fn memory_does_not_grow_by_bad_input() {
    const CLIENTS: usize = 4;
    const WARM: usize = 4;
    const ROUNDS: usize = 30;
    /// Less than a kilobyte per request, or a thousandth of what is sent.
    const ALLOWANCE_KIB: u64 = 8 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let dev = quiet(&folder);
    let foreign = foreign("dev", &"07".repeat(16));
    let rounds = |from: usize, to: usize| {
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (dev, foreign, sent) = (&dev, &foreign, &sent);
                scope.spawn(move || {
                    let mut client = dev.client();
                    for round in (from..to).filter(|round| round % CLIENTS == number) {
                        sent.fetch_add(
                            bad_round(&mut client, dev, foreign, round),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        sent.into_inner()
    };
    rounds(0, WARM * CLIENTS);
    let warm = dev.resident_kib();
    let sent = rounds(WARM * CLIENTS, WARM * CLIENTS + ROUNDS);
    let after = dev.resident_kib();
    assert!(sent > 4_000, "{sent} requests");
    assert!(after < warm + ALLOWANCE_KIB, "{warm} KiB before {sent} requests, {after} after");
    assert_eq!(dev.put("k", "v").status, 204);
}

/// Every kind of bad input, none of it twice the same where that could be
/// remembered; answers how many requests that was.
fn bad_round(client: &mut Client, dev: &Dev, foreign: &str, round: usize) -> usize {
    let mut sent = 0;
    let mut send = |request: &Request| {
        let status = client.send(request).status;
        assert!((400..500).contains(&status), "{status}: {request:?}");
        sent += 1;
    };
    for (_, body, _) in bad_bodies() {
        send(&Request::put(secret(&format!("k{round}")), body).bearer(&dev.token));
    }
    for (_, name) in bad_names(127) {
        send(&Request::get(secret(&format!("{name}%{round}"))).bearer(&dev.token));
        send(&Request::get(format!("/api/{name}%{round}/secrets")).bearer(&dev.token));
    }
    for number in 0..30 {
        let fresh = format!("{round}-{number}");
        send(&Request::get(secret(&fresh)));
        send(&Request::get(secret(&fresh)).bearer(&dev.token));
        send(&Request::get(secret(&fresh)).bearer(&format!("{fresh}{}", "A".repeat(4_000))));
        send(&Request::get(secret(&fresh)).bearer(&"A".repeat(8 * 1024)));
        send(&Request::get(format!("/{fresh}")));
        let other = narrowed(foreign, &format!(r#"check if resource("{fresh}")"#));
        send(&Request::get(secret(&fresh)).bearer(&other));
        let shape = narrowed(&dev.token, &format!(r#"note("{fresh}")"#));
        send(&Request::get(secret(&fresh)).bearer(&shape));
    }
    sent
}
