use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::Desk;
use crate::support::{Output, Request};

const TEMPLATE: &str = "url = {{ secret \"db\" | url }}\njson = {{ secret \"db\" | json }}\n\
                        base64 = {{ secret \"db\" | base64 }}\nplain = {{ secret \"db\" }} \
                        {{ \"{{\" }}\n";
const RENDERED: &str = "url = a%20%22b\njson = \"a \\\"b\"\nbase64 = YSAiYg==\nplain = a \"b {{\n";

#[test]
fn a_template_is_filled_to_standard_output_or_a_file_of_its_mode() {
    let desk = Desk::new();
    desk.store("shop-db", "a \"b");
    desk.write(".tenure.toml", "prefix = 'shop-'\n");
    desk.write("template", TEMPLATE);
    assert_eq!(desk.done(&["render", "template"]), RENDERED);
    let piped = Output::with_input(&mut desk.tenure(&["render", "-"]), TEMPLATE);
    assert_eq!(piped.stdout, RENDERED);
    let mode = |name| fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(desk.done(&["render", "template", "-o", "file"]), "");
    assert_eq!(fs::read_to_string(desk.path("file")).unwrap(), RENDERED);
    assert_eq!(mode("file"), 0o600);
    let answer = desk.done(&["render", "template", "-o", "file", "--mode", "0640", "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!({"file": "file", "needs": ["db"]}));
    assert_eq!(mode("file"), 0o640);
}

#[test]
fn check_says_what_is_needed_and_what_is_missing() {
    let desk = Desk::new();
    desk.store("a", "hunter2");
    desk.write("template", "{{ secret \"a\" }}{{ secret \"b\" }}");
    let checked = desk.run(&["render", "template", "--check"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(3), "a\nb  missing\n"));
    assert!(checked.stderr.contains("no secret 'b'"), "{checked:?}");
    let checked = desk.run(&["render", "template", "--check", "--json"]);
    let answer: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(answer, json!({"needs": ["a", "b"], "missing": ["b"]}));
    desk.store("b", "");
    assert_eq!(desk.done(&["render", "template", "--check"]), "a\nb\n");
}

#[test]
fn a_failure_leaves_the_file_as_it_was() {
    let desk = Desk::new();
    desk.store("a", "hunter2");
    desk.store_body("none", r#"{"value": null}"#);
    desk.write("file", "before");
    let refused = |template: &str, code, words: &[&str]| {
        desk.write("template", template);
        let output = desk.run(&["render", "template", "-o", "file"]);
        output.assert_fails(code, words);
        assert!(!output.stderr.contains("hunter2"), "{output:?}");
        assert_eq!(fs::read_to_string(desk.path("file")).unwrap(), "before");
    };
    refused("{{ secret \"a\" }}{{ secret \"absent\" }}", 3, &["no secret 'absent'"]);
    refused("{{ secret \"x\" }}{{ secret \"absent\" }}", 3, &["'absent', 'x'"]);
    refused("{{ secret \"none\" }}", 3, &["'none' is null", "| json"]);
    refused("x\n {{ sekret \"a\" }}", 2, &["template, line 2, column 5"]);
    refused(&"x".repeat(1024 * 1024 + 1), 2, &["longer than 1 MiB"]);
    desk.write("template", "{{ secret \"a\" }}");
    fs::write(desk.path("latin1"), b"\xe4").unwrap();
    desk.run(&["render", "latin1"]).assert_fails(2, &["not UTF-8"]);
    desk.run(&["render", "absent"]).assert_fails(2, &["absent cannot be read"]);
    desk.run(&["render", "template", "--json"]).assert_fails(2, &["-o FILE or --check"]);
    std::os::unix::fs::symlink(desk.path("file"), desk.path("link")).unwrap();
    desk.run(&["render", "template", "-o", "link"]).assert_fails(2, &["no plain file"]);
    desk.run(&["render", "template", "-o", "no/file"]).assert_fails(1, &["make its folder first"]);
    let words = desk.run(&["render", "template", "-o", "file", "--mode", "0800"]);
    assert!(words.code == Some(2) && words.stderr.contains("octal"), "{words:?}");
    assert_eq!(fs::read_to_string(desk.path("file")).unwrap(), "before");
}

#[test]
fn kill_9_leaves_the_old_file_or_the_new_one_and_nothing_beside_it() {
    let desk = Desk::new();
    desk.store("a", "correct-horse");
    fs::create_dir(desk.path("out")).unwrap();
    desk.write("template", &"{{ secret \"a\" }}\n".repeat(30_000));
    let whole = "correct-horse\n".repeat(30_000);
    let begun = std::time::Instant::now();
    assert_eq!(desk.done(&["render", "template", "-o", "out/file"]), "");
    let all = begun.elapsed();
    let mut wrote = 0;
    for moment in 0..40 {
        desk.write("out/file", "before");
        let mut command = desk.tenure(&["render", "template", "-o", "out/file"]);
        let mut child = command.spawn().unwrap();
        // From its beginning to well after its end.
        std::thread::sleep(all * moment / 25);
        child.kill().unwrap();
        child.wait().unwrap();
        let text = fs::read_to_string(desk.path("out/file")).unwrap();
        assert!(text == "before" || text == whole, "{} bytes", text.len());
        wrote += usize::from(text == whole);
        assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 1);
    }
    assert_eq!(desk.done(&["render", "template", "-o", "out/file"]), "");
    assert!(0 < wrote && wrote < 40, "{wrote} of 40 came to their end");
}

#[test]
fn a_secret_is_read_when_it_is_rendered() {
    let desk = Desk::new();
    desk.store("a", "one");
    desk.write("template", "{{ secret \"a\" }}");
    assert_eq!(desk.done(&["render", "template"]), "one");
    assert_eq!(desk.dev().send(Request::delete("/api/dev/secrets/a")).status, 204);
    desk.run(&["render", "template"]).assert_fails(3, &["no secret 'a'"]);
}
