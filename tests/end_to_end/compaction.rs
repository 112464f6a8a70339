//! `tenure compact`: what was deleted leaves the disk, and the server goes on.

use serde_json::{Value, json};

use crate::support::{Dev, Output, Request, eventually, maintain, secret};

fn json_of(output: &Output) -> Value {
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// The row of the database that the tenants' secrets are in.
fn row(reply: &Value) -> Value {
    let rows = reply["databases"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["database"] == "tenants-0000");
    row.expect("it is listed").clone()
}

/// Some 30 MB, and then next to nothing of it.
fn waste(dev: &Dev) {
    let mut client = dev.client();
    let value = json!({ "value": "w".repeat(60_000) }).to_string();
    let path = |n: u32| secret(&format!("wasted-{n}"));
    let puts = (0..500).map(|n| Request::put(path(n), value.clone()));
    for request in puts.chain((0..500).map(|n| Request::delete(path(n)))) {
        assert_eq!(client.send(&request.bearer(&dev.token)).status, 204);
    }
}

#[test]
fn a_server_compacts_by_itself_what_was_written_to_for_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, |command| {
        command.env("RUST_LOG", "info").env("TENURE_STORE_COMPACT_AFTER", "16MiB");
    });
    assert_eq!(dev.put("kept", "still here").status, 204);
    waste(&dev);
    let line = eventually("a compaction", || {
        let log = dev.log();
        log.lines().find(|line| line.contains("compacted database")).map(str::to_owned)
    });
    assert!(line.contains("tenants-0000"), "{line}");
    assert_eq!(dev.get("kept").json(), "still here");
    assert_eq!(dev.get("wasted-7").status, 404);
    assert_eq!(json_of(&dev.run(&["verify", "--json"]))["sound"], true);
}

#[test]
fn a_wasteful_database_is_compacted_and_the_others_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start_with(&data, |command| {
        command.env("RUST_LOG", "info");
    });
    assert_eq!(dev.put("kept", "still here").status, 204);
    waste(&dev);
    let planned = json_of(&dev.run(&["compact", "--dry-run", "--json"]));
    assert_eq!((&planned["reply"], &planned["dryRun"]), (&json!("compacted"), &json!(true)));
    let chosen: Vec<_> = planned["databases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["database"].clone(), row["chosen"].clone(), row["bytesAfter"].clone()))
        .collect();
    let expected = [("system", false), ("keyring", false), ("tenants-0000", true)]
        .map(|(name, chosen)| (json!(name), json!(chosen), Value::Null));
    assert_eq!(chosen, expected);
    assert!(dev.run(&["compact", "--dry-run"]).stdout.contains("would be"));

    let done = json_of(&dev.run(&["compact", "--json"]));
    assert_eq!(done["dryRun"], false);
    let (before, after) = (row(&done)["bytes"].as_u64(), row(&done)["bytesAfter"].as_u64());
    assert!(after.expect("it was compacted") < before.expect("a size") / 4, "{done}");
    assert_eq!(done["databases"][0]["bytesAfter"], Value::Null);
    assert_eq!(dev.get("kept").json(), "still here");
    assert_eq!(dev.get("wasted-7").status, 404);
    assert_eq!(dev.put("later", "too").status, 204);
    assert_eq!(json_of(&dev.run(&["verify", "--json"]))["sound"], true);

    // The same without a server.
    assert_eq!(dev.stop(), Some(0));
    let done = json_of(&maintain(&data, &["compact", "--json"]));
    assert_eq!(row(&done)["chosen"], false);
    let done = json_of(&maintain(&data, &["compact", "--all", "--json"]));
    let all = done["databases"].as_array().expect("a list");
    assert!(all.iter().all(|row| row["bytesAfter"].is_u64()), "{done}");
    let one = maintain(&data, &["compact", "--database", "keyring"]);
    assert_eq!(one.code, Some(0), "{one:?}");
    let compacted = |line: &&str| line.contains("  to ");
    let lines: Vec<_> = one.stdout.lines().filter(compacted).collect();
    assert!(matches!(lines[..], [line] if line.starts_with("keyring ")), "{one:?}");
    let none = maintain(&data, &["compact", "--database", "tenants-0009"]);
    assert_eq!(none.code, Some(3), "{none:?}");
    assert!(none.stderr.contains("tenants-0000"), "{none:?}");
    let dev = Dev::start(&data);
    assert_eq!(dev.get("kept").json(), "still here");
    assert_eq!(dev.get("later").json(), "too");
}
