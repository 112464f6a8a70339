//! Names that tenants choose, and the ids that the store draws.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::Texts;

/// Why a name was refused. The sentence never repeats the name: it may be a
/// secret pasted into the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {max} characters")]
    TooLong { max: usize },
    #[error("may only hold the characters A-Z a-z 0-9 - _")]
    Character,
}

/// The rule both kinds of name share: 1 to `max` of `A-Z a-z 0-9 - _`.
fn check(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    check_characters(name, max)
}

fn check_characters(name: &str, max: usize) -> Result<(), NameError> {
    if name.len() > max {
        return Err(NameError::TooLong { max });
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.bytes().all(allowed) {
        return Err(NameError::Character);
    }
    Ok(())
}

/// A tenant's name: 1 to 64 of `A-Z a-z 0-9 - _`, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(Box<str>);

impl TenantName {
    pub const MAX_LEN: usize = 64;

    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name, Self::MAX_LEN)?;
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TenantName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

/// A secret's name within its tenant: 1 to 127 of `A-Z a-z 0-9 - _`,
/// case-sensitive. The HTTP API calls it `key`.
///
/// Names are encrypted at rest, so `Debug` does not show them: a log line is at
/// rest too. Cheap to clone: lists hold many.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName(Arc<str>);

impl SecretName {
    pub const MAX_LEN: usize = 127;

    pub fn parse(name: &str) -> Result<Self, NameError> {
        check(name, Self::MAX_LEN)?;
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SecretName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretName(..)")
    }
}

/// How secrets are called where others are told of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretNaming {
    Plain,
    /// Under a key, so that a name can be told from another and not be read.
    Hashed,
}

/// Names of secrets in one piece of memory.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretNames(Texts);

impl SecretNames {
    /// Adds a name, if it is one.
    pub fn push(&mut self, name: &str) -> Result<(), NameError> {
        check(name, SecretName::MAX_LEN)?;
        self.0.push(name);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many characters all names have together.
    pub fn text_len(&self) -> usize {
        self.0.bytes()
    }

    /// Each is a valid name.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }

    pub fn last(&self) -> Option<SecretName> {
        self.0.last().map(|name| SecretName(name.into()))
    }
}

impl FromIterator<SecretName> for SecretNames {
    fn from_iter<I: IntoIterator<Item = SecretName>>(names: I) -> Self {
        Self(names.into_iter().map(|SecretName(name)| name).collect())
    }
}

impl fmt::Debug for SecretNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretNames({} names)", self.len())
    }
}

/// Things by the secrets' names that they are for, each name once, in the order in
/// which they were given.
#[derive(Debug)]
pub struct ByName<T>(Vec<(SecretName, T)>);

/// A name that is not the first of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is given more than once")]
pub struct RepeatedName {
    /// From 0.
    pub index: usize,
}

impl<T> ByName<T> {
    pub fn new(things: Vec<(SecretName, T)>) -> Result<Self, RepeatedName> {
        let mut seen = HashSet::with_capacity(things.len());
        let repeated = things.iter().position(|(name, _)| !seen.insert(name));
        match repeated {
            Some(index) => Err(RepeatedName { index }),
            None => Ok(Self(things)),
        }
    }

    /// Of one name alone.
    pub fn one(name: SecretName, thing: T) -> Self {
        Self(vec![(name, thing)])
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(SecretName, T)> {
        self.0.iter()
    }

    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> ByName<U> {
        ByName(self.0.into_iter().map(|(name, thing)| (name, of(thing))).collect())
    }
}

impl<T> IntoIterator for ByName<T> {
    type Item = (SecretName, T);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What names may begin with: 0 to 127 of `A-Z a-z 0-9 - _`. The empty one is how
/// every name begins.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NamePrefix(Box<str>);

impl NamePrefix {
    pub fn parse(prefix: &str) -> Result<Self, NameError> {
        check_characters(prefix, SecretName::MAX_LEN)?;
        Ok(Self(prefix.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for NamePrefix {
    type Err = NameError;
    fn from_str(prefix: &str) -> Result<Self, NameError> {
        Self::parse(prefix)
    }
}

impl fmt::Debug for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamePrefix(..)")
    }
}

/// What a tenant is to bindings, trees, caches and tokens: 16 random bytes drawn
/// when it is created, so that a tenant made again under an old name honours
/// nothing older.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId([u8; 16]);

impl TenantId {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_one_piece_are_the_names() {
        let texts = ["a", "B-_9", &"x".repeat(127)];
        let mut names = SecretNames::default();
        assert!(names.is_empty() && names.last().is_none() && names.iter().next().is_none());
        for (index, text) in texts.into_iter().enumerate() {
            names.push(text).unwrap();
            assert_eq!(names.last().unwrap().as_str(), text);
            assert_eq!(names.len(), index + 1);
        }
        for refused in ["", "a b", &"x".repeat(128)] {
            assert!(names.push(refused).is_err());
        }
        assert!(names.iter().eq(texts));
        assert_eq!(names.text_len(), 132);
        let parsed = texts.map(|text| SecretName::parse(text).unwrap());
        assert_eq!(parsed.into_iter().collect::<SecretNames>(), names);
        assert_eq!(format!("{names:?}"), "SecretNames(3 names)");
    }

    #[test]
    fn a_name_has_a_length_and_an_alphabet() {
        assert!(SecretName::parse("Db-Password_2").is_ok());
        assert!(SecretName::parse(&"x".repeat(127)).is_ok());
        assert_eq!(SecretName::parse(""), Err(NameError::Empty));
        assert_eq!(SecretName::parse(&"x".repeat(128)), Err(NameError::TooLong { max: 127 }));
        assert_eq!(TenantName::parse(&"x".repeat(65)), Err(NameError::TooLong { max: 64 }));
        for bad in ["a/b", "..", "a.lock", "a b", "a\n", "ä", "a\0", "%41"] {
            assert_eq!(SecretName::parse(bad), Err(NameError::Character), "{bad:?}");
            assert_eq!(TenantName::parse(bad), Err(NameError::Character), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_may_be_empty_and_has_the_alphabet_of_a_name() {
        for prefix in ["", "a", "Db-_9", &"x".repeat(127)] {
            assert_eq!(NamePrefix::parse(prefix).unwrap().as_str(), prefix);
        }
        let long = NamePrefix::parse(&"x".repeat(128));
        assert_eq!(long, Err(NameError::TooLong { max: 127 }));
        for bad in ["a/", ".", " ", "a\0", "ä", "%41", "*"] {
            assert_eq!(NamePrefix::parse(bad), Err(NameError::Character), "{bad:?}");
        }
    }

    #[test]
    fn names_differ_by_case() {
        assert_ne!(SecretName::parse("a"), SecretName::parse("A"));
    }

    #[test]
    fn a_name_is_there_once_where_things_are_by_name() {
        let of = |names: &[&str]| {
            let names = names.iter().map(|name| SecretName::parse(name).unwrap());
            ByName::new(names.zip(0..).collect())
        };
        let things = of(&["b", "a", "B"]).unwrap().into_iter();
        let things: Vec<_> = things.map(|(name, at)| (name.as_str().to_owned(), at)).collect();
        assert_eq!(things, [("b".into(), 0), ("a".into(), 1), ("B".into(), 2)]);
        assert_eq!(of(&["a", "b", "c", "b", "a"]).unwrap_err(), RepeatedName { index: 3 });
        assert!(of(&[]).unwrap().is_empty());
    }

    #[test]
    fn debug_of_a_secret_name_hides_it() {
        let name = SecretName::parse("hunter2").unwrap();
        assert!(!format!("{name:?}").contains("hunter2"));
        let prefix = NamePrefix::parse("hunter2").unwrap();
        assert!(!format!("{prefix:?}").contains("hunter2"));
    }
}
