//! The format of a data folder, and how an older one is brought up to date.
//!
//! The file `FORMAT` names the format, and with it the folder that the store is
//! in. A step to the next format works on a copy under its new name; replacing
//! `FORMAT` is the one act that makes it count. So the folder of the older format
//! stays as the backup of the migration, and one that was interrupted begins anew
//! from it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::data::{cannot, write_private};
use super::failure::CliError;
use super::internal;

/// The format that this version writes.
pub(super) const CURRENT: Format = Format(2);

/// The steps from every older format.
const STEPS: &[Step] = &[
    // What format 2 adds, format 1 lacks, and what it has is read as it was: heads say
    // where their values are. The number alone keeps older versions away.
    Step { from: Format(1), apply: |_| Ok(()) },
];

/// In a data folder.
pub(super) const FILE: &str = "FORMAT";
/// In its place while a backup is restored into the folder: without the other there
/// is no store.
pub(super) const RESTORING: &str = "RESTORING";
const WORDS: &str = "tenure data ";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Format(u32);

/// From one format to the next, applied to a copy of the store's folder.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: Format,
    apply: fn(&Path) -> Result<(), CliError>,
}

impl Format {
    /// What the folder says; `None` where it holds no store.
    pub(super) fn of(data: &Path) -> Result<Option<Self>, CliError> {
        Self::known(data, CURRENT)
    }

    fn known(data: &Path, current: Self) -> Result<Option<Self>, CliError> {
        let path = data.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let number = text.strip_prefix(WORDS).and_then(|rest| rest.strip_suffix('\n'));
        match number.and_then(|number| number.parse().ok()).map(Self) {
            Some(format) if format > current => Err(CliError::usage(format!(
                "{} was written by a newer version of tenure (data format {}, and this one knows \
                 {}); run that version",
                data.display(),
                format.0,
                current.0
            ))),
            Some(format) if format.0 > 0 => Ok(Some(format)),
            _ => Err(internal(format!(
                "{} is damaged: it should be one line, '{WORDS}{}'; compare it with a copy of \
                 this folder, or restore one with 'tenure backup restore'",
                path.display(),
                current.0
            ))),
        }
    }

    /// Where the store of this format is, within a data folder.
    pub(super) fn store(self, data: &Path) -> PathBuf {
        match self.0 {
            1 => data.join("store"),
            number => data.join(format!("store-{number}")),
        }
    }

    /// Writes what will be the format of the folder, once it is whole.
    pub(super) fn prepare(self, data: &Path) -> Result<(), CliError> {
        write_private(&data.join(RESTORING), format!("{WORDS}{}\n", self.0).as_bytes())
    }

    /// Makes what was prepared the format of the folder, durably, in one act.
    pub(super) fn declare_prepared(data: &Path) -> Result<(), CliError> {
        let (from, to) = (data.join(RESTORING), data.join(FILE));
        let renamed = fs::rename(&from, &to).and_then(|()| File::open(data)?.sync_all());
        renamed.map_err(|error| cannot("write", &to, &error))
    }

    /// Makes it the format of the folder, durably.
    pub(super) fn write(self, data: &Path) -> Result<(), CliError> {
        write_private(&data.join(FILE), format!("{WORDS}{}\n", self.0).as_bytes())
    }
}

/// Brings the store in `data` up to [`CURRENT`]. Nobody else may have it open.
pub(super) fn bring_up_to_date(data: &Path) -> Result<(), CliError> {
    bring_up(data, CURRENT, STEPS)
}

fn bring_up(data: &Path, current: Format, steps: &[Step]) -> Result<(), CliError> {
    let Some(found) = Format::known(data, current)?.filter(|format| *format < current) else {
        return Ok(());
    };
    let _lock = lock(&found.store(data))?;
    let (old, new) = (found.store(data), current.store(data));
    log::warn!(
        "migrating {} from data format {} to {}; the old store stays in {}",
        data.display(),
        found.0,
        current.0,
        old.display()
    );
    discard(&new)?;
    copy(&old, &new).map_err(|error| cannot("copy", &old, &error))?;
    for number in found.0..current.0 {
        let step = steps.iter().find(|step| step.from == Format(number));
        let step = step.ok_or_else(|| {
            CliError::usage(format!(
                "{} is of data format {number}, which this version no longer reads; run an \
                 earlier one first",
                data.display()
            ))
        })?;
        (step.apply)(&new)?;
    }
    sync(&new).map_err(|error| cannot("write", &new, &error))?;
    current.write(data)?;
    log::warn!("migrated; remove {} once you have a new backup", old.display());
    Ok(())
}

/// What an interrupted migration left: it never counted.
fn discard(new: &Path) -> Result<(), CliError> {
    match fs::remove_dir_all(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", new, &error)),
        _ => Ok(()),
    }
}

pub(super) const LOCK: &str = "LOCK";

/// The lock that every version takes before it opens a store.
pub(super) fn lock(store: &Path) -> Result<File, CliError> {
    let path = store.join(LOCK);
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| cannot("open", &path, &error))?;
    file.try_lock().map_err(|_| {
        CliError::unavailable(format!(
            "another tenure holds {}: stop it, or let it finish",
            store.display()
        ))
    })?;
    Ok(file)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Every file, every folder, and the entry of the folder itself.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()?;
    folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: Format = Format(3);

    fn append(store: &Path, word: &str) -> Result<(), CliError> {
        let file = store.join("system").join("rows");
        let text = fs::read_to_string(&file).map_err(internal)?;
        fs::write(&file, text + word).map_err(internal)
    }

    const TO_THIRD: [Step; 2] = [
        Step { from: Format(2), apply: |store| append(store, " third") },
        Step { from: Format(1), apply: |store| append(store, " second") },
    ];

    fn first() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        Format(1).write(data.path()).unwrap();
        fs::create_dir_all(data.path().join("store/system")).unwrap();
        fs::write(data.path().join("store/system/rows"), "first").unwrap();
        data
    }

    fn rows(data: &Path, format: Format) -> String {
        fs::read_to_string(format.store(data).join("system/rows")).unwrap()
    }

    #[test]
    fn every_step_is_taken_in_turn_and_the_old_store_stays() {
        let data = first();
        bring_up(data.path(), THIRD, &TO_THIRD).unwrap();
        assert_eq!(Format::known(data.path(), THIRD).unwrap(), Some(THIRD));
        assert_eq!(rows(data.path(), THIRD), "first second third");
        assert_eq!(rows(data.path(), Format(1)), "first");
        // Once is enough.
        bring_up(data.path(), THIRD, &TO_THIRD).unwrap();
        assert_eq!(rows(data.path(), THIRD), "first second third");
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_store_and_can_be_repeated() {
        let data = first();
        let broken: fn(&Path) -> Result<(), CliError> =
            |store| append(store, " half").and(Err(internal("the disk is full")));
        let steps = [Step { from: Format(1), apply: broken }, TO_THIRD[0]];
        assert_eq!(bring_up(data.path(), THIRD, &steps).unwrap_err().message, "the disk is full");
        assert_eq!(Format::known(data.path(), THIRD).unwrap(), Some(Format(1)));
        assert_eq!(rows(data.path(), Format(1)), "first");
        bring_up(data.path(), THIRD, &TO_THIRD).unwrap();
        assert_eq!(rows(data.path(), THIRD), "first second third");
    }

    #[test]
    fn a_store_in_use_is_not_migrated() {
        let data = first();
        let held = lock(&data.path().join("store")).unwrap();
        let refused = bring_up(data.path(), THIRD, &TO_THIRD).unwrap_err();
        assert!(refused.message.contains("stop it"), "{}", refused.message);
        drop(held);
        bring_up(data.path(), THIRD, &TO_THIRD).unwrap();
    }

    #[test]
    fn a_format_without_a_step_is_refused() {
        let data = first();
        let refused = bring_up(data.path(), THIRD, &TO_THIRD[..1]).unwrap_err();
        assert!(refused.message.contains("earlier one first"), "{}", refused.message);
        assert_eq!(Format::known(data.path(), THIRD).unwrap(), Some(Format(1)));
    }

    #[test]
    fn newer_and_damaged_formats_are_told_apart() {
        let data = first();
        THIRD.write(data.path()).unwrap();
        let newer = Format::of(data.path()).unwrap_err();
        assert!(newer.message.contains("newer version"), "{}", newer.message);
        for text in ["", "tenure data 0\n", "tenure data 1", "tenure data x\n", "letter", "\u{1f}"]
        {
            fs::write(data.path().join(FILE), text).unwrap();
            let damaged = Format::of(data.path()).unwrap_err();
            assert!(damaged.message.contains("is damaged"), "{text:?}: {}", damaged.message);
        }
        fs::write(data.path().join(FILE), b"\xff\xfe").unwrap();
        assert!(Format::of(data.path()).unwrap_err().message.contains("is damaged"));
        fs::remove_file(data.path().join(FILE)).unwrap();
        assert_eq!(Format::of(data.path()).unwrap(), None);
    }
}
