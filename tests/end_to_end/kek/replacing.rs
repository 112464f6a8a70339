//! A KEK is replaced while the server serves; broken off anywhere, one of the two opens
//! the store, and the same command again goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::bench::{Place, Watch, assert_silent, done, fails, mode, new_key};
use crate::support::{
    Dev, Output, Random, Writers, ended, init, maintain, quiet, tenure, two_tenants,
};

fn json(output: &Output) -> Value {
    serde_json::from_str(&done(output)).expect("JSON")
}

#[test]
fn a_kek_in_a_file_is_rotated_while_the_server_serves() {
    let place = Place::with_store();
    let old = place.read("kek").trim().to_owned();
    place.write("old-copy", &old);
    let before = place.shown("before.backup");
    let serve = place.serve(|_| {});
    done(&place.run(&["backup", "create", &before]));
    let planned = json(&place.run(&["kek", "rotate", "--dry-run", "--json"]));
    assert_eq!((&planned["dryRun"], &planned["fingerprint"]), (&true.into(), &Value::Null));
    assert_eq!(place.read("kek").trim(), old);
    assert!(!place.path("kek.new").exists());

    let watch = Watch::begin(&[&old]);
    let rotated = json(&place.run(&["kek", "rotate", "--json"]));
    watch.end();
    let new = place.read("kek").trim().to_owned();
    assert_ne!(new, old);
    let print = planned["oldFingerprint"].as_str().expect("a fingerprint");
    let kept = place.path(&format!("kek.{print}"));
    let expected = serde_json::json!({
        "dryRun": false, "replaced": true, "source": "file", "oldFingerprint": print,
        "fingerprint": rotated["fingerprint"], "kekFile": place.shown("kek"),
        "oldKekFile": kept.display().to_string(),
    });
    assert_eq!(rotated, expected);
    assert_ne!(rotated["fingerprint"], rotated["oldFingerprint"]);
    assert_eq!(fs::read_to_string(&kept).expect("the old KEK").trim(), old);
    place.assert_reads(&serve);
    done(&place.run(&["kek", "check"]));
    place.assert_refused(&place.path("old-copy"));

    // Each backup needs the KEK of its time.
    let after = place.shown("after.backup");
    done(&place.run(&["backup", "create", &after]));
    done(&place.run(&["backup", "verify", &after]));
    fails(&place.run(&["backup", "verify", &before]), 2, &["another KEK", "--kek-file"]);
    let kept = kept.to_str().expect("a plain path");
    done(&place.run(&["backup", "verify", &before, "--kek-file", kept]));
    let one = ["backup", "restore", &before, "--tenant", "acme", "--as", "acme-before"];
    fails(&place.run(&one), 2, &["another KEK"]);
    done(&place.run(&[&one[..], &["--backup-kek-file", kept]].concat()));

    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0));
    assert_silent(&log, &[&old, &new]);
    place.assert_refused(&place.path("old-copy"));
    place.assert_serves(&[&old, &new], |_| {});
    let text = done(&place.run(&["kek", "rotate", "--discard-old"]));
    assert!(text.contains("the old one was removed"), "{text}");
    assert_silent(&text, &[&old, &new, place.read("kek").trim()]);
    let left = fs::read_dir(place.path(".")).expect("a folder").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("kek"));
    assert_eq!(left.count(), 2, "the KEK, and the first one");
}

/// What a crash leaves is made by hand: each state that files and store can be in.
#[test]
fn a_rotation_that_was_broken_off_goes_on_where_it_was() {
    let place = Place::with_store();
    let first = place.read("kek");
    // Before the store came under it: who starts leaves it alone, who rotates takes it.
    let next = new_key();
    place.write("kek.new", &next);
    place.assert_serves(&[&next], |_| {});
    assert_eq!((place.read("kek"), place.read("kek.new")), (first.clone(), next.clone()));
    let other = place.write("other", &new_key());
    let given = place.run(&["kek", "rotate", "--new-kek", other.to_str().expect("plain")]);
    fails(&given, 2, &["a rotation that has not ended", "or remove that file"]);
    let planned = done(&place.run(&["kek", "rotate", "--dry-run"]));
    assert!(planned.contains("of a rotation that was broken off"), "{planned}");
    assert_eq!(json(&place.run(&["kek", "rotate", "--json"]))["replaced"], true);
    assert_eq!(place.read("kek").trim(), next);

    // Before the file was renamed: who starts does it, and who rotates does no more.
    let undo = || {
        fs::rename(place.path("kek"), place.path("kek.new")).expect("ours");
        place.write("kek", &first);
    };
    undo();
    place.assert_serves(&[&next], |_| {});
    assert_eq!(place.read("kek").trim(), next);
    assert!(!place.path("kek.new").exists());
    undo();
    let finished = json(&place.run(&["kek", "rotate", "--json"]));
    assert_eq!((&finished["replaced"], place.read("kek").trim()), (&false.into(), &*next));
    // Nor does a missing file stop anybody who has the next one.
    fs::rename(place.path("kek"), place.path("kek.new")).expect("ours");
    done(&place.run(&["status"]));
    assert_eq!(place.read("kek").trim(), next);

    // Where it cannot be renamed, it is used, and said.
    undo();
    let print = json(&place.run(&["kek", "check", "--json"]))["fingerprint"].clone();
    assert!(print.is_string());
    undo();
    let kept = fs::read_dir(place.path(".")).expect("a folder").flatten().find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.len() == "kek.00000000".len() && name.starts_with("kek.")
    });
    fs::write(kept.expect("the first KEK is kept").path(), &next).expect("ours");
    let warned = place.run(&["status"]);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    assert!(warned.stderr.contains("must be renamed") && warned.stderr.contains("in the way"));
    assert_silent(&warned.stderr, &[first.trim(), &next]);
    fails(&place.run(&["kek", "rotate"]), 2, &["is under the new KEK", "is in the way"]);
    done(&place.run(&["kek", "rotate", "--discard-old"]));
    assert_eq!(place.read("kek").trim(), next);

    // One that others can read is not taken.
    mode(&place.write("kek.new", &new_key()), 0o644);
    fails(&place.run(&["kek", "rotate"]), 2, &["kek.new", "mode 0644"]);
    let passed_over = place.run(&["status"]);
    assert_eq!(passed_over.code, Some(0));
    assert!(passed_over.stderr.contains("is passed over"), "{passed_over:?}");
}

#[test]
fn where_tenure_cannot_write_the_operator_names_the_new_key() {
    let place = Place::with_store();
    let (old, new) = (place.read("kek").trim().to_owned(), new_key());
    let new_file = place.write("new", &new);
    let new_name = new_file.to_str().expect("a plain path");
    let held = place.write("held", &old);
    place.configure(&format!("source = 'command'\ncommand = ['cat', '{}']", held.display()));
    let rotate = ["kek", "rotate", "--new-kek", new_name];
    let planned = done(&place.run(&[&rotate[..], &["--dry-run"]].concat()));
    assert!(planned.starts_with("would put the store under a new KEK"), "{planned}");
    done(&place.run(&["kek", "check"]));
    let serve = place.serve(|_| {});
    let said = done(&place.run(&rotate));
    assert!(said.contains("before the next start, put the new KEK where kek.command reads it"));
    assert_silent(&said, &[&old, &new]);
    place.assert_reads(&serve);
    // What was done is not done again, with a server or without.
    let again = json(&place.run(&[&rotate[..], &["--json"]].concat()));
    assert_eq!(again["replaced"], false);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    assert_eq!(json(&place.run(&[&rotate[..], &["--json"]].concat()))["replaced"], false);
    fails(&place.run(&["status"]), 2, &["not the KEK of this store", "is under its KEK since"]);
    place.assert_refused(&place.path("kek"));
    place.write("held", &new);
    place.assert_serves(&[&old, &new], |_| {});

    // Without a server, from standard input.
    let third = new_key();
    place.write("third", &third);
    done(&place.run_with_input(&["kek", "rotate", "--new-kek", "-"], "third"));
    place.assert_refused(&new_file);
    place.write("held", &third);
    done(&place.run(&["status"]));
}

#[test]
fn another_source_takes_another_key_and_says_what_to_configure() {
    let place = Place::with_store();
    let first = place.path("kek");
    // To a command, which has to give the new key already.
    let held = place.write("held", &new_key());
    let command = format!("command = ['cat', '{}']", held.display());
    place.configure(&format!("file = 'kek'\n{command}"));
    let serve = place.serve(|_| {});
    let rewrap = |args: &[&str]| place.run(&[&["kek", "rewrap", "--to"], args].concat());
    let planned = done(&rewrap(&["command", "--dry-run"]));
    assert!(planned.starts_with("would put the store under a new KEK"), "{planned}");
    place.write("held", &place.read("kek"));
    fails(&rewrap(&["command"]), 2, &["a new source takes a new one", "tenure kek generate"]);
    place.write("held", "no key");
    fails(&rewrap(&["command"]), 2, &["what 'cat' (kek.command) prints is no KEK"]);
    let second = new_key();
    place.write("held", &second);
    let said = done(&rewrap(&["command"]));
    assert!(said.contains("  source = \"command\"\n  command = ["), "{said}");
    place.assert_reads(&serve);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    fails(
        &place.run(&["status"]),
        2,
        &["comes from command since", "set kek.source = \"command\""],
    );
    place.configure(&format!("source = 'command'\n{command}"));
    place.assert_refused(&first);
    done(&place.run(&["kek", "check"]));

    // To a file, which is made; and once made, it is not made again.
    let said = done(&rewrap(&["file", &place.shown("kek2")]));
    assert!(said.contains(&format!("  file = \"{}\"", place.shown("kek2"))), "{said}");
    let third = place.read("kek2");
    place.assert_refused(&held);
    assert_eq!(json(&rewrap(&["file", &place.shown("kek2"), "--json"]))["replaced"], false);
    assert_eq!(place.read("kek2"), third);
    place.configure("file = 'kek2'");
    place.assert_serves(&[&second, third.trim()], |_| {});

    // To a credential that the operator made, and to a passphrase.
    let fourth = new_key();
    let fourth_file = place.write("fourth", &fourth);
    fails(&rewrap(&["credential"]), 2, &["LoadCredential=tenure-kek:/path"]);
    done(&rewrap(&["credential", "store.kek", "--new-kek", fourth_file.to_str().expect("plain")]));
    place.assert_refused(&place.path("kek2"));
    place.configure("source = 'credential'\ncredential = 'fourth'");
    place.write("passphrase", "correct horse battery staple");
    let to_passphrase = ["kek", "rewrap", "--to", "passphrase", "--new-passphrase-fd", "0"];
    let mut rewrap = place.tenure(&to_passphrase);
    rewrap.env("CREDENTIALS_DIRECTORY", place.path("."));
    done(&Output::of(rewrap.stdin(fs::File::open(place.path("passphrase")).expect("a file"))));
    place.assert_refused(&fourth_file);
    place.configure("source = 'passphrase'\npassphrase_fd = 0");
    done(&place.run_with_input(&["kek", "check"], "passphrase"));

    // And to another passphrase, at a terminal.
    place.configure("source = 'passphrase'");
    let dialogue = [
        ("Passphrase of the store: ", "correct horse battery staple\n"),
        ("New passphrase: ", "a passphrase for tomorrow\n"),
        ("The same again: ", "a passphrase for tomorrow\n"),
    ];
    let (code, shown) = place.at_terminal(&["kek", "rotate"], &dialogue);
    assert_eq!(code, Some(0), "{shown}");
    assert_silent(&shown, &["horse", "tomorrow"]);
    place.configure("source = 'passphrase'\npassphrase_fd = 0");
    let old = place.run_with_input(&["kek", "check"], "passphrase");
    fails(&old, 2, &["this is not the passphrase"]);
    place.write("passphrase", "a passphrase for tomorrow");
    done(&place.run_with_input(&["kek", "check"], "passphrase"));
}

#[test]
fn behind_a_running_server_the_old_kek_need_not_be_at_hand() {
    let place = Place::with_store();
    let (old, new) = (place.read("kek"), new_key());
    fs::create_dir(place.path("credentials")).expect("a folder");
    place.write("credentials/tenure-kek", &old);
    place.configure("source = 'credential'");
    let in_service = |command: &mut Command| {
        command.env("CREDENTIALS_DIRECTORY", place.path("credentials"));
    };
    let serve = place.serve(in_service);
    let file = place.write("new", &new);
    let said = done(&place.run(&["kek", "rotate", "--new-kek", file.to_str().expect("plain")]));
    assert!(said.contains("LoadCredential=tenure-kek:…"), "{said}");
    place.assert_reads(&serve);
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    place.assert_refused(&place.path("kek"));
    place.write("credentials/tenure-kek", &new);
    place.assert_serves(&[&new], in_service);
}

#[test]
fn a_server_that_runs_saves_a_store_whose_kek_was_lost() {
    let place = Place::with_store();
    let serve = place.serve(|_| {});
    fs::remove_file(place.path("kek")).expect("ours");
    fails(&place.run(&["kek", "rotate"]), 2, &["there is no KEK at"]);
    done(&place.run(&["kek", "rewrap", "--to", "file", &place.shown("kek2")]));
    assert_eq!(serve.stop_by("TERM").0, Some(0));
    place.configure("file = 'kek2'");
    place.assert_serves(&[place.read("kek2").trim()], |_| {});
}

#[test]
fn two_that_replace_the_kek_of_one_store_do_not_do_it_at_once() {
    let place = Place::with_store();
    let held = fs::File::open(place.path("data")).expect("a folder");
    held.lock().expect("a lock");
    fails(&place.run(&["kek", "rotate"]), 5, &["another 'tenure kek'", "wait for it"]);
    assert!(!place.path("kek.new").exists());
    drop(held);
    done(&place.run(&["kek", "rotate"]));
}

fn rounds() -> u64 {
    if std::env::var_os("TENURE_TEST_LONG").is_some() { 50 } else { 5 }
}

/// Rotates a file's KEK until it was done, or it was killed.
fn rotate(data: &Path) -> Child {
    let mut command = tenure();
    command.args(["kek", "rotate", "--data"]).arg(data).env("RUST_LOG", "warn");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

/// Every KEK that the store was ever under, but the last.
fn kept(kek: &Path) -> Vec<PathBuf> {
    let folder = kek.parent().expect("a folder");
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let ours = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let print = name.strip_prefix("kek.").or_else(|| name.strip_prefix("data.kek."));
        print.is_some_and(|print| print.len() == 8)
    });
    ours.map(|entry| entry.path()).collect()
}

fn checked(data: &Path, kek: Option<&Path>) -> Output {
    let mut command = tenure();
    command.args(["kek", "check", "--data"]).arg(data);
    if let Some(kek) = kek {
        command.env("TENURE_KEK_FILE", kek);
    }
    Output::of(&mut command)
}

/// The command is taken up again, and ends; then no KEK that was replaced since `before`
/// opens the store.
fn assert_resumes(data: &Path, kek: &Path, before: &[PathBuf], resume: impl Fn() -> Output) {
    let resumed = resume();
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(!kek.with_extension("new").exists() && !kek.with_file_name("data.kek.new").exists());
    assert_eq!(checked(data, None).code, Some(0));
    let mut replaced = kept(kek);
    replaced.retain(|file| !before.contains(file));
    assert!(!replaced.is_empty());
    for old in replaced {
        fails(&checked(data, Some(&old)), 2, &["not the KEK of this store"]);
    }
}

#[test]
fn kill_9_at_any_moment_of_a_rotation_under_load_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut writers = Writers::new(4, two_tenants(&data), &mut random);
    let kek = data.join("kek");
    for round in 0..rounds() {
        println!("round {round}, seed {}", random.0);
        let (dev, before) = (Dev::start_with(&data, quiet), kept(&kek));
        let (address, which) = (dev.address, random.below(3));
        writers.under_load(address, |_| {
            let mut child = rotate(&data);
            random.pause(Duration::from_millis(400));
            if which != 0 {
                child.kill().expect("ours");
            }
            if which != 1 {
                dev.signal("KILL");
            }
            ended(&mut child);
            // The writers end with their server.
            dev.signal("KILL");
        });
        drop(dev);
        let dev = Dev::start_with(&data, quiet);
        writers.assert_kept(dev.address);
        assert_resumes(&data, &kek, &before, || dev.run(&["kek", "rotate"]));
        writers.assert_kept(dev.address);
        dev.kill();
        writers.assert_kept(Dev::start_with(&data, quiet).address);
    }
}

#[test]
fn kill_9_at_any_moment_of_a_rotation_without_a_server_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = init(folder.path());
    let kek = folder.path().join("data.kek");
    assert_eq!(maintain(&data, &["tenant", "create", "acme"]).code, Some(0));
    let mut random = Random::seeded();
    for round in 0..rounds() {
        println!("round {round}, seed {}", random.0);
        let before = kept(&kek);
        let mut child = rotate(&data);
        random.pause(Duration::from_millis(250));
        child.kill().expect("ours");
        ended(&mut child);
        let listed = maintain(&data, &["tenant", "list"]);
        assert!(listed.stdout.contains("acme"), "{listed:?}");
        assert_resumes(&data, &kek, &before, || maintain(&data, &["kek", "rotate"]));
        assert_eq!(maintain(&data, &["verify"]).code, Some(0));
    }
}

/// The operator has both keys, and learns from the store which one it is under.
#[test]
fn kill_9_at_any_moment_leaves_the_store_under_one_of_the_operators_two_keys() {
    let place = Place::with_store();
    let mut random = Random::seeded();
    let mut present = place.read("kek").trim().to_owned();
    place.configure("source = 'env'");
    let by = |key: &str, args: &[&str]| -> Command {
        let mut command = place.tenure(args);
        command.env("TENURE_KEK", key);
        command
    };
    for round in 0..rounds() {
        println!("round {round}, seed {}", random.0);
        let next = new_key();
        let file = place.write("next", &next);
        let rotate = ["kek", "rotate", "--new-kek", file.to_str().expect("a plain path")];
        let serve = (round % 2 == 0).then(|| {
            place.serve(|command| {
                command.env("TENURE_KEK", &present);
            })
        });
        let mut command = by(&present, &rotate);
        let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
        random.pause(Duration::from_millis(250));
        child.kill().expect("ours");
        ended(&mut child);
        if let Some(serve) = serve {
            serve.kill();
        }
        let opens = |key: &str| Output::of(&mut by(key, &["kek", "check"])).code == Some(0);
        assert!(opens(&present) ^ opens(&next), "one of the two, and not both");
        done(&Output::of(&mut by(&present, &rotate)));
        assert!(opens(&next) && !opens(&present));
        place.assert_serves(&[], |command| {
            command.env("TENURE_KEK", &next);
        });
        present = next;
    }
}
