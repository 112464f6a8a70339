//! What ends a command that has something to put right first: Ctrl-C, SIGTERM, SIGHUP.

use std::io;

use futures_util::FutureExt;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{CliError, Exit};
use super::{internal, postponed};

/// From [`Ends::listen`] on they no longer kill.
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    pub(super) fn listen() -> Result<Self, CliError> {
        let heard = |kind| wait_for(kind).map_err(internal);
        Ok(Self {
            interrupt: heard(SignalKind::interrupt())?,
            terminate: heard(SignalKind::terminate())?,
            hangup: heard(SignalKind::hangup())?,
        })
    }

    /// Waits for one, as the failure that it is.
    pub(super) async fn any(&mut self) -> CliError {
        tokio::select! {
            _ = self.interrupt.recv() => interrupted(),
            _ = self.terminate.recv() => interrupted(),
            _ = self.hangup.recv() => interrupted(),
        }
    }

    /// The same while another program has the terminal: Ctrl-C is for that one.
    pub(super) async fn but_interrupts(&mut self) -> CliError {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => return interrupted(),
                _ = self.hangup.recv() => return interrupted(),
            }
        }
    }

    /// Forgets those interrupts, once the other program has ended: they were not for us.
    pub(super) async fn forget_interrupts(&mut self) {
        // So that what has come is seen.
        tokio::task::yield_now().await;
        while self.interrupt.recv().now_or_never().is_some() {}
    }

    /// What `work` comes to, unless a signal is first.
    pub(super) async fn or_end<T>(
        &mut self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::select! {
            done = work => done,
            ended = self.any() => Err(ended),
        }
    }
}

/// From now on, and for good: it no longer ends the process, whatever a question did to it.
#[expect(clippy::disallowed_methods, reason = "this is what is to be called in its place")]
pub(super) fn wait_for(kind: SignalKind) -> io::Result<Signal> {
    let stream = signal(kind)?;
    postponed::waited_for(kind.as_raw_value());
    Ok(stream)
}

/// What this process ignores: a bit for each signal, as proc_pid_status(5) has them.
pub(super) struct Ignored(u64);

impl Ignored {
    pub(super) fn here() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        Self(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
    }

    pub(super) fn has(&self, signal: Number) -> bool {
        let bit = u32::try_from(signal.as_raw() - 1).ok();
        bit.and_then(|bit| self.0.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
    }
}

pub(super) fn interrupted() -> CliError {
    CliError { exit: Exit::Interrupted, message: "interrupted".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_signal() {
        // SIGHUP and SIGPIPE.
        let ignored = Ignored(0x1001);
        assert!(ignored.has(Number::HUP) && ignored.has(Number::PIPE));
        assert!(!ignored.has(Number::INT) && !ignored.has(Number::TERM));
        // The runtime of the language does so in every program.
        assert!(Ignored::here().has(Number::PIPE));
    }
}
