use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Desk;
use crate::support::{Gate, Output, Terminal, ended, eventually, maintain, signal};

/// Each with its number as its value.
fn numbered(count: usize) -> String {
    (0..count).map(|n| format!("N{n:03}={n}\n")).collect()
}

/// On its way through a gate.
fn through(gate: &Gate, desk: &Desk, command: &mut Command) {
    command.env("TENURE_ADDR", format!("http://{}", gate.address));
    command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", &desk.dev().token);
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

#[test]
fn each_format_is_stored_and_a_second_time_changes_nothing() {
    let desk = Desk::new();
    desk.write(".env", "# ours\nDB_PASSWORD='it $costs'\nexport TOKEN=\"a\\nb\"\r\n");
    desk.write("a.json", r#"{"plain": "x", "none": null, "later": {"value": "y", "expiresOn": "2100-01-01T00:00:00Z"}}"#);
    desk.write("b.yml", "word: plain words\nblock: |\n  one\n  two\n");
    for (file, many) in [(".env", 2), ("a.json", 3), ("b.yml", 2)] {
        let first = desk.run(&["import", file]);
        assert_eq!((first.code, first.stdout.as_str()), (Some(0), ""), "{first:?}");
        assert!(first.stderr.contains(&format!("stored {many} new, replaced 0")), "{first:?}");
        let second = desk.run(&["import", file]);
        assert!(second.stderr.contains(&format!("{many} unchanged")), "{second:?}");
    }
    assert_eq!(desk.stored("DB_PASSWORD"), Some(json!("it $costs")));
    assert_eq!(desk.stored("TOKEN"), Some(json!("a\nb")));
    assert_eq!(desk.stored("none"), Some(json!(null)));
    assert_eq!(desk.stored("block"), Some(json!("one\ntwo\n")));
    let later: Value = serde_json::from_str(&desk.done(&["get", "later", "--json"])).unwrap();
    assert_eq!(later["expiresOn"], "2100-01-01T00:00:00Z");
}

#[test]
fn a_dry_run_shows_names_and_no_value_and_stores_nothing() {
    let desk = Desk::new();
    desk.store("same", "hunter1");
    desk.store("other", "hunter2");
    desk.write("x.env", "same=hunter1\nother=hunter3\nnew=hunter4\n");
    let shown = desk.done(&["import", "x.env", "--dry-run"]);
    assert_eq!(shown, "+ new\n~ other\n= 1 unchanged\n");
    let shown: Value =
        serde_json::from_str(&desk.done(&["import", "x.env", "--dry-run", "--json"])).unwrap();
    assert_eq!(
        shown,
        json!({"dryRun": true, "added": ["new"], "changed": ["other"], "kept": [], "unchanged": 1})
    );
    let kept = desk.done(&["import", "x.env", "--dry-run", "--keep"]);
    assert_eq!(kept, "+ new\n= other (differs, and is kept)\n= 1 unchanged\n");
    assert_eq!((desk.stored("new"), desk.stored("other")), (None, Some(json!("hunter2"))));
}

#[test]
fn what_exists_is_replaced_only_where_that_was_said() {
    let desk = Desk::new();
    desk.store("old", "1");
    desk.write("x.env", "old=2\nnew=3\n");
    desk.run(&["import", "x.env"]).assert_fails(4, &["nothing was stored", "old", "--replace"]);
    assert_eq!(desk.stored("new"), None);
    desk.done(&["import", "x.env", "--keep"]);
    assert_eq!((desk.stored("old"), desk.stored("new")), (Some(json!("1")), Some(json!("3"))));
    let replaced: Value =
        serde_json::from_str(&desk.done(&["import", "x.env", "--replace", "--json"])).unwrap();
    assert_eq!((&replaced["changed"], &replaced["unchanged"]), (&json!(["old"]), &json!(1)));
    assert_eq!(desk.stored("old"), Some(json!("2")));
    desk.run(&["import", "x.env", "--keep", "--replace"]);
}

#[test]
fn a_window_that_differs_is_a_difference() {
    let desk = Desk::new();
    desk.store("a", "1");
    desk.write("x.env", "a=1\n");
    let dry = ["import", "x.env", "--dry-run", "--expires", "30d"];
    assert_eq!(desk.done(&dry), "~ a\n= 0 unchanged\n");
    let at = ["import", "x.env", "--replace", "--expires", "2100-01-01"];
    desk.done(&at);
    assert!(desk.run(&at).stderr.contains("1 unchanged"));
    // What is not valid yet cannot be compared.
    desk.write("y.json", r#"{"a": {"value": "1", "notBefore": "2100-01-01T00:00:00Z"}}"#);
    desk.done(&["import", "y.json", "--replace"]);
    assert_eq!(desk.done(&["import", "y.json", "--dry-run"]), "~ a\n= 0 unchanged\n");
    desk.done(&["import", "y.json", "--replace"]);
}

#[test]
fn a_terminal_shows_what_differs_and_asks() {
    let desk = Desk::new();
    desk.store("old", "hunter1");
    desk.write("x.env", "old=hunter2\nnew=hunter3\n");
    for (typed, code) in [("n\n", 4), ("\n", 4), ("\x03", 130)] {
        let mut terminal = desk.terminal(&["import", "x.env"]);
        terminal.expect("Replace 1? [y/N] ");
        terminal.type_in(typed);
        let (ended, shown) = terminal.ended();
        assert_eq!(ended, Some(code), "{typed:?}: {shown}");
        assert!(shown.contains("+ new\r\n~ old\r\n") && !shown.contains("hunter"), "{shown}");
        assert_eq!((desk.stored("old"), desk.stored("new")), (Some(json!("hunter1")), None));
    }
    let mut terminal = desk.terminal(&["import", "x.env"]);
    terminal.expect("Replace 1? [y/N] ");
    terminal.type_in("y\n");
    assert_eq!(terminal.ended().0, Some(0));
    assert_eq!(desk.stored("old"), Some(json!("hunter2")));
    // Where the file is standard input, nobody can answer.
    desk.store("old", "hunter1");
    let line = format!("{} import - --format dotenv < x.env", env!("CARGO_BIN_EXE_tenure"));
    let (code, shown) = Terminal::shell(&line, |command| desk.place(command)).ended();
    assert_eq!(code, Some(4), "{shown}");
}

#[test]
fn what_is_wrong_with_a_file_is_told_before_anything_is_stored() {
    let desk = Desk::new();
    for (name, text, code, words) in [
        ("a.env", "a=1\nb=hunter2$X\n", 2, &["a.env: line 2: ", "single quotes"][..]),
        ("b.json", r#"{"a": "x", "b": 81972}"#, 2, &["b.json: 'b': it is a number"]),
        ("c.yaml", "a: x\nb: no\n", 2, &["c.yaml: line 2: ", "quote it"]),
        ("d.txt", "a=1", 2, &["say --format"]),
        ("e.env", "a=1\na=2\n", 2, &["'a' more than once"]),
        (
            "f.json",
            r#"{"a": {"value": "x", "expiresOn": "2000-01-01T00:00:00Z"}}"#,
            2,
            &["have expired", ": a;", "--allow-expired"],
        ),
    ] {
        desk.write(name, text);
        let refused = desk.run(&["import", name]);
        refused.assert_fails(code, words);
        assert!(!refused.stderr.contains("hunter2") && !refused.stderr.contains("81972"));
    }
    std::fs::write(desk.path("latin.env"), b"a=\xe4").unwrap();
    desk.run(&["import", "latin.env"]).assert_fails(2, &["not UTF-8", "base64"]);
    desk.run(&["import", "absent.env"]).assert_fails(2, &["absent.env cannot be read"]);
    let large = std::fs::File::create(desk.path("large.env")).unwrap();
    large.set_len(17 * 1024 * 1024).unwrap();
    desk.run(&["import", "large.env"]).assert_fails(2, &["larger than 16 MiB"]);
    assert_eq!(desk.stored("a"), None);
    desk.done(&["import", "f.json", "--allow-expired"]);
    assert_eq!(desk.stored("a"), None);
}

#[test]
fn standard_input_prefixes_and_cases_of_names_are_understood() {
    let desk = Desk::new();
    desk.write(".tenure.toml", "prefix = 'shop-'\n");
    let mut command = desk.tenure(&["import", "-", "--format", "dotenv", "--name-case", "kebab"]);
    let output = Output::with_input(&mut command, "\u{feff}DB_PASSWORD=x\n");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(desk.stored("shop-db-password"), Some(json!("x")));
    assert_eq!(desk.done(&["list"]), "db-password\n");
    let mut command = desk.tenure(&["import", "-", "--format", "dotenv", "--name-case", "kebab"]);
    let refused = Output::with_input(&mut command, "a_b=x\nA-B=y\n");
    refused.assert_fails(2, &["two names", "'a-b'"]);
    Output::with_input(&mut desk.tenure(&["import", "-"]), "a=x").assert_fails(2, &["--format"]);
}

#[test]
fn what_the_credential_does_not_allow_is_said() {
    let desk = Desk::new();
    desk.write("x.env", "a=1\n");
    for scope in ["Secret.Read", "Secret.Write"] {
        let mint = ["token", "mint", "--tenant", "dev", "--scope", scope];
        let token = maintain(&desk.path(".tenure"), &mint).stdout;
        let mut command = desk.tenure(&["import", "x.env", "--tenant", "dev"]);
        command.env("TENURE_ADDR", format!("http://{}", desk.dev().address));
        let refused = Output::of(command.env("TENURE_TOKEN", token.trim()));
        refused.assert_fails(8, &["does not allow this"]);
    }
    assert_eq!(desk.stored("a"), None);
}

#[test]
fn ctrl_c_amid_batches_says_what_was_stored_and_the_same_again_goes_on() {
    let desk = Desk::new();
    desk.write("x.env", &numbered(250));
    let gate = Gate::before(desk.dev().address, "POST ", 2);
    let mut command = desk.tenure(&["import", "x.env"]);
    through(&gate, &desk, &mut command);
    let child = spawn(command);
    gate.arrived();
    signal(child.id(), "INT");
    gate.open();
    let output = Output::from(child.wait_with_output().unwrap());
    output.assert_fails(130, &["broken off", "the same command again goes on"]);
    let line = |what: &str| -> Vec<String> {
        let line = output.stderr.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or_default().split(", ").map(str::to_owned).collect()
    };
    let (stored, not_stored) = (line("stored: "), line("not stored: "));
    assert_eq!((stored.len(), not_stored.len()), (200, 50), "{output:?}");
    for (n, name) in stored.iter().chain(&not_stored).enumerate() {
        assert_eq!(name, &format!("N{n:03}"));
        assert_eq!(desk.stored(name).is_some(), n < 200, "{name}");
    }
    let again = desk.run(&["import", "x.env"]);
    assert!(again.stderr.contains("stored 50 new, replaced 0, 200 unchanged"), "{again:?}");
}

#[test]
fn a_second_ctrl_c_waits_for_no_answer() {
    let desk = Desk::new();
    desk.write("x.env", &numbered(150));
    let gate = Gate::before(desk.dev().address, "POST ", 1);
    let mut command = desk.tenure(&["import", "x.env"]);
    through(&gate, &desk, &mut command);
    let mut child = spawn(command);
    gate.arrived();
    // Two that come at once are one signal.
    eventually("it to end", || {
        signal(child.id(), "INT");
        child.try_wait().unwrap()
    });
    let output = Output::from(child.wait_with_output().unwrap());
    output.assert_fails(130, &["broken off"]);
    assert!(output.stderr.starts_with("stored or not: N000, "), "{output:?}");
    assert!(output.stderr.contains("\nnot stored: N100, "), "{output:?}");
}

#[test]
fn a_write_of_somebody_else_is_not_replaced_unseen() {
    let desk = Desk::new();
    desk.store("a", "1");
    desk.write("x.env", "a=2\nb=3\n");
    let gate = Gate::before(desk.dev().address, "POST ", 1);
    let mut command = desk.tenure(&["import", "x.env", "--replace"]);
    through(&gate, &desk, &mut command);
    let child = spawn(command);
    gate.arrived();
    desk.store("a", "theirs");
    gate.open();
    let output = Output::from(child.wait_with_output().unwrap());
    output.assert_fails(4, &["'a' changed since it was looked at", "again"]);
    assert!(output.stderr.starts_with("not stored: b, a\n"), "{output:?}");
    assert_eq!((desk.stored("a"), desk.stored("b")), (Some(json!("theirs")), None));
}

#[test]
fn a_lost_answer_is_told_from_a_refusal() {
    let mut desk = Desk::new();
    desk.write("x.env", &numbered(150));
    let gate = Gate::before(desk.dev().address, "POST ", 2);
    let mut command = desk.tenure(&["import", "x.env"]);
    through(&gate, &desk, &mut command);
    let child = spawn(command);
    gate.arrived();
    desk.stop();
    gate.open();
    let output = Output::from(child.wait_with_output().unwrap());
    output.assert_fails(9, &["may have been done"]);
    assert!(output.stderr.starts_with("stored: N000, "), "{output:?}");
    assert!(output.stderr.contains("\nstored or not: N100, "), "{output:?}");
}

#[test]
fn kill_9_amid_batches_loses_nothing_that_was_answered() {
    let desk = Desk::new();
    desk.write("x.env", &numbered(250));
    let gate = Gate::before(desk.dev().address, "POST ", 2);
    let mut command = desk.tenure(&["import", "x.env"]);
    through(&gate, &desk, &mut command);
    let mut child = spawn(command);
    gate.arrived();
    child.kill().unwrap();
    ended(&mut child);
    assert_eq!(desk.done(&["list"]).lines().count(), 100);
    desk.done(&["import", "x.env"]);
    assert_eq!(desk.done(&["list"]).lines().count(), 250);
}

#[test]
fn what_takes_longer_than_a_second_shows_how_far_it_is() {
    let desk = Desk::new();
    desk.write("x.env", &numbered(250));
    let gate = Gate::before(desk.dev().address, "POST ", 2);
    let begun = Instant::now();
    let terminal = Terminal::open(&["import", "x.env"], |command| {
        desk.place(command);
        through(&gate, &desk, command);
    });
    gate.arrived();
    assert!(!terminal.shown().contains("storing"), "{}", terminal.shown());
    // The second is what is tested.
    eventually("more than a second", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    gate.open();
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("storing [") && shown.contains("of 250"), "{shown}");
    // What is done sooner shows nothing.
    let begun = Instant::now();
    let (code, shown) = desk.terminal(&["import", "x.env"]).ended();
    let soon = begun.elapsed() < Duration::from_secs(1);
    assert!(code == Some(0) && !(soon && shown.contains("comparing")), "{shown}");
}

#[test]
fn no_value_is_an_argument_or_an_environment_of_a_process() {
    let desk = Desk::new();
    desk.write("x.env", "a=hunter2hunter2\n");
    let gate = Gate::before(desk.dev().address, "POST ", 1);
    let mut command = desk.tenure(&["import", "x.env"]);
    through(&gate, &desk, &mut command);
    let child = spawn(command);
    gate.arrived();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let words = std::fs::read(entry.path().join(file)).unwrap_or_default();
            assert!(!words.windows(14).any(|w| w == b"hunter2hunter2"), "{:?}", entry.path());
        }
    }
    gate.open();
    assert_eq!(Output::from(child.wait_with_output().unwrap()).code, Some(0));
}
