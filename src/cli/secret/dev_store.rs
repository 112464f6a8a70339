//! Finding the store of `tenure dev` that a folder works with.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::super::failure::CliError;
use super::target::{Access, Source};
use crate::client::Credential;
use crate::domain::{TenantName, WebAddress};

/// Where such a store is, in the folder of its project.
pub(in crate::cli) const FOLDER: &str = ".tenure";
/// What it tells its clients, in that folder.
pub(in crate::cli) const ENV_FILE: &str = "dev.env";
const MOST_BYTES: u64 = 64 * 1024;

/// In the folder, or in the nearest one above.
pub(super) fn find(folder: &Path) -> Result<Option<Access>, CliError> {
    for folder in folder.ancestors() {
        let file = folder.join(FOLDER).join(ENV_FILE);
        if let Some(text) = read(&file)? {
            return understand(&file, &text).map(Some);
        }
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
    let absent =
        [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::PermissionDenied];
    let opened = match File::open(file) {
        Err(error) if absent.contains(&error.kind()) => return Ok(None),
        opened => opened,
    };
    let text = opened.and_then(|opened| {
        let about = opened.metadata()?;
        if about.uid() != rustix::process::getuid().as_raw() || !about.is_file() {
            return Ok(None);
        }
        let mut text = Zeroizing::new(String::with_capacity(4 * 1024));
        opened.take(MOST_BYTES).read_to_string(&mut text)?;
        Ok(Some(text))
    });
    text.map_err(|error| CliError::usage(format!("{} cannot be read: {error}", file.display())))
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
    let address = address.filter(WebAddress::is_loopback).ok_or_else(broken)?;
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
