//! The plaintext of a secret, while this process holds it.

use std::fmt;

use zeroize::Zeroizing;

/// A secret's plaintext: UTF-8, wiped from memory when dropped. It has no
/// `Clone`, no `Serialize` and a `Debug` that shows nothing, so that it cannot
/// reach a log line by accident.
#[derive(PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// What a stored value may never exceed, whatever is configured.
    pub const HARD_MAX_BYTES: usize = 1024 * 1024;

    pub fn new(plaintext: Zeroizing<String>) -> Self {
        Self(plaintext)
    }

    /// The plaintext itself. Each caller is a place where it may leave.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes of UTF-8.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_value_hides_it() {
        let value = SecretValue::new(Zeroizing::new("hunter2".to_owned()));
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
