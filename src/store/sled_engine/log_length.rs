//! That something cut a database's log is noticed.
//!
//! sled takes the segments that it finds for all there are: others were free, and given
//! back. So of a log that lost its end it reads the rest, in which pages have older
//! contents, as soon as the end of its history stands in front of the end of its file.
//! So the mark of a database says how long its log was, and one that is shorter was cut.
//!
//! What the mark says is on the disk, and never more than that: the length is taken
//! before a drain is applied, whose sync then covers it, or synced once more where a
//! segment was begun since. And sled cuts its log itself where what stands last in it is
//! free, in a thread of its own: that is marked before it is done.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::honest_sync::{self, FileId, Watcher};
use super::mark::Mark;
use super::recovery::{LONGEST_HEADER, SEGMENT};

/// How long what sled still does with a database that was closed may take.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// The log of a database that is open or about to be opened, and its mark.
pub(super) struct WatchedLog(Arc<Watched>);

struct Watched {
    file: FileId,
    log: File,
    state: Mutex<State>,
    is_closed: AtomicBool,
}

struct State {
    mark: Mark,
    /// That many bytes of it outlast a power cut, or do so after the next drain's sync.
    kept: u64,
}

/// The log of a generation.
pub(super) fn open_log(generation: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(generation.join("db"))
}

/// Waits until nobody of this process works on the log any more. Answers whether that
/// came true.
pub(super) fn settle(generation: &Path) -> io::Result<bool> {
    let file = match open_log(generation) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        log => FileId::of(&log?)?,
    };
    let deadline = Instant::now() + PATIENCE;
    while honest_sync::is_watched(file) {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(PAUSE);
    }
    Ok(true)
}

impl WatchedLog {
    /// Before sled opens it, unless it has just made it.
    pub fn watch(log: File, mark: Mark) -> io::Result<Self> {
        let kept = length(&log)?;
        let watched = Arc::new(Watched {
            file: FileId::of(&log)?,
            log,
            state: Mutex::new(State { mark, kept }),
            is_closed: AtomicBool::new(false),
        });
        honest_sync::watch(Arc::clone(&watched) as Arc<dyn Watcher>);
        Ok(Self(watched))
    }

    pub fn sequence(&self) -> u64 {
        self.0.state().mark.sequence()
    }

    /// Before something is applied that will be synced.
    pub fn measure(&self) -> io::Result<()> {
        let mut state = self.0.state();
        state.kept = length(&self.0.log)?;
        Ok(())
    }

    /// After it was synced. Durable when it returns.
    pub fn advance(&self, sequence: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let now = length(&self.0.log)?;
        if segments(now) > segments(state.kept) {
            self.0.log.sync_data()?;
            state.kept = now;
        }
        let kept = state.kept;
        state.mark.advance(sequence, kept)
    }

    /// Whether the mark says how long the log was: earlier versions wrote none that did.
    pub fn is_known(&self) -> bool {
        self.0.state().mark.log_bytes().is_some()
    }
}

impl Drop for WatchedLog {
    /// Until sled has let go of the log it may cut it still.
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Watched {
    fn file(&self) -> FileId {
        self.file
    }

    fn cut(&self, length: u64, cut: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        if state.mark.log_bytes().is_some_and(|marked| marked > length) {
            state.mark.shorten(length)?;
        }
        state.kept = state.kept.min(length);
        cut()
    }

    /// sled locks a log that it works on.
    fn is_done(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst) && self.log.try_lock().is_ok()
    }
}

pub(super) fn length(log: &File) -> io::Result<u64> {
    log.metadata().map(|data| data.len())
}

/// Those that are full: no message begins in the last bytes of one.
fn segments(length: u64) -> u64 {
    (length + LONGEST_HEADER as u64 - 1) / SEGMENT as u64
}

#[cfg(test)]
mod tests {
    use super::super::mark;
    use super::*;

    const MANY: u64 = 10 * SEGMENT as u64;

    /// A generation with a log of that many bytes.
    fn of(length: u64) -> (tempfile::TempDir, WatchedLog) {
        let folder = tempfile::tempdir().unwrap();
        File::create_new(folder.path().join("db")).unwrap().set_len(length).unwrap();
        let mark = Mark::create(folder.path()).unwrap();
        let log = WatchedLog::watch(open_log(folder.path()).unwrap(), mark).unwrap();
        (folder, log)
    }

    fn marked(folder: &tempfile::TempDir) -> Option<u64> {
        Mark::open(folder.path()).unwrap().log_bytes()
    }

    fn set_len(folder: &tempfile::TempDir, length: u64) -> io::Result<()> {
        open_log(folder.path()).unwrap().set_len(length)
    }

    #[test]
    fn a_drain_marks_how_long_the_log_is() {
        let (folder, log) = of(MANY);
        assert!(!log.is_known());
        assert_eq!(marked(&folder), None);
        log.advance(1).unwrap();
        assert!(log.is_known());
        assert_eq!(marked(&folder), Some(MANY));
    }

    #[test]
    fn what_sled_cuts_is_marked_before() {
        let (folder, log) = of(MANY);
        log.advance(1).unwrap();
        std::fs::write(folder.path().join(mark::tests::FAIL_ONCE), "").unwrap();
        set_len(&folder, MANY / 2).unwrap_err();
        assert_eq!(length(&open_log(folder.path()).unwrap()).unwrap(), MANY);
        for length in [MANY / 2, MANY / 4] {
            set_len(&folder, length).unwrap();
            assert_eq!(marked(&folder), Some(length));
        }
        log.advance(2).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 4));
    }

    #[test]
    fn what_is_cut_while_a_drain_is_applied_is_not_marked_after_it() {
        let (folder, log) = of(MANY);
        log.measure().unwrap();
        set_len(&folder, MANY / 2).unwrap();
        log.advance(1).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 2));
    }

    #[test]
    fn only_a_segment_that_is_full_is_synced_once_more() {
        let (folder, log) = of(MANY);
        let (full, longer) = (MANY + SEGMENT as u64 - 9, MANY * 2 - 40);
        for (sequence, now, kept) in [
            (1, MANY + 7, MANY),
            (2, MANY + SEGMENT as u64 - LONGEST_HEADER as u64, MANY),
            (3, full, full),
        ] {
            set_len(&folder, now).unwrap();
            log.advance(sequence).unwrap();
            assert_eq!(marked(&folder), Some(kept));
        }
        set_len(&folder, longer).unwrap();
        log.measure().unwrap();
        log.advance(4).unwrap();
        assert_eq!(marked(&folder), Some(longer));
    }

    #[test]
    fn a_closed_log_is_watched_until_its_lock_is_free() {
        let (folder, log) = of(MANY);
        log.advance(1).unwrap();
        let sleds = open_log(folder.path()).unwrap();
        sleds.try_lock().unwrap();
        drop(log);
        sleds.set_len(MANY / 2).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 2));
        assert!(!settle(folder.path()).unwrap());
        drop(sleds);
        assert!(settle(folder.path()).unwrap());
        set_len(&folder, MANY / 4).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 2));
    }
}
