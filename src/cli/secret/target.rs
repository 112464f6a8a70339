//! Which server a command of daily use speaks to, for which tenant, and as whom.
//!
//! An address and the credential for it come from one place, as a pair: a credential is
//! never sent to an address that was said elsewhere. The tenant and the prefix of names
//! may come from the project's folder, which anyone may have written: that names no
//! server and holds no credential.
//!
//! The first of these places counts: `--profile`; an address that is said, with the
//! credential of a variable; `TENURE_PROFILE`; the store of `tenure dev` of this folder; the
//! default profile.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use zeroize::Zeroizing;

use super::super::failure::CliError;
use super::keyring::Patience;
use super::project::Project;
use super::{dev_store, profile};
use crate::client::{Client, Credential, Server};
use crate::config::ProfileName;
use crate::domain::{NamePrefix, SecretName, TenantName, WebAddress};

pub(super) const ADDRESS: &str = "TENURE_ADDR";
pub(super) const TENANT: &str = "TENURE_TENANT";
pub(super) const CA: &str = "TENURE_CA";
pub(super) const PROFILE: &str = "TENURE_PROFILE";
const TOKEN: &str = "TENURE_TOKEN";
const API_KEY: &str = "TENURE_API_KEY";

/// Where to, on the command line. Variables are read where they are needed: `whoami` says
/// which was, and one that is set is no contradiction to `--profile`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which server")]
pub(in crate::cli) struct TargetArgs {
    /// Server, tenant and credential that 'tenure login' stored under this name [env:
    /// TENURE_PROFILE]
    #[arg(long, value_name = "NAME", conflicts_with = "addr")]
    pub(super) profile: Option<ProfileName>,
    /// Address of the server; the credential for it is in TENURE_TOKEN or TENURE_API_KEY [env:
    /// TENURE_ADDR]
    #[arg(long, value_name = "URL")]
    pub(super) addr: Option<WebAddress>,
    /// Tenant, instead of the project's (.tenure.toml) or the credential's [env: TENURE_TENANT]
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<TenantName>,
    /// Names are given and shown without it [default: the project's, from .tenure.toml]
    #[arg(long, value_name = "PREFIX")]
    pub(super) prefix: Option<NamePrefix>,
    /// Certificate of the CA that vouches for the server, instead of the system's [env: TENURE_CA]
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

/// What a command speaks to.
#[derive(Debug)]
pub(in crate::cli) struct Target {
    pub(super) server: Server,
    pub(super) source: Source,
    /// What all names of the project begin with.
    pub(super) prefix: NamePrefix,
    pub(super) origins: Origins,
}

/// Where the address and the credential come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// `TENURE_ADDR` or `--addr`, and a variable with the credential.
    Variables,
    /// What `tenure login` stored.
    Profile(ProfileName),
    /// A store of `tenure dev`, by its file of variables.
    Dev(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables => f.write_str("TENURE_ADDR and its credential"),
            Self::Profile(name) => write!(f, "profile '{name}'"),
            Self::Dev(file) => write!(f, "{}", file.display()),
        }
    }
}

/// Where each part of a target was said, for people.
#[derive(Debug)]
pub(super) struct Origins {
    pub(super) address: Origin,
    pub(super) credential: Origin,
    pub(super) tenant: Origin,
    /// `None`: there is no prefix.
    pub(super) prefix: Option<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// An option or a variable, by its name.
    Said(&'static str),
    Project(PathBuf),
    Place(Source),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(name) => f.write_str(name),
            Self::Project(file) => write!(f, "{}", file.display()),
            Self::Place(source) => write!(f, "{source}"),
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
        Self::find_within(args, Patience::ForAPerson)
    }

    /// The same by who does not wait for long.
    pub(in crate::cli) fn find_within(
        args: &TargetArgs,
        patience: Patience,
    ) -> Result<Self, CliError> {
        let here = here()?;
        let project = Project::find(&here)?.unwrap_or_default();
        let (access, address, credential) = access(args, &here, patience)?;
        let place = || Origin::Place(access.source.clone());
        let of_project = |said| (said, Origin::Project(project.file.clone()));
        let tenant = said(args.tenant.as_ref(), "--tenant", TENANT)?
            .or_else(|| project.tenant.clone().map(of_project))
            .or_else(|| access.tenant.clone().map(|tenant| (tenant, place())));
        let (tenant, of_tenant) = tenant.ok_or_else(|| {
            CliError::usage("which tenant? say --tenant NAME, or set TENURE_TENANT")
        })?;
        let of_project = |said| (said, Origin::Project(project.file.clone()));
        let flag = args.prefix.clone().map(|prefix| (prefix, Origin::Said("--prefix")));
        let (prefix, of_prefix) = flag.or_else(|| project.prefix.clone().map(of_project)).unzip();
        let ca = said(args.ca.as_ref(), "--ca", CA)?.map(|(file, _)| file);
        let origins = Origins { address, credential, tenant: of_tenant, prefix: of_prefix };
        let Access { address, credential, tenant: _, ca: of_place, source } = access;
        let server = Server { address, tenant, credential, ca: ca.or(of_place) };
        Ok(Self { server, source, prefix: prefix.unwrap_or_default(), origins })
    }

    /// Names of this target, and a client for it.
    pub(in crate::cli) fn open(self) -> Result<(Client, Names), CliError> {
        self.source.refuse_another()?;
        self.open_unasked()
    }

    /// The same by who asks [`Source::is_there`] before each request.
    pub(in crate::cli) fn open_unasked(self) -> Result<(Client, Names), CliError> {
        let Self { server, source, prefix, origins: _ } = self;
        let names = Names { prefix, place: Place::of(&server, source) };
        Ok((Client::new(server).map_err(|error| names.place.failed(error))?, names))
    }
}

impl Source {
    /// Whether the credential would go to the server that it is for, as far as can be known:
    /// the address of a local store that has ended may be anybody's.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Dev(file) => dev_store::is_served(file),
            Self::Variables | Self::Profile(_) => true,
        }
    }

    fn refuse_another(&self) -> Result<(), CliError> {
        match self {
            Self::Dev(file) if !self.is_there() => Err(dev_store::not_served(file)),
            _ => Ok(()),
        }
    }
}

/// With where the address and where the credential was said.
fn access(
    args: &TargetArgs,
    here: &Path,
    patience: Patience,
) -> Result<(Access, Origin, Origin), CliError> {
    if let Some(name) = &args.profile {
        return stored(profile::access(name, patience)?);
    }
    match (said_address(args.addr.as_ref())?, credential_of_variables()?) {
        (Some((address, origin)), Some((credential, variable))) => {
            let source = Source::Variables;
            let access = Access { address, credential, tenant: None, ca: None, source };
            return Ok((access, origin, Origin::Said(variable)));
        }
        (Some(_), None) => {
            return Err(CliError::usage(format!(
                "an address is said and no credential for it; set {TOKEN} or {API_KEY}, or say \
                 --profile NAME for one that 'tenure login' stored"
            )));
        }
        (None, Some(_)) => {
            return Err(CliError::usage(
                "a credential is set in the environment and no address to send it to; set \
                 TENURE_ADDR",
            ));
        }
        (None, None) => {}
    }
    if let Some((name, _)) = said(None, "", PROFILE)? {
        return stored(profile::access(&name, patience)?);
    }
    if let Some(dev) = dev_store::find(here)? {
        return stored(dev);
    }
    stored(profile::default_access(patience)?.ok_or_else(nowhere)?)
}

/// Address and credential of one place.
fn stored(access: Access) -> Result<(Access, Origin, Origin), CliError> {
    let place = Origin::Place(access.source.clone());
    Ok((access, place.clone(), place))
}

fn nowhere() -> CliError {
    CliError::usage(
        "no server is named: 'tenure dev' starts a local one here, and 'tenure login' stores the \
         address of another; or set TENURE_ADDR, TENURE_TENANT, and TENURE_TOKEN or TENURE_API_KEY",
    )
}

/// The folder that this runs in, which may have been removed.
pub(in crate::cli) fn here() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|error| {
        CliError::usage(format!("the folder that this runs in cannot be found: {error}"))
    })
}

/// Paths of the API are appended to it.
pub(super) fn said_address(
    flag: Option<&WebAddress>,
) -> Result<Option<(WebAddress, Origin)>, CliError> {
    match said(flag, "--addr", ADDRESS)? {
        Some((address, Origin::Said(name))) if address.has_query() => {
            Err(CliError::usage(format!("{name} has a '?', which the address of a server has not")))
        }
        said => Ok(said),
    }
}

/// What an option says, else what a variable does.
pub(super) fn said<T>(
    flag: Option<&T>,
    option: &'static str,
    name: &'static str,
) -> Result<Option<(T, Origin)>, CliError>
where
    T: Clone + FromStr,
    T::Err: fmt::Display,
{
    if let Some(value) = flag {
        return Ok(Some((value.clone(), Origin::Said(option))));
    }
    let Some(text) = variable(name)? else { return Ok(None) };
    let value = text.parse().map_err(|error| CliError::usage(format!("{name} {error}")))?;
    Ok(Some((value, Origin::Said(name))))
}

/// With the name of the variable.
fn credential_of_variables() -> Result<Option<(Credential, &'static str)>, CliError> {
    match (variable(TOKEN)?, variable(API_KEY)?) {
        (Some(_), Some(_)) => Err(CliError::usage(format!(
            "both {TOKEN} and {API_KEY} are set; unset the one that is not meant"
        ))),
        (Some(token), None) => Ok(Some((Credential::Token(token), TOKEN))),
        (None, key) => Ok(key.map(|key| (Credential::ApiKey(key), API_KEY))),
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
        let address = WebAddress::parse("http://127.0.0.1:1").expect("an address");
        Self { prefix, place: Place { address, tenant, source: Source::Variables } }
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
    pub(super) address: WebAddress,
    pub(super) tenant: TenantName,
    pub(super) source: Source,
}

impl Place {
    pub(super) fn of(server: &Server, source: Source) -> Self {
        Self { address: server.address.clone(), tenant: server.tenant.clone(), source }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenant '{}' at {}", self.tenant, self.address.as_str())
    }
}
