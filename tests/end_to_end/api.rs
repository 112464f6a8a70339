//! The calls as a client sees them: forms of a value, preconditions, headers, and
//! what the server says about itself.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenure::http::ROUTES;

use crate::support::tokens::narrowed;
use crate::support::{Answer, Client, Dev, Operated, Request, secret};

fn started() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Dev::start(&folder.path().join("data")), folder)
}

#[test]
fn what_is_put_is_read_listed_replaced_and_deleted() {
    let (dev, _folder) = started();
    let put = dev.put("db-password", "correct horse");
    put.assert_proper();
    assert_eq!((put.status, put.body.len()), (204, 0));
    let get = dev.get("db-password");
    get.assert_proper();
    assert_eq!((get.status, get.text()), (200, r#""correct horse""#.to_owned()));
    assert_eq!(get.header("content-type"), Some("application/json"));
    assert_eq!(get.header("etag"), put.header("etag"));
    let replaced = dev.put("db-password", "battery staple");
    assert_ne!(replaced.header("etag"), put.header("etag"));
    assert_eq!(dev.get("db-password").json(), "battery staple");
    assert_eq!(dev.put("DB-password", "another").status, 204);
    let list = dev.send(Request::get("/api/dev/secrets"));
    list.assert_proper();
    assert_eq!(list.text(), r#"["DB-password","db-password"]"#);
    assert_eq!(list.header("content-type"), Some("application/json"));
    let deleted = dev.send(Request::delete(secret("db-password")));
    deleted.assert_proper();
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(dev.get("db-password").code(), "not_found");
    assert_eq!(dev.send(Request::delete(secret("db-password"))).code(), "not_found");
    assert_eq!(dev.get("DB-password").json(), "another");
    assert_eq!(dev.send(Request::get("/api/dev/secrets")).json(), json!(["DB-password"]));
}

#[test]
fn a_value_has_two_forms_and_null_has_one() {
    let (dev, _folder) = started();
    let read = |method: &str, accept: &str| {
        let answer = dev.send(Request::new(method, secret("k")).header("Accept", accept));
        answer.assert_proper();
        answer
    };
    for value in ["plain", "", "ä😀", "q\"b\\n\n\u{1}\u{7f}\0 /", &"\u{1}".repeat(65_536)] {
        assert_eq!(dev.put("k", value).status, 204);
        let json = read("GET", "application/json");
        assert_eq!(json.json(), value);
        let text = read("GET", "text/plain");
        assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(text.text(), value);
        assert_eq!(read("GET", "text/plain;q=0.5, application/json;q=0.1").text(), value);
        assert_eq!(read("GET", "text/html, */*;q=0.1").json(), value);
        for (get, accept) in [(json, "application/json"), (text, "text/plain")] {
            let head = read("HEAD", accept);
            assert_eq!(head.body.len(), 0);
            let get = Answer { body: Vec::new(), ..get };
            assert_eq!(head.comparable(), get.comparable(), "but for its body, HEAD is GET");
        }
    }
    assert_eq!(read("GET", "image/png").code(), "not_acceptable");
    assert_eq!(dev.send(Request::put(secret("k"), r#"{"value":null}"#)).status, 204);
    assert_eq!(read("GET", "application/json").text(), "null");
    assert_eq!(read("GET", "text/plain").code(), "not_acceptable");
    assert_eq!(read("GET", "text/plain, application/json;q=0.1").status, 406);
}

#[test]
fn a_precondition_stops_a_write_that_would_overwrite_another() {
    let (dev, _folder) = started();
    let put = |name: &str, tag: &str| {
        let put = Request::put(secret("k"), json!({ "value": tag }).to_string());
        let answer = dev.send(put.header(name, tag));
        answer.assert_proper();
        answer
    };
    let etag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    assert_eq!(put("If-Match", "*").code(), "precondition_failed", "nothing is there");
    assert_eq!(put("If-Match", "\"1\"").code(), "precondition_failed");
    let first = put("If-None-Match", "*");
    assert_eq!(first.status, 204);
    assert_eq!(put("If-None-Match", "*").code(), "precondition_failed");
    let second = put("If-Match", &etag(&first));
    assert_eq!(second.status, 204);
    assert_eq!(put("If-Match", &etag(&first)).code(), "precondition_failed", "it has changed");
    assert_eq!(put("If-Match", &format!("W/{}", etag(&second))).status, 412, "weak never match");
    assert_eq!(dev.get("k").json(), etag(&first), "what was refused was not written");
    assert_eq!(put("If-Match", &format!("\"x\", {}", etag(&second))).status, 204);
    assert_eq!(put("If-Match", "*").status, 204);
    for (name, tag) in [
        ("If-Match", ""),
        ("If-Match", "7"),
        ("If-Match", "\"7"),
        ("If-None-Match", "\"7\""),
        ("If-None-Match", ""),
    ] {
        assert_eq!(put(name, tag).code(), "invalid_precondition", "{name}: {tag}");
    }
    let delete = |tag: &str| dev.send(Request::delete(secret("k")).header("If-Match", tag)).status;
    assert_eq!(delete(&etag(&second)), 412);
    assert_eq!(delete(&etag(&dev.get("k"))), 204);
    assert_eq!(delete("*"), 412);
    // Versions are never used again, or an old tag would match what came after.
    let again = dev.put("k", "again");
    assert_ne!(etag(&again), etag(&first));
    assert_eq!(put("If-Match", &etag(&second)).status, 412);
}

#[test]
fn of_many_that_create_one_wins() {
    const WRITERS: usize = 16;
    let (dev, _folder) = started();
    for round in 0..5 {
        let path = secret(&format!("once-{round}"));
        let start = Barrier::new(WRITERS);
        let answers: Vec<_> = thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (start, dev, path) = (&start, &dev, &path);
                    scope.spawn(move || {
                        let put =
                            Request::put(path, json!({ "value": writer.to_string() }).to_string());
                        let put = put.header("If-None-Match", "*");
                        start.wait();
                        (writer, dev.send(put).status)
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let won: Vec<_> = answers.iter().filter(|(_, status)| *status == 204).collect();
        assert!(answers.iter().all(|(_, status)| [204, 409, 412].contains(status)), "{answers:?}");
        assert_eq!(won.len(), 1, "{answers:?}");
        assert_eq!(dev.send(Request::get(path)).json(), won[0].0.to_string());
    }
}

#[test]
fn a_request_id_is_taken_over_if_it_is_plain_and_stays_out_of_the_body() {
    let (dev, _folder) = started();
    let mut client = dev.client();
    let mut with = |id: &str| {
        let answer = client.send(&Request::get(secret("k")).header("X-Request-Id", id));
        answer.assert_proper();
        (answer.header("x-request-id").unwrap().to_owned(), answer.comparable())
    };
    let longest = "i".repeat(64);
    let bodies: Vec<_> = ["a", "7.x_Y-z", &longest]
        .map(|id| {
            let (returned, answer) = with(id);
            assert_eq!(returned, id);
            answer
        })
        .to_vec();
    assert!(bodies.iter().all(|answer| *answer == bodies[0]), "{bodies:?}");
    let mut fresh = BTreeSet::new();
    for id in ["", "a b", "a;b", "ä", "a\"b", "<a>", &"i".repeat(65), &"i".repeat(5_000)] {
        let (returned, answer) = with(id);
        assert_ne!(returned, id);
        assert!(fresh.insert(returned), "a fresh one is new");
        assert_eq!(answer, bodies[0], "equal refusals are equal bytes");
    }
    let twice = Request::get("/healthz").header("X-Request-Id", "a").header("X-Request-Id", "b");
    let returned = dev.client().send(&twice);
    assert!(!["a", "b"].contains(&returned.header("x-request-id").unwrap()));
}

#[test]
fn a_server_says_that_it_is_up_and_ready() {
    let (dev, _folder) = started();
    for (path, status) in [("/healthz", "up"), ("/readyz", "ready")] {
        let answer = dev.client().send(&Request::get(path));
        answer.assert_proper();
        assert_eq!((answer.status, answer.json()), (200, json!({ "status": status })));
    }
}

#[test]
fn a_token_is_verified_by_a_published_key() {
    let (dev, _folder) = started();
    let answer = dev.client().send(&Request::get("/.well-known/biscuit-keys"));
    answer.assert_proper();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let keys = answer.json();
    assert_eq!(keys.as_array().unwrap().len(), 1);
    let fields: Vec<_> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["algorithm", "id", "publicKey"]);
    assert_eq!(keys[0]["algorithm"], "Ed25519");
    let key = hex::decode(keys[0]["publicKey"].as_str().unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    let key = biscuit_auth::PublicKey::from_bytes(&key, biscuit_auth::Algorithm::Ed25519).unwrap();
    let published = keys[0]["id"].as_u64().unwrap();
    let root = |id: Option<u32>| {
        assert_eq!(id.map(u64::from), Some(published));
        Ok(key)
    };
    assert!(biscuit_auth::Biscuit::from_base64(&dev.token, root).is_ok());
}

#[test]
fn a_token_narrowed_offline_lists_what_it_may_read() {
    let (dev, _folder) = started();
    for name in ["ci-a", "ci-b", "prod"] {
        assert_eq!(dev.put(name, name).status, 204);
    }
    let token = narrowed(&dev.token, r#"check if resource($r), $r.starts_with("ci-")"#);
    let list = dev.client().send(&Request::get("/api/dev/secrets").bearer(&token));
    assert_eq!(list.json(), json!(["ci-a", "ci-b"]));
    let get = |name| dev.client().send(&Request::get(secret(name)).bearer(&token)).status;
    assert_eq!((get("ci-a"), get("prod"), get("absent"), get("ci-absent")), (200, 403, 403, 404));
}

#[test]
fn a_tenant_made_again_holds_nothing_of_the_one_before() {
    let (dev, _folder) = started();
    dev.create_tenant("acme");
    let before = dev.mint("acme", &["*"]);
    let path = "/api/acme/secrets/k";
    let put = Request::put(path, r#"{"value":"old"}"#).bearer(&before);
    assert_eq!(dev.client().send(&put).status, 204);
    dev.delete_tenant("acme");
    assert_eq!(dev.client().send(&Request::get(path).bearer(&before)).code(), "credential_invalid");
    dev.create_tenant("acme");
    assert_eq!(dev.client().send(&Request::get(path).bearer(&before)).code(), "credential_invalid");
    let after = dev.mint("acme", &["*"]);
    assert_eq!(dev.client().send(&Request::get(path).bearer(&after)).code(), "not_found");
    let list = dev.client().send(&Request::get("/api/acme/secrets").bearer(&after));
    assert_eq!(list.json(), json!([]));
}

#[test]
fn requests_sent_at_once_are_answered_in_their_order() {
    let (dev, _folder) = started();
    let token = &dev.token;
    let one = |line: &str, rest: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}\r\n")
    };
    let put = "Content-Type: application/json\r\nContent-Length: 13\r\n";
    let all = [
        one("PUT /api/dev/secrets/k", put) + r#"{"value":"v"}"#,
        one("GET /api/dev/secrets/k", ""),
        one("DELETE /api/dev/secrets/k", ""),
        one("GET /api/dev/secrets/k", ""),
    ];
    let mut client = dev.client();
    let first = client.send_raw(all.concat().as_bytes()).unwrap().status;
    let statuses =
        [first, client.receive().status, client.receive().status, client.receive().status];
    assert_eq!(statuses, [204, 200, 204, 404]);
}

// What the server says about its interface.

fn document(client: &mut Client) -> Value {
    let answer = client.send(&Request::get("/api/openapi.json"));
    answer.assert_proper();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

#[test]
fn the_openapi_document_holds_every_route_and_is_whole() {
    let (dev, _folder) = started();
    let document = document(&mut dev.client());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            described.insert((method.to_uppercase(), path.clone()));
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}");
            assert_operation(&document, &what, path, operation);
        }
    }
    let served = ROUTES.iter().map(|route| (route.method.to_string(), route.template.to_owned()));
    assert_eq!(described, served.collect());
    assert_references(&document, &document);
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
    assert_eq!(schemes["apiKey"]["name"], "X-API-KEY");
    assert_eq!(schemes["apiKey"]["in"], "header");
}

fn assert_operation(document: &Value, what: &str, path: &str, operation: &Value) {
    let responses = operation["responses"].as_object().unwrap();
    assert!(!responses.is_empty(), "{what}");
    for (status, response) in responses {
        assert!(status.len() == 3 && response["description"].is_string(), "{what} {status}");
        if status.starts_with(['4', '5']) {
            assert!(response["content"]["application/problem+json"].is_object(), "{what} {status}");
        }
    }
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let in_path: BTreeSet<_> = parameters
        .iter()
        .filter(|parameter| parameter["in"] == "path")
        .inspect(|parameter| assert_eq!(parameter["required"], true, "{what}"))
        .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
        .collect();
    let braces = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned());
    assert_eq!(in_path, braces.collect(), "{what}");
    let secured = operation["security"].as_array();
    let is_guarded = path.contains("{tenantId}") || path == "/metrics";
    assert_eq!(secured.is_some(), is_guarded, "{what}");
    for scheme in secured.into_iter().flatten().flat_map(|all| all.as_object().unwrap().keys()) {
        assert!(document["components"]["securitySchemes"][scheme].is_object(), "{what}: {scheme}");
    }
}

fn assert_references(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(target) = member.as_str().filter(|_| name == "$ref") {
                    let pointer = target.strip_prefix('#').expect("a reference into the document");
                    assert!(document.pointer(pointer).is_some(), "{target}");
                }
                assert_references(document, member);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references(document, item)),
        _ => {}
    }
}

#[test]
fn every_status_that_a_call_is_seen_to_answer_is_described() {
    let (dev, _folder) = started();
    let document = document(&mut dev.client());
    let read_only = dev.mint("dev", &["Secret.Read"]);
    let body = r#"{"value":"v"}"#;
    let at = |name: &str| secret(name);
    let seen = [
        ("put", Request::put(at("k"), body).bearer(&dev.token)),
        ("put", Request::put(at("k."), body).bearer(&dev.token)),
        ("put", Request::put(at("k"), body)),
        ("put", Request::put(at("k"), body).bearer(&read_only)),
        ("put", Request::put(at("k"), body).header("If-None-Match", "*").bearer(&dev.token)),
        ("put", Request::put(at("k"), vec![b'x'; 2_000_000]).bearer(&dev.token)),
        ("put", Request::new("PUT", at("k")).body(body).bearer(&dev.token)),
        ("get", Request::get(at("k")).bearer(&dev.token)),
        ("get", Request::get(at("k.")).bearer(&dev.token)),
        ("get", Request::get(at("k"))),
        ("get", Request::get(at("absent")).bearer(&dev.token)),
        ("get", Request::get(at("k")).header("Accept", "a/b").bearer(&dev.token)),
        ("delete", Request::delete(at("k")).bearer(&read_only)),
        ("delete", Request::delete(at("k")).header("If-Match", "\"0\"").bearer(&dev.token)),
        ("delete", Request::delete(at("k")).header("If-Match", "0").bearer(&dev.token)),
        ("delete", Request::delete(at("k")).bearer(&dev.token)),
        ("delete", Request::delete(at("k")).bearer(&dev.token)),
    ];
    let mut client = dev.client();
    let mut statuses = BTreeSet::new();
    for (method, request) in seen {
        let status = client.send(&request).status;
        let operation = &document["paths"]["/api/{tenantId}/secrets/{key}"][method];
        assert!(operation["responses"][status.to_string()].is_object(), "{method} {status}");
        statuses.insert(status);
    }
    let expected = BTreeSet::from([200, 204, 400, 401, 403, 404, 406, 412, 413, 415]);
    assert_eq!(statuses, expected);
}

#[test]
fn the_documentation_is_served_whole_from_the_program_and_calls_nobody_else() {
    let (dev, _folder) = started();
    let mut client = dev.client();
    let root = client.send(&Request::get("/api/docs"));
    root.assert_proper();
    assert_eq!((root.status, root.header("location")), (308, Some("docs/")));
    let page = client.send(&Request::get("/api/docs/"));
    page.assert_proper();
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("http"), "{policy}");
    let html = page.text();
    let links = |attribute: &str| {
        let opening = format!("{attribute}=\"");
        let parts = html.split(&opening).skip(1);
        parts.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let files = [links("src"), links("href")].concat();
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        assert!(!file.contains("//") && !file.contains(':'), "{file} is elsewhere");
        let path = format!("/api/docs/{}", file.trim_start_matches("./"));
        let asset = client.send(&Request::get(&path));
        asset.assert_proper();
        assert_eq!((asset.status, asset.body.is_empty()), (200, false), "{path}");
        // Large files are there compressed alone.
        let uncompressed = Request::get(&path).header("Accept-Encoding", "identity");
        let uncompressed = client.send(&uncompressed);
        uncompressed.assert_proper();
        match asset.header("content-encoding") {
            None => assert_eq!(uncompressed.body, asset.body, "{path}"),
            Some("gzip") => {
                assert!(asset.body.starts_with(&[0x1f, 0x8b]), "{path}");
                assert_eq!(asset.header("vary"), Some("Accept-Encoding"), "{path}");
                assert_eq!(uncompressed.code(), "not_acceptable", "{path}");
            }
            Some(other) => panic!("{path}: {other}"),
        }
        let kind = asset.header("content-type").unwrap();
        let ending = path.rsplit('.').next().unwrap();
        let expected = match ending {
            "js" => "javascript",
            "css" => "text/css",
            "png" => "image/png",
            _ => panic!("{path}: of which type is this?"),
        };
        assert!(kind.contains(expected), "{path}: {kind}");
    }
    let initializer = client.send(&Request::get("/api/docs/swagger-initializer.js")).text();
    assert!(initializer.contains("/api/openapi.json"), "{initializer}");
    let elsewhere = initializer.contains("http://") || initializer.contains("https://");
    assert!(!elsewhere, "{initializer}");
}
