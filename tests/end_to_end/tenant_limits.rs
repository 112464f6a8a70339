//! What a tenant may have and how often it may ask, over HTTP and by the command line.

use std::thread;

use serde_json::{Value, json};

use crate::support::{
    Answer, Client, Dev, Inside, Operated, Output, Request, Serve, eventually, init, quiet, secret,
};

const ALL: &str = "/api/dev/secrets";

fn put(name: &str, value: &str) -> Request {
    Request::put(secret(name), json!({ "value": value }).to_string())
}

fn done(output: &Output) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.clone()
}

fn shown(run: impl Fn(&[&str]) -> Output) -> Value {
    serde_json::from_str(&done(&run(&["tenant", "show", "dev", "--json"]))).expect("JSON")
}

fn assert_refused(answer: &Answer, status: u16, code: &str, word: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    let detail = answer.json()["detail"].as_str().expect("a sentence").to_owned();
    assert!(detail.contains(word), "{detail}");
    answer.assert_proper();
}

#[test]
fn a_write_beyond_a_limit_is_told_which_one_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"));
    let send = |request: Request| dev.client().send(&request.bearer(&dev.token));
    let limit = |args: &[&str]| done(&dev.run(&[&["tenant", "limit", "dev"][..], args].concat()));
    assert_eq!(send(put("a", "12345")).status, 204);
    let said = limit(&["--secrets", "2", "--bytes", "1KiB"]);
    assert!(said.contains("secrets     at most 2 (its own)\n"), "{said}");
    assert!(said.contains("bytes       at most 1KiB (its own)\n"), "{said}");
    assert_eq!(send(put("b", "12345")).status, 204);
    assert_refused(&send(put("c", "x")), 507, "secrets_limit", "may have 2 secrets");
    let long = "x".repeat(1024);
    assert_refused(&send(put("b", &long)), 507, "bytes_limit", "may have 1024 bytes");
    let both = json!({"secrets": [{"name": "a", "value": "y"}, {"name": "c", "value": "y"}]});
    let both = Request::post(ALL, both.to_string());
    assert_refused(&send(both.clone()), 507, "secrets_limit", "Nothing was changed");
    assert_eq!(send(Request::get(secret("a"))).json(), "12345");
    assert_eq!(send(put("b", &"x".repeat(1019))).status, 204);
    assert_eq!(send(Request::delete(secret("b"))).status, 204);
    assert_eq!(send(both).status, 200);
    let found = shown(|args| dev.run(args));
    let limits = json!({
        "secrets": {"max": 2, "own": true}, "bytes": {"max": 1024, "own": true},
        "requestsPerSecond": {"max": null, "own": false},
    });
    assert_eq!((&found["reply"], &found["limits"]), (&json!("tenant-shown"), &limits));
    assert_eq!((&found["secrets"], &found["bytes"]), (&json!(2), &json!(2)));
    let text = done(&dev.run(&["tenant", "show", "dev"]));
    assert!(text.contains("secrets     2, at most 2 (its own)\n"), "{text}");
    assert!(text.contains("bytes       2 bytes, at most 1KiB (its own)\n"), "{text}");
    assert!(text.contains("requests    no limit\n"), "{text}");
    let failed = dev.run(&["tenant", "limit", "dev"]);
    assert_eq!(failed.code, Some(2), "a change names something: {failed:?}");
    let failed = dev.run(&["tenant", "limit", "none", "--secrets", "1"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains("no tenant 'none'"), "{failed:?}");
}

#[test]
fn sixty_four_writers_meet_a_limit_exactly_and_kill_9_changes_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, quiet);
    done(&dev.run(&["tenant", "limit", "dev", "--secrets", "100", "--bytes", "250"]));
    let (address, token) = (dev.address, dev.token.clone());
    let statuses: Vec<u16> = thread::scope(|scope| {
        let writers: Vec<_> = (0..64)
            .map(|writer| {
                let token = &token;
                scope.spawn(move || {
                    let mut client = Client::new(address);
                    let mut send = |request: Request| client.send(&request.bearer(token)).status;
                    let mut statuses = Vec::new();
                    for round in 0..4 {
                        let name = format!("w{writer}-{round}");
                        statuses.push(send(put(&name, "12")));
                        // Replaced, and by turns deleted: what it freed others take.
                        statuses.push(send(put(&name, "3")));
                        if round % 2 == 0 {
                            statuses.push(send(Request::delete(secret(&name))));
                        }
                    }
                    statuses
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect()
    });
    assert!(statuses.iter().all(|status| [204, 404, 507].contains(status)), "{statuses:?}");
    // Fill it up: it holds a hundred, not one more.
    let mut client = Client::new(address);
    for number in 0..100 {
        client.send(&put(&format!("fill{number}"), "").bearer(&token));
    }
    let listed = |client: &mut Client, token: &str| {
        let list = client.send(&Request::get(ALL).bearer(token)).json();
        list.as_array().expect("a list").len()
    };
    assert_eq!(listed(&mut client, &token), 100);
    let before = shown(|args| dev.run(args));
    assert_eq!(before["secrets"], 100);
    dev.kill();
    let dev = Dev::start_with(&data, quiet);
    assert_eq!(shown(|args| dev.run(args)), before, "counted anew, it is the same");
    let mut client = Client::new(dev.address);
    assert_eq!(listed(&mut client, &dev.token), 100);
    let one_more = client.send(&put("more", "").bearer(&dev.token));
    assert_refused(&one_more, 507, "secrets_limit", "may have 100 secrets");
}

#[test]
fn requests_of_a_tenant_are_limited_over_all_its_credentials_and_others_are_not() {
    let inside = Inside::start();
    for tenant in ["acme", "beta"] {
        inside.create_tenant(tenant);
    }
    let (one, two) = (inside.mint("acme", &["*"]), inside.mint("acme", &["Secret.Read"]));
    let key = inside.api_key("acme", &["Secret.Read"]);
    let other = inside.mint("beta", &["*"]);
    inside.limit_rate("acme", 3);
    let list = |token: &str| inside.send(&Request::get("/api/acme/secrets").bearer(token));
    assert_eq!(list(&one).status, 200);
    assert_eq!(list(&two).status, 200);
    let by_key = Request::get("/api/acme/secrets").api_key(&key.key);
    assert_eq!(inside.send(&by_key).status, 200);
    for answer in [list(&one), list(&two), inside.send(&by_key)] {
        assert_refused(&answer, 429, "tenant_rate_limit", "3 requests a second");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // What others ask of it is theirs, and so is what they are refused.
    for _ in 0..10 {
        assert_eq!(list(&other).status, 403);
        let own = Request::get("/api/beta/secrets").bearer(&other);
        assert_eq!(inside.send(&own).status, 200);
        assert_eq!(inside.send(&Request::get("/healthz")).status, 200);
    }
    inside.pass(1);
    assert_eq!(list(&one).status, 200);
}

#[test]
fn limits_are_configured_for_all_and_set_for_one_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = init(folder.path());
    let serve = || {
        Serve::start_with(&data, |command| {
            command.arg("--data").arg(&data);
            command.env("TENURE_LIMITS_TENANT_SECRETS", "1");
            command.env("TENURE_LIMITS_TENANT_BYTES", "1KiB");
        })
    };
    let server = serve();
    done(&server.run(&["tenant", "create", "dev"]));
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "*"];
    let token = done(&server.run(&mint)).trim().to_owned();
    assert_eq!(server.send(&put("a", "x").bearer(&token)).status, 204);
    let answer = server.send(&put("b", "x").bearer(&token));
    assert_refused(&answer, 507, "secrets_limit", "may have 1 secrets");
    assert_eq!(server.stop_by("TERM").0, Some(0));
    let here = |args: &[&str]| crate::support::maintain(&data, args);
    let said = done(&here(&["tenant", "limit", "dev", "--unlimited", "--secrets", "2"]));
    assert!(said.contains("secrets     at most 2 (its own)\n"), "{said}");
    assert!(said.contains("bytes       no limit (its own)\n"), "{said}");
    let server = serve();
    assert_eq!(server.send(&put("b", &"x".repeat(2_000)).bearer(&token)).status, 204);
    assert_eq!(server.send(&put("c", "x").bearer(&token)).code(), "secrets_limit");
    let said = done(&server.run(&["tenant", "limit", "dev", "--default"]));
    assert!(said.contains("secrets     at most 1\n"), "{said}");
    assert_eq!(server.send(&put("b", "x").bearer(&token)).status, 204);
}

#[test]
fn limits_of_all_tenants_change_at_a_reload_and_those_of_one_stay() {
    let folder = tempfile::tempdir().unwrap();
    let data = init(folder.path());
    let file = folder.path().join("tenure.toml");
    let write = |limits: &str| {
        let kek = data.with_extension("kek");
        let text = format!("data = {data:?}\nkek.file = {kek:?}\n[limits.tenant]\n{limits}\n");
        std::fs::write(&file, text).unwrap();
    };
    write("");
    let server = Serve::start_with(&data, |command| {
        command.arg("--config").arg(&file);
    });
    let reload = |limits: &str, said: &str| {
        write(limits);
        let before = server.log().len();
        server.signal("HUP");
        eventually(said, || server.log()[before..].contains(said).then_some(()));
    };
    let token = |tenant: &str| {
        done(&server.run(&["tenant", "create", tenant]));
        let mint = ["token", "mint", "--tenant", tenant, "--scope", "*"];
        done(&server.run(&mint)).trim().to_owned()
    };
    let (dev, own) = (token("dev"), token("own"));
    done(&server.run(&["tenant", "limit", "own", "--secrets", "3"]));
    let put_own = |name: &str| {
        let path = secret(name).replace("/dev/", "/own/");
        server.send(&Request::put(path, json!({ "value": "v" }).to_string()).bearer(&own))
    };
    for name in ["a", "b"] {
        assert_eq!(server.send(&put(name, "x").bearer(&dev)).status, 204);
    }
    reload("secrets = 2", "changed limits.tenant.secrets");
    let refused = server.send(&put("c", "x").bearer(&dev));
    assert_refused(&refused, 507, "secrets_limit", "may have 2 secrets");
    assert!(["a", "b", "c"].iter().all(|name| put_own(name).status == 204));
    assert_refused(&put_own("d"), 507, "secrets_limit", "may have 3 secrets");
    let said = done(&server.run(&["tenant", "show", "dev"]));
    assert!(said.contains("at most 2\n"), "{said}");
    let later = token("later");
    let path = |name: &str| secret(name).replace("/dev/", "/later/");
    let put_later = |name: &str| {
        server.send(&Request::put(path(name), json!({ "value": "v" }).to_string()).bearer(&later))
    };
    assert_eq!([put_later("a"), put_later("b"), put_later("c")].map(|a| a.status), [204, 204, 507]);

    reload("secrets = \"many\"", "nothing was changed: ");
    assert_eq!(server.send(&put("c", "x").bearer(&dev)).status, 507, "the limit stays");
    reload("requests_per_second = 1", "changed limits.tenant.secrets, limits.tenant.requests");
    let answers: Vec<_> = (0..20).map(|_| server.send(&put("c", "x").bearer(&dev))).collect();
    let limited = answers.iter().find(|answer| answer.status != 204).expect("one is too many");
    assert_refused(limited, 429, "tenant_rate_limit", "a second");
    reload("", "changed limits.tenant.requests_per_second");
    assert!((0..20).all(|_| server.send(&put("c", "x").bearer(&dev)).status == 204));

    done(&server.run(&["seal", "--yes"]));
    reload("secrets = 1", "changed limits.tenant.secrets");
    done(&server.run(&["unseal"]));
    let refused = server.send(&put("d", "x").bearer(&dev));
    assert_refused(&refused, 507, "secrets_limit", "may have 1 secrets");
}
