//! What is recorded of what was done over HTTP and by commands, and that it is all of
//! it and nothing else after kill -9 at any moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Dev, Output, Random, Request, Serve, init, maintain, quiet, secret};

/// One entry a line.
fn entries(output: &Output) -> Vec<Value> {
    assert_eq!(output.code, Some(0), "{output:?}");
    let entry = |line| serde_json::from_str(line).expect("an entry is JSON");
    output.stdout.lines().map(entry).collect()
}

fn query(data: &Path, args: &[&str]) -> Vec<Value> {
    entries(&maintain(data, &[["audit", "query", "--json"].as_slice(), args].concat()))
}

fn said(entries: &[Value]) -> Vec<String> {
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or("-").to_owned();
    let about = |entry| text(entry, if entry["name"].is_null() { "tenant" } else { "name" });
    let said = |entry| [text(entry, "op"), about(entry), text(entry, "result")].join(" ");
    entries.iter().map(said).collect()
}

fn served(folder: &Path) -> (Serve, String) {
    let data = init(folder);
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let serve = Serve::start(&data);
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    (serve, minted.stdout.trim().to_owned())
}

#[test]
fn what_requests_change_is_recorded_with_who_and_by_which_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, token) = served(folder.path());
    let send = |request: Request, id: &str| {
        serve.send(&request.bearer(&token).header("x-request-id", id)).status
    };
    let path = "/api/acme/secrets/db-password";
    assert_eq!(send(Request::put(path, r#"{"value":"kept to itself"}"#), "first"), 204);
    let two = json!([{ "name": "a", "value": "1" }, { "name": "b", "value": "2" }]);
    let two = json!({ "secrets": two }).to_string();
    assert_eq!(send(Request::post("/api/acme/secrets", two), "second"), 200);
    assert_eq!(send(Request::delete(path), "third"), 204);
    let made = send(Request::post("/api/acme/api-keys", r#"{"scopes":["Secret.Read"]}"#), "fourth");
    assert_eq!(made, 201);
    let found = query(&serve.data, &["--tenant", "acme"]);
    let expected =
        ["secret.write db-password ok", "secret.write a ok", "secret.write b ok"].map(String::from);
    assert_eq!(said(&found)[..3], expected);
    assert_eq!(said(&found)[3..], ["secret.delete db-password ok"]);
    let requests: Vec<_> = found.iter().map(|entry| entry["request"].clone()).collect();
    assert_eq!(requests, ["first", "second", "second", "third"]);
    for (entry, number) in found.iter().zip(0..) {
        assert_eq!(entry["number"], number);
        assert_eq!(entry["by"], "token");
        assert_eq!(entry["from"], "127.0.0.1");
        assert_eq!(entry["credential"].as_str().map(str::len), Some(128));
    }
    let of_system = query(&serve.data, &["--op", "api_key"]);
    assert_eq!(said(&of_system), ["api_key.create acme ok"]);
    assert_eq!(of_system[0]["request"], "fourth");
    // The same without a server, and by the user whose command it was.
    let data = serve.data.clone();
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_eq!(query(&data, &["--tenant", "acme"]), found);
    let uid = rustix::process::getuid().as_raw().to_string();
    let of_system = query(&data, &[]);
    let expected =
        ["tenant.create acme ok", "start - ok", "token.mint acme ok", "api_key.create acme ok"];
    assert_eq!(said(&of_system), expected);
    assert_eq!((&of_system[0]["by"], &of_system[0]["subject"]), (&json!("local"), &json!(uid)));
    assert_eq!(of_system[1]["by"], "server");
    for entry in [&found, &of_system].into_iter().flatten() {
        let entry = entry.to_string();
        assert!(!entry.contains("kept to itself") && !entry.contains(&token), "{entry}");
    }
}

#[test]
fn each_entry_says_of_which_chain_it_is_and_a_tenant_made_again_has_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, token) = served(folder.path());
    let created = |reply: Output| -> Value {
        assert_eq!(reply.code, Some(0), "{reply:?}");
        serde_json::from_str(&reply.stdout).expect("a tenant is JSON")
    };
    let put = Request::put("/api/acme/secrets/a", r#"{"value":"x"}"#).bearer(&token);
    assert_eq!(serve.send(&put).status, 204);
    let first = query(&serve.data, &["--tenant", "acme"])[0]["chainId"].clone();
    assert_eq!(first.as_str().map(str::len), Some(32), "{first}");
    assert_eq!(serve.run(&["tenant", "delete", "acme", "--yes"]).code, Some(0));
    let again = created(serve.run(&["tenant", "create", "acme", "--json"]))["id"].clone();
    let token = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]).stdout;
    let put = Request::put("/api/acme/secrets/a", r#"{"value":"x"}"#).bearer(token.trim());
    assert_eq!(serve.send(&put).status, 204);
    let of = |entry: &Value| (entry["chain"].clone(), entry["chainId"].clone());
    let tail = entries(&maintain(&serve.data, &["audit", "tail", "--json", "--tenant", "acme"]));
    assert_eq!(tail.iter().map(of).collect::<Vec<_>>(), [(json!("acme"), again.clone())]);
    assert_ne!(again, first);
    // The system's chain has no name and no id, and each of its entries says that too.
    for entry in query(&serve.data, &[]) {
        assert!(entry.get("chain").is_some() && entry.get("chainId").is_some(), "{entry}");
        assert_eq!(of(&entry), (Value::Null, Value::Null), "{entry}");
    }
}

#[test]
fn the_newest_entries_are_shown_in_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let empty = maintain(&data, &["audit", "tail"]);
    assert_eq!((empty.code, empty.stdout.as_str()), (Some(0), "no entries\n"), "{empty:?}");
    for name in ["one", "two", "three"] {
        assert_eq!(maintain(&data, &["tenant", "create", name]).code, Some(0));
    }
    let tail = maintain(&data, &["audit", "tail", "--limit", "2"]);
    let lines: Vec<_> = tail.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{tail:?}");
    assert!(lines[0].starts_with("NUMBER  WHEN"), "{tail:?}");
    for (line, what) in lines[1..].iter().zip(["tenant.create two", "tenant.create three"]) {
        assert!(line.contains(what) && line.contains("  ok  ") && line.contains("local"), "{line}");
    }
}

#[test]
fn what_is_asked_for_in_vain_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let audit = |args: &[&str]| maintain(&data, &[["audit", "query"].as_slice(), args].concat());
    audit(&["--tenant", "none"]).assert_fails(3, &["no tenant 'none'", "tenure tenant list"]);
    for (args, word) in [
        (["--op", "secret.wirte"], "secret.write"),
        (["--since", "yesterday"], "RFC 3339"),
        (["--from", "x"], "--from"),
    ] {
        let refused = audit(&args);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
}

/// Puts secrets of its own until the connection ends. Answers the names that were
/// acknowledged.
fn put_until_killed(address: SocketAddr, token: &str, mine: &str) -> Vec<String> {
    let mut client = Client::new(address);
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let name = format!("{mine}-{n}");
        let put = Request::put(secret(&name), r#"{"value":"x"}"#).bearer(token);
        match client.send_unless_closed(&put) {
            Some(answer) if answer.status == 204 => acknowledged.push(name),
            Some(answer) => panic!("{answer:?}"),
            None => break,
        }
    }
    acknowledged
}

#[test]
fn each_acknowledged_change_has_one_entry_after_kill_9_and_no_entry_is_without_its_change() {
    const WRITERS: usize = 4;
    let rounds = if std::env::var_os("TENURE_TEST_LONG").is_some() { 50 } else { 5 };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let dev = Dev::start_with(&data, quiet);
        let (address, token) = (dev.address, dev.token.clone());
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (token, mine) = (&token, format!("r{round}-w{writer}"));
                    scope.spawn(move || put_until_killed(address, token, &mine))
                })
                .collect();
            thread::sleep(Duration::from_millis(100));
            random.pause(Duration::from_millis(400));
            dev.kill();
            for writer in writers {
                acknowledged.extend(writer.join().expect("it writes"));
            }
        });
    }
    assert!(acknowledged.len() > 20, "there was next to no load: {}", acknowledged.len());
    let dev = Dev::start_with(&data, quiet);
    let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
    for entry in query(&dev.data, &["--tenant", "dev", "--op", "secret.write"]) {
        *recorded.entry(entry["name"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = recorded.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let missing: Vec<_> =
        acknowledged.iter().filter(|name| !recorded.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What was not answered is there with its entry, or neither is.
    let list = dev.send(Request::get("/api/dev/secrets")).json();
    let stored: Vec<_> = list.as_array().expect("names").iter().map(|n| n.to_string()).collect();
    let of_entries: Vec<_> = recorded.keys().map(|name| json!(name).to_string()).collect();
    assert_eq!(stored, of_entries);
    let unanswered = recorded.len() - acknowledged.len();
    println!("{} changes acknowledged, {unanswered} unanswered", acknowledged.len());
    assert!(unanswered <= WRITERS * rounds);
    assert_eq!(dev.run(&["verify"]).code, Some(0));
}
