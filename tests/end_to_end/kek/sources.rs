//! Each source starts a server, with the real thing.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::bench::{Place, assert_silent, done, fails, mode, new_key};
use crate::support::{Client, Output, Request};

const PASSPHRASE: &str = "correct horse battery staple";

#[test]
fn a_key_that_proves_itself_may_come_from_anywhere() {
    let place = Place::with_store();
    let key = place.read("kek").trim().to_owned();
    let secrets = [key.as_str()];
    place.assert_serves(&secrets, |_| {});
    fs::remove_file(place.path("kek")).expect("ours");

    place.configure("source = 'env'\nenv = 'MY_KEK'");
    done(&Output::of(place.tenure(&["kek", "check"]).env("MY_KEK", &key)));
    // The file and the server's words; its environment is where the key is.
    place.assert_serves(&secrets, |command| {
        command.env("MY_KEK", &key);
    });

    // As systemd lays them out: the folder is the user's, the file is read by it alone, or
    // by its group where an ACL lets the user in.
    fs::create_dir(place.path("credentials")).expect("a folder");
    let credential = place.write("credentials/tenure-kek", &format!("{key}\n"));
    place.configure("source = 'credential'");
    for bits in [0o400, 0o440] {
        mode(&credential, bits);
        place.assert_serves(&secrets, |command| {
            command.env("CREDENTIALS_DIRECTORY", place.path("credentials"));
        });
    }

    let held = place.write("held", &key);
    place.configure(&format!("source = 'command'\ncommand = ['cat', '{}']", held.display()));
    place.assert_serves(&secrets, |_| {});
    let checked = done(&place.run(&["kek", "check"]));
    assert!(checked.starts_with("kek.source = \"command\" gives the KEK of this store ("));
    assert!(checked.contains("what 'cat' (kek.command) prints") && !checked.contains("held"));
    assert_silent(&checked, &secrets);
}

#[test]
fn what_age_decrypts_starts_a_server() {
    let key = new_key();
    let place = Place::new("");
    done_with(Command::new("age-keygen").arg("-o").arg(place.path("id")));
    let recipient = done_with(Command::new("age-keygen").arg("-y").arg(place.path("id")));
    let (id, encrypted) = (place.shown("id"), place.shown("kek.age"));
    let mut age = Command::new("age");
    age.args(["--encrypt", "-r", recipient.trim(), "-o", &encrypted]).stdin(Stdio::piped());
    let mut child = age.spawn().expect("age is there");
    child.stdin.take().expect("a pipe").write_all(key.as_bytes()).expect("it reads");
    assert!(child.wait().expect("ours").success());
    assert_silent(&String::from_utf8_lossy(&fs::read(&encrypted).expect("a file")), &[&key]);

    let command = |id: &str| {
        format!("source = 'command'\ncommand = ['age', '--decrypt', '-i', '{id}', '{encrypted}']")
    };
    place.configure(&command(&id));
    let made = done(&place.run(&["init"]));
    assert!(made.contains("what 'age' (kek.command) prints") && !made.contains("made its KEK"));
    let serve = place.serve(|_| {});
    done(&place.run(&["tenant", "create", "acme"]));
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0));
    assert_silent(&log, &[&key]);

    done_with(Command::new("age-keygen").arg("-o").arg(place.path("other")));
    place.configure(&command(&place.shown("other")));
    fails(&place.run(&["status"]), 5, &["'age' (kek.command) ended with exit code 1", "by hand"]);
}

fn done_with(command: &mut Command) -> String {
    let output = command.output().expect("age is there: tests/run installs it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Not everywhere: systemd-creds wants root, and a system of its own.
#[test]
fn what_systemd_encrypted_for_this_machine_starts_a_server() {
    let place = Place::with_store();
    let key = place.read("kek").trim().to_owned();
    let encrypted = place.shown("kek.cred");
    let mut encrypt = Command::new("systemd-creds");
    encrypt.args(["encrypt", "--with-key=host", "--name=tenure-kek"]);
    encrypt.arg(place.path("kek")).arg(&encrypted).stderr(Stdio::null());
    if !encrypt.status().is_ok_and(|status| status.success()) {
        println!("not tried: systemd-creds encrypts nothing here");
        return;
    }
    assert_silent(&place.read("kek.cred"), &[&key]);
    place.configure(&format!(
        "source = 'command'\ncommand = ['systemd-creds', 'decrypt', '--name=tenure-kek', \
         '{encrypted}', '-']"
    ));
    place.assert_serves(&[&key], |_| {});
}

#[test]
fn a_passphrase_is_typed_twice_at_first_and_once_at_each_start_and_never_shown() {
    let place = Place::new("source = 'passphrase'");
    let line = format!("{PASSPHRASE}\n");
    let twice = |first: &str, second: &str| {
        place.at_terminal(&["init"], &[("New passphrase: ", first), ("The same again: ", second)])
    };
    let (code, shown) = twice(&line, "correct horse battery stable\n");
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("the two passphrases differ"), "{shown}");
    let (code, shown) = place.at_terminal(&["init"], &[("New passphrase: ", "hunter2hunt\n")]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("at least 12 characters"), "{shown}");
    assert_silent(&shown, &["hunter2hunt"]);
    let (code, shown) = twice(&line, &line);
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("Argon2id, 128 MiB, 3 passes") && shown.contains("forgotten"),
        "{shown}"
    );
    assert_silent(&shown, &["horse"]);

    let mut terminal = place.terminal(&["serve", "--listen", "127.0.0.1:0"]);
    terminal.expect("Passphrase of the store: ");
    terminal.type_in(&line);
    terminal.expect(" serving ");
    let shown = terminal.shown();
    let address = shown.split("http://").nth(1).and_then(|rest| rest.lines().next());
    let address = address.and_then(|text| text.trim().parse().ok()).expect("an address");
    assert_eq!(Client::new(address).send(&Request::get("/readyz")).status, 200);
    // Who asks a server that runs needs no passphrase; who proves the source does.
    assert!(done(&place.run(&["status"])).contains("running"));
    let checked = place.at_terminal(&["kek", "check"], &[("Passphrase of the store: ", &line)]);
    assert_eq!(checked.0, Some(0), "{checked:?}");
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert_silent(&shown, &["horse"]);

    let wrong = [("Passphrase of the store: ", "correct horse battery stable\n")];
    let (code, shown) = place.at_terminal(&["status"], &wrong);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("this is not the passphrase"), "{shown}");
    assert_silent(&shown, &["horse"]);
    let (code, shown) = place.at_terminal(&["status"], &[("Passphrase of the store: ", "\n")]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("the passphrase is empty"), "{shown}");
}

#[test]
fn a_passphrase_can_be_read_from_a_descriptor() {
    let place = Place::new("source = 'passphrase'\npassphrase_fd = 0");
    // A line of Windows is the same line, and what follows is nobody's.
    let line = place.write("line", &format!("{PASSPHRASE}\r\nsomething else\n"));
    let made = done(&place.run_with_input(&["init"], "line"));
    assert!(made.contains("Argon2id"), "{made}");
    place.write("alone", PASSPHRASE);
    done(&place.run_with_input(&["tenant", "create", "acme"], "alone"));
    let serve = place.serve(|command| {
        command.stdin(File::open(&line).expect("a file"));
    });
    done(&place.run(&["tenant", "list"]));
    let (code, log) = serve.stop_by("TERM");
    assert_eq!(code, Some(0));
    assert_silent(&log, &[PASSPHRASE, "something else"]);

    place.configure("source = 'passphrase'\npassphrase_fd = 3");
    let shell = "exec \"$0\" kek check --json 3< \"$1\"";
    let mut third = Command::new("sh");
    third.args(["-c", shell, env!("CARGO_BIN_EXE_tenure")]).arg(place.path("alone"));
    let checked = Output::of(third.env("TENURE_CONFIG", place.path("tenure.toml")));
    let checked: Value = serde_json::from_str(&done(&checked)).expect("JSON");
    assert_eq!(
        (&checked["source"], &checked["storeSource"]),
        (&"passphrase".into(), &"passphrase".into())
    );
    assert_eq!(checked["fingerprint"].as_str().map(str::len), Some(8));
    let closed = place.tenure(&["kek", "check"]).stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&closed.stderr);
    assert!(said.contains("descriptor 3 (kek.passphrase_fd) cannot be read"), "{said}");
}

#[test]
fn a_backup_is_verified_and_restored_with_its_own_passphrase() {
    let place = Place::with_store();
    place.write("new", PASSPHRASE);
    done(&place.run(&["backup", "create", &place.shown("of-file.backup")]));
    let rewrap = ["kek", "rewrap", "--to", "passphrase", "--new-passphrase-fd", "0"];
    done(&place.run_with_input(&rewrap, "new"));
    let old_kek = fs::canonicalize(place.path("kek")).expect("the old KEK stays");
    place.configure("source = 'passphrase'\npassphrase_fd = 0");
    let backup = place.shown("of-passphrase.backup");
    done(&place.run_with_input(&["backup", "create", &backup], "new"));
    done(&place.run_with_input(&["backup", "verify", &backup], "new"));
    place.write("other", "another passphrase");
    let wrong = place.run_with_input(&["backup", "verify", &backup], "other");
    fails(&wrong, 2, &["another KEK", "this is not the passphrase"]);
    let of_file = place.shown("of-file.backup");
    let earlier = place.run_with_input(&["backup", "verify", &of_file], "new");
    fails(&earlier, 2, &["comes from file since", "--kek-file"]);
    let old_kek = old_kek.to_str().expect("a plain path");
    done(&place.run(&["backup", "verify", &of_file, "--kek-file", old_kek]));

    // The same passphrase opens what was restored, and a file does once it is told to.
    fs::rename(place.path("data"), place.path("before")).expect("ours");
    let restore = ["backup", "restore", &backup, "--credentials", "keep"];
    fails(&place.run_with_input(&restore, "other"), 2, &["another KEK"]);
    assert!(!place.path("data").join("FORMAT").exists());
    done(&place.run_with_input(&restore, "new"));
    place.assert_serves(&[PASSPHRASE], |command| {
        command.stdin(File::open(place.path("new")).expect("a file"));
    });
    // Under a new passphrase, where the backup is under a file.
    fs::rename(place.path("data"), place.path("restored")).expect("ours");
    let restore =
        ["backup", "restore", &of_file, "--credentials", "keep", "--backup-kek-file", old_kek];
    done(&place.run_with_input(&restore, "other"));
    place.assert_serves(&["another passphrase"], |command| {
        command.stdin(File::open(place.path("other")).expect("a file"));
    });
}
