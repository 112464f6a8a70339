//! A machine to install on: this one's disk under a layer that is gone afterwards, a systemd
//! of its own as process 1, and a network without anybody else.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::CapabilitySet;
use tempfile::TempDir;

use super::program::Output;
use super::serve::eventually;

pub struct Machine {
    /// The end of its standard input is the end of all that runs there.
    boot: Child,
    /// Process 1, as it is called here.
    init: u32,
    /// Where its disk is mounted, which only it sees.
    _folder: TempDir,
}

const SYSTEMD: &str = "/lib/systemd/systemd";

impl Machine {
    /// `None` where this user may mount nothing.
    pub fn boot() -> Option<Self> {
        if !permitted("installing") {
            return None;
        }
        assert!(Path::new(SYSTEMD).exists(), "there is no {SYSTEMD}; run ./tests/run");
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/machine/boot");
        let mut boot = Command::new(script);
        boot.arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut boot = boot.spawn().expect("bash exists");
        let mut line = String::new();
        let said = boot.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut line).expect("it is read");
        let init = line.trim().parse().expect("the machine boots");
        let machine = Self { boot, init, _folder: folder };
        eventually("the machine to be up", || {
            let output = machine.output("systemctl is-active --quiet basic.target");
            (output.code == Some(0)).then_some(())
        });
        Some(machine)
    }

    /// Runs these commands there, as root; answers what they printed on
    /// standard output.
    ///
    /// # Panics
    /// If one of them fails.
    #[track_caller]
    pub fn run(&self, commands: &str) -> String {
        let output = self.output(commands);
        if output.code != Some(0) {
            let log = self.output("journalctl --no-pager --lines=40 --unit=tenure").stdout;
            panic!("{commands}\n{}{}\n{log}", output.stdout, output.stderr);
        }
        output.stdout
    }

    /// Waits until the service answers there, where the packages have it.
    pub fn until_ready(&self) {
        eventually("the service to be ready", || {
            let ready = self.output("curl --fail --silent http://127.0.0.1:7300/readyz");
            (ready.code == Some(0)).then_some(())
        });
    }

    pub fn output(&self, commands: &str) -> Output {
        Output::of(&mut self.command(commands))
    }

    pub fn command(&self, commands: &str) -> Command {
        let mut shell = Command::new("nsenter");
        shell.args(["--target", &self.init.to_string()]);
        shell.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd"]);
        // Nothing of this process's environment.
        shell.args(["env", "-i", "HOME=/root", "PATH=/usr/local/bin:/usr/sbin:/usr/bin"]);
        shell.args(["bash", "-euo", "pipefail", "-c", commands]).stdin(Stdio::null());
        shell
    }

    /// Copies a file or a folder to a place on the machine.
    pub fn bring(&self, from: &Path, to: &str) {
        let to = self.path(to);
        fs::create_dir_all(to.parent().expect("a place in a folder")).expect("a folder");
        let status = Command::new("cp").arg("-rT").args([from, &to]).status();
        assert!(status.expect("cp exists").success(), "{}", from.display());
    }

    /// Of a file there, as it is called here.
    pub fn path(&self, absolute: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(absolute.trim_start_matches('/'))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        let _ = self.boot.wait();
    }
}

/// Whether a root folder can be mounted and entered. A container may forbid it; then these
/// tests say so, and under CI and in `tests/run` they fail.
pub fn permitted(what: &str) -> bool {
    let may = rustix::thread::capabilities(None).expect("a process has capabilities").effective;
    if may.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT) {
        return true;
    }
    let required = ["CI", "TENURE_TEST_REQUIRE_MACHINE"];
    if let Some(name) = required.into_iter().find(|name| std::env::var_os(name).is_some()) {
        panic!(
            "{what} needs CAP_SYS_ADMIN and CAP_SYS_CHROOT, and {name} asks for it; run as root"
        );
    }
    eprintln!("\n*** SKIPPED: {what} was NOT tested: it needs CAP_SYS_ADMIN and CAP_SYS_CHROOT.\n");
    false
}
