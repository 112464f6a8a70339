//! How rows stand in a tree: the bytes that a later version must still read.
//!
//! | key | value |
//! | --- | --- |
//! | 0 | the sealed ledger, as its seal made it |
//! | 1, then the row's key | format 1, the version (8 bytes, big-endian), the row's bytes |
//! | 2, then the number of the first entry (8 bytes, big-endian) | format 1, how many entries (4 bytes, big-endian), the link (32 bytes), the block's bytes |

use std::num::NonZeroU32;

use crate::store::{Block, PlacedBlock, Row, RowKey, Space};

use super::engine::{Bytes, EngineError};

pub(super) const LEDGER: &[u8] = &[0];
const ROW: u8 = 1;
const BLOCK: u8 = 2;
pub(super) const BLOCKS: &[u8] = &[BLOCK];
const FORMAT: u8 = 1;

pub(super) fn tree_name(space: Space) -> Vec<u8> {
    match space {
        Space::System | Space::Keyring => b"rows".to_vec(),
        Space::Tenant(id) => [TENANT_TREE, id.as_bytes()].concat(),
    }
}

/// What the names of all trees of tenants begin with.
pub(super) const TENANT_TREE: &[u8] = b"t/";

pub(super) fn stored_key(key: &[u8]) -> Vec<u8> {
    [&[ROW], key].concat()
}

pub(super) fn row_key(stored: &[u8]) -> Result<RowKey, EngineError> {
    match stored.split_first() {
        Some((&ROW, key)) if (1..=RowKey::MAX_LEN).contains(&key.len()) => {
            Ok(RowKey::new(key.to_vec()))
        }
        _ => Err(EngineError::Corrupted("a key of no known kind".to_owned())),
    }
}

pub(super) fn encode_row(row: &Row) -> Bytes {
    let Row { version, bytes } = row;
    [&[FORMAT], version.to_be_bytes().as_slice(), bytes.as_slice()].concat().into()
}

pub(super) fn decode_row(stored: &[u8]) -> Result<Row, EngineError> {
    let damaged = || EngineError::Corrupted("a row of no known format".to_owned());
    let (&[format], rest) = stored.split_first_chunk::<1>().ok_or_else(damaged)?;
    let (version, bytes) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    if format != FORMAT {
        return Err(damaged());
    }
    Ok(Row { version: u64::from_be_bytes(*version), bytes: bytes.to_vec() })
}

pub(super) fn block_key(first: u64) -> Bytes {
    [BLOCKS, &first.to_be_bytes()].concat().into()
}

/// Key and value.
pub(super) fn encode_block(placed: &PlacedBlock) -> (Bytes, Bytes) {
    let PlacedBlock { first, link, block: Block { entries, bytes } } = placed;
    let entries = entries.get().to_be_bytes();
    (block_key(*first), [&[FORMAT], entries.as_slice(), link, bytes].concat().into())
}

pub(super) fn decode_block(key: &[u8], stored: &[u8]) -> Result<PlacedBlock, EngineError> {
    let damaged = || EngineError::Corrupted("a block of no known format".to_owned());
    let first = key.strip_prefix(BLOCKS).and_then(|first| first.try_into().ok());
    let first = u64::from_be_bytes(first.ok_or_else(damaged)?);
    let (&[FORMAT], rest) = stored.split_first_chunk::<1>().ok_or_else(damaged)? else {
        return Err(damaged());
    };
    let (entries, bytes) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let entries = NonZeroU32::new(u32::from_be_bytes(*entries)).ok_or_else(damaged)?;
    let (link, bytes) = bytes.split_first_chunk().ok_or_else(damaged)?;
    Ok(PlacedBlock { first, link: *link, block: Block { entries, bytes: bytes.to_vec() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_of_a_row_is_frozen() {
        let row = Row { version: 0x0102_0304_0506_0708, bytes: b"envelope".to_vec() };
        let stored = b"\x01\x01\x02\x03\x04\x05\x06\x07\x08envelope";
        assert_eq!(encode_row(&row), stored);
        assert_eq!(decode_row(stored).unwrap(), row);
        assert_eq!(stored_key(b"name"), b"\x01name");
        assert_eq!(row_key(b"\x01name").unwrap().as_bytes(), b"name");
    }

    #[test]
    fn the_stored_form_of_a_block_is_frozen() {
        let entries = NonZeroU32::new(0x0102_0304).unwrap();
        let block = Block { entries, bytes: b"entries".to_vec() };
        let placed = PlacedBlock { first: 256, link: [b'l'; 32], block };
        let key = b"\x02\0\0\0\0\0\0\x01\0";
        let stored = [b"\x01\x01\x02\x03\x04".as_slice(), &[b'l'; 32], b"entries"].concat();
        let (encoded_key, encoded) = encode_block(&placed);
        assert_eq!((encoded_key.as_ref(), encoded.as_ref()), (key.as_slice(), stored.as_slice()));
        assert_eq!(decode_block(key, &stored).unwrap(), placed);
        for length in 0..5 + 32 {
            assert!(decode_block(key, &stored[..length]).is_err(), "{length}");
        }
        let (mut of_none, mut later) = (stored.clone(), stored.clone());
        of_none[1..5].fill(0);
        later[0] = 2;
        assert!(decode_block(key, &of_none).is_err() && decode_block(key, &later).is_err());
        let stored = stored.as_slice();
        assert!(decode_block(&key[1..], stored).is_err());
    }

    #[test]
    fn bytes_of_another_form_are_errors() {
        for stored in [b"".as_slice(), b"\x01", b"\x01\0\0\0\0\0\0\0", b"\x02\0\0\0\0\0\0\0\0"] {
            assert!(decode_row(stored).is_err(), "{stored:?}");
        }
        for key in [b"".as_slice(), b"\x01", b"\x02name", &[1; 257]] {
            assert!(row_key(key).is_err(), "{key:?}");
        }
    }
}
