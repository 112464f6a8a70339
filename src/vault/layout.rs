//! How a secret is laid out in rows.
//!
//! | row | key | holds |
//! | --- | --- | --- |
//! | head | `h` ‖ locator (32) | the name, its window and metadata, encrypted |
//! | value | `v` ‖ locator ‖ version (8) ‖ chunk (2) | a piece of the encrypted value |
//! | expiry | `x` ‖ seconds (8) ‖ locator | nothing: the key is the index |
//!
//! A restored space begins with a row `m` of a version 2^32 above all that the
//! backup knew, deleted at once: the ledger keeps the highest version, so what is
//! written from then on has versions that no copy of the store before ever gave.
//!
//! The locator is an HMAC of the name, so a key says nothing. All rows of one
//! write carry its version. A version has value rows of its own, so there is
//! room to keep several. Numbers are big-endian: byte order is their order.

use super::codec::{self, Malformed, Reader};
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

pub(super) fn value_key(locator: &Locator, version: u64, chunk: u16) -> RowKey {
    let (version, chunk) = (version.to_be_bytes(), chunk.to_be_bytes());
    RowKey::new([&[VALUE], locator.as_slice(), &version, &chunk].concat())
}

pub(super) fn expiry_key(expires_on: Timestamp, locator: &Locator) -> RowKey {
    let seconds = sortable(expires_on.unix_seconds());
    RowKey::new([&[EXPIRY], seconds.as_slice(), locator].concat())
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

/// Locator, version and chunk of a value row.
pub(super) fn parse_value_key(key: &RowKey) -> Result<(Locator, u64, u16), Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    fields.format(VALUE)?;
    let parsed = (fields.array()?, fields.u64()?, fields.u16()?);
    fields.end()?;
    Ok(parsed)
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

/// Cuts an encrypted value into rows.
pub(super) fn chunks(envelope: &[u8]) -> impl Iterator<Item = &[u8]> {
    envelope.chunks(Row::MAX_BYTES)
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

/// What the value rows of a head's version hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueShape {
    Null,
    Text { chunks: u16 },
}

impl ValueShape {
    pub(super) fn chunks(self) -> u16 {
        match self {
            Self::Null => 0,
            Self::Text { chunks } => chunks,
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
            ValueShape::Text { chunks } => {
                out.push(1);
                out.extend_from_slice(&chunks.to_be_bytes());
            }
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
            1 => ValueShape::Text { chunks: fields.u16()? },
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
            any::<u16>().prop_map(|chunks| ValueShape::Text { chunks })
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
        assert_eq!(parse_head_key(&head_key(&locator)), Ok(locator));
        assert_eq!(parse_head_key(&value_key(&locator, 1, 0)), Err(Malformed));
        assert_eq!(parse_expiry_key(&head_key(&locator)), Err(Malformed));
    }
}
