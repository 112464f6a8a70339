use serde_json::{Value, json};

use super::Desk;
use crate::kek::bench::Watch;
use crate::support::{Output, Request, Terminal};

fn fed(desk: &Desk, args: &[&str], input: &str) -> Output {
    Output::with_input(&mut desk.tenure(args), input)
}

#[test]
fn a_value_is_taken_from_a_word_from_input_or_from_a_file() {
    let desk = Desk::new();
    let said = desk.run(&["put", "word", "a value"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    let address = format!("http://{}", desk.dev().address);
    assert_eq!(said.stderr, format!("stored 'word' in tenant 'dev' at {address}: no end\n"));
    assert_eq!(desk.stored("word"), Some(json!("a value")));
    // To the byte, and that is said.
    let dash = fed(&desk, &["put", "dash", "-"], "two\r\nlines\n");
    assert!(dash.stderr.ends_with("; its last line break is part of it\n"), "{dash:?}");
    assert_eq!(desk.stored("dash"), Some(json!("two\r\nlines\n")));
    assert_eq!(fed(&desk, &["put", "piped"], "hunter2").code, Some(0));
    assert_eq!(desk.stored("piped"), Some(json!("hunter2")));
    desk.write("key.pem", "of a file\n");
    assert_eq!(desk.run(&["put", "file", "@key.pem"]).code, Some(0));
    assert_eq!(desk.stored("file"), Some(json!("of a file\n")));
    assert_eq!(desk.run(&["put", "at", "@@key.pem"]).code, Some(0));
    assert_eq!(desk.stored("at"), Some(json!("@key.pem")));
    assert_eq!(desk.run(&["put", "--", "dashes", "--x"]).code, Some(0));
    assert_eq!(desk.stored("dashes"), Some(json!("--x")));
    assert_eq!(fed(&desk, &["put", "empty", "-"], "").code, Some(0));
    assert_eq!(desk.run(&["put", "none", "--null"]).code, Some(0));
    assert_eq!((desk.stored("empty"), desk.stored("none")), (Some(json!("")), Some(json!(null))));
}

#[test]
fn what_is_no_value_is_refused_and_says_what_to_do() {
    let desk = Desk::new();
    desk.run(&["put", "x"]).assert_fails(2, &["standard input is empty", "--generate"]);
    desk.run(&["put", "x", "@absent"]).assert_fails(2, &["after @ cannot be read", "@@"]);
    std::fs::write(desk.path("binary"), b"hunter2\xff").unwrap();
    let binary = desk.run(&["put", "x", "@binary"]);
    binary.assert_fails(2, &["not UTF-8", "base64"]);
    assert!(!binary.stderr.contains("hunter2"), "{binary:?}");
    let long = "x".repeat(1024 * 1024 + 1);
    fed(&desk, &["put", "x", "-"], &long).assert_fails(2, &["longer than 1 MiB"]);
    fed(&desk, &["put", "a/b", "-"], "hunter2").assert_fails(2, &["A-Z a-z 0-9 - _"]);
    fed(&desk, &["put", "x", "-", "--expires", "2020-01-31T00:00Z"], "hunter2")
        .assert_fails(2, &["not in the future", "--allow-expired"]);
    let turned = ["put", "x", "-", "--expires", "1d", "--not-before", "2d"];
    fed(&desk, &turned, "hunter2").assert_fails(2, &["later than --not-before"]);
    assert_eq!(desk.run(&["put", "x", "v", "--null"]).code, Some(2));
    assert_eq!(desk.run(&["put", "x", "--show", "v"]).code, Some(2));
    assert_eq!(desk.run(&["put", "x", "--generate", "0"]).code, Some(2));
    assert_eq!(desk.stored("x"), None);
}

#[test]
fn on_a_terminal_a_value_is_asked_for_once_and_not_shown() {
    let desk = Desk::new();
    let mut terminal = desk.terminal(&["put", "typed"]);
    terminal.expect("Value of 'typed' (not shown): ");
    terminal.type_in("hunter2 \"ä\n");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains("hunter2") && shown.contains("stored 'typed'"), "{shown}");
    assert_eq!(desk.stored("typed"), Some(json!("hunter2 \"ä")));
    let mut terminal = desk.terminal(&["put", "typed"]);
    terminal.expect("(not shown): ");
    terminal.type_in("\n");
    let (code, shown) = terminal.ended();
    assert!(code == Some(2) && shown.contains("nothing was typed"), "{shown}");
    assert_eq!(desk.stored("typed"), Some(json!("hunter2 \"ä")));
}

#[test]
fn ctrl_c_at_the_question_stores_nothing_and_shows_again_what_is_typed() {
    let desk = Desk::new();
    let line =
        format!("trap : INT; {} put typed; echo code $?; stty -a", env!("CARGO_BIN_EXE_tenure"));
    let mut terminal = Terminal::shell(&line, |command| desk.place(command));
    terminal.expect("(not shown): ");
    terminal.type_in("hunt\x03");
    let (_, shown) = terminal.ended();
    assert!(shown.contains("error: interrupted\r\ncode 130\r\n"), "{shown}");
    assert!(shown.contains(" echo ") && !shown.contains("-echo "), "{shown}");
    assert_eq!(desk.stored("typed"), None);
}

#[test]
fn ctrl_c_after_the_question_ends_what_waits_for_a_server() {
    let desk = Desk::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut terminal = Terminal::open(&["put", "typed"], |command| {
        desk.place(command);
        command.env("TENURE_ADDR", format!("http://{}", silent.local_addr().unwrap()));
        command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", "x");
    });
    terminal.expect("(not shown): ");
    terminal.type_in("hunter2\n");
    let (_asked, _) = silent.accept().unwrap();
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(130), "{shown}");
}

#[test]
fn what_is_typed_can_be_corrected_and_be_longer_than_a_line_of_a_terminal() {
    let desk = Desk::new();
    let put = |keys: &str| {
        let mut terminal = desk.terminal(&["put", "typed"]);
        terminal.expect("(not shown): ");
        terminal.type_in(keys);
        terminal.ended()
    };
    for (keys, value) in
        [("hunt€\x7fer\x08r2\n", "hunter2"), ("one two\x17three\n", "one three"), ("x\x15y\r", "y")]
    {
        let (code, shown) = put(keys);
        assert_eq!(code, Some(0), "{shown}");
        assert_eq!(desk.stored("typed"), Some(json!(value)));
    }
    let long = "v".repeat(10_000);
    let (code, shown) = put(&format!("{long}\n"));
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(desk.stored("typed"), Some(json!(long)));
    let (code, shown) = put(&format!("{}\n", "v".repeat(70_000)));
    assert!(code == Some(2) && shown.contains("more than 64 KiB"), "{shown}");
    // What is pasted behind a line, or cannot be seen, is not half stored.
    for (keys, why) in [("one\ntwo\n", "more than one line"), ("a\x1b[Db\n", "keys were pressed")] {
        let (code, shown) = put(keys);
        assert!(code == Some(2) && shown.contains(why), "{shown}");
        assert!(!shown.contains("two"), "{shown}");
    }
    let mut terminal = desk.terminal(&["put", "typed", "-"]);
    terminal.expect("(not shown): ");
    terminal.type_in("\x03");
    assert_eq!(terminal.ended().0, Some(130));
    let (code, shown) = put("\x04");
    assert!(code == Some(2) && shown.contains("nothing was typed"), "{shown}");
    assert_eq!(desk.stored("typed"), Some(json!(long)));
}

#[test]
fn what_cannot_be_told_is_done_all_the_same() {
    let desk = Desk::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = desk.tenure(&["put", "key", "--generate", "16", "--show"]);
    let output = command.stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let value = String::from_utf8(output.stdout).unwrap();
    assert_eq!(desk.stored("key"), Some(json!(value.trim_end())));
    let removed = desk.tenure(&["rm", "key", "--yes"]).stderr(full()).status().unwrap();
    assert_eq!((removed.code(), desk.stored("key")), (Some(0), None));
}

#[test]
fn an_end_beyond_all_years_is_refused_in_the_words_of_the_command() {
    let desk = Desk::new();
    let words = ["put", "x", "v", "--expires", "99999999999d"];
    desk.run(&words).assert_fails(2, &["after the year 9999"]);
}

#[test]
fn what_is_generated_is_stored_and_shown_only_if_asked_for() {
    let desk = Desk::new();
    let said = desk.run(&["put", "key", "--generate", "32", "--expires", "30d"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    let value = desk.stored("key").unwrap().as_str().unwrap().to_owned();
    assert!(value.len() == 32 && !said.stderr.contains(&value), "{said:?}");
    assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{value}");
    assert!(said.stderr.ends_with(": expires in 30 days\n"), "{said:?}");
    let shown = desk.done(&["put", "key", "--generate", "8", "--show"]);
    assert_eq!(desk.stored("key"), Some(json!(shown.trim_end())));
}

#[test]
fn a_condition_that_does_not_hold_is_a_conflict() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["put", "x", "one", "--if-absent"]).code, Some(0));
    let version = |desk: &Desk| {
        let shown: Value = serde_json::from_str(&desk.done(&["get", "x", "--json"])).unwrap();
        shown["version"].as_str().unwrap().to_owned()
    };
    let first = version(&desk);
    desk.run(&["put", "x", "two", "--if-absent"]).assert_fails(4, &["'x' already"]);
    assert_eq!(desk.run(&["put", "x", "two", "--if-version", &first]).code, Some(0));
    desk.run(&["put", "x", "three", "--if-version", &first])
        .assert_fails(4, &[&format!("not at version {first} any more")]);
    assert_eq!(desk.stored("x"), Some(json!("two")));
    assert_eq!(desk.run(&["put", "x", "v", "--if-version", "a b"]).code, Some(2));
}

#[test]
fn as_json_a_write_has_its_version_and_window() {
    let desk = Desk::new();
    let args = ["put", "x", "v", "--json", "--expires", "2100-01-31T12:00Z"];
    let shown: Value = serde_json::from_str(&desk.done(&args)).unwrap();
    let version = &shown["version"];
    assert!(version.is_string(), "{shown}");
    let expected = json!({
        "name": "x", "version": version, "notBefore": null, "expiresOn": "2100-01-31T12:00:00Z"
    });
    assert_eq!(shown, expected);
    assert_eq!(
        desk.run(&["put", "x", "v", "--expires", "2020-01-31", "--allow-expired"]).code,
        Some(0)
    );
    assert_eq!(desk.stored("x"), None);
}

#[test]
fn a_value_that_is_piped_shows_in_no_list_of_processes() {
    let desk = Desk::new();
    let secret = "word-of-put-that-nobody-else-says";
    let watch = Watch::begin(&[secret]);
    for _ in 0..5 {
        assert_eq!(fed(&desk, &["put", "x", "-"], secret).code, Some(0));
        desk.write("file", secret);
        assert_eq!(desk.run(&["put", "x", "@file"]).code, Some(0));
        assert_eq!(desk.done(&["get", "x"]), secret);
    }
    watch.end();
}

#[test]
fn a_server_that_is_gone_or_says_no_is_told_apart() {
    let mut desk = Desk::new();
    let narrow = desk.dev().mint("dev", &["Secret.Read"]);
    let address = format!("http://{}", desk.dev().address);
    let mut command = desk.tenure(&["put", "x", "v", "--tenant", "dev"]);
    Output::of(command.env("TENURE_ADDR", &address).env("TENURE_TOKEN", &narrow))
        .assert_fails(8, &["does not allow this in tenant 'dev'"]);
    let answer = desk.dev().send(Request::get("/api/dev/secrets/x"));
    assert_eq!(answer.status, 404);
    desk.stop();
    desk.run(&["put", "x", "v"]).assert_fails(5, &["'tenure dev' starts it"]);
}
