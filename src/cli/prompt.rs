//! Asks on the terminal for what nobody must see.

use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};

use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::failure::CliError;
use super::internal;
use super::signals::Ends;

/// Longer than any share or passphrase.
const MOST_BYTES: usize = 4 * 1024;

/// One line of standard input: where that is a terminal, `question` is asked on
/// standard error and what is typed is not shown. `None` at its end.
pub(super) fn hidden_line(question: &str) -> Result<Option<Zeroizing<String>>, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&stdin);
    }
    let line = {
        // What was typed before it was asked for is no answer.
        let _hidden = Hidden::on(&stdin, OptionalActions::Flush).map_err(internal)?;
        ask(question)?;
        read_line(&stdin)
    };
    // The line break that was typed was not shown either.
    ask("\n")?;
    line
}

/// The same on a terminal; one that is broken off shows again what is typed.
pub(super) async fn hidden_line_unless(
    ends: &mut Ends,
    question: &str,
) -> Result<Option<Zeroizing<String>>, CliError> {
    let stdin = io::stdin();
    let line = {
        let _hidden = Hidden::on(&stdin, OptionalActions::Flush).map_err(internal)?;
        ask(question)?;
        unless(ends, || read_line(&io::stdin())).await
    };
    ask("\n")?;
    line
}

/// Asks on standard error, and answers what is typed on standard input, to be seen.
pub(super) fn typed(question: &str) -> Result<String, CliError> {
    ask(question)?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(internal)?;
    typed.truncate(typed.trim_end().len());
    Ok(typed)
}

/// The same on a terminal, for a command with something to put right when it is ended.
pub(super) async fn typed_unless(ends: &mut Ends, question: &str) -> Result<String, CliError> {
    ask(question)?;
    unless(ends, || typed("")).await
}

fn ask(question: &str) -> Result<(), CliError> {
    let mut stderr = io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).map_err(internal)
}

/// Reads, and listens to signals meanwhile. Where one is first, the thread that still reads
/// ends with the process.
async fn unless<T: Send + 'static>(
    ends: &mut Ends,
    read: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || answer.send(read()).ok());
    ends.or_end(async { answered.await.map_err(internal)? }).await
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
