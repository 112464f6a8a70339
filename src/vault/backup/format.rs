//! The bytes of a backup, version 3 (docs/backup-format.md).
//!
//! A prologue of magic and version, then frames. What a frame says is decoded only
//! after its tag was proved, and decoding is checked all the same: a backup may
//! have been written by a version with another mistake.

use super::super::codec::{self, Malformed, Reader};
use crate::crypto::{KekOrigin, StoreId, sha256};
use crate::domain::{TenantId, Timestamp};
use crate::store::{Row, RowKey, Space};

pub(super) const MAGIC: &[u8; 14] = b"tenure backup\n";
/// What is written; every earlier one is read.
///
/// Of version 1 are backups in which no value stands beside its head. A program that
/// knows only those takes what it does not know for damage, so they differ. The header
/// of versions 1 and 2 does not say where the KEK comes from.
pub(super) const VERSION: u16 = 3;
/// Magic and version.
pub(super) const PROLOGUE_BYTES: usize = MAGIC.len() + size_of::<u16>();
/// Kind and length of a frame.
pub(super) const LEAD_BYTES: usize = 1 + size_of::<u32>();
pub(super) const TAG_BYTES: usize = 32;
/// What a frame's payload may hold, so that a reader knows what it must be able to
/// take.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;
/// At which size a writer ends a frame of rows.
pub(super) const ROWS_PAYLOAD: usize = 192 * 1024;

/// What stands in front of the frames.
pub(super) fn prologue(version: u16) -> [u8; PROLOGUE_BYTES] {
    let mut bytes = [0; PROLOGUE_BYTES];
    let (magic, last) = bytes.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    last.copy_from_slice(&version.to_be_bytes());
    bytes
}

pub(super) fn lead(kind: Kind, payload: &[u8]) -> [u8; LEAD_BYTES] {
    let length = u32::try_from(payload.len()).expect("a writer keeps to MAX_PAYLOAD");
    let [a, b, c, d] = length.to_be_bytes();
    [kind.byte(), a, b, c, d]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Space,
    Rows,
    EndOfSpace,
    Void,
    Seal,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Header, Self::Space, Self::Rows, Self::EndOfSpace, Self::Void, Self::Seal];

    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Header => b'H',
            Self::Space => b'S',
            Self::Rows => b'R',
            Self::EndOfSpace => b'E',
            Self::Void => b'V',
            Self::Seal => b'Z',
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Always first.
    Header(Header),
    /// The rows that follow are of this space; `ledger` is sealed, as of them.
    Space {
        space: Space,
        ledger: Option<Vec<u8>>,
    },
    Rows(Vec<(RowKey, Row)>),
    /// The space is whole; how many rows it has.
    EndOfSpace {
        rows: u64,
    },
    /// What came of this space since it began does not count.
    Void(Void),
    /// Always last.
    Seal(Seal),
}

/// Why a space is not in the backup, or not in this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Void {
    /// The tenant was deleted while the backup was made.
    Deleted,
    /// It could not be read as of one commit; it follows again.
    Again,
    /// It is damaged, and is left out.
    Unreadable,
}

/// Whose backup it is, and of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store_id: StoreId,
    /// Proves the KEK, as in the store's own keyring.
    pub(super) kek_check: [u8; 32],
    /// Random; salts the key of the tags.
    pub(super) backup_id: [u8; 32],
    pub(super) begun_on: Timestamp,
    /// Of the program that wrote it.
    pub(super) program: String,
    /// By which a passphrase or shares become the KEK; `None` where it is not known.
    pub(super) kek_origin: Option<KekOrigin>,
}

/// What a whole backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// Whole ones.
    pub(super) spaces: u64,
    /// In whole spaces.
    pub(super) rows: u64,
    /// In front of this frame.
    pub(super) bytes: u64,
    pub(super) finished_on: Timestamp,
}

impl Frame {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Header(_) => Kind::Header,
            Self::Space { .. } => Kind::Space,
            Self::Rows(_) => Kind::Rows,
            Self::EndOfSpace { .. } => Kind::EndOfSpace,
            Self::Void(_) => Kind::Void,
            Self::Seal(_) => Kind::Seal,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Header(header) => header.encode(&mut out),
            Self::Space { space, ledger } => {
                put_space(&mut out, *space);
                out.extend_from_slice(ledger.as_deref().unwrap_or_default());
            }
            Self::Rows(rows) => rows.iter().for_each(|(key, row)| put_row(&mut out, key, row)),
            Self::EndOfSpace { rows } => out.extend_from_slice(&rows.to_be_bytes()),
            Self::Void(why) => out.push(why.byte()),
            Self::Seal(Seal { spaces, rows, bytes, finished_on }) => {
                for number in [spaces, rows, bytes] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                out.extend_from_slice(&finished_on.unix_micros().to_be_bytes());
            }
        }
        out
    }

    pub(super) fn decode(kind: Kind, payload: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(payload);
        let frame = match kind {
            Kind::Header => return Header::decode(payload).map(Self::Header),
            Kind::Space => {
                let space = take_space(&mut fields)?;
                let ledger = fields.rest();
                let ledger = (!ledger.is_empty()).then(|| ledger.to_vec());
                return Ok(Self::Space { space, ledger });
            }
            Kind::Rows => {
                let mut rows = Vec::new();
                while fields.remaining() > 0 {
                    rows.push(take_row(&mut fields)?);
                }
                return Ok(Self::Rows(rows));
            }
            Kind::EndOfSpace => Self::EndOfSpace { rows: fields.u64()? },
            Kind::Void => Self::Void(Void::of(fields.byte()?).ok_or(Malformed)?),
            Kind::Seal => Self::Seal(Seal {
                spaces: fields.u64()?,
                rows: fields.u64()?,
                bytes: fields.u64()?,
                finished_on: fields.timestamp()?,
            }),
        };
        fields.end()?;
        Ok(frame)
    }
}

impl Header {
    /// Its own hash stands at its end, so that damage is told from another KEK
    /// before there is any key to prove it with.
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { store_id, kek_check, backup_id, begun_on, program, kek_origin } = self;
        out.extend_from_slice(store_id.as_bytes());
        out.extend_from_slice(kek_check);
        out.extend_from_slice(backup_id);
        out.extend_from_slice(&begun_on.unix_micros().to_be_bytes());
        codec::put_short_text(out, program);
        if let Some(origin) = kek_origin {
            out.extend_from_slice(&origin.encode());
        }
        out.extend_from_slice(&sha256(out));
    }

    fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let (hashed, hash) = payload.split_last_chunk::<32>().ok_or(Malformed)?;
        if sha256(hashed) != *hash {
            return Err(Malformed);
        }
        let mut fields = Reader::new(hashed);
        Ok(Self {
            store_id: StoreId::from_bytes(fields.array()?),
            kek_check: fields.array()?,
            backup_id: fields.array()?,
            begun_on: fields.timestamp()?,
            program: fields.short_text()?.to_owned(),
            kek_origin: match fields.rest() {
                [] => None,
                origin => Some(KekOrigin::decode(origin).map_err(|_| Malformed)?),
            },
        })
    }
}

impl Void {
    const ALL: [Self; 3] = [Self::Deleted, Self::Again, Self::Unreadable];

    const fn byte(self) -> u8 {
        match self {
            Self::Deleted => 1,
            Self::Again => 2,
            Self::Unreadable => 3,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.byte() == byte)
    }
}

fn put_space(out: &mut Vec<u8>, space: Space) {
    match space {
        Space::Keyring => out.push(0),
        Space::System => out.push(1),
        Space::Tenant(id) => {
            out.push(2);
            out.extend_from_slice(id.as_bytes());
        }
    }
}

fn take_space(fields: &mut Reader<'_>) -> Result<Space, Malformed> {
    match fields.byte()? {
        0 => Ok(Space::Keyring),
        1 => Ok(Space::System),
        2 => Ok(Space::Tenant(TenantId::from_bytes(fields.array()?))),
        _ => Err(Malformed),
    }
}

/// `length (1) ‖ key ‖ version (8) ‖ length (2) ‖ bytes`
pub(super) fn put_row(out: &mut Vec<u8>, key: &RowKey, Row { version, bytes }: &Row) {
    let key = key.as_bytes();
    out.push(u8::try_from(key.len()).expect("a row key has at most 255 bytes"));
    out.extend_from_slice(key);
    out.extend_from_slice(&version.to_be_bytes());
    let length = u16::try_from(bytes.len()).expect("a row has at most 3,600 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_row(fields: &mut Reader<'_>) -> Result<(RowKey, Row), Malformed> {
    let length = usize::from(fields.byte()?);
    if length == 0 {
        return Err(Malformed);
    }
    let key = RowKey::new(fields.bytes(length)?.to_vec());
    let version = fields.u64()?;
    let length = usize::from(fields.u16()?);
    if length > Row::MAX_BYTES {
        return Err(Malformed);
    }
    Ok((key, Row { version, bytes: fields.bytes(length)?.to_vec() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = (RowKey, Row)> {
        let bytes = |range| proptest::collection::vec(any::<u8>(), range);
        (bytes(1..=255usize), any::<u64>(), bytes(0..=200usize))
            .prop_map(|(key, version, bytes)| (RowKey::new(key), Row { version, bytes }))
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let space = prop_oneof![
            Just(Space::Keyring),
            Just(Space::System),
            any::<[u8; 16]>().prop_map(|id| Space::Tenant(TenantId::from_bytes(id))),
        ];
        let ledger = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..256));
        let time = || any::<i64>().prop_map(Timestamp::from_unix_micros);
        let header = (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u8; 32]>(), time(), ".{0,40}");
        prop_oneof![
            header.prop_map(|(store, kek_check, backup_id, begun_on, program)| {
                let store_id = StoreId::from_bytes(store);
                let kek_origin = None;
                Frame::Header(Header {
                    store_id,
                    kek_check,
                    backup_id,
                    begun_on,
                    program,
                    kek_origin,
                })
            }),
            (space, ledger).prop_map(|(space, ledger)| Frame::Space { space, ledger }),
            proptest::collection::vec(row(), 0..5).prop_map(Frame::Rows),
            any::<u64>().prop_map(|rows| Frame::EndOfSpace { rows }),
            proptest::sample::select(Void::ALL.to_vec()).prop_map(Frame::Void),
            (any::<u64>(), any::<u64>(), any::<u64>(), time()).prop_map(
                |(spaces, rows, bytes, finished_on)| {
                    Frame::Seal(Seal { spaces, rows, bytes, finished_on })
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_survives_its_encoding(frame in frame()) {
            let encoded = frame.encode();
            prop_assert_eq!(Frame::decode(frame.kind(), &encoded), Ok(frame));
        }

        #[test]
        fn any_bytes_decode_to_what_encodes_alike_or_err(
            kind in proptest::sample::select(Kind::ALL.to_vec()),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(frame) = Frame::decode(kind, &bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }

        #[test]
        fn a_header_with_any_byte_changed_is_malformed(at in any::<usize>(), change in 1..=255u8) {
            let header = Frame::Header(Header {
                store_id: StoreId::from_bytes([1; 16]),
                kek_check: [2; 32],
                backup_id: [3; 32],
                begun_on: Timestamp::from_unix_seconds(4),
                program: "0.1.0".to_owned(),
                kek_origin: Some(KekOrigin {
                    way: crate::crypto::KekWay::File,
                    since: Timestamp::from_unix_seconds(5),
                }),
            });
            let mut bytes = header.encode();
            let at = at % bytes.len();
            bytes[at] ^= change;
            prop_assert_eq!(Frame::decode(Kind::Header, &bytes), Err(Malformed));
        }
    }
}
