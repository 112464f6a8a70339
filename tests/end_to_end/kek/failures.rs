//! Each way in which a source fails has a message of its own, and none repeats what was
//! read.

use std::fs;

use super::bench::{Place, done, fails, mode, new_key};
use crate::support::{Dev, Output, eventually};

fn with_env(place: &Place, variables: &[(&str, &str)]) -> Output {
    Output::of(place.tenure(&["status"]).envs(variables.iter().copied()))
}

#[test]
fn a_variable_or_a_credential_that_is_missing_or_wrong_says_what_to_do() {
    let place = Place::with_store();
    let (key, other) = (place.read("kek"), new_key());
    place.configure("source = 'env'");
    fails(&place.run(&["status"]), 2, &["TENURE_KEK (kek.env) does not hold", "kek generate"]);
    let wrong = with_env(&place, &[("TENURE_KEK", &other)]);
    let words =
        ["not the KEK of this store", "comes from file since 2", "set kek.source = \"file\""];
    fails(&wrong, 2, &words);
    fails(&with_env(&place, &[("TENURE_KEK", "5e5e")]), 2, &["64 hexadecimal digits"]);

    place.configure("source = 'credential'\ncredential = 'store.kek'");
    fails(&place.run(&["status"]), 2, &["LoadCredential=store.kek:/path", "systemd service"]);
    let folder = place.shown("credentials");
    let with_folder = || with_env(&place, &[("CREDENTIALS_DIRECTORY", &folder)]);
    fails(&with_folder(), 2, &["there is no credential store.kek", "LoadCredential="]);
    fs::create_dir(&folder).expect("a folder");
    fails(&with_folder(), 2, &["there is no credential store.kek", "LoadCredential="]);
    let file = place.write("credentials/store.kek", &key);
    mode(&file, 0o444);
    fails(&with_folder(), 2, &["can be read by others (mode 0444)"]);
    place.write("credentials/store.kek", &key[..60]);
    fails(&with_folder(), 2, &["64 hexadecimal digits"]);
    place.write("credentials/store.kek", &other);
    fails(&with_folder(), 2, &["not the KEK of this store", "kek.source is \"credential\""]);
    place.configure(&format!("source = 'credential'\ncredential = '{}'", key.trim()));
    let pasted = with_folder();
    fails(&pasted, 2, &["kek.credential holds a key"]);
    assert!(!pasted.stderr.contains(key.trim()), "{pasted:?}");
}

#[test]
fn a_command_that_fails_in_any_way_says_how_and_never_what_it_printed() {
    let place = Place::with_store();
    let sentinel = "5e5e5e5e";
    let shell = |script: &str, code: i32, words: &[&str]| {
        place.configure(&format!(
            "source = 'command'\ncommand_timeout = '2s'\ncommand = ['sh', '-c', \"{script}\"]"
        ));
        let said = place.run_without_terminal(&["status"]);
        fails(&said, code, words);
        assert!(!said.stderr.contains(sentinel), "{said:?}");
    };
    shell("echo 5e5e5e5e; exit 7", 5, &["'sh' (kek.command) ended with exit code 7", "by hand"]);
    shell("kill -9 $$", 5, &["ended with signal 9"]);
    shell("echo 5e5e5e5e", 2, &["what 'sh' (kek.command) prints is no KEK", "64 hexadecimal"]);
    shell("printf '\\\\377\\\\376'", 2, &["is no KEK", "64 hexadecimal"]);
    shell("yes 5e5e5e5e", 2, &["is no KEK", "longer than 1 KiB"]);
    shell("echo 5e5e5e5e >&2; exit 1", 5, &["exit code 1"]);
    shell("cat", 2, &["is no KEK"]);
    // Also where what it started holds on to its output, and outlives it.
    let marker = "sleep 8641";
    for script in [marker.to_owned(), format!("{marker} & echo 5e5e5e5e")] {
        shell(&script, 5, &["did not end within 2s (kek.command_timeout)", "was killed"]);
        eventually("what it started to be killed too", || (!is_running(marker)).then_some(()));
    }
    place.configure("source = 'command'\ncommand = ['no-such-program', '--key']");
    fails(&place.run(&["status"]), 2, &["there is no program 'no-such-program'", "no shell"]);
    place.configure(&format!("source = 'command'\ncommand = ['{}']", place.shown("kek")));
    fails(&place.run(&["status"]), 2, &["cannot be run"]);
    let key = place.read("kek").trim().to_owned();
    place.configure(&format!("source = 'command'\ncommand = ['{key}']"));
    let pasted = place.run(&["status"]);
    fails(&pasted, 2, &["there is no program"]);
    assert!(!pasted.stderr.contains(&key), "{pasted:?}");
    place.configure("source = 'command'\ncommand = []");
    fails(&place.run(&["status"]), 2, &["`kek.source` is \"command\" without `kek.command`"]);
}

fn is_running(words: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).any(|cmdline| {
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        cmdline.trim() == words
    })
}

#[test]
fn a_passphrase_that_nobody_can_give_says_both_ways_out() {
    let place = Place::new("source = 'passphrase'");
    let words = ["there is no terminal", "kek.passphrase_fd", "standard input"];
    fails(&place.run_without_terminal(&["init"]), 2, &words);
    place.configure("source = 'passphrase'\npassphrase_fd = 7");
    fails(&place.run(&["init"]), 2, &["descriptor 7 (kek.passphrase_fd) cannot be read"]);
    place.configure("source = 'passphrase'\npassphrase_fd = 0");
    for (line, words) in [
        ("", "the passphrase is empty"),
        ("\nsecond line of it", "the passphrase is empty"),
        ("hunter2hunt\n", "at least 12 characters"),
        ("up and down \x1b[A\n", "control character"),
        (&"long".repeat(300), "longer than 1024 bytes"),
    ] {
        place.write("line", line);
        let said = place.run_with_input(&["init"], "line");
        fails(&said, 2, &[words]);
        assert!(!said.stderr.contains("hunter2") && !said.stderr.contains("second"), "{said:?}");
    }
    place.configure("source = 'passphrase'\npassphrase_fd = -1");
    fails(&place.run(&["init"]), 2, &["`kek.passphrase_fd` must be a whole number from zero"]);
}

#[test]
fn the_kek_commands_say_what_does_not_go_together() {
    let place = Place::with_store();
    let new = place.write("new", &new_key());
    let new = new.to_str().expect("a plain path");
    for (args, words) in [
        (&["rotate", "--new-passphrase-fd", "3"][..], "--new-passphrase-fd goes with kek.source"),
        (&["rotate", "--new-kek", "nowhere"], "there is no KEK at nowhere"),
        (&["rewrap", "--to", "file"], "'tenure kek rotate' replaces it"),
        (&["rewrap", "--to", "command", "place"], "takes no place"),
        (&["rewrap", "--to", "passphrase", "--new-kek", new], "takes no --new-kek"),
        (&["rewrap", "--to", "env", "--new-passphrase-fd", "3"], "goes with --to passphrase"),
        (&["rewrap", "--to", "credential", "../kek"], "`kek.credential` is not the name"),
        (&["rewrap", "--to", "command"], "without `kek.command`"),
        (&["rewrap", "--to", "env"], "TENURE_KEK (kek.env) does not hold the KEK"),
    ] {
        fails(&place.run(&[&["kek"], args].concat()), 2, &[words]);
    }
    place.configure("source = 'env'");
    let by_env = |args: &[&str]| {
        let key = place.read("kek");
        Output::of(place.tenure(&[&["kek"], args].concat()).env("TENURE_KEK", key))
    };
    fails(&by_env(&["rotate"]), 2, &["'tenure kek generate'", "--new-kek FILE"]);
    fails(&by_env(&["rotate", "--new-kek", new, "--discard-old"]), 2, &["--discard-old goes with"]);
    let inside = place.shown("data/kek");
    fails(&by_env(&["rewrap", "--to", "file", &inside]), 2, &["inside the data folder"]);
    place.configure("source = 'passphrase'\npassphrase_fd = 0");
    let twice = place.run(&["kek", "rotate", "--new-passphrase-fd", "0"]);
    fails(&twice, 2, &["name one descriptor"]);
    let given = place.run(&["kek", "rotate", "--new-kek", new]);
    fails(&given, 2, &["--new-kek goes with kek.source"]);
    let discarding = place.run(&["kek", "rotate", "--discard-old"]);
    fails(&discarding, 2, &["--discard-old goes with kek.source"]);
    let to = place.run(&["kek", "rewrap", "--to", "cloud"]);
    assert!(to.code == Some(2) && to.stderr.contains("\"credential\""), "{to:?}");
    place.configure("file = 'kek'");
    done(&place.run(&["kek", "check"]));
}

#[test]
fn a_store_whose_kek_is_checked_need_not_be_a_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = Dev::start(&folder.path().join("data"));
    assert!(done(&dev.run(&["kek", "check"])).contains("gives the KEK of this store"));
    done(&dev.run(&["kek", "rotate"]));
    assert!(done(&dev.run(&["kek", "check"])).contains("gives the KEK of this store"));
    assert_eq!(dev.put("a", "1").status, 204);
    assert_eq!(dev.stop(), Some(0));
}
