//! How a secret is laid out in rows.
//!
//! | row | key | holds |
//! | --- | --- | --- |
//! | head | `h` ‖ locator (32) | the name, its window and metadata, encrypted |
//! | small value | `h` ‖ locator ‖ version (8) | the encrypted value, beside its head |
//! | large value | `v` ‖ locator ‖ version (8) ‖ chunk (2) | a piece of the encrypted value |
//! | expiry | `x` ‖ seconds (8) ‖ locator | nothing: the key is the index |
//!
//! Most values are small. In key order such a one follows its head, so that an engine
//! which reads pages finds both in one; large ones stand apart, so that a walk over
//! all heads does not read them. The head says where its value is: data of format 1
//! has small values apart too.
//!
//! A restored space begins with a row `m` of a version 2^32 above all that the
//! backup knew, deleted at once: the ledger keeps the highest version, so what is
//! written from then on has versions that no copy of the store before ever gave.
//!
//! The locator is an HMAC of the name, so a key says nothing. All rows of one
//! write carry its version. A version has value rows of its own, so there is
//! room to keep several. Numbers are big-endian: byte order is their order.

use super::codec::{self, Malformed, Reader};
use super::quota::Usage;
use crate::crypto::ENVELOPE_OVERHEAD;
use crate::domain::{SecretName, Timestamp, ValidityWindow};
use crate::store::{Row, RowKey};

pub(super) type Locator = [u8; 32];

const HEAD: u8 = b'h';
const VALUE: u8 = b'v';
const EXPIRY: u8 = b'x';

pub(super) const HEAD_PREFIX: &[u8] = &[HEAD];
pub(super) const VALUE_PREFIX: &[u8] = &[VALUE];
pub(super) const EXPIRY_PREFIX: &[u8] = &[EXPIRY];

pub(super) fn head_key(locator: &Locator) -> RowKey {
    RowKey::new([&[HEAD], locator.as_slice()].concat())
}

/// The rows of a value, in their order.
pub(super) fn value_keys(
    locator: &Locator,
    version: u64,
    value: ValueShape,
) -> impl Iterator<Item = RowKey> + use<> {
    let (beside, chunks) = match value {
        ValueShape::Null => (None, 0),
        ValueShape::Beside => (Some(beside_key(locator, version)), 0),
        ValueShape::Apart { chunks } => (None, chunks),
    };
    let locator = *locator;
    beside.into_iter().chain((0..chunks).map(move |chunk| chunk_key(&locator, version, chunk)))
}

fn beside_key(locator: &Locator, version: u64) -> RowKey {
    RowKey::new([&[HEAD], locator.as_slice(), &version.to_be_bytes()].concat())
}

fn chunk_key(locator: &Locator, version: u64, chunk: u16) -> RowKey {
    let (version, chunk) = (version.to_be_bytes(), chunk.to_be_bytes());
    RowKey::new([&[VALUE], locator.as_slice(), &version, &chunk].concat())
}

pub(super) fn expiry_key(expires_on: Timestamp, locator: &Locator) -> RowKey {
    let seconds = sortable(expires_on.unix_seconds());
    RowKey::new([&[EXPIRY], seconds.as_slice(), locator].concat())
}

/// Sorts before all that expire in this second, and after those before.
pub(super) fn before_expiries(second: i64) -> RowKey {
    let before = Timestamp::from_unix_seconds(second.saturating_sub(1));
    expiry_key(before, &[u8::MAX; 32])
}

/// The row that only raises a ledger's highest version.
pub(super) fn marker_key() -> RowKey {
    RowKey::new(b"m".to_vec())
}

/// By how much versions rise when a space is restored: more than any store wrote
/// since its backup.
pub(super) const VERSION_LEAP: u64 = 1 << 32;

/// Signed seconds, ordered as unsigned bytes.
fn sortable(seconds: i64) -> [u8; 8] {
    (seconds ^ i64::MIN).to_be_bytes()
}

/// The locator of a head row.
pub(super) fn parse_head_key(key: &RowKey) -> Result<Locator, Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    fields.format(HEAD)?;
    let locator = fields.array()?;
    fields.end()?;
    Ok(locator)
}

/// Which part of a value a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// All of it, beside its head.
    Beside,
    Chunk(u16),
}

/// Locator, version and piece of a value row.
pub(super) fn parse_value_key(key: &RowKey) -> Result<(Locator, u64, Piece), Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    let letter = fields.byte()?;
    let (locator, version) = (fields.array()?, fields.u64()?);
    let piece = match letter {
        HEAD => Piece::Beside,
        VALUE => Piece::Chunk(fields.u16()?),
        _ => return Err(Malformed),
    };
    fields.end()?;
    Ok((locator, version, piece))
}

/// When and whose: an expiry row's key. The time is cut to whole seconds.
pub(super) fn parse_expiry_key(key: &RowKey) -> Result<(Timestamp, Locator), Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    fields.format(EXPIRY)?;
    let seconds = i64::from_be_bytes(fields.array()?) ^ i64::MIN;
    let locator = fields.array()?;
    fields.end()?;
    Ok((Timestamp::from_unix_seconds(seconds), locator))
}

/// What a row adds to what its tenant has. It needs no key: a damaged secret takes its
/// place too.
pub(super) fn usage_of(key: &RowKey, row: &Row) -> Usage {
    let bytes = row.bytes.len();
    let bytes = match parse_value_key(key) {
        Ok((.., Piece::Beside | Piece::Chunk(0))) => bytes.saturating_sub(ENVELOPE_OVERHEAD),
        Ok((.., Piece::Chunk(_))) => bytes,
        Err(Malformed) => 0,
    };
    Usage { secrets: u64::from(parse_head_key(key).is_ok()), bytes: bytes as u64 }
}

/// How many bytes of UTF-8 a value has whose last row is this one.
pub(super) fn value_bytes(value: ValueShape, last: &Row) -> u64 {
    let before = usize::from(value.rows()).saturating_sub(1) * Row::MAX_BYTES;
    (before + last.bytes.len()).saturating_sub(ENVELOPE_OVERHEAD) as u64
}

/// What an encrypted value may have at most to stand beside its head. A walk over
/// all heads reads it too, so it is far below what a row may hold.
const BESIDE_MAX_BYTES: usize = 1024;

/// Where an encrypted value goes, and what each of its rows holds.
pub(super) fn lay_out(envelope: &[u8]) -> (ValueShape, impl Iterator<Item = &[u8]>) {
    let pieces = envelope.chunks(Row::MAX_BYTES);
    let shape = if envelope.len() <= BESIDE_MAX_BYTES {
        ValueShape::Beside
    } else {
        let chunks = u16::try_from(pieces.len()).expect("a value is at most 1 MiB");
        ValueShape::Apart { chunks }
    };
    (shape, pieces)
}

/// A head row's plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: SecretName,
    pub(super) window: ValidityWindow,
    pub(super) created_on: Timestamp,
    pub(super) updated_on: Timestamp,
    pub(super) value: ValueShape,
}

/// Where the value of a head's version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueShape {
    Null,
    /// In one row, beside the head.
    Beside,
    /// In rows of their own.
    Apart {
        chunks: u16,
    },
}

impl ValueShape {
    /// In how many rows.
    pub(super) fn rows(self) -> u16 {
        match self {
            Self::Null => 0,
            Self::Beside => 1,
            Self::Apart { chunks } => chunks,
        }
    }

    /// The row of this number among them.
    pub(super) fn piece(self, number: u16) -> Piece {
        match self {
            Self::Null | Self::Beside => Piece::Beside,
            Self::Apart { .. } => Piece::Chunk(number),
        }
    }
}

const HEAD_FORMAT: u8 = 1;

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { name, window, created_on, updated_on, value } = self;
        let mut out = Vec::with_capacity(192);
        out.push(HEAD_FORMAT);
        codec::put_short_text(&mut out, name.as_str());
        codec::put_optional_timestamp(&mut out, window.not_before());
        codec::put_optional_timestamp(&mut out, window.expires_on());
        out.extend_from_slice(&created_on.unix_micros().to_be_bytes());
        out.extend_from_slice(&updated_on.unix_micros().to_be_bytes());
        match value {
            ValueShape::Null => out.push(0),
            ValueShape::Apart { chunks } => {
                out.push(1);
                out.extend_from_slice(&chunks.to_be_bytes());
            }
            ValueShape::Beside => out.push(2),
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(bytes);
        fields.format(HEAD_FORMAT)?;
        let name = SecretName::parse(fields.short_text()?).map_err(|_| Malformed)?;
        let (not_before, expires_on) = (fields.optional_timestamp()?, fields.optional_timestamp()?);
        let window = ValidityWindow::new(not_before, expires_on).map_err(|_| Malformed)?;
        let (created_on, updated_on) = (fields.timestamp()?, fields.timestamp()?);
        let value = match fields.byte()? {
            0 => ValueShape::Null,
            1 => ValueShape::Apart { chunks: fields.u16()? },
            2 => ValueShape::Beside,
            _ => return Err(Malformed),
        };
        fields.end()?;
        Ok(Self { name, window, created_on, updated_on, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> impl Strategy<Value = Head> {
        let moment = || (-1_000_000i64..4_000_000_000).prop_map(Timestamp::from_unix_seconds);
        let window = (proptest::option::of(moment()), proptest::option::of(moment()))
            .prop_filter_map("not empty", |(from, to)| ValidityWindow::new(from, to).ok());
        let value = prop_oneof![
            Just(ValueShape::Null),
            Just(ValueShape::Beside),
            any::<u16>().prop_map(|chunks| ValueShape::Apart { chunks })
        ];
        ("[A-Za-z0-9_-]{1,127}", window, moment(), moment(), value).prop_map(
            |(name, window, created_on, updated_on, value)| Head {
                name: SecretName::parse(&name).unwrap(),
                window,
                created_on,
                updated_on,
                value,
            },
        )
    }

    proptest! {
        #[test]
        fn a_head_survives_its_encoding(head in head()) {
            let encoded = head.encode();
            prop_assert_eq!(Head::decode(&encoded), Ok(head));
            for length in 0..encoded.len() {
                prop_assert_eq!(Head::decode(&encoded[..length]), Err(Malformed));
            }
        }

        #[test]
        fn any_bytes_decode_or_err(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(head) = Head::decode(&bytes) {
                prop_assert_eq!(head.encode(), bytes);
            }
        }

        #[test]
        fn expiry_keys_sort_by_time(a in any::<i32>(), b in any::<i32>()) {
            let key = |s: i32| expiry_key(Timestamp::from_unix_seconds(s.into()), &[7; 32]);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            let at = Timestamp::from_unix_seconds(a.into());
            prop_assert_eq!(parse_expiry_key(&key(a)), Ok((at, [7; 32])));
        }
    }

    #[test]
    fn keys_of_one_kind_are_not_taken_for_another() {
        let locator = [1; 32];
        let value = |shape| value_keys(&locator, 9, shape).collect::<Vec<_>>();
        let (beside, apart) = (value(ValueShape::Beside), value(ValueShape::Apart { chunks: 2 }));
        assert_eq!(parse_head_key(&head_key(&locator)), Ok(locator));
        for key in beside.iter().chain(&apart) {
            assert_eq!(parse_head_key(key), Err(Malformed));
            assert_eq!(parse_expiry_key(key), Err(Malformed));
        }
        let parsed = |keys: &[RowKey]| keys.iter().map(parse_value_key).collect::<Vec<_>>();
        assert_eq!(parsed(&beside), [Ok((locator, 9, Piece::Beside))]);
        assert_eq!(parsed(&apart), [0, 1].map(|chunk| Ok((locator, 9, Piece::Chunk(chunk)))));
        assert_eq!(parse_value_key(&head_key(&locator)), Err(Malformed));
        assert_eq!(parse_expiry_key(&head_key(&locator)), Err(Malformed));
    }

    #[test]
    fn the_rows_of_a_value_tell_its_length_together_and_the_last_one_alone() {
        for bytes in [0, 1, 971, 972, 3_547, 3_548, 65_536] {
            let envelope = vec![7; bytes + ENVELOPE_OVERHEAD];
            let (shape, pieces) = lay_out(&envelope);
            let row = |piece: &[u8]| Row { version: 1, bytes: piece.to_vec() };
            let rows: Vec<_> = value_keys(&[1; 32], 1, shape).zip(pieces.map(row)).collect();
            let all =
                rows.iter().fold(Usage::default(), |all, (key, row)| all.and(usage_of(key, row)));
            assert_eq!(all, Usage { secrets: 0, bytes: bytes as u64 });
            assert_eq!(value_bytes(shape, &rows.last().unwrap().1), bytes as u64);
        }
        let head = (head_key(&[1; 32]), Row { version: 1, bytes: vec![7; 100] });
        assert_eq!(usage_of(&head.0, &head.1), Usage::one(0));
    }

    #[test]
    fn a_small_value_follows_its_head_and_a_large_one_stands_apart() {
        let (shape, pieces) = lay_out(&[7; BESIDE_MAX_BYTES]);
        assert_eq!((shape, pieces.count()), (ValueShape::Beside, 1));
        let (head, next) = (head_key(&[1; 32]), head_key(&[2; 32]));
        let [value] = &value_keys(&[1; 32], u64::MAX, shape).collect::<Vec<_>>()[..] else {
            panic!("one row");
        };
        assert!(head < *value && *value < next);
        for (bytes, chunks) in [(BESIDE_MAX_BYTES + 1, 1), (Row::MAX_BYTES + 1, 2)] {
            let envelope = vec![7; bytes];
            let (shape, pieces) = lay_out(&envelope);
            assert_eq!((shape, pieces.count()), (ValueShape::Apart { chunks }, chunks.into()));
            assert!(value_keys(&[1; 32], 1, shape).all(|key| key > head_key(&[255; 32])));
        }
    }
}
