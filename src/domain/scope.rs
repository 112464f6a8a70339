//! What a credential may do.

use std::fmt;

/// The verb of a request, in biscuit's conventional words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Get and list.
    Read,
    /// Put and delete.
    Write,
}

impl Operation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One grant, within one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    SecretRead,
    SecretWrite,
    /// All in the tenant.
    All,
}

/// A word that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a scope: use Secret.Read, Secret.Write or *")]
pub struct ScopeError;

impl Scope {
    pub const EVERY: [Self; 3] = [Self::SecretRead, Self::SecretWrite, Self::All];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretRead => "Secret.Read",
            Self::SecretWrite => "Secret.Write",
            Self::All => "*",
        }
    }

    pub fn parse(word: &str) -> Result<Self, ScopeError> {
        Self::EVERY.into_iter().find(|scope| scope.as_str() == word).ok_or(ScopeError)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;
    fn from_str(word: &str) -> Result<Self, ScopeError> {
        Self::parse(word)
    }
}

/// The grants of one credential. The empty set allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    pub const NONE: Self = Self(0);

    pub fn with(self, scope: Scope) -> Self {
        Self(self.0 | Self::bit(scope))
    }

    pub fn contains(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    pub fn allows(self, operation: Operation) -> bool {
        let needed = match operation {
            Operation::Read => Scope::SecretRead,
            Operation::Write => Scope::SecretWrite,
        };
        self.contains(needed) || self.contains(Scope::All)
    }

    /// Whether all that `other` allows is allowed here too.
    pub fn covers(self, other: Self) -> bool {
        self.contains(Scope::All) || self.0 & other.0 == other.0
    }

    /// Its stored form; a bit keeps its meaning.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// `None` where there is a bit that this version does not know.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let known = Scope::EVERY.into_iter().collect::<Self>();
        (byte & !known.0 == 0).then_some(Self(byte))
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::EVERY.into_iter().filter(move |scope| self.contains(*scope))
    }

    const fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::SecretRead => 1,
            Scope::SecretWrite => 2,
            Scope::All => 4,
        }
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_its_operation_and_no_other() {
        let read = ScopeSet::NONE.with(Scope::SecretRead);
        assert!(read.allows(Operation::Read) && !read.allows(Operation::Write));
        let write = ScopeSet::NONE.with(Scope::SecretWrite);
        assert!(write.allows(Operation::Write) && !write.allows(Operation::Read));
        let all = ScopeSet::NONE.with(Scope::All);
        assert!(all.allows(Operation::Read) && all.allows(Operation::Write));
    }

    #[test]
    fn no_scope_allows_nothing() {
        assert!(
            !ScopeSet::NONE.allows(Operation::Read) && !ScopeSet::NONE.allows(Operation::Write)
        );
    }

    #[test]
    fn the_stored_form_of_scopes_is_frozen() {
        let all: ScopeSet = Scope::EVERY.into_iter().collect();
        assert_eq!(Scope::EVERY.map(|scope| ScopeSet::NONE.with(scope).byte()), [1, 2, 4]);
        assert_eq!((ScopeSet::from_byte(7), ScopeSet::from_byte(8)), (Some(all), None));
    }

    #[test]
    fn what_covers_another_allows_no_less() {
        let (read, all) = (ScopeSet::NONE.with(Scope::SecretRead), ScopeSet::NONE.with(Scope::All));
        let both = read.with(Scope::SecretWrite);
        assert!(all.covers(both) && both.covers(read) && read.covers(ScopeSet::NONE));
        assert!(!read.covers(both) && !both.covers(all) && !ScopeSet::NONE.covers(read));
    }

    #[test]
    fn scopes_are_spelt_exactly() {
        assert_eq!(Scope::parse("Secret.Read"), Ok(Scope::SecretRead));
        assert_eq!(Scope::parse("secret.read"), Err(ScopeError));
        assert_eq!(Scope::parse(""), Err(ScopeError));
    }
}
