//! What this process refuses to leave behind, and how it is told to stop.

use std::io::Write;

use log::LevelFilter;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core file, no debugger of the same user: keys live in this memory.
pub(super) fn harden() {
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
    match std::env::var("RUST_LOG") {
        // On its own: a directive for all, such as `debug`, would lose to ours.
        Ok(directives) if !directives.is_empty() => builder.parse_filters(&directives),
        // Libraries speak of what they parse; only our own words are known to
        // hold no secret.
        _ => builder.filter_level(level.min(LevelFilter::Warn)).filter_module("tenure", level),
    };
    builder.format(|out, record| {
        let time = out.timestamp_millis();
        writeln!(out, "{time} {:5} {}", record.level(), record.args())
    });
    // A second logger in one process is not worth stopping for.
    let _ = builder.try_init();
}
