//! API keys over HTTP and by the command line, against the real program.

use serde_json::{Value, json};

use crate::support::bench::{Bench, Done, GOOD, Problem, TARGET};
use crate::support::tokens::narrowed;
use crate::support::{Inside, Operated, Request, Serve, init, maintain, secret};

const KEYS: &str = "/api/dev/api-keys";

fn key_path(id: &str) -> String {
    format!("{KEYS}/{id}")
}

#[test]
fn an_api_key_opens_what_its_scopes_say_and_no_log_tells_it() {
    let mut bench = Bench::new();
    let key = |bench: &mut Bench, scopes: &[&str]| {
        let key = bench.dev.api_key("dev", scopes);
        bench.sent_tokens.push(key.key.clone());
        key
    };
    let (read, write) = (key(&mut bench, &["Secret.Read"]), key(&mut bench, &["Secret.Write"]));
    let all = key(&mut bench, &["*"]);
    let forbidden = Problem(403, "forbidden", None);
    let put = || Request::put(secret(TARGET), r#"{"value":"m4rker hush"}"#);
    for (key, reads, writes) in [
        (&read, Done(200), forbidden),
        (&write, forbidden, Done(204)),
        (&all, Done(200), Done(204)),
    ] {
        bench.hold_bare("get", &Request::get(secret(GOOD)).api_key(&key.key), reads);
        bench.hold_bare("list", &Request::get("/api/dev/secrets").api_key(&key.key), reads);
        bench.hold_bare("put", &put().api_key(&key.key), writes);
        bench.hold_bare("delete", &Request::delete(secret(TARGET)).api_key(&key.key), writes);
        bench.hold_bare(
            "another tenant",
            &Request::get("/api/x/secrets").api_key(&key.key),
            forbidden,
        );
        bench.hold_bare("manage", &Request::get(KEYS).api_key(&key.key), forbidden);
        let both = Request::get(secret(GOOD)).api_key(&key.key).bearer(&bench.token);
        bench.hold_bare("both", &both, Problem(400, "ambiguous_credential", None));
        let as_bearer = Request::get(secret(GOOD)).bearer(&key.key);
        bench.hold_bare("as a bearer", &as_bearer, Problem(401, "credential_invalid", None));
    }
    bench.dev.revoke_api_key(&read.id);
    let get = Request::get(secret(GOOD)).api_key(&read.key);
    bench.hold_bare("revoked", &get, Problem(401, "credential_invalid", None));
    bench.log_tells_nothing();
}

#[test]
fn an_administrator_makes_lists_and_revokes_keys_over_http() {
    let mut bench = Bench::new();
    let body =
        r#"{"scopes":["Secret.Read"],"name":"m4rker job","expiresOn":"2200-01-01T00:00:00Z"}"#;
    let made = bench.hold("create", Request::post(KEYS, body), Done(201));
    let made_json = made.json();
    let text = |field: &str| made_json[field].as_str().expect("a text").to_owned();
    let (id, key) = (text("id"), text("key"));
    bench.sent_tokens.push(key.clone());
    assert_eq!(made.header("location"), Some(format!("api-keys/{id}").as_str()));
    assert!(key.starts_with(&format!("tnr_{id}_")) && key.len() == 64, "{made:?}");
    let mut view = json!({
        "id": id, "name": "m4rker job", "scopes": ["Secret.Read"], "createdOn": text("createdOn"),
        "expiresOn": "2200-01-01T00:00:00Z", "lastUsedOn": null,
    });
    let shown = bench.hold("show", Request::get(key_path(&id)), Done(200));
    assert_eq!(shown.json(), view);
    let listed = bench.hold("list", Request::get(KEYS), Done(200));
    assert_eq!(listed.json(), json!([view]));
    bench.hold_bare("use", &Request::get(secret(GOOD)).api_key(&key), Done(200));
    let used = bench.hold("show", Request::get(key_path(&id)), Done(200)).json();
    assert!(used["lastUsedOn"].as_str().is_some_and(|at| at.ends_with(":00:00Z")), "{used}");
    view["lastUsedOn"] = used["lastUsedOn"].clone();
    assert_eq!(used, view);
    bench.hold("revoke", Request::delete(key_path(&id)), Done(204));
    let get = Request::get(secret(GOOD)).api_key(&key);
    bench.hold_bare("revoked", &get, Problem(401, "credential_invalid", None));
    let gone = Problem(404, "api_key_not_found", None);
    for request in [Request::delete(key_path(&id)), Request::get(key_path(&id))] {
        bench.hold("again", request, gone);
    }
    bench.log_tells_nothing();
}

#[test]
fn a_bad_request_for_a_key_says_what_is_wrong_and_makes_none() {
    let mut bench = Bench::new();
    let invalid = |field| Problem(400, "validation_failed", Some(field));
    for (what, body, expected) in [
        ("no scope", r#"{"scopes":[]}"#, invalid("scopes")),
        ("a misspelt scope", r#"{"scopes":["m4rker"]}"#, invalid("scopes")),
        ("the server's", r#"{"scopes":["Server.Admin"]}"#, invalid("scopes")),
        ("one string", r#"{"scopes":"*"}"#, invalid("scopes")),
        ("past", r#"{"scopes":["*"],"expiresOn":"2001-01-01T00:00:00Z"}"#, invalid("expiresOn")),
        ("no time", r#"{"scopes":["*"],"expiresOn":"m4rker"}"#, invalid("expiresOn")),
        ("an empty name", r#"{"scopes":["*"],"name":""}"#, invalid("name")),
        ("a name that steers", r#"{"scopes":["*"],"name":"m4rker\u202e"}"#, invalid("name")),
        ("a misspelt property", r#"{"scopes":["*"],"m4rker":1}"#, invalid("m4rker")),
        ("no object", "[]", invalid("body")),
        ("no JSON", "{m4rker", Problem(400, "malformed_json", None)),
        ("no body", "", Problem(400, "malformed_json", None)),
    ] {
        bench.hold(what, Request::post(KEYS, body), expected);
    }
    let huge = format!(r#"{{"scopes":["*"],"name":"{}"}}"#, "m4rker".repeat(1_000));
    bench.hold("huge", Request::post(KEYS, huge), Problem(413, "body_too_large", None));
    let form = Request::new("POST", KEYS).header("Content-Type", "text/plain").body("m4rker");
    bench.hold("a form", form, Problem(415, "unsupported_media_type", None));
    for id in ["m4rker", "0123456789ABCDEF", "0123456789abcde", "%00"] {
        for request in [Request::get(key_path(id)), Request::delete(key_path(id))] {
            bench.hold("an id", request, Problem(400, "invalid_name", Some("id")));
        }
    }
    for query in ["?limit=0", "?after=m4rker", "?m4rker=1", "?limit=1&limit=2"] {
        let list = Request::get(format!("{KEYS}{query}"));
        bench.hold(query, list, Problem(400, "validation_failed", None));
    }
    let put = Request::put(KEYS, "{}");
    bench.hold("another method", put, Problem(405, "method_not_allowed", None));
    assert_eq!(bench.hold("list", Request::get(KEYS), Done(200)).json(), json!([]));
    bench.log_tells_nothing();
}

#[test]
fn who_may_not_manage_is_refused_alike_whatever_there_is() {
    let inside = Inside::start();
    inside.create_tenant("acme");
    inside.create_tenant("beta");
    let all = inside.mint("acme", &["*"]);
    let tokens = [
        inside.mint("acme", &["Secret.Read", "Secret.Write"]),
        narrowed(&all, "check if time($t), $t < 2200-01-01T00:00:00Z"),
        narrowed(&all, ""),
        inside.mint("beta", &["*"]),
    ];
    let keys = [inside.api_key("acme", &["*"]).key, inside.api_key("beta", &["*"]).key];
    let there = inside.api_key("acme", &["Secret.Read"]).id;
    let ask = |id: &str| {
        let requests = [
            Request::post("/api/acme/api-keys", r#"{"scopes":["Secret.Read"]}"#),
            Request::get("/api/acme/api-keys"),
            Request::get(format!("/api/acme/api-keys/{id}")),
            Request::delete(format!("/api/acme/api-keys/{id}")),
        ];
        let with = |request: &Request| {
            let bearers = tokens.iter().map(|token| request.clone().bearer(token));
            let all = bearers.chain(keys.iter().map(|key| request.clone().api_key(key)));
            all.collect::<Vec<_>>()
        };
        let asked = requests.iter().flat_map(with);
        asked.map(|request| inside.send(&request).comparable()).collect::<Vec<_>>()
    };
    let answers = ask(&there);
    for answer in &answers {
        assert_eq!((answer.status, answer.code()), (403, "forbidden".to_owned()));
        assert_eq!(answer.json()["detail"], answers[0].json()["detail"]);
    }
    let mut elsewhere = ask("00000000deadbeef");
    for answer in &mut elsewhere {
        answer.body =
            String::from_utf8_lossy(&answer.body).replace("00000000deadbeef", &there).into_bytes();
    }
    assert_eq!(elsewhere, answers);
    let still = Request::get(format!("/api/acme/api-keys/{there}")).bearer(&all);
    assert_eq!(inside.send(&still).status, 200);
}

#[test]
fn keys_are_listed_page_by_page_and_each_once() {
    let inside = Inside::start();
    inside.create_tenant("acme");
    let mut made: Vec<_> = (0..7).map(|_| inside.api_key("acme", &["Secret.Read"]).id).collect();
    made.sort();
    let token = inside.mint("acme", &["*"]);
    let (mut seen, mut target) = (Vec::new(), "/api/acme/api-keys?limit=3".to_owned());
    loop {
        let page = inside.send(&Request::get(&target).bearer(&token));
        let ids = page.json();
        let ids = ids.as_array().expect("an array").iter();
        seen.extend(ids.map(|key| key["id"].as_str().expect("an id").to_owned()));
        let Some(link) = page.header("link") else { break };
        let query = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        target = format!("/api/acme/api-keys{}", query.expect("a link"));
    }
    assert_eq!(seen, made);
}

#[test]
fn at_the_limit_a_key_is_refused_until_another_is_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start_with(&data, |command| {
        command.arg("--data").arg(&data).env("TENURE_API_KEYS_MAX_PER_TENANT", "2");
    });
    assert_eq!(serve.run(&["tenant", "create", "acme"]).code, Some(0));
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    let token = minted.stdout.trim();
    let create = || {
        let post = Request::post("/api/acme/api-keys", r#"{"scopes":["*"]}"#);
        serve.send(&post.bearer(token))
    };
    let (first, _) = (create().json(), create());
    let full = create();
    assert_eq!((full.status, full.code()), (409, "too_many_api_keys".to_owned()));
    let by_command = serve.run(&["api-key", "create", "--tenant", "acme", "--scope", "*"]);
    assert_eq!(by_command.code, Some(4), "{by_command:?}");
    assert!(by_command.stderr.contains("api_keys.max_per_tenant"), "{by_command:?}");
    let id = first["id"].as_str().expect("an id");
    assert_eq!(serve.run(&["api-key", "revoke", id]).code, Some(0));
    assert_eq!(create().status, 201);
}

#[test]
fn the_last_use_survives_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    assert_eq!(serve.run(&["tenant", "create", "acme"]).code, Some(0));
    let made = serve.run(&["api-key", "create", "--tenant", "acme", "--scope", "*"]);
    let list = Request::get("/api/acme/secrets").api_key(made.stdout.trim());
    assert_eq!(serve.send(&list).status, 200);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let listed = maintain(&data, &["api-key", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert!(listed["apiKeys"][0]["lastUsedOn"].is_string(), "{listed}");
}
