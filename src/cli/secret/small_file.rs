//! A file of a project's folder, which may have come with somebody's code: it is read only
//! where it is a plain and short one. A pipe would be waited for, and a device has no end.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// It is a few lines.
const MOST_BYTES: u64 = 64 * 1024;

pub(super) struct SmallFile {
    pub(super) about: Metadata,
    file: File,
}

impl SmallFile {
    /// `None` where there is none, or in a folder that is not ours to look into.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = match options.open(path) {
            Err(error) if is_absence(&error) => return Ok(None),
            opened => opened?,
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no plain file"));
        }
        Ok(Some(Self { about, file }))
    }

    pub(super) fn text(self) -> io::Result<Zeroizing<String>> {
        // Reserved at once: a buffer that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(String::with_capacity(MOST_BYTES as usize + 1));
        self.file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MOST_BYTES {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "it is longer than 64 KiB"));
        }
        Ok(text)
    }
}

fn is_absence(error: &io::Error) -> bool {
    let absences = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::PermissionDenied];
    absences.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
        SmallFile::open(path)?.map(SmallFile::text).transpose()
    }

    #[test]
    fn only_a_plain_and_short_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "text").unwrap();
        assert_eq!(text(&at("plain")).unwrap().unwrap().as_str(), "text");
        assert!(text(&at("absent")).unwrap().is_none());
        assert!(text(&at("plain/below")).unwrap().is_none());
        std::fs::write(at("long"), vec![b'x'; MOST_BYTES as usize + 1]).unwrap();
        assert!(text(&at("long")).unwrap_err().to_string().contains("64 KiB"));
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        for name in ["endless", "pipe", "."] {
            assert!(text(&at(name)).unwrap_err().to_string().contains("no plain file"), "{name}");
        }
    }
}
