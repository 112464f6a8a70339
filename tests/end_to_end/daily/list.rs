use std::process::Stdio;

use serde_json::{Value, json};

use super::Desk;
use crate::support::Terminal;

fn stocked() -> Desk {
    let desk = Desk::new();
    assert_eq!(desk.run(&["put", "shop-db", "v", "--expires", "3d"]).code, Some(0));
    assert_eq!(desk.run(&["put", "shop-key", "v"]).code, Some(0));
    let later = ["put", "next", "v", "--not-before", "2100-01-01", "--expires", "2100-01-31"];
    assert_eq!(desk.run(&later).code, Some(0));
    desk
}

fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn names_are_listed_and_long_with_state_window_and_version() {
    let desk = stocked();
    assert_eq!(desk.done(&["list"]), "next\nshop-db\nshop-key\n");
    assert_eq!(desk.done(&["list", "shop-"]), "shop-db\nshop-key\n");
    assert_eq!(desk.done(&["list", "db", "--prefix", "shop-"]), "db\n");
    let table = desk.done(&["list", "--long"]);
    let lines: Vec<_> = table.lines().map(cells).collect();
    assert_eq!(lines[0], ["NAME", "STATE", "WINDOW", "VERSION"]);
    assert_eq!(lines[1][..3], ["next", "not yet", "valid from 1 Jan 2100, for 30 days"]);
    assert_eq!(lines[2][..3], ["shop-db", "valid", "expires in 3 days"]);
    assert_eq!(lines[3][..3], ["shop-key", "valid", "no end"]);
    assert!(lines.iter().all(|line| line.len() == 4), "{table}");
    assert!(!table.contains('\x1b'));
    assert_eq!(desk.done(&["list", "none-", "--long"]), "");
}

#[test]
fn what_ends_soon_can_be_asked_for() {
    let desk = stocked();
    assert_eq!(desk.done(&["list", "--expiring-within", "14d"]), "shop-db\n");
    assert_eq!(desk.done(&["list", "--expiring-within", "1d"]), "");
    let long = desk.done(&["list", "--long", "--expiring-within", "14d"]);
    assert!(long.lines().count() == 2 && long.contains("shop-db"), "{long}");
    let json: Value =
        serde_json::from_str(&desk.done(&["list", "--expiring-within", "14d", "--json"])).unwrap();
    assert_eq!(json, json!(["shop-db"]));
    assert_eq!(desk.run(&["list", "--expiring-within", "soon"]).code, Some(2));
}

#[test]
fn as_json_a_list_is_an_array() {
    let desk = stocked();
    let listed = |args: &[&str]| -> Value { serde_json::from_str(&desk.done(args)).unwrap() };
    assert_eq!(listed(&["list", "--json"]), json!(["next", "shop-db", "shop-key"]));
    let long = listed(&["list", "next", "--long", "--json"]);
    let version = &long[0]["version"];
    assert!(version.is_string(), "{long}");
    let expected = json!([{
        "name": "next", "state": "notYetValid", "notBefore": "2100-01-01T00:00:00Z",
        "expiresOn": "2100-01-31T00:00:00Z", "version": version,
    }]);
    assert_eq!(long, expected);
}

#[test]
fn a_table_fits_its_terminal_and_has_colour_if_that_wants_it() {
    let desk = stocked();
    let long = "a-name-that-is-as-long-as-the-terminal-is-wide-and-then-some-characters-more";
    desk.store(long, "v");
    let (code, shown) = desk.terminal(&["list", "--long"]).ended();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(shown.contains("a-name-that") && shown.contains('…'), "{shown}");
    assert!(!shown.contains('\x1b'), "NO_COLOR is set: {shown:?}");
    let line = format!("exec {} list --long", env!("CARGO_BIN_EXE_tenure"));
    let coloured = Terminal::shell(&line, |command| {
        desk.place(command);
        command.env_remove("NO_COLOR");
    });
    let (_, shown) = coloured.ended();
    assert!(shown.contains("\x1b[33mexpires in 3 days"), "{shown:?}");
    assert!(shown.contains("\x1b[2mnext"), "{shown:?}");
    assert!(desk.done(&["list", "--long"]).contains(long));
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let desk = Desk::new();
    desk.store("a", "v");
    for args in [&["list"][..], &["list", "--long"]] {
        let mut command = desk.tenure(args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it is ours");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    }
}

#[test]
fn a_name_that_is_nearly_right_is_suggested_to_people() {
    let desk = Desk::new();
    desk.store("db-password", "v");
    desk.store_body("later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    let (code, shown) = desk.terminal(&["get", "db_pasword"]).ended();
    assert_eq!(code, Some(3));
    let said = "no secret 'db_pasword' in tenant 'dev'; did you mean 'db-password'?";
    assert!(shown.contains(said), "{shown}");
    let (_, shown) = desk.terminal(&["get", "later"]).ended();
    assert!(shown.contains("'later' in tenant 'dev' is not valid yet"), "{shown}");
    let (_, shown) = desk.terminal(&["get", "quite-another"]).ended();
    assert!(shown.contains("'tenure list' shows"), "{shown}");
    let piped = desk.run(&["get", "db_pasword"]);
    assert!(!piped.stderr.contains("did you mean"), "{piped:?}");
}
