//! Validity windows: outside its window a secret answers like one that never
//! was, byte for byte.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tenure::domain::Timestamp;

use crate::support::{Answer, Dev, Inside, Operated, Request};

const PATH: &str = "/api/acme/secrets/k";
const LIST: &str = "/api/acme/secrets";

/// A server with a tenant and its token.
struct World {
    inside: Inside,
    token: String,
}

impl World {
    fn new() -> Self {
        let inside = Inside::start();
        inside.create_tenant("acme");
        let token = inside.mint_for("acme", &["*"], 1_000_000);
        Self { inside, token }
    }

    fn send(&self, request: Request) -> Answer {
        let answer = self.inside.send(&request.bearer(&self.token));
        answer.assert_proper();
        answer
    }

    fn put(&self, value: &str, from: Option<i64>, to: Option<i64>) -> Answer {
        let mut body = json!({ "value": value });
        if let Some(from) = from {
            body["notBefore"] = self.inside.at(from).into();
        }
        if let Some(to) = to {
            body["expiresOn"] = self.inside.at(to).into();
        }
        let answer = self.send(Request::put(PATH, body.to_string()));
        assert_eq!(answer.status, 204, "{answer:?}");
        answer
    }

    fn read(&self) -> Option<String> {
        let answer = self.send(Request::get(PATH));
        match answer.status {
            200 => Some(answer.json().as_str().unwrap().to_owned()),
            404 => None,
            _ => panic!("{answer:?}"),
        }
    }

    fn list(&self) -> serde_json::Value {
        self.send(Request::get(LIST)).json()
    }

    fn delete(&self) -> u16 {
        self.send(Request::delete(PATH)).status
    }

    fn seen(&self) -> Vec<Answer> {
        every_read(|request| self.send(request))
    }
}

/// Every way to read one secret, without what differs by chance.
fn every_read(mut send: impl FnMut(Request) -> Answer) -> Vec<Answer> {
    let mut answers = Vec::new();
    for method in ["GET", "HEAD"] {
        for accept in [None, Some("application/json"), Some("text/plain"), Some("*/*"), Some("a/b")]
        {
            for condition in [None, Some("If-Match"), Some("If-None-Match")] {
                let mut request = Request::new(method, PATH);
                if let Some(accept) = accept {
                    request = request.header("Accept", accept);
                }
                if let Some(condition) = condition {
                    request = request.header(condition, "\"1\"");
                }
                answers.push(send(request).comparable());
            }
        }
    }
    answers
}

#[test]
fn outside_its_window_a_secret_answers_like_one_that_never_was() {
    let world = World::new();
    let never = world.seen();
    assert!(never.iter().all(|answer| matches!(answer.status, 404 | 406)));

    world.put("v", Some(10), Some(20));
    assert_eq!(world.seen(), never, "pending");
    world.inside.pass(9);
    assert_eq!(world.seen(), never, "a second before it begins");
    world.inside.pass(1);
    assert_eq!(world.read().as_deref(), Some("v"), "when it begins");
    assert_ne!(world.seen(), never);
    world.inside.pass(9);
    assert_eq!(world.read().as_deref(), Some("v"), "a second before it ends");
    world.inside.pass(1);
    assert_eq!(world.seen(), never, "when it ends");
    world.inside.pass(100_000);
    assert_eq!(world.seen(), never, "long after it ended");
    assert_eq!(world.delete(), 404);
    assert_eq!(world.seen(), never, "removed");
    world.put("v", None, None);
    assert_eq!(world.delete(), 204);
    assert_eq!(world.seen(), never, "deleted");
    world.put("v", None, Some(-1));
    assert_eq!(world.seen(), never, "expired when it was written");
}

#[test]
fn a_read_tells_the_ends_of_the_window_that_there_are() {
    let world = World::new();
    let at = |seconds| Some(world.inside.at(seconds));
    for (from, to) in [(None, None), (Some(-5), None), (None, Some(5)), (Some(-5), Some(5))] {
        world.put("v", from, to);
        for method in ["GET", "HEAD"] {
            let answer = world.send(Request::new(method, PATH));
            assert_eq!(answer.status, 200);
            let told = |name| answer.header(name).map(str::to_owned);
            assert_eq!(told("tenure-not-before"), from.and_then(at), "{method} {from:?} {to:?}");
            assert_eq!(told("tenure-expires-on"), to.and_then(at), "{method} {from:?} {to:?}");
        }
    }
    // However it was written, it is told in UTC.
    let body = r#"{"value":"v","expiresOn":"2031-01-01T01:30:00.25+01:30"}"#;
    assert_eq!(world.send(Request::put(PATH, body)).status, 204);
    let answer = world.send(Request::get(PATH).header("Accept", "text/plain"));
    assert_eq!(answer.header("tenure-expires-on"), Some("2031-01-01T00:00:00.25Z"));
}

#[test]
fn a_list_shows_what_is_pending_and_not_what_has_expired() {
    let world = World::new();
    assert_eq!(world.list(), json!([]));
    world.put("v", Some(10), Some(20));
    assert_eq!(world.list(), json!(["k"]), "pending");
    world.inside.pass(10);
    assert_eq!(world.list(), json!(["k"]), "valid");
    world.inside.pass(9);
    assert_eq!(world.list(), json!(["k"]), "a second before it ends");
    world.inside.pass(1);
    assert_eq!(world.list(), json!([]), "expired");
}

#[test]
fn deleting_removes_what_has_expired_and_says_that_nothing_was_there() {
    let world = World::new();
    world.put("v", None, Some(10));
    world.inside.pass(10);
    assert_eq!(world.inside.expired_secrets(), 1);
    let nothing = world.send(Request::delete("/api/acme/secrets/k")).comparable();
    assert_eq!(nothing.code(), "not_found");
    assert_eq!(world.inside.expired_secrets(), 0);
    let again = world.send(Request::delete("/api/acme/secrets/k")).comparable();
    assert_eq!(again, nothing, "as if it had never been");
    world.put("v", Some(10), None);
    assert_eq!(world.delete(), 204, "what is pending is there");
    world.inside.pass(10);
    assert_eq!(world.read(), None, "and does not begin any more");
}

#[test]
fn a_replacement_replaces_value_and_window() {
    let world = World::new();
    world.put("old", None, None);
    world.put("new", Some(10), None);
    assert_eq!(world.read(), None, "the old one is not served until the new one begins");
    world.inside.pass(10);
    assert_eq!(world.read().as_deref(), Some("new"));
    world.put("newer", None, Some(-1));
    assert_eq!(world.read(), None, "nor after it has ended");
    world.put("newest", None, None);
    assert_eq!(world.read().as_deref(), Some("newest"));
    world.inside.pass(1_000);
    assert_eq!(world.read().as_deref(), Some("newest"), "without the end of the one before");
}

#[test]
fn preconditions_see_what_a_list_shows() {
    let world = World::new();
    let conditional = |name: &str, tag: &str| {
        let put = Request::put(PATH, r#"{"value":"c"}"#).header(name, tag);
        world.send(put).status
    };
    let etag = |answer: Answer| answer.header("etag").unwrap().to_owned();
    let pending = etag(world.put("v", Some(10), Some(20)));
    assert_eq!(conditional("If-None-Match", "*"), 412, "pending is there");
    assert_eq!(conditional("If-Match", &pending), 204);
    let expired = etag(world.put("v", None, Some(10)));
    world.inside.pass(10);
    assert_eq!(conditional("If-Match", "*"), 412, "expired is not");
    assert_eq!(conditional("If-Match", &expired), 412);
    let delete = Request::delete(PATH).header("If-Match", &expired);
    assert_eq!(world.send(delete).status, 412);
    assert_eq!(world.read(), None);
    assert_eq!(conditional("If-None-Match", "*"), 204);
    assert_eq!(world.read().as_deref(), Some("c"));
}

/// Microseconds since 1970.
fn real_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

#[test]
fn the_program_keeps_to_a_window_by_the_real_clock() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"));
    dev.create_tenant("acme");
    let token = dev.mint("acme", &["*"]);
    let mut client = dev.client();
    let mut send = |request: Request| client.send(&request.bearer(&token));
    let never = every_read(&mut send);

    let (from, to) = (real_time() + 1_000_000, real_time() + 3_000_000);
    let [not_before, expires_on] =
        [from, to].map(|micros| Timestamp::from_unix_micros(micros).to_string());
    let put = json!({ "value": "v", "notBefore": not_before, "expiresOn": expires_on }).to_string();
    assert_eq!(send(Request::put(PATH, put)).status, 204);
    let mut history = vec![(0, Vec::new())];
    let begun = Instant::now();
    while history.len() < 4 {
        // A read that began before the window did may be answered within it.
        let before = real_time();
        let answer = send(Request::get(PATH)).comparable();
        let after = real_time();
        if answer.status == 200 {
            assert!(before < to && after >= from, "{before} to {after} in {from} to {to}");
            assert_eq!(answer.json(), "v");
        } else {
            assert_eq!(answer, never[0]);
            assert!(before < from || after >= to, "{before} to {after} in {from} to {to}");
        }
        let (last, _) = history.last().unwrap();
        if *last != answer.status {
            history.push((answer.status, answer.body));
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{history:?}");
    }
    let states: Vec<_> = history.iter().map(|(status, _)| *status).collect();
    assert_eq!(states, [0, 404, 200, 404]);
    assert_eq!(every_read(&mut send), never);
    assert_eq!(send(Request::get(LIST)).json(), json!([]));
    assert_eq!(send(Request::delete(PATH)).status, 404);
}
