//! `tenure completions`: scripts for bash, zsh and fish, and the answers to them.
//!
//! A script asks this program what may follow, so that it knows commands and options of the
//! program that is installed, and names of secrets. A shell that completes is in the middle
//! of somebody's line: nothing is written but candidates, and nobody waits for long.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::{Arg, Args, Command, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::failure::CliError;
use super::{internal, process, secret};

/// Set by a script that asks; holds the name of its shell.
const ASKED_BY: &str = "TENURE_COMPLETE";
/// `off`: no server is asked for names.
const NAMES: &str = "TENURE_COMPLETE_NAMES";
/// With the start of the program it is 300 ms.
const MOST_WAIT: Duration = Duration::from_millis(250);
/// Where the name of a secret is typed.
const OF_SECRETS: [&str; 7] = ["get", "put", "list", "rm", "exists", "edit", "copy"];

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn named(name: &OsStr) -> Option<Self> {
        Self::from_str(name.to_str()?, false).ok()
    }

    fn completer(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        }
    }
}

/// Prints the script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let started_as = std::env::args_os().next().unwrap_or_default();
    let script = script(args.shell, &program(&started_as)).map_err(internal)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(script.as_bytes()).and_then(|()| stdout.flush()).map_err(internal)
}

/// By its path only where it was started by one: one in PATH may move.
fn program(started_as: &OsStr) -> String {
    let path = Path::new(started_as);
    let whole = match path.components().count() {
        0 | 1 => None,
        _ => std::path::absolute(path).ok(),
    };
    whole.map_or_else(|| "tenure".to_owned(), |path| path.to_string_lossy().into_owned())
}

fn script(shell: Shell, program: &str) -> Result<String, std::io::Error> {
    let mut script = Vec::new();
    shell.completer().write_registration(ASKED_BY, "tenure", "tenure", program, &mut script)?;
    let script = String::from_utf8_lossy(&script).into_owned();
    Ok(match shell {
        // A program that was removed is no error to show in the middle of a line.
        Shell::Bash => script.replace(BASH_ASKS, &format!("{BASH_ASKS} 2> /dev/null")),
        Shell::Zsh | Shell::Fish => script,
    })
}

/// How the script of bash ends its question.
const BASH_ASKS: &str = "-- \"${words[@]}\"";

/// Answers a script, if one asks. Nothing else is done then.
pub(super) fn answer() -> bool {
    let Some(shell) = std::env::var_os(ASKED_BY).and_then(|name| Shell::named(&name)) else {
        return false;
    };
    process::harden_client();
    std::panic::set_hook(Box::new(|_| {}));
    let words: Vec<_> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    if words.is_empty() {
        return true;
    }
    let here = std::env::current_dir().ok();
    let mut candidates = Vec::new();
    let mut command = knowing_names(super::definition());
    let known =
        shell.completer().write_complete(&mut command, words, here.as_deref(), &mut candidates);
    if known.is_ok() {
        // A shell that does not wait any longer needs none.
        let _ = std::io::stdout().lock().write_all(&candidates);
    }
    true
}

/// The same commands, which find out what may stand for a name.
fn knowing_names(command: Command) -> Command {
    let command = of_profiles(command);
    OF_SECRETS.iter().fold(command, |command, name| match command.find_subcommand(name) {
        Some(_) => command.mut_subcommand(*name, |sub| sub.mut_args(of_secret)),
        None => command,
    })
}

fn of_secret(arg: Arg) -> Arg {
    // What follows the name is a value, which nobody completes.
    match arg.is_positional() && arg.get_id() != "value" {
        true => arg.add(ArgValueCompleter::new(secret_names)),
        false => arg,
    }
}

fn of_profiles(command: Command) -> Command {
    let mut command = command.mut_args(|arg| match arg.get_id().as_str() {
        "profile" => arg.add(ArgValueCompleter::new(profile_names)),
        _ => arg,
    });
    let uses_one = command.get_name() == "use";
    if uses_one {
        command = command.mut_arg("name", |arg| arg.add(ArgValueCompleter::new(profile_names)));
    }
    command.mut_subcommands(of_profiles)
}

fn profile_names(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, secret::profile_names())
}

fn secret_names(typed: &OsStr) -> Vec<CompletionCandidate> {
    if std::env::var_os(NAMES).is_some_and(|said| said == "off") {
        return Vec::new();
    }
    let Some(beginning) = typed.to_str().map(str::to_owned) else { return Vec::new() };
    let (sender, names) = channel();
    // It ends with the process, if nobody waits for it any longer.
    std::thread::spawn(move || {
        let words: Vec<_> = std::env::args_os().map(OsString::into_string).collect();
        let words: Vec<_> = words.into_iter().flatten().collect();
        let found = secret::names_that_begin_with(&words, &beginning, MOST_WAIT);
        // Nobody waits any longer where this fails.
        let _ = sender.send(found);
    });
    candidates(typed, names.recv_timeout(MOST_WAIT).unwrap_or_default())
}

fn candidates(typed: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*typed));
    fitting.map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_by_its_path_only_where_it_was_started_by_one() {
        assert_eq!(program(OsStr::new("tenure")), "tenure");
        assert_eq!(program(OsStr::new("")), "tenure");
        assert_eq!(program(OsStr::new("/opt/a b/tenure")), "/opt/a b/tenure");
        assert!(Path::new(&program(OsStr::new("./tenure"))).is_absolute());
    }

    #[test]
    fn the_script_of_bash_shows_no_error() {
        let script = script(Shell::Bash, "/opt/tenure").unwrap();
        assert!(script.contains("/opt/tenure\" -- \"${words[@]}\" 2> /dev/null"), "{script}");
    }
}
