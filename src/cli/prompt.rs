//! Asks on the terminal for what nobody must see.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Stdin, Write};

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::failure::CliError;
use super::internal;
use super::postponed::Postponed;
use super::signals::{Ends, interrupted};
use super::terminal::restore;

/// Longer than any share, credential or value that somebody types.
const MOST_BYTES: usize = 64 * 1024;
/// How soon after the end of a line the next one comes that was pasted with it.
const PASTED: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// One line of standard input: where that is a terminal, `question` is asked on
/// standard error and what is typed is not shown. `None` at its end.
pub(super) fn hidden_line(question: &str) -> Result<Option<Zeroizing<String>>, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_line(&stdin);
    }
    let typed = {
        // What was typed before it was asked for is no answer.
        let hidden = Hidden::on(&stdin, OptionalActions::Flush).map_err(internal)?;
        ask(question)?;
        hidden.line(MOST_BYTES).map_err(internal)?
    };
    // The line break that was typed was not shown either.
    ask("\n")?;
    match typed {
        Answer::Line(bytes) if bytes.len() > MOST_BYTES => Err(CliError::usage(
            "more than 64 KiB were typed; pipe what is longer into the command",
        )),
        Answer::Unclear(why) => Err(CliError::usage(why)),
        Answer::Line(bytes) => {
            let text = std::str::from_utf8(&bytes);
            let text = text.map_err(|_| CliError::usage("what was typed is no text"))?;
            Ok(Some(Zeroizing::new(text.to_owned())))
        }
        Answer::End => Ok(None),
        Answer::Interrupt => Err(interrupted()),
    }
}

/// Asks on standard error, and answers what is typed on standard input, to be seen.
pub(super) fn typed(question: &str) -> Result<String, CliError> {
    ask(question)?;
    answer()
}

fn answer() -> Result<String, CliError> {
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(internal)?;
    typed.truncate(typed.trim_end().len());
    Ok(typed)
}

/// The same on a terminal, for a command with something to put right when it is ended.
pub(super) async fn typed_unless(ends: &mut Ends, question: &str) -> Result<String, CliError> {
    ask(question)?;
    unless(ends, answer).await
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
///
/// It hands over each byte as it is typed, Ctrl-C among them, and knows no longest line.
/// So nothing that is typed ends the program while the terminal hides. A signal from
/// elsewhere ends it once the terminal shows again: not every shell sees to that.
pub(super) struct Hidden<T: AsFd> {
    terminal: T,
    before: Termios,
    when: OptionalActions,
    /// Dropped after the terminal was restored.
    ends: Postponed,
}

/// What somebody did at a hidden terminal.
pub(super) enum Answer {
    /// Without its end.
    Line(Zeroizing<Vec<u8>>),
    /// The end of the input, and nothing before it.
    End,
    /// Or a signal did it.
    Interrupt,
    /// What cannot be what was meant, in a sentence; all of it was read.
    Unclear(&'static str),
}

impl<T: AsFd> Hidden<T> {
    /// `when`: what becomes of what was typed or shown before.
    pub(super) fn on(terminal: T, when: OptionalActions) -> io::Result<Self> {
        let ends = Postponed::begin()?;
        let before = tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        let ours = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        hidden.local_modes.remove(ours);
        hidden.input_modes.insert(InputModes::ICRNL);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, when, &hidden)?;
        Ok(Self { terminal, before, when, ends })
    }

    /// One line, with the keys that the terminal has for its corrections. Of one that is
    /// longer than `most` bytes, one more than that. The rest is read too, and what was
    /// pasted behind the line: a shell would take it for a command, and remember it.
    pub(super) fn line(&self, most: usize) -> io::Result<Answer> {
        match self.only_line(most) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Answer::Interrupt),
            answer => answer,
        }
    }

    fn only_line(&self, most: usize) -> io::Result<Answer> {
        let answer = self.up_to_an_end(most)?;
        if matches!(answer, Answer::Line(_)) && self.drain()? {
            return Ok(Answer::Unclear(
                "more than one line was typed; what has several comes from a file or a pipe",
            ));
        }
        Ok(answer)
    }

    /// Whether there was more.
    fn drain(&self) -> io::Result<bool> {
        let mut more = false;
        loop {
            let mut ready = [PollFd::new(&self.terminal, PollFlags::IN)];
            if poll(&mut ready, Some(&PASTED))? == 0 || self.byte()?.is_none() {
                return Ok(more);
            }
            more = true;
        }
    }

    fn up_to_an_end(&self, most: usize) -> io::Result<Answer> {
        let is_key = |byte: u8, code: SpecialCodeIndex| {
            // Zero: there is no such key (termios(3)).
            byte != 0 && byte == self.before.special_codes[code]
        };
        // Reserved at once: a buffer that grows leaves its old bytes behind.
        let mut line = Zeroizing::new(Vec::with_capacity(most + 1));
        let mut other_keys = false;
        while let Some(byte) = self.byte()? {
            match byte {
                b'\n' if other_keys => {
                    return Ok(Answer::Unclear(
                        "keys were pressed that are no text (arrows, control keys); type it again",
                    ));
                }
                b'\n' => return Ok(Answer::Line(line)),
                _ if is_key(byte, SpecialCodeIndex::VEOF) => break,
                _ if is_key(byte, SpecialCodeIndex::VINTR)
                    || is_key(byte, SpecialCodeIndex::VQUIT) =>
                {
                    return Ok(Answer::Interrupt);
                }
                b'\x08' | b'\x7f' => take_back_letter(&mut line),
                _ if is_key(byte, SpecialCodeIndex::VERASE) => take_back_letter(&mut line),
                _ if is_key(byte, SpecialCodeIndex::VWERASE) => take_back_word(&mut line),
                _ if is_key(byte, SpecialCodeIndex::VKILL) => line.clear(),
                // They could not be seen in what is stored.
                _ if byte.is_ascii_control() && byte != b'\t' => other_keys = true,
                _ if line.len() > most => {}
                _ => line.push(byte),
            }
        }
        Ok(if line.is_empty() { Answer::End } else { Answer::Line(line) })
    }

    /// `None` at the end; an error of the kind `Interrupted` when a signal has come. No buffer
    /// keeps what was read.
    fn byte(&self) -> io::Result<Option<u8>> {
        let mut either = [
            PollFd::new(self.ends.came(), PollFlags::IN),
            PollFd::new(&self.terminal, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut either, None))?;
        if either.first().is_some_and(|came| !came.revents().is_empty()) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut byte = Zeroizing::new([0]);
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.terminal, &mut *byte))?;
        let [byte] = *byte;
        Ok((read == 1).then_some(byte))
    }
}

/// All bytes of a letter beyond ASCII.
fn take_back_letter(line: &mut Vec<u8>) {
    const CONTINUED: std::ops::RangeInclusive<u8> = 0x80..=0xbf;
    while line.pop().is_some_and(|byte| CONTINUED.contains(&byte)) {}
}

/// With the blanks behind it.
fn take_back_word(line: &mut Vec<u8>) {
    let kept = line.trim_ascii_end();
    let kept = kept.iter().rposition(u8::is_ascii_whitespace).map_or(0, |blank| blank + 1);
    line.truncate(kept);
}

impl<T: AsFd> Drop for Hidden<T> {
    fn drop(&mut self) {
        restore(&self.terminal, self.when, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_a_whole_letter_or_word() {
        let after = |take: fn(&mut Vec<u8>), text: &str| {
            let mut line = text.as_bytes().to_vec();
            take(&mut line);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(after(take_back_letter, "ab"), "a");
        assert_eq!(after(take_back_letter, "a€"), "a");
        assert_eq!(after(take_back_letter, ""), "");
        assert_eq!(after(take_back_word, "correct horse  "), "correct ");
        assert_eq!(after(take_back_word, "horse"), "");
        assert_eq!(after(take_back_word, "  "), "");
    }
}
