//! Two acts that a process can do safely only at its own start, for which `tenure run
//! --watch` starts this program once more. Neither is for people.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process};

use super::program::not_started;
use crate::cli::failure::CliError;
use crate::cli::helper::OURSELVES;

#[derive(Debug, Args)]
pub(in crate::cli) struct SupervisedArgs {
    parent: i32,
    #[arg(last = true, required = true)]
    words: Vec<OsString>,
}

/// Becomes a command that the kernel kills when its parent dies, however that dies.
pub(in crate::cli) fn supervised(args: &SupervisedArgs) -> CliError {
    let asked = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if let Err(error) = asked {
        return crate::cli::internal(format!("the end of the parent cannot be seen: {error}"));
    }
    // It may have died before that.
    if getppid() != Pid::from_raw(args.parent) {
        return crate::cli::internal("the process that watches is gone");
    }
    let Some((program, words)) = args.words.split_first() else {
        return CliError::usage("no command is named");
    };
    not_started(program, &Command::new(program).args(words).exec())
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EndedByArgs {
    signal: i32,
}

/// Dies of a signal, as a command died: one that handles it, as its parent did until
/// now, could not. A signal that is ignored becomes an exit code, as shells write it.
pub(in crate::cli) fn ended_by(args: &EndedByArgs) -> ! {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // That there is no core file is a matter of taste; the command's was written.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    if let Some(signal) = Signal::from_named_raw(args.signal) {
        let _ = kill_process(getpid(), signal);
    }
    std::process::exit(128_i32.saturating_add(args.signal))
}

/// Ends this process as one that the signal killed.
pub(super) fn end_by(signal: i32) -> ! {
    let signal_text = signal.to_string();
    let _ = Command::new(OURSELVES).arg0("tenure").args(["ended-by", &signal_text]).exec();
    std::process::exit(128_i32.saturating_add(signal))
}
