//! What a person types, or a descriptor holds, that nobody else should see.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{ForeignRawFd, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustix::termios::OptionalActions;
use zeroize::Zeroizing;

use super::super::prompt::{Answer, Hidden};

/// Asks on a terminal, which does not show what is typed.
pub(super) fn ask(terminal: &File, prompt: &str, most: usize) -> io::Result<Answer> {
    let mut shown = terminal;
    let hidden = Hidden::on(terminal, OptionalActions::Drain)?;
    shown.write_all(prompt.as_bytes())?;
    let typed = hidden.line(most);
    drop(hidden);
    shown.write_all(b"\n")?;
    typed
}

/// The first line of a descriptor that this process was started with.
pub(super) fn line_of_descriptor(number: u32, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = match number {
        0 => File::from(io::stdin().as_fd().try_clone_to_owned()?),
        _ => inherited(number)?,
    };
    line(&file, most)
}

/// A second descriptor of what `number` is. Opened again by its name it would be only for
/// who may open the file, and a service is given what it may not.
fn inherited(number: u32) -> io::Result<File> {
    if is_ours(number) {
        return Err(Errno::BADF.into());
    }
    let foreign = ForeignRawFd::try_from(number).map_err(|_| Errno::BADF)?;
    let us = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    match pidfd_getfd(us, foreign, PidfdGetfdFlags::empty()) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        // Some containers forbid that call.
        Err(Errno::PERM | Errno::NOSYS) => File::open(format!("/proc/self/fd/{number}")),
        Err(error) => Err(error.into()),
    }
}

/// Whether this process has opened it itself: all that we open is closed for programs
/// that we start, and what we were started with is not.
fn is_ours(number: u32) -> bool {
    const CLOSED_ON_EXEC: u32 = 0o2_000_000;
    let said = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = said.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & CLOSED_ON_EXEC != 0)
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
