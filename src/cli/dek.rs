//! The commands about data-encryption keys.

use super::access;
use super::args::{DekArgs, DekCommand};
use super::failure::{CliError, Exit};
use super::maintain::Output;
use crate::api::admin::{Command, DekRow, Reencrypted, Reply};

pub(super) async fn run(args: DekArgs, output: Output) -> Result<(), CliError> {
    match args.command {
        DekCommand::Rotate { tenant, rewrite, rate, dry_run, store } => {
            let command = Command::DekRotate { tenant, rewrite, per_second: rate, dry_run };
            let reply = access::execute(&store, command).await?;
            output.show(&reply, || rotated_text(&reply))?;
            left_damaged(&reply)
        }
        DekCommand::List { tenant, store } => {
            let reply = access::execute(&store, Command::DekList { tenant }).await?;
            output.show(&reply, || match &reply {
                Reply::Deks { deks } => table(deks),
                _ => String::new(),
            })
        }
    }
}

fn rotated_text(reply: &Reply) -> String {
    let Reply::DeksRotated { dry_run, tenants, system, reencrypted } = reply else {
        return String::new();
    };
    let verb = if *dry_run { "would draw" } else { "drew" };
    let tenants = if *tenants == 1 { "1 tenant".to_owned() } else { format!("{tenants} tenants") };
    let system = if *system { " and for the system" } else { "" };
    let rewritten = match reencrypted {
        None => String::new(),
        Some(Reencrypted { secrets, damaged: 0 }) => {
            format!("encrypted {secrets} secrets anew, and destroyed the old keys\n")
        }
        Some(Reencrypted { secrets, .. }) => format!("encrypted {secrets} secrets anew\n"),
    };
    format!("{verb} new DEKs for {tenants}{system}\n{rewritten}")
}

fn left_damaged(reply: &Reply) -> Result<(), CliError> {
    let Reply::DeksRotated { reencrypted: Some(Reencrypted { damaged, .. }), .. } = reply else {
        return Ok(());
    };
    if *damaged == 0 {
        return Ok(());
    }
    Err(CliError {
        exit: Exit::Damaged,
        message: format!(
            "{damaged} secrets are damaged and could not be encrypted anew, so their tenants' old \
             keys stay; 'tenure verify' names them: delete or restore them, then run 'tenure dek \
             rotate --rewrite' again"
        ),
    })
}

fn table(deks: &[DekRow]) -> String {
    let name = |row: &DekRow| row.tenant.clone().unwrap_or_else(|| "(system)".to_owned());
    let width = deks.iter().map(|row| name(row).len()).max().unwrap_or(0).max(6);
    let mut table = format!("{:width$}  {:>4}  {:8}  MADE\n", "TENANT", "ID", "STATE");
    for row in deks {
        let made_on = row.made_on.as_deref().unwrap_or("(not known)");
        table += &format!("{:width$}  {:>4}  {:8}  {made_on}\n", name(row), row.id, row.state);
    }
    table
}
