//! What an earlier version stored is read by this one: the samples in
//! tests/vectors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Client, Request, Serve, eventually, maintain, store_in};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// A private copy of a frozen folder, and its KEK where `--data` looks for it.
fn unpacked(folder: &Path, name: &str) -> PathBuf {
    let archive = vector(&format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder).status();
    assert!(tar.expect("tar exists").success());
    let data = folder.join(name);
    let kek = data.with_extension("kek");
    fs::copy(vector(&format!("{name}.kek")), &kek).expect("the KEK is there");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("ours");
    data
}

fn token(data: &Path, tenant: &str) -> String {
    let minted = maintain(data, &["token", "mint", "--tenant", tenant, "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

fn pattern(length: usize) -> String {
    "0123456789abcdef".chars().cycle().take(length).collect()
}

/// Serves the store and finds the frozen secrets in it.
fn serve_frozen(data: &Path) -> Serve {
    let serve = Serve::start(data);
    let mut client = Client::new(serve.address);
    let acme = token(data, "acme");
    let mut get = |tenant: &str, name: &str, token: &str| {
        client.send(&Request::get(format!("/api/{tenant}/secrets/{name}")).bearer(token))
    };
    for (name, value) in [
        ("plain", "correct horse"),
        ("replaced", "second"),
        ("words", "grüße, 世界 🔑\n\t\"\\"),
        ("page", &pattern(9_000)),
        ("largest", &pattern(65_536)),
        ("until", "until"),
    ] {
        assert_eq!(get("acme", name, &acme).json(), *value, "{name}");
    }
    assert!(get("acme", "nothing", &acme).json().is_null());
    for name in ["deleted", "later", "expired"] {
        assert_eq!(get("acme", name, &acme).status, 404, "{name}");
    }
    assert_eq!(get("beta", "plain", &token(data, "beta")).json(), "battery staple");
    let list = client.send(&Request::get("/api/acme/secrets").bearer(&acme)).json();
    let names = ["largest", "later", "nothing", "page", "plain", "replaced", "until", "words"];
    assert_eq!(list, serde_json::json!(names));

    let tenants = maintain(data, &["tenant", "list", "--json"]);
    assert!(!tenants.stdout.contains("gone"), "{tenants:?}");
    let put = Request::put("/api/acme/secrets/plain", r#"{"value":"new"}"#).bearer(&acme);
    assert_eq!(client.send(&put).status, 204);
    serve
}

#[test]
fn the_data_folder_of_format_1_is_migrated_and_served_as_it_was_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = unpacked(folder.path(), "data-v1");
    let mark = |store: PathBuf| fs::read(store.join("tenants-0000/1/mark")).expect("it is there");
    let before = mark(data.join("store"));
    let serve = serve_frozen(&data);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_eq!(fs::read_to_string(data.join("FORMAT")).expect("it is there"), "tenure data 2\n");
    // What was written since went into the new one.
    assert_eq!(mark(data.join("store")), before);
    assert_ne!(mark(store_in(&data)), before);
    // Its small values come beside their heads when they are encrypted anew.
    let rotated = maintain(&data, &["dek", "rotate", "--rewrite"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    serve_frozen_again(&data);
    let verified = maintain(&data, &["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn the_data_folder_of_format_2_is_served_as_it_was_left_with_its_credentials() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = unpacked(folder.path(), "data-v2");
    let serve = serve_frozen(&data);
    let credentials = fs::read_to_string(vector("data-v2.credentials")).expect("it is there");
    let [api_key, older, revoked] = &credentials.lines().collect::<Vec<_>>()[..] else {
        panic!("three credentials");
    };
    let plain = || Request::get("/api/acme/secrets/words");
    assert_eq!(serve.send(&plain().api_key(api_key)).status, 200);
    assert_eq!(serve.send(&plain().bearer(older)).status, 200, "the older root is honoured");
    assert_eq!(serve.send(&plain().bearer(revoked)).status, 401);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let verified = maintain(&data, &["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// As kill -9 left it, amid a rewriting: that goes on.
#[test]
fn a_data_folder_with_deks_of_every_state_is_served_and_its_rewriting_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = unpacked(folder.path(), "data-v3");
    let list = || maintain(&data, &["dek", "list"]).stdout;
    let left = list();
    assert!(["leaving", "retired", "active"].iter().all(|state| left.contains(state)), "{left}");
    let serve = serve_frozen(&data);
    eventually("the rewriting to end", || (!list().contains("leaving")).then_some(()));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    serve_frozen_again(&data);
    let checked = maintain(&data, &["kek", "check"]);
    assert!(checked.stdout.contains("since 2026-11-28T"), "{checked:?}");
    let verified = maintain(&data, &["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// After another put a value in the place of one.
fn serve_frozen_again(data: &Path) {
    let acme = token(data, "acme");
    let serve = Serve::start(data);
    let get = |name: &str| {
        serve.send(&Request::get(format!("/api/acme/secrets/{name}")).bearer(&acme)).json()
    };
    assert_eq!(get("largest"), *pattern(65_536));
    assert_eq!((get("replaced"), get("plain")), ("second".into(), "new".into()));
}

#[test]
fn backups_of_every_format_are_verified_and_restored() {
    for format in ["v1", "v2", "v3"] {
        restore_frozen(format);
    }
}

fn restore_frozen(format: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let backup = vector(&format!("backup-{format}.backup"));
    let data = folder.path().join("data");
    let kek = data.with_extension("kek");
    fs::copy(vector(&format!("data-{format}.kek")), &kek).expect("the KEK is there");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o600)).expect("ours");
    let backup = backup.to_str().expect("a plain path");
    let verified = maintain(&data, &["backup", "verify", backup, "--json"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let found: serde_json::Value = serde_json::from_str(&verified.stdout).expect("JSON");
    let secrets: Vec<_> = found["parts"].as_array().expect("parts").iter().collect();
    let secrets: Vec<_> = secrets.iter().map(|part| part["secrets"].as_u64()).collect();
    assert_eq!(secrets, [Some(0), Some(0), Some(9), Some(1)]);
    let restored = maintain(&data, &["backup", "restore", backup, "--credentials", "revoke"]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let serve = serve_frozen(&data);
    let one = ["backup", "restore", backup, "--tenant", "acme", "--as", "acme-again"];
    let beside = maintain(&data, &one);
    assert_eq!(beside.code, Some(0), "{beside:?}");
    let again = token(&data, "acme-again");
    let get = Request::get("/api/acme-again/secrets/plain").bearer(&again);
    assert_eq!(Client::new(serve.address).send(&get).json(), "correct horse");
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let verified = maintain(&data, &["verify"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
