//! What this process refuses to leave behind, and how it is told to stop.

use std::io::Write;
use std::num::NonZeroUsize;

use log::LevelFilter;
use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// No core file, no debugger of the same user: keys live in this memory. And no
/// file that others can read, whoever makes it.
pub(super) fn harden() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    hush_panics();
    raise_file_limit();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        log::warn!("core files could not be turned off: {error}");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("the process stays dumpable: {error}");
    }
}

/// The same for a command that may become another program: what a program inherits is
/// left as it is. That this process is not dumpable ends with it.
pub(super) fn harden_client() {
    hush_panics();
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("the process stays dumpable: {error}");
    }
}

/// Raises the limit of open files as far as it goes: each connection takes two.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}

/// How many connections the limit of open files allows beside the store's own
/// files. Out of descriptors, the store could not open its files again.
pub(super) fn affordable_connections() -> NonZeroUsize {
    const RESERVED: u64 = 512;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = usize::try_from(limit.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX);
    NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN)
}

/// A panic's message may hold what it was about: only its place is shown.
fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" in {}:{}", place.file(), place.line()));
        // Where even this cannot be written, the exit code must do.
        let _ = writeln!(std::io::stderr(), "a panic{}", place.unwrap_or_default());
    }));
}

/// Logs to standard error; `RUST_LOG` overrides `level`.
pub(super) fn log_to_stderr(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    } else {
        // Of libraries, only what went wrong.
        builder.filter_level(LevelFilter::Warn).filter_module("tenure", LevelFilter::Trace);
    }
    builder.format(|out, record| {
        let time = out.timestamp_millis();
        writeln!(out, "{time} {:5} {}", record.level(), record.args())
    });
    // A second logger in one process is not worth stopping for.
    let _ = builder.try_init();
    set_log_level(level);
}

/// Beside the logger's filter, so that it can be changed while a server runs.
pub(super) fn set_log_level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}
