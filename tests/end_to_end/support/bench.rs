//! A server against which rows of a table are held: what is sent, and what it is
//! answered; it goes on after each, and its log tells nothing of any.

use tempfile::TempDir;

use super::http::{Answer, Client, Request};
use super::program::{Dev, secret};

/// In every name, value, token and body that is sent here.
pub const MARK: &str = "m4rker";
pub const GOOD: &str = "m4rker-good";
pub const TARGET: &str = "m4rker-target";

/// What a request is to be answered.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// Carried out, with this status.
    Done(u16),
    /// A problem with this code and, where it has one, this field at fault.
    Problem(u16, &'static str, Option<&'static str>),
    /// Refused before routing, by status alone.
    Bare(u16),
}
pub use Expected::{Bare, Done, Problem};

/// A server with one secret, against which rows are held.
pub struct Bench {
    pub dev: Dev,
    /// A token that never stood on a terminal, as that of `dev` did.
    pub token: String,
    /// On one connection from first to last: no row of another may break it.
    pub steady: Client,
    /// All that must not be in the log.
    pub sent_tokens: Vec<String>,
    _folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("data"));
        let token = dev.mint("dev", &["*"]);
        let steady = dev.client();
        let sent_tokens = vec![token.clone()];
        let mut bench = Self { dev, token, steady, sent_tokens, _folder: folder };
        let body = format!(r#"{{"value":"{MARK} good"}}"#);
        let put = Request::put(secret(GOOD), body).bearer(&bench.token);
        assert_eq!(bench.steady.send(&put).status, 204);
        bench
    }

    /// Sends it with a good credential.
    pub fn hold(&mut self, what: &str, request: Request, expected: Expected) -> Answer {
        let request = request.bearer(&self.token);
        self.hold_bare(what, &request, expected)
    }

    /// Sends it as it is.
    pub fn hold_bare(&mut self, what: &str, request: &Request, expected: Expected) -> Answer {
        let answer = self.dev.client().try_send(request);
        let answer = answer.unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
        judge(what, &answer, expected);
        self.goes_on(what);
        answer
    }

    pub fn goes_on(&mut self, after: &str) {
        let get = Request::get(secret(GOOD)).bearer(&self.token);
        let answer = self.steady.send(&get);
        assert_eq!((answer.status, answer.json()), (200, format!("{MARK} good").into()), "{after}");
    }

    pub fn status(&mut self, name: &str) -> u16 {
        self.steady.send(&Request::get(secret(name)).bearer(&self.token)).status
    }

    pub fn mint(&mut self, tenant: &str, scopes: &[&str]) -> String {
        let token = self.dev.mint(tenant, scopes);
        self.sent_tokens.push(token.clone());
        token
    }

    /// Once all was sent: names, values, bodies and tokens are nowhere in what
    /// the server wrote at its finest level.
    pub fn log_tells_nothing(mut self) {
        let nowhere = Request::get("/m4rker");
        self.hold_bare("no such path", &nowhere, Problem(404, "route_not_found", None));
        let log = self.dev.log();
        assert!(log.contains("DEBUG") && log.contains("(no route)"), "the log is at its finest");
        let bytes = MARK.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for line in log.lines() {
            assert!(!line.to_lowercase().contains(MARK), "{line}");
            assert!(!line.contains(&bytes), "{line}");
            for token in &self.sent_tokens {
                let tail = &token[token.len() - 40..];
                assert!(!line.contains(tail), "{line}");
            }
        }
        let welcome = log.matches(&self.dev.token).count();
        assert_eq!(welcome, 1, "the token of dev is in its welcome alone");
    }
}

pub fn judge(what: &str, answer: &Answer, expected: Expected) {
    let shown = format!("{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    match expected {
        Done(status) => {
            assert_eq!(answer.status, status, "{shown}");
            answer.assert_proper();
        }
        Problem(status, code, field) => {
            assert_eq!(answer.status, status, "{shown}");
            answer.assert_proper();
            assert_eq!(answer.code(), code, "{shown}");
            if let Some(field) = field {
                let errors = &answer.json()["errors"];
                let of_field = errors[field].as_array();
                assert!(of_field.is_some_and(|messages| !messages.is_empty()), "{shown}");
            }
        }
        Bare(status) => assert_eq!(answer.status, status, "{shown}"),
    }
    let text = String::from_utf8_lossy(&answer.body);
    assert!(!text.contains("hush"), "{what}: a refusal repeats what was sent: {text}");
}
