//! The command that is given the secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::variables::Variable;
use crate::cli::failure::{CliError, Exit};
use crate::cli::helper::OURSELVES;
use crate::domain::SecretValue;

/// What the commands of this program prove themselves with.
const CREDENTIALS: [&str; 2] = ["TENURE_TOKEN", "TENURE_API_KEY"];

/// Of a variable that is set already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Replaced,
    Kept,
}

/// Of the credential that the secrets were read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnCredential {
    TakenOut,
    LeftIn,
}

pub(super) type Variables<'s> = BTreeMap<Variable, &'s SecretValue>;

#[derive(Debug)]
pub(super) struct Program {
    pub(super) words: Vec<OsString>,
    pub(super) existing: Existing,
    pub(super) credential: OwnCredential,
}

impl Program {
    /// Becomes it: its signals and its exit code are its own. Returns only if that fails.
    pub(super) fn exec(&self, variables: &Variables<'_>) -> CliError {
        let Some((program, args)) = self.words.split_first() else {
            return CliError::usage("no command is named");
        };
        let mut command = Command::new(program);
        command.args(args);
        let error = self.given(&mut command, variables).exec();
        not_started(program, &error)
    }

    /// Starts it so that it does not outlive this process (see `supervised`).
    pub(super) fn spawn(&self, variables: &Variables<'_>) -> Result<Child, CliError> {
        let mut command = Command::new(OURSELVES);
        let parent = std::process::id().to_string();
        command.arg0("tenure").args(["supervised", &parent, "--"]).args(&self.words);
        let program = self.words.first().cloned().unwrap_or_default();
        self.given(&mut command, variables).spawn().map_err(|error| not_started(&program, &error))
    }

    fn given<'c>(&self, command: &'c mut Command, variables: &Variables<'_>) -> &'c mut Command {
        if self.credential == OwnCredential::TakenOut {
            CREDENTIALS.iter().for_each(|name| {
                command.env_remove(name);
            });
        }
        for (variable, value) in variables {
            let is_set = || std::env::var_os(variable.as_str()).is_some();
            if self.existing == Existing::Replaced || !is_set() {
                command.env(variable.as_str(), value.expose());
            }
        }
        command
    }
}

/// With the exit codes of shells.
pub(super) fn not_started(program: &OsString, error: &io::Error) -> CliError {
    let program = program.to_string_lossy();
    let (exit, message) = match error.kind() {
        io::ErrorKind::NotFound => {
            (Exit::NoProgram, format!("there is no program '{program}' to run"))
        }
        io::ErrorKind::ArgumentListTooLong => (
            Exit::NotRunnable,
            "the values are too large for an environment: the kernel takes 128 KiB in one \
             variable and about 2 MiB in all; name fewer with --env, or write a file with 'tenure \
             render'"
                .to_owned(),
        ),
        _ => (Exit::NotRunnable, format!("'{program}' cannot be run: {error}")),
    };
    CliError { exit, message }
}
