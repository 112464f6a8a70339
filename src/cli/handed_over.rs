//! Descriptors and variables that go from one process to the next, which the language
//! cannot vouch for: a descriptor is a bare number there, and the environment belongs to
//! all threads. The only unsafe code of that kind.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;

/// Takes variables out of the environment. Only before there is another thread.
pub(super) fn forget_variables(names: &[&str]) {
    for name in names {
        #[expect(unsafe_code, reason = "there is no safe way to change the environment")]
        // SAFETY: no other thread has been started.
        unsafe {
            std::env::remove_var(name);
        }
    }
}

/// Takes a descriptor that was handed over, and keeps it from what is started from here.
/// Only before anything is opened, and each once.
pub(super) fn take(fd: RawFd) -> io::Result<OwnedFd> {
    #[expect(unsafe_code, reason = "a descriptor that is handed over comes as a number")]
    // SAFETY: nothing was opened before, so who left it open left it to us; and each is
    // taken once. One that is not open fails to be marked, and is not owned then.
    unsafe {
        rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(fd), FdFlags::CLOEXEC)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Puts a socket where the next program looks for it. Only just before that takes the
/// place of this one.
pub(super) fn hand_over(listener: TcpListener, to: RawFd) -> io::Result<()> {
    if listener.as_raw_fd() != to {
        #[expect(unsafe_code, reason = "the number is what counts")]
        // SAFETY: whatever has this number is of a server that has ended, and this
        // process ends here or becomes another program: nothing uses it again.
        let mut place = unsafe { OwnedFd::from_raw_fd(to) };
        let placed = rustix::io::dup2(&listener, &mut place);
        // It stays open.
        std::mem::forget(place);
        return Ok(placed?);
    }
    rustix::io::fcntl_setfd(listener.as_fd(), FdFlags::empty())?;
    std::mem::forget(listener);
    Ok(())
}
