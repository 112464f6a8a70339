//! Profiles: servers that `tenure login` stored. What uses them, shows them, and removes
//! them.

use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::home::Home;
use super::keyring::{self, Entry, Patience};
use super::target::{Access, Source};
use super::{credential_of, say};
use crate::config::{CredentialPlace, Profile, ProfileName, Profiles};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tenure profile list\n  tenure profile use work\n\n\
    'tenure login' stores a profile, and 'tenure logout' removes one.")]
pub(in crate::cli) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    /// List the servers that are stored, and which is meant by default
    #[command(after_help = "Example:\n  tenure profile list\n  tenure profile list --json")]
    List,
    /// Choose the profile that is meant where nothing else is said
    #[command(after_help = "Example:\n  tenure profile use work\n\nA store of 'tenure dev' in \
        the folder where you are goes before it.")]
    Use {
        /// Name of the profile
        name: ProfileName,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogoutArgs {
    /// Name of the profile [default: the default one]
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,
}

/// The server and the credential of a profile.
pub(super) fn access(name: &ProfileName, patience: Patience) -> Result<Access, CliError> {
    let home = Home::find()?;
    let mut profiles = home.profiles()?;
    let profile = profiles.named.remove(name).ok_or_else(|| unknown(name, &profiles))?;
    of(&home, name, profile, patience)
}

pub(super) fn default_access(patience: Patience) -> Result<Option<Access>, CliError> {
    // Who has no home has no profile either.
    let Ok(home) = Home::find() else { return Ok(None) };
    let Profiles { default, mut named } = home.profiles()?;
    let Some(name) = default else { return Ok(None) };
    let profile = named.remove(&name);
    profile.map(|profile| of(&home, &name, profile, patience)).transpose()
}

fn of(
    home: &Home,
    name: &ProfileName,
    profile: Profile,
    patience: Patience,
) -> Result<Access, CliError> {
    let text = kept_credential(home, name, &profile, patience)?;
    let Profile { address, tenant, ca, credential: _ } = profile;
    Ok(Access {
        address,
        credential: credential_of(text),
        tenant: Some(tenant),
        ca,
        source: Source::Profile(name.clone()),
    })
}

fn kept_credential(
    home: &Home,
    name: &ProfileName,
    profile: &Profile,
    patience: Patience,
) -> Result<Zeroizing<String>, CliError> {
    let address = &profile.address;
    let found = match profile.credential {
        CredentialPlace::Keyring => {
            let found = keyring::look_up(Entry { profile: name, address }, patience);
            found.map_err(|why| {
                CliError::unavailable(format!(
                    "the keyring does not give the credential of profile '{name}': {why}; unlock \
                     it, or store the credential in a file: tenure login --profile {name} \
                     --credential-store file"
                ))
            })?
        }
        CredentialPlace::File => home.credentials()?.of(name, address),
    };
    found.ok_or_else(|| CliError {
        exit: Exit::Denied,
        message: format!(
            "no credential is stored for profile '{name}'; run 'tenure login --profile {name}'"
        ),
    })
}

fn unknown(name: &ProfileName, profiles: &Profiles) -> CliError {
    let known: Vec<_> = profiles.named.keys().map(ProfileName::as_str).collect();
    let known = match known.as_slice() {
        [] => "none is stored".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    CliError {
        exit: Exit::NotFound,
        message: format!("no profile '{name}': {known}; 'tenure login --profile {name}' stores it"),
    }
}

pub(in crate::cli) fn profile(args: ProfileArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        ProfileCommand::List => list(output),
        ProfileCommand::Use { name } => choose(name, output),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'p> {
    name: &'p str,
    default: bool,
    address: &'p str,
    tenant: &'p str,
    ca: Option<String>,
    credential_store: &'static str,
}

fn list(output: Output) -> Result<(), CliError> {
    let profiles = Home::find()?.profiles()?;
    let rows: Vec<_> = profiles
        .named
        .iter()
        .map(|(name, Profile { address, tenant, ca, credential })| Row {
            name: name.as_str(),
            default: profiles.default.as_ref() == Some(name),
            address: address.as_str(),
            tenant: tenant.as_str(),
            ca: ca.as_ref().map(|file| file.display().to_string()),
            credential_store: credential.as_str(),
        })
        .collect();
    if rows.is_empty() && !output.json {
        say("no profiles; 'tenure login' stores one\n");
    }
    output.show(&rows, || table(&rows))
}

fn table(rows: &[Row<'_>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let widest = |cell: fn(&Row<'_>) -> usize| rows.iter().map(cell).max().unwrap_or(0);
    let name = widest(|row| row.name.len()).max(4);
    let tenant = widest(|row| row.tenant.len()).max(6);
    let mut table =
        format!("  {:name$}  {:tenant$}  {:10}  ADDRESS\n", "NAME", "TENANT", "CREDENTIAL");
    for row in rows {
        let mark = if row.default { '*' } else { ' ' };
        table += &format!(
            "{mark} {:name$}  {:tenant$}  {:10}  {}\n",
            row.name, row.tenant, row.credential_store, row.address
        );
    }
    table
}

fn choose(name: ProfileName, output: Output) -> Result<(), CliError> {
    let home = Home::find()?;
    let change = home.change()?;
    let mut profiles = home.profiles()?;
    if !profiles.named.contains_key(&name) {
        return Err(unknown(&name, &profiles));
    }
    profiles.default = Some(name.clone());
    change.profiles(&profiles)?;
    say(&format!("profile '{name}' is the default now\n"));
    output.show(&serde_json::json!({ "default": name.as_str() }), String::new)
}

/// Removes a profile and its credential. The credential itself goes on being good.
pub(in crate::cli) fn logout(args: LogoutArgs, output: Output) -> Result<(), CliError> {
    let home = Home::find()?;
    let change = home.change()?;
    let mut profiles = home.profiles()?;
    let name = args.profile.or_else(|| profiles.default.clone()).ok_or_else(|| CliError {
        exit: Exit::NotFound,
        message: "there is no default profile; say --profile NAME ('tenure profile list')".into(),
    })?;
    let profile = profiles.named.remove(&name).ok_or_else(|| unknown(&name, &profiles))?;
    if profiles.default.as_ref() == Some(&name) {
        profiles.default = None;
    }
    // The credential first: what is left of a logout that breaks off can be seen.
    match profile.credential {
        CredentialPlace::Keyring => {
            let entry = Entry { profile: &name, address: &profile.address };
            keyring::remove(entry).map_err(|why| {
                CliError::unavailable(format!(
                    "the keyring does not remove the credential of profile '{name}': {why}; \
                     nothing was changed: unlock it, and run this again"
                ))
            })?;
        }
        CredentialPlace::File => {
            let mut credentials = home.credentials()?;
            if credentials.remove(&name) {
                change.credentials(&credentials)?;
            }
        }
    }
    change.profiles(&profiles)?;
    say(&logged_out(&name, &profiles));
    output.show(&serde_json::json!({ "removed": name.as_str() }), String::new)
}

fn logged_out(name: &ProfileName, profiles: &Profiles) -> String {
    let next = match (&profiles.default, profiles.named.keys().next()) {
        (None, Some(other)) => {
            format!("no profile is the default now: tenure profile use {other}\n")
        }
        _ => String::new(),
    };
    format!(
        "profile '{name}' and its credential are removed from this machine; the server takes it \
         until it\nexpires or is revoked\n{next}"
    )
}
