//! A store whose configuration says where its KEK comes from.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{Output, Request, Serve, Terminal, eventually, tenure};

pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// No store yet; `kek` is what stands under `[kek]`.
    pub fn new(kek: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        place.configure(kek);
        place
    }

    /// With a store, and a secret in it, under the file `kek`.
    pub fn with_store() -> Self {
        let place = Self::new("file = 'kek'");
        done(&place.run(&["init"]));
        let serve = place.serve(|_| {});
        done(&place.run(&["tenant", "create", "acme"]));
        let body = r#"{"value": "hunter2"}"#;
        let put = Request::put(SECRET, body).bearer(&place.token());
        assert_eq!(serve.send(&put).status, 204);
        assert_eq!(serve.stop_by("TERM").0, Some(0));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As it stands in a configuration or a message.
    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn configure(&self, kek: &str) {
        let text = format!("data = 'data'\n[kek]\n{kek}\n");
        fs::write(self.path("tenure.toml"), text).expect("a file");
    }

    /// A file that only its owner can read.
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).expect("a file");
        mode(&path, 0o600);
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn tenure(&self, args: &[&str]) -> Command {
        let mut command = tenure();
        command.args(args).env("TENURE_CONFIG", self.path("tenure.toml"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Output::of(&mut self.tenure(args))
    }

    /// With a file as standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        Output::of(self.tenure(args).stdin(File::open(self.path(input)).expect("a file")))
    }

    /// Where no terminal can be had.
    pub fn run_without_terminal(&self, args: &[&str]) -> Output {
        let mut command = Command::new("setsid");
        command.args(["-w", env!("CARGO_BIN_EXE_tenure")]).args(args).stdin(Stdio::null());
        Output::of(command.env("TENURE_CONFIG", self.path("tenure.toml")))
    }

    /// At a terminal, where this is typed once that was asked.
    pub fn at_terminal(&self, args: &[&str], dialogue: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut terminal = self.terminal(args);
        for (asked, typed) in dialogue {
            terminal.expect(asked);
            terminal.type_in(typed);
        }
        terminal.ended()
    }

    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::open(args, |script| {
            script.env("TENURE_CONFIG", self.path("tenure.toml"));
        })
    }

    pub fn serve(&self, adapt: impl FnOnce(&mut Command)) -> Serve {
        Serve::start_with(&self.path("data"), |command| {
            command.env("TENURE_CONFIG", self.path("tenure.toml")).env("RUST_LOG", "trace");
            adapt(command);
        })
    }

    /// A new one, of the server that runs.
    pub fn token(&self) -> String {
        let minted = self.run(&["token", "mint", "--tenant", "acme", "--scope", "*"]);
        done(&minted).trim().to_owned()
    }

    /// The server that runs reads what was stored when the store was made.
    pub fn assert_reads(&self, serve: &Serve) {
        let answer = serve.send(&Request::get(SECRET).bearer(&self.token()));
        assert_eq!((answer.status, answer.json()), (200, "hunter2".into()));
    }

    /// A server starts, reads, and leaves none of these anywhere.
    pub fn assert_serves(&self, secrets: &[&str], adapt: impl FnOnce(&mut Command)) {
        let watch = Watch::begin(secrets);
        let serve = self.serve(adapt);
        self.assert_reads(&serve);
        let (code, log) = serve.stop_by("TERM");
        assert_eq!(code, Some(0), "{log}");
        assert_silent(&log, secrets);
        watch.end();
    }

    /// The store is not under the KEK in this file, wherever its own comes from.
    pub fn assert_refused(&self, kek_file: &Path) {
        let mut command = self.tenure(&["kek", "check"]);
        command.env("TENURE_KEK_SOURCE", "file").env("TENURE_KEK_FILE", kek_file);
        fails(&Output::of(&mut command), 2, &["not the KEK of this store"]);
    }
}

const SECRET: &str = "/api/acme/secrets/password";

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[track_caller]
pub fn done(output: &Output) -> String {
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stderr, "", "{output:?}");
    output.stdout.clone()
}

#[track_caller]
pub fn fails(output: &Output, code: i32, words: &[&str]) {
    output.assert_fails(code, words);
}

#[track_caller]
pub fn assert_silent(text: &str, secrets: &[&str]) {
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!text.contains(secret), "secret {number} is in {text}");
    }
}

/// 64 digits that are no other's.
pub fn new_key() -> String {
    let made = Output::of(tenure().args(["kek", "generate"]));
    let key = done(&made).trim().to_owned();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    key
}

/// Looks at every process's words as long as it is there.
pub struct Watch {
    over: Arc<AtomicBool>,
    looking: JoinHandle<Vec<String>>,
}

impl Watch {
    pub fn begin(secrets: &[&str]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let secrets: Vec<_> = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        let ends = over.clone();
        let looking = std::thread::spawn(move || {
            let mut found = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                found.extend(words_with(&secrets));
                std::thread::sleep(Duration::from_millis(5));
            }
            found
        });
        Self { over, looking }
    }

    pub fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let found = self.looking.join().expect("it looks");
        assert!(found.is_empty(), "a process shows a secret: {found:?}");
    }
}

fn words_with(secrets: &[String]) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let words = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let words = words.map(|words| String::from_utf8_lossy(&words).replace('\0', " "));
    words.filter(|words| secrets.iter().any(|secret| words.contains(secret))).collect()
}

#[test]
fn a_secret_among_the_words_of_a_process_is_found() {
    let secret = "word-that-nobody-else-says";
    let mut child = Command::new("sh").args(["-c", "sleep 60", secret]).spawn().expect("a shell");
    let found = eventually("the process to be seen", || {
        words_with(&[secret.to_owned()]).into_iter().next()
    });
    child.kill().expect("ours");
    child.wait().expect("ours");
    assert!(found.contains(secret));
}
