//! Which database a tenant is in: the engine's own records, in a tree of the
//! system database.
//!
//! | key | value | says |
//! | --- | --- | --- |
//! | `k` | 1 | the keyring was made |
//! | `d`, number (4 bytes, big-endian) | 1 | a database of tenants was made |
//! | `t`, tenant id (16 bytes) | number | the tenant is there |
//!
//! A tenant without a record does not exist, whatever its database holds.

use std::collections::BTreeMap;

use super::database::PLACEMENT;
use super::engine::{Engine, EngineError};
use crate::domain::TenantId;

/// The folder of a database of tenants.
pub(super) fn database_name(number: u32) -> String {
    format!("tenants-{number:04}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    Keyring,
    Database(u32),
    Tenant(TenantId, u32),
}

const FORMAT: &[u8] = &[1];

impl Record {
    pub fn encode(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Keyring => (b"k".to_vec(), FORMAT.to_vec()),
            Self::Database(number) => {
                ([b"d".as_slice(), &number.to_be_bytes()].concat(), FORMAT.to_vec())
            }
            Self::Tenant(id, number) => {
                ([b"t".as_slice(), id.as_bytes()].concat(), number.to_be_bytes().to_vec())
            }
        }
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, EngineError> {
        let damaged = || EngineError::Corrupted("a placement of no known form".to_owned());
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).map_err(|_| damaged());
        match key.split_first() {
            Some((b'k', [])) if value == FORMAT => Ok(Self::Keyring),
            Some((b'd', rest)) if value == FORMAT => Ok(Self::Database(number(rest)?)),
            Some((b't', rest)) => {
                let id = rest.try_into().map_err(|_| damaged())?;
                Ok(Self::Tenant(TenantId::from_bytes(id), number(value)?))
            }
            _ => Err(damaged()),
        }
    }
}

/// All records, as of an opening.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    pub keyring: bool,
    pub databases: BTreeMap<u32, Vec<TenantId>>,
}

impl Placement {
    pub fn read(system: &Engine) -> Result<Self, EngineError> {
        let mut placement = Self::default();
        system.tree(PLACEMENT)?.visit(&[], |key, value| {
            match Record::decode(key, value)? {
                Record::Keyring => placement.keyring = true,
                Record::Database(number) => {
                    placement.databases.entry(number).or_default();
                }
                Record::Tenant(id, number) => {
                    placement.databases.entry(number).or_default().push(id);
                }
            }
            Ok(true)
        })?;
        Ok(placement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_of_a_placement_is_frozen() {
        let id = TenantId::from_bytes(*b"sixteen bytes id");
        let cases: [(Record, &[u8], &[u8]); 3] = [
            (Record::Keyring, b"k", b"\x01"),
            (Record::Database(258), b"d\0\0\x01\x02", b"\x01"),
            (Record::Tenant(id, 3), b"tsixteen bytes id", b"\0\0\0\x03"),
        ];
        for (record, key, value) in cases {
            assert_eq!(record.encode(), (key.to_vec(), value.to_vec()));
            assert_eq!(Record::decode(key, value).unwrap(), record);
        }
        for (key, value) in [(b"".as_slice(), b"".as_slice()), (b"k", b"\x02"), (b"d\0", b"\x01")] {
            assert!(Record::decode(key, value).is_err());
        }
    }
}
