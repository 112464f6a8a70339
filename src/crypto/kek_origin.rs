//! What a store remembers of where its KEK comes from.
//!
//! It stands, unencrypted, in the keyring's header and at the head of a backup: a
//! KEK that is derived from a passphrase or put together from shares can only be
//! had with it. Whoever changes it there gains nothing: what comes of it is no KEK
//! of this store, which the check value tells, and the keyring's ledger covers it.

use super::keys::{Kek, StoreId};
use crate::domain::Timestamp;

/// What a store, or a backup, says of its KEK: enough to come by it and to prove it.
/// None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekRecord {
    pub store_id: StoreId,
    /// As [`StoreKeys::check_value`](super::StoreKeys::check_value) makes it.
    pub check: [u8; 32],
    /// `None`: it was written before this was written down.
    pub origin: Option<KekOrigin>,
}

impl KekRecord {
    /// Whether it is of this KEK.
    pub fn is_of(&self, kek: &Kek) -> bool {
        kek.for_store(self.store_id).proves(&self.check)
    }

    /// Tells two KEKs of one store apart, for people.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.check)
    }

    /// That of another KEK, if it were this store's.
    pub fn fingerprint_of(&self, kek: &Kek) -> String {
        fingerprint(&kek.for_store(self.store_id).check_value())
    }
}

fn fingerprint(check: &[u8; 32]) -> String {
    hex::encode(check.first_chunk::<4>().expect("4 of 32 bytes"))
}

/// Where a KEK comes from, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekOrigin {
    pub way: KekWay,
    /// When the store was made under this KEK, or it replaced another.
    pub since: Timestamp,
}

/// How one comes by a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KekWay {
    File,
    Env,
    Credential,
    Command,
    Passphrase(Argon2Params),
    Shamir(ShareSet),
}

/// Argon2id, version 0x13 (RFC 9106), to 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    pub salt: [u8; 16],
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

/// Which shares make up a KEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSet {
    /// Drawn anew at each splitting, so that shares of two are told apart.
    pub id: [u8; 8],
    /// How many shares it takes.
    pub threshold: u8,
    /// How many there are.
    pub shares: u8,
}

/// Stored bytes that say nothing that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("where the KEK comes from is not stored in a form that is known")]
pub struct UnknownOrigin;

impl KekWay {
    /// As `kek.source` in the configuration calls it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Env => "env",
            Self::Credential => "credential",
            Self::Command => "command",
            Self::Passphrase(_) => "passphrase",
            Self::Shamir(_) => "shamir",
        }
    }

    const fn byte(&self) -> u8 {
        match self {
            Self::File => 1,
            Self::Env => 2,
            Self::Credential => 3,
            Self::Command => 4,
            Self::Passphrase(_) => 5,
            Self::Shamir(_) => 6,
        }
    }
}

impl KekOrigin {
    /// `since, in microseconds (8) ‖ way (1) ‖ parameters`, where the parameters of a
    /// passphrase are `salt (16) ‖ KiB (4) ‖ passes (4) ‖ lanes (4)`, and of shares
    /// `set (8) ‖ threshold (1) ‖ shares (1)`.
    pub fn encode(&self) -> Vec<u8> {
        let Self { way, since } = self;
        let mut out = since.unix_micros().to_be_bytes().to_vec();
        out.push(way.byte());
        match way {
            KekWay::File | KekWay::Env | KekWay::Credential | KekWay::Command => {}
            KekWay::Passphrase(Argon2Params { salt, memory_kib, passes, lanes }) => {
                out.extend_from_slice(salt);
                for number in [memory_kib, passes, lanes] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            KekWay::Shamir(ShareSet { id, threshold, shares }) => {
                out.extend_from_slice(id);
                out.extend_from_slice(&[*threshold, *shares]);
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, UnknownOrigin> {
        let mut rest = bytes;
        let since = Timestamp::from_unix_micros(i64::from_be_bytes(take(&mut rest)?));
        let [way] = take(&mut rest)?;
        let way = match way {
            1 => KekWay::File,
            2 => KekWay::Env,
            3 => KekWay::Credential,
            4 => KekWay::Command,
            5 => KekWay::Passphrase(Argon2Params {
                salt: take(&mut rest)?,
                memory_kib: u32::from_be_bytes(take(&mut rest)?),
                passes: u32::from_be_bytes(take(&mut rest)?),
                lanes: u32::from_be_bytes(take(&mut rest)?),
            }),
            6 => {
                let id = take(&mut rest)?;
                let [threshold, shares] = take(&mut rest)?;
                KekWay::Shamir(ShareSet { id, threshold, shares })
            }
            _ => return Err(UnknownOrigin),
        };
        if rest.is_empty() { Ok(Self { way, since }) } else { Err(UnknownOrigin) }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], UnknownOrigin> {
    let (taken, left) = rest.split_first_chunk().ok_or(UnknownOrigin)?;
    *rest = left;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way() -> impl Strategy<Value = KekWay> {
        let passphrase = any::<([u8; 16], u32, u32, u32)>();
        prop_oneof![
            Just(KekWay::File),
            Just(KekWay::Env),
            Just(KekWay::Credential),
            Just(KekWay::Command),
            passphrase.prop_map(|(salt, memory_kib, passes, lanes)| KekWay::Passphrase(
                Argon2Params { salt, memory_kib, passes, lanes }
            )),
            any::<([u8; 8], u8, u8)>().prop_map(|(id, threshold, shares)| KekWay::Shamir(
                ShareSet { id, threshold, shares }
            )),
        ]
    }

    proptest! {
        #[test]
        fn an_origin_survives_its_encoding(way in way(), since in any::<i64>()) {
            let origin = KekOrigin { way, since: Timestamp::from_unix_micros(since) };
            let encoded = origin.encode();
            prop_assert_eq!(KekOrigin::decode(&encoded), Ok(origin));
            for length in 0..encoded.len() {
                prop_assert_eq!(KekOrigin::decode(&encoded[..length]), Err(UnknownOrigin));
            }
        }

        #[test]
        fn any_bytes_decode_to_what_encodes_alike_or_err(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(origin) = KekOrigin::decode(&bytes) {
                prop_assert_eq!(origin.encode(), bytes);
            }
        }
    }
}
