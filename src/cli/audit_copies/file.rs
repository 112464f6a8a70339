//! A file that copies of the audit are appended to: a JSON object in each line.
//!
//! Guaranteed here: only its owner may read a file that is made here; a full disk gets no
//! part of a line, where its file system can reserve room; a line that was torn all the
//! same ends before the next one begins; a file that was renamed or removed is left for a
//! new one, so that nothing goes where nobody looks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use crate::api::audit::CopiedEntry;
use crate::vault::CopyTaker;

pub(super) struct AuditFile {
    path: PathBuf,
    state: State,
}

enum State {
    Closed,
    /// It ends with a whole line.
    Open(File),
    /// Writing to it failed somewhere in a line.
    Torn(File),
}

impl CopyTaker for AuditFile {
    /// Appends all, or fails; then some may be there, and a repetition is whole.
    fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)?;
            lines.push(b'\n');
        }
        let mut file = self.current()?;
        if let Err(error) = reserve(&file, lines.len()) {
            self.state = State::Open(file);
            return Err(error);
        }
        let written = file.write_all(&lines);
        self.state = if written.is_ok() { State::Open(file) } else { State::Torn(file) };
        written
    }

    /// What was appended is on the disk.
    fn settle(&mut self) -> io::Result<()> {
        match &self.state {
            State::Closed => Ok(()),
            State::Open(file) | State::Torn(file) => sync(file),
        }
    }

    /// The one that was renamed is let go, and the one in its place is there at once.
    fn reopen(&mut self) {
        if let Ok(file) = self.current() {
            self.state = State::Open(file);
        }
    }
}

impl AuditFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: State::Closed }
    }

    /// The file that is at the path now, at the beginning of a line. It is given back when
    /// all was written.
    fn current(&mut self) -> io::Result<File> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(file) if self.is_at_the_path(&file) => Ok(file),
            State::Open(left) | State::Torn(left) => {
                if let Err(error) = sync(&left) {
                    // Whoever settles is told too.
                    self.state = State::Torn(left);
                    return Err(error);
                }
                self.begin()
            }
            State::Closed => self.begin(),
        }
    }

    fn is_at_the_path(&self, file: &File) -> bool {
        let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        (open.dev(), open.ino()) == (there.dev(), there.ino())
    }

    fn begin(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        // Nobody who reads a pipe must keep this waiting.
        let options = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let mut file = options.open(&self.path)?;
        if ends_within_a_line(&mut file)? {
            file.write_all(b"\n")?;
        }
        Ok(file)
    }
}

/// Room for so many bytes at its end. What cannot reserve any, a device or some file systems,
/// says itself what it has no room for.
fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let end = file.metadata()?.len();
    match fallocate(file, FallocateFlags::KEEP_SIZE, end, bytes as u64) {
        Err(full @ (Errno::NOSPC | Errno::DQUOT)) => Err(full.into()),
        _ => Ok(()),
    }
}

/// A device or a pipe keeps nothing that could be synced.
fn sync(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.sync_data() } else { Ok(()) }
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::copy;
    use super::*;
    use std::path::Path;

    fn numbered(number: u64) -> [CopiedEntry; 1] {
        [copy(number)]
    }

    /// The numbers in a file; `None` for a line that is no object.
    fn numbers(path: &Path) -> Vec<Option<u64>> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let number = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["number"].as_u64()
        };
        text.lines().map(number).collect()
    }

    #[test]
    fn lines_are_appended_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        AuditFile::new(path.clone()).take(&numbered(1)).unwrap();
        let mut file = AuditFile::new(path.clone());
        file.take(&numbered(2)).unwrap();
        file.take(&numbered(3)).unwrap();
        file.settle().unwrap();
        assert_eq!(numbers(&path), [Some(1), Some(2), Some(3)]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_renamed_is_left_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let mut file = AuditFile::new(path.clone());
        file.take(&numbered(1)).unwrap();
        fs::rename(&path, &old).unwrap();
        file.take(&numbered(2)).unwrap();
        assert_eq!(numbers(&old), [Some(1)]);
        assert_eq!(numbers(&path), [Some(2)]);
    }

    #[test]
    fn a_folder_may_vanish_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let mut file = AuditFile::new(logs.join("audit.jsonl"));
        file.take(&numbered(1)).unwrap();
        fs::remove_dir_all(&logs).unwrap();
        let refused = file.take(&numbered(2)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        fs::create_dir(&logs).unwrap();
        file.take(&numbered(2)).unwrap();
        assert_eq!(numbers(&logs.join("audit.jsonl")), [Some(2)]);
    }

    #[test]
    fn a_torn_line_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        fs::write(&path, "{\"chain\":null,\"num").unwrap();
        AuditFile::new(path.clone()).take(&numbered(1)).unwrap();
        assert_eq!(numbers(&path), [None, Some(1)]);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut file = AuditFile::new("/dev/full".into());
        let refused = file.take(&numbered(1)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        let again = file.take(&numbered(1)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_new_file_is_there_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
        let mut file = AuditFile::new(path.clone());
        file.take(&numbered(1)).unwrap();
        fs::rename(&path, &old).unwrap();
        file.reopen();
        assert_eq!(numbers(&path), []);
        file.take(&numbered(2)).unwrap();
        assert_eq!(numbers(&path), [Some(2)]);
    }
}
