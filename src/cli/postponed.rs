//! Signals that end this process, put off while it has something to put right first.
//!
//! This is for code that blocks, as [`Ends`](super::signals::Ends) is for code that waits.
//! What they do otherwise they do again afterwards: all that follows is ended as before.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

const ENDS: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Until this is dropped. What has come meanwhile comes then.
pub(super) struct Postponed {
    came: &'static Came,
    /// What each of them does otherwise.
    otherwise: Vec<(Signal, libc::sigaction)>,
}

/// Where the handler leaves the number of each signal, a byte. It is made once and stays, so
/// that a handler that is late writes to nothing else.
static CAME: OnceLock<Came> = OnceLock::new();

struct Came {
    to: UnixStream,
    from: UnixStream,
}

impl Postponed {
    /// What is ignored stays so, as nohup(1) and shells without job control have it.
    pub(super) fn begin() -> io::Result<Self> {
        let mut postponed = Self { came: Came::here()?, otherwise: Vec::new() };
        for signal in ENDS {
            let otherwise = replace(signal, None)?;
            if otherwise.sa_sigaction != libc::SIG_IGN {
                replace(signal, Some(&noted()))?;
                postponed.otherwise.push((signal, otherwise));
            }
        }
        Ok(postponed)
    }

    /// Can be read from once one has come; nobody else reads from it.
    pub(super) fn came(&self) -> &UnixStream {
        &self.came.from
    }
}

impl Drop for Postponed {
    fn drop(&mut self) {
        for (signal, otherwise) in &self.otherwise {
            // It was so before, and so can be again.
            let _ = replace(*signal, Some(otherwise));
        }
        let mut numbers = [0; 64];
        while let Ok(count @ 1..) = self.came().read(&mut numbers) {
            let came = numbers.iter().take(count).map(|number| i32::from(*number));
            for signal in came.filter_map(Signal::from_named_raw) {
                // Who may not signal itself lives on, and has nobody to say so to.
                let _ = kill_process(getpid(), signal);
            }
        }
    }
}

impl Came {
    fn here() -> io::Result<&'static Self> {
        if let Some(made) = CAME.get() {
            return Ok(made);
        }
        let (to, from) = UnixStream::pair()?;
        to.set_nonblocking(true)?;
        from.set_nonblocking(true)?;
        Ok(CAME.get_or_init(|| Self { to, from }))
    }
}

/// That it is noted and nothing else happens.
fn noted() -> libc::sigaction {
    let mut action = nothing();
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // Whoever reads or writes elsewhere meanwhile goes on.
    action.sa_flags = libc::SA_RESTART;
    action
}

#[expect(unsafe_code, reason = "it has fields that are private to the library")]
fn nothing() -> libc::sigaction {
    // SAFETY: numbers and a pointer that may be none; all zeros is the default, without a
    // mask and without flags.
    unsafe { std::mem::zeroed() }
}

/// Says what a signal is to do, or `None`: leaves that. Answers what it did before.
#[expect(unsafe_code, reason = "no safe wrapper gives back what a signal did before")]
fn replace(signal: Signal, with: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut before = nothing();
    let with = with.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both are whole structures or none, and live as long as the call. The handler is
    // `note`, or what the kernel said that it was.
    match unsafe { libc::sigaction(signal.as_raw(), with, &mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. It does what may be done in one alone (signal-safety(7)): no lock, no memory,
/// and whomever it interrupts finds its `errno` again.
#[expect(unsafe_code, reason = "a handler of signals may call next to nothing")]
extern "C" fn note(signal: libc::c_int) {
    let Some(Came { to, .. }) = CAME.get() else { return };
    let [number, ..] = signal.to_le_bytes();
    // SAFETY: the descriptor is never closed, the byte is there, and `errno` is this
    // thread's. A pipe that is full holds enough of them.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(to.as_raw_fd(), (&raw const number).cast(), 1);
        *errno = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_did_it_does_again_and_what_is_ignored_stays_so() {
        let does = |signal| replace(signal, None).unwrap().sa_sigaction;
        let mut ignored = nothing();
        ignored.sa_sigaction = libc::SIG_IGN;
        let usual = replace(Signal::QUIT, Some(&ignored)).unwrap();
        let before = does(Signal::TERM);
        let postponed = Postponed::begin().unwrap();
        assert_eq!(does(Signal::TERM), noted().sa_sigaction);
        assert_eq!(does(Signal::QUIT), libc::SIG_IGN);
        drop(postponed);
        assert_eq!(does(Signal::TERM), before);
        replace(Signal::QUIT, Some(&usual)).unwrap();
    }
}
