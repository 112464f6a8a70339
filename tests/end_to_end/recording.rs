//! What is recorded of requests that change nothing: reads, refusals, and credentials that
//! were none.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{
    Client, Inside, Operated, Output, Request, Serve, eventually, init, maintain, secret,
};

const VALUE: &str = "kept to itself";

fn query(data: &Path, args: &[&str]) -> Vec<Value> {
    let output = maintain(data, &[["audit", "query", "--json"].as_slice(), args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let entry = |line| serde_json::from_str(line).expect("an entry is JSON");
    output.stdout.lines().map(entry).collect()
}

/// Operation, what it was about, result.
fn said(entry: &Value) -> String {
    let text = |member: &str| entry[member].as_str().unwrap_or("-").to_owned();
    let about = text(if entry["name"].is_null() { "tenant" } else { "name" });
    [text("op"), about, text("result")].join(" ")
}

fn all_said(entries: &[Value]) -> Vec<String> {
    let mut all: Vec<_> = entries.iter().map(said).collect();
    all.sort();
    all
}

/// A store with tenants `acme` and `beta`.
fn two_tenants(folder: &Path) -> std::path::PathBuf {
    let data = init(folder);
    for tenant in ["acme", "beta"] {
        assert_eq!(maintain(&data, &["tenant", "create", tenant]).code, Some(0));
    }
    data
}

fn serving(data: &Path, reads: &str) -> Serve {
    Serve::start_with(data, |command| {
        command.arg("--data").arg(data).env("TENURE_AUDIT_READS", reads);
    })
}

fn mint(serve: &Serve, tenant: &str, scope: &str) -> String {
    let minted: Output = serve.run(&["token", "mint", "--tenant", tenant, "--scope", scope]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

fn path(tenant: &str, name: &str) -> String {
    format!("/api/{tenant}/secrets/{name}")
}

/// What a request is answered with, and what is then in the chain of acme, if anything.
type Case = (Request, u16, Option<&'static str>);

fn cases() -> Vec<Case> {
    let get = |name: &str| Request::get(path("acme", name));
    let put = |name: &str, body: &str| Request::put(path("acme", name), body);
    let list = |query: &str| Request::get(format!("/api/acme/secrets{query}"));
    let value = json!({ "value": VALUE }).to_string();
    let huge = json!({ "value": "x".repeat(70_000) }).to_string();
    let two = r#"{"secrets":[{"name":"a","value":"1","ifMatch":"*"},{"name":"b","value":"2"}]}"#;
    let past = r#"{"value":"x","expiresOn":"2020-01-01T00:00:00Z"}"#;
    vec![
        (put("db", &value), 204, Some("secret.write db ok")),
        (put("nul", r#"{"value":null}"#), 204, Some("secret.write nul ok")),
        (put("old", past), 204, Some("secret.write old ok")),
        (get("db"), 200, Some("secret.read db ok")),
        (Request::new("HEAD", path("acme", "db")), 200, Some("secret.read db ok")),
        (get("none"), 404, Some("secret.read none not_found")),
        (get("old"), 404, Some("secret.read old not_found")),
        (get("a%20b"), 400, Some("secret.read - invalid_name")),
        (get("nul").header("Accept", "text/plain"), 406, Some("secret.read nul not_acceptable")),
        (list(""), 200, Some("secret.list - ok")),
        (list("?limit=1"), 200, Some("secret.list - ok")),
        (list("?limt=1"), 400, Some("secret.list - validation_failed")),
        (put("db", "{"), 400, Some("secret.write db malformed_json")),
        (put("db", "{}"), 400, Some("secret.write db validation_failed")),
        (put("db", &huge), 413, Some("secret.write db value_too_large")),
        (
            put("db", &value).header("If-None-Match", "*"),
            412,
            Some("secret.write db precondition_failed"),
        ),
        (
            Request::new("PUT", path("acme", "db")).body(value.clone()),
            415,
            Some("secret.write db unsupported_media_type"),
        ),
        (Request::post("/api/acme/secrets", two), 412, Some("secret.write - precondition_failed")),
        (Request::delete(path("acme", "none")), 404, Some("secret.delete none not_found")),
        // One that has expired is removed, with its entry, and answered so too.
        (Request::delete(path("acme", "old")), 404, Some("secret.delete old not_found")),
        (Request::get(path("beta", "db")), 403, Some("secret.read db forbidden")),
        (Request::get(path("no-such-tenant", "db")), 403, Some("secret.read db forbidden")),
        (Request::get("/api/nowhere"), 404, None),
        (Request::new("PATCH", path("acme", "db")), 405, None),
    ]
}

#[test]
fn each_read_and_each_refusal_leaves_one_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let serve = serving(&data, "buffered");
    let token = mint(&serve, "acme", "*");
    let mut client = Client::new(serve.address);
    let (mut expected, mut ids) = (Vec::new(), Vec::new());
    for (number, (request, status, entry)) in cases().into_iter().enumerate() {
        let id = format!("r-{number}");
        let request = request.bearer(&token).header("X-Request-Id", &id);
        let answer = client.send(&request);
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        ids.extend(entry.map(|_| id));
        expected.extend(entry.map(str::to_owned));
    }
    let write_only = mint(&serve, "acme", "Secret.Write");
    let answer = client.send(&Request::get(path("acme", "db")).bearer(&write_only));
    assert_eq!(answer.status, 403);
    expected.push("secret.read db forbidden".to_owned());
    // All that waits is stored at a stop in good order.
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let found = query(&data, &["--tenant", "acme"]);
    expected.sort();
    assert_eq!(all_said(&found), expected);
    let mut of_requests: Vec<_> =
        found.iter().filter_map(|entry| entry["request"].as_str()).collect();
    of_requests.retain(|id| id.starts_with("r-"));
    of_requests.sort_by_key(|id| id[2..].parse::<usize>().expect("a number"));
    assert_eq!(of_requests, ids);
    // Whichever tenant was asked for, and whether or not there is one.
    let details: Vec<_> = found.iter().filter_map(|entry| entry["detail"].as_str()).collect();
    assert_eq!(details, ["asked for tenant beta", "asked for tenant no-such-tenant"]);
    assert_eq!(query(&data, &["--tenant", "beta"]), [] as [Value; 0]);
    for entry in found.iter().chain(&query(&data, &[])) {
        let entry = entry.to_string();
        for secret in [VALUE, &token, &write_only] {
            assert!(!entry.contains(secret), "{entry}");
        }
    }
    assert_eq!(maintain(&data, &["verify"]).code, Some(0));
}

#[test]
fn calls_on_api_keys_and_looks_of_operators_are_in_the_systems_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let serve = serving(&data, "buffered");
    let token = mint(&serve, "acme", "*");
    let keys = "/api/acme/api-keys";
    let one = format!("{keys}/0123456789abcdef");
    let mut client = Client::new(serve.address);
    for (request, status) in [
        (Request::get(keys), 200),
        (Request::get(&one), 404),
        (Request::delete(&one), 404),
        (Request::post(keys, r#"{"scopes":[]}"#), 400),
        (Request::post(keys, r#"{"scopes":["Secret.Read"]}"#), 201),
        (Request::get("/api/beta/api-keys"), 403),
    ] {
        let answer = client.send(&request.bearer(&token));
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(serve.run(&["tenant", "list"]).code, Some(0));
    assert_eq!(serve.run(&["tenant", "show", "none"]).code, Some(3));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let found = query(&data, &[]);
    let expected = [
        "api_key.create acme ok",
        "api_key.create acme validation_failed",
        "api_key.list acme forbidden",
        "api_key.list acme ok",
        "api_key.revoke acme api_key_not_found",
        "api_key.show acme api_key_not_found",
        "start - ok",
        "tenant.create acme ok",
        "tenant.create beta ok",
        "tenant.list - ok",
        "tenant.show none not_found",
        "token.mint acme ok",
    ];
    assert_eq!(all_said(&found), expected);
    let shown = found.iter().find(|entry| entry["op"] == "api_key.show").expect("it is there");
    assert_eq!(shown["detail"], "0123456789abcdef");
    let beta = found.iter().find(|entry| entry["result"] == "forbidden").expect("it is there");
    assert_eq!(beta["detail"], "asked for tenant beta");
    // Without a server they are recorded when the store is closed.
    assert_eq!(maintain(&data, &["token", "list"]).code, Some(0));
    let found = query(&data, &["--op", "token.list"]);
    assert_eq!(all_said(&found), ["token.list - ok"]);
    assert_eq!(found[0]["by"], "local");
}

#[test]
fn a_buffered_read_is_on_disk_within_a_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let serve = serving(&data, "buffered");
    let token = mint(&serve, "acme", "*");
    assert_eq!(serve.send(&Request::get(path("acme", "none")).bearer(&token)).status, 404);
    let since = Instant::now();
    let found = eventually("the entry", || {
        Some(query(&data, &["--tenant", "acme"])).filter(|found| !found.is_empty())
    });
    assert_eq!(all_said(&found), ["secret.read none not_found"]);
    // A command takes its time to start, which may be long on a busy machine.
    println!("seen {} ms after the answer", since.elapsed().as_millis());
    serve.kill();
    assert_eq!(query(&data, &["--tenant", "acme"]), found, "it was durable");
}

#[test]
fn a_durable_read_is_recorded_when_it_is_answered_whatever_comes_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    for round in 1..=3 {
        let serve = serving(&data, "durable");
        let token = mint(&serve, "acme", "*");
        let mut client = Client::new(serve.address);
        let put = Request::put(path("acme", "db"), json!({ "value": VALUE }).to_string());
        assert_eq!(client.send(&put.bearer(&token)).status, 204);
        for _ in 0..5 {
            let answer = client.send(&Request::get(path("acme", "db")).bearer(&token));
            assert_eq!(answer.json(), VALUE);
        }
        let refused = client.send(&Request::get(path("beta", "db")).bearer(&token));
        assert_eq!(refused.status, 403);
        serve.kill();
        let found = query(&data, &["--tenant", "acme", "--op", "secret.read"]);
        assert_eq!(found.len(), round * 6, "{found:?}");
    }
    // Each of those services was cut off, and the next one says so.
    let of_system = query(&data, &[]);
    let gaps = of_system.iter().filter(|entry| entry["op"] == "gap").count();
    assert_eq!(gaps, 2, "{of_system:?}");
}

#[test]
fn a_stop_in_good_order_leaves_no_gap_and_kill_9_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    assert_eq!(serving(&data, "buffered").stop_by("TERM").0, Some(0));
    serving(&data, "buffered").kill();
    // A look at the folder is neither.
    assert_eq!(maintain(&data, &["status"]).code, Some(0));
    assert_eq!(serving(&data, "off").stop_by("INT").0, Some(0));
    assert_eq!(serving(&data, "buffered").stop_by("TERM").0, Some(0));
    let found: Vec<_> = query(&data, &[]).iter().map(said).collect();
    let expected = ["start - ok", "start - ok", "gap - ok", "start - ok", "start - ok"];
    assert_eq!(found, expected);
}

#[test]
fn where_reads_are_off_refusals_are_recorded_still_and_a_reload_begins_with_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let config = folder.path().join("tenure.toml");
    let write = |reads: &str| {
        let text = format!(
            "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[kek]\nfile = \"data.kek\"\n[audit]\n\
             reads = \"{reads}\"\n"
        );
        std::fs::write(&config, text).expect("a configuration");
    };
    write("off");
    let serve = Serve::start_with(&data, |command| {
        command.arg("--config").arg(&config);
    });
    let token = mint(&serve, "acme", "*");
    let mut client = Client::new(serve.address);
    let list = || Request::get("/api/acme/secrets").bearer(&token);
    assert_eq!(client.send(&list()).status, 200);
    assert_eq!(client.send(&Request::get(path("beta", "x")).bearer(&token)).status, 403);
    write("buffered");
    serve.signal("HUP");
    eventually("the reload", || serve.log().contains("changed audit.reads").then_some(()));
    assert_eq!(client.send(&list()).status, 200);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let found: Vec<_> = query(&data, &["--tenant", "acme"]).iter().map(said).collect();
    assert_eq!(found, ["secret.read x forbidden", "secret.list - ok"]);
}

/// With more to be left free than any disk has, nothing can be appended.
#[test]
fn what_cannot_be_recorded_is_not_read_where_it_must_be_and_counted_where_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let serve = serving(&data, "buffered");
    let token = mint(&serve, "acme", "*");
    let put = Request::put(path("acme", "db"), json!({ "value": VALUE }).to_string());
    assert_eq!(serve.send(&put.bearer(&token)).status, 204);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let full = |reads: &str| {
        Serve::start_with(&data, |command| {
            command.arg("--data").arg(&data).env("TENURE_AUDIT_READS", reads);
            command.env("TENURE_STORE_FULL_FLOOR_BYTES", "1000TiB");
        })
    };
    let get = || Request::get(path("acme", "db")).bearer(&token);
    let serve = full("durable");
    let refused = serve.send(&get());
    assert_eq!((refused.status, refused.code().as_str()), (503, "audit_unavailable"));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(!refused.text().contains(VALUE));
    let forbidden = serve.send(&Request::delete(path("beta", "db")).bearer(&token));
    assert_eq!(forbidden.code(), "forbidden", "a refusal stays what it is");
    assert_ne!(serve.stop_by("TERM").0, None);
    let serve = full("buffered");
    for _ in 0..3 {
        assert_eq!(serve.send(&get()).json(), VALUE);
    }
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("entries of the audit were not stored"), "{log}");
    let found: Vec<_> = query(&data, &["--tenant", "acme"]).iter().map(said).collect();
    assert_eq!(found, ["secret.write db ok"]);
    // What could not be said in its chain is said by the next start.
    assert_eq!(serving(&data, "buffered").stop_by("TERM").0, Some(0));
    let of_system: Vec<_> = query(&data, &[]).iter().map(said).collect();
    assert_eq!(of_system[of_system.len() - 2..], ["gap - ok", "start - ok"], "{of_system:?}");
}

#[test]
fn refused_credentials_are_summed_by_the_address_that_a_proxy_tells() {
    let inside = Inside::start_with(|options| {
        options.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
    });
    inside.create_tenant("acme");
    let token = inside.mint_for("acme", &["*"], 60);
    let get = || Request::get(path("acme", "db"));
    let from = |address: &str, request: Request| {
        let answer = inside.send(&request.header("X-Forwarded-For", address));
        answer.status
    };
    let before = inside.audit(None).len();
    for _ in 0..3 {
        assert_eq!(from("192.0.2.1", get()), 401);
    }
    assert_eq!(from("192.0.2.1", get().bearer("garbage")), 401);
    assert_eq!(from("2001:db8::2", get().api_key("garbage")), 401);
    assert_eq!(from("2001:db8::2", get().api_key("a").bearer("b")), 400);
    assert_eq!(from("192.0.2.3", get().bearer(&token)), 404);
    inside.pass(61);
    assert_eq!(from("192.0.2.3", get().bearer(&token)), 401);
    inside.record();
    let mut found: Vec<_> = inside.audit(None)[before..]
        .iter()
        .map(|entry| {
            let text = |member: &str| entry[member].as_str().unwrap_or("-").to_owned();
            [text("from"), text("op"), text("result"), text("by"), text("detail")].join(" ")
        })
        .collect();
    found.sort();
    let expected = [
        "192.0.2.1 credential.refused credential_invalid stranger once: malformed",
        "192.0.2.1 credential.refused credential_missing stranger 3 times: credential_missing",
        "192.0.2.3 credential.refused token_expired stranger once: expired",
        "2001:db8::2 credential.refused ambiguous_credential stranger once: ambiguous_credential",
        "2001:db8::2 credential.refused credential_invalid stranger once: api_key",
    ];
    assert_eq!(found, expected);
    let of_acme = inside.audit(Some("acme"));
    assert_eq!(all_said(&of_acme), ["secret.read db not_found"]);
    assert_eq!(of_acme[0]["from"], "192.0.2.3");
}

#[test]
fn recorded_reads_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = two_tenants(folder.path());
    let serve = Serve::start_with(&data, |command| {
        command.arg("--data").arg(&data).env("TENURE_METRICS_LISTEN", "127.0.0.1:0");
    });
    let at = "http://";
    let metrics = eventually("the metrics", || {
        let log = serve.log();
        let line = log.lines().find(|line| line.contains("/metrics"))?;
        line.rsplit_once(at)?.1.split('/').next()?.parse().ok()
    });
    let token = mint(&serve, "acme", "*");
    let mut client = Client::new(serve.address);
    for _ in 0..7 {
        let get = Request::get(secret("none").replace("/dev/", "/acme/")).bearer(&token);
        assert_eq!(client.send(&get).status, 404);
    }
    let value = |name: &str| {
        let text = Client::new(metrics).send(&Request::get("/metrics")).text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?.to_owned();
        line.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    eventually("seven entries", || {
        value("tenure_audit_recorded_total").filter(|recorded| *recorded >= 7.0)
    });
    assert_eq!(value("tenure_audit_recorded_total"), Some(7.0));
    assert_eq!(value("tenure_audit_lost_total"), Some(0.0));
    eventually("an empty queue", || value("tenure_audit_queue_bytes").filter(|b| *b == 0.0));
    assert_eq!(value("tenure_audit_queue_age_seconds"), Some(0.0));
}
