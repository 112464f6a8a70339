//! Credentials that are none, that do not suffice, and that their holder narrowed:
//! over HTTP, against the real program.

use std::time::{Duration, Instant};

use crate::support::bench::{Bare, Bench, Done, GOOD, MARK, Problem, TARGET};
use crate::support::tokens::{self, append, foreign, narrowed, of_unknown_root, sealed};
use crate::support::{Dev, Operated, Request, secret};

#[test]
fn a_credential_that_is_none_is_refused_alike_on_every_call() {
    let mut bench = Bench::new();
    let dev_id = tenant_id(&bench.dev, "dev");
    bench.dev.create_tenant("other");
    let good = bench.token.clone();
    let other = bench.mint("other", &["*"]);
    let expired = expired_token(&mut bench);
    let flipped = flipped(&good);
    let (foreign, unknown) = (foreign("dev", &dev_id), of_unknown_root("dev", &dev_id));
    bench.sent_tokens.extend([foreign.clone(), unknown.clone(), flipped.clone()]);
    let bearer = |token: &str| vec![("Authorization", format!("Bearer {token}"))];
    let authorization = |value: &str| vec![("Authorization", value.to_owned())];
    let invalid = Problem(401, "credential_invalid", None);
    let ambiguous = Problem(400, "ambiguous_credential", None);
    let rows = [
        ("none", vec![], Problem(401, "credential_missing", None)),
        ("empty", authorization(""), invalid),
        ("a scheme alone", authorization("Bearer"), invalid),
        ("no scheme", authorization(&good), invalid),
        ("garbled", bearer("m4rker!!"), invalid),
        ("base64 of nothing", bearer("bTRya2VybTRya2Vy"), invalid),
        ("two words", bearer("m4rker m4rker"), invalid),
        ("half a token", bearer(&good[..good.len() / 2]), invalid),
        ("a flipped signature", bearer(&flipped), invalid),
        ("a token and more", bearer(&format!("{good}AAAA")), invalid),
        ("8 KB", bearer(&MARK.repeat(8 * 1024 / MARK.len() + 1)), invalid),
        ("64 KB", bearer(&MARK.repeat(64 * 1024 / MARK.len() + 1)), invalid),
        ("256 KB", bearer(&MARK.repeat(256 * 1024 / MARK.len())), Bare(431)),
        ("expired", bearer(&expired), Problem(401, "token_expired", None)),
        ("a foreign root", bearer(&foreign), invalid),
        ("an unknown root", bearer(&unknown), invalid),
        ("another tenant", bearer(&other), Problem(403, "forbidden", None)),
        ("Basic", authorization("Basic bTRya2VyOm00cmtlcg=="), invalid),
        ("a token as Basic", authorization(&format!("Basic {good}")), invalid),
        ("a token as Token", authorization(&format!("Token {good}")), invalid),
        ("a JWT", bearer("eyJhbGciOiJub25lIn0.eyJtNHJrZXIiOjF9."), invalid),
        ("a token with a dot", bearer(&format!("{good}.")), invalid),
        ("an API key", vec![("X-API-KEY", "tnr_m4rker_m4rker".to_owned())], invalid),
        ("a token as API key", vec![("X-API-KEY", good.clone())], invalid),
        ("both", [bearer(&good), vec![("X-API-KEY", MARK.to_owned())]].concat(), ambiguous),
        (
            "both, one empty",
            [bearer(&good), vec![("X-API-KEY", String::new())]].concat(),
            ambiguous,
        ),
        ("two tokens", [bearer(&good), bearer(&good)].concat(), ambiguous),
        ("two tokens, the first bad", [bearer("m4rker"), bearer(&good)].concat(), ambiguous),
        ("two tokens in one", authorization(&format!("Bearer {good}, Bearer {good}")), invalid),
    ];
    for (what, headers, expected) in rows {
        for request in [
            Request::get(secret(GOOD)),
            Request::get(secret("m4rker-absent")),
            Request::put(secret(TARGET), r#"{"value":"m4rker hush"}"#),
            Request::delete(secret(GOOD)),
            Request::get("/api/dev/secrets"),
        ] {
            let with =
                |request: Request, (name, value): &(&str, String)| request.header(name, value);
            let request = headers.iter().fold(request, with);
            bench.hold_bare(what, &request, expected);
        }
    }
    assert_eq!(bench.status(TARGET), 404);
    for value in [format!("bearer {good}"), format!("BEARER   {good}  ")] {
        let get = Request::get(secret(GOOD)).header("Authorization", &value);
        bench.hold_bare("the scheme has no case", &get, Done(200));
    }
    bench.log_tells_nothing();
}

#[test]
fn a_header_that_is_not_text_is_refused() {
    let mut bench = Bench::new();
    for (bytes, status) in [(&b"Bearer m4rker\xff"[..], 401), (b"Bearer m4rker\0", 400)] {
        let head = b"GET /api/dev/secrets/m4rker HTTP/1.1\r\nHost: x\r\nAuthorization: ".as_slice();
        let raw = [head, bytes, b"\r\n\r\n"].concat();
        assert_eq!(bench.dev.client().send_raw(&raw).unwrap().status, status);
        bench.goes_on("a header that is not text");
    }
    bench.log_tells_nothing();
}

#[test]
fn a_credential_without_the_scope_is_refused() {
    let mut bench = Bench::new();
    let (read, write) = (bench.mint("dev", &["Secret.Read"]), bench.mint("dev", &["Secret.Write"]));
    let forbidden = Problem(403, "forbidden", None);
    for path in [secret(GOOD), secret("m4rker-absent"), "/api/dev/secrets".to_owned()] {
        bench.hold_bare("to read", &Request::get(&path).bearer(&write), forbidden);
    }
    for name in [GOOD, "m4rker-absent"] {
        let put = Request::put(secret(name), r#"{"value":"m4rker hush"}"#);
        bench.hold_bare("to write", &put.bearer(&read), forbidden);
        bench.hold_bare("to delete", &Request::delete(secret(name)).bearer(&read), forbidden);
        // Rights come before the body: a stranger's is not read.
        let huge = Request::put(secret(name), vec![b'x'; 1_000_000]).bearer(&read);
        bench.hold_bare("to write much", &huge, forbidden);
    }
    bench.hold_bare("to read", &Request::get(secret(GOOD)).bearer(&read), Done(200));
    let put = Request::put(secret(TARGET), r#"{"value":"m4rker hush"}"#);
    bench.hold_bare("to write", &put.bearer(&write), Done(204));
    bench.log_tells_nothing();
}

/// What one narrowed token may do with the names below.
struct Narrowed {
    source: &'static str,
    reads: &'static [&'static str],
    writes: &'static [&'static str],
    /// `None`: it may not list.
    lists: Option<&'static [&'static str]>,
}

const NAMES: &[&str] = &["m4rker-ci-a", "m4rker-ci-b", "m4rker-prod"];
const CI: &[&str] = &["m4rker-ci-a", "m4rker-ci-b"];
const A: &[&str] = &["m4rker-ci-a"];
const NOTHING: &[&str] = &[];

#[test]
fn a_documented_check_narrows_and_nothing_else_is_let_pass() {
    let mut bench = Bench::new();
    let body = r#"{"value":"m4rker good"}"#;
    let mut client = bench.dev.client();
    client.send(&Request::delete(secret(GOOD)).bearer(&bench.token));
    for name in NAMES {
        client.send(&Request::put(secret(name), body).bearer(&bench.token));
    }
    let all = Some(NAMES);
    #[rustfmt::skip]
    let rows = [
        Narrowed { source: r#"check if operation("read")"#, reads: NAMES, writes: NOTHING, lists: all },
        Narrowed { source: r#"check if operation("write")"#, reads: NOTHING, writes: NAMES, lists: None },
        Narrowed { source: r#"check if operation("m4rker")"#, reads: NOTHING, writes: NOTHING, lists: None },
        Narrowed { source: r#"check if operation($o), ["read", "write"].contains($o)"#, reads: NAMES, writes: NAMES, lists: all },
        Narrowed { source: r#"check if operation($o), {"write"}.contains($o)"#, reads: NOTHING, writes: NAMES, lists: None },
        Narrowed { source: r#"check if resource("m4rker-ci-a")"#, reads: A, writes: A, lists: Some(A) },
        Narrowed { source: r#"check if resource("M4RKER-ci-a")"#, reads: NOTHING, writes: NOTHING, lists: Some(NOTHING) },
        Narrowed { source: r#"check if resource($r), $r.starts_with("m4rker-ci-")"#, reads: CI, writes: CI, lists: Some(CI) },
        Narrowed { source: r#"check if resource($r), $r.starts_with("")"#, reads: NAMES, writes: NAMES, lists: all },
        Narrowed { source: r#"check if resource($r), ["m4rker-ci-a", "m4rker-ci-b"].contains($r)"#, reads: CI, writes: CI, lists: Some(CI) },
        Narrowed { source: r#"check if resource($r), {"m4rker-ci-a", "m4rker-x"}.contains($r)"#, reads: A, writes: A, lists: Some(A) },
        Narrowed { source: "check if time($t), $t < 2090-01-01T00:00:00Z", reads: NAMES, writes: NAMES, lists: all },
        Narrowed { source: "check if time($t), $t <= 2001-01-01T00:00:00Z", reads: NOTHING, writes: NOTHING, lists: None },
        Narrowed { source: "check if time($t), $t > 2001-01-01T00:00:00Z", reads: NAMES, writes: NAMES, lists: all },
        Narrowed { source: "check if time($t), $t >= 2090-01-01T00:00:00Z", reads: NOTHING, writes: NOTHING, lists: None },
        Narrowed { source: r#"check if resource("m4rker-ci-a") or operation("write")"#, reads: A, writes: NAMES, lists: Some(A) },
        Narrowed { source: r#"check if operation("read"); check if resource($r), $r.starts_with("m4rker-ci-")"#, reads: CI, writes: NOTHING, lists: Some(CI) },
        Narrowed { source: r#"check if operation("read"); check if operation("write")"#, reads: NOTHING, writes: NOTHING, lists: None },
    ];
    for Narrowed { source, reads, writes, lists } in rows {
        let token = narrowed(&bench.token, source);
        for token in [sealed(&token), token] {
            bench.sent_tokens.push(token.clone());
            for name in NAMES {
                let may =
                    |allowed: &[&str], status| if allowed.contains(name) { status } else { 403 };
                let answer = client.send(&Request::get(secret(name)).bearer(&token));
                assert_eq!(answer.status, may(reads, 200), "GET {name}: {source}");
                let put = Request::put(secret(name), body).bearer(&token);
                assert_eq!(client.send(&put).status, may(writes, 204), "PUT {name}: {source}");
            }
            let list = client.send(&Request::get("/api/dev/secrets").bearer(&token));
            match lists {
                Some(names) => assert_eq!(list.json(), serde_json::json!(names), "{source}"),
                None => {
                    assert_eq!((list.status, list.code()), (403, "forbidden".into()), "{source}")
                }
            }
        }
    }
    // A second block takes away from the first, and gives nothing back.
    let both = narrowed(&bench.token, r#"check if resource("m4rker-ci-a")"#);
    let both = narrowed(&both, r#"check if resource($r), ["m4rker-ci-b"].contains($r)"#);
    let list = client.send(&Request::get("/api/dev/secrets").bearer(&both));
    assert_eq!(list.json(), serde_json::json!([]));
    bench.sent_tokens.push(both);
    client.send(&Request::put(secret(GOOD), body).bearer(&bench.token));
    bench.log_tells_nothing();
}

#[test]
fn an_undocumented_block_refuses_the_whole_token() {
    let mut bench = Bench::new();
    let token = bench.token.clone();
    let check = r#"check if operation("read");"#;
    let in_blocks = |counts: &[usize]| {
        counts.iter().fold(token.clone(), |token, count| narrowed(&token, &check.repeat(*count)))
    };
    let context = biscuit_auth::BlockBuilder::new().code(check).unwrap();
    let context = context.context("m4rker".to_owned());
    let mut refused = vec![
        in_blocks(&[1, 1, 1, 1]),
        in_blocks(&[17]),
        in_blocks(&[8, 9]),
        tokens::with_third_party_block(&token, check),
        append(&token, context),
    ];
    for source in [
        r#"scope("*");"#,
        r#"tenant("other");"#,
        r#"operation("read");"#,
        r#"resource("m4rker") <- operation("read");"#,
        r#"check if tenant("dev")"#,
        r#"check if true"#,
        r#"check if client_ip("127.0.0.1")"#,
        r#"check if resource($r), $r.ends_with("d")"#,
        r#"check if resource($r), $r.matches("m4rker.*")"#,
        r#"check if resource($r), $r == "m4rker-good""#,
        r#"check if operation("read"), resource("m4rker-good")"#,
        r#"check if resource($r), ["m4rker"].any($x -> $x == $r)"#,
        r#"check if operation("read") or true"#,
        r#"check all operation("read")"#,
        r#"reject if operation("write")"#,
        r#"check if operation("read") trusting previous"#,
        "check if time($t), $t > 2001-01-01T00:00:00Z, $t < 2090-01-01T00:00:00Z",
    ] {
        refused.push(narrowed(&token, source));
        refused.push(sealed(refused.last().unwrap()));
    }
    for token in refused {
        let shape = Problem(401, "token_shape", None);
        bench.sent_tokens.push(token.clone());
        for request in [Request::get(secret(GOOD)), Request::delete(secret(GOOD))] {
            bench.hold_bare("a block", &request.bearer(&token), shape);
        }
    }
    for honoured in [in_blocks(&[1, 1, 1]), in_blocks(&[16]), sealed(&token)] {
        bench.hold_bare("within", &Request::get(secret(GOOD)).bearer(&honoured), Done(200));
    }
    bench.log_tells_nothing();
}

fn tenant_id(dev: &Dev, tenant: &str) -> String {
    let output = dev.run(&["--json", "tenant", "list"]);
    let reply: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let tenants = reply["tenants"].as_array().unwrap();
    let row = tenants.iter().find(|row| row["name"] == tenant).unwrap();
    row["id"].as_str().unwrap().to_owned()
}

fn expired_token(bench: &mut Bench) -> String {
    let args = ["token", "mint", "--tenant", "dev", "--scope", "*", "--ttl", "1s"];
    let output = bench.dev.run(&args);
    assert_eq!(output.code, Some(0), "{output:?}");
    let token = output.stdout.trim().to_owned();
    bench.sent_tokens.push(token.clone());
    let get = Request::get(secret(GOOD)).bearer(&token);
    let begun = Instant::now();
    while bench.steady.send(&get).status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the token does not expire");
        std::thread::sleep(Duration::from_millis(20));
    }
    token
}

/// One bit of the last signature is another.
fn flipped(token: &str) -> String {
    let at = token.len() - 12;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}
