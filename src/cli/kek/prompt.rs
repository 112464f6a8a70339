//! What a person types, or a descriptor holds, that nobody else should see.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The terminal that this process belongs to, wherever its standard streams go.
pub(super) fn terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// Asks on a terminal, which does not show what is typed.
pub(super) fn ask(terminal: &File, prompt: &str, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut shown = terminal;
    let quiet = Quiet::begin(terminal)?;
    shown.write_all(prompt.as_bytes())?;
    let typed = line(terminal, most);
    drop(quiet);
    shown.write_all(b"\n")?;
    typed
}

/// The first line of a descriptor that this process was started with.
pub(super) fn line_of_descriptor(number: u32, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Standard input is there in any case; the others can be had by their names alone
    // without taking a stranger's word for a descriptor.
    let file = match number {
        0 => File::from(io::stdin().as_fd().try_clone_to_owned()?),
        _ => File::open(format!("/proc/self/fd/{number}"))?,
    };
    line(&file, most)
}

/// Up to a line feed or the end, and at most one byte more than `most`. Byte by byte:
/// what follows is somebody else's, and no buffer keeps what was read.
fn line(mut from: &File, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(most + 1));
    let mut byte = Zeroizing::new([0]);
    while line.len() <= most {
        match from.read(byte.as_mut()) {
            Ok(0) => break,
            Ok(_) if *byte == *b"\n" => break,
            Ok(_) => line.extend_from_slice(byte.as_ref()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Drain, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}
