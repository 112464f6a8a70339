//! The command line: what a person or a unit file starts.
//!
//! Commands that maintain a store work whether or not a server runs on it: they
//! speak to the server over `<data>/admin.sock`, or else open the store
//! themselves. Every failure ends with a sentence that says what to do and with
//! an exit code (docs/cli.md).

mod access;
mod allocator;
mod args;
mod aside;
mod audit;
mod audit_archive;
mod audit_copies;
mod backup;
mod backup_file;
mod backup_schedule;
mod clock;
mod completions;
mod configuration;
mod credentials;
mod data;
mod dek;
mod dev;
mod failure;
mod format;
mod handed_over;
mod help;
mod helper;
mod issuers;
mod keeper;
mod kek;
mod logging;
mod maintain;
mod man;
mod manager;
mod memory;
mod memory_limit;
mod narrow;
mod notices;
mod other_words;
mod postponed;
mod privileges;
mod process;
mod progress;
mod prompt;
mod reload;
mod seal;
mod secret;
mod serve;
mod shares;
mod signals;
mod tenant_limits;
mod terminal;
mod upgrade;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub use allocator::WipingAllocator;
use args::{Cli, Command};
use failure::{CliError, Exit};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if completions::answer() {
        return ExitCode::SUCCESS;
    }
    let mut matches = definition().try_get_matches().unwrap_or_else(|error| {
        other_words::with_tip(error, &definition(), std::env::args_os()).exit()
    });
    let typed = Cli::from_arg_matches_mut(&mut matches);
    match run(typed.unwrap_or_else(|error| error.exit())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error);
            ExitCode::from(error.exit as u8)
        }
    }
}

/// All that can be typed; what is written about it is made of this.
pub fn definition() -> clap::Command {
    help::grouped(Cli::command())
}

fn run(cli: Cli) -> Result<(), CliError> {
    if cli.command.is_of_a_client() {
        process::harden_client();
    } else {
        process::harden();
    }
    let manager = manager::of(&cli.command)?;
    let output = maintain::Output { json: cli.json };
    let work = async move {
        match cli.command {
            Command::Get(args) => secret::get(args, output).await,
            Command::Put(args) => secret::put(args, output).await,
            Command::List(args) => secret::list(args, output).await,
            Command::Import(args) => secret::import(args, output).await,
            Command::Export(args) => secret::export(args, output).await,
            Command::Edit(args) => secret::edit(args, output).await,
            Command::Copy(args) => secret::copy(args, output).await,
            Command::Exists(args) => secret::exists(args, output).await,
            Command::Rm(args) => secret::rm(args, output).await,
            Command::GuardEdit => secret::guard(),
            Command::HoldClipboard(args) => secret::hold(&args),
            Command::Login(args) => secret::login(args, output).await,
            Command::Logout(args) => secret::logout(args, output),
            Command::Profile(args) => secret::profile(args, output),
            Command::Whoami(args) => secret::whoami(args, output).await,
            Command::Completions(args) => completions::completions(&args),
            Command::Man(args) => man::man(args, output),
            Command::Run(args) => secret::run(args, output).await,
            Command::Render(args) => secret::render(args, output).await,
            Command::Supervised(args) => Err(secret::supervised(&args)),
            Command::EndedBy(args) => secret::ended_by(&args),
            Command::Dev(args) => dev::run(args, output).await,
            Command::Init(args) => serve::init(&args, output).await,
            Command::Serve(args) => serve::run(args, manager, output).await,
            Command::Unseal(args) => seal::unseal(args, output).await,
            Command::Seal(args) => seal::seal(args, output).await,
            Command::Tenant(args) => maintain::tenant(args, output).await,
            Command::Token(args) => maintain::token(args, output).await,
            Command::ApiKey(args) => credentials::api_key(args, output).await,
            Command::Sweep(args) => maintain::sweep(args, output).await,
            Command::Status(args) => maintain::status(&args, output).await,
            Command::Notify(args) => notices::run(&args, output).await,
            Command::Clock(args) => maintain::clock(&args, output).await,
            Command::Audit(args) => audit::run(args, output).await,
            Command::Verify(args) => maintain::verify(args, output).await,
            Command::Compact(args) => maintain::compact(args, output).await,
            Command::Dek(args) => dek::run(args, output).await,
            Command::Backup(args) => backup::run(args, output).await,
            Command::Kek(args) => kek::run(args, output).await,
            Command::Config(args) => configuration::run(&args, output),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(internal)?.block_on(work)
}

/// Anything that went wrong below, as a failure of this process.
fn internal(message: impl std::fmt::Display) -> CliError {
    CliError { exit: Exit::Internal, message: message.to_string() }
}
