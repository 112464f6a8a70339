//! Folders of a database on disk: syncing them, counting them, and which
//! generation of a database is the current one.
//!
//! A database stands in `<store>/<name>/<generation>/`; the file `CURRENT` beside
//! the generations holds the number of the one that counts, and is replaced
//! atomically. What this module did is durable when it returns. It knows nothing
//! of what stands in the files.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes a folder that only its owner may enter, durably; it may exist.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    sync_parent(folder)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Makes a file of these parts or replaces it, as a whole, by way of a draft in its
/// folder.
pub(super) fn replace(path: &Path, draft: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Every file below `folder`, every folder, and the entry of `folder` itself.
pub(super) fn sync_everything(folder: &Path) -> io::Result<()> {
    sync_below(folder)?;
    sync_parent(folder)
}

fn sync_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_below(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// Stands in a generation while a write to it has failed and it was not opened
/// since.
const DOUBT: &str = "doubt";
/// More than an opening writes before it frees anything.
const TRIAL_BYTES: usize = 2 << 20;

/// After a failed write: shows whether the disk takes writes again, and notes that
/// [`write_again`] is to be called. The note need not outlast a power cut, since
/// what it is about does not.
pub(super) fn try_writing(generation: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(generation.join(DOUBT))?;
    let tried = file.write_all(&vec![0; TRIAL_BYTES]).and_then(|()| file.sync_all());
    // What it took is needed, all the more where it was not enough.
    tried.and(file.set_len(0))
}

/// Makes the files of a generation durable after a failed write, if there was one.
///
/// When a sync fails, Linux takes the pages for clean that it could not write. They
/// are read as they were written, no later sync writes them, and a power cut
/// forgets them (Rebello et al., Can Applications Recover from fsync Failures?,
/// USENIX ATC 2020): what is built on them would fall with them. Written once more,
/// the same bytes are synced like any others.
pub(super) fn write_again(generation: &Path) -> io::Result<()> {
    let note = generation.join(DOUBT);
    if !note.try_exists()? {
        return Ok(());
    }
    for entry in fs::read_dir(generation)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != DOUBT {
            write_file_again(&entry.path())?;
        }
    }
    fs::remove_file(&note)?;
    sync_folder(generation)
}

fn write_file_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        let (bytes, _) = buffer.split_at(read);
        if bytes.is_empty() {
            return file.sync_all();
        }
        file.write_all_at(bytes, at)?;
        at += read as u64;
    }
}

/// Whether a folder holds nothing; a missing one does not.
pub(super) fn is_empty(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => Ok(entries?.next().is_none()),
    }
}

/// Bytes of all files below `folder`; files that vanish meanwhile do not count.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// What an unprivileged process may still write to the file system of `folder`.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The generation that counts, or `None` if there never was one. A `CURRENT`
/// that holds anything but a number is an error of kind `InvalidData`.
pub(super) fn current_generation(database: &Path) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(database.join("CURRENT")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let number = text.strip_suffix('\n').and_then(|number| number.parse().ok());
    number.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(super) fn set_current_generation(database: &Path, generation: u64) -> io::Result<()> {
    let (path, draft) = (database.join("CURRENT"), database.join("CURRENT.new"));
    replace(&path, &draft, &[format!("{generation}\n").as_bytes()])?;
    sync_parent(database)
}

pub(super) fn generation_folder(database: &Path, generation: u64) -> PathBuf {
    database.join(generation.to_string())
}

/// Unlinks every generation but one: what a crash left of a generation that
/// never counted, or of one that no longer does.
pub(super) fn remove_other_generations(database: &Path, keep: Option<u64>) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if number.is_some() && number != keep {
            fs::remove_dir_all(entry.path())?;
        }
    }
    sync_folder(database)
}
