//! Which local store: of which folder, for which tenant, with which beginning of names.

use std::path::{Path, PathBuf};

use super::super::failure::CliError;
use super::super::secret::{self, Project};
use super::super::{access, format, internal};
use crate::domain::{NamePrefix, TenantName, WebAddress};

const TENANT: &str = "dev";

#[derive(Debug)]
pub(super) struct Home {
    pub(super) data: PathBuf,
    pub(super) tenant: TenantName,
    pub(super) prefix: NamePrefix,
}

impl Home {
    /// The one that is said, else that of the project, from its subfolders too, else that of
    /// this folder.
    pub(super) fn find(said: Option<PathBuf>) -> Result<Self, CliError> {
        let here = secret::here()?;
        let project = Project::find(&here)?.unwrap_or_default();
        let of_project = project.file.parent().filter(|folder| **folder != here);
        let folder = of_project.unwrap_or(Path::new("."));
        let data = said.unwrap_or_else(|| folder.join(secret::FOLDER));
        let tenant = project.tenant.map_or_else(|| TenantName::parse(TENANT), Ok);
        Ok(Self {
            data,
            tenant: tenant.map_err(internal)?,
            prefix: project.prefix.unwrap_or_default(),
        })
    }

    /// The one that a client in this folder speaks to, or that `tenure dev` would make.
    pub(super) fn of_clients(said: Option<PathBuf>) -> Result<Self, CliError> {
        let is_said = said.is_some();
        let home = Self::find(said)?;
        if is_said || holds_a_store(&Path::new(".").join(secret::FOLDER)) {
            return Ok(home);
        }
        let here = secret::here()?;
        let mut above = here.ancestors().map(|folder| folder.join(secret::FOLDER));
        let nearest = above.find(|data| holds_a_store(data));
        Ok(Self { data: nearest.unwrap_or(home.data), ..home })
    }

    /// Where its server was, or is, if one ever was.
    pub(super) fn address(&self) -> Option<WebAddress> {
        secret::dev_server(&self.data).map(|said| said.address)
    }
}

/// Whether `tenure dev` made it.
pub(super) fn holds_a_store(data: &Path) -> bool {
    let has = |name: &str| data.join(name).is_file();
    has(format::FILE) && (has(access::DEV_KEK) || has(secret::ENV_FILE))
}
