//! Where a user's servers and credentials are kept: `$XDG_CONFIG_HOME/tenure`, else
//! `~/.config/tenure`.
//!
//! Guaranteed here: a file is there whole or not at all, a credential in none that others
//! may read, and two commands that change something take turns. What is a link to a file
//! elsewhere stays one.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::super::data::write_private;
use super::super::failure::CliError;
use super::super::internal;
use crate::config::{Credentials, Profiles};

const PROFILES: &str = "profiles.toml";
const CREDENTIALS: &str = "credentials.toml";
const LOCK: &str = ".lock";
/// Some hundred profiles.
const MOST_BYTES: u64 = 1024 * 1024;
/// For the group and for others.
const ANY_ACCESS: u32 = 0o077;
const WRITING: u32 = 0o022;

#[derive(Debug, Clone)]
pub(super) struct Home {
    folder: PathBuf,
}

impl Home {
    pub(super) fn find() -> Result<Self, CliError> {
        let base = base_folder("XDG_CONFIG_HOME", ".config").ok_or_else(|| {
            CliError::usage("there is no place for profiles: set HOME or XDG_CONFIG_HOME")
        })?;
        Ok(Self { folder: base.join("tenure") })
    }

    pub(super) fn credentials_file(&self) -> PathBuf {
        self.folder.join(CREDENTIALS)
    }

    /// Empty where none were stored.
    pub(super) fn profiles(&self) -> Result<Profiles, CliError> {
        let file = self.folder.join(PROFILES);
        // Who may write it says where credentials go.
        let Some(text) = self.read(&file, WRITING)? else { return Ok(Profiles::default()) };
        Profiles::parse(&text)
            .map_err(|problem| CliError::usage(format!("{}: {problem}", file.display())))
    }

    pub(super) fn credentials(&self) -> Result<Credentials, CliError> {
        let file = self.credentials_file();
        let Some(text) = self.read(&file, ANY_ACCESS)? else { return Ok(Credentials::default()) };
        Credentials::parse(&text)
            .map_err(|problem| CliError::usage(format!("{}: {problem}", file.display())))
    }

    /// Whoever else wants to change something waits until it is dropped.
    pub(super) fn change(&self) -> Result<Change<'_>, CliError> {
        let failed = |error| internal(format!("{} cannot be used: {error}", self.folder.display()));
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        is_ours(&self.folder, &fs::metadata(&self.folder).map_err(failed)?, WRITING)?;
        let mut lock = OpenOptions::new();
        let lock = lock.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(self.folder.join(LOCK)).map_err(failed)?;
        locked(&lock)?;
        Ok(Change { home: self, _lock: lock })
    }

    /// `None` where there is none. `forbidden`: what others must not be allowed.
    fn read(&self, file: &Path, forbidden: u32) -> Result<Option<Zeroizing<String>>, CliError> {
        let opened = match File::open(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened,
        };
        let failed = |error| CliError::usage(format!("{} cannot be read: {error}", file.display()));
        let opened = opened.map_err(failed)?;
        let folder = fs::metadata(&self.folder).map_err(failed)?;
        is_ours(&self.folder, &folder, forbidden)?;
        let about = opened.metadata().map_err(failed)?;
        is_ours(file, &about, forbidden)?;
        if about.len() > MOST_BYTES {
            return Err(CliError::usage(format!("{} is too long", file.display())));
        }
        // Reserved at once: a buffer that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(String::with_capacity(about.len() as usize + 1));
        opened.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
        Ok(Some(text))
    }
}

/// Waits for whoever else changes something, and not for ever: one may have been stopped.
fn locked(lock: &File) -> Result<(), CliError> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(internal(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= PATIENCE => {
                return Err(CliError::unavailable(
                    "another tenure changes the profiles, and has for 10 s: does it wait for a \
                     keyring? Nothing was changed",
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The right to change what is kept.
pub(super) struct Change<'h> {
    home: &'h Home,
    _lock: File,
}

impl Change<'_> {
    pub(super) fn profiles(&self, profiles: &Profiles) -> Result<(), CliError> {
        let file = behind_links(self.home.folder.join(PROFILES));
        write_private(&file, profiles.text().as_bytes())
    }

    pub(super) fn credentials(&self, credentials: &Credentials) -> Result<(), CliError> {
        let folder = &self.home.folder;
        is_ours(folder, &fs::metadata(folder).map_err(internal)?, ANY_ACCESS)?;
        let file = behind_links(self.home.credentials_file());
        write_private(&file, credentials.text().as_bytes())
    }
}

/// The file itself, whether or not it is there yet: settings may be kept in a folder of their
/// own, with links to them from where programs look.
fn behind_links(mut file: PathBuf) -> PathBuf {
    /// As many as the kernel follows (path_resolution(7)); more were refused when it was read.
    const MOST_LINKS: usize = 40;
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&file) else { break };
        file = file.with_file_name(target);
    }
    file
}

fn is_ours(path: &Path, about: &Metadata, forbidden: u32) -> Result<(), CliError> {
    let shown = path.display();
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(CliError::usage(format!(
            "{shown} belongs to another user, who could say where your credentials go; remove it"
        )));
    }
    if about.mode() & forbidden != 0 {
        let mode = if about.is_dir() { "700" } else { "600" };
        return Err(CliError::usage(format!(
            "others have access to {shown}; take it from them: chmod {mode} {shown}"
        )));
    }
    Ok(())
}

/// A folder of the XDG specification, which says that a relative one counts for nothing.
pub(in crate::cli) fn base_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let said = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    said(variable).or_else(|| said("HOME").map(|home| home.join(below_home)))
}
