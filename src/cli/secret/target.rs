//! Which server a command of daily use speaks to, for which tenant, and as whom.
//!
//! An address and the credential for it come from one place, as a pair: a credential is
//! never sent to an address that was said elsewhere. The tenant and the prefix of names
//! may come from the project's folder, which anyone may have written: that names no
//! server and holds no credential.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::super::failure::CliError;
use super::dev_store;
use super::project::Project;
use crate::client::{Client, Credential, Server};
use crate::domain::{NamePrefix, SecretName, TenantName, WebAddress};

const TOKEN: &str = "TENURE_TOKEN";
const API_KEY: &str = "TENURE_API_KEY";

/// Where to, on the command line.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which server")]
pub(in crate::cli) struct TargetArgs {
    /// Address of the server; the credential for it is in TENURE_TOKEN or TENURE_API_KEY
    #[arg(long, env = "TENURE_ADDR", value_name = "URL")]
    pub(super) addr: Option<WebAddress>,
    /// Tenant, instead of the project's (.tenure.toml) or the credential's
    #[arg(long, env = "TENURE_TENANT", value_name = "NAME")]
    pub(super) tenant: Option<TenantName>,
    /// Names are given and shown without it [default: the project's, from .tenure.toml]
    #[arg(long, value_name = "PREFIX")]
    pub(super) prefix: Option<NamePrefix>,
    /// Certificate of the CA that vouches for the server, instead of the system's
    #[arg(long, env = "TENURE_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

/// What a command speaks to.
#[derive(Debug)]
pub(in crate::cli) struct Target {
    pub(super) server: Server,
    pub(super) source: Source,
    /// What all names of the project begin with.
    pub(super) prefix: NamePrefix,
}

/// Where the address and the credential come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `TENURE_ADDR` or `--addr`, and a variable with the credential.
    Variables,
    /// A store of `tenure dev`, by its file of variables.
    Dev(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables => f.write_str("TENURE_ADDR and its credential"),
            Self::Dev(file) => write!(f, "{}", file.display()),
        }
    }
}

/// An address and the credential that goes there.
pub(super) struct Access {
    pub(super) address: WebAddress,
    pub(super) credential: Credential,
    pub(super) tenant: Option<TenantName>,
    pub(super) ca: Option<PathBuf>,
    pub(super) source: Source,
}

impl Target {
    pub(in crate::cli) fn find(args: &TargetArgs) -> Result<Self, CliError> {
        let here = std::env::current_dir().map_err(super::super::internal)?;
        let project = Project::find(&here)?;
        let Access { address, credential, tenant, ca, source } = access(args, &here)?;
        let Project { tenant: of_project, prefix: of_names, .. } = project.unwrap_or_default();
        let tenant = args.tenant.clone().or(of_project).or(tenant).ok_or_else(|| {
            CliError::usage("which tenant? say --tenant NAME, or set TENURE_TENANT")
        })?;
        let prefix = args.prefix.clone().or(of_names).unwrap_or_default();
        let ca = args.ca.clone().or(ca);
        Ok(Self { server: Server { address, tenant, credential, ca }, source, prefix })
    }

    /// Names of this target, and a client for it.
    pub(in crate::cli) fn open(self) -> Result<(Client, Names), CliError> {
        let Self { server, source, prefix } = self;
        let names = Names { prefix, place: Place::of(&server, source) };
        Ok((Client::new(server).map_err(|error| names.place.failed(error))?, names))
    }
}

fn access(args: &TargetArgs, here: &Path) -> Result<Access, CliError> {
    let credential = credential_of_variables()?;
    match (&args.addr, credential) {
        (Some(address), Some(credential)) => Ok(Access {
            address: address.clone(),
            credential,
            tenant: None,
            ca: None,
            source: Source::Variables,
        }),
        (Some(_), None) => Err(CliError::usage(format!(
            "an address is said and no credential for it; set {TOKEN} or {API_KEY}"
        ))),
        (None, Some(_)) => Err(CliError::usage(
            "a credential is set in the environment and no address to send it to; set TENURE_ADDR",
        )),
        (None, None) => dev_store::find(here)?.ok_or_else(nowhere),
    }
}

fn nowhere() -> CliError {
    CliError::usage(
        "no server is named: 'tenure dev' starts a local one here; for another, set TENURE_ADDR, \
         TENURE_TENANT, and TENURE_TOKEN or TENURE_API_KEY",
    )
}

fn credential_of_variables() -> Result<Option<Credential>, CliError> {
    match (variable(TOKEN)?, variable(API_KEY)?) {
        (Some(_), Some(_)) => Err(CliError::usage(format!(
            "both {TOKEN} and {API_KEY} are set; unset the one that is not meant"
        ))),
        (Some(token), None) => Ok(Some(Credential::Token(token))),
        (None, key) => Ok(key.map(Credential::ApiKey)),
    }
}

/// One that is set and not empty.
fn variable(name: &str) -> Result<Option<Zeroizing<String>>, CliError> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(Zeroizing::new(value))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(CliError::usage(format!("{name} is not text")))
        }
    }
}

/// Names as they are typed and shown, and where they are.
#[derive(Debug)]
pub(in crate::cli) struct Names {
    prefix: NamePrefix,
    pub(super) place: Place,
}

impl Names {
    #[cfg(test)]
    pub(super) fn of_tests(prefix: &str) -> Self {
        let tenant = TenantName::parse("acme").expect("a name");
        let prefix = NamePrefix::parse(prefix).expect("a prefix");
        Self { prefix, place: Place { tenant, source: Source::Variables } }
    }

    /// As the server knows it.
    pub(super) fn whole(&self, typed: &str) -> Result<SecretName, CliError> {
        let whole = format!("{}{typed}", self.prefix.as_str());
        let name =
            if typed.is_empty() { SecretName::parse(typed) } else { SecretName::parse(&whole) };
        name.map_err(|error| match self.prefix.as_str() {
            "" => CliError::usage(format!("the name of a secret {error}")),
            prefix => CliError::usage(format!("the name of a secret, after '{prefix}', {error}")),
        })
    }

    /// Those of the project that begin with `typed`.
    pub(super) fn below(&self, typed: &str) -> Result<NamePrefix, CliError> {
        let whole = format!("{}{typed}", self.prefix.as_str());
        NamePrefix::parse(&whole)
            .map_err(|error| CliError::usage(format!("the beginning of names {error}")))
    }

    /// As it is typed.
    pub(super) fn shown<'n>(&self, name: &'n SecretName) -> &'n str {
        let name = name.as_str();
        name.strip_prefix(self.prefix.as_str()).unwrap_or(name)
    }
}

/// Where requests go, for messages.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tenant: TenantName,
    pub(super) source: Source,
}

impl Place {
    fn of(server: &Server, source: Source) -> Self {
        Self { tenant: server.tenant.clone(), source }
    }
}
