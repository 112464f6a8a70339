//! Backups with the real program: made while it serves, checked, restored, and
//! broken off at any moment.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Client, Output, Random, Request, Serve, Writers, ended, eventually, init, maintain, signal,
    tenure,
};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A store with tenants acme and beta, and what its secrets are.
    fn store(&self) -> PathBuf {
        let data = init(self.folder.path());
        for tenant in ["acme", "beta"] {
            assert_eq!(maintain(&data, &["tenant", "create", tenant]).code, Some(0));
        }
        data
    }

    /// A new data folder whose KEK is that of `data`.
    fn beside(&self, data: &Path, name: &str) -> PathBuf {
        let new = self.path(name);
        let kek = |data: &Path| data.with_extension("kek");
        fs::copy(kek(data), kek(&new)).expect("a copy of the KEK");
        new
    }
}

fn token(data: &Path, tenant: &str) -> String {
    let minted = maintain(data, &["token", "mint", "--tenant", tenant, "--scope", "*"]);
    assert_eq!(minted.code, Some(0), "{minted:?}");
    minted.stdout.trim().to_owned()
}

fn url(tenant: &str, name: &str) -> String {
    format!("/api/{tenant}/secrets/{name}")
}

fn put(serve: &Serve, tenant: &str, name: &str, value: &str, token: &str) {
    let body = serde_json::json!({ "value": value }).to_string();
    let answer = serve.send(&Request::put(url(tenant, name), body).bearer(token));
    assert_eq!(answer.status, 204, "{answer:?}");
}

fn get(serve: &Serve, tenant: &str, name: &str, token: &str) -> (u16, Value) {
    let answer = serve.send(&Request::get(url(tenant, name)).bearer(token));
    (answer.status, answer.json())
}

fn run(data: &Path, command: &[&str], file: &Path) -> Output {
    let mut args = vec!["backup"];
    args.extend_from_slice(command);
    args.push(file.to_str().expect("a plain path"));
    maintain(data, &args)
}

fn done(output: &Output) {
    assert_eq!(output.code, Some(0), "{output:?}");
}

fn json(output: &Output) -> Value {
    done(output);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// A store that serves, with a few secrets, and a backup of it.
fn served_and_backed_up(place: &Place) -> (PathBuf, PathBuf, String) {
    let data = place.store();
    let serve = Serve::start(&data);
    let acme = token(&data, "acme");
    put(&serve, "acme", "plain", "correct horse", &acme);
    put(&serve, "acme", "large", &"0123456789abcdef".repeat(4_000), &acme);
    put(&serve, "beta", "plain", "battery staple", &token(&data, "beta"));
    let file = place.path("monday.backup");
    done(&run(&data, &["create"], &file));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    (data, file, acme)
}

#[test]
fn a_store_moves_to_another_folder_by_a_backup() {
    let place = Place::new();
    let (data, file, old_token) = served_and_backed_up(&place);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = run(&data, &["create"], &file);
    assert_eq!(again.code, Some(4), "an existing file is not written over: {again:?}");

    let verified = json(&run(&data, &["--json", "verify"], &file));
    assert_eq!((&verified["reply"], &verified["sound"]), (&"backup-verified".into(), &true.into()));
    assert_eq!(verified["parts"].as_array().map(Vec::len), Some(4));

    let new = place.beside(&data, "moved");
    let dry = json(&run(&new, &["--json", "restore", "--credentials", "keep", "--dry-run"], &file));
    assert_eq!((&dry["dryRun"], &dry["credentials"]), (&true.into(), &"kept".into()));
    assert!(!new.exists(), "a dry run makes nothing");

    done(&run(&new, &["restore", "--credentials", "keep"], &file));
    let serve = Serve::start(&new);
    assert_eq!(get(&serve, "acme", "plain", &old_token), (200, "correct horse".into()));
    let large = "0123456789abcdef".repeat(4_000);
    assert_eq!(get(&serve, "acme", "large", &old_token), (200, large.into()));
    assert_eq!(get(&serve, "beta", "plain", &token(&new, "beta")), (200, "battery staple".into()));
    put(&serve, "acme", "plain", "new", &old_token);
    done(&maintain(&new, &["verify"]));
    assert_eq!(serve.stop_by("TERM").0, Some(0));

    let twice = run(&new, &["restore", "--credentials", "keep"], &file);
    assert_eq!(twice.code, Some(4), "a store is not restored over: {twice:?}");
}

#[test]
fn revoked_tokens_stay_revoked_and_another_kek_is_made() {
    let place = Place::new();
    let (data, file, old_token) = served_and_backed_up(&place);
    let (new, old_kek) = (place.path("elsewhere"), data.with_extension("kek"));
    let without = run(&new, &["restore", "--credentials", "revoke"], &file);
    assert_eq!(without.code, Some(2), "there is no KEK: {without:?}");
    assert!(!new.exists());
    let restored = Output::of(
        tenure()
            .args(["backup", "restore", "--credentials", "revoke", "--backup-kek-file"])
            .args([&old_kek, &file])
            .arg("--data")
            .arg(&new),
    );
    done(&restored);
    assert!(restored.stdout.contains("made a new KEK"), "{restored:?}");
    assert!(restored.stdout.contains("tokens minted before are refused"), "{restored:?}");
    assert_ne!(fs::read(new.with_extension("kek")).ok(), fs::read(&old_kek).ok());
    let serve = Serve::start(&new);
    assert_eq!(get(&serve, "acme", "plain", &old_token).0, 401);
    assert_eq!(get(&serve, "acme", "plain", &token(&new, "acme")).0, 200);
}

#[test]
fn one_tenant_comes_back_beside_the_others_of_a_running_server() {
    let place = Place::new();
    let (data, file, _) = served_and_backed_up(&place);
    let one = ["restore", "--tenant", "acme", "--as", "acme-monday"];
    let serve = Serve::start(&data);
    let dry = json(&run(&data, &[&["--json"], &one[..], &["--dry-run"]].concat(), &file));
    assert_eq!((&dry["tenant"]["secrets"], &dry["dryRun"]), (&2.into(), &true.into()));
    let restored = json(&run(&data, &[&["--json"], &one[..]].concat(), &file));
    assert_eq!(restored["tenant"]["restoredAs"], "acme-monday");
    assert_eq!(restored["credentials"], "none");
    let old = get(&serve, "acme-monday", "plain", &token(&data, "acme"));
    assert_eq!(old.0, 403, "no credential comes with it");
    let new = token(&data, "acme-monday");
    assert_eq!(get(&serve, "acme-monday", "plain", &new), (200, "correct horse".into()));
    let again = run(&data, &one, &file);
    assert_eq!(again.code, Some(4), "{again:?}");
    assert_eq!(serve.stop_by("TERM").0, Some(0));

    // The same without a server.
    let offline = ["restore", "--tenant", "beta", "--as", "beta-monday"];
    done(&run(&data, &offline, &file));
    let absent = run(&data, &["restore", "--tenant", "nobody", "--as", "x"], &file);
    assert_eq!(absent.code, Some(3), "{absent:?}");
    done(&maintain(&data, &["verify"]));
    let serve = Serve::start(&data);
    let beta = token(&data, "beta-monday");
    assert_eq!(get(&serve, "beta-monday", "plain", &beta), (200, "battery staple".into()));
}

#[test]
fn a_tenant_of_another_store_needs_that_stores_kek() {
    let place = Place::new();
    let (data, file, _) = served_and_backed_up(&place);
    let other = Place::new();
    let here = other.store();
    let one = ["restore", "--tenant", "acme", "--as", "guest"];
    let refused = run(&here, &one, &file);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let kek = data.with_extension("kek");
    let kek = kek.to_str().expect("a plain path");
    let serve = Serve::start(&here);
    done(&run(&here, &[&one[..], &["--backup-kek-file", kek]].concat(), &file));
    let guest = token(&here, "guest");
    assert_eq!(get(&serve, "guest", "plain", &guest), (200, "correct horse".into()));
    let text = fs::read_to_string(kek).expect("the KEK");
    assert!(!serve.log().contains(text.trim()));
}

#[test]
fn what_is_damaged_is_refused_and_nothing_is_left() {
    let place = Place::new();
    let (data, file, _) = served_and_backed_up(&place);
    let bytes = fs::read(&file).expect("a backup");
    let broken = place.path("broken.backup");
    let new = place.beside(&data, "new");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    let mut newer = bytes.clone();
    newer[15] = 9;
    let longer = [bytes.as_slice(), b"x"].concat();
    for (bytes, code) in [
        (&flipped[..], 7),
        (&longer, 7),
        (&bytes[..bytes.len() - 1], 7),
        (&bytes[..bytes.len() / 2], 7),
        (&newer, 2),
        (b"no backup at all", 2),
        (b"", 2),
    ] {
        fs::write(&broken, bytes).expect("a file");
        let verified = run(&data, &["verify"], &broken);
        assert_eq!(verified.code, Some(code), "{verified:?}");
        let restored = run(&new, &["restore", "--credentials", "keep"], &broken);
        assert_eq!(restored.code, Some(code), "{restored:?}");
        let holds = fs::read_dir(&new).expect("a folder").count();
        assert_eq!(holds, 0, "the folder is as it was");
        let one = run(&data, &["restore", "--tenant", "acme", "--as", "copy"], &broken);
        assert_eq!(one.code, Some(code), "{one:?}");
    }
    let missing = run(&data, &["verify"], &place.path("nothing"));
    assert_eq!(missing.code, Some(3), "{missing:?}");
    let other_kek = place.path("other.kek");
    fs::write(&other_kek, "4a".repeat(32)).expect("a KEK");
    fs::set_permissions(&other_kek, fs::Permissions::from_mode(0o600)).expect("ours");
    let kek = other_kek.to_str().expect("a plain path");
    let verified = run(&data, &["verify", "--kek-file", kek], &file);
    assert_eq!(verified.code, Some(2), "{verified:?}");
    assert!(verified.stderr.contains("another KEK"), "{verified:?}");
    let tenants = maintain(&data, &["tenant", "list"]);
    assert!(!tenants.stdout.contains("copy"), "{tenants:?}");
    done(&run(&new, &["restore", "--credentials", "keep"], &file));
}

#[test]
fn a_backup_passes_through_a_pipe() {
    let place = Place::new();
    let (data, ..) = served_and_backed_up(&place);
    let piped = tenure().args(["backup", "create", "-", "--data"]).arg(&data).output();
    let piped = piped.expect("the program starts");
    assert!(piped.status.success(), "{piped:?}");
    assert!(String::from_utf8_lossy(&piped.stderr).contains("2 tenants"));
    let new = place.beside(&data, "new");
    let restored = with_input(
        tenure().args(["backup", "restore", "-", "--credentials", "keep", "--data"]).arg(&new),
        &piped.stdout,
    );
    done(&restored);
    let verify = |bytes: &[u8]| {
        with_input(tenure().args(["backup", "verify", "-", "--data"]).arg(&data), bytes)
    };
    done(&verify(&piped.stdout));
    assert_eq!(verify(&piped.stdout[..100]).code, Some(7));
}

fn with_input(command: &mut Command, input: &[u8]) -> Output {
    let (stdin, stdout, stderr) = (Stdio::piped(), Stdio::piped(), Stdio::piped());
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
    let mut child = child.expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that refuses early takes no more.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the child is ours");
    writer.join().expect("it writes");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[test]
fn what_must_be_said_must_be_said() {
    let place = Place::new();
    let file = place.path("b");
    for args in [
        &["restore"][..],
        &["restore", "--tenant", "acme"],
        &["restore", "--as", "copy", "--credentials", "keep"],
        &["restore", "--tenant", "acme", "--as", "copy", "--credentials", "keep"],
        &["restore", "--credentials", "perhaps"],
    ] {
        let refused = run(&place.path("data"), args, &file);
        assert_eq!(refused.code, Some(2), "{args:?}: {refused:?}");
    }
    let full = place.path("full");
    fs::create_dir(&full).expect("a folder");
    fs::write(full.join("letter"), "dear").expect("a file");
    fs::write(&file, "x").expect("a file");
    let refused = run(&full, &["restore", "--credentials", "keep"], &file);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("letter"), "{refused:?}");
    assert_eq!(fs::read_dir(&full).expect("a folder").count(), 1);
}

/// Tenants acme and beta with many secrets, served.
fn many_secrets(place: &Place) -> (PathBuf, Serve, Vec<(&'static str, String)>) {
    let data = place.store();
    let serve = Serve::start(&data);
    let tokens = ["acme", "beta"].map(|tenant| (tenant, token(&data, tenant)));
    let mut client = Client::new(serve.address);
    for n in 0..300 {
        let body = serde_json::json!({ "value": "x".repeat(20_000) }).to_string();
        let request = Request::put(url("acme", &format!("n{n}")), body).bearer(&tokens[0].1);
        assert_eq!(client.send(&request).status, 204);
    }
    (data, serve, tokens.into())
}

fn spawned(command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("the program starts")
}

#[test]
fn kill_9_during_create_leaves_no_backup_and_a_server_that_goes_on() {
    let place = Place::new();
    let (data, serve, tokens) = many_secrets(&place);
    let file = place.path("b");
    let partial = place.path("b.partial");
    let mut random = Random::seeded();
    let mut whole = 0;
    for round in 0..12 {
        println!("round {round}, seed {}", random.0);
        let mut child =
            spawned(tenure().args(["backup", "create"]).arg(&file).arg("--data").arg(&data));
        random.pause(Duration::from_millis(120));
        signal(child.id(), "KILL");
        ended(&mut child);
        if file.exists() {
            whole += 1;
            done(&run(&data, &["verify"], &file));
            fs::remove_file(&file).expect("ours");
        }
        assert_eq!(get(&serve, "acme", "n7", &tokens[0].1).0, 200);
    }
    println!("{whole} were whole");
    done(&run(&data, &["create"], &file));
    assert!(!partial.exists(), "what was left is taken over");
    done(&run(&data, &["verify"], &file));
    // And the server's own end.
    let other = place.path("c");
    let mut child =
        spawned(tenure().args(["backup", "create"]).arg(&other).arg("--data").arg(&data));
    eventually("the backup to be under way", || place.path("c.partial").exists().then_some(()));
    serve.kill();
    let code = ended(&mut child).code();
    assert_eq!(other.exists(), code == Some(0), "{code:?}");
    if code != Some(0) {
        assert!(!place.path("c.partial").exists(), "a failed one leaves nothing");
    }
    done(&maintain(&data, &["verify"]));
}

#[test]
fn kill_9_during_a_restore_leaves_no_store_and_the_next_begins_anew() {
    let place = Place::new();
    let (data, serve, tokens) = many_secrets(&place);
    let file = place.path("b");
    done(&run(&data, &["create"], &file));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    let mut random = Random::seeded();
    let mut whole = 0;
    for round in 0..12 {
        println!("round {round}, seed {}", random.0);
        let new = place.beside(&data, &format!("new{round}"));
        let restore = || {
            let mut command = tenure();
            command.args(["backup", "restore", "--credentials", "keep"]).arg(&file);
            command.arg("--data").arg(&new);
            command
        };
        let mut child = spawned(&mut restore());
        random.pause(Duration::from_millis(400));
        signal(child.id(), "KILL");
        ended(&mut child);
        if new.join("FORMAT").exists() {
            whole += 1;
        } else {
            let status = maintain(&new, &["status"]);
            assert!(matches!(status.code, Some(2 | 3)), "{status:?}");
            if new.join("RESTORING").exists() {
                assert!(status.stderr.contains("run 'tenure backup restore' again"), "{status:?}");
                let init = maintain(&new, &["init"]);
                assert_eq!(init.code, Some(2), "{init:?}");
            }
            done(&Output::of(&mut restore()));
        }
        done(&maintain(&new, &["verify"]));
    }
    println!("{whole} were whole");
    let serve = Serve::start(&place.path("new3"));
    assert_eq!(get(&serve, "acme", "n299", &tokens[0].1), (200, "x".repeat(20_000).into()));
}

#[test]
fn kill_9_while_a_tenant_is_taken_in_leaves_no_tenant() {
    let place = Place::new();
    let (data, serve, _) = many_secrets(&place);
    let file = place.path("b");
    done(&run(&data, &["create"], &file));
    let mut random = Random::seeded();
    let mut serve = Some(serve);
    for round in 0..8 {
        println!("round {round}, seed {}", random.0);
        let name = format!("copy{round}");
        let mut child = spawned(
            tenure()
                .args(["backup", "restore", "--tenant", "acme", "--as", &name])
                .arg(&file)
                .arg("--data")
                .arg(&data),
        );
        random.pause(Duration::from_millis(250));
        // The server, or its caller.
        if round % 2 == 0 {
            serve.take().expect("it serves").kill();
            ended(&mut child);
            serve = Some(Serve::start(&data));
        } else {
            signal(child.id(), "KILL");
            ended(&mut child);
        }
        let exists = || maintain(&data, &["tenant", "list"]).stdout.contains(&name);
        if exists() {
            let verified = maintain(&data, &["--json", "verify", "--tenant", &name]);
            assert_eq!(json(&verified)["parts"][0]["secrets"], 300);
        }
        done(&maintain(&data, &["verify"]));
    }
}

#[test]
fn backups_made_under_load_are_sound_and_one_made_after_holds_all_that_was_acknowledged() {
    let place = Place::new();
    let data = place.store();
    let serve = Serve::start(&data);
    let tokens = ["acme", "beta"].map(|tenant| (tenant, token(&data, tenant)));
    let mut random = Random::seeded();
    println!("seed {}", random.0);
    let mut writers = Writers::new(8, tokens.into(), &mut random);
    let mut files = Vec::new();
    let address = serve.address;
    writers.under_load(address, |load| {
        for n in 0..4 {
            let before = load.acknowledged();
            let file = place.path(&format!("{n}.backup"));
            done(&run(&data, &["create"], &file));
            files.push(file);
            eventually("writes", || (load.acknowledged() > before + 10).then_some(()));
        }
        assert_eq!(serve.stop_by("TERM").0, Some(0));
    });
    for file in &files {
        let verified = json(&run(&data, &["--json", "verify"], file));
        assert_eq!(verified["sound"], true);
    }
    let last = place.path("last.backup");
    done(&run(&data, &["create"], &last));
    let new = place.beside(&data, "new");
    done(&run(&new, &["restore", "--credentials", "keep"], &last));
    writers.assert_kept(Serve::start(&new).address);
}

#[test]
fn two_creators_do_not_write_one_file() {
    let place = Place::new();
    let data = place.store();
    let file = place.path("b");
    let held = File::create(place.path("b.partial")).expect("a file");
    held.lock().expect("nobody else has it");
    let busy = run(&data, &["create"], &file);
    assert_eq!(busy.code, Some(5), "{busy:?}");
    drop(held);
    done(&run(&data, &["create"], &file));
}

/// The backups in a folder, oldest first; none are half written.
fn scheduled(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<_> = names.map(|name| name.expect("a plain name")).collect();
    names.retain(|name| name.ends_with(".backup") && name.starts_with("tenure-2"));
    names.sort();
    names
}

#[test]
fn a_server_writes_backups_by_itself_and_keeps_the_newest() {
    let place = Place::new();
    let data = place.store();
    let folder = place.path("backups");
    fs::create_dir(&folder).expect("a folder");
    for foreign in ["monday.backup", "tenure-of-mine.backup"] {
        fs::write(folder.join(foreign), "mine").expect("a file");
    }
    let start = |every: &str| {
        Serve::start_with(&data, |command| {
            command.arg("--data").arg(&data).env("TENURE_BACKUP_EVERY", every);
            command.env("TENURE_BACKUP_FOLDER", &folder).env("TENURE_BACKUP_KEEP", "2");
        })
    };
    let serve = start("1s");
    let acme = token(&data, "acme");
    put(&serve, "acme", "plain", "correct horse", &acme);
    let first = eventually("a first backup", || scheduled(&folder).first().cloned());
    eventually("the first to be removed", || {
        let names = scheduled(&folder);
        (names.len() == 2 && !names.contains(&first)).then_some(())
    });
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("wrote the backup") && log.contains("and removed 1 older"), "{log}");
    for foreign in ["monday.backup", "tenure-of-mine.backup"] {
        assert_eq!(fs::read_to_string(folder.join(foreign)).ok().as_deref(), Some("mine"));
    }
    let newest = scheduled(&folder).pop().expect("a backup");
    done(&run(&data, &["verify"], &folder.join(&newest)));
    let new = place.beside(&data, "new");
    done(&run(&new, &["restore", "--credentials", "keep"], &folder.join(&newest)));
    let served = Serve::start(&new);
    assert_eq!(get(&served, "acme", "plain", &acme), (200, "correct horse".into()));

    // A restart writes none before it is due.
    let before = scheduled(&folder);
    let serve = start("1h");
    assert_eq!(get(&serve, "acme", "plain", &acme).0, 200);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_eq!(scheduled(&folder), before);
}

#[test]
fn a_backup_that_fails_leaves_the_older_ones_and_a_server_that_serves() {
    let place = Place::new();
    let data = place.store();
    // No folder can be made there.
    let folder = place.path("file");
    fs::write(&folder, "not a folder").expect("a file");
    let serve = Serve::start_with(&data, |command| {
        command.arg("--data").arg(&data).env("TENURE_BACKUP_EVERY", "1s");
        command.env("TENURE_BACKUP_FOLDER", &folder);
    });
    eventually("a failure in the log", || {
        serve.log().contains("no backup was written, and none removed").then_some(())
    });
    let acme = token(&data, "acme");
    put(&serve, "acme", "plain", "v", &acme);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_eq!(fs::read_to_string(&folder).ok().as_deref(), Some("not a folder"));
}
