//! `tenure get`: the value, and nothing else.

use std::io::IsTerminal;

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::failure::{CliError, Exit};
use super::super::maintain::{Output, print};
use super::near::missing_but_near;
use super::target::{Names, Target, TargetArgs};
use crate::client::Secret;
use crate::domain::SecretValue;

#[derive(Debug, Args)]
pub(in crate::cli) struct GetArgs {
    /// Name of the secret
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn get(args: GetArgs, output: Output) -> Result<(), CliError> {
    let (client, names) = Target::find(&args.target)?.open()?;
    let name = names.whole(&args.name)?;
    let read = client.read(&name).await.map_err(|error| names.place.failed(error))?;
    let Some(secret) = read else {
        return Err(missing_but_near(&client, &names, &args.name).await);
    };
    if output.json {
        return output.show(&Shown::of(&args.name, &secret), String::new);
    }
    let value = secret.value.as_ref().ok_or_else(|| CliError {
        exit: Exit::NotFound,
        message: format!("the value of '{}' is null; --json shows it", args.name),
    })?;
    bare(value)
}

pub(super) fn missing(names: &Names, name: &str) -> CliError {
    CliError {
        exit: Exit::NotFound,
        message: format!(
            "there is no secret '{name}' in tenant '{}' that is valid now; 'tenure list' shows \
             which there are",
            names.place.tenant
        ),
    }
}

/// With a line break only where a person would miss it.
fn bare(value: &SecretValue) -> Result<(), CliError> {
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    print(Zeroizing::new([value.expose(), end].concat()).as_bytes())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'s> {
    name: &'s str,
    value: Option<&'s str>,
    version: &'s str,
    not_before: Option<String>,
    expires_on: Option<String>,
}

impl<'s> Shown<'s> {
    fn of(name: &'s str, Secret { value, version, window }: &'s Secret) -> Self {
        Self {
            name,
            value: value.as_ref().map(SecretValue::expose),
            version: version.as_str(),
            not_before: window.not_before().map(|time| time.to_string()),
            expires_on: window.expires_on().map(|time| time.to_string()),
        }
    }
}
