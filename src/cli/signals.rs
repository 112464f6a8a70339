//! What ends a command that has something to put right first: Ctrl-C, SIGTERM, SIGHUP.

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{CliError, Exit};
use super::internal;

/// From [`Ends::listen`] on they no longer kill.
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    pub(super) fn listen() -> Result<Self, CliError> {
        let heard = |kind| signal(kind).map_err(internal);
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

pub(super) fn interrupted() -> CliError {
    CliError { exit: Exit::Interrupted, message: "interrupted".to_owned() }
}
