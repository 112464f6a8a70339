//! `tenure login`: proves a credential and stores it, with the server that it is for.
//!
//! The credential is typed without being shown, or read from standard input; it is no
//! option and no argument. It is stored in the keyring of the desktop where there is one
//! that works, else in a file of the user's alone, and which it was is said.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::clock::SystemClock;
use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::super::{internal, prompt};
use super::home::{Change, Home};
use super::keyring::{self, Entry};
use super::known::{Known, Standing};
use super::target::{CA, PROFILE, Place, Source, TENANT, said, said_address};
use super::{credential_of, say};
use crate::client::{Client, ClientError, Server};
use crate::config::{CredentialPlace, Profile, ProfileName, Profiles};
use crate::domain::{Clock, NamePrefix, TenantName, WebAddress};

/// More than any credential, so that one that is too large is told so.
const MOST_INPUT: u64 = 64 * 1024;
const LONGEST: usize = 8 * 1024;
const DEFAULT_NAME: &str = "default";

#[derive(Debug, Args)]
pub(in crate::cli) struct LoginArgs {
    /// Name to store it under [env: TENURE_PROFILE] [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,
    /// Address of the server [env: TENURE_ADDR] [default: the profile's; else it is asked for]
    #[arg(long, value_name = "URL")]
    addr: Option<WebAddress>,
    /// Tenant [env: TENURE_TENANT] [default: the token's or the profile's; else it is asked for]
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
    /// Certificate of the CA that vouches for the server, instead of the system's [env: TENURE_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Where the credential is stored; auto is the keyring where one works, else the file
    #[arg(long, value_name = "WHERE", value_enum, default_value_t = StoreChoice::Auto)]
    credential_store: StoreChoice,
    /// Store it without asking the server whether it is good
    #[arg(long)]
    no_check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreChoice {
    Auto,
    Keyring,
    File,
}

pub(in crate::cli) async fn login(args: LoginArgs, output: Output) -> Result<(), CliError> {
    let home = Home::find()?;
    let name = said(args.profile.as_ref(), "--profile", PROFILE)?;
    let name = name.map_or_else(|| ProfileName::parse(DEFAULT_NAME), |(name, _)| Ok(name));
    let name = name.map_err(internal)?;
    let before = home.profiles()?.named.remove(&name);
    let address = address(&args, before.as_ref())?;
    same_server(&name, before.as_ref(), &address)?;
    let text = read_credential(&address)?;
    let known = Known::of(&credential_of(text.clone()))?;
    let now = SystemClock.read().wall;
    if known.standing(now) == Standing::Expired {
        return Err(denied(format!("{}; nothing was stored", known.until(now))));
    }
    let tenant = tenant(&args, &known, before.as_ref())?;
    let ca = match said(args.ca.as_ref(), "--ca", CA)? {
        // It is to be found from any folder.
        Some((file, _)) => Some(std::path::absolute(&file).map_err(internal)?),
        None => before.and_then(|profile| profile.ca),
    };
    let proof = if args.no_check {
        Proof::Skipped
    } else {
        let server = Server {
            address: address.clone(),
            tenant: tenant.clone(),
            credential: credential_of(text.clone()),
            ca: ca.clone(),
        };
        prove(server, &name).await?
    };
    let change = home.change()?;
    // Somebody else may have stored another meanwhile.
    same_server(&name, home.profiles()?.named.get(&name), &address)?;
    let entry = Entry { profile: &name, address: &address };
    let (credential, why) = keep(&home, &change, entry, &text, args.credential_store)?;
    let profile = Profile { address: address.clone(), tenant: tenant.clone(), ca, credential };
    let default = enter(&home, &change, &name, profile)?;
    let done = Done {
        profile: name.as_str(),
        address: address.as_str(),
        tenant: tenant.as_str(),
        kind: known.kind(),
        expires: known.expires(),
        checked: proof != Proof::Skipped,
        credential_store: credential.as_str(),
        default,
    };
    let place = match credential {
        CredentialPlace::Keyring => "the keyring".to_owned(),
        CredentialPlace::File => home.credentials_file().display().to_string(),
    };
    say(&done.text(&proof, &known.until(now), &place, why.as_deref()));
    output.show(&done, String::new)
}

fn address(args: &LoginArgs, before: Option<&Profile>) -> Result<WebAddress, CliError> {
    if let Some((address, _)) = said_address(args.addr.as_ref())? {
        return Ok(address);
    }
    match before {
        Some(profile) => Ok(profile.address.clone()),
        None => ask("Address of the server (https://…): ", "--addr URL"),
    }
}

/// A tenant that a token is for needs not be asked for.
fn tenant(
    args: &LoginArgs,
    known: &Known,
    before: Option<&Profile>,
) -> Result<TenantName, CliError> {
    let of_token = known.tenant();
    match (said(args.tenant.as_ref(), "--tenant", TENANT)?, of_token) {
        (Some((said, origin)), Some(of_token)) if said != of_token => {
            Err(CliError::usage(format!(
                "the token is for tenant '{of_token}', and {origin} says '{said}'; nothing was stored"
            )))
        }
        (Some((said, _)), _) => Ok(said),
        (None, Some(of_token)) => Ok(of_token),
        (None, None) => match before {
            Some(profile) => Ok(profile.tenant.clone()),
            None => ask("Tenant: ", "--tenant NAME"),
        },
    }
}

fn ask<T>(question: &str, option: &str) -> Result<T, CliError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(format!(
            "nobody can be asked here: say {option}; nothing was stored"
        )));
    }
    let typed = prompt::typed(question)?;
    typed.trim().parse().map_err(|error| CliError::usage(format!("that {error}")))
}

/// A name that means one server does not come to mean another unseen.
fn same_server(
    name: &ProfileName,
    before: Option<&Profile>,
    address: &WebAddress,
) -> Result<(), CliError> {
    match before {
        Some(profile) if profile.address != *address => Err(CliError {
            exit: Exit::Conflict,
            message: format!(
                "profile '{name}' is for {}; store this one under another name with --profile, or \
                 remove that one first: tenure logout --profile {name}",
                profile.address
            ),
        }),
        _ => Ok(()),
    }
}

fn read_credential(address: &WebAddress) -> Result<Zeroizing<String>, CliError> {
    let stdin = std::io::stdin();
    let typed = if stdin.is_terminal() {
        let question = format!("Token or API key for {address} (not shown): ");
        prompt::hidden_line(&question)?.unwrap_or_default()
    } else {
        // Reserved at once: a buffer that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(String::with_capacity(MOST_INPUT as usize));
        let read = stdin.lock().take(MOST_INPUT).read_to_string(&mut text);
        read.map_err(|_| CliError::usage("standard input holds no token and no API key"))?;
        text
    };
    let text = Zeroizing::new(typed.trim().to_owned());
    if text.is_empty() {
        return Err(CliError::usage(
            "no credential was given: type it, or pipe it in (tenure login < token.txt); nothing \
             was stored",
        ));
    }
    if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CliError::usage(
            "that is no token and no API key: one is a single word of at most 8 KiB; nothing was \
             stored",
        ));
    }
    Ok(text)
}

/// What is known of the credential besides what it says itself.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    Accepted,
    /// Good, and not for lists; or not for this tenant: a server does not say which.
    MayNotList,
    Skipped,
}

/// One request that changes nothing.
async fn prove(server: Server, name: &ProfileName) -> Result<Proof, CliError> {
    let place = Place::of(&server, Source::Profile(name.clone()));
    let client = Client::new(server).map_err(|error| place.failed(error))?;
    match client.first_names(&NamePrefix::default(), 1).await {
        Ok(_) => Ok(Proof::Accepted),
        Err(ClientError::Refused(refusal)) if refusal.status == 403 => Ok(Proof::MayNotList),
        Err(ClientError::Refused(refusal)) if refusal.status == 401 => Err(denied(format!(
            "the server does not accept it: {}; nothing was stored",
            refusal.detail.trim_end_matches('.')
        ))),
        Err(error) => {
            let CliError { exit, message } = place.failed(error);
            let message =
                format!("{message}; nothing was stored (--no-check stores it all the same)");
            Err(CliError { exit, message })
        }
    }
}

fn denied(message: String) -> CliError {
    CliError { exit: Exit::Denied, message }
}

/// Stores the credential, and answers where, and why not in the keyring.
fn keep(
    home: &Home,
    change: &Change<'_>,
    entry: Entry<'_>,
    text: &Zeroizing<String>,
    choice: StoreChoice,
) -> Result<(CredentialPlace, Option<String>), CliError> {
    let why = match choice {
        StoreChoice::File => None,
        StoreChoice::Auto | StoreChoice::Keyring => match keyring::store(entry, text) {
            Ok(()) => return Ok((CredentialPlace::Keyring, None)),
            Err(why) if choice == StoreChoice::Keyring => {
                return Err(CliError::unavailable(format!(
                    "the keyring cannot be used: {why}; nothing was stored (--credential-store \
                     file stores it in a file that only you can read)"
                )));
            }
            Err(why) => Some(why),
        },
    };
    let mut credentials = home.credentials()?;
    credentials.keep(entry.profile.clone(), entry.address.clone(), text.clone());
    change.credentials(&credentials)?;
    Ok((CredentialPlace::File, why))
}

/// Enters the profile, and answers whether it is the default one. What another place still
/// holds of its credential is removed.
fn enter(
    home: &Home,
    change: &Change<'_>,
    name: &ProfileName,
    profile: Profile,
) -> Result<bool, CliError> {
    let mut profiles: Profiles = home.profiles()?;
    let (address, place) = (profile.address.clone(), profile.credential);
    let before = profiles.named.insert(name.clone(), profile);
    let default = profiles.default.get_or_insert_with(|| name.clone()) == name;
    change.profiles(&profiles)?;
    match (place, before.map(|before| before.credential)) {
        (CredentialPlace::File, Some(CredentialPlace::Keyring)) => {
            // Where the keyring does not answer, what it holds is worth no failure: it is locked.
            let _ = keyring::remove(Entry { profile: name, address: &address });
        }
        (CredentialPlace::Keyring, _) => {
            let mut credentials = home.credentials()?;
            if credentials.remove(name) {
                change.credentials(&credentials)?;
            }
        }
        (CredentialPlace::File, _) => {}
    }
    Ok(default)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done<'d> {
    profile: &'d str,
    address: &'d str,
    tenant: &'d str,
    kind: &'static str,
    expires: Option<String>,
    checked: bool,
    credential_store: &'static str,
    default: bool,
}

impl Done<'_> {
    fn text(&self, proof: &Proof, until: &str, place: &str, no_keyring: Option<&str>) -> String {
        let Self { profile, address, tenant, .. } = self;
        let verdict = match proof {
            Proof::Accepted => format!("{address} accepts it for tenant '{tenant}'"),
            Proof::MayNotList => format!(
                "{address} accepts it, and it may not list in tenant '{tenant}': is that its tenant?"
            ),
            Proof::Skipped => format!("{address} was not asked"),
        };
        let mut text = format!("{verdict}; {until}\n");
        if let Some(why) = no_keyring {
            text += &format!("the keyring cannot be used: {why}\n");
        }
        text += &format!("stored in {place} as profile '{profile}'");
        text += match self.default {
            true => ", the default one\n",
            false => "\n",
        };
        if !self.default {
            text += &format!("use it with --profile {profile}, or: tenure profile use {profile}\n");
        }
        text
    }
}
