//! A folder for plaintext: in memory, for its owner alone, and gone with the command that
//! made it.
//!
//! The command removes it. Where the command is killed, a guard does that, which stands
//! beside it and notices; and where both are killed, the next `tenure edit`, which knows
//! what nobody uses by its lock.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::super::super::failure::CliError;
use super::super::super::helper::{Beside, Deaf, Helper};
use super::super::super::internal;
use crate::crypto;

/// What the name of each begins with.
const PREFIX: &str = "tenure-edit-";
/// The hidden command that guards one.
const GUARD: &str = "guard-edit";
/// File systems whose files are nowhere but in memory: tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// For somebody else to end who writes in it; then it is left to the guard.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(10);

pub(super) struct PrivateFolder {
    path: PathBuf,
    /// Held as long as somebody uses the folder.
    _lock: File,
    guard: Option<Helper>,
}

impl PrivateFolder {
    /// A new one, once its guard stands.
    pub(super) fn make() -> Result<Self, CliError> {
        let place = place(&candidates()).ok_or_else(|| {
            CliError::unavailable(
                "there is no folder that is in memory alone (XDG_RUNTIME_DIR or /dev/shm on a \
                 tmpfs), and a secret is not edited on a disk; use 'tenure get' and 'tenure put \
                 NAME -'",
            )
        })?;
        remove_abandoned(&place);
        let (path, lock) = make_in(&place)
            .map_err(|error| internal(format!("no folder in {}: {error}", place.display())))?;
        let mut folder = Self { path, _lock: lock, guard: None };
        let mut guard = Helper::start(&[GUARD], &[])?;
        guard.tell(&[folder.path.as_os_str().as_bytes(), &[0]].concat())?;
        guard.ready().map_err(|why| internal(format!("nobody guards {place:?}: {why}")))?;
        folder.guard = Some(guard);
        Ok(folder)
    }

    /// A new file for its owner alone.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        file?.write_all(bytes)?;
        Ok(path)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let gone = wipe_for(&self.path, PATIENCE);
        if let Some(guard) = self.guard.take().filter(|_| gone) {
            guard.end();
        }
    }
}

/// The guard itself: waits until the command is gone, and removes what it left.
pub(in crate::cli) fn guard() -> Result<(), CliError> {
    let beside = Beside::stand().map_err(internal)?;
    // What ends the command at the same time must not end it first.
    let _deaf = Deaf::to_ends().map_err(internal)?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(beside.told().map_err(internal)?));
    let is_ours =
        path.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
    if !is_ours || !is_in_memory(&path) {
        return Err(CliError::usage("guards a folder of 'tenure edit' alone"));
    }
    // One that cannot be heard has nobody to guard for.
    let answered = beside.answer(None);
    if answered.is_ok() {
        beside.until_alone();
    }
    // An editor that outlives the command may write on.
    while !wipe_for(&path, PATIENCE) {}
    Ok(())
}

fn candidates() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime.into_iter().chain([PathBuf::from("/dev/shm")]).collect()
}

fn place(candidates: &[PathBuf]) -> Option<PathBuf> {
    candidates.iter().find(|folder| is_safe(folder) && is_in_memory(folder)).cloned()
}

fn is_in_memory(folder: &Path) -> bool {
    let about = rustix::fs::statfs(folder);
    about.is_ok_and(|about| IN_MEMORY.contains(&(about.f_type as u64)))
}

/// Nobody else can put another folder in the place of ours.
fn is_safe(folder: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    folder.is_absolute()
        && fs::metadata(folder).is_ok_and(|about| is_mine(&about) || about.mode() & STICKY != 0)
}

fn is_mine(about: &fs::Metadata) -> bool {
    about.uid() == rustix::process::geteuid().as_raw()
}

fn make_in(place: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let path = place.join(format!("{PREFIX}{}", hex::encode(crypto::random::<8>())));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        lock.lock()?;
        // Before it was locked, it may have been taken for abandoned.
        if fs::symlink_metadata(&path).is_ok() {
            return Ok((path, lock));
        }
    }
}

/// Removes what commands and their guards left when both were killed.
fn remove_abandoned(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    for path in ours.map(|entry| entry.path()) {
        let is_folder_of_mine =
            fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir() && is_mine(&about));
        if !is_folder_of_mine {
            continue;
        }
        // Its lock is free where nobody lives that made it.
        if let Ok(lock) = File::open(&path)
            && lock.try_lock().is_ok()
        {
            wipe(&path);
        }
    }
}

/// Overwrites and removes all that is in it, again where somebody still writes there.
/// Whether it is gone.
fn wipe_for(folder: &Path, patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        wipe(folder);
        if fs::symlink_metadata(folder).is_err() {
            return true;
        }
        if begun.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(BETWEEN);
    }
}

fn wipe(folder: &Path) {
    overwrite(folder);
    // What is gone is as good.
    let _ = fs::remove_dir_all(folder);
}

fn overwrite(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => overwrite(&entry.path()),
            Ok(kind) if kind.is_file() => {
                let _ = blank(&entry.path());
            }
            _ => {}
        }
    }
}

fn blank(path: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = File::options().write(true).custom_flags(flags).open(path)?;
    let length = file.metadata()?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn in_memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    #[test]
    fn a_folder_on_a_disk_or_of_everybody_is_not_chosen() {
        let memory = in_memory();
        let disk = PathBuf::from("/proc");
        assert_eq!(place(std::slice::from_ref(&disk)), None);
        let chosen = place(&[disk, "relative".into(), memory.path().to_owned()]);
        assert_eq!(chosen.as_deref(), Some(memory.path()));
    }

    #[test]
    fn a_folder_is_for_its_owner_and_its_file_too() {
        let memory = in_memory();
        let (path, lock) = make_in(memory.path()).unwrap();
        let folder = PrivateFolder { path: path.clone(), _lock: lock, guard: None };
        let file = folder.write("db", b"hunter2").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_wiped_is_overwritten_first() {
        let memory = in_memory();
        let (path, _lock) = make_in(memory.path()).unwrap();
        fs::create_dir(path.join("deeper")).unwrap();
        let files = [path.join("db"), path.join("deeper/db~")];
        let held = files.each_ref().map(|file| {
            fs::write(file, "hunter2").unwrap();
            File::open(file).unwrap()
        });
        wipe(&path);
        assert!(!path.exists());
        // Whoever holds them open still sees what they are now.
        for mut file in held {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 7]);
        }
    }

    #[test]
    fn a_folder_in_which_somebody_still_writes_is_wiped_until_it_is_gone() {
        let memory = in_memory();
        let (path, _lock) = make_in(memory.path()).unwrap();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    let late = begun.elapsed() > Duration::from_millis(300);
                    if late || fs::write(path.join(number.to_string()), "hunter2").is_err() {
                        return;
                    }
                }
            });
            assert!(wipe_for(&path, Duration::from_secs(60)));
        });
        assert!(!path.exists());
    }

    #[test]
    fn what_nobody_uses_is_removed_and_what_somebody_uses_is_not() {
        let memory = in_memory();
        let (used, _lock) = make_in(memory.path()).unwrap();
        let (abandoned, lock) = make_in(memory.path()).unwrap();
        drop(lock);
        fs::write(abandoned.join("db"), "hunter2").unwrap();
        let other = memory.path().join("other");
        fs::create_dir(&other).unwrap();
        let link = memory.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        remove_abandoned(memory.path());
        assert!(used.exists() && other.exists() && link.exists());
        assert!(!abandoned.exists());
    }
}
