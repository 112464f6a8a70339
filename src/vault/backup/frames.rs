//! Reads frames, and proves each before it is looked at.
//!
//! Guarantees: what [`Frames::next`] answers stands where the writer put it, with
//! nothing left out before it; the frame after which it answers `None` was the
//! seal, it agrees with what was read, and nothing follows it. Memory is one frame
//! and one piece, and no length is believed before it was found to be allowed.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::BackupError;
use super::format::{
    self, Frame, Header, Kind, LEAD_BYTES, MAGIC, MAX_PAYLOAD, PROLOGUE_BYTES, Seal, TAG_BYTES,
    VERSION, Void,
};
use crate::crypto::{ChainKey, Kek, KekRecord, StoreId, StoreKeys};

/// What opens a backup.
pub(super) enum Unlock<'a> {
    Kek(&'a Kek),
    /// What the KEK is for one store, which opens that store's own backups.
    Store(Arc<StoreKeys>),
}

impl Unlock<'_> {
    fn keys(&self, store: StoreId) -> Option<Arc<StoreKeys>> {
        match self {
            Self::Kek(kek) => Some(Arc::new(kek.for_store(store))),
            Self::Store(keys) => Some(keys.clone()).filter(|keys| keys.store_id() == store),
        }
    }
}

/// A backup of which prologue and header were read, and nothing proved.
pub struct Unproven {
    source: Source,
    version: u16,
    header: Header,
    /// The header's.
    frame: RawFrame,
}

impl Unproven {
    pub(super) async fn read(pieces: mpsc::Receiver<Vec<u8>>) -> Result<Self, BackupError> {
        let mut source = Source { pieces, held: Vec::new(), at: 0, passed: 0 };
        let version = prologue(&mut source).await?;
        let frame = source.frame().await?;
        let header = match Kind::of(frame.lead[0]) {
            Some(Kind::Header) => Frame::decode(Kind::Header, &frame.payload),
            _ => return Err(BackupError::Damaged { at: frame.at }),
        };
        match header {
            Ok(Frame::Header(header)) => Ok(Self { source, version, header, frame }),
            _ => Err(BackupError::Damaged { at: frame.at }),
        }
    }

    /// What the header says of the KEK.
    pub fn kek_record(&self) -> KekRecord {
        let Header { store_id, kek_check, kek_origin, .. } = &self.header;
        KekRecord { store_id: *store_id, check: *kek_check, origin: kek_origin.clone() }
    }
}

pub(super) struct Frames {
    source: Source,
    key: ChainKey,
    tag: [u8; 32],
    /// Counted here, to be held against the seal.
    spaces: u64,
    rows: u64,
    rows_of_space: u64,
    sealed: Option<Seal>,
}

impl Frames {
    /// Proves the KEK, and the header by it. Also answers what the KEK is for the store
    /// that was backed up.
    pub(super) fn open(
        backup: Unproven,
        unlock: &Unlock<'_>,
    ) -> Result<(Self, Header, Arc<StoreKeys>), BackupError> {
        let Unproven { source, version, header, frame } = backup;
        let RawFrame { at, lead, payload, tag } = frame;
        let keys = unlock.keys(header.store_id).filter(|keys| keys.proves(&header.kek_check));
        let keys = keys.ok_or(BackupError::OtherKek)?;
        let key = keys.chain_key(&header.backup_id);
        let first = key.tag(&[0; 32], &[&format::prologue(version)]);
        if !key.proves(&first, &[&lead, &payload], &tag) {
            return Err(BackupError::Damaged { at });
        }
        let (spaces, rows, rows_of_space) = (0, 0, 0);
        let frames = Self { source, key, tag, spaces, rows, rows_of_space, sealed: None };
        Ok((frames, header, keys))
    }

    /// The next frame, or `None` at the end of a whole backup.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, BackupError> {
        if self.sealed.is_some() {
            return Ok(None);
        }
        let RawFrame { at, lead, payload, tag } = self.source.frame().await?;
        let damaged = BackupError::Damaged { at };
        if !self.key.proves(&self.tag, &[&lead, &payload], &tag) {
            return Err(damaged);
        }
        self.tag = tag;
        let kind = Kind::of(lead[0]).ok_or(damaged.clone())?;
        let frame = Frame::decode(kind, &payload).map_err(|_| damaged.clone())?;
        if !self.counts(&frame, at) {
            return Err(damaged);
        }
        if self.sealed.is_some() {
            self.source.end().await?;
        }
        Ok(Some(frame))
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.source.position()
    }

    /// The seal, once it was read.
    pub(super) fn sealed(&self) -> Option<Seal> {
        self.sealed
    }

    /// Whether the counts in a frame are those of what came before it.
    fn counts(&mut self, frame: &Frame, at: u64) -> bool {
        match frame {
            Frame::Header(_) => false,
            Frame::Space { .. } => {
                self.rows_of_space = 0;
                true
            }
            Frame::Rows(rows) => {
                self.rows_of_space += rows.len() as u64;
                true
            }
            Frame::EndOfSpace { rows } => {
                self.spaces += 1;
                self.rows += rows;
                *rows == self.rows_of_space
            }
            Frame::Void(Void::Deleted | Void::Again | Void::Unreadable) => true,
            Frame::Seal(seal) => {
                self.sealed = Some(*seal);
                (seal.spaces, seal.rows, seal.bytes) == (self.spaces, self.rows, at)
            }
        }
    }
}

/// The version of what follows.
async fn prologue(source: &mut Source) -> Result<u16, BackupError> {
    let held = source.take_up_to(PROLOGUE_BYTES).await;
    let (magic, version) = held.split_at_checked(MAGIC.len()).unwrap_or((&held, &[]));
    if magic.is_empty() || !MAGIC.starts_with(magic) {
        return Err(BackupError::NotABackup);
    }
    let version: [u8; 2] = version.try_into().map_err(|_| BackupError::Truncated)?;
    match u16::from_be_bytes(version) {
        found @ 1..=VERSION => Ok(found),
        found if found > VERSION => Err(BackupError::NewerFormat { found }),
        _ => Err(BackupError::NotABackup),
    }
}

/// As read; nothing of it is proved.
struct RawFrame {
    /// Where it begins.
    at: u64,
    lead: [u8; LEAD_BYTES],
    payload: Vec<u8>,
    tag: [u8; TAG_BYTES],
}

/// Pieces, as one sequence of bytes.
struct Source {
    pieces: mpsc::Receiver<Vec<u8>>,
    held: Vec<u8>,
    /// How much of `held` was taken.
    at: usize,
    /// The bytes of the pieces before `held`.
    passed: u64,
}

impl Source {
    fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    async fn frame(&mut self) -> Result<RawFrame, BackupError> {
        let at = self.position();
        let lead: [u8; LEAD_BYTES] = self.array().await?;
        let [_, a, b, c, d] = lead;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(BackupError::Damaged { at });
        }
        let payload = self.take_up_to(length).await;
        if payload.len() < length {
            return Err(BackupError::Truncated);
        }
        Ok(RawFrame { at, lead, payload, tag: self.array().await? })
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        self.take_up_to(N).await.try_into().map_err(|_| BackupError::Truncated)
    }

    /// `length` bytes, or what there is until the end.
    async fn take_up_to(&mut self, length: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(length);
        while taken.len() < length && self.fill().await {
            let rest = self.held.get(self.at..).unwrap_or_default();
            let wanted = rest.get(..length - taken.len()).unwrap_or(rest);
            taken.extend_from_slice(wanted);
            self.at += wanted.len();
        }
        taken
    }

    /// Whether there is more.
    async fn fill(&mut self) -> bool {
        while self.at == self.held.len() {
            self.passed += self.held.len() as u64;
            self.at = 0;
            let piece = self.pieces.recv().await;
            let ended = piece.is_none();
            self.held = piece.unwrap_or_default();
            if ended {
                return false;
            }
        }
        true
    }

    /// Nothing may follow.
    async fn end(&mut self) -> Result<(), BackupError> {
        let at = self.position();
        if self.fill().await { Err(BackupError::Damaged { at }) } else { Ok(()) }
    }
}
