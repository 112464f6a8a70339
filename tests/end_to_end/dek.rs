//! `tenure dek`: new keys under a server that goes on, and under one that is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Dev, Output, Random, Writers, eventually, maintain, quiet, two_tenants};

const WRITERS: u64 = 8;
const REWRITE: [&str; 5] = ["dek", "rotate", "--rewrite", "--rate", "2000"];

/// Id and state of each DEK, by its tenant; the system's under "".
fn deks(output: &Output) -> BTreeMap<String, Vec<(u64, String)>> {
    assert_eq!(output.code, Some(0), "{output:?}");
    let reply: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let mut found: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in reply["deks"].as_array().expect("a list") {
        let tenant = row["tenant"].as_str().unwrap_or_default().to_owned();
        let state = row["state"].as_str().expect("a state").to_owned();
        found.entry(tenant).or_default().push((row["id"].as_u64().expect("an id"), state));
    }
    found
}

fn only_active(deks: &BTreeMap<String, Vec<(u64, String)>>) -> bool {
    deks.values().all(|of_one| matches!(&of_one[..], [(_, state)] if state == "active"))
}

#[test]
fn the_commands_say_what_they_did_with_a_server_and_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let dev = Dev::start(&data);
    assert_eq!(dev.put("kept", "since the first key").status, 204);
    let etag = dev.get("kept").header("etag").map(str::to_owned);
    let run = |args: &[&str], code| {
        let output = dev.run(&[&["dek"][..], args].concat());
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        output
    };
    let planned = run(&["rotate", "--dry-run"], 0).stdout;
    assert_eq!(planned, "would draw new DEKs for 1 tenant and for the system\n");
    assert_eq!(run(&["rotate", "--tenant", "dev"], 0).stdout, "drew new DEKs for 1 tenant\n");
    let table = run(&["list"], 0).stdout;
    let states: Vec<_> =
        table.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>()).collect();
    let expected = [
        ["TENANT", "ID", "STATE"],
        ["dev", "1", "retired"],
        ["dev", "2", "active"],
        ["(system)", "1", "active"],
    ];
    assert_eq!(states, expected.map(Vec::from));
    assert_eq!(dev.put("newer", "since the second").status, 204);
    let done = run(&["rotate", "--rewrite", "--rate", "0"], 0).stdout;
    assert!(done.contains("encrypted 2 secrets anew, and destroyed the old keys"), "{done}");
    assert!(only_active(&deks(&run(&["list", "--json"], 0))));
    assert_eq!(dev.get("kept").json(), "since the first key");
    assert_eq!(dev.get("kept").header("etag").map(str::to_owned), etag, "its ETag holds");

    let unknown = run(&["rotate", "--tenant", "nobody"], 3);
    assert!(unknown.stderr.contains("tenant list"), "{unknown:?}");
    run(&["list", "--tenant", "nobody"], 3);
    let senseless = run(&["rotate", "--rate", "5"], 2);
    assert!(senseless.stderr.contains("--rewrite"), "{senseless:?}");

    assert_eq!(dev.stop(), Some(0));
    let rotated = maintain(&data, &["dek", "rotate", "--rewrite", "--json"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let reply: Value = serde_json::from_str(&rotated.stdout).expect("JSON");
    assert_eq!(reply["reencrypted"]["secrets"], 2, "{reply}");
    assert!(only_active(&deks(&maintain(&data, &["dek", "list", "--json"]))));
    let dev = Dev::start(&data);
    assert_eq!(dev.get("newer").json(), "since the second");
}

#[test]
fn nothing_is_lost_by_kill_9_at_any_moment_of_a_rotation_and_the_rewriting_goes_on() {
    let rounds = if std::env::var_os("TENURE_TEST_LONG").is_some() { 50 } else { 8 };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut writers = Writers::new(WRITERS, two_tenants(&data), &mut random);
    let (mut total, mut whole, mut interrupted) = (0, 0, 0);
    for round in 0..rounds {
        println!("round {round}, seed {}", random.0);
        let dev = Dev::start_with(&data, quiet);
        let address = dev.address;
        writers.assert_kept(address);
        let done = writers.under_load(address, |_| {
            std::thread::scope(|scope| {
                let rotating = scope.spawn(|| dev.run_until_gone(&REWRITE));
                random.pause(Duration::from_millis(1_000));
                dev.signal("KILL");
                whole += rotating.join().expect("it rotates");
            });
        });
        total += done.acknowledged();
        // Without a server: as the crash left it.
        dev.ended();
        let left = deks(&maintain(&data, &["dek", "list", "--json"]));
        let leaving = |(_, state): &&(u64, String)| state == "leaving";
        interrupted += u64::from(left.values().flatten().any(|dek| leaving(&dek)));
    }
    let dev = Dev::start_with(&data, quiet);
    writers.assert_kept(dev.address);
    eventually("the rewriting to go on by itself", || {
        Some(deks(&dev.run(&["dek", "list", "--json"]))).filter(only_active)
    });
    writers.assert_kept(dev.address);
    let verified = dev.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    println!("{total} writes acknowledged, {whole} rotations finished, {interrupted} interrupted");
    assert!(total > 2 * rounds, "there was next to no load: {total} writes");
    assert!(interrupted > 0, "no rotation was interrupted");
}
