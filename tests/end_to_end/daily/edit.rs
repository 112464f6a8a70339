use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::Desk;
use crate::kek::bench::Watch;
use crate::support::{Gate, Output, Terminal, ended, eventually, signal};

/// A desk with memory of its own, and editors that do what a test says.
struct Bench {
    desk: Desk,
    memory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        Self { desk: Desk::new(), memory }
    }

    /// A program that is the editor; it does this, with the file as `$1`.
    fn editor(&self, script: &str) -> PathBuf {
        let path = self.desk.write("editor", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        path
    }

    fn set(&self, command: &mut Command, editor: &Path) {
        self.desk.place(command);
        command.env("EDITOR", editor).env("XDG_RUNTIME_DIR", self.memory.path());
    }

    fn command(&self, args: &[&str], script: &str) -> Command {
        let mut command = self.desk.tenure(args);
        self.set(&mut command, &self.editor(script));
        command
    }

    fn run(&self, args: &[&str], script: &str) -> Output {
        Output::of(&mut self.command(args, script))
    }

    fn terminal(&self, args: &[&str], script: &str) -> Terminal {
        let editor = self.editor(script);
        Terminal::open(args, |command| self.set(command, &editor))
    }

    /// One whose editor has written and waits.
    fn under_way(&self, name: &str) -> Child {
        let script = "printf 'word-of-edit' >> \"$1\"; touch ready; exec sleep 600";
        let mut command = self.command(&["edit", name], script);
        let child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        eventually("the editor", || self.desk.path("ready").exists().then_some(()));
        assert!(!self.is_clean());
        child
    }

    /// Whether nothing is left in memory.
    fn is_clean(&self) -> bool {
        fs::read_dir(self.memory.path()).expect("a folder").next().is_none()
    }

    #[track_caller]
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.memory.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Processes with this word whose parent is that one.
fn children_of(parent: u32, word: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let found = processes.filter_map(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        let of: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let words = fs::read(process.path().join("cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let pid = process.file_name().to_str()?.parse().ok()?;
        (of == parent && words.contains(word)).then_some(pid)
    });
    found.collect()
}

/// Files below a folder that hold the text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_was_changed_is_stored_and_the_window_stays() {
    let bench = Bench::new();
    let desk = &bench.desk;
    let window = r#"{"value": "one", "notBefore": "2020-01-01T00:00:00Z", "expiresOn": "2100-01-01T00:00:00Z"}"#;
    desk.store_body("x", window);
    let said = bench.run(&["edit", "x"], "printf ', two' >> \"$1\"");
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stderr.starts_with("stored 'x' in tenant 'dev' at http://"), "{said:?}");
    assert!(said.stderr.contains("expires in 7"), "{said:?}");
    let shown = |name: &str| -> Value {
        serde_json::from_str(&desk.done(&["get", name, "--json"])).unwrap()
    };
    assert_eq!(shown("x")["value"], "one, two");
    assert_eq!(shown("x")["notBefore"], "2020-01-01T00:00:00Z");
    assert_eq!(shown("x")["expiresOn"], "2100-01-01T00:00:00Z");
    let later = bench.run(&["edit", "x", "--expires", "2101-01-01"], "printf 3 > \"$1\"");
    assert_eq!(later.code, Some(0), "{later:?}");
    assert_eq!(shown("x")["notBefore"], "2020-01-01T00:00:00Z");
    assert_eq!(shown("x")["expiresOn"], "2101-01-01T00:00:00Z");
    let only = bench.run(&["edit", "x", "--expires", "2102-01-01"], "true");
    assert!(only.code == Some(0) && only.stderr.starts_with("stored 'x'"), "{only:?}");
    assert_eq!(
        (&shown("x")["value"], &shown("x")["expiresOn"]),
        (&json!("3"), &json!("2102-01-01T00:00:00Z"))
    );
    let empty = bench.run(&["edit", "x"], ": > \"$1\"");
    assert!(empty.stderr.ends_with("; it is empty\n"), "{empty:?}");
    bench.assert_clean();
}

#[test]
fn a_new_name_is_made_and_what_is_unchanged_is_not_written() {
    let bench = Bench::new();
    let desk = &bench.desk;
    let said = bench.run(&["edit", "new", "--json"], "printf 'value\\n' > \"$1\"");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&answer["name"], &answer["changed"]), (&json!("new"), &json!(true)));
    // The editor's own line break is none of the value's.
    assert_eq!(desk.stored("new"), Some(json!("value")));
    let again = bench.run(&["edit", "new", "--json"], "printf 'value\\n' > \"$1\"");
    let unchanged: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(unchanged["changed"], false);
    assert_eq!(unchanged["version"], answer["version"]);
    assert!(again.stderr.contains("'new' is unchanged; nothing was stored"), "{again:?}");
    // One that was there stays.
    desk.store("lines", "a\n");
    assert_eq!(bench.run(&["edit", "lines"], "printf 'b\\n' > \"$1\"").code, Some(0));
    assert_eq!(desk.stored("lines"), Some(json!("b\n")));
    let nothing = bench.run(&["edit", "never"], ":");
    assert!(nothing.stderr.contains("unchanged"), "{nothing:?}");
    assert_eq!(desk.stored("never"), None);
    bench.assert_clean();
}

#[test]
fn the_file_is_in_memory_and_for_its_owner_alone() {
    let bench = Bench::new();
    let script = "f=$(dirname \"$1\"); stat -c %a \"$f\" \"$1\" > seen; stat -f -c %T \"$1\" >> seen; \
                  basename \"$1\" >> seen; [ \"$TMPDIR\" = \"$f\" ] && echo tmp >> seen; \
                  echo $# >> seen";
    bench.desk.store("db", "hunter2");
    assert_eq!(bench.run(&["edit", "db"], script).code, Some(0));
    let seen = fs::read_to_string(bench.desk.path("seen")).unwrap();
    assert_eq!(seen, "700\n600\ntmpfs\ndb\ntmp\n1\n");
    bench.assert_clean();
}

#[test]
fn an_editor_is_a_line_of_shell_and_visual_is_first() {
    let bench = Bench::new();
    let editor = bench.editor("printf '%s' \"$1\" > \"$2\"");
    let with = |visual: &str, name: &str| {
        let mut command = bench.desk.tenure(&["edit", name]);
        bench.set(&mut command, Path::new("false"));
        Output::of(command.env("VISUAL", visual))
    };
    let said = with(&format!("'{}' 'two words'", editor.display()), "a");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(bench.desk.stored("a"), Some(json!("two words")));
    with("false", "b").assert_fails(1, &["'false' ended with code 1", "nothing was stored"]);
    with("no-such-editor", "b").assert_fails(2, &["'no-such-editor' is not there", "EDITOR"]);
    let mut command = bench.desk.tenure(&["edit", "b"]);
    bench.set(&mut command, Path::new(""));
    Output::of(command.env("PATH", "/nowhere")).assert_fails(2, &["no editor", "set EDITOR"]);
    bench.assert_clean();
}

#[test]
fn what_cannot_be_edited_is_said_before_an_editor_opens() {
    let bench = Bench::new();
    let desk = &bench.desk;
    desk.store_body("none", r#"{"value": null}"#);
    desk.store_body("later", r#"{"value": "x", "notBefore": "2100-01-01T00:00:00Z"}"#);
    let opened = "touch opened";
    bench.run(&["edit", "none"], opened).assert_fails(2, &["is null", "tenure put"]);
    bench.run(&["edit", "later"], opened).assert_fails(2, &["not valid yet", "tenure put"]);
    bench.run(&["edit", "a/b"], opened).assert_fails(2, &["A-Z a-z 0-9 - _"]);
    bench.run(&["edit", "x", "--expires", "2020-01-01"], opened).assert_fails(2, &["future"]);
    assert!(!desk.path("opened").exists());
    let binary = bench.run(&["edit", "x"], "printf '\\377' > \"$1\"");
    binary.assert_fails(2, &["not UTF-8", "discarded"]);
    bench.run(&["edit", "x"], "rm \"$1\"").assert_fails(2, &["not in its file any more"]);
    assert_eq!(desk.stored("x"), None);
    bench.assert_clean();
}

#[test]
fn nothing_is_left_however_it_is_ended() {
    let bench = Bench::new();
    bench.desk.store("x", "hunter2");
    for (name, code) in [("TERM", Some(130)), ("HUP", Some(130)), ("KILL", None)] {
        let _ = fs::remove_file(bench.desk.path("ready"));
        let mut child = bench.under_way("x");
        let pid = child.id();
        let editors = eventually("the editor to wait", || {
            Some(children_of(pid, "sleep")).filter(|editors| editors.len() == 1)
        });
        signal(pid, name);
        assert_eq!(ended(&mut child).code(), code, "{name}");
        eventually("the folder to be gone", || bench.is_clean().then_some(()));
        // One that outlives a kill -9 has a file without a name; others were told to end.
        match name {
            "KILL" => editors.into_iter().for_each(|editor| signal(editor, "KILL")),
            _ => assert!(!Path::new(&format!("/proc/{}", editors[0])).exists(), "{name}"),
        }
    }
    assert_eq!(bench.desk.stored("x"), Some(json!("hunter2")));
    assert_eq!(files_with(bench.desk.home(), "word-of-edit"), [bench.desk.path("editor")]);
}

#[test]
fn what_is_left_when_the_guard_is_killed_too_is_removed_by_the_next() {
    let bench = Bench::new();
    let mut child = bench.under_way("x");
    let guards = children_of(child.id(), "guard-edit");
    assert_eq!(guards.len(), 1);
    guards.iter().for_each(|guard| signal(*guard, "KILL"));
    let editors = eventually("the editor to wait", || {
        Some(children_of(child.id(), "sleep")).filter(|editors| editors.len() == 1)
    });
    signal(child.id(), "KILL");
    ended(&mut child);
    editors.iter().for_each(|editor| signal(*editor, "KILL"));
    assert!(!bench.is_clean());
    assert_eq!(bench.run(&["edit", "other"], "printf x > \"$1\"").code, Some(0));
    bench.assert_clean();
}

#[test]
fn what_another_edits_is_not_taken_for_left() {
    let bench = Bench::new();
    let mut first = bench.under_way("x");
    assert_eq!(bench.run(&["edit", "other"], "printf x > \"$1\"").code, Some(0));
    assert!(!bench.is_clean());
    signal(first.id(), "TERM");
    ended(&mut first);
    bench.assert_clean();
}

#[test]
fn ctrl_c_is_for_the_editor() {
    let bench = Bench::new();
    bench.desk.store("x", "hunter2");
    // One that does not end by it.
    let script =
        "trap 'printf caught > \"$1\"; exit 0' INT; echo open; while :; do sleep 0.1; done";
    let mut terminal = bench.terminal(&["edit", "x"], script);
    terminal.expect("open");
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("caught")));
    // And one that does.
    let mut terminal = bench.terminal(&["edit", "x"], "echo open; exec sleep 600");
    terminal.expect("open");
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert!(code == Some(1) && shown.contains("nothing was stored"), "{code:?} {shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("caught")));
    bench.assert_clean();
}

#[test]
fn ctrl_c_while_it_is_stored_leaves_nothing_and_says_that_it_may_have_been() {
    let bench = Bench::new();
    bench.desk.store("x", "one");
    let gate = Gate::before(bench.desk.dev().address, "PUT ", 1);
    let editor = bench.editor("printf two > \"$1\"");
    let mut terminal = Terminal::open(&["edit", "x"], |command| {
        bench.set(command, &editor);
        command.env("TENURE_ADDR", format!("http://{}", gate.address));
        command.env("TENURE_TENANT", "dev").env("TENURE_TOKEN", &bench.desk.dev().token);
    });
    gate.arrived();
    assert!(!bench.is_clean());
    terminal.type_in("\x03");
    let (code, shown) = terminal.ended();
    assert!(code == Some(130) && shown.contains("'x' may have been changed, or not"), "{shown}");
    bench.assert_clean();
    // It was on its way, and no editor takes it back.
    gate.open();
    eventually("what was sent", || (bench.desk.stored("x") == Some(json!("two"))).then_some(()));
}

/// Somebody else is faster, and then the person at the terminal says `answers`.
fn after_a_conflict(bench: &Bench, answers: &[&str]) -> (Option<i32>, String) {
    bench.desk.store("x", "one");
    let _ = fs::remove_file(bench.desk.path("go"));
    let script = "[ -e go ] || { echo open; while [ ! -e go ]; do sleep 0.05; done; }; \
                  printf ', mine' >> \"$1\"";
    let mut terminal = bench.terminal(&["edit", "x"], script);
    terminal.expect("open");
    bench.desk.store("x", "theirs");
    bench.desk.write("go", "");
    terminal.expect("'x' was changed by somebody else meanwhile");
    terminal.expect("discard it (d)? ");
    for answer in answers {
        terminal.type_in(answer);
    }
    terminal.ended()
}

#[test]
fn what_somebody_else_changed_is_replaced_only_by_who_says_so() {
    let bench = Bench::new();
    let (code, shown) = after_a_conflict(&bench, &["d\n"]);
    assert!(code == Some(4) && shown.contains("is discarded"), "{shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("theirs")));
    let (code, shown) = after_a_conflict(&bench, &["what?\n", "s\n"]);
    assert!(code == Some(0) && shown.contains("s: overwrite"), "{shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("one, mine")));
    let (code, shown) = after_a_conflict(&bench, &["e\n"]);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("one, mine, mine")));
    let (code, shown) = after_a_conflict(&bench, &["\x03"]);
    assert!(code == Some(130) && shown.contains("interrupted"), "{shown}");
    assert_eq!(bench.desk.stored("x"), Some(json!("theirs")));
    bench.assert_clean();
}

#[test]
fn where_nobody_can_be_asked_a_conflict_discards_what_was_edited() {
    let bench = Bench::new();
    bench.desk.store("x", "one");
    let put = format!("{} put x theirs; printf mine > \"$1\"", env!("CARGO_BIN_EXE_tenure"));
    bench.run(&["edit", "x"], &put).assert_fails(4, &["somebody else", "is discarded"]);
    assert_eq!(bench.desk.stored("x"), Some(json!("theirs")));
    bench.assert_clean();
}

#[test]
fn a_server_that_went_away_meanwhile_costs_nothing_that_was_typed() {
    let mut bench = Bench::new();
    bench.desk.store("x", "one");
    let script = "[ -e go ] || { echo open; while [ ! -e go ]; do sleep 0.05; done; }; \
                  cat \"$1\"; printf mine > \"$1\"";
    let mut terminal = bench.terminal(&["edit", "x"], script);
    terminal.expect("open");
    bench.desk.stop();
    bench.desk.write("go", "");
    terminal.expect("cannot be reached");
    terminal.expect("s: try again");
    terminal.type_in("s\n");
    terminal.type_in("e\n");
    terminal.expect("mine");
    terminal.type_in("d\n");
    let (code, shown) = terminal.ended();
    assert!(code == Some(5) && shown.contains("is discarded"), "{shown}");
    bench.assert_clean();
}

/// What is typed into a real editor, which must leave nothing behind.
fn with_a_real_editor(editor: &str, keys: &[&str]) {
    let bench = Bench::new();
    let secret = "word-of-a-real-editor";
    bench.desk.store("x", secret);
    let watch = Watch::begin(&[secret]);
    let mut terminal = Terminal::open(&["edit", "x"], |command| {
        bench.set(command, Path::new(editor));
        command.env("TERM", "xterm");
    });
    terminal.expect(secret);
    for key in keys {
        terminal.type_in(key);
    }
    let (code, shown) = terminal.ended();
    assert_eq!(code, Some(0), "{shown}");
    watch.end();
    assert_eq!(bench.desk.stored("x"), Some(json!(format!("{secret}-more"))));
    assert_eq!(files_with(bench.desk.home(), secret), Vec::<PathBuf>::new());
    bench.assert_clean();
}

#[test]
fn vim_leaves_nothing_behind() {
    // A whole Vim, which keeps what was deleted in a file of its user's.
    for editor in ["vim.basic", "LANG=C vim.basic", "env LANG=C vim.basic -N"] {
        with_a_real_editor(editor, &["A-more\x1b", "yyp", "dd", ":wq\r"]);
    }
}

#[test]
fn nano_leaves_nothing_behind() {
    with_a_real_editor("nano", &["\x05", "-more", "\x0f", "\r", "\x18"]);
}
