//! `tenure put`: stores a value.

use clap::Args;
use serde::Serialize;

use super::super::clock::SystemClock;
use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::given::ValueArgs;
use super::target::{Names, Target, TargetArgs};
use super::tell;
use super::window::{WindowArgs, in_words};
use crate::client::{ClientError, Condition, NewSecret, Version};
use crate::domain::{Clock, SecretValue, ValidityWindow};

#[derive(Debug, Args)]
pub(in crate::cli) struct PutArgs {
    /// Name of the secret: 1 to 127 of A-Z a-z 0-9 - _
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Do not replace a secret that is there
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Replace this version alone, as 'tenure get NAME --json' shows it
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn put(args: PutArgs, output: Output) -> Result<(), CliError> {
    let PutArgs { name: typed, value, if_absent, if_version, window, target } = args;
    let (client, names) = Target::find(&target)?.open()?;
    // What would be refused is, before a value is asked for.
    let name = names.whole(&typed)?;
    let now = SystemClock.read().wall;
    window.over(ValidityWindow::default(), now)?;
    let condition = match if_version {
        Some(version) => Condition::Unchanged(version),
        None if if_absent => Condition::Absent,
        None => Condition::None,
    };
    let show = value.show;
    let value = value.value(&typed)?;
    // Somebody may have typed for a while.
    let now = SystemClock.read().wall;
    let window = window.over(ValidityWindow::default(), now)?;
    let new = NewSecret { value, window };
    let written = client.write(&name, &new, &condition).await;
    let version = written.map_err(|error| refused(&names, &typed, &condition, error))?;
    let ends = in_words(&window, now);
    tell(&format!("stored '{typed}' in {}: {ends}{}", names.place, remark(&new)));
    let shown = new.value.as_ref().filter(|_| show).map(SecretValue::expose);
    if !output.json && shown.is_none() {
        return Ok(());
    }
    let stored = Stored::new(&typed, shown, &version, &window);
    output.show(&stored, || shown.map(|value| format!("{value}\n")).unwrap_or_default())
}

/// What many do not mean.
pub(super) fn remark(new: &NewSecret) -> &'static str {
    match &new.value {
        Some(value) if value.expose().ends_with('\n') => "; its last line break is part of it",
        Some(value) if value.is_empty() => "; it is empty",
        _ => "",
    }
}

/// A condition that did not hold is said in the words of the command.
pub(super) fn refused(
    names: &Names,
    name: &str,
    condition: &Condition,
    error: ClientError,
) -> CliError {
    let conflict = |message| CliError { exit: Exit::Conflict, message };
    match condition {
        Condition::Absent if is_conflict(&error) => {
            conflict(format!("there is a secret '{name}' already; it was not replaced"))
        }
        Condition::Unchanged(version) if is_conflict(&error) => conflict(format!(
            "'{name}' is not at version {} any more; nothing was changed",
            version.as_str()
        )),
        _ => names.place.failed(error),
    }
}

pub(super) fn is_conflict(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(refusal) if refusal.status == 412)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'s> {
    name: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'s str>,
    version: &'s Version,
    not_before: Option<String>,
    expires_on: Option<String>,
}

impl<'s> Stored<'s> {
    fn new(
        name: &'s str,
        value: Option<&'s str>,
        version: &'s Version,
        window: &ValidityWindow,
    ) -> Self {
        Self {
            name,
            value,
            version,
            not_before: window.not_before().map(|time| time.to_string()),
            expires_on: window.expires_on().map(|time| time.to_string()),
        }
    }
}
