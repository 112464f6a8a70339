//! How a terminal is set, and setting it so again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;

use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// The terminal that this process belongs to, wherever its standard streams go.
pub(super) fn of_this_process() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// As a terminal was, for who lets another program have it.
pub(super) struct AsItWas {
    terminal: File,
    modes: Termios,
}

impl AsItWas {
    /// `None`: there is no terminal.
    pub(super) fn note() -> Option<Self> {
        let terminal = of_this_process().ok()?;
        let modes = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, modes })
    }

    pub(super) fn restore(&self) {
        // At once: somebody may have stopped its output.
        restore(&self.terminal, OptionalActions::Now, &self.modes);
    }
}

/// Sets it as it was, unless others have it by now: it is theirs, and who sets it from the
/// background is stopped.
pub(super) fn restore(terminal: impl AsFd, when: OptionalActions, modes: &Termios) {
    if !tcgetpgrp(&terminal).is_ok_and(|foreground| foreground != getpgrp()) {
        // One that is gone needs nothing restored.
        let _ = tcsetattr(&terminal, when, modes);
    }
}
