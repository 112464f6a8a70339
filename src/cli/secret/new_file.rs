//! A file of secrets that is written whole or not at all.
//!
//! It has no name before it is whole, where the file system allows that: whatever ends
//! this process before, nothing of it stays on the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::data::cannot;
use super::super::failure::{CliError, Exit};
use super::whole_file::{folder_of, link, nameless};

/// What may be in the place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Nothing,
    /// A file, which gives way in one act.
    AFile,
}

/// Writes a file that only its owner may read.
pub(super) fn write(path: &Path, contents: &[u8], over: Over) -> Result<(), CliError> {
    let there = look(path, over)?;
    let folder = folder_of(path);
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => cannot("write", path, &error),
    };
    let written = match nameless(folder) {
        Ok(file) => fill(&file, contents).and_then(|()| give_name(&file, path, there)),
        Err(error) if without_nameless(error) => by_name(path, contents, there),
        Err(error) => Err(error.into()),
    };
    written.and_then(|()| File::open(folder)?.sync_all()).map_err(failed)
}

/// Whether a file will give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    AFile,
}

fn look(path: &Path, over: Over) -> Result<There, CliError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(There::Nothing),
        Err(error) => Err(cannot("write", path, &error)),
        Ok(_) if over == Over::Nothing => Err(exists(path)),
        Ok(found) if found.is_file() => Ok(There::AFile),
        Ok(_) => Err(CliError::usage(format!(
            "{} is no file that could be replaced; name another",
            path.display()
        ))),
    }
}

fn exists(path: &Path) -> CliError {
    CliError {
        exit: Exit::Conflict,
        message: format!(
            "{} exists; name another file, or say --force to replace it",
            path.display()
        ),
    }
}

/// Some file systems have no such files.
fn without_nameless(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL].contains(&error)
}

fn fill(mut file: &File, contents: &[u8]) -> io::Result<()> {
    file.write_all(contents)?;
    file.sync_all()
}

/// A link takes no other's place, so that one over a file has another name for a moment.
fn give_name(file: &File, path: &Path, there: There) -> io::Result<()> {
    if there == There::Nothing {
        return link(file, path);
    }
    let passing = passing_name(path)?;
    link(file, &passing)?;
    replace(&passing, path)
}

fn by_name(path: &Path, contents: &[u8], there: There) -> io::Result<()> {
    let passing = passing_name(path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(&passing, flags, Mode::RUSR | Mode::WUSR)?);
    let filled = fill(&file, contents);
    let placed = filled.and_then(|()| match there {
        There::AFile => replace(&passing, path),
        There::Nothing => {
            let flags = RenameFlags::NOREPLACE;
            Ok(rustix::fs::renameat_with(CWD, &passing, CWD, path, flags)?)
        }
    });
    if placed.is_err() {
        // Why it failed says more than that this did too.
        let _ = fs::remove_file(&passing);
    }
    placed
}

fn replace(passing: &Path, path: &Path) -> io::Result<()> {
    fs::rename(passing, path).inspect_err(|_| {
        // Why it failed says more than that this did too.
        let _ = fs::remove_file(passing);
    })
}

/// Beside it, and free: what a killed predecessor left there is removed.
fn passing_name(path: &Path) -> io::Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let passing = path.with_file_name(name);
    match fs::remove_file(&passing) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(passing),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_its_owners_alone_and_takes_no_others_place_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        write(&path, b"first", Over::Nothing).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = write(&path, b"second", Over::Nothing).unwrap_err();
        assert_eq!(refused.exit, Exit::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write(&path, b"third", Over::AFile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn a_file_that_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        let file = nameless(folder.path()).unwrap();
        fs::write(&path, "theirs").unwrap();
        let refused = give_name(&file, &path, There::Nothing).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        let refused = by_name(&path, b"ours", There::Nothing).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn where_every_file_has_a_name_it_is_written_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        by_name(&path, b"first", There::Nothing).unwrap();
        by_name(&path, b"second", There::AFile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn what_is_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let refused = write(folder.path(), b"x", Over::AFile).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        let absent = folder.path().join("absent/out.json");
        assert!(write(&absent, b"x", Over::Nothing).unwrap_err().message.contains("folder first"));
    }
}
