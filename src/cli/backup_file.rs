//! A backup, or an export, as a file: under its name only when it is whole and durable.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::data::cannot;
use super::failure::{CliError, Exit};
use super::internal;
use crate::domain::Timestamp;

/// Standard input or output.
const STANDARD: &str = "-";
/// Behind the name of a file that is not whole.
pub(super) const PARTIAL: &str = "partial";

/// What becomes of a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refused,
    Replaced,
}

/// A moment as it stands in a file's name: `20300131T120000Z`.
pub(super) fn stamp(at: Timestamp) -> String {
    Timestamp::from_unix_seconds(at.unix_seconds()).to_string().replace(['-', ':'], "")
}

/// Writes what comes, until nothing does any more.
pub(super) async fn write_pieces(
    mut file: File,
    mut pieces: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        file.write_all(&piece)?;
    }
    Ok(())
}

/// A file that is being written to `<name>.partial`, which is gone again unless
/// it is [kept](NewFile::keep). One left by a crash is taken over.
pub(super) struct NewFile {
    /// Locked: nobody else writes it.
    file: File,
    existing: Existing,
    path: PathBuf,
    partial: PathBuf,
    kept: bool,
}

impl NewFile {
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        Self::begin(path, Existing::Refused)
    }

    pub(super) fn begin(path: &Path, existing: Existing) -> Result<Self, CliError> {
        if existing == Existing::Refused {
            refuse_existing(path)?;
        }
        let partial = partial_of(path);
        let failed = |error: io::Error| cannot("write", &partial, &error);
        let mut options = File::options();
        // Cut only when it is known to be nobody's; never through a link that
        // somebody laid.
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&partial);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(CliError::unavailable(format!(
                    "another tenure writes {}; wait for it, or name another file",
                    partial.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let new = Self { file, existing, path: path.to_owned(), partial, kept: false };
        // What was found there may have been anyone's to read.
        let ours = new.file.set_permissions(Permissions::from_mode(0o600));
        ours.and_then(|()| new.file.set_len(0))
            .map_err(|error| cannot("write", &new.partial, &error))?;
        Ok(new)
    }

    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What was written, to be read before it is kept.
    pub(super) fn reader(&self) -> io::Result<File> {
        File::open(&self.partial)
    }

    /// Makes it durable, then gives it its name.
    pub(super) fn keep(mut self) -> Result<(), CliError> {
        let failed = |error: io::Error| cannot("write", &self.path, &error);
        self.file.sync_all().map_err(failed)?;
        match self.existing {
            Existing::Refused => rename_to_new(&self.partial, &self.path)?,
            Existing::Replaced => fs::rename(&self.partial, &self.path).map_err(failed)?,
        }
        self.kept = true;
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is taken over by the next, and was never a backup.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    PathBuf::from(name)
}

fn exists(path: &Path) -> CliError {
    CliError {
        exit: Exit::Conflict,
        message: format!(
            "{} exists, and is not written over; name another file, or remove it",
            path.display()
        ),
    }
}

fn refuse_existing(path: &Path) -> Result<(), CliError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(exists(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot("write", path, &error)),
    }
}

/// Never over a file, not even one that came to be meanwhile; but for file systems
/// that cannot promise it.
fn rename_to_new(from: &Path, to: &Path) -> Result<(), CliError> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists(to)),
        Err(Errno::INVAL | Errno::NOSYS) => {
            refuse_existing(to)?;
            fs::rename(from, to).map_err(|error| cannot("write", to, &error))
        }
        Err(error) => Err(cannot("write", to, &error.into())),
    }
}

/// Where a backup goes.
pub(super) enum Target {
    File(NewFile),
    Standard,
}

impl Target {
    pub(super) fn named(name: &Path) -> Result<Self, CliError> {
        if name != Path::new(STANDARD) {
            return NewFile::create(name).map(Self::File);
        }
        if io::IsTerminal::is_terminal(&io::stdout()) {
            return Err(CliError::usage(
                "a backup is no text for a terminal; pipe it on, or name a file",
            ));
        }
        Ok(Self::Standard)
    }

    pub(super) fn writer(&self) -> Result<Box<dyn Write>, CliError> {
        match self {
            Self::File(file) => Ok(Box::new(file.writer().map_err(internal)?)),
            Self::Standard => Ok(Box::new(io::stdout())),
        }
    }

    pub(super) fn keep(self) -> Result<(), CliError> {
        match self {
            Self::File(file) => file.keep(),
            Self::Standard => io::stdout().flush().map_err(internal),
        }
    }
}

/// A backup to be read, and how long it is where that is known.
pub(super) fn open(name: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), CliError> {
    if name == Path::new(STANDARD) {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CliError {
            exit: Exit::NotFound,
            message: format!("there is no file {}", name.display()),
        },
        _ => cannot("read", name, &error),
    };
    let file = File::open(name).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(CliError::usage(format!("{} is a folder, not a backup", name.display())));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let new = NewFile::create(&path).unwrap();
        new.writer().unwrap().write_all(b"half").unwrap();
        assert_eq!(names(folder.path()), ["b.partial"]);
        drop(new);
        assert_eq!(names(folder.path()), [""; 0]);

        fs::write(folder.path().join("b.partial"), "what a crash left, and longer").unwrap();
        let new = NewFile::create(&path).unwrap();
        new.writer().unwrap().write_all(b"whole").unwrap();
        new.keep().unwrap();
        assert_eq!(names(folder.path()), ["b"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_in_the_place_of_the_new_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("b"), folder.path().join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join("b.partial")).unwrap();
        assert!(NewFile::create(&path).is_err());
        assert_eq!(fs::read(&other).unwrap(), b"precious");
    }

    #[test]
    fn one_that_may_be_replaced_is_when_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        fs::write(&path, "old").unwrap();
        let new = NewFile::begin(&path, Existing::Replaced).unwrap();
        new.writer().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        new.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["b"]);
    }

    #[test]
    fn nothing_is_written_over_and_two_do_not_write_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let new = NewFile::create(&path).unwrap();
        assert_eq!(NewFile::create(&path).err().unwrap().exit, Exit::Unavailable);
        fs::write(&path, "came to be meanwhile").unwrap();
        assert_eq!(new.keep().unwrap_err().exit, Exit::Conflict);
        assert_eq!(NewFile::create(&path).err().unwrap().exit, Exit::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"came to be meanwhile");
        assert_eq!(names(folder.path()), ["b"]);
    }
}
