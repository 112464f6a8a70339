//! Where the KEK comes from.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::clock::SystemClock;
use super::data::{cannot, write_private};
use super::failure::CliError;
use crate::config::{Config, KekSource};
use crate::crypto::{Kek, KekOrigin, KekWay};
use crate::domain::Clock;

/// A file longer than this is no KEK: 64 digits and white space.
const MAX_FILE_BYTES: u64 = 1024;

/// Reads the KEK from where the configuration says.
pub(super) fn load(config: &Config) -> Result<Kek, CliError> {
    match (config.kek.source, &config.kek.file) {
        (KekSource::Env, _) => from_variable(&config.kek.env),
        (KekSource::File, Some(file)) => from_file(named(file)?),
        (KekSource::Shamir, _) => Err(CliError::usage(
            "kek.source is \"shamir\", so this needs shares, and it cannot take them",
        )),
        (KekSource::File, None) => Err(CliError::usage(
            "kek.source is \"file\" and kek.file is not set; set it, or TENURE_KEK_FILE",
        )),
    }
}

/// How one comes by it.
///
/// # Panics
/// Of shares, which belong to one store.
pub(super) fn way(config: &Config) -> KekWay {
    match config.kek.source {
        KekSource::Env => KekWay::Env,
        KekSource::File => KekWay::File,
        KekSource::Shamir => unreachable!("no KEK was loaded"),
    }
}

/// The same, for a store that comes under it now.
pub(super) fn origin(config: &Config) -> KekOrigin {
    KekOrigin { way: way(config), since: SystemClock.read().wall }
}

/// As [`load`], but for a new store: makes the file where there is none. Answers
/// where it was made.
pub(super) fn load_or_create(config: &Config) -> Result<(Kek, Option<PathBuf>), CliError> {
    let (KekSource::File, Some(file)) = (config.kek.source, &config.kek.file) else {
        return Ok((load(config)?, None));
    };
    match fs::symlink_metadata(named(file)?) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let kek = Kek::generate();
            let text = Zeroizing::new(format!("{}\n", kek.to_text().as_str()));
            write_private(file, text.as_bytes())?;
            Ok((kek, Some(file.clone())))
        }
        _ => Ok((from_file(file)?, None)),
    }
}

/// Refuses what is the key itself where the name of its file belongs: every
/// message about the file would show it.
fn named(file: &Path) -> Result<&Path, CliError> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if Kek::parse(name).is_ok() {
        return Err(CliError::usage(
            "kek.file holds a key, and it must name the file that holds the key; as that key has \
             been in a configuration, do not use it",
        ));
    }
    Ok(file)
}

/// Reads the KEK from a file that was named for it alone.
pub(super) fn from_named_file(path: &Path) -> Result<Kek, CliError> {
    from_file(named(path)?)
}

fn from_file(path: &Path) -> Result<Kek, CliError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => CliError::usage(format!(
            "there is no KEK at {}: copy the one of this store there, or look at kek.file",
            path.display()
        )),
        _ => cannot("read", path, &error),
    };
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(CliError::usage(format!(
            "the KEK at {0} can be read by others (mode {1:04o}); run 'chmod 600 {0}'",
            path.display(),
            metadata.mode() & 0o7777
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Kek::parse(&text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

fn from_variable(name: &str) -> Result<Kek, CliError> {
    let text = std::env::var(name).map(Zeroizing::new).map_err(|_| {
        CliError::usage(format!(
            "the variable {name} (kek.env) does not hold the KEK; 'openssl rand -hex 32' makes a \
             new one"
        ))
    })?;
    Kek::parse(&text).map_err(|error| CliError::usage(format!("the variable {name}: {error}")))
}
