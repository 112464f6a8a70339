//! `kek.source = "credential"`: what systemd hands to a service, from a plain file
//! (`LoadCredential=`) or from one that only this machine or its TPM can decrypt
//! (`LoadCredentialEncrypted=`).

use std::path::{Path, PathBuf};

use super::file::{self, Readers};
use super::{CliError, LOST, Material, NewKek, Plain, refuse_key_as_name};
use crate::crypto::{Kek, KekWay};

const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Of this name.
pub(super) struct Source(pub(super) String);

impl Source {
    fn read(&self) -> Result<Kek, CliError> {
        let Self(name) = self;
        refuse_key_as_name("kek.credential", name)?;
        let folder = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty());
        let folder = folder.map(PathBuf::from).ok_or_else(|| {
            CliError::usage(format!(
                "the credential {name} (kek.credential) is there only in a systemd service, which \
                 sets {FOLDER}: write LoadCredential={name}:/path or LoadCredentialEncrypted= into \
                 its unit; for one command, 'systemd-run --pty -p LoadCredential={name}:/path \
                 tenure …'"
            ))
        })?;
        file::read(&folder.join(name), Readers::NotOthers, |path| self.missing(path))
    }

    fn missing(&self, path: &Path) -> String {
        format!(
            "there is no credential {0} (kek.credential) at {1}: write LoadCredential={0}:/path \
             or LoadCredentialEncrypted= into the unit",
            self.0,
            path.display()
        )
    }
}

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        Ok(Box::new(Plain { kek: self.read()?, way: KekWay::Credential }))
    }

    fn create(&self) -> Result<NewKek, CliError> {
        Ok(NewKek { kek: self.read()?, way: KekWay::Credential, created: None })
    }

    fn protection(&self) -> String {
        format!(
            "The KEK is the credential {} of a systemd service. At rest it is as safe as the unit \
             keeps it: LoadCredential= reads a file as it is, LoadCredentialEncrypted= one that \
             only this machine can decrypt, or its TPM; what is bound to a machine is lost with \
             it. {LOST}",
            self.0
        )
    }
}
