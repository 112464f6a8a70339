//! The keyring of the desktop (the Secret Service of freedesktop.org), through
//! `secret-tool` of libsecret.
//!
//! A client of D-Bus in this binary would be 1.8 MB of it (zbus, measured), or a C library;
//! who has a keyring has libsecret, or is told its name. The credential goes to the program
//! on its standard input and comes back on its standard output: it is no argument and in no
//! variable.
//!
//! A keyring that is locked asks its user on the desktop. Where there is none nobody would
//! answer, so that nothing here waits for long.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::config::ProfileName;
use crate::domain::WebAddress;

const PROGRAM: &str = "secret-tool";
/// For who has to type the keyring's passphrase into a window.
const FOR_A_PERSON: Duration = Duration::from_secs(60);
const FOR_A_PROGRAM: Duration = Duration::from_secs(3);
/// Between two looks whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const MOST_BYTES: u64 = 64 * 1024;

/// What a credential is found by: it is given for the address alone that it was stored for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'e> {
    pub(super) profile: &'e ProfileName,
    pub(super) address: &'e WebAddress,
}

impl Entry<'_> {
    fn words(&self) -> [&str; 6] {
        [
            "application",
            "tenure",
            "profile",
            self.profile.as_str(),
            "address",
            self.address.as_str(),
        ]
    }
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Patience {
    /// As long as a person may take, where one can be asked.
    ForAPerson,
    /// For what must not keep anybody waiting.
    Little(Duration),
}

impl Patience {
    fn lasts(self) -> Duration {
        let desktop = ["WAYLAND_DISPLAY", "DISPLAY"].map(std::env::var_os);
        match self {
            Self::Little(time) => time,
            Self::ForAPerson if desktop.iter().any(Option::is_some) => FOR_A_PERSON,
            Self::ForAPerson => FOR_A_PROGRAM,
        }
    }
}

/// Stores it, in place of an older one, and sees that it can be had again. An error is a
/// clause that says why not.
pub(super) fn store(entry: Entry<'_>, credential: &str) -> Result<(), String> {
    let label = format!("--label=Tenure: {} ({})", entry.profile, entry.address);
    let words = [&["store", label.as_str()][..], &entry.words()].concat();
    run(&words, Some(credential), Patience::ForAPerson)?;
    match look_up(entry, Patience::ForAPerson)? {
        Some(kept) if kept.as_str() == credential => Ok(()),
        _ => Err("it does not give back what it is given".to_owned()),
    }
}

pub(super) fn look_up(
    entry: Entry<'_>,
    patience: Patience,
) -> Result<Option<Zeroizing<String>>, String> {
    let printed = run(&[&["lookup"][..], &entry.words()].concat(), None, patience)?;
    Ok(Some(printed).filter(|printed| !printed.is_empty()))
}

/// That there is none afterwards.
pub(super) fn remove(entry: Entry<'_>) -> Result<(), String> {
    run(&[&["clear"][..], &entry.words()].concat(), None, Patience::ForAPerson).map(drop)
}

/// What it printed.
fn run(
    words: &[&str],
    input: Option<&str>,
    patience: Patience,
) -> Result<Zeroizing<String>, String> {
    if !has_bus() {
        return Err("there is no session bus".to_owned());
    }
    let mut running = Running::start(words, input)?;
    let ended = running.wait(Instant::now() + patience.lasts());
    if ended.is_err() {
        running.kill();
    }
    ended
}

/// Without one the library looks for a display to start one, and complains at length.
fn has_bus() -> bool {
    let said = std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some_and(|said| !said.is_empty());
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    said || runtime.is_some_and(|folder| folder.join("bus").exists())
}

struct Running {
    child: Child,
    printed: Receiver<Zeroizing<String>>,
    complaint: Receiver<Zeroizing<String>>,
}

impl Running {
    fn start(words: &[&str], input: Option<&str>) -> Result<Self, String> {
        let mut command = Command::new(PROGRAM);
        command.args(words).env_remove("TENURE_TOKEN").env_remove("TENURE_API_KEY");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("{PROGRAM} is not installed; on Debian it is in libsecret-tools")
            }
            _ => format!("{PROGRAM} cannot be run: {error}"),
        })?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended early says why itself.
            let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
        }
        let printed = all_of(child.stdout.take());
        let complaint = all_of(child.stderr.take());
        Ok(Self { child, printed, complaint })
    }

    fn wait(&mut self, deadline: Instant) -> Result<Zeroizing<String>, String> {
        let late = || "it is locked, or does not answer".to_owned();
        let left = || deadline.saturating_duration_since(Instant::now());
        let printed = self.printed.recv_timeout(left()).map_err(|_| late())?;
        let complaint = self.complaint.recv_timeout(left()).map_err(|_| late())?;
        let status = loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() >= deadline => return Err(late()),
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        let complaint = complaint.trim();
        // To find nothing is no failure, though the program's exit code is 1.
        if status.success() || complaint.is_empty() {
            return Ok(printed);
        }
        let said = complaint.lines().last().unwrap_or_default();
        Err(said.trim_start_matches("secret-tool: ").to_owned())
    }

    fn kill(&mut self) {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On a thread of its own, so that whoever waits for it may give up.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<Zeroizing<String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::with_capacity(MOST_BYTES as usize));
        let read = pipe.map(|pipe| pipe.take(MOST_BYTES).read_to_string(&mut text));
        if matches!(read, Some(Ok(_))) {
            // Nobody waits any longer where this fails.
            let _ = sender.send(text);
        }
    });
    receiver
}
