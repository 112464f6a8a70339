//! `tenure exists`: whether a secret is valid now, as an exit code.

use clap::Args;
use serde_json::json;

use super::super::failure::{CliError, Exit};
use super::super::maintain::Output;
use super::target::{Target, TargetArgs};

#[derive(Debug, Args)]
pub(in crate::cli) struct ExistsArgs {
    /// Name of the secret
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn exists(args: ExistsArgs, output: Output) -> Result<(), CliError> {
    let (client, names) = Target::find(&args.target)?.open()?;
    let name = names.whole(&args.name)?;
    let found = client.describe(&name).await.map_err(|error| names.place.failed(error))?;
    output.show(&json!({ "exists": found.is_some() }), String::new)?;
    match found {
        Some(_) => Ok(()),
        // An answer, and no failure that needs a sentence.
        None => Err(CliError { exit: Exit::NotFound, message: String::new() }),
    }
}
