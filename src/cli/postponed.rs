//! Signals that end this process, put off while it has something to put right first.
//!
//! This is for code that blocks, as [`Ends`](super::signals::Ends) is for code that waits.
//! Afterwards they end it again, unless somebody waits for them.
//!
//! The library never gives a signal back to the kernel. What the kernel would do it does
//! itself, in its handler, wherever [`End::at_once`] says so.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::Signal;
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;

use super::signals::Ignored;

static ENDS: [End; 4] =
    [End::by(Signal::HUP), End::by(Signal::INT), End::by(Signal::QUIT), End::by(Signal::TERM)];

/// Until this is dropped. What has come meanwhile ends the process then.
pub(super) struct Postponed {
    came: SignalDelivery<UnixStream, SignalOnly>,
    put_off: Vec<&'static End>,
}

impl Postponed {
    /// What is ignored stays so, as nohup(1) and shells without job control have it.
    pub(super) fn begin() -> io::Result<Self> {
        Self::of(&ENDS)
    }

    fn of(ends: &'static [End]) -> io::Result<Self> {
        let ignored = Ignored::here();
        let put_off: Vec<_> = ends.iter().filter(|end| !ignored.has(end.signal)).collect();
        let (from, to) = UnixStream::pair()?;
        let signals = put_off.iter().map(|end| end.signal.as_raw());
        // Noted first: none is lost in between.
        let came = SignalDelivery::with_pipe(from, to, SignalOnly, signals)?;
        let postponed = Self { came, put_off };
        postponed.put_off.iter().try_for_each(|end| end.put_off())?;
        Ok(postponed)
    }

    /// Can be read from once one has come; nobody else reads from it.
    pub(super) fn came(&self) -> &UnixStream {
        self.came.get_read()
    }
}

impl Drop for Postponed {
    fn drop(&mut self) {
        for end in &self.put_off {
            end.resume();
        }
        for signal in self.came.pending() {
            if let Some(end) = self.put_off.iter().find(|end| end.signal.as_raw() == signal) {
                end.come_late();
            }
        }
    }
}

/// That somebody waits for this signal, from now on for good: no more does it end the
/// process, as if nothing had ever been put off.
pub(super) fn waited_for(signal: i32) {
    if let Some(end) = ENDS.iter().find(|end| end.signal.as_raw() == signal) {
        end.is_waited_for();
    }
}

struct End {
    signal: Signal,
    waited_for: AtomicBool,
    /// Whether it ends the process as it does by default. Made when it is put off for the
    /// first time: until then the kernel does so.
    at_once: OnceLock<Arc<AtomicBool>>,
}

impl End {
    const fn by(signal: Signal) -> Self {
        Self { signal, waited_for: AtomicBool::new(false), at_once: OnceLock::new() }
    }

    fn put_off(&self) -> io::Result<()> {
        if self.at_once.get().is_none() {
            let at_once = Arc::new(AtomicBool::new(false));
            register_conditional_default(self.signal.as_raw(), Arc::clone(&at_once))?;
            // Nobody else asks at the same time.
            let _ = self.at_once.set(at_once);
        }
        self.no_longer_at_once();
        Ok(())
    }

    fn is_waited_for(&self) {
        self.waited_for.store(true, Ordering::SeqCst);
        self.no_longer_at_once();
    }

    fn no_longer_at_once(&self) {
        if let Some(at_once) = self.at_once.get() {
            at_once.store(false, Ordering::SeqCst);
        }
    }

    fn resume(&self) {
        if let Some(at_once) = self.at_once.get() {
            at_once.store(!self.waited_for.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// What was put off happens. Who waits for it has heard it already.
    fn come_late(&self) {
        if !self.waited_for.load(Ordering::SeqCst) {
            // It fails for numbers alone that are of no signal.
            let _ = emulate_default_handler(self.signal.as_raw());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::WouldBlock;
    use std::io::Read;

    use rustix::process::{getpid, kill_process};

    use super::*;

    #[test]
    fn what_comes_meanwhile_is_noted_and_left_to_who_waits_for_it() {
        static USER: [End; 1] = [End::by(Signal::USR1)];
        let raise = || kill_process(getpid(), Signal::USR1).unwrap();
        let [user] = &USER;
        // Or it would end this test.
        user.is_waited_for();
        let postponed = Postponed::of(&USER).unwrap();
        let mut came = postponed.came();
        came.set_nonblocking(true).unwrap();
        assert_eq!(came.read(&mut [0]).unwrap_err().kind(), WouldBlock);
        raise();
        came.set_nonblocking(false).unwrap();
        assert_eq!(came.read(&mut [0]).unwrap(), 1);
        drop(postponed);
        raise();
    }

    #[test]
    fn it_ends_at_once_again_unless_somebody_waits_for_it() {
        let [one, other] = [Signal::USR2, Signal::ALARM].map(End::by);
        let at_once = |end: &End| end.at_once.get().unwrap().load(Ordering::SeqCst);
        for end in [&one, &other] {
            end.put_off().unwrap();
            assert!(!at_once(end));
        }
        other.is_waited_for();
        for end in [&one, &other] {
            end.resume();
        }
        assert!(at_once(&one) && !at_once(&other));
        one.put_off().unwrap();
        assert!(!at_once(&one));
    }
}
