//! `tenure rm`: deletes secrets.

use std::io::{self, IsTerminal};

use clap::Args;
use serde::Serialize;

use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::super::prompt;
use super::super::signals::Ends;
use super::put::refused;
use super::target::{Names, Target, TargetArgs};
use super::tell;
use crate::client::{Client, Condition, Version};
use crate::domain::SecretName;

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArgs {
    /// Names of the secrets
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Delete this version alone; of one name
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn rm(args: RmArgs, output: Output) -> Result<(), CliError> {
    let RmArgs { names: mut typed, yes, dry_run, if_version, target } = args;
    let (client, names) = Target::find(&target)?.open()?;
    typed.sort_unstable();
    typed.dedup();
    if if_version.is_some() && typed.len() > 1 {
        return Err(CliError::usage("--if-version is of one secret, and several are named"));
    }
    // All of them are names, or nothing is deleted.
    let whole = typed.iter().map(|name| names.whole(name)).collect::<Result<Vec<_>, _>>()?;
    let secrets: Vec<_> = typed.into_iter().zip(whole).collect();
    if dry_run {
        let looked = look(&client, &names, &secrets).await?;
        return looked.told(&names, output);
    }
    if !yes {
        ask(&names, &secrets)?;
    }
    let condition = if_version.map_or(Condition::None, Condition::Unchanged);
    delete(&client, &names, &secrets, &condition, output).await
}

fn ask(names: &Names, secrets: &[(String, SecretName)]) -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage(
            "deleting cannot be undone; say --yes where nobody can be asked",
        ));
    }
    let listed: String = secrets.iter().map(|(name, _)| format!("  {name}\n")).collect();
    let question = format!("{listed}Delete from {}? y/N ", names.place);
    let answer = prompt::typed(&question)?.to_ascii_lowercase();
    if answer == "y" || answer == "yes" {
        return Ok(());
    }
    Err(CliError::usage("nothing was deleted"))
}

/// Of those that were asked for.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    dry_run: bool,
    deleted: Vec<String>,
    absent: Vec<String>,
}

async fn look(
    client: &Client,
    names: &Names,
    secrets: &[(String, SecretName)],
) -> Result<Outcome, CliError> {
    let mut outcome = Outcome { dry_run: true, ..Outcome::default() };
    for (typed, name) in secrets {
        // What is not valid yet can be deleted too.
        let listed = client.lists(name).await.map_err(|error| names.place.failed(error))?;
        let kind = if listed { &mut outcome.deleted } else { &mut outcome.absent };
        kind.push(typed.clone());
    }
    Ok(outcome)
}

async fn delete(
    client: &Client,
    names: &Names,
    secrets: &[(String, SecretName)],
    condition: &Condition,
    output: Output,
) -> Result<(), CliError> {
    let mut outcome = Outcome::default();
    // Broken off, it says how far it came.
    let mut ends = Ends::listen()?;
    for (typed, name) in secrets {
        let deleted = async {
            let deleted = client.delete(name, condition).await;
            deleted.map_err(|error| refused(names, typed, condition, error))
        };
        match ends.or_end(deleted).await {
            Ok(true) => outcome.deleted.push(typed.clone()),
            Ok(false) => outcome.absent.push(typed.clone()),
            Err(error) => {
                // Why it stopped counts for more than whether others were absent.
                let _ = outcome.told(names, output);
                return Err(stopped_at(typed, error));
            }
        }
    }
    outcome.told(names, output)
}

fn stopped_at(name: &str, CliError { exit, message }: CliError) -> CliError {
    let message = match exit {
        Exit::Unknown | Exit::Interrupted => {
            format!("{message}: '{name}' may have been deleted, or not; what follows it was not")
        }
        _ => format!("'{name}', and what follows it, was not deleted: {message}"),
    };
    CliError { exit, message }
}

impl Outcome {
    fn told(self, names: &Names, output: Output) -> Result<(), CliError> {
        output.show(&self, String::new)?;
        self.say(names);
        if self.absent.is_empty() {
            return Ok(());
        }
        let message = format!("there was no {} in {}", quoted(&self.absent), names.place);
        Err(CliError { exit: Exit::NotFound, message })
    }

    fn say(&self, names: &Names) {
        if !self.deleted.is_empty() {
            let verb = if self.dry_run { "would delete" } else { "deleted" };
            tell(&format!("{verb} {} from {}", quoted(&self.deleted), names.place));
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
