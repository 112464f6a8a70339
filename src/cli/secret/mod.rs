//! The commands of daily use, against any server: what most users of the command line
//! meet. They are clients of the HTTP API, and have no more rights than their credential.

mod copy;
mod dev_store;
mod edit;
mod exists;
mod export;
pub(super) mod files;
mod get;
mod given;
mod home;
mod import;
mod keyring;
mod known;
mod list;
mod login;
mod near;
mod profile;
mod project;
mod put;
mod render;
mod rm;
mod run;
mod several;
mod small_file;
mod table;
mod target;
mod typing;
mod whoami;
mod whole_file;
mod window;

use std::io::Write;

use zeroize::Zeroizing;

use super::failure::{CliError, Exit};
use crate::api::problem::Code;
use crate::auth;
use crate::client::{ClientError, Credential, Refusal};

pub(super) use copy::{CopyArgs, HoldArgs, copy, hold};
pub(super) use dev_store::{ENV_FILE, FOLDER, dev_server};
pub(super) use edit::{EditArgs, edit, guard};
pub(super) use exists::{ExistsArgs, exists};
pub(super) use export::{ExportArgs, export};
pub(super) use get::{GetArgs, get};
pub(super) use import::{ImportArgs, import};
pub(super) use list::{ListArgs, list};
pub(super) use login::{LoginArgs, login};
pub(super) use near::near;
pub(super) use profile::{LogoutArgs, ProfileArgs, logout, profile};
pub(super) use project::Project;
pub(super) use put::{PutArgs, put};
pub(super) use render::{RenderArgs, render};
pub(super) use rm::{RmArgs, rm};
pub(super) use run::{EndedByArgs, RunArgs, SupervisedArgs, ended_by, run, supervised};
pub(super) use target::here;
pub(super) use typing::{names_that_begin_with, profile_names};
pub(super) use whoami::{WhoamiArgs, whoami};

use target::{Place, Source};

/// A token and an API key are told apart by how they begin.
fn credential_of(text: Zeroizing<String>) -> Credential {
    if auth::looks_like_api_key(&text) { Credential::ApiKey(text) } else { Credential::Token(text) }
}

/// Says something to whoever ran the command, beside the answer.
fn say(text: &str) {
    // Where nobody can be told, the answer and the exit code must do: what was done is done.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The same of one sentence, on a line of its own.
fn tell(sentence: &str) {
    say(&format!("{sentence}\n"));
}

impl Place {
    /// What went wrong there, with what to do about it.
    fn failed(&self, error: ClientError) -> CliError {
        match error {
            ClientError::Refused(refusal) => self.refused(&refusal),
            ClientError::Unreachable { .. } => {
                CliError::unavailable(format!("{error}{}", self.is_it_running()))
            }
            ClientError::Proxy { .. }
            | ClientError::NoAnswer { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Foreign { .. }
            | ClientError::Answer { .. } => CliError::unavailable(error),
            ClientError::Unknown { .. } => {
                CliError { exit: Exit::Unknown, message: error.to_string() }
            }
            ClientError::CaUnreadable { .. }
            | ClientError::CaEmpty { .. }
            | ClientError::Setup(_)
            | ClientError::Credential => CliError::usage(error),
        }
    }

    fn is_it_running(&self) -> String {
        match &self.source {
            Source::Dev(file) if !self.source.is_there() => format!(
                "; the address is from {}, which was left by one that has ended: run 'tenure dev'",
                file.display()
            ),
            Source::Dev(file) => format!("; the address is from {}", file.display()),
            Source::Variables | Source::Profile(_) => String::new(),
        }
    }

    /// Where another server has the address now, it does not know the credential.
    fn is_it_another(&self) -> String {
        match &self.source {
            Source::Dev(_) if !self.source.is_there() => {
                "; it was left by one that has ended, and another server has its address now: run \
                 'tenure dev'"
                    .to_owned()
            }
            Source::Dev(_) | Source::Variables | Source::Profile(_) => String::new(),
        }
    }

    fn refused(&self, refusal: &Refusal) -> CliError {
        let Self { tenant, source, .. } = self;
        let detail = said(refusal);
        let (exit, message) = match refusal.status {
            401 => {
                let another = self.is_it_another();
                let what_to_do = if another.is_empty() { source.how_to_renew() } else { another };
                (Exit::Denied, format!("{detail} (the credential is from {source}{what_to_do})"))
            }
            403 => (
                Exit::Denied,
                format!("the credential from {source} does not allow this in tenant '{tenant}'"),
            ),
            404 => (Exit::NotFound, detail),
            409 | 412 | 507 => (Exit::Conflict, detail),
            _ if refusal.is(Code::OutcomeUnknown) => (Exit::Unknown, detail),
            429 | 503 => (Exit::Unavailable, detail),
            400..=499 => (Exit::Usage, detail),
            _ => (Exit::Internal, detail),
        };
        CliError { exit, message }
    }
}

impl Source {
    /// What to do about a credential that is not good any more.
    fn how_to_renew(&self) -> String {
        match self {
            Self::Variables => String::new(),
            Self::Profile(name) => format!("; 'tenure login --profile {name}' stores another"),
            Self::Dev(_) => "; 'tenure dev' mints another at each start".to_owned(),
        }
    }
}

/// The server's sentence, and what it says of each field.
fn said(refusal: &Refusal) -> String {
    let mut text = refusal.detail.trim_end_matches('.').to_owned();
    for (field, messages) in refusal.errors.iter().flatten() {
        text += &format!("; {field}: {}", messages.join(", "));
    }
    text
}
