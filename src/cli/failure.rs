//! How a command fails: a sentence for people, a code for scripts.

use std::io::{IsTerminal, Write};

use crate::api::admin::{Failure, FailureKind};
use crate::config::ConfigError;

/// Exit codes. 0 is success; clap itself ends with 2 on wrong usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Internal = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Unavailable = 5,
    ClockDisputed = 6,
    Damaged = 7,
    /// The credential is not good, or not good for that.
    Denied = 8,
    /// A change whose answer was lost: it may have been made.
    Unknown = 9,
    /// Of `tenure run`, as shells have it: the command is there and cannot be run.
    NotRunnable = 126,
    /// There is no such command.
    NoProgram = 127,
    /// Broken off by Ctrl-C or a signal, and what was begun put right. What has nothing to
    /// put right ends by the signal itself, and a shell calls that the same.
    Interrupted = 130,
}

#[derive(Debug)]
pub(super) struct CliError {
    pub(super) exit: Exit,
    /// Says what to do, and never holds a secret. Empty where the code says all.
    pub(super) message: String,
}

impl CliError {
    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    pub(super) fn unavailable(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Unavailable, message: message.to_string() }
    }
}

impl From<Failure> for CliError {
    fn from(Failure { kind, message }: Failure) -> Self {
        let exit = match kind {
            FailureKind::Usage => Exit::Usage,
            FailureKind::NotFound => Exit::NotFound,
            FailureKind::Conflict => Exit::Conflict,
            FailureKind::Unavailable => Exit::Unavailable,
            FailureKind::ClockDisputed => Exit::ClockDisputed,
            FailureKind::Damaged => Exit::Damaged,
            FailureKind::Internal => Exit::Internal,
        };
        Self { exit, message }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Whether it is a terminal that wants colour.
pub(super) fn wants_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One line on standard error; red where that is a terminal that wants colour.
pub(super) fn report(error: &CliError) {
    if error.message.is_empty() {
        return;
    }
    let mut stderr = std::io::stderr().lock();
    let (on, off) = if wants_colour(&stderr) { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    // Where even this cannot be written, the exit code must do.
    let _ = writeln!(stderr, "{on}error:{off} {}", error.message);
}
