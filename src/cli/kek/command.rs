//! `kek.source = "command"`: what a program prints, such as age, the client of a key
//! management service or systemd-creds.
//!
//! There is no shell, and no standard input. What the program prints is in no error, and
//! what it complains of goes to a terminal or nowhere: it may hold the key.

use std::io::{ErrorKind, IsTerminal, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::super::terminal;
use super::{CliError, LOST, Material, NewKek, Plain};
use crate::config::TimeSpan;
use crate::crypto::{Kek, KekWay};

/// 64 digits, and white space.
const MOST_BYTES: usize = 1024;
/// Between two looks whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) struct Source {
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    pub(super) timeout: TimeSpan,
}

impl Source {
    /// Arguments are shown nowhere: one may be a secret.
    fn name(&self) -> String {
        let program = self.words.first().map_or("", String::as_str);
        // Somebody will write the key itself where the program belongs.
        let shown = if Kek::parse(program).is_ok() { "…" } else { program };
        format!("'{shown}' (kek.command)")
    }

    fn read(&self) -> Result<Kek, CliError> {
        let mut running = self.start()?;
        let printed = self.wait(&mut running);
        if printed.is_err() {
            running.kill();
        }
        let printed = printed?;
        let not_a_kek = |problem: &str| {
            CliError::usage(format!("what {} prints is no KEK: {problem}", self.name()))
        };
        if printed.len() > MOST_BYTES {
            return Err(not_a_kek("it is longer than 1 KiB"));
        }
        let text = std::str::from_utf8(&printed).unwrap_or_default();
        Kek::parse(text).map_err(|error| not_a_kek(&error.to_string()))
    }

    fn start(&self) -> Result<Running, CliError> {
        let (program, arguments) = self.words.split_first().ok_or_else(|| {
            CliError::usage("kek.source is \"command\" and kek.command is not set")
        })?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // Where there is no terminal, standard error is a log.
        let stderr = if std::io::stderr().is_terminal() { Stdio::inherit() } else { Stdio::null() };
        command.stderr(stderr);
        // A program that asks somebody must stay in the terminal's foreground, which is
        // our process group; any other is ended with all that it started.
        let group = if terminal::of_this_process().is_ok() { Group::Ours } else { Group::ItsOwn };
        if group == Group::ItsOwn {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| self.unstarted(&error))?;
        let (sender, printed) = channel();
        let stdout = child.stdout.take();
        std::thread::spawn(move || {
            // Nobody waits any longer where this fails.
            let _ = sender.send(stdout.map_or(Ok(Zeroizing::new(Vec::new())), all_of));
        });
        Ok(Running { child, group, printed })
    }

    fn unstarted(&self, error: &std::io::Error) -> CliError {
        let name = self.name();
        CliError::usage(match error.kind() {
            ErrorKind::NotFound => format!(
                "there is no program {name}: install it, or write its whole path; there is no \
                 shell, so each word is an item of the list"
            ),
            _ => format!("{name} cannot be run: {error}"),
        })
    }

    fn wait(&self, running: &mut Running) -> Result<Zeroizing<Vec<u8>>, CliError> {
        let deadline = Instant::now() + self.timeout.as_duration();
        let name = self.name();
        let late = || {
            CliError::unavailable(format!(
                "{name} did not end within {} (kek.command_timeout) and was killed; run it by \
                 hand to see what it waits for, without standard input",
                self.timeout
            ))
        };
        let failed = |error| CliError::unavailable(format!("{name} was lost sight of: {error}"));
        // What it prints first: a program whose output nobody reads does not end.
        let printed = running.printed.recv_timeout(self.timeout.as_duration());
        let printed = printed.map_err(|_| late())?.map_err(failed)?;
        let status = loop {
            match running.child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() >= deadline => return Err(late()),
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        // One that printed too much was cut off, which is not its own failure.
        if status.success() || printed.len() > MOST_BYTES {
            return Ok(printed);
        }
        Err(CliError::unavailable(format!(
            "{name} ended with {}; run it by hand, as this user, to see why",
            ending(status)
        )))
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "neither an exit code nor a signal".to_owned(),
    }
}

/// To its end, or to one byte more than is allowed.
fn all_of(stdout: ChildStdout) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Reserved at once: a buffer that grows leaves its old bytes behind.
    let mut printed = Zeroizing::new(Vec::with_capacity(2 * MOST_BYTES));
    stdout.take(MOST_BYTES as u64 + 1).read_to_end(&mut printed)?;
    Ok(printed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Ours,
    ItsOwn,
}

struct Running {
    child: Child,
    group: Group,
    printed: Receiver<std::io::Result<Zeroizing<Vec<u8>>>>,
}

impl Running {
    /// What cannot be killed any more has ended.
    fn kill(&mut self) {
        if self.group == Group::ItsOwn {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        Ok(Box::new(Plain { kek: self.read()?, way: KekWay::Command }))
    }

    fn create(&self) -> Result<NewKek, CliError> {
        Ok(NewKek { kek: self.read()?, way: KekWay::Command, created: None })
    }

    fn protection(&self) -> String {
        format!(
            "The KEK is what {} prints. Whoever can run that with what it needs has it; and where \
             it, what it reads or the service that it asks is gone, so is the KEK. {LOST}",
            self.name()
        )
    }
}
