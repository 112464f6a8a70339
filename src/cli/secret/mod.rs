//! The commands of daily use, against any server: what most users of the command line
//! meet. They are clients of the HTTP API, and have no more rights than their credential.

mod dev_store;
mod get;
mod list;
mod new_file;
mod project;
mod render;
mod run;
mod several;
mod target;

use super::failure::{CliError, Exit};
use crate::api::problem::Code;
use crate::client::{ClientError, Refusal};

pub(super) use dev_store::{ENV_FILE, FOLDER};
pub(super) use get::{GetArgs, get};
pub(super) use list::{ListArgs, list};
pub(super) use render::{RenderArgs, render};
pub(super) use run::{EndedByArgs, RunArgs, SupervisedArgs, ended_by, run, supervised};

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
            Source::Dev(file) => {
                format!("; the address is from {}: run 'tenure dev'", file.display())
            }
            Source::Variables => String::new(),
        }
    }

    fn refused(&self, refusal: &Refusal) -> CliError {
        let Self { tenant, source, .. } = self;
        let detail = said(refusal);
        let (exit, message) = match refusal.status {
            401 => (Exit::Denied, format!("{detail} (the credential is from {source})")),
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

/// The server's sentence, and what it says of each field.
fn said(refusal: &Refusal) -> String {
    let mut text = refusal.detail.trim_end_matches('.').to_owned();
    for (field, messages) in refusal.errors.iter().flatten() {
        text += &format!("; {field}: {}", messages.join(", "));
    }
    text
}
