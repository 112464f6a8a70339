//! `kek.source = "file"`: a file that its owner alone can read.
//!
//! A rotation puts the next KEK beside it, into `<file>.new`, before the store comes
//! under that, and gives it the file's name afterwards. Whatever a crash leaves, one of
//! the two is the KEK of the store: who reads them takes the one that proves, and
//! finishes the renaming where it is the next one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::data::{PrivateText, cannot, write_private_as};
use super::{CliError, LOST, Material, NewKek, Plain, Proved, refuse_key_as_name};
use crate::crypto::{Kek, KekRecord, KekWay};

pub(super) struct Source(pub(super) Option<PathBuf>);

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        let place = Place::of(self.0.as_deref())?;
        let next = place.next().unwrap_or_else(|error| {
            log::warn!("the KEK of a rotation is passed over: {}", error.message);
            None
        });
        match (place.current(), next) {
            (Ok(kek), None) => Ok(Box::new(Plain { kek, way: KekWay::File })),
            (Err(error), None) => Err(error),
            (current, Some(next)) => Ok(Box::new(Rotating { place, current, next })),
        }
    }

    fn create(&self) -> Result<NewKek, CliError> {
        let place = Place::of(self.0.as_deref())?;
        let way = KekWay::File;
        match fs::symlink_metadata(place.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let kek = Kek::generate();
                let created = Some(place.create(&kek)?);
                Ok(NewKek { kek, way, created })
            }
            _ => Ok(NewKek { kek: place.current()?, way, created: None }),
        }
    }

    fn protection(&self) -> String {
        let file = self.0.as_deref().unwrap_or(Path::new("")).display();
        format!(
            "The KEK is in the file {file}. Whoever can read that file has it: its owner, root, \
             and who has a backup or the disk that it is on. {LOST}"
        )
    }
}

/// Where the KEK is, and what a rotation puts beside it.
pub(super) struct Place(PathBuf);

/// What becomes of the KEK that another one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old {
    /// It gets a name of its own: backups of its time need it.
    Kept,
    Removed,
}

impl Place {
    /// Behind links: what is replaced is the file, not a link to it.
    pub(super) fn of(file: Option<&Path>) -> Result<Self, CliError> {
        let file = file.ok_or_else(|| {
            CliError::usage(
                "kek.source is \"file\" and kek.file is not set; set it, or TENURE_KEK_FILE",
            )
        })?;
        let file = named(file)?;
        Ok(Self(fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn next_path(&self) -> PathBuf {
        self.beside("new")
    }

    /// Where the KEK of this fingerprint is kept once it was replaced.
    pub(super) fn old_path(&self, fingerprint: &str) -> PathBuf {
        self.beside(fingerprint)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.0.clone().into_os_string();
        path.push(format!(".{ending}"));
        PathBuf::from(path)
    }

    pub(super) fn current(&self) -> Result<Kek, CliError> {
        read(&self.0, Readers::Owner, |path| {
            format!(
                "there is no KEK at {}: copy the one of this store there, or look at kek.file",
                path.display()
            )
        })
    }

    /// What a rotation that has not ended left; `None` where there is none.
    pub(super) fn next(&self) -> Result<Option<Kek>, CliError> {
        let path = self.next_path();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => {
                read(&path, Readers::Owner, |path| format!("{} is gone", path.display())).map(Some)
            }
        }
    }

    /// Makes the file, which is not there.
    pub(super) fn create(&self, kek: &Kek) -> Result<PathBuf, CliError> {
        write(&self.0, kek, None)?;
        Ok(self.0.clone())
    }

    /// Durable when it returns, and of whom the present one is.
    pub(super) fn write_next(&self, kek: &Kek) -> Result<(), CliError> {
        let present = fs::metadata(&self.0).ok();
        write(&self.next_path(), kek, present.as_ref())
    }

    /// Gives the next KEK, which is the store's now, the name of the file. Answers
    /// where the one of before is kept. Done again, it changes nothing.
    pub(super) fn settle(
        &self,
        record: &KekRecord,
        next: &Kek,
        old: Old,
    ) -> Result<Option<PathBuf>, CliError> {
        let present = match self.current() {
            Err(_) if !self.0.exists() || old == Old::Removed => None,
            // One that cannot be read just now is an old KEK all the same.
            present => Some(present?),
        };
        if present.as_ref().is_some_and(|present| present.is(next)) {
            return Ok(None);
        }
        let kept = match (present, old) {
            (Some(present), Old::Kept) => Some(self.keep(record, &present)?),
            _ => None,
        };
        let failed = |error: std::io::Error| cannot("rename", &self.next_path(), &error);
        fs::rename(self.next_path(), &self.0).map_err(failed)?;
        let folder = self.0.parent().unwrap_or(Path::new("/"));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(kept)
    }

    /// Gives the present KEK a second name, so that there is no moment without one.
    fn keep(&self, record: &KekRecord, present: &Kek) -> Result<PathBuf, CliError> {
        let kept = self.old_path(&record.fingerprint_of(present));
        match fs::hard_link(&self.0, &kept) {
            Ok(()) => Ok(kept),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = read(&kept, Readers::Owner, |_| String::new());
                if there.is_ok_and(|there| there.is(present)) {
                    return Ok(kept);
                }
                Err(CliError::usage(format!(
                    "{} is in the way: the old KEK is kept there; move it elsewhere",
                    kept.display()
                )))
            }
            // Not every file system has links.
            Err(_) => {
                write(&kept, present, fs::metadata(&self.0).ok().as_ref())?;
                Ok(kept)
            }
        }
    }
}

/// A file, and the next KEK beside it.
struct Rotating {
    place: Place,
    current: Result<Kek, CliError>,
    next: Kek,
}

impl Material for Rotating {
    fn prove(self: Box<Self>, record: &KekRecord) -> Result<Option<Proved>, CliError> {
        let Self { place, current, next } = *self;
        let way = KekWay::File;
        match current {
            Ok(kek) if record.is_of(&kek) => return Ok(Some(Proved { kek, way })),
            Err(error) if !record.is_of(&next) => return Err(error),
            Ok(_) if !record.is_of(&next) => return Ok(None),
            _ => {}
        }
        match place.settle(record, &next, Old::Kept) {
            Ok(_) => log::info!("finished a rotation: {} is the new KEK", place.path().display()),
            Err(error) => log::warn!(
                "the KEK of this store is at {}, and it must be renamed to {}: {}",
                place.next_path().display(),
                place.path().display(),
                error.message
            ),
        }
        Ok(Some(Proved { kek: next, way }))
    }
}

fn named(file: &Path) -> Result<&Path, CliError> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    refuse_key_as_name("kek.file", name)?;
    Ok(file)
}

/// Reads the KEK from a file that was named for it alone.
pub(in crate::cli) fn from_named_file(path: &Path) -> Result<Kek, CliError> {
    read(named(path)?, Readers::Owner, |path| {
        format!("there is no KEK at {}; name the file that holds it", path.display())
    })
}

/// Who may be able to read a file that holds a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    /// Its group too: systemd lets a service's user read a credential by that.
    NotOthers,
}

impl Readers {
    fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::NotOthers => 0o007,
        }
    }
}

/// `missing`: what to say where there is no such file.
pub(super) fn read(
    path: &Path,
    readers: Readers,
    missing: impl FnOnce(&Path) -> String,
) -> Result<Kek, CliError> {
    let named = format!("the KEK at {}", path.display());
    let text = PrivateText { path, forbidden: readers.forbidden(), named };
    let text = text.read(|| missing(path))?;
    Kek::parse(&text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

fn write(path: &Path, kek: &Kek, like: Option<&fs::Metadata>) -> Result<(), CliError> {
    let text = kek.to_text();
    let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
    line.push_str(&text);
    line.push('\n');
    write_private_as(path, line.as_bytes(), like)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Source as _;
    use super::*;
    use crate::crypto::StoreId;

    struct Bench {
        _folder: tempfile::TempDir,
        place: Place,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let place = Place(folder.path().canonicalize().unwrap().join("kek"));
            Self { _folder: folder, place }
        }

        fn proved(&self, record: &KekRecord) -> Result<Option<Kek>, CliError> {
            let material = Source(Some(self.place.0.clone())).fetch()?;
            Ok(material.prove(record)?.map(|proved| proved.kek))
        }

        fn is_there(&self, ending: &str) -> bool {
            self.place.beside(ending).exists()
        }
    }

    fn record_of(kek: &Kek) -> KekRecord {
        let store_id = StoreId::from_bytes([7; 16]);
        KekRecord { store_id, check: kek.for_store(store_id).check_value(), origin: None }
    }

    #[test]
    fn of_a_file_and_the_next_one_the_one_that_proves_is_taken() {
        let bench = Bench::new();
        let (old, next, other) = (Kek::generate(), Kek::generate(), Kek::generate());
        write(bench.place.path(), &old, None).unwrap();
        bench.place.write_next(&next).unwrap();
        assert!(bench.proved(&record_of(&other)).unwrap().is_none());
        assert!(bench.proved(&record_of(&old)).unwrap().unwrap().is(&old));
        assert!(bench.is_there("new"), "one that is under way is left alone");

        let record = record_of(&next);
        assert!(bench.proved(&record).unwrap().unwrap().is(&next));
        assert!(!bench.is_there("new"), "what was left to do is done");
        assert!(bench.place.current().unwrap().is(&next));
        let kept = bench.place.old_path(&record.fingerprint_of(&old));
        assert!(from_named_file(&kept).unwrap().is(&old));
        assert!(bench.proved(&record).unwrap().unwrap().is(&next));
    }

    #[test]
    fn a_next_kek_serves_where_the_file_itself_is_gone() {
        let bench = Bench::new();
        let next = Kek::generate();
        bench.place.write_next(&next).unwrap();
        let said = bench.proved(&record_of(&Kek::generate())).unwrap_err().message;
        assert!(said.contains("there is no KEK at"), "{said}");
        assert!(bench.proved(&record_of(&next)).unwrap().unwrap().is(&next));
        assert!(bench.place.current().unwrap().is(&next));
    }

    #[test]
    fn a_rotation_is_settled_once_whoever_does_it() {
        let bench = Bench::new();
        let (old, next) = (Kek::generate(), Kek::generate());
        let record = record_of(&next);
        write(bench.place.path(), &old, None).unwrap();
        bench.place.write_next(&next).unwrap();
        // A crash after the first half leaves the old one under both names.
        bench.place.keep(&record, &old).unwrap();
        assert!(bench.place.settle(&record, &next, Old::Kept).unwrap().is_some());
        assert_eq!(bench.place.settle(&record, &next, Old::Kept).unwrap(), None);
        assert!(bench.place.current().unwrap().is(&next));
    }

    #[test]
    fn what_is_in_the_way_of_the_old_kek_is_not_written_over() {
        let bench = Bench::new();
        let (old, next) = (Kek::generate(), Kek::generate());
        let record = record_of(&next);
        write(bench.place.path(), &old, None).unwrap();
        bench.place.write_next(&next).unwrap();
        let kept = bench.place.old_path(&record.fingerprint_of(&old));
        write(&kept, &Kek::generate(), None).unwrap();
        let said = bench.place.settle(&record, &next, Old::Kept).unwrap_err().message;
        assert!(said.contains("is in the way"), "{said}");
        assert!(bench.place.current().unwrap().is(&old) && bench.is_there("new"));
        assert!(bench.place.settle(&record, &next, Old::Removed).unwrap().is_none());
        assert!(bench.place.current().unwrap().is(&next));
    }

    #[test]
    fn behind_a_link_the_file_is_replaced_and_not_the_link() {
        let bench = Bench::new();
        let link = bench.place.0.with_extension("link");
        write(bench.place.path(), &Kek::generate(), None).unwrap();
        std::os::unix::fs::symlink(bench.place.path(), &link).unwrap();
        assert_eq!(Place::of(Some(&link)).unwrap().path(), bench.place.path());
    }

    #[test]
    fn a_group_may_read_a_credential_and_others_may_not() {
        let bench = Bench::new();
        write(bench.place.path(), &Kek::generate(), None).unwrap();
        let readable = |mode: u32, readers| {
            let path = bench.place.path();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            read(path, readers, |_| String::new()).is_ok()
        };
        assert!(readable(0o400, Readers::Owner) && readable(0o600, Readers::Owner));
        assert!(!readable(0o440, Readers::Owner) && !readable(0o620, Readers::Owner));
        assert!(readable(0o440, Readers::NotOthers));
        assert!(!readable(0o444, Readers::NotOthers));
    }
}
