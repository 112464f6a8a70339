//! Where somebody works: a home, a project's folder in it, and a store of `tenure dev`
//! that runs there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Dev, Output, Request, Terminal, tenure};

pub struct Desk {
    home: tempfile::TempDir,
    dev: Option<Dev>,
}

impl Desk {
    /// With a server that runs, and no secret yet.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let project = home.path().join("project");
        fs::create_dir(&project).expect("a folder");
        let dev = Some(Dev::start(&project.join(".tenure")));
        Self { home, dev }
    }

    /// The server.
    pub fn dev(&self) -> &Dev {
        self.dev.as_ref().expect("it runs")
    }

    /// Stops the server; what it holds is kept.
    pub fn stop(&mut self) {
        assert_eq!(self.dev.take().expect("it runs").stop(), Some(0));
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// In the project's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home().join("project").join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Stores one by the API.
    pub fn store(&self, name: &str, value: &str) {
        self.store_body(name, &serde_json::json!({ "value": value }).to_string());
    }

    pub fn store_body(&self, name: &str, body: &str) {
        let path = format!("/api/dev/secrets/{name}");
        let answer = self.dev().send(Request::put(&path, body));
        assert_eq!(answer.status, 204, "{name}");
    }

    /// The value that the API reads, if any.
    pub fn stored(&self, name: &str) -> Option<serde_json::Value> {
        let path = format!("/api/dev/secrets/{name}");
        let answer = self.dev().send(Request::get(&path));
        (answer.status == 200).then(|| answer.json())
    }

    /// `tenure` in the project's folder, with nothing else said.
    pub fn tenure(&self, args: &[&str]) -> Command {
        let mut command = tenure();
        command.args(args);
        self.place(&mut command);
        command
    }

    /// Puts a command into the project's folder, and its user at home.
    pub fn place(&self, command: &mut Command) {
        command.current_dir(self.path("")).env("HOME", self.home());
        for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        for name in ["DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "EDITOR", "VISUAL"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Output::of(&mut self.tenure(args))
    }

    /// Of one that succeeds: what it printed.
    #[track_caller]
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        output.stdout
    }

    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::open(args, |command| self.place(command))
    }
}
