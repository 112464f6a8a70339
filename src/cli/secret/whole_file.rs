//! Putting a file into its place as a whole, with its mode, or not at all.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::super::failure::CliError;

/// Replaces the file at `path`, or makes it. Nobody sees a part of it: it has no name
/// before it is whole and synced, so that what ends the process until then leaves nothing.
/// No call gives a nameless file the name of another, so that it has one of its own for
/// the moment between two calls.
///
/// The new file belongs to who runs this. What is there and no plain file is left alone:
/// a link may lead to where nobody looked, and a device or a pipe cannot be replaced.
pub(super) fn put(path: &Path, contents: &[u8], mode: u32) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        CliError::usage(format!("{} cannot be written: {error}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => {
            return Err(CliError::usage(format!(
                "{} is no plain file, and is not replaced; name the file itself",
                path.display()
            )));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", hex::encode(crate::crypto::random::<8>())));
    let hidden = folder.join(hidden);
    let placed = match nameless(folder) {
        Ok(file) => fill(&file, contents, mode).and_then(|()| link(&file, &hidden)),
        // A file system that has none, such as some that come over a network.
        Err(_) => named(&hidden).and_then(|file| fill(&file, contents, mode)),
    };
    let placed = placed.and_then(|()| fs::rename(&hidden, path));
    placed.and_then(|()| File::open(folder)?.sync_all()).map_err(|error| {
        // It may not have come so far.
        let _ = fs::remove_file(&hidden);
        failed(error)
    })
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file of its owner's alone that nobody can open: it has no name.
pub(super) fn nameless(folder: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

fn named(path: &PathBuf) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn fill(mut file: &File, contents: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(contents)?;
    // Whatever the umask takes away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Gives a nameless file a name, which nothing may have yet.
pub(super) fn link(file: &File, name: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
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
        let path = folder.path().join("file");
        for (contents, mode) in [(b"one".as_slice(), 0o600), (b"two", 0o644), (b"", 0o400)] {
            put(&path, contents, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read(&path).unwrap(), contents);
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn what_is_no_plain_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        fs::write(&there, "as it was").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        for path in [link.as_path(), folder.path()] {
            let refused = put(path, b"new", 0o600).unwrap_err();
            assert!(refused.message.contains("no plain file"), "{refused:?}");
        }
        assert_eq!(fs::read(&there).unwrap(), b"as it was");
        let nowhere = put(&folder.path().join("no/where"), b"new", 0o600).unwrap_err();
        assert!(nowhere.message.contains("cannot be written"), "{nowhere:?}");
        assert_eq!(names(folder.path()).len(), 2);
    }
}
