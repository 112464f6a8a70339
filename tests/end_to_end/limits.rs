//! Who asks too often is told when to come back, before anything costs; and who
//! does not is served, whoever else shares an address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tenure::auth::Rates;
use tenure::domain::Rate;

use crate::support::bench::{Bench, Done, GOOD, Problem};
use crate::support::tokens::{foreign, narrowed};
use crate::support::{Answer, Client, Dev, Inside, Operated, Request, secret};

const LIST: &str = "/api/acme/secrets";

/// A server with the tenant `acme`, behind a proxy on loopback that says for whom
/// it asks.
fn inside(rates: Rates) -> Inside {
    let inside = Inside::start_limited(rates, |options| {
        options.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    inside.create_tenant("acme");
    inside
}

fn from(address: &str, request: Request) -> Request {
    request.header("X-Forwarded-For", address)
}

fn assert_limited(answer: &Answer, retry_after: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some(retry_after));
    answer.assert_proper();
}

#[test]
fn requests_of_an_address_are_limited_whatever_they_carry() {
    let inside = inside(Rates { source: Rate::of(1, 3), ..Rates::NONE });
    let token = inside.mint("acme", &["*"]);
    let list = |address: &str| inside.send(&from(address, Request::get(LIST).bearer(&token)));
    for _ in 0..3 {
        assert_eq!(list("192.0.2.1").status, 200);
    }
    assert_limited(&list("192.0.2.1"), "1");
    assert_limited(&inside.send(&from("192.0.2.1", Request::get(LIST))), "1");
    let put = Request::put("/api/acme/secrets/k", r#"{"value":"v"}"#).bearer(&token);
    assert_limited(&inside.send(&from("192.0.2.1", put)), "1");
    // What needs no credential is answered: a probe must not be told to wait.
    for path in ["/healthz", "/readyz", "/.well-known/biscuit-keys"] {
        assert_eq!(inside.send(&from("192.0.2.1", Request::get(path))).status, 200, "{path}");
    }
    assert_eq!(list("192.0.2.2").status, 200);
    // A /64 is one client.
    for host in 1..=3 {
        assert_eq!(list(&format!("2001:db8:0:1::{host}")).status, 200);
    }
    assert_limited(&list("2001:db8:0:1::4"), "1");
    assert_eq!(list("2001:db8:0:2::1").status, 200);
    inside.pass(1);
    assert_eq!(list("192.0.2.1").status, 200);
    assert_limited(&list("192.0.2.1"), "1");
}

#[test]
fn requests_with_a_credential_are_limited_however_it_was_narrowed() {
    let inside = inside(Rates { credential: Rate::of(1, 3), ..Rates::NONE });
    let (token, other) = (inside.mint("acme", &["*"]), inside.mint("acme", &["*"]));
    let list =
        |address: &str, token: &str| inside.send(&from(address, Request::get(LIST).bearer(token)));
    let narrow = narrowed(&token, r#"check if operation("read")"#);
    assert_eq!(list("192.0.2.1", &token).status, 200);
    assert_eq!(list("192.0.2.2", &narrow).status, 200);
    assert_eq!(list("192.0.2.3", &narrow).status, 200);
    assert_limited(&list("192.0.2.4", &narrow), "1");
    assert_limited(&list("192.0.2.1", &token), "1");
    assert_eq!(list("192.0.2.1", &other).status, 200);
    inside.pass(1);
    assert_eq!(list("192.0.2.1", &narrow).status, 200);
}

#[test]
fn refused_credentials_are_counted_apart_and_lock_no_neighbour_out() {
    let inside = inside(Rates { failures: Rate::of(1, 3), ..Rates::NONE });
    let (known, fresh) = (inside.mint("acme", &["*"]), inside.mint("acme", &["*"]));
    let list =
        |address: &str, token: &str| inside.send(&from(address, Request::get(LIST).bearer(token)));
    assert_eq!(list("192.0.2.1", &known).status, 200);
    let forged = foreign("acme", &"07".repeat(16));
    for _ in 0..3 {
        assert_eq!(list("192.0.2.1", &forged).code(), "credential_invalid");
    }
    assert_limited(&list("192.0.2.1", &forged), "1");
    assert_limited(&list("192.0.2.1", &fresh), "1");
    for _ in 0..100 {
        assert_eq!(list("192.0.2.1", &known).status, 200, "it is remembered");
    }
    assert_eq!(list("192.0.2.2", &fresh).status, 200, "from elsewhere it is no stranger's");
    assert_eq!(list("192.0.2.1", &fresh).status, 200, "and now it is remembered");
    inside.pass(1);
    assert_eq!(list("192.0.2.1", &forged).code(), "credential_invalid");
    assert_limited(&list("192.0.2.1", &forged), "1");
}

#[test]
fn who_sends_no_body_is_refused_at_once() {
    let inside = inside(Rates { failures: Rate::of(1, 1), ..Rates::NONE });
    let reading = inside.mint("acme", &["Secret.Read"]);
    assert_eq!(inside.send(&Request::get(LIST).bearer(&reading)).status, 200);
    let forged = foreign("acme", &"07".repeat(16));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (forged, reading) = (bearer(&forged), bearer(&reading));
    let expect = "Expect: 100-continue\r\n";
    for (credential, expect, status) in [
        ("", "", 401),
        ("", expect, 401),
        (&*forged, "", 401),
        (&forged, "", 429),
        (&forged, expect, 429),
        (&reading, "", 403),
        (&reading, expect, 403),
    ] {
        let head = format!(
            "PUT /api/acme/secrets/k HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: 1000\r\n{expect}{credential}\r\n"
        );
        let answer = head_of_answer(&inside, &head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

/// What is answered, though the body that was announced never comes. actix says
/// `100 Continue` by itself, before anyone is asked; that is no answer.
fn head_of_answer(inside: &Inside, head: &str) -> String {
    let mut stream = TcpStream::connect(inside.address()).unwrap();
    // For hangs: the body's own time-out is half of it, and would be a 408.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\ncontent-length: ") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "it ends without an answer: {answer}");
        answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n").to_owned()
}

#[test]
fn limits_are_configured_and_what_they_refuse_stays_out_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("TENURE_LIMITS_FAILURE_RATE", "1").env("TENURE_LIMITS_FAILURE_BURST", "2");
        command.env("TENURE_LIMITS_CREDENTIAL_RATE", "1");
        command.env("TENURE_LIMITS_CREDENTIAL_BURST", "4");
    });
    let token = dev.mint("dev", &["*"]);
    let send = |token: &str| dev.client().send(&Request::get(secret("m4rker")).bearer(token));
    let forged: Vec<_> = (0..40).map(|_| foreign("dev", &"07".repeat(16))).collect();
    assert_eq!(send(&token).status, 404);
    let statuses: Vec<_> = forged.iter().map(|token| send(token).status).collect();
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    let statuses: Vec<_> = (0..40).map(|_| send(&token).status).collect();
    assert!(statuses.contains(&404) && statuses.contains(&429), "{statuses:?}");
    let log = dev.log();
    assert!(log.contains("rate_limited"), "the log is at its finest");
    for token in forged.iter().chain([&token]) {
        assert!(!log.contains(&token[token.len() - 40..]));
    }
    assert!(!log.contains("m4rker"));
}

#[test]
fn by_default_good_requests_are_not_limited() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("RUST_LOG", "warn");
    });
    assert_eq!(dev.put("k", "v").status, 204);
    let mut client = Client::new(dev.address);
    let get = Request::get(secret("k")).bearer(&dev.token);
    for _ in 0..5_000 {
        assert_eq!(client.send(&get).status, 200);
    }
}

#[test]
fn a_flood_of_strangers_is_limited_by_default_and_good_tokens_go_on() {
    let mut bench = Bench::new();
    let forged = foreign("dev", &"07".repeat(16));
    let mut client = bench.dev.client();
    let get = Request::get(secret(GOOD)).bearer(&forged);
    let limited = (0..10_000).find(|_| client.send(&get).status == 429);
    assert!(limited.is_some_and(|sent| sent >= 500), "after a burst of 500: {limited:?}");
    // Another one yet, since by now a while may have passed.
    let answer = (0..1_000).map(|_| client.send(&get)).find(|answer| answer.status == 429);
    assert_eq!(answer.unwrap().code(), "rate_limited");
    bench.goes_on("a flood");
    bench.hold("a good request", Request::get(secret(GOOD)), Done(200));
    bench.hold_bare(
        "without a credential",
        &Request::get(secret(GOOD)),
        Problem(401, "credential_missing", None),
    );
    bench.sent_tokens.push(forged);
    bench.log_tells_nothing();
}
