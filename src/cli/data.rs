//! The data folder: ours alone, of a known format, holding one store.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::CliError;
use super::format::{self, Format};
use super::{internal, memory_limit};
use crate::config::Config;
use crate::store::{OpenError, Progress, SledOptions, SledStore, Store};

/// A data folder that is there and of a format this version can open.
#[derive(Debug, Clone)]
pub(super) struct DataFolder(PathBuf);

/// Why a folder could not be entered.
#[derive(Debug)]
pub(super) enum Enter {
    /// There is no store in it.
    Absent,
    Failed(CliError),
}

impl DataFolder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Enters a folder that `create` made.
    pub(super) fn enter(path: &Path) -> Result<Self, Enter> {
        match Format::of(path).map_err(Enter::Failed)? {
            Some(_) => Ok(Self(path.to_owned())),
            None if path.join(format::RESTORING).exists() => {
                Err(Enter::Failed(CliError::usage(format!(
                    "{0} holds no store yet: a restore into it is under way or was interrupted; \
                     run 'tenure backup restore' again, it begins anew, or remove {0}",
                    path.display()
                ))))
            }
            None => Err(Enter::Absent),
        }
    }

    /// Makes the folder, or takes an empty one. Entering one that exists is no
    /// error.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        match Self::enter(path) {
            Ok(folder) => return Ok(folder),
            Err(Enter::Failed(error)) => return Err(error),
            Err(Enter::Absent) => {}
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| cannot("make", path, &error))?;
        let mut entries = fs::read_dir(path).map_err(|error| cannot("read", path, &error))?;
        // What an interrupted `create` or a dev KEK left is no reason to refuse.
        let foreign = entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name() != "kek" && !is_temporary(&entry.file_name()))
        });
        if foreign {
            return Err(CliError::usage(format!(
                "{} holds other files; name an empty or a new folder with --data",
                path.display()
            )));
        }
        check_owner_and_mode(path)?;
        format::CURRENT.write(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Opens the store on a thread of its own: it waits for disks. Only its owner
    /// may: files of another user in it would lock the owner out.
    pub(super) async fn open(&self, config: &Config) -> Result<Arc<dyn Store>, CliError> {
        check_owner_and_mode(&self.0)?;
        let data = self.0.clone();
        let store = &config.store;
        let options = SledOptions {
            cache_bytes_total: memory_limit::cache_bytes(store.cache_bytes),
            queue_bytes: store.queue_bytes.as_usize(),
            full_floor_bytes: store.full_floor_bytes.get(),
            hard_floor_bytes: store.hard_floor_bytes.get(),
            worn_bytes: store.compact_after.get(),
            ..SledOptions::default()
        };
        let opened = tokio::task::spawn_blocking(move || {
            format::bring_up_to_date(&data)?;
            let folder = format::CURRENT.store(&data);
            let opened = SledStore::open(&folder, options, &|Progress { opened, of, .. }| {
                log::info!("opened {opened} of {of} databases");
            });
            opened.map_err(|error| unopened(&error, &data))
        });
        Ok(Arc::new(opened.await.map_err(internal)??))
    }
}

/// A data folder that a backup can be restored into: empty, new, or left by a
/// restore that was interrupted.
#[derive(Debug)]
pub(super) struct RestoreInto(PathBuf);

impl RestoreInto {
    /// Changes nothing.
    pub(super) fn look_at(path: &Path) -> Result<Self, CliError> {
        if Format::of(path)?.is_some() {
            return Err(CliError {
                exit: super::failure::Exit::Conflict,
                message: format!(
                    "there is a store in {0}, and a backup is restored into an empty folder: name \
                     another with --data, or restore one tenant beside the others (--tenant NAME \
                     --as NEW)",
                    path.display()
                ),
            });
        }
        let interrupted = path.join(format::RESTORING).exists();
        let store = format::CURRENT.store(path);
        let store = store.file_name().unwrap_or_default();
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self(path.to_owned())),
            Err(error) => return Err(cannot("read", path, &error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| cannot("read", path, &error))?.file_name();
            let ours = name == format::RESTORING || is_temporary(&name) || name == store;
            if !ours || (name == store && !interrupted) {
                return Err(CliError::usage(format!(
                    "{} holds other files ({}); name an empty or a new folder with --data",
                    path.display(),
                    Path::new(&name).display()
                )));
            }
        }
        Ok(Self(path.to_owned()))
    }

    /// Makes the folder, and removes what an interrupted restore left in it.
    pub(super) fn begin(self) -> Result<NewStore, CliError> {
        let Self(path) = self;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| cannot("make", &path, &error))?;
        check_owner_and_mode(&path)?;
        let new = NewStore(path);
        if new.0.join(format::RESTORING).exists() {
            new.clear()?;
        }
        format::CURRENT.prepare(&new.0)?;
        Ok(new)
    }
}

/// A store that is being restored. Until it is complete, the folder holds none.
#[derive(Debug)]
pub(super) struct NewStore(PathBuf);

impl NewStore {
    pub(super) async fn open(&self, config: &Config) -> Result<Arc<dyn Store>, CliError> {
        DataFolder(self.0.clone()).open(config).await
    }

    /// What was stored and closed counts from now on.
    pub(super) fn complete(self) -> Result<(), CliError> {
        Format::declare_prepared(&self.0)
    }

    /// Removes what was begun; the folder itself stays.
    pub(super) fn discard(self) -> Result<(), CliError> {
        self.clear()?;
        let failed = |error: std::io::Error| cannot("empty", &self.0, &error);
        fs::remove_dir_all(format::CURRENT.store(&self.0)).map_err(failed)?;
        fs::remove_file(self.0.join(format::RESTORING)).map_err(failed)
    }

    /// Empties the store but for its lock, under the lock: another restore may be
    /// at work here.
    fn clear(&self) -> Result<(), CliError> {
        let store = format::CURRENT.store(&self.0);
        let failed = |error: std::io::Error| cannot("empty", &store, &error);
        fs::create_dir_all(&store).map_err(failed)?;
        let _lock = format::lock(&store)?;
        for entry in fs::read_dir(&store).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            let removed = match (is_folder, entry.file_name() == format::LOCK) {
                (true, _) => fs::remove_dir_all(entry.path()),
                (false, true) => Ok(()),
                (false, false) => fs::remove_file(entry.path()),
            };
            removed.map_err(failed)?;
        }
        Ok(())
    }
}

/// With what to do about it.
fn unopened(error: &OpenError, folder: &Path) -> CliError {
    let folder = folder.display();
    match error {
        OpenError::InUse { .. } => CliError::unavailable(format!(
            "{error}; another tenure holds {folder}: stop it, or let it start up fully so that \
             this command can speak to it"
        )),
        OpenError::Corrupted { .. } => internal(format!("{error}; {}", way_out(&folder))),
        OpenError::Unreadable { .. } => {
            internal(format!("{error}; look at the disk and the rights of {folder}"))
        }
        OpenError::DishonestSync => internal(format!("{error}; build it as its README says")),
    }
}

/// What is left to do with a folder whose store does not open. A store that does
/// is looked at with `tenure verify`.
pub(super) fn way_out(folder: &impl std::fmt::Display) -> String {
    format!(
        "'tenure backup restore' makes a new folder of a backup, in which 'tenure verify' then \
         finds no fault; keep {folder} until it has"
    )
}

fn check_owner_and_mode(path: &Path) -> Result<(), CliError> {
    let metadata = fs::metadata(path).map_err(|error| cannot("read", path, &error))?;
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(CliError::usage(format!(
            "{} belongs to user {1}, and this is user {us}: run as its owner (sudo -u '#{1}' …)",
            path.display(),
            metadata.uid(),
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(CliError::usage(format!(
            "{0} can be entered by others; run 'chmod 700 {0}'",
            path.display()
        )));
    }
    Ok(())
}

/// A short text that few may read, and who it is for.
pub(super) struct PrivateText<'t> {
    pub(super) path: &'t Path,
    /// Bits of its mode that must not be set.
    pub(super) forbidden: u32,
    /// The file, as the subject of a sentence.
    pub(super) named: String,
}

impl PrivateText<'_> {
    /// Longer than any key, with white space around it.
    const MAX_BYTES: u64 = 1024;

    /// Empty where it is no text. `missing`: what to say where there is no such file.
    pub(super) fn read(
        &self,
        missing: impl FnOnce() -> String,
    ) -> Result<Zeroizing<String>, CliError> {
        let Self { path, forbidden, named } = self;
        let opened = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => CliError::usage(missing()),
            _ => cannot("read", path, &error),
        })?;
        let failed = |error: std::io::Error| cannot("read", path, &error);
        let mode = opened.metadata().map_err(failed)?.mode();
        if mode & forbidden != 0 {
            return Err(CliError::usage(format!(
                "{named} can be read by others (mode {:04o}); run 'chmod 600 {}'",
                mode & 0o7777,
                path.display()
            )));
        }
        // Reserved at once: a buffer that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * Self::MAX_BYTES as usize));
        opened.take(Self::MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
        Ok(Zeroizing::new(std::str::from_utf8(&text).unwrap_or_default().to_owned()))
    }
}

/// Of a file until it is whole. Named for it: who writes another file into the same
/// folder at the same time has another.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

pub(super) fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".tmp")
}

/// Writes a file that only we can read, all or nothing, and durable.
pub(super) fn write_private(path: &Path, contents: &[u8]) -> Result<(), CliError> {
    write_private_as(path, contents, None)
}

/// The same, where we are root, for the owner of `like`: root may do what a service's
/// user must be able to read.
pub(super) fn write_private_as(
    path: &Path,
    contents: &[u8],
    like: Option<&fs::Metadata>,
) -> Result<(), CliError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let temporary = temporary_of(path);
    let failed = |error: std::io::Error| cannot("write", path, &error);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    if let Some(like) = like.filter(|_| rustix::process::geteuid().is_root()) {
        fchown(&file, Some(like.uid()), Some(like.gid())).map_err(failed)?;
    }
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

pub(super) fn cannot(act: &str, path: &Path, error: &std::io::Error) -> CliError {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "; run as the owner of its folder, or choose another",
        ErrorKind::NotFound => "; make its folder first",
        _ => "",
    };
    internal(format!("cannot {act} {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two stores may have their KEKs in one folder.
    #[test]
    fn files_that_are_written_at_once_do_not_take_each_others_place() {
        let temporaries = ["/k/a.kek", "/k/b.kek"].map(|path| temporary_of(Path::new(path)));
        assert_eq!(
            temporaries.each_ref().map(|path| path.to_str().unwrap()),
            ["/k/.a.kek.tmp", "/k/.b.kek.tmp"]
        );
        assert!(temporaries.iter().all(|path| is_temporary(path.file_name().unwrap())));
        assert!(!is_temporary(OsStr::new("kek")) && !is_temporary(OsStr::new("a.tmp")));
    }
}
