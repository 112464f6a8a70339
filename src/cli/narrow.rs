//! `tenure token attenuate` and `tenure token seal`: without a server, without a
//! configuration and without keys.
//!
//! A token is read from `TENURE_TOKEN` or standard input and written to standard
//! output, alone; it stands in no argument, no error and no log.

use std::io::{IsTerminal, Write};

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::args::AttenuateArgs;
use super::clock::SystemClock;
use super::failure::CliError;
use super::internal;
use super::maintain::{Output, inspection_text, presented_token};
use crate::auth::{self, Inspection, NarrowError, Narrowing};
use crate::domain::{Clock, Operation, Timestamp};

pub(super) fn attenuate(args: AttenuateArgs, output: Output) -> Result<(), CliError> {
    let AttenuateArgs { read_only, name, prefix, ttl, not_before } = args;
    let wanted = Narrowing {
        operation: read_only.then_some(Operation::Read),
        names: name,
        prefixes: prefix,
        ttl: ttl.map(|ttl| ttl.as_duration()),
        not_before,
    };
    let token = presented_token("attenuate")?;
    give(auth::narrow(token.trim(), &wanted, now()), output)
}

pub(super) fn seal(output: Output) -> Result<(), CliError> {
    let token = presented_token("seal")?;
    give(auth::seal(token.trim(), now()), output)
}

fn now() -> Timestamp {
    SystemClock.read().wall
}

/// A token made of another one, and what it says.
#[derive(Serialize)]
struct Given {
    #[serde(serialize_with = "shown")]
    token: Zeroizing<String>,
    allows: Inspection,
}

fn shown<S: Serializer>(token: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token)
}

/// The token goes to standard output, and what it allows to standard error where a
/// person reads that.
fn give(made: Result<Zeroizing<String>, NarrowError>, output: Output) -> Result<(), CliError> {
    let token = made.map_err(|error| match error {
        NarrowError::Library => internal(error),
        other => CliError::usage(other),
    })?;
    let allows = auth::inspect(&token).map_err(internal)?;
    let given = Given { token, allows };
    output.show(&given, || format!("{}\n", given.token.as_str()))?;
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() && !output.json {
        // The token was given; without its summary it is as good.
        let _ = write!(stderr, "\n{}", inspection_text(&given.allows));
    }
    Ok(())
}
