//! The formats as another program reads them, which was written from docs/keys.md and
//! docs/backup-format.md alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::keys::{kek_of, reader};
use crate::support::{Output, Request, Serve, init, maintain};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

fn read(backup: &Path, kek: &Path) -> Output {
    Output::of(reader("read_backup.py").arg(backup).arg(kek))
}

fn secrets(backup: &Path, kek: &Path) -> Value {
    let output = read(backup, kek);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

#[test]
fn every_sample_is_as_the_documents_have_it() {
    let output = Output::of(reader("read_backup.py").arg("--vectors").arg(vector("")));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains(" samples are as docs/keys.md has them"), "{output:?}");
}

#[test]
fn frozen_backups_are_read_by_another_program() {
    for format in ["v1", "v2", "v3"] {
        let backup = vector(&format!("backup-{format}.backup"));
        let found = secrets(&backup, &vector(&format!("data-{format}.kek")));
        let acme = &found["acme"];
        assert_eq!(acme["plain"]["value"], "correct horse");
        assert_eq!(acme["replaced"]["value"], "second");
        assert_eq!(acme["words"]["value"], "grüße, 世界 🔑\n\t\"\\");
        assert_eq!(acme["largest"]["value"].as_str().map(str::len), Some(65_536));
        assert!(acme["nothing"]["value"].is_null());
        assert_eq!(acme["later"]["notBefore"], "2100-01-01T00:00:00+00:00");
        assert_eq!(acme["deleted"], Value::Null, "it is not there");
        assert_eq!(
            found["beta"],
            json!({ "plain": {
                "value": "battery staple", "notBefore": null, "expiresOn": null,
            }})
        );
    }
}

/// A store with secrets of every kind, written over HTTP, and its backup.
fn served_and_backed_up(folder: &Path) -> (Serve, String, PathBuf) {
    let data = init(folder);
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let serve = Serve::start(&data);
    let minted = serve.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
    let token = minted.stdout.trim().to_owned();
    // A row of each kind that the system has.
    for command in [
        &["api-key", "create", "--tenant", "acme", "--scope", "Secret.Read"][..],
        &["token", "revoke", "--tenant", "acme", "--subject", "a-job-of-old"],
        &["token", "rotate-root", "--honour-old-until", "7d"],
        &["sweep"],
    ] {
        let done = serve.run(command);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    for (name, body) in [
        ("plain", json!({ "value": "hunter2" })),
        ("words", json!({ "value": "gr\u{fc}\u{df}e\n\u{1f511}\"\\" })),
        ("nothing", json!({ "value": null })),
        ("empty", json!({ "value": "" })),
        ("beside", json!({ "value": "x".repeat(900) })),
        ("apart", json!({ "value": "y".repeat(60_000) })),
        ("until", json!({ "value": "u", "expiresOn": "2199-12-31T23:00:00.5Z" })),
        ("gone", json!({ "value": "g" })),
        ("plain", json!({ "value": "hunter3" })),
    ] {
        let put = Request::put(format!("/api/acme/secrets/{name}"), body.to_string());
        assert_eq!(serve.send(&put.bearer(&token)).status, 204, "{name}");
    }
    let delete = Request::delete("/api/acme/secrets/gone").bearer(&token);
    assert_eq!(serve.send(&delete).status, 204);
    let backup = folder.join("fresh.backup");
    let made = serve.run(&["backup", "create", backup.to_str().expect("a plain path")]);
    assert_eq!(made.code, Some(0), "{made:?}");
    (serve, token, backup)
}

#[test]
fn a_fresh_backup_holds_what_the_server_says_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, token, backup) = served_and_backed_up(folder.path());
    let found = secrets(&backup, &kek_of(&serve.data));
    let found = found["acme"].as_object().expect("a tenant");
    let list = serve.send(&Request::get("/api/acme/secrets").bearer(&token)).json();
    assert_eq!(json!(found.keys().collect::<Vec<_>>()), list);
    for (name, secret) in found {
        let get = Request::get(format!("/api/acme/secrets/{name}")).bearer(&token);
        assert_eq!(serve.send(&get).json(), secret["value"], "{name}");
    }
    assert_eq!(found["until"]["expiresOn"], "2199-12-31T23:00:00.500000+00:00");
}

#[test]
fn an_altered_backup_and_another_kek_are_refused_by_another_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let (serve, _, backup) = served_and_backed_up(folder.path());
    let kek = kek_of(&serve.data);
    let other = folder.path().join("other.kek");
    fs::write(&other, "4a".repeat(32)).expect("a file");
    let refused = |output: Output, why: &str| {
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{why}");
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
    };
    refused(read(&backup, &other), "this is another KEK");
    let whole = fs::read(&backup).expect("it is there");
    let altered = folder.path().join("altered.backup");
    let read_altered = |bytes: &[u8]| {
        fs::write(&altered, bytes).expect("a file");
        read(&altered, &kek)
    };
    for at in (0..whole.len()).step_by(whole.len() / 16) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let output = read_altered(&bytes);
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "byte {at}: {output:?}");
    }
    refused(read_altered(&whole[..whole.len() - 1]), "a field ends early");
    refused(read_altered(&[whole.as_slice(), b"x"].concat()), "bytes follow the seal");
}
