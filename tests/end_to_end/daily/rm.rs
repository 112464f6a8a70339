use serde_json::{Value, json};

use super::Desk;
use crate::support::{Gate, Terminal};

#[test]
fn what_is_named_is_deleted_and_what_is_absent_is_named() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.store(name, "hunter2");
    }
    desk.store_body("later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    let said = desk.run(&["rm", "b", "a", "a", "--yes"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stderr.starts_with("deleted 'a', 'b' from tenant 'dev' at http://"), "{said:?}");
    let some = desk.run(&["rm", "absent", "c", "later", "--yes"]);
    some.assert_fails(3, &["there was no 'absent' in tenant 'dev'"]);
    assert!(some.stderr.starts_with("deleted 'c', 'later'"), "{some:?}");
    assert_eq!(desk.done(&["list"]), "");
}

#[test]
fn what_would_be_deleted_can_be_seen_first() {
    let desk = Desk::new();
    desk.store("a", "hunter2");
    desk.store_body("a-later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    let output = desk.run(&["rm", "a", "a-later", "b", "--dry-run", "--json"]);
    assert_eq!(output.code, Some(3));
    let shown: Value = serde_json::from_str(&output.stdout).unwrap();
    let expected = json!({ "dryRun": true, "deleted": ["a", "a-later"], "absent": ["b"] });
    assert_eq!(shown, expected);
    let dry = desk.run(&["rm", "a", "--dry-run"]);
    assert!(dry.code == Some(0) && dry.stderr.starts_with("would delete 'a' from "), "{dry:?}");
    assert_eq!(desk.done(&["list"]), "a\na-later\n");
}

#[test]
fn ctrl_c_midway_says_how_far_it_came() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.store(name, "hunter2");
    }
    let gate = Gate::before(desk.dev().address, "DELETE /api/dev/secrets/b", 1);
    let mut terminal = Terminal::open(&["rm", "a", "b", "c", "--yes", "--json"], |command| {
        desk.place(command);
        command.env("TENURE_ADDR", format!("http://{}", gate.address));
        command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", &desk.dev().token);
    });
    gate.arrived();
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(130), "{shown}");
    for said in [r#""deleted":["a"]"#, "deleted 'a'", "'b' may have been deleted, or not"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(desk.stored("a").is_none() && desk.stored("c").is_some());
}

#[test]
fn nothing_is_deleted_where_nobody_said_yes() {
    let desk = Desk::new();
    desk.store("a", "hunter2");
    desk.store("b", "hunter2");
    desk.run(&["rm", "a"]).assert_fails(2, &["cannot be undone", "--yes"]);
    for answer in ["\n", "n\n", "yonder\n", "\x04"] {
        let mut terminal = desk.terminal(&["rm", "a", "b"]);
        terminal.expect("  a\r\n  b\r\nDelete from tenant 'dev' at http://");
        terminal.expect("? y/N ");
        terminal.type_in(answer);
        let (code, shown) = terminal.ended();
        assert!(code == Some(2) && shown.contains("nothing was deleted"), "{answer:?}: {shown}");
    }
    let mut terminal = desk.terminal(&["rm", "a", "b"]);
    terminal.expect("? y/N ");
    terminal.type_in("\x03");
    assert_eq!(terminal.ended().0, Some(130));
    assert_eq!(desk.done(&["list"]), "a\nb\n");
    let mut terminal = desk.terminal(&["rm", "a"]);
    terminal.expect("? y/N ");
    terminal.type_in("y\n");
    let (code, shown) = terminal.ended();
    assert!(code == Some(0) && shown.contains("deleted 'a'"), "{shown}");
    assert_eq!(desk.done(&["list"]), "b\n");
}

#[test]
fn one_version_alone_is_deleted_if_that_is_said() {
    let desk = Desk::new();
    desk.store("a", "one");
    let shown: Value = serde_json::from_str(&desk.done(&["get", "a", "--json"])).unwrap();
    let version = shown["version"].as_str().unwrap();
    desk.store("a", "two");
    let rm = |name: &str| desk.run(&["rm", name, "--yes", "--if-version", version]);
    rm("a").assert_fails(4, &["'a' is not at version", "was not deleted"]);
    let several = ["rm", "a", "b", "--yes", "--if-version", version];
    desk.run(&several).assert_fails(2, &["of one secret"]);
    assert_eq!(desk.stored("a"), Some(json!("two")));
    desk.run(&["rm", "a", "a/b", "--yes"]).assert_fails(2, &["A-Z a-z 0-9 - _"]);
    assert_eq!(desk.stored("a"), Some(json!("two")));
}
