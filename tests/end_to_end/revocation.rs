//! Revoked is refused by the very next request, and stays so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tenure::api::admin::{HiddenText, Revocable, When};

use crate::support::inside::{ISSUER, Issued};
use crate::support::tokens::narrowed;
use crate::support::{Inside, Operated, Output, Request, Serve, init, maintain, tenure};

/// A kept-alive connection on which a request was answered, and the next one waits
/// for the last two bytes of its head.
struct Queued(BufReader<TcpStream>);

impl Queued {
    fn behind_an_answer(address: SocketAddr, request: &Request) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut queued = Self(BufReader::new(stream));
        let bytes = request.encode();
        queued.write(&bytes);
        assert_eq!(queued.status(), 200);
        let (head, _) = bytes.split_at(bytes.len() - 2);
        queued.write(head);
        queued
    }

    fn release(mut self) -> u16 {
        self.write(b"\r\n");
        self.status()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the connection is kept alive");
    }

    /// Reads one whole answer.
    fn status(&mut self) -> u16 {
        let (mut line, mut length) = (String::new(), 0);
        self.0.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            match line.trim().to_ascii_lowercase().split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(_) => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).expect("a body");
        status.expect("a status")
    }
}

const LIST: &str = "/api/acme/secrets";

#[test]
fn revoked_is_refused_even_to_a_request_that_waits_on_a_kept_alive_connection() {
    let inside = Inside::start();
    inside.create_tenant("acme");
    let subject =
        || Revocable::Subject { tenant: "acme".into(), subject: "test".into(), issuer: None };
    let tenant = || Revocable::Tenant { tenant: "acme".into(), before: When::Now };
    let by_token = |token: &str| Revocable::Token { token: HiddenText::new(token) };
    for round in 0..3 {
        let token = inside.mint("acme", &["*"]);
        let bystander = inside.mint("acme", &["*"]);
        let inner = narrowed(&token, r#"check if operation("read")"#);
        let list = |token: &str| Request::get(LIST).bearer(token);
        let queue = |token: &str| Queued::behind_an_answer(inside.address(), &list(token));
        let waiting = [queue(&token), queue(&inner), queue(&inner)];
        let beside = queue(&bystander);
        match round {
            0 => inside.revoke(by_token(&token)),
            1 => inside.revoke(subject()),
            _ => inside.revoke(tenant()),
        }
        assert_eq!(waiting.map(Queued::release), [401; 3], "round {round}");
        assert_eq!(beside.release(), if round == 0 { 200 } else { 401 });
        let fresh = inside.mint("acme", &["*"]);
        assert_eq!(inside.send(&list(&fresh)).status, 200, "round {round}");
    }
}

#[test]
fn a_subject_of_an_issuer_is_revoked_apart_from_one_of_the_same_name_here() {
    const NAME: &str = "m4rker-alice";
    let inside = Inside::start();
    inside.create_tenant("acme");
    let of = |issuer: Option<&str>| Revocable::Subject {
        tenant: "acme".into(),
        subject: NAME.into(),
        issuer: issuer.map(str::to_owned),
    };
    let issued = || inside.issue("acme", Issued::With("*")).expect("an issuer is configured");
    let (theirs, ours) = (issued(), inside.mint("acme", &["*"]));
    let list = |token: &str| inside.send(&Request::get(LIST).bearer(token)).status;
    inside.revoke(of(None));
    assert_eq!((list(&theirs), list(&ours)), (200, 200), "nobody here has that name");
    inside.revoke(of(Some(ISSUER)));
    assert_eq!((list(&theirs), list(&ours)), (401, 200));
    inside.pass(1);
    assert_eq!(list(&issued()), 200, "what is issued afterwards holds");
}

#[test]
fn a_revocation_names_an_issuer_that_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let revoke = ["token", "revoke", "--subject", "alice", "--tenant", "acme", "--issuer"];
    let misspelt = maintain(&data, &[revoke.as_slice(), &["https://issuer.test"]].concat());
    assert_eq!(misspelt.code, Some(2), "{misspelt:?}");
    assert!(misspelt.stderr.contains("those that are: none"), "{misspelt:?}");
}

#[test]
fn a_revoked_api_key_is_refused_even_to_a_request_that_waits() {
    let inside = Inside::start();
    inside.create_tenant("acme");
    let list = |key: &str| Request::get(LIST).api_key(key);
    let queue = |key: &str| Queued::behind_an_answer(inside.address(), &list(key));
    let (by_command, over_http) =
        (inside.api_key("acme", &["*"]), inside.api_key("acme", &["Secret.Read"]));
    let with_tenant = inside.api_key("acme", &["Secret.Read"]);
    let waiting = [&by_command, &over_http, &with_tenant].map(|key| queue(&key.key));
    let [first, second, third] = waiting;
    inside.revoke_api_key(&by_command.id);
    assert_eq!(first.release(), 401);
    let admin = inside.mint("acme", &["*"]);
    let delete = Request::delete(format!("/api/acme/api-keys/{}", over_http.id));
    assert_eq!(inside.send(&delete.bearer(&admin)).status, 204);
    assert_eq!(second.release(), 401);
    inside.pass(1);
    inside.revoke(Revocable::Tenant { tenant: "acme".into(), before: When::Now });
    assert_eq!(third.release(), 401);
    let since = inside.mint("acme", &["*"]);
    let keys = inside.send(&Request::get("/api/acme/api-keys").bearer(&since));
    assert_eq!(keys.json(), serde_json::json!([]));
}

#[test]
fn a_revocation_outlives_kill_9_and_is_told_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    assert_eq!(serve.run(&["tenant", "create", "acme"]).code, Some(0));
    let mint = |subject: &str| {
        let args = ["token", "mint", "--tenant", "acme", "--scope", "*", "--subject", subject];
        maintain(&data, &args).stdout.trim().to_owned()
    };
    let (leaked, other, of_ci) = (mint("a"), mint("a"), mint("ci"));
    let made = serve.run(&["api-key", "create", "--tenant", "acme", "--scope", "*"]);
    let key = made.stdout.trim().to_owned();
    let status = |serve: &Serve, token: &str| serve.send(&Request::get(LIST).bearer(token)).status;
    let revoke = |env: &str| {
        let mut command = tenure();
        command.args(["token", "revoke", "--token", "--data"]).arg(&data);
        Output::of(command.env("TENURE_TOKEN", env))
    };
    let revoked = revoke(&leaked);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    assert!(revoked.stdout.contains("and everything narrowed from it"), "{revoked:?}");
    let by_subject = ["token", "revoke", "--subject", "ci", "--tenant", "acme"];
    assert_eq!(serve.run(&by_subject).code, Some(0));
    let id = key.split('_').nth(1).expect("an id");
    assert_eq!(serve.run(&["api-key", "revoke", id]).code, Some(0));
    let log = serve.log();
    serve.kill();
    let serve = Serve::start(&data);
    assert_eq!(status(&serve, &leaked), 401);
    assert_eq!(status(&serve, &of_ci), 401);
    assert_eq!(status(&serve, &other), 200);
    assert_eq!(serve.send(&Request::get(LIST).api_key(&key)).status, 401);
    let list = serve.run(&["token", "list"]).stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
    let verified = serve.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    for text in [log, serve.log(), list, format!("{revoked:?}")] {
        for hidden in [&leaked, &other, &of_ci, &key] {
            assert!(!text.contains(&hidden[hidden.len() - 40..]), "{text}");
        }
    }
}

#[test]
fn a_credential_is_revoked_where_there_is_no_space_for_secrets_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let run = |args: &[&str]| maintain(&data, args).stdout.trim().to_owned();
    run(&["tenant", "create", "acme"]);
    let token = run(&["token", "mint", "--tenant", "acme", "--scope", "*", "--subject", "ci"]);
    let key = run(&["api-key", "create", "--tenant", "acme", "--scope", "*"]);
    let serve = Serve::start_with(&data, |command| {
        command.arg("--data").arg(&data).env("TENURE_STORE_FULL_FLOOR_BYTES", "1024TiB");
    });
    let put = Request::put("/api/acme/secrets/s", r#"{"value":"x"}"#).bearer(&token);
    assert_eq!(serve.send(&put).code(), "full");
    let id = key.split('_').nth(1).expect("an id");
    assert_eq!(serve.run(&["api-key", "revoke", id]).code, Some(0));
    assert_eq!(serve.send(&Request::get(LIST).api_key(&key)).status, 401);
    let revoke = ["token", "revoke", "--subject", "ci", "--tenant", "acme"];
    assert_eq!(serve.run(&revoke).code, Some(0));
    assert_eq!(serve.send(&Request::get(LIST).bearer(&token)).status, 401);
}

#[test]
fn what_revokes_nothing_says_so_and_repeats_no_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let made = maintain(&data, &["api-key", "create", "--tenant", "acme", "--scope", "*"]);
    let key = made.stdout.trim();
    let foreign = crate::support::tokens::foreign("acme", &"07".repeat(16));
    for (token, words) in [
        (foreign.as_str(), "does not honour it"),
        ("garbage", "not well-formed"),
        (key, "tenure api-key revoke"),
    ] {
        let mut command = tenure();
        command.args(["token", "revoke", "--token", "--data"]).arg(&data);
        let refused = Output::of(command.env("TENURE_TOKEN", token));
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
        assert!(token.len() < 40 || !refused.stderr.contains(&token[..30]), "{refused:?}");
    }
}

#[test]
fn rotating_the_root_keeps_old_tokens_until_the_date_and_shows_the_keys() {
    let inside = Inside::start();
    inside.create_tenant("acme");
    let old = inside.mint("acme", &["*"]);
    let keys = || inside.send(&Request::get("/.well-known/biscuit-keys")).json();
    let status = |token: &str| inside.send(&Request::get(LIST).bearer(token)).status;
    inside.rotate_root(When::InSeconds(60));
    let new = inside.mint("acme", &["*"]);
    assert_eq!((status(&old), status(&new)), (200, 200));
    let shown = keys();
    assert_eq!((shown[0]["id"].as_u64(), shown[1]["id"].as_u64()), (Some(1), Some(2)));
    let fields: Vec<_> = shown[0].as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["algorithm", "id", "publicKey"]);
    let waiting = Queued::behind_an_answer(inside.address(), &Request::get(LIST).bearer(&old));
    inside.pass(60);
    assert_eq!(waiting.release(), 401);
    assert_eq!((status(&old), status(&new)), (401, 200));
    assert_eq!(keys().as_array().map(Vec::len), Some(1));
    inside.rotate_root(When::Now);
    assert_eq!(status(&new), 401);
    assert_eq!(keys()[0]["id"], 3);
}
