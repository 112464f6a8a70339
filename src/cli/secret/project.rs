//! `.tenure.toml`: which tenant a project's secrets are in, and what their names begin
//! with. It is shared with the code, so it names no server and holds no credential.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::failure::CliError;
use super::small_file::SmallFile;
use crate::config;
use crate::domain::{NamePrefix, TenantName};

pub(in crate::cli) const FILE: &str = ".tenure.toml";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Project {
    /// The file that says so.
    pub(in crate::cli) file: PathBuf,
    pub(in crate::cli) tenant: Option<TenantName>,
    pub(in crate::cli) prefix: Option<NamePrefix>,
}

impl Project {
    /// Of the folder, or of the nearest one above that has one.
    pub(in crate::cli) fn find(folder: &Path) -> Result<Option<Self>, CliError> {
        for folder in folder.ancestors() {
            if let Some(project) = Self::read(&folder.join(FILE))? {
                return Ok(Some(project));
            }
        }
        Ok(None)
    }

    fn read(file: &Path) -> Result<Option<Self>, CliError> {
        let unreadable = |error: io::Error| {
            CliError::usage(format!("{} cannot be read: {error}", file.display()))
        };
        let Some(opened) = SmallFile::open(file).map_err(unreadable)? else { return Ok(None) };
        // In a folder that others may write to, such as /tmp, it would be theirs.
        let owner = opened.about.uid();
        if owner != 0 && owner != rustix::process::getuid().as_raw() {
            return Err(CliError::usage(format!(
                "{} belongs to another user and would say which secrets are meant; remove it, or \
                 work elsewhere",
                file.display()
            )));
        }
        let text = opened.text().map_err(unreadable)?;
        let said = config::project(&text)
            .map_err(|problem| CliError::usage(format!("{}: {problem}", file.display())))?;
        Ok(Some(Self { file: file.to_owned(), tenant: said.tenant, prefix: said.prefix }))
    }
}
