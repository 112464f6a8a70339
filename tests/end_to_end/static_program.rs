//! The static program, in a root folder that holds nothing beside it but its configuration
//! and a data folder. `./tests/run --long` builds it.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::machine::permitted;
use crate::support::{Output, ended, eventually, signal};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/static/tenure");

/// And the server's log beside it, for every file in the root is looked at.
struct Root(TempDir);

impl Root {
    /// `None` in a usual run: to build the program takes longer than all tests.
    fn make() -> Option<Self> {
        if std::env::var_os("TENURE_TEST_LONG").is_none() || !permitted("an empty root folder") {
            return None;
        }
        assert!(Path::new(PROGRAM).exists(), "there is no {PROGRAM}; run packaging/static");
        let folder = tempfile::tempdir().expect("a folder");
        let root = Self(folder);
        fs::create_dir(root.root()).expect("a folder");
        fs::copy(PROGRAM, root.path("tenure")).expect("the program");
        DirBuilder::new().mode(0o700).create(root.path("data")).expect("a folder");
        let config = "data = '/data'\nlisten = '127.0.0.1:0'\nkek.file = '/kek'\n";
        fs::write(root.path("tenure.toml"), config).expect("a file");
        Some(root)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Of the server that was started last.
    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).expect("a log")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root()).arg("/tenure").args(args).stdin(Stdio::null());
        let path = std::env::var_os("PATH").expect("a PATH");
        command.env_clear().env("PATH", path).env("TENURE_CONFIG", "/tenure.toml");
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = Output::of(&mut self.command(args));
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.trim().to_owned()
    }

    /// Starts a server; answers where it is.
    fn serve(&self) -> (Child, String) {
        let file = File::create(self.0.path().join("log")).expect("a log");
        let mut child = self.command(&["serve"]).stderr(file).spawn().expect("chroot exists");
        let address = eventually("the server to be ready", || {
            let written = self.log();
            assert!(child.try_wait().expect("the child is ours").is_none(), "{written}");
            let line = written.lines().find(|line| line.contains(" serving "))?;
            line.split_once(" on ").map(|(_, address)| address.to_owned())
        });
        (child, address)
    }

    /// The same of a new store, with a tenant and a token for it.
    fn serve_a_tenant(&self) -> (Child, String, String) {
        self.run(&["init"]);
        let (server, address) = self.serve();
        self.run(&["tenant", "create", "acme"]);
        let token = self.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
        (server, address, token)
    }

    /// A daily command on that server.
    fn asks(&self, address: &str, token: &str, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.env("TENURE_ADDR", address).env("TENURE_TENANT", "acme");
        Output::of(command.env("TENURE_TOKEN", token))
    }
}

/// The store opens only where `sync_file_range` was proved to be the program's own.
#[test]
fn the_static_program_serves_from_an_otherwise_empty_root_folder() {
    let Some(root) = Root::make() else { return };
    let (mut server, address, token) = root.serve_a_tenant();
    assert_eq!(root.asks(&address, &token, &["put", "greeting", "hello"]).code, Some(0));
    signal(server.id(), "TERM");
    assert_eq!(ended(&mut server).code(), Some(0));

    let (mut server, address) = root.serve();
    assert_eq!(root.asks(&address, &token, &["get", "greeting"]).stdout, "hello");
    signal(server.id(), "TERM");
    assert_eq!(ended(&mut server).code(), Some(0));
    root.run(&["verify"]);
    let names = fs::read_dir(root.root()).expect("a folder");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["data", "kek", "tenure", "tenure.toml"], "it needed nothing else");
}

#[test]
fn what_the_static_program_does_without_is_told() {
    let Some(root) = Root::make() else { return };
    let (mut server, address, token) = root.serve_a_tenant();
    let named = address.replace("127.0.0.1", "localhost");
    for (address, args, said) in [
        (&*named, &["get", "greeting"][..], "cannot be reached"),
        ("https://127.0.0.1:1", &["get", "greeting"], "install ca-certificates, or name a CA"),
        (&*address, &["edit", "greeting"], "there is no editor"),
        (&*address, &["copy", "greeting"], "there is no clipboard"),
        (&*address, &["run", "--", "sh"], "there is no program 'sh'"),
    ] {
        let output = root.asks(address, &token, args);
        assert_ne!(output.code, Some(0), "{output:?}");
        assert!(output.stderr.contains(said), "{said}: {output:?}");
    }
    signal(server.id(), "USR2");
    eventually("the upgrade to be refused", || {
        root.log().contains("no upgrade: without /proc").then_some(())
    });
    assert_eq!(root.asks(&address, &token, &["list"]).code, Some(0), "it goes on");
    signal(server.id(), "TERM");
    assert_eq!(ended(&mut server).code(), Some(0));
}
