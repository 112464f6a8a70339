//! Knows before a file of this process is cut.
//!
//! sled cuts its log whenever what stands last in it is free, in a thread of its own,
//! and says so to nobody. A log that something else has cut looks the same. So the
//! symbol that the standard library gives files another length by is defined here, ahead
//! of libc's, and whoever [watches](watch) a file is asked first.
//!
//! Whether the definition wins is decided when a binary is linked, and [`probe`] proves
//! it. It knows nothing of databases.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static CALLS: AtomicU64 = AtomicU64::new(0);
static WATCHERS: Mutex<Vec<Arc<dyn Watcher>>> = Mutex::new(Vec::new());

/// Asked before a file is given another length.
pub(super) trait Watcher: Send + Sync {
    fn file(&self) -> FileId;

    /// Calls `cut`, or fails, and then the file keeps its length.
    fn cut(&self, length: u64, cut: &dyn Fn() -> io::Result<()>) -> io::Result<()>;

    /// Whether nobody will cut the file any more.
    fn is_done(&self) -> bool;
}

/// Which file it is, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|data| Self { device: data.dev(), inode: data.ino() })
    }
}

/// Until it is done.
pub(super) fn watch(watcher: Arc<dyn Watcher>) {
    watchers().push(watcher);
}

/// Whether somebody still watches the file.
pub(super) fn is_watched(file: FileId) -> bool {
    watchers().iter().any(|watcher| watcher.file() == file)
}

/// Those that are not done.
fn watchers() -> MutexGuard<'static, Vec<Arc<dyn Watcher>>> {
    let mut watchers = WATCHERS.lock().unwrap_or_else(PoisonError::into_inner);
    watchers.retain(|watcher| !watcher.is_done());
    watchers
}

fn cut_watched(file: FileId, length: u64, cut: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
    let known = watchers().iter().find(|watcher| watcher.file() == file).cloned();
    known.map_or_else(cut, |watcher| watcher.cut(length, cut))
}

/// In place of libc's, by which [`File::set_len`] goes; with musl the name is that of both
/// widths.
#[expect(
    unsafe_code,
    reason = "the symbol must be libc's, with its signature (ftruncate(2)); it does what the real \
              one does, by the system call itself"
)]
#[cfg_attr(not(target_env = "musl"), unsafe(no_mangle))]
#[cfg_attr(target_env = "musl", unsafe(export_name = "ftruncate"))]
pub extern "C" fn ftruncate64(file: libc::c_int, length: libc::off64_t) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::SeqCst);
    let cut = || {
        // SAFETY: no pointers, and a descriptor that is none answers EBADF. On the machines of
        // 64 bits that this is compiled for, a register holds a length.
        match unsafe { libc::syscall(libc::SYS_ftruncate, file, length) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let cut = match (descriptor_id(file), u64::try_from(length)) {
        (Some(id), Ok(length)) => cut_watched(id, length, &cut),
        // The system says what is wrong with it.
        _ => cut(),
    };
    let Err(error) = cut else { return 0 };
    // SAFETY: the place of this thread's errno, which libc keeps for as long as it lives.
    unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
    -1
}

const _: () = assert!(usize::BITS == 64, "a length must fit a register");

fn descriptor_id(file: libc::c_int) -> Option<FileId> {
    if file < 0 {
        return None;
    }
    #[expect(unsafe_code, reason = "a caller of ftruncate has a descriptor and nothing else")]
    // SAFETY: not -1, and the caller holds it open for the time of its call. One that is not
    // open answers EBADF.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    let data = rustix::fs::fstat(file).ok()?;
    Some(FileId { device: data.st_dev, inode: data.st_ino })
}

/// Whether the standard library's calls reach the definition above.
pub(super) fn probe() -> bool {
    // Naming it makes the linker take this object file before it looks in libc.
    std::hint::black_box(ftruncate64 as *const ());
    let before = CALLS.load(Ordering::SeqCst);
    let Ok((pipe, _)) = io::pipe() else { return false };
    // No pipe has a length, and the system says so.
    let answer = File::from(OwnedFd::from(pipe)).set_len(0);
    answer.is_err() && CALLS.load(Ordering::SeqCst) > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_of_libc_is_ours() {
        assert!(probe());
    }

    /// Of a file that may be cut once.
    struct Once {
        file: FileId,
        asked: Mutex<Vec<u64>>,
    }

    impl Watcher for Once {
        fn file(&self) -> FileId {
            self.file
        }

        fn cut(&self, length: u64, cut: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(length);
            if asked.len() == 1 { cut() } else { Err(io::ErrorKind::Other.into()) }
        }

        fn is_done(&self) -> bool {
            self.asked.lock().unwrap().len() > 1
        }
    }

    #[test]
    fn whoever_watches_a_file_is_asked_before_it_is_cut() {
        let (file, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let length = |file: &File| file.metadata().unwrap().len();
        [&file, &other].iter().for_each(|file| file.set_len(9).unwrap());
        let id = FileId::of(&file).unwrap();
        let watcher = Arc::new(Once { file: id, asked: Mutex::default() });
        watch(watcher.clone());
        other.set_len(1).unwrap();
        file.try_clone().unwrap().set_len(5).unwrap();
        assert_eq!((length(&file), length(&other)), (5, 1));
        assert_eq!(file.set_len(3).unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(length(&file), 5);
        assert!(!is_watched(id));
        file.set_len(3).unwrap();
        assert_eq!(length(&file), 3);
        assert_eq!(*watcher.asked.lock().unwrap(), [5, 3]);
    }

    #[test]
    fn what_the_system_refuses_is_refused_as_it_does() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = File::open(file.path()).unwrap().set_len(1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
