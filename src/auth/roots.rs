//! The keys that sign tokens.
//!
//! Guaranteed here: there is at least one root, each has an id of its own, ids
//! rise, and no private half is printed, cloned or left in memory that we free.
//! Where the encoded form is kept, and that it is encrypted there, is the
//! vault's affair.

use std::fmt;

use zeroize::Zeroizing;

use super::biscuit::RootKey;

/// A root key's public half, as `/.well-known/biscuit-keys` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicRoot {
    pub id: u32,
    pub public_key: [u8; 32],
}

/// The root key pairs, oldest first.
pub struct Roots(Vec<Root>);

pub(super) struct Root {
    pub id: u32,
    pub key: RootKey,
}

/// Why stored bytes are not a set of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    #[error("the root keys are stored in a format that this version does not know")]
    UnknownFormat,
    #[error("the stored root keys are damaged")]
    Damaged,
}

/// `format || (id, u32 big-endian || Ed25519 private key, 32 bytes)+`
const FORMAT: u8 = 1;

impl Roots {
    /// One fresh root, with the id 1.
    pub fn generate() -> Self {
        Self(vec![Root { id: 1, key: RootKey::generate() }])
    }

    /// A fresh root in place of all of these, with an id that none of them had: no
    /// token that they signed holds any more.
    pub fn replaced(&self) -> Self {
        let id = self.newest().id.saturating_add(1);
        Self(vec![Root { id, key: RootKey::generate() }])
    }

    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Reserved at once: a vector that grows leaves copies of keys behind.
        let record = size_of::<u32>() + RootKey::SECRET_LEN;
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.0.len() * record));
        bytes.push(FORMAT);
        for Root { id, key } in &self.0 {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&key.secret());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RootsError> {
        let (format, mut rest) = bytes.split_first().ok_or(RootsError::Damaged)?;
        if *format != FORMAT {
            return Err(RootsError::UnknownFormat);
        }
        let mut roots: Vec<Root> = Vec::new();
        while !rest.is_empty() {
            let (id, after_id) = rest.split_first_chunk().ok_or(RootsError::Damaged)?;
            let (secret, after_key) = after_id.split_first_chunk().ok_or(RootsError::Damaged)?;
            let id = u32::from_be_bytes(*id);
            if roots.last().is_some_and(|last| last.id >= id) {
                return Err(RootsError::Damaged);
            }
            let key = RootKey::from_secret(secret).ok_or(RootsError::Damaged)?;
            roots.push(Root { id, key });
            rest = after_key;
        }
        if roots.is_empty() { Err(RootsError::Damaged) } else { Ok(Self(roots)) }
    }

    pub fn public(&self) -> Vec<PublicRoot> {
        self.0
            .iter()
            .map(|Root { id, key }| PublicRoot { id: *id, public_key: key.public() })
            .collect()
    }

    pub(super) fn get(&self, id: u32) -> Option<&RootKey> {
        self.0.iter().find(|root| root.id == id).map(|root| &root.key)
    }

    /// The one that signs.
    pub(super) fn newest(&self) -> &Root {
        self.0.last().expect("a set of roots is never empty: generate and decode see to it")
    }

    #[cfg(test)]
    pub(super) fn from_keys(keys: Vec<(u32, RootKey)>) -> Self {
        Self(keys.into_iter().map(|(id, key)| Root { id, key }).collect())
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|root| root.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roots_survive_encoding() {
        let roots = Roots::from_keys(vec![(1, RootKey::generate()), (7, RootKey::generate())]);
        let again = Roots::decode(&roots.encode()).unwrap();
        assert_eq!(again.public(), roots.public());
        assert_eq!(again.newest().id, 7);
        assert_eq!(again.encode(), roots.encode());
    }

    #[test]
    fn a_replacement_shares_neither_ids_nor_keys() {
        let roots = Roots::from_keys(vec![(1, RootKey::generate()), (7, RootKey::generate())]);
        let replaced = roots.replaced().public();
        assert_eq!(replaced.iter().map(|root| root.id).collect::<Vec<_>>(), [8]);
        assert!(roots.public().iter().all(|old| old.public_key != replaced[0].public_key));
    }

    #[test]
    fn damaged_roots_are_an_error() {
        let good = Roots::from_keys(vec![(1, RootKey::generate()), (2, RootKey::generate())]);
        let good = good.encode();
        for length in (0..good.len()).filter(|length| *length != 37) {
            assert_eq!(Roots::decode(&good[..length]).unwrap_err(), RootsError::Damaged);
        }
        let twice: Vec<u8> = [&good[..37], &good[1..37]].concat();
        assert_eq!(Roots::decode(&twice).unwrap_err(), RootsError::Damaged);
        let mut newer = good.to_vec();
        newer[0] = 2;
        assert_eq!(Roots::decode(&newer).unwrap_err(), RootsError::UnknownFormat);
    }

    #[test]
    fn debug_of_roots_shows_no_key() {
        let roots = Roots::generate();
        let secret = roots.encode();
        let shown = format!("{roots:?} {:?}", roots.newest().key);
        assert!(!shown.contains(&hex::encode(&secret[5..])));
        assert!(!shown.contains(&format!("{:?}", &secret[5..9]).replace(['[', ']'], "")));
        assert_eq!(shown, "[1] RootKey(..)");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(roots) = Roots::decode(&bytes) {
                prop_assert_eq!(&roots.encode()[..], &bytes[..]);
            }
        }
    }
}
