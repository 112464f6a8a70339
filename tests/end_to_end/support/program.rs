//! The program as a process.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::http::{Answer, Client, Request};

/// For hangs, not for speed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A command with nothing of this process's environment that could configure it.
pub fn tenure() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("TENURE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What a finished command printed.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.output().expect("the program starts"))
    }

    /// Of one that is given this on standard input.
    pub fn with_input(command: &mut Command, input: &str) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that refuses early does not read it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Self::from(child.wait_with_output().expect("the child is ours"))
    }

    /// That it failed with this code, and said so in one line with these words, and
    /// nothing on standard output.
    #[track_caller]
    pub fn assert_fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let said = self.stderr.lines().last().expect("a message");
        assert!(said.starts_with("error: "), "{self:?}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said:?}");
        }
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }
}

/// A `tenure dev` on a free port that may not serve yet.
pub struct Starting {
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Starting {
    pub fn spawn(data: &Path, adapt: impl FnOnce(&mut Command)) -> Self {
        // Yesterday's would tell yesterday's port.
        let _ = fs::remove_file(data.join(ENV_FILE));
        let log = data.with_extension("log");
        let open = || File::options().create(true).append(true).open(&log).expect("a log");
        let mut command = tenure();
        command.args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.env("RUST_LOG", "trace").stdout(open()).stderr(open());
        adapt(&mut command);
        let child = command.spawn().expect("the program starts");
        Self { child, data: data.to_owned(), log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves; an error holds the log of one that ended instead.
    ///
    /// # Panics
    /// If it does neither.
    pub fn ready(mut self) -> Result<Dev, String> {
        let env_file = self.data.join(ENV_FILE);
        let begun = Instant::now();
        while !env_file.exists() {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Err(format!("tenure dev ended with {status}: {}", read(&self.log)));
            }
            assert!(begun.elapsed() < TIMEOUT, "tenure dev hangs: {}", read(&self.log));
            std::thread::sleep(Duration::from_millis(2));
        }
        let variables = read(&env_file);
        let variable = |name: &str| {
            let prefix = format!("export {name}=");
            let line = variables.lines().find_map(|line| line.strip_prefix(&prefix));
            line.unwrap_or_else(|| panic!("dev.env names {name}")).to_owned()
        };
        let address = variable("TENURE_ADDR");
        let address = address.strip_prefix("http://").expect("a URL").parse().expect("an address");
        let token = variable("TENURE_TOKEN");
        let Self { child, data, log } = self;
        Ok(Dev { child, data, address, token, log })
    }

    /// Waits for the end of one that was killed.
    pub fn ended(mut self) {
        self.child.wait().expect("the child is ours");
    }
}

const ENV_FILE: &str = "dev.env";

/// A running `tenure dev` (or `serve`) and what a client needs.
pub struct Dev {
    child: Child,
    pub data: PathBuf,
    pub address: SocketAddr,
    pub token: String,
    /// Everything it wrote to standard output and error, at the finest level.
    log: PathBuf,
}

impl Dev {
    /// Starts `tenure dev` on a free port and waits until it serves.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, |_| {})
    }

    pub fn start_with(data: &Path, adapt: impl FnOnce(&mut Command)) -> Self {
        Starting::spawn(data, adapt).ready().unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// One request with the token of `dev`.
    pub fn send(&self, request: Request) -> Answer {
        self.client().send(&request.bearer(&self.token))
    }

    pub fn put(&self, name: &str, value: &str) -> Answer {
        let body = serde_json::json!({ "value": value }).to_string();
        self.send(Request::put(secret(name), body))
    }

    pub fn get(&self, name: &str) -> Answer {
        self.send(Request::get(secret(name)))
    }

    /// A maintenance command on this store.
    pub fn run(&self, args: &[&str]) -> Output {
        Output::of(tenure().args(args).arg("--data").arg(&self.data))
    }

    pub fn mint(&self, tenant: &str, scopes: &[&str]) -> String {
        let mut args = vec!["token", "mint", "--tenant", tenant];
        scopes.iter().for_each(|scope| args.extend(["--scope", scope]));
        let output = self.run(&args);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.trim().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.pid())));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).expect("a process has a resident size")
    }

    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill exists").success());
    }

    /// kill -9, as a power cut is to a process.
    pub fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    pub fn is_alive(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }

    /// A command again and again, until the server is gone; answers how often it came to
    /// its end.
    pub fn run_until_gone(&self, args: &[&str]) -> u64 {
        let mut whole = 0;
        loop {
            let output = self.run(args);
            match output.code {
                // By the server; or after its death by the command itself.
                Some(0) => whole += 1,
                Some(5) => return whole,
                _ => panic!("{output:?}"),
            }
            if !self.is_alive() {
                return whole;
            }
        }
    }

    /// Waits for the end of one that was killed.
    pub fn ended(mut self) {
        self.child.wait().expect("the child is ours");
    }

    /// SIGTERM, and the exit code.
    pub fn stop(self) -> Option<i32> {
        self.signal("TERM");
        self.stop_answered()
    }

    /// The exit code, after a signal to stop.
    pub fn stop_answered(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code();
            }
            assert!(begun.elapsed() < TIMEOUT, "the server does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What a server said last.
pub fn end_of(log: &str) -> String {
    let skipped = log.lines().count().saturating_sub(40);
    log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} said last:\n{}", self.data.display(), end_of(&self.log()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a secret of tenant `dev` is.
pub fn secret(name: &str) -> String {
    format!("/api/dev/secrets/{name}")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
