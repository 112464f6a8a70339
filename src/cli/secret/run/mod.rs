//! `tenure run`: a command that is given secrets as environment variables.
//!
//! Without `--watch` this process becomes the command. What it inherits is what this one
//! was given: limits, umask and signals are not touched before.

mod descendants;
mod fallback;
mod program;
mod secrets;
mod signals;
mod supervised;
mod variables;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::clock::SystemClock;
use super::super::failure::CliError;
use super::super::maintain::Output;
use super::target::{Target, TargetArgs};
use super::tell;
use crate::client::ClientError;
use crate::domain::{Clock, TimeSpan, Timestamp};

pub(in crate::cli) use supervised::{EndedByArgs, SupervisedArgs, ended_by, supervised};

use fallback::{Fallback, Owner};
use program::{Existing, OwnCredential, Program};
use secrets::{Fetched, Secrets, Source};
pub(in crate::cli) use variables::Variable;
use variables::{EnvArg, Others, Wanted};
use watch::Watch;

/// For a server that is there and does not answer, where a copy could serve.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// Give this secret as this variable, and no other that is not named; may be given more
    /// than once
    #[arg(long, value_name = "VARIABLE=SECRET")]
    env: Vec<EnvArg>,
    /// Beside --env: give all others too
    #[arg(long, requires = "env")]
    all: bool,
    /// Leave variables as they are that are set already
    #[arg(long)]
    keep_existing: bool,
    /// Leave TENURE_TOKEN and TENURE_API_KEY in the command's environment
    #[arg(long)]
    keep_credential: bool,
    /// Stay, and start the command anew when a secret changes
    #[arg(long)]
    watch: bool,
    /// How often to look for changes
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "watch")]
    watch_interval: TimeSpan,
    /// Keep an encrypted copy in this file, for a start within 24 hours while the server is
    /// away
    #[arg(long, value_name = "FILE")]
    fallback: Option<PathBuf>,
    /// Start from that copy, and do not ask the server
    #[arg(long, requires = "fallback", conflicts_with = "watch")]
    fallback_only: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(in crate::cli) async fn run(args: RunArgs, output: Output) -> Result<(), CliError> {
    if output.json {
        return Err(CliError::usage(
            "standard output is the command's own: --json goes behind '--' if it is meant for it",
        ));
    }
    let every = interval(&args)?;
    let target = Target::find(&args.target)?;
    let owner = Owner::of(&target.server);
    let (client, names) = target.open_unasked()?;
    let others = if args.env.is_empty() || args.all { Others::Given } else { Others::LeftOut };
    let (wanted, below) = (Wanted::new(&args.env, others, &names)?, names.below("")?);
    let fallback = args.fallback.as_ref();
    let fallback = fallback.map(|path| Fallback::new(path, owner, &wanted, &below));
    let source = Source { client, names, wanted, below };
    let program = Program {
        words: args.command,
        existing: if args.keep_existing { Existing::Kept } else { Existing::Replaced },
        credential: match args.keep_credential {
            true => OwnCredential::LeftIn,
            false => OwnCredential::TakenOut,
        },
    };
    let held = match (&fallback, args.fallback_only) {
        (Some(fallback), true) => from_copy(fallback).map_err(CliError::unavailable)?,
        _ => fetch(&source, fallback.as_ref()).await?,
    };
    if args.watch {
        let fallback = fallback.as_ref();
        let watch = Watch { source: &source, program: &program, fallback, every };
        return watch.run(held).await;
    }
    let variables = source.wanted.variables(&held.secrets, &source.names)?;
    Err(program.exec(&variables))
}

fn interval(args: &RunArgs) -> Result<Duration, CliError> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let every = args.watch_interval.as_duration();
    if every < SHORTEST {
        return Err(CliError::usage("--watch-interval must be at least 100ms"));
    }
    Ok(every)
}

/// From the server; from the copy where that is away.
async fn fetch(source: &Source, fallback: Option<&Fallback>) -> Result<Fetched, CliError> {
    let asked = source.fetch();
    let answer = match fallback.filter(|fallback| fallback.is_there()) {
        Some(_) => tokio::time::timeout(PATIENCE, asked).await,
        None => Ok(asked.await),
    };
    let (is_away, failed) = match answer {
        Ok(Ok(fetched)) => {
            keep(fallback, &fetched.secrets);
            return Ok(fetched);
        }
        Ok(Err(error)) => (is_away(&error), source.names.place.failed(error)),
        Err(_) => (true, silent(source)),
    };
    match fallback {
        Some(fallback) if is_away => from_copy(fallback).map_err(|why| CliError {
            message: format!("{}; {why}", failed.message),
            exit: failed.exit,
        }),
        _ => Err(failed),
    }
}

fn silent(source: &Source) -> CliError {
    let seconds = PATIENCE.as_secs();
    CliError::unavailable(format!("{} did not answer within {seconds} s", source.names.place))
}

fn from_copy(fallback: &Fallback) -> Result<Fetched, String> {
    let (secrets, age) = fallback.read(now())?;
    say(&format!(
        "the server is not asked or is away: secrets come from a copy, {} old",
        words(age)
    ));
    Ok(Fetched { secrets, opens: None })
}

/// A copy that cannot be written is no reason not to start.
fn keep(fallback: Option<&Fallback>, secrets: &Secrets) {
    if let Some(Err(error)) = fallback.map(|fallback| fallback.keep(secrets, now())) {
        say(&format!("no copy is kept: {}", error.message));
    }
}

/// There is no server that could say yes or no. One that says no is believed.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Proxy { .. }
        | ClientError::NoAnswer { .. } => true,
        ClientError::Refused(refusal) => refusal.status >= 500,
        ClientError::Foreign { status, .. } => *status >= 500,
        _ => false,
    }
}

fn words(age: Duration) -> String {
    let (count, unit) = match age.as_secs() {
        seconds @ ..60 => (seconds, "second"),
        seconds @ ..3_600 => (seconds / 60, "minute"),
        seconds => (seconds / 3_600, "hour"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

fn now() -> Timestamp {
    SystemClock.read().wall
}

/// To people, whose command writes there too.
fn say(message: &str) {
    tell(&format!("tenure: {message}"));
}
