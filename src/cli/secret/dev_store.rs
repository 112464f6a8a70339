//! Finding the store of `tenure dev` that a folder works with.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::super::failure::CliError;
use super::small_file::SmallFile;
use super::target::{Access, Source};
use crate::client::Credential;
use crate::domain::{TenantName, WebAddress};
use crate::http::AdminClient;

/// Where such a store is, in the folder of its project.
pub(in crate::cli) const FOLDER: &str = ".tenure";
/// What it tells its clients, in that folder.
pub(in crate::cli) const ENV_FILE: &str = "dev.env";

/// In the folder, or in the nearest one above.
pub(super) fn find(folder: &Path) -> Result<Option<Access>, CliError> {
    for folder in folder.ancestors() {
        let file = folder.join(FOLDER).join(ENV_FILE);
        let Some(text) = read(&file)? else { continue };
        return understand(&file, &text).map(Some);
    }
    Ok(None)
}

/// What the server of a data folder told its clients when it began to serve.
pub(in crate::cli) struct DevServer {
    pub(in crate::cli) address: WebAddress,
    pub(in crate::cli) tenant: Option<TenantName>,
}

/// `None` where it told nothing that is understood.
pub(in crate::cli) fn dev_server(data: &Path) -> Option<DevServer> {
    let file = data.join(ENV_FILE);
    let text = read(&file).ok()??;
    let Access { address, tenant, .. } = understand(&file, &text).ok()?;
    Some(DevServer { address, tenant })
}

/// `None` where there is none, or where it is another user's.
fn read(file: &Path) -> Result<Option<Zeroizing<String>>, CliError> {
    let failed = |error| CliError::usage(format!("{} cannot be read: {error}", file.display()));
    let Some(opened) = SmallFile::open(file).map_err(failed)? else { return Ok(None) };
    if opened.about.uid() != rustix::process::getuid().as_raw() {
        return Ok(None);
    }
    opened.text().map(Some).map_err(failed)
}

/// Whether the server that wrote the file is there: it holds a socket in the folder, which
/// no repository brings along, and is of our own user. Whatever has its address when it is
/// not would be sent the credential, and values.
pub(super) fn is_served(file: &Path) -> bool {
    let Some(data) = file.parent() else { return false };
    let ours = rustix::process::getuid().as_raw();
    // Who answers is the folder's owner, or there is an error.
    fs::metadata(data).is_ok_and(|about| about.uid() == ours)
        && matches!(AdminClient::connect(data), Ok(Some(_)))
}

pub(super) fn not_served(file: &Path) -> CliError {
    let data = file.parent().unwrap_or(file);
    CliError::unavailable(format!(
        "the local store of {} does not run: 'tenure dev' starts it; another server is meant with \
         --profile or TENURE_ADDR",
        data.display()
    ))
}

/// A file of this kind may have come with somebody's code: what it names is on this
/// machine, or nothing is sent.
fn understand(file: &Path, text: &str) -> Result<Access, CliError> {
    let broken = || {
        CliError::usage(format!(
            "{} does not say where a local store is; 'tenure dev' writes it anew",
            file.display()
        ))
    };
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='))
    };
    let address = value("TENURE_ADDR").and_then(|text| WebAddress::parse(text).ok());
    let is_local = |address: &WebAddress| address.is_loopback() && address.is_origin();
    let address = address.filter(is_local).ok_or_else(broken)?;
    let tenant = value("TENURE_TENANT").and_then(|text| TenantName::parse(text).ok());
    let token = value("TENURE_TOKEN").ok_or_else(broken)?;
    Ok(Access {
        address,
        credential: Credential::Token(Zeroizing::new(token.to_owned())),
        tenant,
        ca: None,
        // As a person would say it.
        source: Source::Dev(fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())),
    })
}
