//! `tenure list`: which secrets there are.

use std::io::Write;

use clap::Args;

use super::super::failure::CliError;
use super::super::internal;
use super::super::maintain::Output;
use super::target::{Names, Target, TargetArgs};
use crate::client::Client;
use crate::domain::NamePrefix;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only names that begin with it
    #[arg(value_name = "BEGINNING", default_value = "", hide_default_value = true)]
    beginning: String,
    #[command(flatten)]
    target: TargetArgs,
}

pub(in crate::cli) async fn list(args: ListArgs, output: Output) -> Result<(), CliError> {
    let (client, names) = Target::find(&args.target)?.open()?;
    let below = names.below(&args.beginning)?;
    if output.json {
        let all = client.all_names(&below).await.map_err(|error| names.place.failed(error))?;
        let shown: Vec<_> = all.iter().map(|name| names.shown(name)).collect();
        return output.show(&shown, String::new);
    }
    print(&client, &names, &below).await
}

/// A page at a time: there may be millions.
async fn print(client: &Client, names: &Names, below: &NamePrefix) -> Result<(), CliError> {
    let mut after = None;
    loop {
        let page = client.names(below, after.as_ref()).await;
        let page = page.map_err(|error| names.place.failed(error))?;
        let lines: String =
            page.items.iter().map(|name| names.shown(name).to_owned() + "\n").collect();
        std::io::stdout().lock().write_all(lines.as_bytes()).map_err(internal)?;
        after = page.items.last().cloned().filter(|_| page.more);
        if after.is_none() {
            return Ok(());
        }
    }
}
