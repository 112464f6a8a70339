//! Old entries of the audit are moved into files that prove themselves, and the store goes
//! on from a place that was signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Output, Request, Serve, eventually, init, maintain, secret};

fn serve(data: &Path, archive: &Path, keep: &str) -> Serve {
    Serve::start_with(data, |command| {
        command.arg("--data").arg(data);
        command.env("TENURE_AUDIT_KEEP", keep).env("TENURE_AUDIT_ARCHIVE", archive);
    })
}

fn write(serve: &Serve, token: &str, name: &str) {
    let path = secret(name).replace("/dev/", "/acme/");
    let put = Request::put(path, r#"{"value":"kept to itself"}"#).bearer(token);
    assert_eq!(serve.send(&put).status, 204);
}

fn files(archive: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(archive).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

/// Wherever it is run, without anything of a store.
fn verify(key: &str, file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    command.args(["audit", "verify", "--key", key]).arg(file);
    command.env_remove("TENURE_DATA").env_remove("TENURE_CONFIG");
    Output::of(&mut command)
}

/// The names that entries of this operation are about, and their numbers.
fn names(serve: &Serve, op: &str) -> Vec<(u64, String)> {
    let found = serve.run(&["audit", "query", "--tenant", "acme", "--op", op, "--json"]);
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let name = entry["name"].as_str().unwrap_or_default().to_owned();
        (entry["number"].as_u64().expect("a number"), name)
    };
    found.stdout.lines().map(entry).collect()
}

#[test]
fn old_entries_are_moved_into_files_that_prove_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, archive) = (init(folder.path()), folder.path().join("archive"));
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let served = serve(&data, &archive, "2s");
    let minted = served.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    let token = minted.stdout.trim().to_owned();
    for n in 0..10 {
        write(&served, &token, &format!("early-{n}"));
    }
    // What is not signed is not old, however old it is.
    assert_eq!(served.run(&["audit", "head"]).code, Some(0));
    let file = eventually("a file", || files(&archive).into_iter().next());
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&archive).expect("a folder").permissions().mode() & 0o777, 0o700);
    eventually("the entries to be gone", || {
        names(&served, "secret.write").is_empty().then_some(())
    });
    let moved = names(&served, "audit.archive");
    assert_eq!(moved.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [10]);
    write(&served, &token, "late");
    assert_eq!(names(&served, "secret.write"), [(11, "late".to_owned())]);

    let shown = served.run(&["audit", "key", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let key = shown["publicKey"].as_str().expect("a key").to_owned();
    let found = verify(&key, &file);
    assert_eq!(found.code, Some(0), "{found:?}");
    let text = fs::read_to_string(&file).expect("a file");
    for n in 0..10 {
        assert!(text.contains(&format!("early-{n}")), "{n}");
    }
    assert!(!text.contains("late") && !text.contains("kept to itself"));
    fs::write(&file, text.replacen("early-3", "early-X", 1)).expect("written");
    let found = verify(&key, &file);
    assert_eq!(found.code, Some(7), "{found:?}");
    assert!(found.stdout.contains("entry 3 was altered"), "{found:?}");

    // What stays is sound, with the store's keys and with the public one.
    for args in [&["audit", "verify"][..], &["verify"], &["audit", "head"]] {
        assert_eq!(served.run(args).code, Some(0), "{args:?}");
    }
    let log = served.log();
    assert!(log.contains("entries of the audit to ") && !log.contains("early-"), "{log}");
    assert_eq!(served.stop_by("TERM").0, Some(0));
    let copy = verify(&key, &data);
    assert_eq!(copy.code, Some(0), "{copy:?}");
}

#[test]
fn nothing_is_removed_that_could_not_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, archive) = (init(folder.path()), folder.path().join("a file"));
    fs::write(&archive, "in the way").expect("written");
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let served = serve(&data, &archive, "1s");
    let minted = served.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    write(&served, minted.stdout.trim(), "early");
    assert_eq!(served.run(&["audit", "head"]).code, Some(0));
    eventually("a complaint", || {
        served.log().contains("old entries of the audit stay in the store").then_some(())
    });
    assert_eq!(names(&served, "secret.write"), [(0, "early".to_owned())]);
    assert_eq!(served.run(&["audit", "verify"]).code, Some(0));
    // Where it can, it goes on by itself.
    fs::remove_file(&archive).expect("removed");
    eventually("a file", || files(&archive).into_iter().next());
}
