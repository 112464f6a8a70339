//! The signals that a process with a command under it passes on.

use std::fs::File;
use std::future::poll_fn;
use std::task::Poll;

use rustix::process::{Signal, getpgrp};
use tokio::signal::unix::{Signal as Stream, SignalKind};

use crate::cli::failure::CliError;
use crate::cli::internal;
use crate::cli::signals::{Ignored, wait_for};

const PASSED_ON: [Signal; 7] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];

/// Received from when it is made.
pub(super) struct Signals {
    streams: Vec<(Signal, Stream)>,
}

impl Signals {
    /// What was ignored when this process began stays so, for the command too: nohup(1)
    /// and shells without job control have it so.
    pub(super) fn receive() -> Result<Self, CliError> {
        let ignored = Ignored::here();
        let wanted = PASSED_ON.into_iter().filter(|wanted| !ignored.has(*wanted));
        let stream = |of: Signal| {
            let stream = wait_for(SignalKind::from_raw(of.as_raw()));
            stream.map(|stream| (of, stream)).map_err(internal)
        };
        let streams = wanted.chain([Signal::CHILD]).map(stream).collect::<Result<_, _>>()?;
        Ok(Self { streams })
    }

    /// The next one; [`Signal::CHILD`] where something happened to the command.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut come = self.streams.iter_mut().filter_map(|(signal, stream)| {
                stream.poll_recv(context).is_ready().then_some(*signal)
            });
            come.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether the terminal has sent it to the command as well: it sends these to all that
/// is in its foreground.
pub(super) fn comes_from_terminal(signal: Signal) -> bool {
    let foreground = || {
        let terminal = File::open("/dev/tty").ok()?;
        rustix::termios::tcgetpgrp(terminal).ok()
    };
    [Signal::INT, Signal::QUIT, Signal::WINCH].contains(&signal) && foreground() == Some(getpgrp())
}

/// Whether it is there to end what gets it.
pub(super) fn asks_to_end(signal: Signal) -> bool {
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&signal)
}
