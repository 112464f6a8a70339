//! A tenant's keys are in no file once its deletion was answered, and so is nothing that
//! could read what is left of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::support::keys::{Keys, TenantKeys, kek_of};
use crate::support::{Random, Request, Serve, ended, init, maintain, tenure};

/// Which of these (hexadecimal) stand in some file below `folder`, byte for byte.
fn found_in(folder: &Path, needles: &[String]) -> Vec<bool> {
    let mut files = Vec::new();
    contents_below(folder, &mut files);
    let stands = |needle: &String| {
        let needle = hex::decode(needle).expect("hexadecimal");
        files.iter().any(|file| stands_in(file, &needle))
    };
    needles.iter().map(stands).collect()
}

fn stands_in(file: &[u8], needle: &[u8]) -> bool {
    let (first, rest) = needle.split_first().expect("a needle");
    let mut from = 0;
    while let Some(at) = file[from..].iter().position(|byte| byte == first) {
        from += at + 1;
        if file[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

fn contents_below(folder: &Path, files: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("it is there");
        if kind.is_dir() {
            contents_below(&entry.path(), files);
        } else if kind.is_file() {
            files.push(fs::read(entry.path()).expect("a file"));
        }
    }
}

fn all(found: &[bool]) -> bool {
    found.iter().all(|found| *found)
}

fn any(found: &[bool]) -> bool {
    found.iter().any(|found| *found)
}

/// Makes a tenant with a few secrets, and answers its keys.
fn tenant(serve: &Serve, name: &str, folder: &Path) -> TenantKeys {
    assert_eq!(serve.run(&["tenant", "create", name]).code, Some(0));
    let minted = serve.run(&["token", "mint", "--tenant", name, "--scope", "*"]);
    for n in 0..5 {
        let body = json!({ "value": format!("value {n}") }).to_string();
        let put = Request::put(format!("/api/{name}/secrets/n{n}"), body);
        assert_eq!(serve.send(&put.bearer(minted.stdout.trim())).status, 204);
    }
    keys(serve, name, folder)
}

fn keys(serve: &Serve, name: &str, folder: &Path) -> TenantKeys {
    let backup = folder.join(format!("{name}.backup"));
    let made = serve.run(&["backup", "create", backup.to_str().expect("a plain path")]);
    assert_eq!(made.code, Some(0), "{made:?}");
    Keys::of(&backup, &kek_of(&serve.data)).tenants.remove(name).expect("it is in the backup")
}

#[test]
fn a_deleted_tenants_keys_are_in_no_file_and_its_rows_in_none_after_compaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let (acme, beta) =
        (tenant(&serve, "acme", folder.path()), tenant(&serve, "beta", folder.path()));
    let found = |needles: &[String]| found_in(&data, needles);
    assert_eq!((acme.wrapped.len(), acme.heads.len()), (2, 5));
    for keys in [&acme, &beta] {
        assert!(
            all(&found(&keys.wrapped)) && all(&found(&keys.heads)),
            "they are seen where they are"
        );
        assert!(!any(&found(&keys.plain)), "none stands anywhere as it is");
    }
    assert_eq!(serve.run(&["tenant", "delete", "acme", "--yes"]).code, Some(0));
    assert!(!any(&found(&acme.wrapped)), "gone when the deletion was answered");
    assert!(all(&found(&beta.wrapped)), "and nobody else's");
    println!("rows that are left: {:?}", found(&acme.heads));
    assert_eq!(serve.run(&["compact", "--all"]).code, Some(0));
    assert!(!any(&found(&acme.heads)) && all(&found(&beta.heads)));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert!(!any(&found(&acme.wrapped)) && all(&found(&beta.wrapped)));
    assert_eq!(maintain(&data, &["verify"]).code, Some(0));
}

#[test]
fn a_replaced_deks_wrapped_bytes_are_in_no_file_when_all_was_encrypted_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let serve = Serve::start(&data);
    let acme = tenant(&serve, "acme", folder.path());
    let found = || found_in(&data, &acme.wrapped).iter().filter(|found| **found).count();
    assert_eq!(serve.run(&["dek", "rotate"]).code, Some(0));
    assert!(found() > 0, "a retired key is in the keyring still, or in its garbage");
    assert_eq!(serve.run(&["dek", "rotate", "--rewrite"]).code, Some(0));
    assert_eq!(found(), 1, "of DEK and anchor, the anchor stays");
    assert_eq!(serve.run(&["compact", "--all"]).code, Some(0));
    assert!(!any(&found_in(&data, &acme.heads)), "nothing is left that the old key opened");
}

#[test]
fn kill_9_during_a_deletion_leaves_a_whole_tenant_or_none_of_its_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let mut random = Random::seeded();
    let mut serve = Serve::start(&data);
    let (mut deleted, rounds) = (0, 12);
    for round in 0..rounds {
        println!("round {round}, seed {}", random.0);
        let name = format!("t{round}");
        let keys = tenant(&serve, &name, folder.path());
        let mut command = tenure();
        command.args(["tenant", "delete", &name, "--yes", "--data"]).arg(&data);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        random.pause(Duration::from_millis(40));
        serve.kill();
        ended(&mut child);
        serve = Serve::start(&data);
        let found = found_in(&data, &keys.wrapped);
        if serve.run(&["tenant", "list"]).stdout.lines().any(|line| line.contains(&name)) {
            assert!(all(&found), "{name} is there, with its keys");
            assert_eq!(serve.run(&["tenant", "delete", &name, "--yes"]).code, Some(0));
            assert!(!any(&found_in(&data, &keys.wrapped)));
        } else {
            deleted += 1;
            assert!(!any(&found), "{name} is gone, and its keys with it");
        }
    }
    println!("{deleted} of {rounds} were deleted when the server was killed");
}
