//! What a command leaves running when it has ended: programs that it started, of which a
//! shell ends without waiting for them.
//!
//! A watched command that is started anew must not run twice, once with the old secrets. So
//! its orphans become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER), where they
//! can be found and ended.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use crate::cli::failure::CliError;
use crate::cli::internal;

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(20);

/// From here on orphans come to this process.
pub(super) fn adopt() -> Result<(), CliError> {
    rustix::process::set_child_subreaper(Some(getpid())).map_err(internal)
}

/// Waits for orphans that have ended; not for the command, whose end is somebody else's news.
pub(super) fn bury(command: Pid) {
    for orphan in children().into_iter().filter(|child| *child != command) {
        // One that lives on is none yet.
        let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
    }
}

/// Ends all that is left of a command that has ended: told first, killed after `patience`.
pub(super) async fn end_all(patience: Duration) {
    let begun = Instant::now();
    let mut told = HashSet::new();
    loop {
        let left = children();
        for orphan in &left {
            let signal = match begun.elapsed() >= patience {
                true => Signal::KILL,
                false if told.insert(*orphan) => Signal::TERM,
                false => continue,
            };
            // It was not waited for yet, so its id is no one else's.
            let _ = kill_process(*orphan, signal);
        }
        for orphan in &left {
            let _ = waitpid(Some(*orphan), WaitOptions::NOHANG);
        }
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// By what proc_pid_stat(5) says of their parents.
fn children() -> Vec<Pid> {
    let us = getpid().as_raw_pid();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = processes.filter_map(|process| {
        let pid: i32 = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        let parent: i32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        (parent == us).then(|| Pid::from_raw(pid)).flatten()
    });
    ours.collect()
}
