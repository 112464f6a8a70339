//! `tenure serve` as a process, on a store that `tenure init` made.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::http::{Answer, Client, Request};
use super::program::{Output, tenure};

/// For hangs, not for speed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see.
///
/// # Panics
/// If there is nothing for a minute.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < TIMEOUT, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a process of ours to end.
pub fn ended(child: &mut Child) -> ExitStatus {
    eventually("the process to end", || child.try_wait().expect("the child is ours"))
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill exists").success());
}

/// `tenure init` in `folder/data`; its KEK is beside, in `folder/data.kek`.
pub fn init(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    let output = Output::of(tenure().args(["init", "--data"]).arg(&data));
    assert_eq!(output.code, Some(0), "{output:?}");
    data
}

/// Where `tenure` keeps the databases of a data folder.
pub fn store_in(data: &Path) -> PathBuf {
    data.join("store-2")
}

/// A maintenance command on a store, whether or not a server runs on it.
pub fn maintain(data: &Path, args: &[&str]) -> Output {
    Output::of(tenure().args(args).arg("--data").arg(data))
}

/// A running `tenure serve`.
pub struct Serve {
    child: Child,
    pub data: PathBuf,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Serve {
    /// Serves on a free port, and waits until it does.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, |command| {
            command.arg("--data").arg(data);
        })
    }

    /// `adapt` says which store: by flag, variable or file.
    pub fn start_with(data: &Path, adapt: impl FnOnce(&mut Command)) -> Self {
        let log = data.with_extension("log");
        let log_file = File::create(&log).expect("a log");
        let mut command = tenure();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        adapt(&mut command);
        command.stdout(log_file.try_clone().expect("a log")).stderr(log_file);
        let mut child = command.spawn().expect("the program starts");
        let address = eventually("tenure serve to be ready", || {
            let written = read(&log);
            if let Some(status) = child.try_wait().expect("the child is ours") {
                panic!("tenure serve ended with {status}: {written}");
            }
            // In whichever form it logs.
            let serving = |line: &&str| line.contains("serving ") && line.contains("://");
            let (_, address) = written.lines().find(serving)?.rsplit_once("://")?;
            let of_none = |c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c);
            address.split(of_none).next()?.parse().ok()
        });
        Self { child, data: data.to_owned(), address, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn run(&self, args: &[&str]) -> Output {
        maintain(&self.data, args)
    }

    pub fn send(&self, request: &Request) -> Answer {
        Client::new(self.address).send(request)
    }

    pub fn log(&self) -> String {
        read(&self.log)
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Sends `signal` and answers the exit code and all that was logged.
    pub fn stop_by(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        (ended(&mut self.child).code(), self.log())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
