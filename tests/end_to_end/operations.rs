//! docs/operations.md, followed step by step: every command in it is run as it
//! stands there, on two machines that are two folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::guide::steps;
use crate::support::{Answer, Client, Request, Serve, tenure};

const GUIDE: &str = include_str!("../../docs/operations.md");

/// A machine: its file system is a folder.
struct Machine {
    root: tempfile::TempDir,
    steps: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["etc", "var/lib", "srv"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        Self { root, steps: steps(GUIDE) }
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.root.path().join(absolute.trim_start_matches('/'))
    }

    /// As it would be written on this machine.
    fn here(&self, text: &str) -> String {
        let root = self.root.path().display();
        ["/etc/tenure", "/var/lib/tenure", "/srv/"]
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &format!("{root}{path}")))
    }

    /// What somebody who types it would have around: the default places are this
    /// machine's.
    fn equip(&self, command: &mut Command) {
        command
            .env("TENURE_CONFIG", self.path("/etc/tenure/tenure.toml"))
            .env("TENURE_KEK_FILE", self.path("/etc/tenure/kek"));
    }

    /// Runs a step of the guide, and answers what it printed.
    fn follow(&mut self, step: &str) -> String {
        let commands = self.steps.remove(step).unwrap_or_else(|| panic!("the guide has {step}"));
        let program = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().expect("a folder");
        let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a PATH"));
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &self.here(&commands)]).env("PATH", path);
        self.equip(&mut shell);
        let output = shell.output().expect("bash exists");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{step}:\n{commands}\n{printed}{said}");
        printed
    }

    fn serve(&self) -> Serve {
        Serve::start_with(&self.path("/var/lib/tenure"), |command| self.equip(command))
    }

    fn tenure(&self, args: &[&str]) -> String {
        let mut command = tenure();
        self.equip(&mut command);
        let output = command.args(args).output().expect("the program starts");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// As scp would; the configuration names this machine's places then.
    fn carry(&self, to: &Self) {
        fs::copy(self.path("/srv/tenure.backup"), to.path("/srv/tenure.backup")).expect("a backup");
        fs::copy(self.path("/etc/tenure/kek"), to.path("/srv/kek")).expect("a KEK");
        let config = fs::read_to_string(self.path("/etc/tenure/tenure.toml")).expect("a file");
        let (from, root) = (self.root.path().display(), to.root.path().display());
        let config = config.replace(&from.to_string(), &root.to_string());
        fs::write(to.path("/srv/tenure.toml"), config).expect("a file");
    }
}

fn get(serve: &Serve, tenant: &str, name: &str, token: &str) -> Answer {
    let path = format!("/api/{tenant}/secrets/{name}");
    Client::new(serve.address).send(&Request::get(path).bearer(token))
}

#[test]
fn a_stranger_moves_the_store_to_another_machine_with_the_guide_alone() {
    let (mut old, mut new) = (Machine::new(), Machine::new());
    old.follow("setup");
    let serve = old.serve();
    old.tenure(&["tenant", "create", "acme"]);
    let token = old.tenure(&["token", "mint", "--tenant", "acme", "--scope", "*", "--ttl", "30d"]);
    let long = "0123456789abcdef".repeat(1_000);
    for (name, value) in [("password", "hunter2"), ("certificate", &long)] {
        let body = serde_json::json!({ "value": value }).to_string();
        let put = Request::put(format!("/api/acme/secrets/{name}"), body).bearer(&token);
        assert_eq!(serve.send(&put).status, 204);
    }
    for step in ["backup", "check", "space", "prove", "rotate"] {
        old.follow(step);
    }
    fs::remove_file(old.path("/srv/tenure.backup")).expect("it was made");
    old.follow("old");
    assert_eq!(serve.stop_by("TERM").0, Some(0));

    old.carry(&new);
    let printed = new.follow("new");
    assert!(printed.contains("acme"), "{printed}");
    let serve = new.serve();
    assert_eq!(get(&serve, "acme", "password", &token).json(), "hunter2");
    assert_eq!(get(&serve, "acme", "certificate", &token).json(), *long);

    // One tenant beside the others, into the server that runs.
    new.follow("one");
    assert_eq!(get(&serve, "acme-restored", "password", &token).status, 403);
    let mint = ["token", "mint", "--tenant", "acme-restored", "--scope", "*"];
    let restored = new.tenure(&mint);
    assert_eq!(get(&serve, "acme-restored", "password", &restored).json(), "hunter2");

    let followed = ["setup", "backup", "check", "space", "prove", "rotate", "old", "new", "one"];
    for step in steps(GUIDE).keys() {
        assert!(followed.contains(&step.as_str()), "{step} was followed by nobody");
    }
}
