//! That the audit proves itself on a real data folder, by command, and to another
//! program that was written from docs/audit.md alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::keys::{kek_of, python};
use crate::support::{Output, Request, Serve, init, maintain, secret};

/// A store with two tenants, some secrets, and its server.
fn served(folder: &Path) -> (Serve, String) {
    let data = init(folder);
    for tenant in ["acme", "beta"] {
        assert_eq!(maintain(&data, &["tenant", "create", tenant]).code, Some(0));
    }
    let serve = Serve::start(&data);
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    let token = minted.stdout.trim().to_owned();
    write(&serve, &token, "before");
    (serve, token)
}

fn write(serve: &Serve, token: &str, mine: &str) {
    for n in 0..10 {
        let path = secret(&format!("{mine}-{n}")).replace("/dev/", "/acme/");
        let put = Request::put(path, r#"{"value":"kept to itself"}"#).bearer(token);
        assert_eq!(serve.send(&put).status, 204);
    }
}

fn key(data: &Path) -> String {
    let shown = maintain(data, &["audit", "key", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    shown["publicKey"].as_str().expect("a key").to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Wherever it is run, without anything of a store.
fn verify(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    let nowhere = tempfile::tempdir().expect("a folder");
    command.args(["audit", "verify"]).args(args).current_dir(nowhere.path());
    for variable in ["TENURE_DATA", "TENURE_CONFIG", "TENURE_KEK_FILE", "TENURE_KEK_SOURCE"] {
        command.env_remove(variable);
    }
    Output::of(&mut command)
}

/// It is not what was signed, and the answer says why.
fn assert_refuted(found: &Output, sentence: &str) {
    assert_eq!(found.code, Some(7), "{found:?}");
    assert!(found.stderr.contains("is not the one that was signed"), "{found:?}");
    assert!(found.stdout.contains(sentence), "{sentence}: {found:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("ours");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("of a type") {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).expect("copied")),
            // The socket of a server.
            _ => {}
        }
    }
}

#[test]
fn a_copy_of_a_data_folder_is_verified_with_the_public_key_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, token) = served(folder.path());
    let (data, key) = (serve.data.clone(), key(&serve.data));
    assert_eq!(serve.run(&["audit", "verify"]).code, Some(0), "the server verifies itself");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let early = folder.path().join("early");
    copy(&data, &early);

    let serve = Serve::start(&data);
    write(&serve, &token, "after");
    let head = folder.path().join("head.json");
    let shown = serve.run(&["audit", "head", "-o", text(&head)]);
    assert!(shown.stdout.contains("checkpoint"), "{shown:?}");
    assert_eq!(fs::metadata(&head).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = serve.run(&["audit", "head", "-o", text(&head)]);
    again.assert_fails(4, &["exists, and is not written over"]);
    assert_eq!(serve.run(&["audit", "head", "-o", text(&head), "--force"]).code, Some(0));
    assert_eq!(serve.stop_by("TERM").0, Some(0));

    // No KEK, from here on.
    fs::remove_file(kek_of(&data)).expect("a KEK");
    for args in [vec![], vec!["--head", text(&head)]] {
        let args = [&["--key", &key, text(&data)], args.as_slice()].concat();
        let found = verify(&args);
        assert_eq!(found.code, Some(0), "{found:?}");
        assert!(found.stdout.contains("20 entries  sound"), "{found:?}");
    }
    let found = verify(&["--key", &key, text(&early)]);
    assert_eq!(found.code, Some(0), "it was as good then: {found:?}");
    let found = verify(&["--key", &key, "--head", text(&head), text(&early)]);
    assert_refuted(&found, "cut off: entry 10 is missing");
    assert_refuted(&found, "of --head is not here");
    let found = verify(&["--key", &"01".repeat(32), text(&data)]);
    assert_refuted(&found, "the first checkpoint is not signed with the key");
    let found = verify(&["--key", "01", text(&data)]);
    assert_eq!(found.code, Some(2), "{found:?}");
    assert!(found.stderr.contains("64 hexadecimal digits"), "{found:?}");
    verify(&["--head", text(&data), text(&data)]).assert_fails(2, &["is a folder"]);
    let key_file = folder.path().join("no-head");
    fs::write(&key_file, "{}").expect("written");
    let found = verify(&["--key", &key, "--head", text(&key_file), text(&data)]);
    found.assert_fails(2, &["is no checkpoint", "tenure audit head"]);
}

/// The first example of a language in docs/audit.md.
fn example(language: &str) -> String {
    let document = include_str!("../../docs/audit.md");
    let example = document.split(&format!("```{language}\n")).nth(1).expect("an example");
    example.split("```").next().expect("its end").to_owned()
}

fn by_another_program(key: &str, export: &Path) -> Output {
    Output::of(python().args(["-c", &example("python"), key]).arg(export))
}

/// Exports everything of a server to a file.
fn exported(serve: &Serve, folder: &Path) -> PathBuf {
    let export = folder.join("audit.jsonl");
    let made = serve.run(&["audit", "export", "-o", text(&export), "--force"]);
    assert!(made.stdout.contains(" entries of 3 chains, "), "{made:?}");
    export
}

#[test]
fn an_export_is_verified_by_anybody_and_a_forged_one_by_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, _) = served(folder.path());
    let key = key(&serve.data);
    let export = exported(&serve, folder.path());
    let written = fs::read_to_string(&export).expect("an export");
    assert_eq!(fs::metadata(&export).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(!written.contains("kept to itself"));
    let found = verify(&["--key", &key, text(&export), "--json"]);
    assert_eq!(found.code, Some(0), "{found:?}");
    let proof: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!((&proof["sound"], &proof["keyFromExport"]), (&Value::Bool(true), &false.into()));
    let found = by_another_program(&key, &export);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stdout.contains(" of 3 chains are as they were signed"), "{found:?}");
    let found = verify(&[text(&export)]);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(found.stdout.contains("with --key HEX"), "it says what it does not prove");

    let lines: Vec<_> = written.lines().collect();
    let of_acme = |name: &str| {
        let name = format!("\\\"name\\\":\\\"{name}\\\"");
        lines.iter().position(|line| line.contains(&name)).expect("a line")
    };
    let (third, fourth) = (of_acme("before-3"), of_acme("before-4"));
    let altered = written.replacen("before-3", "before-X", 1);
    let removed: Vec<_> = [&lines[..third], &lines[fourth..]].concat();
    let mut swapped = lines.clone();
    swapped.swap(third, fourth);
    for (forged, sentence) in [
        (altered, "entry 3 was altered"),
        (removed.join("\n"), "entry 3 is missing"),
        (swapped.join("\n"), "entry 3 is missing: 4 is in its place"),
        (lines[..fourth].join("\n"), "cut off: entry 4 is missing"),
    ] {
        fs::write(&export, forged).expect("written");
        let found = verify(&["--key", &key, text(&export)]);
        assert_refuted(&found, sentence);
        assert_eq!(by_another_program(&key, &export).code, Some(1));
    }
    assert_ne!(
        by_another_program(&"01".repeat(32), &exported(&serve, folder.path())).code,
        Some(0)
    );
}

#[test]
fn an_export_goes_to_standard_output_and_over_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, _) = served(folder.path());
    let piped = serve.run(&["audit", "export", "--tenant", "acme", "--since", "1h"]);
    assert_eq!(piped.code, Some(0), "{piped:?}");
    assert!(piped.stdout.starts_with("{\"line\":\"header\""), "{piped:?}");
    assert!(piped.stderr.contains("10 entries of 1 chains"), "{piped:?}");
    let export = exported(&serve, folder.path());
    let before = fs::read(&export).expect("an export");
    let again = serve.run(&["audit", "export", "-o", text(&export)]);
    again.assert_fails(4, &["exists, and is not written over"]);
    assert_eq!(fs::read(&export).expect("an export"), before);
    serve.run(&["audit", "export", "--from", "3"]).assert_fails(2, &["--tenant NAME or --system"]);
    let none = serve.run(&["audit", "export", "--tenant", "none"]);
    none.assert_fails(3, &["no tenant 'none'"]);
    verify(&["/nowhere/at/all"]).assert_fails(3, &["there is no file"]);
    let other = folder.path().join("other");
    fs::write(&other, "something else\n").expect("written");
    let found = verify(&[text(&other)]);
    assert_refuted(&found, "this is no export of an audit");
}

#[test]
fn a_store_without_a_change_says_why_it_has_no_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    maintain(&data, &["audit", "head"]).assert_fails(3, &["the first change makes one"]);
    assert_eq!(maintain(&data, &["audit", "verify"]).code, Some(0));
}
