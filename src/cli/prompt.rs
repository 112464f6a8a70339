//! Asks on the terminal for what nobody must see.

use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};

use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::CliError;
use super::internal;

/// Longer than any share or passphrase.
const MOST_BYTES: usize = 4 * 1024;

/// One line of standard input: where that is a terminal, `question` is asked on
/// standard error and what is typed is not shown. `None` at its end.
pub(super) fn hidden_line(question: &str) -> Result<Option<Zeroizing<String>>, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&stdin);
    }
    let mut stderr = io::stderr();
    let line = {
        // What was typed before it was asked for is no answer.
        let _hidden = Hidden::on(&stdin, OptionalActions::Flush).map_err(internal)?;
        stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(internal)?;
        read_line(&stdin)
    };
    // The line break that was typed was not shown either.
    stderr.write_all(b"\n").map_err(internal)?;
    line
}

/// Asks on standard error, and answers what is typed on standard input, to be seen.
pub(super) fn typed(question: &str) -> Result<String, CliError> {
    let mut stderr = io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(internal)?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(internal)?;
    typed.truncate(typed.trim_end().len());
    Ok(typed)
}

fn read_line(stdin: &Stdin) -> Result<Option<Zeroizing<String>>, CliError> {
    // Reserved at once: a buffer that grows leaves its old bytes behind.
    let mut line = Zeroizing::new(String::with_capacity(MOST_BYTES));
    let read = stdin.lock().take(MOST_BYTES as u64).read_line(&mut line);
    match read.map_err(|_| CliError::usage("standard input is no line of text"))? {
        0 => Ok(None),
        _ => Ok(Some(line)),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
pub(super) struct Hidden<T: AsFd> {
    terminal: T,
    before: Termios,
    when: OptionalActions,
}

impl<T: AsFd> Hidden<T> {
    /// `when`: what becomes of what was typed or shown before.
    pub(super) fn on(terminal: T, when: OptionalActions) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, when, &hidden)?;
        Ok(Self { terminal, before, when })
    }
}

impl<T: AsFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing restored.
        let _ = tcsetattr(&self.terminal, self.when, &self.before);
    }
}
