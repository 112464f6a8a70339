//! Several secrets stored together, over HTTP: all of them or none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tenure::auth::Rates;
use tenure::domain::Rate;

use crate::support::tokens::narrowed;
use crate::support::{
    Answer, Client, Dev, Inside, Operated, Random, Request, eventually, quiet, secret,
};

const ALL: &str = "/api/acme/secrets";

/// A server in this process with a tenant and its token.
struct World {
    inside: Inside,
    token: String,
}

impl World {
    fn new() -> Self {
        Self::of(Inside::start())
    }

    fn of(inside: Inside) -> Self {
        inside.create_tenant("acme");
        let token = inside.mint("acme", &["*"]);
        Self { inside, token }
    }

    fn send(&self, request: Request) -> Answer {
        self.send_as(&self.token, request)
    }

    fn send_as(&self, token: &str, request: Request) -> Answer {
        let answer = self.inside.send(&request.bearer(token));
        answer.assert_proper();
        answer
    }

    fn post(&self, secrets: &Value) -> Answer {
        self.send(post(secrets))
    }

    /// Names, versions and windows.
    fn listed(&self) -> Value {
        self.send(Request::get(format!("{ALL}?details=true"))).json()
    }

    fn read(&self, name: &str) -> Answer {
        self.send(Request::get(format!("{ALL}/{name}")))
    }
}

fn post(secrets: &Value) -> Request {
    Request::post(ALL, json!({ "secrets": secrets }).to_string())
}

fn fields(answer: &Answer) -> Vec<String> {
    answer.json()["errors"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn secrets_are_stored_together_and_answered_with_their_versions() {
    let world = World::new();
    let ends = world.inside.at(60);
    let answer = world.post(&json!([
        { "name": "b", "value": "two\nlines" },
        { "name": "a", "value": null, "expiresOn": ends },
    ]));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let versions = answer.json()["versions"].clone();
    let [b, a] = [0, 1].map(|place| versions[place].as_str().unwrap().to_owned());
    assert_eq!(
        world.listed(),
        json!([
            { "name": "a", "version": a, "state": "valid", "expiresOn": ends },
            { "name": "b", "version": b, "state": "valid" },
        ])
    );
    assert_eq!(world.read("b").json(), "two\nlines");
    assert_eq!(world.read("b").header("etag"), Some(&*format!("\"{b}\"")));
    let again = world.post(&json!([
        { "name": "a", "value": "x", "ifMatch": a },
        { "name": "c", "value": "x", "ifNoneMatch": "*" },
        { "name": "b", "value": "y", "ifMatch": "*" },
    ]));
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(world.read("a").header("tenure-expires-on"), None, "replaced, window and all");
    assert_eq!(world.read("b").json(), "y");
    // Within one clock the window is judged as that of a PUT is.
    world.inside.pass(60);
    assert_eq!(world.listed().as_array().unwrap().len(), 3);
}

#[test]
fn a_precondition_that_fails_is_told_by_its_place_and_nothing_changes() {
    let world = World::new();
    assert_eq!(world.post(&json!([{ "name": "a", "value": "x" }])).status, 200);
    let before = world.listed();
    let answer = world.post(&json!([
        { "name": "a", "value": "y", "ifMatch": "*" },
        { "name": "a2", "value": "y", "ifMatch": "*" },
        { "name": "a3", "value": "y" },
        { "name": "a4", "value": "y", "ifMatch": "1" },
    ]));
    assert_eq!((answer.status, &*answer.code()), (412, "precondition_failed"));
    assert_eq!(fields(&answer), ["secrets[1]", "secrets[3]"]);
    assert_eq!(world.listed(), before);
    assert_eq!(world.read("a").json(), "x");
}

#[test]
fn what_is_not_valid_is_refused_as_a_whole() {
    let world = World::new();
    let good = json!({ "name": "a", "value": "x" });
    for (secrets, field) in [
        (json!([good, { "name": "b" }]), "secrets[1].value"),
        (json!([good, { "name": "b.c", "value": "x" }]), "secrets[1].name"),
        (json!([good, good]), "secrets[1].name"),
        (json!([{ "name": "b", "value": "x", "expiresOn": "soon" }, good]), "secrets[0].expiresOn"),
        (json!([good, { "name": "b", "value": "x", "key": "x" }]), "secrets[1].key"),
        (json!([]), "secrets"),
        (json!({ "a": "x" }), "secrets"),
    ] {
        let answer = world.post(&secrets);
        assert_eq!((answer.status, &*answer.code()), (400, "validation_failed"), "{secrets}");
        assert_eq!(fields(&answer), [field], "{secrets}");
    }
    let plain = Request::new("POST", ALL).header("Content-Type", "text/plain").body("x");
    assert_eq!(world.send(plain).code(), "unsupported_media_type");
    assert_eq!(world.send(Request::post(ALL, r#"{"secrets":["#)).code(), "malformed_json");
    assert_eq!(world.listed(), json!([]));
}

#[test]
fn what_is_too_large_says_how_large_it_may_be() {
    let world = World::new();
    let many = |count: usize, size: usize| {
        let secret = |n| json!({ "name": format!("n{n}"), "value": "x".repeat(size) });
        json!((0..count).map(secret).collect::<Vec<_>>())
    };
    let one = world.post(&many(2, 65_537));
    assert_eq!((one.status, &*one.code()), (413, "value_too_large"));
    let together = world.post(&many(33, 65_536));
    assert_eq!((together.status, &*together.code()), (413, "body_too_large"));
    let detail = together.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("2097152 bytes together"), "{detail}");
    let body = world.post(&many(64, 65_536));
    assert_eq!((body.status, &*body.code()), (413, "body_too_large"));
    assert!(body.json()["detail"].as_str().unwrap().contains("4194304 bytes"), "{body:?}");
    assert_eq!(world.listed(), json!([]));
    assert_eq!(world.post(&many(32, 65_536)).status, 200);
    assert_eq!(world.listed().as_array().unwrap().len(), 32);
}

#[test]
fn a_narrowed_token_writes_all_of_them_or_none() {
    let world = World::new();
    let of_app = narrowed(&world.token, r#"check if resource($r), $r.starts_with("app-")"#);
    let reading = narrowed(&world.token, r#"check if operation("read")"#);
    let (mixed, own) = (
        json!([{ "name": "app-1", "value": "x" }, { "name": "db", "value": "x" }]),
        json!([{ "name": "app-1", "value": "x" }, { "name": "app-2", "value": "x" }]),
    );
    assert_eq!(world.send_as(&of_app, post(&mixed)).code(), "forbidden");
    assert_eq!(world.send_as(&reading, post(&own)).code(), "forbidden");
    // Nobody reads what a credential that writes nothing sends.
    assert_eq!(world.send_as(&reading, Request::post(ALL, "{")).code(), "forbidden");
    assert_eq!(world.listed(), json!([]));
    assert_eq!(world.send_as(&of_app, post(&own)).status, 200);
}

#[test]
fn a_condition_of_the_request_is_refused_and_not_passed_over() {
    let bench = World::new();
    let secrets = json!({ "secrets": [{ "name": "a", "value": "1" }] });
    for (header, value) in [("If-None-Match", "*"), ("If-Match", "\"1\"")] {
        let answer = bench.send(post(&secrets).header(header, value));
        assert_eq!(
            (answer.status, answer.code()),
            (400, "invalid_precondition".into()),
            "{header}"
        );
    }
    assert_eq!(bench.listed(), json!([]));
}

#[test]
fn a_batch_counts_as_one_request() {
    let rates = Rates { credential: Rate::of(1, 2), ..Rates::NONE };
    let world = World::of(Inside::start_limited(rates, |_| {}));
    let ten = json!(
        (0..10).map(|n| json!({ "name": format!("n{n}"), "value": "x" })).collect::<Vec<_>>()
    );
    assert_eq!(world.post(&ten).status, 200);
    assert_eq!(world.post(&ten).status, 200);
    assert_eq!(world.post(&ten).code(), "rate_limited");
}

const WRITERS: u64 = 4;
/// Of each batch; some values are in rows of their own.
const SIZES: [usize; 8] = [10, 2_000, 10, 9_000, 10, 10, 5_000, 10];

fn value(sequence: u64, size: usize) -> String {
    format!("{sequence}#").chars().chain("x".chars().cycle()).take(size).collect()
}

/// One writer's batch: names of its own, all with one number.
fn numbered(writer: u64, sequence: u64) -> String {
    let secrets = SIZES.iter().enumerate().map(
        |(n, size)| json!({ "name": format!("w{writer}-n{n}"), "value": value(sequence, *size) }),
    );
    json!({ "secrets": secrets.collect::<Vec<_>>() }).to_string()
}

/// The number that all names of a writer have, or 0 where none is there.
fn number_of(client: &mut Client, token: &str, writer: u64) -> u64 {
    let numbers = SIZES.iter().enumerate().map(|(n, size)| {
        let get = Request::get(secret(&format!("w{writer}-n{n}"))).bearer(token);
        let answer = client.send(&get);
        if answer.status == 404 {
            return 0;
        }
        let text = answer.json().as_str().unwrap().to_owned();
        let number = text.split('#').next().unwrap().parse().unwrap();
        assert_eq!(text, value(number, *size));
        number
    });
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "w{writer}: {numbers:?}");
    numbers[0]
}

#[test]
fn after_kill_9_each_batch_is_there_wholly_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    // Of each writer, the last that was acknowledged and the last that was sent.
    let state: Vec<_> = (0..WRITERS).map(|_| [0, 0].map(AtomicU64::new)).collect();
    for round in 0..6 {
        println!("round {round}, seed {}", random.0);
        let dev = Dev::start_with(&data, quiet);
        for (writer, [acknowledged, sent]) in (0..).zip(&state) {
            let found = number_of(&mut dev.client(), &dev.token, writer);
            let possible = acknowledged.load(Ordering::SeqCst)..=sent.load(Ordering::SeqCst);
            assert!(possible.contains(&found), "w{writer}: {found} of {possible:?}");
            acknowledged.store(found, Ordering::SeqCst);
        }
        let (address, token) = (dev.address, dev.token.clone());
        thread::scope(|scope| {
            for (writer, [acknowledged, sent]) in (0..).zip(&state) {
                let (token, mut client) = (&token, Client::new(address));
                scope.spawn(move || {
                    for sequence in sent.load(Ordering::SeqCst) + 1.. {
                        sent.store(sequence, Ordering::SeqCst);
                        let batch = numbered(writer, sequence);
                        let batch = Request::post("/api/dev/secrets", batch).bearer(token);
                        let Some(answer) = client.send_unless_closed(&batch) else { break };
                        assert_eq!(answer.status, 200, "{answer:?}");
                        acknowledged.store(sequence, Ordering::SeqCst);
                    }
                });
            }
            eventually("a batch of each", || {
                let begun = |[acknowledged, sent]: &[AtomicU64; 2]| {
                    let acknowledged = acknowledged.load(Ordering::SeqCst);
                    acknowledged > 0 && acknowledged + 1 >= sent.load(Ordering::SeqCst)
                };
                state.iter().all(begun).then_some(())
            });
            random.pause(Duration::from_millis(300));
            dev.kill();
        });
    }
    let total: u64 =
        state.iter().map(|[acknowledged, _]| acknowledged.load(Ordering::SeqCst)).sum();
    println!("{total} batches");
    let dev = Dev::start_with(&data, quiet);
    let verified = dev.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
