//! What the first block of a token says: whose it is, and until when.

use std::fmt;

use crate::domain::Timestamp;

use super::ApiKeyId;
use super::api_key::PREFIX;
use super::reach::Reach;

/// Whom a token was minted for, in the operator's words: 1 to 128 characters
/// that can be printed.
///
/// It is shown in terminals and written to logs, so whatever could steer either
/// of them is refused: control characters, but also the formatting characters
/// that turn the direction of what follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most 128 characters")]
    TooLong,
    #[error("may only hold characters that can be printed")]
    Character,
}

impl Subject {
    pub const MAX_CHARS: usize = 128;

    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        if text.is_empty() {
            return Err(SubjectError::Empty);
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(SubjectError::TooLong);
        }
        if !is_printable(text) {
            return Err(SubjectError::Character);
        }
        Ok(Self(text.into()))
    }

    /// Whoever holds this API key. Keys have names for people, and two may have the
    /// same; nothing is decided by them.
    pub(super) fn of_api_key(id: ApiKeyId) -> Self {
        Self(format!("{PREFIX}{id}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What `Debug` of a string would not escape, quotes and backslashes aside. That
/// is the standard library's table of printable characters, which leaves out
/// `Cc`, `Cf`, `Zl`, `Zp`, private use, unassigned, and a leading combining mark.
fn is_printable(text: &str) -> bool {
    let unquoted = text.replace(['"', '\'', '\\'], "x");
    unquoted.escape_debug().eq(unquoted.chars())
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Subject {
    type Err = SubjectError;
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        Self::parse(text)
    }
}

/// The contents of an authority block. Both moments are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub reach: Reach,
    pub subject: Subject,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_can_be_printed() {
        for good in ["ci", "Jörg's \"laptop\"", r"DOMAIN\user", "日本", "क्षि", "e\u{301}", "a b"]
        {
            assert!(Subject::parse(good).is_ok(), "{good:?}");
        }
        assert!(Subject::parse(&"ä".repeat(128)).is_ok());
    }

    #[test]
    fn a_subject_cannot_steer_a_terminal() {
        assert_eq!(Subject::parse(""), Err(SubjectError::Empty));
        assert_eq!(Subject::parse(&"a".repeat(129)), Err(SubjectError::TooLong));
        for bad in ["a\n", "\u{1b}[2J", "a\0", "\u{85}", "\u{202e}ci", "a\u{2066}b", "\u{2028}"] {
            assert_eq!(Subject::parse(bad), Err(SubjectError::Character), "{bad:?}");
        }
    }
}
