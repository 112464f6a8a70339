//! Where a file of secrets comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::super::super::failure::CliError;
use super::{Format, Item, MOST_BYTES, read};

/// All secrets of a file, or of standard input (`-`).
pub(in crate::cli) fn load(path: &Path, said: Option<Format>) -> Result<Vec<Item>, CliError> {
    let shown = shown(path);
    let format = said.or_else(|| Format::of(path)).ok_or_else(|| {
        CliError::usage(format!("of what format is {shown}? say --format dotenv, json or yaml"))
    })?;
    let text = text(path)?;
    read(&text, format).map_err(|fault| CliError::usage(format!("{shown}: {fault}")))
}

/// Of a file, or of standard input.
pub(in crate::cli) fn text(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let shown = shown(path);
    let unreadable = |error: io::Error| CliError::usage(format!("{shown} cannot be read: {error}"));
    let bytes = match is_stdin(path) {
        true => all(io::stdin().lock()),
        false => File::open(path).and_then(all),
    };
    let bytes = bytes.map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(CliError::usage(format!(
            "{shown} is larger than {} MiB; split it",
            MOST_BYTES / (1024 * 1024)
        )));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(CliError::usage(format!(
            "{shown} is not UTF-8; save it so, and store what is no text as base64"
        ))),
    }
}

/// One byte more than is allowed tells that it is more.
fn all(file: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(in crate::cli) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn shown(path: &Path) -> String {
    if is_stdin(path) { "standard input".to_owned() } else { path.display().to_string() }
}
