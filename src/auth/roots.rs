//! The keys that sign tokens.
//!
//! Guaranteed here: there is at least one root, the newest signs and has no end,
//! each has an id of its own, ids rise, and no private half is printed, cloned or
//! left in memory that we free. Where the encoded form is kept, and that it is
//! encrypted there, is the vault's affair.

use std::fmt;

use zeroize::Zeroizing;

use crate::domain::{Now, Timestamp};

use super::biscuit::RootKey;

/// A root key's public half, as `/.well-known/biscuit-keys` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicRoot {
    pub id: u32,
    pub public_key: [u8; 32],
    /// Until when its tokens hold; `None`: no end was set.
    pub until: Option<Timestamp>,
}

/// The root key pairs, oldest first.
pub struct Roots(Vec<Root>);

pub(super) struct Root {
    pub id: u32,
    pub key: RootKey,
    /// From this moment on it is as if it had never been; `None`: no end was set.
    pub until: Option<Timestamp>,
}

/// Why stored bytes are not a set of roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    #[error("the root keys are stored in a format that this version does not know")]
    UnknownFormat,
    #[error("the stored root keys are damaged")]
    Damaged,
}

/// Too many old roots are honoured still for another one to join them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many roots are honoured as can be ({})", Roots::MAX)]
pub struct TooManyRoots;

/// `format || (id, u32 big-endian || Ed25519 private key, 32 bytes)+`; no root has
/// an end.
const FORMAT: u8 = 1;
/// `format || (id || private key || end, i64 big-endian, microseconds since 1970; the
/// greatest is none)+`; a root has an end. What the older format can say is written
/// in it, so that an older version reads the store until a root is first rotated.
const FORMAT_WITH_ENDS: u8 = 2;
const NO_END: i64 = i64::MAX;

impl Roots {
    /// They fit into one row of the store, and into everyone's list of public keys.
    pub const MAX: usize = 32;

    /// One fresh root, with the id 1.
    pub fn generate() -> Self {
        Self(vec![Root::fresh(1)])
    }

    /// A fresh root in place of all of these, with an id that none of them had: no
    /// token that they signed holds any more.
    pub fn replaced(&self) -> Self {
        Self(vec![Root::fresh(self.newest().id.saturating_add(1))])
    }

    /// A fresh root beside these, which end at `until` or where they ended before
    /// that. Those that have ended by now are gone.
    pub fn rotated(&self, until: Timestamp, now: Now) -> Result<Self, TooManyRoots> {
        let mut rotated: Vec<Root> = self.honoured(now).map(Root::copy).collect();
        for root in &mut rotated {
            root.until = Some(root.until.map_or(until, |end| end.min(until)));
        }
        rotated.push(Root::fresh(self.newest().id.saturating_add(1)));
        if rotated.len() > Self::MAX { Err(TooManyRoots) } else { Ok(Self(rotated)) }
    }

    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let with_ends = self.0.iter().any(|root| root.until.is_some());
        // Reserved at once: a vector that grows leaves copies of keys behind.
        let record = size_of::<u32>() + RootKey::SECRET_LEN + size_of::<i64>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.0.len() * record));
        bytes.push(if with_ends { FORMAT_WITH_ENDS } else { FORMAT });
        for Root { id, key, until } in &self.0 {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&key.secret());
            if with_ends {
                let end = until.map_or(NO_END, Timestamp::unix_micros);
                bytes.extend_from_slice(&end.to_be_bytes());
            }
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RootsError> {
        let (format, mut rest) = bytes.split_first().ok_or(RootsError::Damaged)?;
        let with_ends = match *format {
            FORMAT => false,
            FORMAT_WITH_ENDS => true,
            _ => return Err(RootsError::UnknownFormat),
        };
        let mut roots: Vec<Root> = Vec::new();
        while !rest.is_empty() {
            let (root, after) = Root::decode(rest, with_ends)?;
            if roots.last().is_some_and(|last| last.id >= root.id) {
                return Err(RootsError::Damaged);
            }
            roots.push(root);
            rest = after;
        }
        let newest_signs = roots.last().is_some_and(|newest| newest.until.is_none());
        let some_end = roots.iter().any(|root| root.until.is_some());
        // Each set of roots has one encoding.
        if newest_signs && some_end == with_ends {
            Ok(Self(roots))
        } else {
            Err(RootsError::Damaged)
        }
    }

    /// Those whose tokens hold now.
    pub fn public(&self, now: Now) -> Vec<PublicRoot> {
        let public = |Root { id, key, until }: &Root| PublicRoot {
            id: *id,
            public_key: key.public(),
            until: *until,
        };
        self.honoured(now).map(public).collect()
    }

    pub(super) fn get(&self, id: u32, now: Now) -> Option<&Root> {
        self.honoured(now).find(|root| root.id == id)
    }

    /// The one that signs.
    pub(super) fn newest(&self) -> &Root {
        self.0.last().expect("a set of roots is never empty: generate and decode see to it")
    }

    fn honoured(&self, now: Now) -> impl Iterator<Item = &Root> {
        let ended = move |until: Timestamp| now.for_expiry() >= until;
        self.0.iter().filter(move |root| !root.until.is_some_and(ended))
    }

    #[cfg(test)]
    pub(super) fn from_keys(keys: Vec<(u32, RootKey)>) -> Self {
        Self(keys.into_iter().map(|(id, key)| Root { id, key, until: None }).collect())
    }
}

impl Root {
    fn fresh(id: u32) -> Self {
        Self { id, key: RootKey::generate(), until: None }
    }

    fn copy(&self) -> Self {
        let Self { id, key, until } = self;
        Self { id: *id, key: key.copy(), until: *until }
    }

    /// One record, and what follows it.
    fn decode(bytes: &[u8], with_end: bool) -> Result<(Self, &[u8]), RootsError> {
        let (id, rest) = bytes.split_first_chunk().ok_or(RootsError::Damaged)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(RootsError::Damaged)?;
        let key = RootKey::from_secret(secret).ok_or(RootsError::Damaged)?;
        let mut root = Self { id: u32::from_be_bytes(*id), key, until: None };
        if !with_end {
            return Ok((root, rest));
        }
        let (end, rest) = rest.split_first_chunk().ok_or(RootsError::Damaged)?;
        root.until = match i64::from_be_bytes(*end) {
            NO_END => None,
            end => Some(Timestamp::from_unix_micros(end)),
        };
        Ok((root, rest))
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

    fn at(seconds: i64) -> Now {
        Now::undisputed(Timestamp::from_unix_seconds(seconds))
    }

    fn ids(roots: &Roots, now: Now) -> Vec<u32> {
        roots.public(now).iter().map(|root| root.id).collect()
    }

    #[test]
    fn an_old_root_is_honoured_until_its_date_and_the_new_one_signs() {
        let roots = Roots::generate().rotated(at(100).wall(), at(0)).unwrap();
        assert_eq!(roots.newest().id, 2);
        assert_eq!(ids(&roots, at(99)), [1, 2]);
        assert_eq!(ids(&roots, at(100)), [2]);
        assert!(roots.get(1, at(99)).is_some() && roots.get(1, at(100)).is_none());
        // A clock set back brings none of them back.
        let back = Now::new(at(99).wall(), at(100).wall());
        assert_eq!(ids(&roots, back), [2]);
    }

    #[test]
    fn rotating_again_prolongs_nothing_and_drops_what_has_ended() {
        let once = Roots::generate().rotated(at(100).wall(), at(0)).unwrap();
        let twice = once.rotated(at(500).wall(), at(50)).unwrap();
        assert_eq!(ids(&twice, at(99)), [1, 2, 3]);
        assert_eq!(ids(&twice, at(100)), [2, 3]);
        let thrice = twice.rotated(at(500).wall(), at(100)).unwrap();
        assert_eq!(ids(&thrice, at(0)), [2, 3, 4]);
        let none = thrice.rotated(at(100).wall(), at(100)).unwrap();
        assert_eq!(ids(&none, at(100)), [5]);
    }

    #[test]
    fn roots_are_counted() {
        let mut roots = Roots::generate();
        for _ in 1..Roots::MAX {
            roots = roots.rotated(at(100).wall(), at(0)).unwrap();
        }
        assert!(roots.encode().len() < 3_000);
        assert_eq!(roots.rotated(at(100).wall(), at(0)).unwrap_err(), TooManyRoots);
        assert!(roots.rotated(at(100).wall(), at(100)).is_ok());
    }

    #[test]
    fn the_ends_of_roots_survive_encoding() {
        let roots = Roots::generate().rotated(at(100).wall(), at(0)).unwrap();
        let encoded = roots.encode();
        assert_eq!(encoded[0], 2);
        let again = Roots::decode(&encoded).unwrap();
        assert_eq!(again.public(at(0)), roots.public(at(0)));
        for length in 0..encoded.len() {
            assert_eq!(Roots::decode(&encoded[..length]).unwrap_err(), RootsError::Damaged);
        }
        // The one that signs must not end.
        let mut ending = encoded.to_vec();
        let last = ending.len() - 8;
        ending[last..].copy_from_slice(&5i64.to_be_bytes());
        assert_eq!(Roots::decode(&ending).unwrap_err(), RootsError::Damaged);
    }

    #[test]
    fn roots_survive_encoding() {
        let roots = Roots::from_keys(vec![(1, RootKey::generate()), (7, RootKey::generate())]);
        let again = Roots::decode(&roots.encode()).unwrap();
        assert_eq!(again.public(at(0)), roots.public(at(0)));
        assert_eq!(again.newest().id, 7);
        assert_eq!(again.encode(), roots.encode());
    }

    #[test]
    fn a_replacement_shares_neither_ids_nor_keys() {
        let roots = Roots::from_keys(vec![(1, RootKey::generate()), (7, RootKey::generate())]);
        let replaced = roots.replaced().public(at(0));
        assert_eq!(replaced.iter().map(|root| root.id).collect::<Vec<_>>(), [8]);
        assert!(roots.public(at(0)).iter().all(|old| old.public_key != replaced[0].public_key));
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
        newer[0] = 3;
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
