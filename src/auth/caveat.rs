//! What a token was narrowed to.
//!
//! The checks of its appended blocks, compiled once, when the token is first
//! verified, and matched natively for each request. The answers equal those of
//! biscuit's own authorizer given `operation`, `resource` and `time`, in whole
//! seconds: a property test holds one against the other.
//!
//! This module knows neither the encoding of a token nor who made it.

use std::fmt;
use std::sync::Arc;

use crate::domain::{Now, Operation, SecretName, Timestamp};

/// The checks of a token's appended blocks. All of them must hold; none is a
/// token as it was minted.
#[derive(Default, PartialEq, Eq)]
pub struct Caveats {
    checks: Vec<Check>,
}

impl Caveats {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    pub fn len(&self) -> usize {
        self.checks.len()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether these are the checks of `before` and then those of `more`.
    pub(super) fn are(&self, before: &Self, more: &[Check]) -> bool {
        self.checks.iter().eq(before.checks.iter().chain(more))
    }

    /// From when on no request at all is allowed, where the checks say so of time
    /// alone.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.checks.iter().filter_map(Check::end).min()
    }

    pub fn allow(&self, operation: Operation, name: &SecretName, now: Now) -> bool {
        self.all(|query| query.holds(operation, name, now))
    }

    /// Whether a list, which has no single name, may begin. A query about the
    /// name is taken to hold here, since each name is asked about on its own
    /// afterwards; where two such queries contradict each other, the list is
    /// empty, which is the truth.
    pub(super) fn allow_some_name(&self, operation: Operation, now: Now) -> bool {
        self.all(|query| query.is_about_name() || query.holds_without_name(operation, now))
    }

    /// Whether a request about the server itself, which names no secret and no operation
    /// on one, is left. Only a query about time can hold.
    pub(super) fn allow_server(&self, now: Now) -> bool {
        self.all(|query| matches!(query, Query::Time(bound) if bound.holds(now)))
    }

    pub(super) fn depend_on_name(&self) -> bool {
        self.checks.iter().flat_map(|check| &check.queries).any(Query::is_about_name)
    }

    /// One sentence for each check.
    pub(super) fn sentences(&self) -> Vec<String> {
        self.checks.iter().map(Check::sentence).collect()
    }

    fn all(&self, holds: impl Fn(&Query) -> bool) -> bool {
        self.checks.iter().all(|check| check.queries.iter().any(&holds))
    }
}

/// Names are encrypted at rest, and a log is at rest too: only how many.
impl fmt::Debug for Caveats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caveats({} checks)", self.checks.len())
    }
}

/// `check if … or …`: one of the queries must hold.
#[derive(PartialEq, Eq)]
pub(super) struct Check {
    pub queries: Vec<Query>,
}

#[derive(PartialEq, Eq)]
pub(super) enum Query {
    /// `operation("read")`, `operation($o), ["read"].contains($o)`
    Operation(OneOf),
    /// `resource("n")`, `resource($r), ["a", "b"].contains($r)`
    Resource(OneOf),
    /// `resource($r), $r.starts_with("p")`
    ResourcePrefix(Arc<str>),
    /// `time($t), $t < d`
    Time(TimeBound),
}

/// A set of words, sorted, so that a list of many names against a token of many
/// words stays cheap. The words are shared with the token's symbol table: a
/// token of 4 KiB that refers to one long symbol hundreds of times must not grow
/// hundredfold in the cache.
#[derive(PartialEq, Eq)]
pub(super) struct OneOf(Box<[Arc<str>]>);

impl OneOf {
    pub fn new(mut words: Vec<Arc<str>>) -> Self {
        words.sort_unstable();
        words.dedup();
        Self(words.into())
    }

    pub fn as_slice(&self) -> &[Arc<str>] {
        &self.0
    }

    fn contains(&self, word: &str) -> bool {
        self.0.binary_search_by(|candidate| (**candidate).cmp(word)).is_ok()
    }

    fn quoted(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|word| format!("{word:?}")).collect();
        words.join(", ")
    }
}

/// A bound on the time of a request; biscuit's dates are whole seconds since
/// 1970.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeBound {
    pub comparison: Comparison,
    pub date: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `<`
    Before,
    /// `<=`
    Until,
    /// `>`
    After,
    /// `>=`
    From,
}

impl TimeBound {
    /// Each bound is judged by the clock on whose side a mistake is harmless: an
    /// upper one at the time for expiry, which a wall clock set back cannot
    /// lower, and a lower one at the wall clock, which no floor can raise.
    ///
    /// The moment is cut to whole seconds first, because the `time` fact of a
    /// biscuit is, and anyone who checks the token with a biscuit library must
    /// come to our answer. For `<` and `>=` cutting changes nothing, a date being
    /// a whole second itself: floor(t) < d exactly when t < d. It decides the
    /// other two, where it lets `<= d` last through the second d and makes `> d`
    /// wait for its end: what a clock that shows seconds says.
    fn holds(self, now: Now) -> bool {
        // Signed and wide enough for both: a moment before 1970 is earlier than
        // every date rather than later.
        let date = i128::from(self.date);
        let expiry = i128::from(now.for_expiry().unix_seconds());
        let wall = i128::from(now.wall().unix_seconds());
        match self.comparison {
            Comparison::Before => expiry < date,
            Comparison::Until => expiry <= date,
            Comparison::After => wall > date,
            Comparison::From => wall >= date,
        }
    }

    fn end(self) -> Option<Timestamp> {
        let date = i64::try_from(self.date).unwrap_or(i64::MAX);
        match self.comparison {
            Comparison::Before => Some(Timestamp::from_unix_seconds(date)),
            Comparison::Until => Some(Timestamp::from_unix_seconds(date.saturating_add(1))),
            Comparison::After | Comparison::From => None,
        }
    }

    fn phrase(self) -> String {
        let date = Timestamp::from_unix_seconds(i64::try_from(self.date).unwrap_or(i64::MAX));
        match self.comparison {
            Comparison::Before => format!("before {date}"),
            Comparison::Until => format!("until {date}, that second included"),
            Comparison::After => format!("after {date}, that second excluded"),
            Comparison::From => format!("from {date} on"),
        }
    }
}

impl Query {
    fn holds(&self, operation: Operation, name: &SecretName, now: Now) -> bool {
        match self {
            Self::Resource(names) => names.contains(name.as_str()),
            Self::ResourcePrefix(prefix) => name.as_str().starts_with(&**prefix),
            Self::Operation(_) | Self::Time(_) => self.holds_without_name(operation, now),
        }
    }

    fn holds_without_name(&self, operation: Operation, now: Now) -> bool {
        match self {
            Self::Operation(operations) => operations.contains(operation.as_str()),
            Self::Time(bound) => bound.holds(now),
            Self::Resource(_) | Self::ResourcePrefix(_) => false,
        }
    }

    fn end(&self) -> Option<Timestamp> {
        match self {
            Self::Time(bound) => bound.end(),
            Self::Operation(_) | Self::Resource(_) | Self::ResourcePrefix(_) => None,
        }
    }

    fn is_about_name(&self) -> bool {
        matches!(self, Self::Resource(_) | Self::ResourcePrefix(_))
    }
}

impl Check {
    /// The latest end of its queries, if each of them has one.
    fn end(&self) -> Option<Timestamp> {
        let ends: Option<Vec<_>> = self.queries.iter().map(Query::end).collect();
        ends?.into_iter().max()
    }

    fn sentence(&self) -> String {
        let phrases: Vec<_> = self.queries.iter().map(Query::phrase).collect();
        format!("only {}", phrases.join(", or "))
    }
}

impl Query {
    /// Words come from whoever narrowed the token, perhaps a stranger: they are
    /// quoted with `Debug`, which escapes what could steer a terminal.
    fn phrase(&self) -> String {
        match self {
            Self::Operation(operations) => match &*operations.0 {
                [one] if &**one == Operation::Read.as_str() => "to read and list".to_owned(),
                [one] if &**one == Operation::Write.as_str() => "to write and delete".to_owned(),
                _ => format!("for an operation out of [{}]", operations.quoted()),
            },
            Self::Resource(names) => match &*names.0 {
                [one] => format!("the secret {one:?}"),
                _ => format!("a secret out of [{}]", names.quoted()),
            },
            Self::ResourcePrefix(prefix) => format!("secrets whose name begins with {prefix:?}"),
            Self::Time(bound) => bound.phrase(),
        }
    }
}
