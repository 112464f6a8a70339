//! Up to where copies were taken, in a file beside the store.
//!
//! It holds nothing that is secret: ids of chains and numbers. It is not in the store,
//! where each second would be a commit more, and a backup would take it to a store whose
//! audit begins anew.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::backup_file::{Existing, NewFile};
use crate::cli::data::cannot;
use crate::cli::failure::CliError;
use crate::vault::{CopiesTo, CopyCursors, Vault};

pub(super) struct CursorFile {
    path: PathBuf,
    /// Whether the last attempt to write it failed, which is said once.
    failed: Cell<bool>,
}

impl CursorFile {
    pub(super) fn of(data: &Path, to: CopiesTo) -> Self {
        let path = data.join(format!("audit-{}.cursors", to.word()));
        Self { path, failed: Cell::new(false) }
    }

    /// Those of the beginning, where there are none that are good.
    pub(super) fn read(&self, vault: &Vault) -> CopyCursors {
        let why = match fs::read_to_string(&self.path) {
            Ok(text) => match CopyCursors::parse(&text, vault) {
                Ok(cursors) => return cursors,
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return CopyCursors::default(),
            Err(error) => error.to_string(),
        };
        log::warn!(
            "copies of the audit begin anew, and repeat what was copied: {} does not say up to \
             where that was: {why}",
            self.path.display()
        );
        CopyCursors::default()
    }

    /// Where that fails, more is repeated after the next start.
    pub(super) fn write(&self, cursors: &CopyCursors, vault: &Vault) {
        let written = self.replace(&cursors.text(vault));
        let failed_before = self.failed.replace(written.is_err());
        if let (Err(CliError { message, .. }), false) = (written, failed_before) {
            log::warn!("up to where the audit was copied is not stored: {message}");
        }
    }

    /// The one before, or this one, whole and durable.
    fn replace(&self, text: &str) -> Result<(), CliError> {
        let new = NewFile::begin(&self.path, Existing::Replaced)?;
        let written = new.writer().and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| cannot("write", &self.path, &error))?;
        new.keep()
    }
}
