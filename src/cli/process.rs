//! What this process refuses to leave behind, and how it is told to stop.

use std::io::Write;

use log::LevelFilter;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core file, no debugger of the same user: keys live in this memory. And no
/// file that others can read, whoever makes it.
pub(super) fn harden() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        log::warn!("core files could not be turned off: {error}");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        log::warn!("the process stays dumpable: {error}");
    }
}

/// Logs to standard error; `RUST_LOG` overrides `level`.
pub(super) fn log_to_stderr(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    } else {
        // Of libraries, only what went wrong.
        builder.filter_level(level.min(LevelFilter::Warn)).filter_module("tenure", level);
    }
    builder.format(|out, record| {
        let time = out.timestamp_millis();
        writeln!(out, "{time} {:5} {}", record.level(), record.args())
    });
    // A second logger in one process is not worth stopping for.
    let _ = builder.try_init();
}
