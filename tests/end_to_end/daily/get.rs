use serde_json::{Value, json};

use super::Desk;
use crate::support::{Output, maintain};

#[test]
fn a_value_is_printed_bare_and_ends_with_a_line_break_on_a_terminal_only() {
    let desk = Desk::new();
    desk.store("db-password", "hunter2\n \"ä");
    assert_eq!(desk.done(&["get", "db-password"]), "hunter2\n \"ä");
    desk.store("plain", "hunter2");
    assert_eq!(desk.stored("plain"), Some(json!("hunter2")));
    let (code, shown) = desk.terminal(&["get", "plain"]).ended();
    assert_eq!((code, shown.as_str()), (Some(0), "hunter2\r\n"));
}

#[test]
fn as_json_a_value_has_its_version_and_window() {
    let desk = Desk::new();
    desk.store_body("none", r#"{"value": null, "expiresOn": "2100-01-01T00:00:00Z"}"#);
    let shown: Value = serde_json::from_str(&desk.done(&["get", "none", "--json"])).unwrap();
    assert_eq!((&shown["name"], &shown["value"]), (&json!("none"), &json!(null)));
    assert!(shown["version"].is_string() && shown["notBefore"].is_null(), "{shown}");
    desk.run(&["get", "none"]).assert_fails(3, &["is null", "--json"]);
}

#[test]
fn what_is_not_there_or_not_allowed_says_so_by_its_exit_code() {
    let desk = Desk::new();
    desk.run(&["get", "absent"]).assert_fails(3, &["no secret 'absent' in tenant 'dev'"]);
    desk.run(&["get", "a/b"]).assert_fails(2, &["A-Z a-z 0-9 - _"]);
    let mint = ["token", "mint", "--tenant", "dev", "--scope", "Secret.Write"];
    let token = maintain(&desk.path(".tenure"), &mint).stdout;
    let address = format!("http://{}", desk.dev().address);
    let with = |token: &str, tenant: &str| {
        let mut command = desk.tenure(&["get", "absent", "--tenant", tenant]);
        Output::of(command.env("TENURE_ADDR", &address).env("TENURE_TOKEN", token))
    };
    with(token.trim(), "dev").assert_fails(8, &["does not allow this in tenant 'dev'"]);
    with(&desk.dev().token, "other").assert_fails(8, &["does not allow this in tenant 'other'"]);
    let refused = with("hunter2", "dev");
    refused.assert_fails(8, &["TENURE_ADDR and its credential"]);
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
}

#[test]
fn a_server_that_is_not_there_is_told_from_one_that_says_no() {
    let mut desk = Desk::new();
    desk.store("plain", "hunter2");
    let other = |address: &str| {
        let mut command = desk.tenure(&["get", "plain", "--tenant", "dev", "--addr", address]);
        Output::of(command.env("TENURE_TOKEN", &desk.dev().token))
    };
    other("http://127.0.0.1:1").assert_fails(5, &["http://127.0.0.1:1 cannot be reached"]);
    let plain = other("http://tenure.example");
    assert_eq!(plain.code, Some(2));
    assert!(plain.stderr.contains("must begin with https://"), "{plain:?}");
    desk.stop();
    desk.run(&["get", "plain"]).assert_fails(5, &["does not run", "'tenure dev' starts it"]);
}

#[test]
fn a_credential_and_its_address_are_said_together() {
    let desk = Desk::new();
    let address = format!("http://{}", desk.dev().address);
    let mut command = desk.tenure(&["get", "plain", "--tenant", "dev"]);
    Output::of(command.env("TENURE_TOKEN", "x")).assert_fails(2, &["set TENURE_ADDR"]);
    let mut command = desk.tenure(&["get", "plain", "--addr", &address]);
    Output::of(&mut command).assert_fails(2, &["TENURE_TOKEN or TENURE_API_KEY"]);
    let mut command = desk.tenure(&["get", "plain", "--addr", &address]);
    command.env("TENURE_TOKEN", "x").env("TENURE_API_KEY", "y");
    Output::of(&mut command).assert_fails(2, &["both TENURE_TOKEN and TENURE_API_KEY"]);
    let mut command = desk.tenure(&["get", "plain"]);
    command.current_dir("/");
    Output::of(&mut command).assert_fails(2, &["no server is named", "tenure dev"]);
}

#[test]
fn a_project_says_tenant_and_prefix_and_nothing_else() {
    let desk = Desk::new();
    desk.store("shop-db", "hunter2");
    desk.write(".tenure.toml", "prefix = 'shop-'\n");
    desk.write("deep/er/file", "");
    let mut command = desk.tenure(&["get", "db"]);
    assert_eq!(Output::of(command.current_dir(desk.path("deep/er"))).stdout, "hunter2");
    assert_eq!(desk.done(&["get", "shop-db", "--prefix", ""]), "hunter2");
    desk.run(&["get", ""]).assert_fails(2, &["must not be empty"]);
    desk.write(".tenure.toml", "tenant = 'other'\n");
    desk.run(&["get", "db"]).assert_fails(8, &["tenant 'other'"]);
    desk.write(".tenure.toml", "token = 'hunter2'\n");
    let refused = desk.run(&["get", "db"]);
    refused.assert_fails(2, &[".tenure.toml", "never a credential"]);
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
}

#[test]
fn a_store_that_came_with_a_project_is_on_this_machine_or_nothing_is_sent() {
    let desk = Desk::new();
    desk.write(
        ".tenure/dev.env",
        "export TENURE_ADDR=https://tenure.example\nexport TENURE_TENANT=dev\nexport \
         TENURE_TOKEN=hunter2\n",
    );
    let refused = desk.run(&["get", "plain"]);
    refused.assert_fails(2, &["does not say where a local store is"]);
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
}

#[test]
fn whoever_reads_no_further_has_read_enough() {
    let desk = Desk::new();
    desk.store("LARGE", &"v".repeat(60_000));
    for args in [&["get", "LARGE"][..], &["get", "LARGE", "--json"], &["export"]] {
        let mut command = desk.tenure(args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}
