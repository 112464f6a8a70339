use super::Desk;

#[test]
fn the_exit_code_tells_whether_a_secret_is_there() {
    let mut desk = Desk::new();
    desk.store("there", "hunter2");
    desk.store_body("later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    let said = |name: &str, json: &[&str]| {
        let output = desk.run(&[&["exists", name], json].concat());
        (output.code, output.stdout, output.stderr)
    };
    let nothing = || (String::new(), String::new());
    let (stdout, stderr) = nothing();
    assert_eq!(said("there", &[]), (Some(0), stdout, stderr));
    for absent in ["absent", "later"] {
        let (stdout, stderr) = nothing();
        assert_eq!(said(absent, &[]), (Some(3), stdout, stderr));
    }
    let json = |exists| (format!("{{\"exists\":{exists}}}\n"), String::new());
    let (stdout, stderr) = json(true);
    assert_eq!(said("there", &["--json"]), (Some(0), stdout, stderr));
    let (stdout, stderr) = json(false);
    assert_eq!(said("absent", &["--json"]), (Some(3), stdout, stderr));
    desk.run(&["exists", "a/b"]).assert_fails(2, &["A-Z a-z 0-9 - _"]);
    desk.stop();
    desk.run(&["exists", "there"]).assert_fails(5, &["does not run"]);
}
