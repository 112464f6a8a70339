use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::Desk;
use crate::support::{Gate, Output, Random, ended, signal};

const VALUES: [(&str, &str); 6] = [
    ("QUOTES", "it's \"so\" `x` \\"),
    ("LINES", "one\r\ntwo\n\nthree\n"),
    ("SIGNS", "$X ${X} #not # a: b\t=\u{1}\u{7f}"),
    ("UNICODE", "ä😀\u{2028}\u{feff}"),
    ("EMPTY", ""),
    ("NO", "null"),
];

fn stocked() -> Desk {
    let desk = Desk::new();
    VALUES.iter().for_each(|(name, value)| desk.store(name, value));
    desk
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_goes_out_comes_in_again_unchanged() {
    let desk = stocked();
    for file in ["x.env", "x.json", "x.yaml"] {
        let output = desk.run(&["export", "-o", file]);
        assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""), "{output:?}");
        assert_eq!(output.stderr, format!("wrote 6 secrets to {file}\n"));
        let mode = fs::metadata(desk.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(desk.done(&["import", file, "--dry-run"]), "= 6 unchanged\n", "{file}");
        let format = file.strip_prefix("x.").unwrap().replace("env", "dotenv");
        let printed = desk.done(&["export", "--format", &format]);
        assert_eq!(printed, fs::read_to_string(desk.path(file)).unwrap());
        // Into another tenant, whole.
        assert_eq!(desk.dev().run(&["tenant", "create", &format]).code, Some(0));
        let token = desk.dev().mint(&format, &["*"]);
        let there = |args: &[&str]| {
            let mut command = desk.tenure(args);
            command.env("TENURE_ADDR", format!("http://{}", desk.dev().address));
            command.env("TENURE_TENANT", &format).env("TENURE_TOKEN", &token);
            Output::of(&mut command)
        };
        assert_eq!(there(&["import", file]).code, Some(0));
        for (name, value) in VALUES {
            assert_eq!(there(&["get", name]).stdout, value, "{name} in {format}");
        }
    }
}

#[test]
fn windows_go_out_and_come_in() {
    let desk = Desk::new();
    let window = r#"{"value": null, "expiresOn": "2100-01-01T00:00:00Z", "notBefore": "2020-01-01T00:00:00.5Z"}"#;
    desk.store_body("a", window);
    desk.store_body("later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    for file in ["w.json", "w.yml"] {
        let output = desk.run(&["export", "-o", file, "--with-windows"]);
        assert!(output.stderr.contains("left out, since not valid yet: later\n"), "{output:?}");
        assert_eq!(desk.done(&["import", file, "--dry-run"]), "= 1 unchanged\n", "{file}");
    }
    let json: Value =
        serde_json::from_str(&fs::read_to_string(desk.path("w.json")).unwrap()).unwrap();
    assert_eq!(json["a"]["expiresOn"], "2100-01-01T00:00:00Z");
    let without = desk.run(&["export", "-o", "without.json"]);
    assert!(without.stderr.contains("are not in it; --with-windows writes them"), "{without:?}");
    desk.run(&["export", "--with-windows"]).assert_fails(2, &["dotenv holds no windows"]);
    desk.run(&["export", "-o", "x.env"]).assert_fails(2, &["'a' is null", "--format json"]);
    assert!(!desk.path("x.env").exists());
}

#[test]
fn no_file_is_written_over_unasked() {
    let desk = stocked();
    desk.write("x.env", "theirs");
    desk.run(&["export", "-o", "x.env"]).assert_fails(4, &["x.env exists", "--force"]);
    assert_eq!(fs::read_to_string(desk.path("x.env")).unwrap(), "theirs");
    let forced = desk.run(&["export", "-o", "x.env", "--force"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(desk.done(&["import", "x.env", "--dry-run"]), "= 6 unchanged\n");
    let mode = fs::metadata(desk.path("x.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "though theirs could be read by others");
    desk.run(&["export", "-o", "absent/x.env"]).assert_fails(1, &["make its folder first"]);
    assert_eq!(names_in(&desk.path("")), [".tenure", ".tenure.log", "x.env"]);
}

#[test]
fn a_beginning_and_a_prefix_choose() {
    let desk = Desk::new();
    ["shop-db", "shop-dc", "other", "shop-x"].iter().for_each(|name| desk.store(name, name));
    desk.write(".tenure.toml", "prefix = 'shop-'\n");
    let shown: Value = serde_json::from_str(&desk.done(&["export", "d", "--json"])).unwrap();
    assert_eq!(shown, json!({"db": "shop-db", "dc": "shop-dc"}));
    assert_eq!(desk.done(&["export", "none"]), "");
    desk.store("shop-", "x");
    desk.run(&["export"]).assert_fails(2, &["'shop-' has no name", "--prefix"]);
}

#[test]
fn a_terminal_is_told_that_values_are_on_it() {
    let desk = Desk::new();
    desk.store("A", "hunter2");
    let (code, shown) = desk.terminal(&["export"]).ended();
    assert_eq!(code, Some(0));
    assert!(shown.contains("these are values, on your screen; -o FILE"), "{shown}");
    assert!(shown.ends_with("A='hunter2'\r\n"), "{shown}");
}

/// A shell has what `tenure run` gives.
#[test]
fn a_shell_reads_the_names_of_a_dotenv_file() {
    let desk = Desk::new();
    desk.store("shop-db-password", "it's");
    desk.store("shop-x", "$X");
    let output = desk.run(&["export", "-o", ".env", "--prefix", "shop-"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("'db-password' is DB_PASSWORD; --format json"), "{output:?}");
    let mut shell = Command::new("sh");
    shell.args(["-euc", ". ./.env; printf '%s %s' \"$DB_PASSWORD\" \"$X\""]);
    let sourced = Output::of(shell.current_dir(desk.path("")));
    assert_eq!((sourced.code, sourced.stdout.as_str()), (Some(0), "it's $X"), "{sourced:?}");
    let json = desk.run(&["export", "--json", "--prefix", "shop-"]);
    assert!(json.stdout.contains("\"db-password\"") && json.stderr.is_empty(), "{json:?}");
    desk.store("shop-db_password", "another");
    for args in [&["export"][..], &["export", "-o", "other.env"]] {
        let words = ["'shop-db-password' and 'shop-db_password' are one", "--format json or yaml"];
        desk.run(args).assert_fails(2, &words);
    }
    assert!(!desk.path("other.env").exists());
}

fn held(desk: &Desk, gate: &Gate) -> Child {
    let mut command: Command = desk.tenure(&["export", "-o", "x.env"]);
    command.env("TENURE_ADDR", format!("http://{}", gate.address));
    command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", &desk.dev().token);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn broken_off_it_leaves_no_file() {
    let desk = stocked();
    for name in ["INT", "TERM", "KILL"] {
        let gate = Gate::before(desk.dev().address, "GET /api/dev/secrets/", 3);
        let mut child = held(&desk, &gate);
        gate.arrived();
        signal(child.id(), name);
        assert!(!ended(&mut child).success());
        assert_eq!(names_in(&desk.path("")), [".tenure", ".tenure.log"], "{name}");
    }
}

/// At moments that nobody chose, that of the writing among them.
#[test]
fn killed_anywhere_it_leaves_a_whole_file_or_none() {
    let desk = stocked();
    let whole = desk.done(&["export"]);
    let mut random = Random::seeded();
    let begun = std::time::Instant::now();
    desk.done(&["export", "-o", "x.env", "--force"]);
    let all = begun.elapsed();
    fs::remove_file(desk.path("x.env")).unwrap();
    let mut wrote = 0;
    for _ in 0..40 {
        let mut command = desk.tenure(&["export", "-o", "x.env"]);
        let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
        // To well after its end.
        random.pause(all * 2);
        child.kill().unwrap();
        ended(&mut child);
        let names = names_in(&desk.path(""));
        if names.contains(&"x.env".to_owned()) {
            assert_eq!(fs::read_to_string(desk.path("x.env")).unwrap(), whole);
            fs::remove_file(desk.path("x.env")).unwrap();
            wrote += 1;
        }
        assert_eq!(names_in(&desk.path("")), [".tenure", ".tenure.log"], "{names:?}");
    }
    assert!(0 < wrote && wrote < 40, "{wrote} of 40 came to their end");
}

#[test]
fn what_goes_away_meanwhile_is_left_out() {
    let desk = stocked();
    let gate = Gate::before(desk.dev().address, "GET /api/dev/secrets/", 1);
    let child = held(&desk, &gate);
    gate.arrived();
    for (name, _) in VALUES {
        let gone =
            desk.dev().send(crate::support::Request::delete(format!("/api/dev/secrets/{name}")));
        assert_eq!(gone.status, 204);
    }
    gate.open();
    let output = Output::from(child.wait_with_output().unwrap());
    assert_eq!(output.code, Some(0), "{output:?}");
    let left = fs::read_to_string(desk.path("x.env")).unwrap();
    assert!(left.lines().count() < 15, "{left}");
}
