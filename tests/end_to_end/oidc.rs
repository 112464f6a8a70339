//! Access tokens of other issuers, against the real program: those of a real
//! identity provider, and those that an attacker would make.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::fake_issuer::{self, FakeIssuer, Page, Signer, claims};
use crate::support::identity_provider::{RealIssuer, Registered};
use crate::support::{Answer, Client, Output, Request, Serve, eventually, init, maintain, tenure};

const READ: &str = "tenure:read";
const WRITE: &str = "tenure:write";
const BOTH: &str = "tenure:read tenure:write";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A store with the tenants `acme` and `beta`, and its configuration.
struct Place {
    folder: TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = init(folder.path());
        for tenant in ["acme", "beta"] {
            let made = maintain(&data, &["tenant", "create", tenant]);
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        Self { folder, data }
    }

    /// Serves with these issuers, each a name and further keys of its table.
    fn serve(&self, issuers: &[(&str, &str)]) -> Serve {
        self.serve_with(issuers, |_| {})
    }

    fn serve_with(&self, issuers: &[(&str, &str)], adapt: impl FnOnce(&mut Command)) -> Serve {
        let data = self.data.display();
        let mut text = format!("data = '{data}'\nkek.file = '{data}.kek'\nlog.level = 'trace'\n");
        for (name, more) in issuers {
            write!(
                text,
                "[[oidc]]\nissuer = '{name}'\naudience = '{}'\n\
                 tenants = {{ acme-corp = 'acme', b = 'beta', ghost = 'ghost' }}\n\
                 scopes = {{ '{READ}' = 'Secret.Read', '{WRITE}' = 'Secret.Write', \
                 'tenure:all' = '*' }}\n{more}\n",
                fake_issuer::AUDIENCE
            )
            .unwrap();
        }
        let file = self.folder.path().join("tenure.toml");
        std::fs::write(&file, text).unwrap();
        Serve::start_with(&self.data, |command| {
            command.arg("--config").arg(&file);
            adapt(command);
        })
    }
}

fn path(tenant: &str, key: &str) -> String {
    format!("/api/{tenant}/secrets/{key}")
}

fn get(tenant: &str, token: &str) -> Request {
    Request::get(path(tenant, "m4rker-k")).bearer(token)
}

fn put(tenant: &str, token: &str) -> Request {
    Request::put(path(tenant, "m4rker-k"), r#"{"value":"m4rker value"}"#).bearer(token)
}

fn delete(tenant: &str, token: &str) -> Request {
    Request::delete(path(tenant, "m4rker-k")).bearer(token)
}

fn list(tenant: &str, token: &str) -> Request {
    Request::get(format!("/api/{tenant}/secrets")).bearer(token)
}

/// Waits until the server has the issuer's keys: until then a token cannot be judged.
fn until_judged(server: &Serve, token: &str) -> Answer {
    eventually("the issuer's keys to be there", || {
        let answer = server.send(&list("acme", token));
        (answer.status != 503).then_some(answer)
    })
}

fn status(server: &Serve, request: &Request) -> u16 {
    server.send(request).status
}

// A real identity provider.

#[test]
fn tokens_of_a_real_provider_hold_whatever_the_flow_and_the_algorithm() {
    let client = |id, flow, alg| Registered { id, flow, alg, tenant: "acme-corp" };
    let clients = [
        client("machine-rs", "client_credentials", "RS256"),
        client("machine-es", "client_credentials", "ES256"),
        client("machine-ed", "client_credentials", "EdDSA"),
        client("implicit-rs", "implicit", "RS256"),
        client("implicit-ed", "implicit", "EdDSA"),
        client("code-rs", "code", "RS256"),
        client("code-es", "code", "ES256"),
    ];
    let issuer = RealIssuer::new(&clients, 600);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name, "")]);
    let mut shown = Vec::new();
    for Registered { id, flow, .. } in &clients {
        let token = |scope: &str| match *flow {
            "client_credentials" => issuer.token(id, scope),
            _ => issuer.sign_in(id, scope),
        };
        let (both, reads, writes, none) =
            (token(BOTH), token(READ), token(WRITE), token("tenure:other"));
        assert_eq!(until_judged(&server, &both).status, 200, "{id}");
        for (request, expected) in [
            (put("acme", &both), 204),
            (get("acme", &both), 200),
            (list("acme", &both), 200),
            (get("acme", &reads), 200),
            (list("acme", &reads), 200),
            (put("acme", &reads), 403),
            (delete("acme", &reads), 403),
            (put("acme", &writes), 204),
            (get("acme", &writes), 403),
            (list("acme", &writes), 403),
            (get("acme", &none), 403),
            (get("beta", &both), 403),
            (put("beta", &both), 403),
            (list("nowhere", &both), 403),
            (delete("acme", &writes), 204),
            (get("acme", &both), 404),
        ] {
            let answer = server.send(&request);
            assert_eq!(answer.status, expected, "{id}: {request:?}");
            answer.assert_proper();
        }
        shown.extend([both, reads, writes, none]);
    }
    log_tells_nothing(&server, &shown);
}

#[test]
fn a_token_of_a_real_provider_expires() {
    let client =
        Registered { id: "m", flow: "client_credentials", alg: "ES256", tenant: "acme-corp" };
    let issuer = RealIssuer::new(&[client], 2);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name, "")]);
    until_judged(&server, &issuer.token("m", READ));
    let token = issuer.token("m", READ);
    assert_eq!(status(&server, &list("acme", &token)), 200);
    let refused = eventually("the token to expire", || {
        let answer = server.send(&list("acme", &token));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.code()), (401, "token_expired".to_owned()));
}

/// The issuer shows the next key before it signs with it, as providers do.
#[test]
fn keys_that_are_shown_before_they_sign_rotate_without_a_refusal() {
    let client =
        Registered { id: "m", flow: "client_credentials", alg: "ES256", tenant: "acme-corp" };
    let issuer = RealIssuer::new(&[client], 600);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name, "refresh = '1s'")]);
    let first = issuer.token("m", READ);
    until_judged(&server, &first);
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let more = || {
        let before = answered.load(Ordering::SeqCst);
        let goes_on = || (answered.load(Ordering::SeqCst) > before + 40).then_some(());
        eventually("the load to go on", goes_on);
    };
    std::thread::scope(|scope| {
        // Ends with a panic as with its work.
        let _over = Raise(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(server.address);
                while !over.load(Ordering::SeqCst) {
                    for token in [&issuer.token("m", READ), &first] {
                        let answer = client.send(&list("acme", token));
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        more();
        issuer.use_keys(&["first", "second"]);
        eventually("both keys to be fetched", || server.log().contains(": 6 keys").then_some(()));
        more();
        issuer.use_keys(&["second", "first"]);
        more();
    });
    // The first key leaves: what it signed ends, remembered or not.
    issuer.use_keys(&["second"]);
    let refused = eventually("the first key to leave", || {
        let answer = server.send(&list("acme", &first));
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.code()), (401, "credential_invalid".to_owned()));
    assert_eq!(status(&server, &list("acme", &issuer.token("m", READ))), 200);
}

#[test]
fn keys_that_change_at_once_are_found_by_the_first_token_that_names_them() {
    let client =
        Registered { id: "m", flow: "client_credentials", alg: "RS256", tenant: "acme-corp" };
    let issuer = RealIssuer::new(&[client], 600);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name, "refresh = '6h'")]);
    let old = issuer.token("m", READ);
    assert_eq!(until_judged(&server, &old).status, 200);
    issuer.use_keys(&["another"]);
    assert_eq!(status(&server, &list("acme", &old)), 200, "nobody knows yet");
    let new = issuer.token("m", READ);
    let first = server.send(&list("acme", &new));
    assert_eq!((first.status, first.code()), (401, "credential_invalid".to_owned()));
    eventually("the new key to be fetched", || {
        (status(&server, &list("acme", &new)) == 200).then_some(())
    });
    assert_eq!(status(&server, &list("acme", &old)), 401, "its key has left");
}

/// Raised when it goes out of scope.
struct Raise<'f>(&'f AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// Tokens that nobody should honour.

#[test]
fn a_token_that_is_not_quite_one_is_refused_like_any_other() {
    let issuer = FakeIssuer::start();
    let (signer, strangers) = (Signer::new("m4rker-key"), Signer::new("m4rker-key"));
    issuer.put_issuer("", &[signer.jwk()]);
    issuer.put_issuer("/other", &[strangers.jwk()]);
    let (name, other) = (issuer.name(""), issuer.name("/other"));
    let place = Place::new();
    let server = place.serve(&[(&name, "refresh = '6h'"), (&other, "refresh = '6h'")]);
    let good = claims(&name, "acme-corp", "tenure:all", now());
    let token = signer.token(&good);
    assert_eq!(until_judged(&server, &token).status, 200);
    assert_eq!(status(&server, &put("acme", &token)), 204);

    let with = |name: &str, value: Value| signer.token(&changed(&good, name, value));
    let header =
        |name: &str, value: Value| signer.sign(&changed(&signer.header(), name, value), &good);
    let unsigned =
        |alg: &str| fake_issuer::message(&changed(&signer.header(), "alg", alg.into()), &good);
    let hmac = |secret: &[u8]| {
        let message = unsigned("HS256");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", BASE64.encode(ring::hmac::sign(&key, message.as_bytes())))
    };
    let (message, signature) = token.rsplit_once('.').unwrap();
    let evil = issuer.name("/evil/keys");
    let embedded =
        changed(&changed(&strangers.header(), "jwk", strangers.jwk()), "jku", evil.into());
    let rows = [
        ("no issuer", with("iss", Value::Null)),
        ("an unknown issuer", with("iss", "https://unknown.test".into())),
        ("a slash more", with("iss", format!("{name}/").into())),
        ("a list of issuers", with("iss", json!([name]))),
        ("another issuer's name", with("iss", other.clone().into())),
        ("another issuer's key", strangers.token(&good)),
        ("no audience", with("aud", Value::Null)),
        ("another audience", with("aud", "https://other.test".into())),
        ("other audiences", with("aud", json!(["https://other.test", "tenure.test"]))),
        ("no type", header("typ", Value::Null)),
        ("an ID token", header("typ", "JWT".into())),
        ("none", format!("{}.", unsigned("none"))),
        ("none, signed", signer.sign(&changed(&signer.header(), "alg", "none".into()), &good)),
        ("HS256 with the public key", hmac(signer.public())),
        ("HS256 with the JWK", hmac(signer.jwk().to_string().as_bytes())),
        ("HS256 with nothing", hmac(b"")),
        ("RS256 by an EC key", header("alg", "RS256".into())),
        ("ES384 by a P-256 key", header("alg", "ES384".into())),
        ("no key id", header("kid", Value::Null)),
        ("an unknown key id", header("kid", "m4rker-none".into())),
        ("crit", header("crit", json!(["exp"]))),
        ("a key of its own", strangers.sign(&embedded, &good)),
        ("not yet", with("nbf", json!(now() + 3_600))),
        ("no expiry", with("exp", Value::Null)),
        ("an expiry in words", with("exp", "never".into())),
        ("no time of issue", with("iat", Value::Null)),
        ("issued before the tenant was created", with("iat", json!(now() - 3_600))),
        ("no subject", with("sub", Value::Null)),
        ("a subject that steers terminals", with("sub", "m4rker\u{1b}[2J".into())),
        ("no tenant", with("tenant", Value::Null)),
        ("a tenant's name that is not listed", with("tenant", "acme".into())),
        ("a listed tenant that does not exist", with("tenant", "ghost".into())),
        ("bound to a key", with("cnf", json!({"jkt": "m4rker"}))),
        ("too large", with("groups", "m4rker".repeat(1_500).into())),
        ("a signature of nothing", format!("{message}.{}", BASE64.encode([0; 64]))),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{token}.{signature}")),
        ("five parts", format!("{token}.{signature}.{signature}")),
    ];
    let all = |token: &str| {
        let requests = [get("acme", token), put("acme", token), delete("acme", token)];
        requests.map(|request| server.send(&request).comparable())
    };
    let alike = all("garbage");
    for (what, token) in &rows {
        assert_eq!(all(token), alike, "{what}");
        let answer = server.send(&list("acme", token));
        assert_eq!(
            (answer.status, answer.code()),
            (401, "credential_invalid".to_owned()),
            "{what}"
        );
    }
    let expired = with("exp", json!(now() - 1));
    assert_eq!(server.send(&get("acme", &expired)).code(), "token_expired");
    for request in
        [get("acme", &token), list("acme", &with("aud", json!(["x", fake_issuer::AUDIENCE])))]
    {
        assert_eq!(status(&server, &request), 200, "a good one is good after all these");
    }
    assert!(!issuer.was_asked("/evil/keys"), "a token led the server somewhere");
    let told = "a credential was refused: the token is for another audience";
    assert!(server.log().contains(told), "who sets an issuer up is told why");
    let mut shown: Vec<_> = rows.into_iter().map(|(_, token)| token).collect();
    shown.extend([expired, token.clone()]);
    log_tells_nothing(&server, &shown);
}

#[test]
fn a_tenant_that_was_made_again_honours_no_token_of_before() {
    let issuer = FakeIssuer::start();
    let signer = Signer::new("k");
    issuer.put_issuer("", &[signer.jwk()]);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name(""), "")]);
    let token = signer.token(&claims(&issuer.name(""), "acme-corp", READ, now()));
    assert_eq!(until_judged(&server, &token).status, 200);
    let run = |args: &[&str]| assert_eq!(server.run(args).code, Some(0), "{args:?}");
    run(&["tenant", "delete", "acme", "--yes"]);
    assert_eq!(status(&server, &list("acme", &token)), 401);
    // `iat` has whole seconds; in the next one it is told from the creation.
    let issued = now();
    eventually("the next second", || (now() > issued).then_some(()));
    run(&["tenant", "create", "acme"]);
    assert_eq!(status(&server, &list("acme", &token)), 401);
    let new = signer.token(&claims(&issuer.name(""), "acme-corp", READ, now()));
    assert_eq!(status(&server, &list("acme", &new)), 200);
}

#[test]
fn an_issuer_that_lacks_something_keeps_the_server_from_starting() {
    let place = Place::new();
    let file = place.folder.path().join("tenure.toml");
    let data = place.data.display();
    let text = format!(
        "data = '{data}'\nkek.file = '{data}.kek'\n\n[[oidc]]\nissuer = 'https://a.test'\n"
    );
    std::fs::write(&file, text).unwrap();
    let output = Output::of(tenure().args(["serve", "--config"]).arg(&file));
    assert_eq!(output.code, Some(2), "{output:?}");
    let said = "tenure.toml, line 4: `oidc.audience` is missing; set it to what stands in `aud`";
    assert!(output.stderr.contains(said), "{output:?}");
}

// Issuers that fail.

/// Answers as `tenure token mint` does.
fn mint(server: &Serve) -> String {
    let minted = server.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

#[test]
fn a_server_whose_issuer_is_down_starts_and_honours_it_once_it_is_up() {
    let issuer = FakeIssuer::start();
    let signer = Signer::new("k");
    issuer.put_issuer("", &[signer.jwk()]);
    issuer.put("/.well-known/openid-configuration", Page::Body(503, "m4rker".to_owned()));
    let place = Place::new();
    let nobody = format!("http://{}", fake_issuer::nobody());
    let server = place.serve(&[(&issuer.name(""), "refresh = '1s'"), (&nobody, "")]);
    let own = mint(&server);
    for _ in 0..3 {
        assert_eq!(status(&server, &list("acme", &own)), 200, "others are served");
    }
    for name in [&issuer.name(""), &nobody] {
        let token = signer.token(&claims(name, "acme-corp", READ, now()));
        let answer = server.send(&list("acme", &token));
        answer.assert_proper();
        assert_eq!((answer.status, answer.code()), (503, "issuer_unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    let said = |what: &str| {
        let log = server.log();
        log.lines().filter(|line| line.contains(what)).count()
    };
    let line = format!("issuer {}: its keys cannot be fetched", issuer.name(""));
    eventually("the failure to be logged", || (said(&line) > 0).then_some(()));
    issuer.put_metadata("", &issuer.metadata(""));
    let token = signer.token(&claims(&issuer.name(""), "acme-corp", READ, now()));
    eventually("the issuer to be up", || {
        (status(&server, &list("acme", &token)) == 200).then_some(())
    });
    assert_eq!(said(&line), 1, "once: {}", server.log());
    // It goes down again, and what it said last is used.
    let (before, fetches) = (said("the last ones are used"), issuer.fetches(""));
    issuer.put("/keys", Page::Body(500, "m4rker".to_owned()));
    eventually("the next failure", || (said("the last ones are used") > before).then_some(()));
    eventually("several more", || (issuer.fetches("") > fetches + 2).then_some(()));
    assert_eq!(status(&server, &list("acme", &token)), 200);
    assert_eq!(said("the last ones are used"), 1, "once: {}", server.log());
    log_tells_nothing(&server, &[token, own]);
}

#[test]
fn what_is_no_issuer_or_no_key_set_is_told_in_the_log_and_not_believed() {
    let issuer = FakeIssuer::start();
    let signer = Signer::new("k");
    let other = FakeIssuer::start();
    other.put_issuer("", &[signer.jwk()]);
    let mut rows = Vec::new();
    let mut row = |path: &'static str, said: &'static str, change: &dyn Fn(&str)| {
        issuer.put_issuer(path, &[signer.jwk()]);
        change(path);
        rows.push((issuer.name(path), said));
    };
    let metadata = |path: &str, name: &str, value: Value| {
        issuer.put_metadata(path, &changed(&issuer.metadata(path), name, value));
    };
    let keys = |path: &str, page: Page| issuer.put(&format!("{path}/keys"), page);
    row("/a", "is the metadata of another issuer", &|path| {
        metadata(path, "issuer", "https://a.test".into())
    });
    row("/b", "is the metadata of another issuer", &|path| {
        metadata(path, "issuer", format!("{}/", issuer.name(path)).into());
    });
    row("/c", "is not the metadata of an issuer", &|path| metadata(path, "jwks_uri", Value::Null));
    row("/d", "the issuer's `jwks_uri` must begin with https", &|path| {
        metadata(path, "jwks_uri", "http://login.example.org/keys".into());
    });
    row("/e", "the issuer's `jwks_uri` must be an absolute address", &|path| {
        metadata(path, "jwks_uri", "file:///etc/passwd".into());
    });
    row("/f", "answers with a redirect", &|path| keys(path, Page::Redirect(other.name("/keys"))));
    row("/g", "answers with a redirect", &|path| {
        let there = other.name("/.well-known/openid-configuration");
        issuer.put(&format!("{path}/.well-known/openid-configuration"), Page::Redirect(there));
    });
    row("/h", "answers with status 500", &|path| keys(path, Page::Body(500, "x".to_owned())));
    row("/i", "is not a JWK set", &|path| keys(path, Page::Body(200, "<html>".to_owned())));
    row("/j", "holds more than 100 keys", &|path| {
        issuer.put_keys(path, &vec![signer.jwk(); 101]);
    });
    row("/k", "answers with more than 262144 bytes", &|path| {
        let padded = json!({"keys": [signer.jwk()], "pad": "x".repeat(256 * 1_024)});
        keys(path, Page::Body(200, padded.to_string()));
    });
    let place = Place::new();
    let issuers: Vec<_> = rows.iter().map(|(name, _)| (name.as_str(), "")).collect();
    let server = place.serve(&issuers);
    for (name, said) in &rows {
        let begins = format!("issuer {name}: its keys cannot be fetched");
        let line = eventually("the fault to be logged", || {
            let log = server.log();
            log.lines().find(|line| line.contains(&begins)).map(str::to_owned)
        });
        assert!(line.contains(said), "{line}");
        let token = signer.token(&claims(name, "acme-corp", READ, now()));
        assert_eq!(server.send(&list("acme", &token)).code(), "issuer_unavailable", "{said}");
    }
    assert!(!other.was_asked("/keys"), "a redirect was followed");
    assert_eq!(status(&server, &list("acme", &mint(&server))), 200);
}

/// An issuer is not to blame for it, and nobody is told who asks the proxy.
#[test]
fn a_proxy_that_leads_nowhere_is_named_and_the_issuer_not_blamed() {
    let (near, signer) = (FakeIssuer::start(), Signer::new("k"));
    near.put_issuer("", &[signer.jwk()]);
    let far = "https://login.tenure.example";
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).unwrap();
    let place = Place::new();
    let server = place.serve_with(&[(&near.name(""), ""), (far, "")], |command| {
        for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
            command.env(name, format!("http://someone:hunter2@{dead}"));
        }
    });
    let begins = format!("issuer {far}: its keys cannot be fetched: {far}/");
    let line = eventually("the fault to be logged", || {
        let log = server.log();
        log.lines().find(|line| line.contains(&begins)).map(str::to_owned)
    });
    let through = format!("through the proxy http://{dead}: ");
    for words in [&through, "refused", "HTTPS_PROXY", "NO_PROXY"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    // This machine's loopback is reached without.
    let fetched = format!("issuer {}: 1 keys", near.name(""));
    eventually("its keys", || server.log().contains(&fetched).then_some(()));
    let log = server.log();
    assert!(!log.contains("hunter2") && !log.contains("someone"), "{log}");
}

#[test]
fn an_issuer_that_keeps_silent_keeps_nobody_waiting() {
    let issuer = FakeIssuer::start();
    let signer = Signer::new("k");
    issuer.put("/.well-known/openid-configuration", Page::Silence);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name(""), "")]);
    let own = mint(&server);
    let token = signer.token(&claims(&issuer.name(""), "acme-corp", READ, now()));
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(status(&server, &list("acme", &own)), 200);
        assert_eq!(status(&server, &list("acme", &token)), 503);
    }
    // Its answer would be waited for for 10 s.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(server.stop_by("TERM").0, Some(0));
}

#[test]
fn unknown_keys_cause_one_fetch_in_half_a_minute_however_many_name_them() {
    let issuer = FakeIssuer::start();
    let signer = Signer::new("k");
    issuer.put_issuer("", &[signer.jwk()]);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name(""), "refresh = '6h'")]);
    let good = claims(&issuer.name(""), "acme-corp", READ, now());
    assert_eq!(until_judged(&server, &signer.token(&good)).status, 200);
    assert_eq!(issuer.fetches(""), 1);
    let begun = Instant::now();
    let mut client = Client::new(server.address);
    // Both together are fewer than an address may have refused at once.
    for number in 0..200 {
        let header = changed(&signer.header(), "kid", format!("unknown-{number}").into());
        assert_eq!(client.send(&list("acme", &signer.sign(&header, &good))).status, 401);
    }
    eventually("the one fetch", || (issuer.fetches("") > 1).then_some(()));
    for number in 0..200 {
        let header = changed(&signer.header(), "kid", format!("other-{number}").into());
        assert_eq!(client.send(&list("acme", &signer.sign(&header, &good))).status, 401);
    }
    let fetches = issuer.fetches("");
    assert!(fetches == 2 || begun.elapsed() > Duration::from_secs(30), "{fetches} fetches");
}

#[test]
fn an_issuer_over_tls_is_believed_by_its_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let issuer = FakeIssuer::start_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    let signer = Signer::new("k");
    for path in ["/trusted", "/untrusted", "/configured"] {
        issuer.put_issuer(path, &[signer.jwk()]);
    }
    // An issuer over TLS leads nowhere without it.
    let plain = FakeIssuer::start();
    plain.put_issuer("", &[signer.jwk()]);
    issuer.put_issuer("/down", &[signer.jwk()]);
    let down = changed(&issuer.metadata("/down"), "jwks_uri", plain.name("/keys").into());
    issuer.put_metadata("/down", &down);

    let place = Place::new();
    let ca = place.folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let ca = format!("ca_file = '{}'", ca.display());
    let names = ["/trusted", "/untrusted", "/configured", "/down"].map(|path| issuer.name(path));
    let [trusted, untrusted, configured, down] = &names;
    let elsewhere = format!("{ca}\njwks_uri = '{configured}/keys'");
    let server =
        place.serve(&[(trusted, &ca), (untrusted, ""), (configured, &elsewhere), (down, &ca)]);
    for name in [trusted, configured] {
        let token = signer.token(&claims(name, "acme-corp", READ, now()));
        assert_eq!(until_judged(&server, &token).status, 200, "{name}");
    }
    for (name, said) in [(untrusted, ""), (down, "`jwks_uri` must begin with https")] {
        let begins = format!("issuer {name}: its keys cannot be fetched");
        let line = eventually("the fault to be logged", || {
            server.log().lines().find(|line| line.contains(&begins)).map(str::to_owned)
        });
        assert!(line.contains(said), "{line}");
        let token = signer.token(&claims(name, "acme-corp", READ, now()));
        assert_eq!(server.send(&list("acme", &token)).code(), "issuer_unavailable", "{name}");
    }
    assert!(!plain.was_asked("/keys"));
    let metadata = "/configured/.well-known/openid-configuration";
    assert!(!issuer.was_asked(metadata), "where the keys are was said");
}

// The documentation.

#[test]
fn the_document_offers_to_sign_in_once_the_issuer_said_where() {
    let issuer = FakeIssuer::start();
    issuer.put_issuer("", &[Signer::new("k").jwk()]);
    let place = Place::new();
    let server = place.serve(&[(&issuer.name(""), "client_id = 'docs'")]);
    let scheme = eventually("the issuer to be asked", || {
        let document = server.send(&Request::get("/api/openapi.json")).json();
        let scheme = document["components"]["securitySchemes"]["oauth2"].clone();
        scheme.is_object().then_some(scheme)
    });
    let at = issuer.name("");
    assert_eq!(scheme["flows"]["implicit"]["authorizationUrl"], format!("{at}/auth"));
    assert_eq!(scheme["flows"]["authorizationCode"]["tokenUrl"], format!("{at}/token"));
    assert_eq!(scheme["flows"]["implicit"]["scopes"][READ], "Secret.Read");
    let page = server.send(&Request::get("/api/docs/"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains(&format!("connect-src 'self' {at}/token;")), "{policy}");
    let script = server.send(&Request::get("/api/docs/swagger-initializer.js")).text();
    assert!(script.contains(r#""clientId": "docs""#), "{script}");
    let redirect = server.send(&Request::get("/api/docs/oauth2-redirect.html"));
    assert_eq!(redirect.status, 200);
    assert!(!redirect.text().contains("<script>"), "the policy lets no script run in the page");
}

/// `null` takes it away.
fn changed(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    if value.is_null() {
        object.as_object_mut().unwrap().remove(name);
    } else {
        object[name] = value;
    }
    object
}

/// No token, no claim and no value that was sent.
fn log_tells_nothing(server: &Serve, tokens: &[String]) {
    let log = server.log();
    assert!(!log.contains("m4rker"), "a value, a name or a claim is in the log");
    for token in tokens {
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!log.contains(&part[..20]), "a token is in the log");
        }
    }
}
