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
//! free, in a thread of its own: that is marked before it is done (see [`super::cuts`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cuts::{self, FileId, Watcher};
use super::mark::{Mark, MarkError};
use super::recovery::{LONGEST_HEADER, SEGMENT};

/// How long what sled still does with a database that was closed may take.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// The log of a database that is open or about to be opened, and its mark.
pub(super) struct WatchedLog {
    log: File,
    watched: Arc<Watched>,
}

/// Outlives what it is of: sled may still be at work on a log that was closed. It keeps
/// no file open that others wait to see gone.
struct Watched {
    generation: PathBuf,
    file: FileId,
    state: Mutex<State>,
    is_closed: AtomicBool,
}

struct State {
    mark: Mark,
    /// That many bytes of it outlast a power cut, or do so after the next drain's sync.
    kept: u64,
}

/// What is wrong with a log or its mark.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("its file db was cut: it has {is} bytes, and had at least {was}")]
    Cut { was: u64, is: u64 },
    #[error("its file db is missing")]
    Missing,
    #[error("sled is still at work on it")]
    InUse,
    #[error(transparent)]
    Mark(#[from] MarkError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The log of a generation.
pub(super) fn open_log(generation: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(generation.join("db"))
}

fn length(log: &File) -> io::Result<u64> {
    log.metadata().map(|data| data.len())
}

/// sled's own cuts are known: one behind what it had is none of them.
fn refuse_cut(was: u64, is: u64) -> Result<u64, LogError> {
    if is < was { Err(LogError::Cut { was, is }) } else { Ok(is) }
}

/// Waits until nobody of this process works on the log any more.
fn settle(file: FileId) -> Result<(), LogError> {
    let deadline = Instant::now() + PATIENCE;
    while cuts::is_watched(file) {
        if Instant::now() > deadline {
            return Err(LogError::InUse);
        }
        sleep(PAUSE);
    }
    Ok(())
}

impl WatchedLog {
    /// Of a database that sled has just made.
    pub fn create(generation: &Path) -> io::Result<Self> {
        let log = open_log(generation)?;
        let kept = length(&log)?;
        Self::watch(generation, log, Mark::create(generation)?, kept)
    }

    /// Before sled opens the database, since an opening may cut it.
    pub fn open(generation: &Path) -> Result<Self, LogError> {
        let log = match open_log(generation) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LogError::Missing),
            log => log?,
        };
        settle(FileId::of(&log)?)?;
        // Before its mark, which is shortened before it is: a process that closes it may be
        // about to.
        let is = length(&log)?;
        let mark = Mark::open(generation)?;
        refuse_cut(mark.log_bytes().unwrap_or(0), is)?;
        Ok(Self::watch(generation, log, mark, is)?)
    }

    fn watch(generation: &Path, log: File, mark: Mark, kept: u64) -> io::Result<Self> {
        let watched = Arc::new(Watched {
            generation: generation.to_owned(),
            file: FileId::of(&log)?,
            state: Mutex::new(State { mark, kept }),
            is_closed: AtomicBool::new(false),
        });
        cuts::watch(Arc::clone(&watched) as Arc<dyn Watcher>);
        Ok(Self { log, watched })
    }

    /// Once sled has opened it: until then a process that closes it may have marked a cut.
    pub fn read_mark(&self) -> Result<(), LogError> {
        self.watched.state().mark = Mark::open(&self.watched.generation)?;
        Ok(())
    }

    pub fn sequence(&self) -> u64 {
        self.watched.state().mark.sequence()
    }

    /// Before something is applied that will be synced.
    pub fn measure(&self) -> Result<(), LogError> {
        let mut state = self.watched.state();
        state.kept = refuse_cut(state.kept, length(&self.log)?)?;
        Ok(())
    }

    /// After it was synced. Durable when it returns.
    pub fn advance(&self, sequence: u64) -> Result<(), LogError> {
        let mut state = self.watched.state();
        let now = refuse_cut(state.kept, length(&self.log)?)?;
        if segments(now) > segments(state.kept) {
            self.log.sync_data()?;
            state.kept = now;
        }
        let kept = state.kept;
        Ok(state.mark.advance(sequence, kept)?)
    }

    /// Whether the mark says less than that: an older sequence, no length, or one before
    /// segments that were filled since.
    pub fn is_ahead_of_mark(&self, sequence: u64) -> io::Result<bool> {
        let now = length(&self.log)?;
        let mark = &self.watched.state().mark;
        let is_longer = |marked| segments(now) > segments(marked);
        Ok(mark.sequence() < sequence || mark.log_bytes().is_none_or(is_longer))
    }
}

impl Drop for WatchedLog {
    /// Until sled has let go of the log it may cut it still.
    fn drop(&mut self) {
        self.watched.is_closed.store(true, Ordering::SeqCst);
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
        state.mark.shorten(length)?;
        state.kept = state.kept.min(length);
        cut()
    }

    /// sled locks a log that it works on: the lock is tried, and given back. A log that was
    /// unlinked is nobody's any more.
    fn is_done(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
            && match open_log(&self.generation) {
                Err(error) => error.kind() == io::ErrorKind::NotFound,
                Ok(log) => {
                    FileId::of(&log).is_ok_and(|id| id != self.file) || log.try_lock().is_ok()
                }
            }
    }
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
        let log = WatchedLog::create(folder.path()).unwrap();
        (folder, log)
    }

    fn marked(folder: &tempfile::TempDir) -> Option<u64> {
        Mark::open(folder.path()).unwrap().log_bytes()
    }

    fn set_len(folder: &tempfile::TempDir, length: u64) -> io::Result<()> {
        open_log(folder.path()).unwrap().set_len(length)
    }

    fn fail(folder: &tempfile::TempDir, how: &str) {
        std::fs::write(folder.path().join(how), "").unwrap();
    }

    #[test]
    fn a_drain_marks_how_long_the_log_is() {
        let (folder, log) = of(MANY);
        assert!(log.is_ahead_of_mark(0).unwrap(), "no length is known");
        assert_eq!(marked(&folder), None);
        log.advance(1).unwrap();
        assert!(!log.is_ahead_of_mark(1).unwrap());
        assert!(log.is_ahead_of_mark(2).unwrap());
        assert_eq!(marked(&folder), Some(MANY));
        set_len(&folder, MANY + SEGMENT as u64).unwrap();
        assert!(log.is_ahead_of_mark(1).unwrap());
        log.advance(1).unwrap();
        assert!(!log.is_ahead_of_mark(1).unwrap());
        assert_eq!(marked(&folder), Some(MANY + SEGMENT as u64));
    }

    #[test]
    fn what_sled_cuts_is_marked_before() {
        let (folder, log) = of(MANY);
        log.advance(1).unwrap();
        fail(&folder, mark::tests::FAIL_ONCE);
        set_len(&folder, MANY / 2).unwrap_err();
        assert_eq!(length(&open_log(folder.path()).unwrap()).unwrap(), MANY);
        for length in [MANY / 2, MANY / 4] {
            set_len(&folder, length).unwrap();
            assert_eq!(marked(&folder), Some(length));
        }
        log.advance(2).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 4));
    }

    /// Its write may have reached the file.
    #[test]
    fn what_sled_cuts_after_a_failed_mark_is_marked_before() {
        let (folder, log) = of(MANY);
        log.advance(1).unwrap();
        set_len(&folder, MANY * 2).unwrap();
        fail(&folder, mark::tests::FAIL_SYNC_ONCE);
        log.advance(2).unwrap_err();
        assert_eq!(marked(&folder), Some(MANY * 2));
        set_len(&folder, MANY + 1).unwrap();
        assert_eq!(marked(&folder), Some(MANY + 1), "which was durable before that mark was");
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
    fn what_others_cut_is_an_error() {
        let (folder, log) = of(MANY);
        log.advance(1).unwrap();
        let path = folder.path().join("db");
        let (seek, of) = (format!("seek={}", MANY - 1), format!("of={}", path.display()));
        let dd = ["if=/dev/null", "bs=1", &seek, &of];
        assert!(std::process::Command::new("dd").args(dd).output().unwrap().status.success());
        let is_told =
            |error| matches!(error, LogError::Cut { was, is } if (was, is) == (MANY, MANY - 1));
        assert!(is_told(log.measure().unwrap_err()));
        assert!(is_told(log.advance(2).unwrap_err()));
        assert_eq!(marked(&folder), Some(MANY));
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
        let (file, sleds) = (log.watched.file, open_log(folder.path()).unwrap());
        sleds.try_lock().unwrap();
        drop(log);
        sleds.set_len(MANY / 2).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 2));
        assert!(matches!(settle(file), Err(LogError::InUse)));
        drop(sleds);
        settle(file).unwrap();
        set_len(&folder, MANY / 4).unwrap();
        assert_eq!(marked(&folder), Some(MANY / 2));
    }

    #[test]
    fn a_closed_log_that_was_unlinked_takes_no_room() {
        let (folder, log) = of(MANY);
        let file = log.watched.file;
        let sleds = open_log(folder.path()).unwrap();
        sleds.try_lock().unwrap();
        drop(log);
        assert!(cuts::is_watched(file));
        std::fs::remove_file(folder.path().join("db")).unwrap();
        drop(sleds);
        let gone = format!("{} (deleted)", folder.path().join("db").display());
        for open in std::fs::read_dir("/proc/self/fd").unwrap() {
            let leads_to = std::fs::read_link(open.unwrap().path()).unwrap_or_default();
            assert_ne!(leads_to.to_str(), Some(gone.as_str()));
        }
        assert!(!cuts::is_watched(file));
    }
}
