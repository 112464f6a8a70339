//! Backups that a server writes by itself.
//!
//! A backup counts once it was written, synced and read back whole; only then are
//! older ones removed, and only files that are named as ours are. When the next one
//! is due is told by the names in the folder, so a server that is restarted often
//! writes no more of them.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::access::send_pieces;
use super::aside::Aside;
use super::backup_file::{NewFile, PARTIAL, stamp, write_pieces};
use super::clock::SystemClock;
use super::data::cannot;
use super::failure::CliError;
use super::internal;
use super::maintain::size;
use crate::api::admin::{BackupMade, Command, Reply};
use crate::auth::Caller;
use crate::config::Backup;
use crate::domain::{Clock, Timestamp};
use crate::vault::Vault;
use crate::vault::backup::{self, BackupError};
use crate::vault::maintenance::{self, Ends, Exchange};

/// After a failure it is tried again before the next is due.
const RETRY: Duration = Duration::from_secs(15 * 60);
const PREFIX: &str = "tenure-";
const SUFFIX: &str = ".backup";

/// `None` where no backups are wanted.
pub(super) fn start(wanted: &Backup, vault: &Arc<Vault>) -> Result<Option<Aside>, CliError> {
    let Backup { every, folder: Some(folder), keep } = wanted else { return Ok(None) };
    if every.is_zero() {
        return Ok(None);
    }
    let worker = Worker {
        vault: vault.clone(),
        folder: folder.clone(),
        every: every.as_duration(),
        keep: *keep,
    };
    Aside::start("backup", move || async move { worker.run().await }).map(Some)
}

struct Worker {
    vault: Arc<Vault>,
    folder: PathBuf,
    every: Duration,
    keep: usize,
}

impl Worker {
    async fn run(&self) {
        let mut wait = until_due(&self.folder, self.every, now());
        loop {
            tokio::time::sleep(wait).await;
            wait = match self.write().await {
                Ok(()) => until_due(&self.folder, self.every, now()),
                Err(error) => {
                    log::error!("no backup was written, and none removed: {}", error.message);
                    self.every.min(RETRY)
                }
            };
        }
    }

    /// Again where the KEK was replaced meanwhile: who keeps the newest KEK can then
    /// read the newest backup.
    async fn write(&self) -> Result<(), CliError> {
        while self.write_one().await? == Written::UnderAnotherKek {
            log::info!("the KEK was replaced while a backup was made, so it is made anew");
        }
        Ok(())
    }

    async fn write_one(&self) -> Result<Written, CliError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| cannot("make", &self.folder, &error))?;
        let path = self.folder.join(name_of(now()));
        let new = NewFile::create(&path)?;
        let BackupMade { bytes, left_out, .. } = written(&self.vault, &new).await?;
        let sound = match checked(&self.vault, &new, bytes).await? {
            Checked::Read { sound } => sound,
            Checked::UnderAnotherKek => return Ok(Written::UnderAnotherKek),
        };
        new.keep()?;
        let shown = path.display();
        if !sound || !left_out.is_empty() {
            return Err(internal(format!(
                "{shown} was written, but the store is damaged and earlier backups may hold more; \
                 'tenure verify' says what is wrong"
            )));
        }
        let removed = remove_old(&self.folder, &path, self.keep);
        log::info!("wrote the backup {shown} ({}) and removed {removed} older", size(bytes));
        Ok(Written::Kept)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Kept,
    UnderAnotherKek,
}

/// What came of reading it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checked {
    Read { sound: bool },
    UnderAnotherKek,
}

fn now() -> Timestamp {
    SystemClock.read().wall
}

async fn written(vault: &Arc<Vault>, new: &NewFile) -> Result<BackupMade, CliError> {
    let (exchange, Ends { download, .. }) = Exchange::new();
    let writing = write_pieces(new.writer().map_err(internal)?, download);
    let making =
        maintenance::execute(vault, Command::BackupCreate, exchange.for_caller(Caller::server()));
    let (reply, ()) = tokio::try_join!(async { Ok(making.await) }, writing)
        .map_err(|error: std::io::Error| internal(format!("it cannot be written: {error}")))?;
    match reply? {
        Reply::BackupCreated(made) => Ok(made),
        _ => Err(internal("no backup was made")),
    }
}

/// Whether what was written reads back, and is sound.
async fn checked(vault: &Arc<Vault>, new: &NewFile, bytes: u64) -> Result<Checked, CliError> {
    let file = Box::new(new.reader().map_err(internal)?);
    let (sender, pieces) = mpsc::channel(8);
    let reader = std::thread::spawn(move || send_pieces(file, sender));
    let found = backup::verify_own(vault, pieces, Some(bytes), &|_| {}).await;
    match (found, reader.join()) {
        (Ok(contents), _) => Ok(Checked::Read { sound: contents.sound }),
        (Err(BackupError::OtherKek), _) => Ok(Checked::UnderAnotherKek),
        (Err(BackupError::Truncated), Ok(Err(error))) => Err(internal(error)),
        (Err(error), _) => Err(error.into()),
    }
}

/// `tenure-20300131T120000Z.backup`
fn name_of(at: Timestamp) -> String {
    format!("{PREFIX}{}{SUFFIX}", stamp(at))
}

/// Of a name that [`name_of`] makes, and of no other.
fn time_of(name: &str) -> Option<Timestamp> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let (date, time) = digits.strip_suffix('Z')?.split_once('T')?;
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    let at = Timestamp::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()?;
    (name_of(at) == name).then_some(at)
}

/// Ours in the folder, oldest first.
fn backups(folder: &Path) -> Vec<(Timestamp, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter_map(|entry| {
        let at = time_of(entry.file_name().to_str()?)?;
        entry.file_type().ok()?.is_file().then(|| (at, entry.path()))
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    ours
}

/// Backups of the future tell nothing: the clock was wrong then, or is now.
fn until_due(folder: &Path, every: Duration, now: Timestamp) -> Duration {
    let past = backups(folder).into_iter().map(|(at, _)| at).filter(|at| *at <= now);
    let Some(newest) = past.max() else { return Duration::ZERO };
    let due = newest.saturating_add(every);
    Duration::from_micros(u64::try_from(due.unix_micros() - now.unix_micros()).unwrap_or(0))
}

/// Removes the oldest until `keep` are left, never the one just written; and what
/// a crash left half written. Answers how many backups are gone.
fn remove_old(folder: &Path, newest: &Path, keep: usize) -> usize {
    let ours = backups(folder);
    let surplus = ours.len().saturating_sub(keep);
    let others = ours.into_iter().map(|(_, path)| path).filter(|path| path != newest);
    let removed = others.take(surplus).filter(|path| match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            log::warn!("the old backup {} stays: {error}", path.display());
            false
        }
    });
    let removed = removed.count();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(PARTIAL)?.strip_suffix('.'));
        if stem.is_some_and(|stem| time_of(stem).is_some()) && is_abandoned(&entry.path()) {
            // What stays is looked at again the next time.
            let _ = fs::remove_file(entry.path());
        }
    }
    removed
}

fn is_abandoned(partial: &Path) -> bool {
    File::open(partial).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Kek, KekOrigin, KekWay};
    use crate::store::MemoryStore;
    use crate::vault::VaultOptions;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_900_000_000 + seconds)
    }

    fn touch(folder: &Path, name: &str) {
        fs::write(folder.join(name), "").unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_backup_under_a_kek_that_was_replaced_is_no_damaged_one() {
        let (store, kek) = (Arc::new(MemoryStore::new()), Kek::generate());
        Vault::init(store.clone(), &kek, KekWay::File, &SystemClock).await.unwrap();
        let opened = Vault::open(store, &kek, Arc::new(SystemClock), VaultOptions::default());
        let (vault, folder) = (opened.await.unwrap(), tempfile::tempdir().unwrap());
        let new = NewFile::create(&folder.path().join("a.backup")).unwrap();
        let made = written(&vault, &new).await.unwrap();
        let origin = KekOrigin { way: KekWay::File, since: now() };
        vault.replace_kek(Kek::generate(), origin).await.unwrap();
        let found = checked(&vault, &new, made.bytes).await.unwrap();
        assert_eq!(found, Checked::UnderAnotherKek);
        drop(new);

        // Made anew it is under the one of now.
        let folder = folder.path().to_owned();
        let worker = Worker { vault, folder, every: RETRY, keep: 1 };
        worker.write().await.unwrap();
        assert_eq!(names(&worker.folder).len(), 1);
    }

    #[test]
    fn a_name_tells_its_time_and_others_tell_none() {
        assert_eq!(
            name_of(Timestamp::from_unix_micros(1_893_499_200_999_999)),
            "tenure-20300101T120000Z.backup"
        );
        assert_eq!(time_of(&name_of(at(5))), Some(at(5)));
        for name in [
            "tenure-20300101T120000Z.backup.partial",
            "tenure-20300101T120000Z",
            "tenure-2030-01-01T12:00:00Z.backup",
            "tenure-20301301T120000Z.backup",
            "tenure-20300101T120000.5Z.backup",
            "tenure-+0300101T120000Z.backup",
            "tenure-20300101T12é00Z.backup",
            "monday.backup",
            "",
        ] {
            assert_eq!(time_of(name), None, "{name}");
        }
    }

    #[test]
    fn the_newest_of_the_past_tells_when_the_next_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let due = |now| until_due(folder.path(), Duration::from_secs(100), at(now)).as_secs();
        assert_eq!(until_due(&folder.path().join("missing"), RETRY, at(0)), Duration::ZERO);
        assert_eq!(due(0), 0);
        touch(folder.path(), &name_of(at(-500)));
        touch(folder.path(), &name_of(at(-30)));
        touch(folder.path(), "tenure-of-mine.backup");
        assert_eq!((due(0), due(69), due(70), due(500)), (70, 1, 0, 0));
        touch(folder.path(), &name_of(at(9_000)));
        assert_eq!(due(0), 70, "the future tells nothing");
    }

    #[test]
    fn only_ours_are_removed_and_never_the_one_just_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let newest = path.join(name_of(at(0)));
        // Those of a clock that was ahead sort behind it.
        for seconds in [-40, -30, -20, 0, 70, 80] {
            touch(path, &name_of(at(seconds)));
        }
        let foreign =
            ["keep.me", "monday.backup", "tenure-of-mine.backup", "tenure-x.backup.partial"];
        foreign.iter().for_each(|name| touch(path, name));
        fs::create_dir(path.join(name_of(at(-90)))).unwrap();
        let (left, held) =
            (format!("{}.partial", name_of(at(-5))), format!("{}.partial", name_of(at(1))));
        touch(path, &left);
        let lock = File::create(path.join(&held)).unwrap();
        lock.lock().unwrap();
        assert_eq!(remove_old(path, &newest, 4), 2);
        let mut expected: Vec<_> = [-90, -20, 0, 70, 80].map(|s| name_of(at(s))).into();
        expected.extend(foreign.map(str::to_owned));
        expected.push(held);
        expected.sort();
        assert_eq!(names(path), expected);
        assert_eq!(remove_old(path, &newest, 1), 3);
        assert!(newest.exists());
    }
}
