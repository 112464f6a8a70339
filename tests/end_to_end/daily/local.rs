//! `tenure dev` as a tool of every day: beside others, in a project, in a repository.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Output, Terminal, ended, eventually, signal, tenure};

/// A folder in which somebody starts it, from which nothing above is seen.
struct Project {
    home: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir(home.path().join("project")).expect("a folder");
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("project").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn tenure(&self, args: &[&str]) -> Command {
        let mut command = tenure();
        command.args(args).current_dir(self.path(""));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        Output::of(&mut self.tenure(args))
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        output.stdout
    }

    fn dev(&self, args: &[&str]) -> Local {
        self.dev_in(&self.path(""), &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    fn dev_in(&self, folder: &Path, args: &[&str]) -> Local {
        let path = self.home.path().join("printed");
        let errors = self.home.path().join("errors");
        let mut command = tenure();
        command.arg("dev").args(args).current_dir(folder);
        command.stdout(File::create(&path).expect("a file"));
        command.stderr(File::create(&errors).expect("a file"));
        let mut child = command.spawn().expect("it starts");
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let text = eventually("tenure dev to be ready", || {
            if let Some(status) = child.try_wait().expect("ours") {
                panic!("it ended with {status}: {}", read(&errors));
            }
            Some(read(&path)).filter(|text| text.ends_with("Ctrl-C stops it.\n"))
        });
        Local { child, text, errors: read(&errors) }
    }
}

/// One that runs.
struct Local {
    child: Child,
    /// What it printed.
    text: String,
    errors: String,
}

impl Local {
    fn says(&self, label: &str) -> &str {
        let line = self.text.lines().find_map(|line| line.trim_start().strip_prefix(label));
        line.unwrap_or_else(|| panic!("{label} in {}", self.text)).trim()
    }

    fn stop(mut self) {
        signal(self.child.id(), "INT");
        assert_eq!(ended(&mut self.child).code(), Some(0));
    }

    fn kill(mut self) {
        self.child.kill().expect("ours");
        ended(&mut self.child);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_imported_is_there_when_it_says_ready_and_replaces() {
    let project = Project::new();
    project.write(".env", "DB_PASSWORD=hunter1\nTOKEN='$x'\n");
    project.write("more.json", r#"{"none": null}"#);
    let dev = project.dev(&["--import", ".env", "--import", "more.json"]);
    assert_eq!(dev.says("holds"), "3 secrets: DB_PASSWORD, TOKEN, none");
    assert!(!dev.text.contains("hunter1"), "{}", dev.text);
    assert_eq!(project.done(&["get", "TOKEN"]), "$x");
    let version = || -> Value {
        let shown: Value =
            serde_json::from_str(&project.done(&["get", "TOKEN", "--json"])).unwrap();
        shown["version"].clone()
    };
    let first = version();
    dev.stop();
    project.write(".env", "DB_PASSWORD=hunter2\nTOKEN='$x'\n");
    let dev = project.dev(&["--import", ".env"]);
    assert_eq!(dev.says("holds"), "3 secrets: DB_PASSWORD, TOKEN, none");
    assert_eq!(project.done(&["get", "DB_PASSWORD"]), "hunter2");
    assert_eq!(version(), first, "what is the same is not written again");
}

/// Or a start would take as long as sorting their names does: a million, a quarter of a minute.
#[test]
fn a_store_of_thousands_is_not_listed_before_it_is_ready() {
    let project = Project::new();
    let many: BTreeMap<_, _> = (0..2_600).map(|n| (format!("n{n}"), "x")).collect();
    project.write("many.json", &serde_json::to_string(&many).expect("JSON"));
    let dev = project.dev(&["--import", "many.json"]);
    assert_eq!(dev.says("holds"), "thousands of secrets");
}

#[test]
fn a_file_that_is_wrong_keeps_it_from_starting_and_makes_nothing() {
    let project = Project::new();
    project.write("x.env", "a=hunter2$X\n");
    let refused = project.run(&["dev", "--import", "x.env"]);
    refused.assert_fails(2, &["x.env: line 1: ", "single quotes"]);
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    project.run(&["dev", "--import", "x.toml"]).assert_fails(2, &["x.toml"]);
    project.run(&["dev", "--seed", "absent"]).assert_fails(2, &["--seed absent cannot be read"]);
    let large = "x".repeat(70_000);
    project.write("x.json", &format!(r#"{{"a": "1", "b": "{large}", "c": "2"}}"#));
    project.run(&["dev", "--import", "x.json"]).assert_fails(2, &["'b' has 70000 bytes"]);
    project.write("x.json", "{}");
    let dev = project.dev(&["--import", "x.json"]);
    assert_eq!(dev.says("holds"), "no secret yet");
    dev.stop();
    fs::remove_dir_all(project.path(".tenure")).unwrap();
    assert!(!project.path(".tenure").exists());
}

#[test]
fn seeds_fill_what_is_missing_and_no_more() {
    let project = Project::new();
    project.write("seeds/db-password", "first\n");
    project.write("seeds/more.yaml", "a: x\nb: z\n");
    project.write("seeds/.hidden", "hunter2");
    project.write("seeds/folder/deep", "hunter2");
    let dev = project.dev(&["--seed", "seeds"]);
    assert_eq!(dev.says("holds"), "3 secrets: a, b, db-password");
    assert_eq!(project.done(&["get", "db-password"]), "first\n", "byte for byte");
    dev.stop();
    project.write("seeds/db-password", "second");
    project.write("seeds/new", "z");
    let dev = project.dev(&["--seed", "seeds"]);
    assert_eq!(dev.says("holds"), "4 secrets: a, b, db-password, new");
    assert_eq!(project.done(&["get", "db-password"]), "first\n", "a seed overwrites nothing");
    dev.stop();
    project.write("seeds/a", "x");
    project.run(&["dev", "--seed", "seeds"]).assert_fails(2, &["two files", "'a'"]);
    fs::remove_file(project.path("seeds/a")).unwrap();
    project.write("seeds/not a name", "x");
    project
        .run(&["dev", "--seed", "seeds"])
        .assert_fails(2, &["not a name: the name", "rename it"]);
}

#[test]
fn two_run_beside_one_another_and_a_second_one_of_a_folder_does_not() {
    let (one, two) = (Project::new(), Project::new());
    let first = one.dev_in(&one.path(""), &[]);
    let second = two.dev_in(&two.path(""), &[]);
    let (a, b) = (first.says("address"), second.says("address"));
    assert_ne!(a, b);
    for address in [a, b] {
        let port = address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        assert!((7300..=7310).contains(&port), "{address}");
    }
    one.write("x.env", "of=one\n");
    two.write("x.env", "of=two\n");
    one.done(&["import", "x.env"]);
    two.done(&["import", "x.env"]);
    assert_eq!((one.done(&["get", "of"]), two.done(&["get", "of"])), ("one".into(), "two".into()));
    for args in [&["dev"][..], &["dev", "--listen", "127.0.0.1:0"]] {
        one.run(args).assert_fails(4, &["runs on ./.tenure already", a, "tenure dev stop"]);
    }
    let taken = a.strip_prefix("http://").unwrap();
    let third = Project::new();
    third.run(&["dev", "--listen", taken]).assert_fails(5, &["cannot listen on", "--listen"]);
}

#[test]
fn those_that_start_at_the_same_time_find_ports_of_their_own() {
    let projects = [(); 4].map(|()| Project::new());
    let running = std::thread::scope(|scope| {
        let starts = projects
            .each_ref()
            .map(|project| scope.spawn(|| project.dev_in(&project.path(""), &[])));
        starts.map(|start| start.join().expect("it starts"))
    });
    let mut addresses: Vec<_> = running.iter().map(|dev| dev.says("address").to_owned()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4);
}

#[test]
fn it_is_asked_how_it_is_and_stopped_from_anywhere_below() {
    let project = Project::new();
    project.write("deep/er/file", "");
    project.run(&["dev", "status"]).assert_fails(3, &["no 'tenure dev' runs on ./.tenure;"]);
    project.run(&["dev", "stop"]).assert_fails(3, &["no 'tenure dev' runs"]);
    project.write("x.env", "a=1\nb=2\n");
    let mut dev = project.dev(&["--import", "x.env"]);
    let below =
        |args: &[&str]| Output::of(project.tenure(args).current_dir(project.path("deep/er")));
    let status: Value = serde_json::from_str(&below(&["dev", "status", "--json"]).stdout).unwrap();
    assert_eq!(
        status,
        json!({
            "running": true,
            "pid": dev.child.id(),
            "address": dev.says("address"),
            "tenant": "dev",
            "data": project.path(".tenure").canonicalize().unwrap(),
            "secrets": {"valid": 2, "pending": 0, "expired": 0},
        })
    );
    let text = project.done(&["dev", "status"]);
    assert!(text.contains("tenure dev runs\n") && text.contains("2 valid"), "{text}");
    let stopped = below(&["dev", "stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(stopped.stdout.starts_with("stopped; "), "{stopped:?}");
    // It was waited for.
    let status = dev.child.try_wait().unwrap().expect("it has ended");
    assert_eq!(status.code(), Some(0), "in good order");
    let json = project.run(&["dev", "status", "--json"]);
    let gone: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &gone["running"]), (Some(3), &json!(false)));
    let again = project.dev(&[]);
    assert_eq!(again.says("holds"), "2 secrets: a, b", "it keeps what it holds");
}

#[test]
fn what_a_dead_one_left_is_called_by_its_name() {
    let project = Project::new();
    let dev = project.dev(&[]);
    let address = dev.says("address").to_owned();
    dev.kill();
    for verb in ["stop", "status"] {
        let said = project.run(&["dev", verb]);
        said.assert_fails(3, &["dev.env names", &address, "left by one that has ended"]);
    }
    project.run(&["get", "a"]).assert_fails(5, &["does not run", "'tenure dev' starts it"]);
    // Whatever has its address now is sent nothing.
    let other = TcpListener::bind(address.strip_prefix("http://").unwrap()).unwrap();
    other.set_nonblocking(true).unwrap();
    for args in [&["get", "a"][..], &["put", "a", "hunter2"], &["list"], &["run", "--", "true"]] {
        project.run(args).assert_fails(5, &[]);
    }
    assert!(other.accept().is_err(), "somebody was asked");
    drop(other);
    let again = project.dev(&[]);
    assert_eq!(again.says("holds"), "no secret yet");
    assert_eq!(project.run(&["get", "a"]).code, Some(3));
}

#[test]
fn what_came_with_a_project_leads_nowhere() {
    let project = Project::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let address = other.local_addr().unwrap();
    for below in ["", "/", "/x?y="] {
        let planted = format!(
            "export TENURE_ADDR=http://{address}{below}\nexport TENURE_TENANT=t\nexport TENURE_TOKEN=x\n"
        );
        project.write(".tenure/dev.env", &planted);
        project.write(".tenure/FORMAT", "3\n");
        let refused = project.run(&["put", "db-password", "hunter2"]);
        assert!(matches!(refused.code, Some(2 | 5)), "{refused:?}");
    }
    assert!(other.accept().is_err(), "somebody was asked");
    // Nor is one waited for, or read without end.
    for (file, target) in [(".tenure.toml", "/dev/zero"), (".tenure/dev.env", "/dev/zero")] {
        let _ = fs::remove_file(project.path(".tenure/dev.env"));
        std::os::unix::fs::symlink(target, project.path(file)).unwrap();
        project.run(&["list"]).assert_fails(2, &[file, "it is no plain file"]);
        fs::remove_file(project.path(file)).unwrap();
    }
}

#[test]
fn a_reset_removes_what_it_made_after_a_question_and_nothing_else() {
    let project = Project::new();
    project.run(&["dev", "reset", "--yes"]).assert_fails(3, &["holds no store of 'tenure dev'"]);
    project.write("x.env", "a=1\n");
    let dev = project.dev(&["--import", "x.env"]);
    project.run(&["dev", "reset", "--yes"]).assert_fails(4, &["tenure dev stop"]);
    dev.stop();
    let shown = project.done(&["dev", "reset", "--dry-run"]);
    for name in ["store-2", "kek", "FORMAT", "dev.env", ".gitignore"] {
        assert!(shown.contains(&format!(".tenure/{name}")), "{shown}");
    }
    project.run(&["dev", "reset"]).assert_fails(2, &["--yes"]);
    for typed in ["n\n", "\n", "\x03"] {
        let mut terminal = terminal(&project, &["dev", "reset"]);
        terminal.expect("Go on? [y/N] ");
        terminal.type_in(typed);
        assert_ne!(terminal.ended().0, Some(0));
        assert!(project.path(".tenure/kek").exists());
    }
    project.write(".tenure/theirs", "x");
    let reset: Value =
        serde_json::from_str(&project.done(&["dev", "reset", "--yes", "--json"])).unwrap();
    assert_eq!(reset["kept"], json!(["./.tenure/theirs"]));
    assert_eq!(fs::read_dir(project.path(".tenure")).unwrap().count(), 1);
    fs::remove_file(project.path(".tenure/theirs")).unwrap();
    let dev = project.dev(&[]);
    assert_eq!(dev.says("holds"), "no secret yet");
    dev.stop();
    let mut terminal = terminal(&project, &["dev", "reset"]);
    terminal.expect("Go on? [y/N] ");
    terminal.type_in("y\n");
    assert_eq!(terminal.ended().0, Some(0));
    assert!(!project.path(".tenure").exists());
}

fn terminal(project: &Project, args: &[&str]) -> Terminal {
    Terminal::open(args, |command| {
        command.current_dir(project.path(""));
    })
}

#[test]
fn a_store_that_dev_did_not_make_is_neither_stopped_nor_removed() {
    let project = Project::new();
    project.done(&["init", "--data", "served"]);
    project
        .run(&["dev", "reset", "--yes", "--data", "served"])
        .assert_fails(3, &["holds no store"]);
    let mut command = project.tenure(&["serve", "--listen", "127.0.0.1:0", "--data", "served"]);
    let mut served =
        command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    eventually("it to serve", || project.path("served/admin.sock").exists().then_some(()));
    project
        .run(&["dev", "stop", "--data", "served"])
        .assert_fails(2, &["was not made by 'tenure dev'"]);
    signal(served.id(), "TERM");
    assert_eq!(ended(&mut served).code(), Some(0));
}

#[test]
fn a_project_says_its_tenant_and_prefix_from_subfolders_too() {
    let project = Project::new();
    project.write(".tenure.toml", "tenant = 'acme'\nprefix = 'shop-'\n");
    project.write("deep/er/x.env", "db=1\n");
    let dev =
        project.dev_in(&project.path("deep/er"), &["--listen", "127.0.0.1:0", "--import", "x.env"]);
    assert_eq!(dev.says("tenant"), "acme");
    assert_eq!(dev.says("holds"), "1 secret: db");
    assert_eq!(Path::new(dev.says("data")), project.path(".tenure").canonicalize().unwrap());
    assert!(dev.text.contains("get --prefix shop- greeting\n"), "{}", dev.text);
    assert!(dev.text.contains("/secrets/shop-greeting\""), "{}", dev.text);
    assert_eq!(project.done(&["list", "--prefix", ""]), "shop-db\n");
    assert_eq!(project.done(&["get", "db"]), "1");
    assert!(!project.path("deep/er/.tenure").exists());
    dev.stop();
    let again = project.dev(&[]);
    assert_eq!((again.says("data"), again.says("holds")), ("./.tenure", "1 secret: db"));
}

#[test]
fn more_than_twenty_names_are_counted() {
    let project = Project::new();
    let many: String = (0..25).map(|n| format!("n{n:02}=x\n")).collect();
    project.write("x.env", &many);
    let dev = project.dev(&["--import", "x.env"]);
    let holds = dev.says("holds");
    assert!(holds.starts_with("25 secrets: n00, n01, "), "{holds}");
    assert!(holds.ends_with("n19 and 5 others"), "{holds}");
}

#[test]
fn git_sees_nothing_of_it() {
    let project = Project::new();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*"]).args(args).current_dir(project.path(""));
        let output = Output::of(git.env("HOME", project.home.path()));
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        output.stdout
    };
    git(&["init", "-q"]);
    project.write(".gitignore", "target");
    let dev = project.dev(&[]);
    assert!(dev.errors.starts_with("added /.tenure/ to "), "{}", dev.errors);
    assert_eq!(git(&["status", "--porcelain", "-uall"]), "?? .gitignore\n");
    assert_eq!(fs::read_to_string(project.path(".gitignore")).unwrap(), "target\n/.tenure/\n");
    dev.stop();
    let dev = project.dev(&[]);
    assert_eq!(dev.errors, "", "once is enough");
    assert_eq!(fs::read_to_string(project.path(".gitignore")).unwrap(), "target\n/.tenure/\n");
    dev.stop();
    // Whatever becomes of the line, the folder ignores itself.
    fs::remove_file(project.path(".gitignore")).unwrap();
    assert_eq!(git(&["status", "--porcelain", "-uall"]), "");
    git(&["add", "--all"]);
    assert_eq!(git(&["ls-files"]), "");
}
