//! Narrowing a token, offline: what any holder can do to it without a server and
//! without keys of ours.
//!
//! Guaranteed here: what comes out says what went in and the wanted checks beside
//! it, and is of the shape that a server asks for; it was read again to prove that.
//! Whether the signatures hold is not known here, and nothing here needs to know.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Refusal;
use super::biscuit::{MAX_APPENDED_BLOCKS, MAX_APPENDED_CHECKS, Unverified, Unwritable};
use super::caveat::{Check, Comparison, OneOf, Query, TimeBound};
use super::reach::Reach;
use crate::domain::{NamePrefix, Operation, SecretName, Timestamp};

/// What a token is to be narrowed to; each part that is there takes away from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Narrowing {
    pub operation: Option<Operation>,
    /// These names, and those that begin with one of the prefixes.
    pub names: Vec<SecretName>,
    pub prefixes: Vec<NamePrefix>,
    /// From now on. Cut to whole seconds, as biscuit's dates are: a token never
    /// lasts longer than was asked for.
    pub ttl: Option<Duration>,
    /// Rounded up to whole seconds, for the same reason.
    pub not_before: Option<Timestamp>,
}

/// Why a token was not narrowed. Each says what can be done instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarrowError {
    /// No server would take it as it is.
    #[error("{0}; no server would take it, narrowed or not")]
    Refused(#[from] Refusal),
    #[error("the token is sealed, so it cannot be narrowed; ask for one that is not")]
    Sealed,
    #[error("the token expired at {expired}; ask for a new one")]
    Expired { expired: Timestamp },
    #[error("say what to narrow it to: an operation, names, prefixes or times")]
    Nothing,
    /// Such a check never holds for it, so that what came out would be good for nothing.
    #[error("the token is for the server itself, which has no secrets: narrow it to times alone")]
    OfTheServer,
    #[error("an empty prefix allows every name; leave it out, or say what names begin with")]
    EmptyPrefix,
    #[error("the lifetime must be at least 1 second")]
    NoTerm,
    #[error(
        "the token ends at {ends}, before that lifetime does, and narrowing cannot extend it; ask \
         for less, or for a new token"
    )]
    Outlasts { ends: Timestamp },
    #[error("it would begin only when it has ended, at {ends}; let it begin earlier")]
    NeverValid { ends: Timestamp },
    #[error("a token's times begin with 1970")]
    BeforeEpoch,
    #[error(
        "the token was narrowed {} times already, and more is not taken; narrow an earlier one, \
         all at once",
        MAX_APPENDED_BLOCKS
    )]
    TooManyBlocks,
    #[error(
        "with this the token would hold {checks} checks, and at most {} are taken; narrow an \
         earlier one",
        MAX_APPENDED_CHECKS
    )]
    TooManyChecks { checks: usize },
    #[error(
        "with this the token would be larger than 4 KiB, which is not taken; use a prefix instead \
         of many names"
    )]
    TooLarge,
    /// The token library failed; none of our inputs is known to bring that about.
    #[error("the token could not be written")]
    Library,
}

impl From<Unwritable> for NarrowError {
    fn from(Unwritable: Unwritable) -> Self {
        Self::Library
    }
}

/// Appends one block.
pub fn narrow(
    token: &str,
    wanted: &Narrowing,
    now: Timestamp,
) -> Result<Zeroizing<String>, NarrowError> {
    let token = open(token, now)?;
    let checks = checks(&token, wanted, now)?;
    if token.blocks() > MAX_APPENDED_BLOCKS {
        return Err(NarrowError::TooManyBlocks);
    }
    let all = token.caveats().len() + checks.len();
    if all > MAX_APPENDED_CHECKS {
        return Err(NarrowError::TooManyChecks { checks: all });
    }
    prove(token.append(&checks)?, &token, &checks)
}

/// Takes away the key by which a token is narrowed: what it allows stays.
pub fn seal(token: &str, now: Timestamp) -> Result<Zeroizing<String>, NarrowError> {
    let token = open(token, now)?;
    prove(token.seal()?, &token, &[])
}

/// One that can be narrowed, and is worth it.
fn open(token: &str, now: Timestamp) -> Result<Unverified, NarrowError> {
    let token = Unverified::decode(token)?;
    if token.is_sealed() {
        return Err(NarrowError::Sealed);
    }
    let ends = end(&token);
    if ends <= now { Err(NarrowError::Expired { expired: ends }) } else { Ok(token) }
}

/// When it ends, by its expiry and by what it was narrowed to.
fn end(token: &Unverified) -> Timestamp {
    let expires = token.claims().expires;
    token.caveats().end().map_or(expires, |end| end.min(expires))
}

/// Reads what was written as a server would.
fn prove(
    written: Zeroizing<String>,
    from: &Unverified,
    more: &[Check],
) -> Result<Zeroizing<String>, NarrowError> {
    let read = match Unverified::decode(&written) {
        Ok(read) => read,
        Err(Refusal::TooLarge) => return Err(NarrowError::TooLarge),
        Err(_) => return Err(NarrowError::Library),
    };
    let same = read.claims() == from.claims() && read.root_id() == from.root_id();
    if same && read.caveats().are(from.caveats(), more) {
        Ok(written)
    } else {
        Err(NarrowError::Library)
    }
}

fn checks(
    token: &Unverified,
    wanted: &Narrowing,
    now: Timestamp,
) -> Result<Vec<Check>, NarrowError> {
    let Narrowing { operation, names, prefixes, ttl, not_before } = wanted;
    let of_secrets = operation.is_some() || !names.is_empty() || !prefixes.is_empty();
    if of_secrets && token.claims().reach == Reach::Server {
        return Err(NarrowError::OfTheServer);
    }
    let mut checks = Vec::new();
    if let Some(operation) = operation {
        let word = OneOf::new(vec![operation.as_str().into()]);
        checks.push(Check { queries: vec![Query::Operation(word)] });
    }
    if !names.is_empty() || !prefixes.is_empty() {
        checks.push(Check { queries: name_queries(names, prefixes)? });
    }
    let mut ends = end(token);
    if let Some(ttl) = ttl {
        let seconds = now.saturating_add(*ttl).unix_seconds();
        let wanted_end = Timestamp::from_unix_seconds(seconds);
        if wanted_end <= now {
            return Err(NarrowError::NoTerm);
        }
        if wanted_end > ends {
            return Err(NarrowError::Outlasts { ends });
        }
        ends = wanted_end;
        checks.push(time(Comparison::Before, seconds)?);
    }
    if let Some(not_before) = not_before {
        let begins = not_before.unix_micros().saturating_add(999_999).div_euclid(1_000_000);
        if Timestamp::from_unix_seconds(begins) >= ends {
            return Err(NarrowError::NeverValid { ends });
        }
        checks.push(time(Comparison::From, begins)?);
    }
    if checks.is_empty() { Err(NarrowError::Nothing) } else { Ok(checks) }
}

/// One query for all names, and one for each prefix.
fn name_queries(names: &[SecretName], prefixes: &[NamePrefix]) -> Result<Vec<Query>, NarrowError> {
    let mut queries = Vec::new();
    if !names.is_empty() {
        let words = names.iter().map(|name| name.as_str().into()).collect();
        queries.push(Query::Resource(OneOf::new(words)));
    }
    for prefix in prefixes {
        if prefix.as_str().is_empty() {
            return Err(NarrowError::EmptyPrefix);
        }
        queries.push(Query::ResourcePrefix(prefix.as_str().into()));
    }
    Ok(queries)
}

fn time(comparison: Comparison, seconds: i64) -> Result<Check, NarrowError> {
    let date = u64::try_from(seconds).map_err(|_| NarrowError::BeforeEpoch)?;
    Ok(Check { queries: vec![Query::Time(TimeBound { comparison, date })] })
}
