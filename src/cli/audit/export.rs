//! `tenure audit export`: the audit as a file that proves itself.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::access::{self, Beside};
use super::super::args::StoreArgs;
use super::super::backup_file::{Existing, NewFile};
use super::super::failure::{CliError, Exit};
use super::super::internal;
use super::super::maintain::{Output, size};
use super::moment;
use crate::api::admin::{Command, Reply};
use crate::api::audit_export::{ExportFrom, ExportMade, ExportOf};
use crate::domain::Timestamp;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Only of this tenant
    #[arg(long, conflicts_with = "system")]
    tenant: Option<String>,
    /// Only of the system
    #[arg(long)]
    system: bool,
    /// Only from this entry on, by its number: of one tenant, or of the system
    #[arg(long, value_name = "NUMBER", conflicts_with = "since")]
    from: Option<u64>,
    /// Only since this moment: RFC 3339, or so long ago, such as 24h or 7d
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Timestamp>,
    /// Write to this file, for your eyes only [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file where there is one
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) async fn run(args: ExportArgs, output: Output) -> Result<(), CliError> {
    let ExportArgs { tenant, system, from, since, output: file, force, store } = args;
    let of = match (tenant, system) {
        (Some(tenant), _) => ExportOf::Tenant(tenant),
        (None, true) => ExportOf::System,
        (None, false) => ExportOf::Everything,
    };
    let from = match (from, since) {
        (Some(_), _) if of == ExportOf::Everything => {
            return Err(CliError::usage(
                "--from is a number in one chain: say --tenant NAME or --system with it",
            ));
        }
        (Some(number), _) => ExportFrom::Entry(number),
        (None, Some(since)) => ExportFrom::Since(since.to_string()),
        (None, None) => ExportFrom::Beginning,
    };
    let command = Command::AuditExport { of, from };
    let reply = match &file {
        Some(file) => to_file(file, force, &store, command).await?,
        None => {
            let beside = Beside::Download(Box::new(std::io::stdout()));
            access::execute_with(&store, command, beside).await?
        }
    };
    let Reply::AuditExported(made) = &reply else { return Err(internal("no export was made")) };
    match &file {
        Some(file) => output.show(&reply, || text(made, file))?,
        // Standard output holds the export.
        None => {
            let text = text(made, Path::new("standard output"));
            std::io::stderr().lock().write_all(text.as_bytes()).map_err(internal)?;
        }
    }
    if made.damaged == 0 {
        return Ok(());
    }
    let message = format!(
        "{} blocks of the audit do not decrypt, and the export goes without their entries; \
         'tenure verify' says which",
        made.damaged
    );
    Err(CliError { exit: Exit::Damaged, message })
}

async fn to_file(
    file: &Path,
    force: bool,
    store: &StoreArgs,
    command: Command,
) -> Result<Reply, CliError> {
    let existing = if force { Existing::Replaced } else { Existing::Refused };
    let new = NewFile::begin(file, existing)?;
    let beside = Beside::Download(Box::new(new.writer().map_err(internal)?));
    let reply = access::execute_with(store, command, beside).await?;
    new.keep()?;
    Ok(reply)
}

fn text(made: &ExportMade, file: &Path) -> String {
    let ExportMade { chains, entries, checkpoints, bytes, damaged: _, incomplete } = made;
    let mut text = format!(
        "wrote {}: {entries} entries of {chains} chains, {checkpoints} checkpoints, {}\n",
        file.display(),
        size(*bytes)
    );
    if let Some(why) = incomplete {
        text += &format!("{why}\n");
    }
    text
}
