//! Putting a file into its place as a whole, with its mode, or not at all.
//!
//! It has no name before it is whole and synced, where the file system allows that: what
//! ends this process before leaves nothing of it. No call gives a nameless file the name
//! of another, so that one over a file has a name of its own for the moment between two
//! calls.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::data::cannot;
use super::super::failure::{CliError, Exit};

/// What may be in the place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Nothing,
    /// A plain file, which gives way in one act. A link may lead to where nobody looked, and
    /// a device or a pipe cannot be replaced.
    AFile,
}

/// Puts it there. It belongs to who runs this.
pub(super) fn put(path: &Path, contents: &[u8], mode: u32, over: Over) -> Result<(), CliError> {
    let there = look(path, over)?;
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => cannot("write", path, &error),
    };
    let folder = folder_of(path);
    let written = match nameless(folder) {
        Ok(file) => fill(&file, contents, mode).and_then(|()| give_name(&file, path, there)),
        Err(error) if without_nameless(error) => by_name(path, contents, mode, there),
        Err(error) => Err(error.into()),
    };
    written.map_err(failed)?;
    // It is in its place. In a folder that we cannot open, nobody can say more.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
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
            "{} is no plain file, and is not replaced; name the file itself",
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

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file of its owner's alone that nobody can open: it has no name.
fn nameless(folder: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Some file systems have no such files, such as some that come over a network.
fn without_nameless(error: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL].contains(&error)
}

fn fill(mut file: &File, contents: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(contents)?;
    // Whatever the umask takes away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// A link takes no other's place.
fn give_name(file: &File, path: &Path, there: There) -> io::Result<()> {
    if there == There::Nothing {
        return link(file, path);
    }
    let passing = passing_name(path);
    link(file, &passing)?;
    replace(&passing, path)
}

/// Gives a nameless file a name, which nothing may have yet.
fn link(file: &File, name: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

fn by_name(path: &Path, contents: &[u8], mode: u32, there: There) -> io::Result<()> {
    let passing = passing_name(path);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&passing)?;
    let filled = fill(&file, contents, mode);
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

/// Beside it. Of no file's own name, which may be as long as names can be.
fn passing_name(path: &Path) -> PathBuf {
    path.with_file_name(format!(".tenure-{}.tmp", hex::encode(crate::crypto::random::<8>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(255));
        for (contents, mode) in [(b"one".as_slice(), 0o600), (b"two", 0o644), (b"", 0o400)] {
            put(&path, contents, mode, Over::AFile).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read(&path).unwrap(), contents);
            assert_eq!(names(folder.path()), ["n".repeat(255)]);
        }
    }

    #[test]
    fn a_file_takes_no_others_place_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        put(&path, b"first", 0o600, Over::Nothing).unwrap();
        let refused = put(&path, b"second", 0o600, Over::Nothing).unwrap_err();
        assert_eq!(refused.exit, Exit::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"first");
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
        let refused = by_name(&path, b"ours", 0o600, There::Nothing).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn where_every_file_has_a_name_it_is_written_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.json");
        by_name(&path, b"first", 0o600, There::Nothing).unwrap();
        by_name(&path, b"second", 0o640, There::AFile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(names(folder.path()), ["out.json"]);
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        fs::write(&there, "as it was").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        for path in [link.as_path(), folder.path()] {
            let refused = put(path, b"new", 0o600, Over::AFile).unwrap_err();
            assert!(refused.message.contains("no plain file"), "{refused:?}");
        }
        assert_eq!(fs::read(&there).unwrap(), b"as it was");
        for over in [Over::Nothing, Over::AFile] {
            let nowhere = put(&folder.path().join("no/where"), b"new", 0o600, over).unwrap_err();
            assert!(nowhere.message.contains("make its folder first"), "{nowhere:?}");
        }
        assert_eq!(names(folder.path()).len(), 2);
    }
}
