//! `tenure seal` and `tenure unseal`: take the keys from a running server, and give
//! them to it.

use std::io::IsTerminal;

use super::access;
use super::args::{SealArgs, StoreArgs, UnsealArgs};
use super::failure::CliError;
use super::maintain::Output;
use super::{internal, kek, prompt};
use crate::api::admin::{Command, HiddenText, Reply, SealedStatus, ShareCount, Unsealing};
use crate::config::{Config, KekSource};
use crate::http::AdminClient;
use crate::vault::key_commands;

pub(super) async fn seal(args: SealArgs, output: Output) -> Result<(), CliError> {
    let (server, _) = running(&args.store)?;
    if !args.yes {
        confirm()?;
    }
    let reply = send(&server, &Command::Seal)?;
    output.show(&reply, || match &reply {
        Reply::Sealed(status) => {
            format!(
                "sealed: the server has no key in memory, and every call is 503\n{}",
                next(status)
            )
        }
        _ => String::new(),
    })
}

/// Says what will follow.
fn confirm() -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "sealing ends all service until somebody unseals; say --yes where nobody can be asked",
        ));
    }
    let ask = "Every call will be answered with 503 until 'tenure unseal', which needs the shares \
               or what kek.source names. Type seal to go on: ";
    if prompt::typed(ask)?.trim() == "seal" { Ok(()) } else { Err(CliError::usage("not sealed")) }
}

pub(super) async fn unseal(args: UnsealArgs, output: Output) -> Result<(), CliError> {
    let (server, config) = running(&args.store)?;
    let status = match send(&server, &Command::Status)? {
        Reply::Sealed(status) => status,
        Reply::Status(status) => {
            let reply = Reply::Unsealed { data: status.data };
            return output.show(&reply, || "the server is not sealed\n".to_owned());
        }
        _ => return Err(internal("the server did not say whether it is sealed")),
    };
    let with = match args.reset {
        true => Unsealing::Reset,
        false => what_to_give(&server, &config, &status)?,
    };
    let reply = send(&server, &Command::Unseal { with })?;
    output.show(&reply, || match &reply {
        Reply::Sealed(status) => next(status),
        Reply::Unsealed { .. } => "unsealed: the server serves\n".to_owned(),
        _ => String::new(),
    })
}

/// By where the store says that its KEK comes from.
fn what_to_give(
    server: &AdminClient,
    config: &Config,
    status: &SealedStatus,
) -> Result<Unsealing, CliError> {
    let Some(ShareCount { shares, given, missing, .. }) = status.shares else {
        return match config.kek.source {
            // The server has no terminal to ask on.
            KekSource::Passphrase => with_passphrase(server, config),
            _ => Ok(Unsealing::Source),
        };
    };
    let question =
        format!("{given} shares were given, {missing} are missing. One of the {shares}: ");
    let line = prompt::hidden_line(&question)?;
    let line = line.ok_or_else(|| {
        CliError::usage("no share: type one at a terminal, or pipe one in: 'tenure unseal < share'")
    })?;
    Ok(Unsealing::Share { share: HiddenText::new(line.trim()) })
}

/// Asks for the passphrase here, and sends what it becomes.
fn with_passphrase(server: &AdminClient, config: &Config) -> Result<Unsealing, CliError> {
    let record = match send(server, &Command::KekStatus)? {
        Reply::Kek(status) => key_commands::record(&status),
        _ => None,
    };
    let record = record.ok_or_else(|| internal("the server did not say which KEK it is under"))?;
    let proved = kek::fetch(config)?.prove(&config.data, &record)?;
    Ok(Unsealing::Kek { kek: HiddenText::new(&proved.kek.to_text()) })
}

/// What is to be done about a sealed server.
pub(super) fn next(status: &SealedStatus) -> String {
    match (&status.shares, status.source.as_deref()) {
        (Some(ShareCount { threshold, given, missing, .. }), _) => format!(
            "{given} of {threshold} shares are given, {missing} are missing\nnext: tenure unseal, \
             by each who holds one, within 10 minutes of one another\n"
        ),
        (None, Some(source @ ("file" | "env" | "credential" | "command"))) => format!(
            "next: tenure unseal, and the server reads its KEK again (kek.source = \
             \"{source}\"); so does a restart, by itself\n"
        ),
        (None, _) => "next: tenure unseal\n".to_owned(),
    }
}

fn running(store: &StoreArgs) -> Result<(AdminClient, Config), CliError> {
    let (config, folder) = access::enter_for(store)?;
    let server = AdminClient::connect(folder.path())?.ok_or_else(|| {
        CliError::unavailable(format!(
            "no server runs on {}: only one that runs has keys in memory, or none",
            folder.path().display()
        ))
    })?;
    Ok((server, config))
}

fn send(server: &AdminClient, command: &Command) -> Result<Reply, CliError> {
    let mut reply = server.send(command, None, None, &mut |_| {})?;
    if let Reply::Sealed(status) = &mut reply {
        status.serving = true;
    }
    Ok(reply)
}
