//! The program on a terminal of its own: a pseudo-terminal, what is typed on it and what
//! it shows.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::serve::ended;

/// A program on a terminal, through `script`.
pub struct Terminal {
    child: Child,
    stdin: ChildStdin,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// `tenure` with these words, on a terminal of 80 columns without colour; `adapt` may
    /// change the environment and the folder.
    pub fn open(args: &[&str], adapt: impl FnOnce(&mut Command)) -> Self {
        let words: Vec<_> = args.iter().map(|word| quoted(word)).collect();
        Self::shell(&format!("exec {} {}", env!("CARGO_BIN_EXE_tenure"), words.join(" ")), adapt)
    }

    /// A line of a shell.
    pub fn shell(line: &str, adapt: impl FnOnce(&mut Command)) -> Self {
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("stty rows 24 cols 80; {line}"), "/dev/null"]);
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("TENURE_")) {
            script.env_remove(name);
        }
        // Whatever terminal the tests themselves run on, if any.
        script.env("TERM", "xterm").env("NO_COLOR", "1").env("SHELL", "/bin/sh");
        script.env_remove("RUST_LOG");
        adapt(&mut script);
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().expect("script is there");
        let stdin = child.stdin.take().expect("a pipe");
        let mut stdout = child.stdout.take().expect("a pipe");
        let shown = Arc::new(Mutex::new(String::new()));
        let screen = shown.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]);
                screen.lock().expect("a screen").push_str(&text);
            }
        });
        Self { child, stdin, shown, reader }
    }

    pub fn shown(&self) -> String {
        self.shown.lock().expect("a screen").clone()
    }

    /// Waits until it shows `text`.
    pub fn expect(&self, text: &str) {
        let begun = Instant::now();
        while !self.shown().contains(text) {
            let waited = begun.elapsed() < Duration::from_secs(60);
            assert!(waited, "no {text:?} on the terminal: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn type_in(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).and_then(|()| self.stdin.flush()).expect("a pty");
    }

    /// The exit code, and all that was shown. One that a signal ended has 128 and more.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let told = ToldOnPanic(&self.shown);
        let status = ended(&mut self.child);
        drop(told);
        self.reader.join().expect("it reads");
        let shown = self.shown.lock().expect("a screen").clone();
        (status.code(), shown)
    }
}

/// What a terminal shows whose program did not end.
struct ToldOnPanic<'t>(&'t Mutex<String>);

impl Drop for ToldOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the terminal showed {:?}", self.0.lock().expect("a screen"));
        }
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
