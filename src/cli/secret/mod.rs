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
mod import;
mod list;
mod near;
mod new_file;
mod project;
mod put;
mod rm;
mod table;
mod target;
mod window;

use std::path::Path;

use super::failure::{CliError, Exit};
use crate::api::problem::Code;
use crate::client::{ClientError, Refusal};
use crate::http::AdminClient;

pub(super) use copy::{CopyArgs, HoldArgs, copy, hold};
pub(super) use dev_store::{ENV_FILE, FOLDER, dev_server};
pub(super) use edit::{EditArgs, edit, guard};
pub(super) use exists::{ExistsArgs, exists};
pub(super) use export::{ExportArgs, export};
pub(super) use get::{GetArgs, get};
pub(super) use import::{ImportArgs, import};
pub(super) use list::{ListArgs, list};
pub(super) use project::Project;
pub(super) use put::{PutArgs, put};
pub(super) use rm::{RmArgs, rm};

use target::{Place, Source};

impl Place {
    /// What went wrong there, with what to do about it.
    fn failed(&self, error: ClientError) -> CliError {
        match error {
            ClientError::Refused(refusal) => self.refused(&refusal),
            ClientError::Unreachable { .. } => {
                CliError::unavailable(format!("{error}{}", self.is_it_running()))
            }
            ClientError::NoAnswer { .. }
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
            Source::Dev(file) if ended(file) => format!(
                "; the address is from {}, which was left by one that has ended: run 'tenure dev'",
                file.display()
            ),
            Source::Dev(file) => format!("; the address is from {}", file.display()),
            Source::Variables => String::new(),
        }
    }

    /// Where another server has the address now, it does not know the credential.
    fn is_it_another(&self) -> String {
        match &self.source {
            Source::Dev(file) if ended(file) => {
                "; it was left by one that has ended, and another server has its address now: run \
                 'tenure dev'"
                    .to_owned()
            }
            Source::Dev(_) | Source::Variables => String::new(),
        }
    }

    fn refused(&self, refusal: &Refusal) -> CliError {
        let Self { tenant, source, .. } = self;
        let detail = said(refusal);
        let (exit, message) = match refusal.status {
            401 => {
                let another = self.is_it_another();
                (Exit::Denied, format!("{detail} (the credential is from {source}{another})"))
            }
            403 => (
                Exit::Denied,
                format!("the credential from {source} does not allow this in tenant '{tenant}'"),
            ),
            404 => (Exit::NotFound, detail),
            409 | 412 => (Exit::Conflict, detail),
            _ if refusal.is(Code::OutcomeUnknown) => (Exit::Unknown, detail),
            429 | 503 => (Exit::Unavailable, detail),
            400..=499 => (Exit::Usage, detail),
            _ => (Exit::Internal, detail),
        };
        CliError { exit, message }
    }
}

/// Whether the server that wrote this file of variables is gone.
fn ended(file: &Path) -> bool {
    file.parent().is_some_and(|data| matches!(AdminClient::connect(data), Ok(None)))
}

/// The server's sentence, and what it says of each field.
fn said(refusal: &Refusal) -> String {
    let mut text = refusal.detail.trim_end_matches('.').to_owned();
    for (field, messages) in refusal.errors.iter().flatten() {
        text += &format!("; {field}: {}", messages.join(", "));
    }
    text
}
