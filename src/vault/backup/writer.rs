//! Writes frames, each tagged over the one before it.

use tokio::sync::mpsc;

use super::BackupError;
use super::format::{self, Frame, Header, Kind, ROWS_PAYLOAD, Seal, Void};
use crate::crypto::{ChainKey, StoreKeys};
use crate::domain::Timestamp;
use crate::store::{Row, RowKey, Space};

/// How many bytes are handed on at once.
const PIECE_BYTES: usize = 256 * 1024;

pub(super) struct Writer {
    sink: mpsc::Sender<Vec<u8>>,
    key: ChainKey,
    tag: [u8; 32],
    /// Not handed on yet.
    piece: Vec<u8>,
    /// Handed on.
    bytes: u64,
    /// Of the space that is open: encoded and not framed yet, and how many in all.
    rows: Vec<u8>,
    rows_of_space: u64,
    whole_spaces: u64,
    whole_rows: u64,
}

impl Writer {
    /// Writes the prologue and the header.
    pub(super) async fn begin(
        sink: mpsc::Sender<Vec<u8>>,
        keys: &StoreKeys,
        header: Header,
    ) -> Result<Self, BackupError> {
        let key = keys.chain_key(&header.backup_id);
        let prologue = format::prologue(format::VERSION);
        let mut writer = Self {
            sink,
            tag: key.tag(&[0; 32], &[&prologue]),
            key,
            piece: prologue.to_vec(),
            bytes: 0,
            rows: Vec::new(),
            rows_of_space: 0,
            whole_spaces: 0,
            whole_rows: 0,
        };
        writer.frame(&Frame::Header(header)).await?;
        Ok(writer)
    }

    pub(super) async fn space(
        &mut self,
        space: Space,
        ledger: Option<&[u8]>,
    ) -> Result<(), BackupError> {
        let ledger = ledger.map(<[u8]>::to_vec);
        self.frame(&Frame::Space { space, ledger }).await
    }

    pub(super) async fn row(&mut self, key: &RowKey, row: &Row) -> Result<(), BackupError> {
        format::put_row(&mut self.rows, key, row);
        self.rows_of_space += 1;
        if self.rows.len() >= ROWS_PAYLOAD { self.end_rows().await } else { Ok(()) }
    }

    pub(super) async fn end_space(&mut self) -> Result<(), BackupError> {
        self.end_rows().await?;
        let rows = std::mem::take(&mut self.rows_of_space);
        self.whole_spaces += 1;
        self.whole_rows += rows;
        self.frame(&Frame::EndOfSpace { rows }).await
    }

    /// Takes the space back.
    pub(super) async fn void(&mut self, why: Void) -> Result<(), BackupError> {
        self.rows.clear();
        self.rows_of_space = 0;
        self.frame(&Frame::Void(why)).await
    }

    /// Ends the backup. Answers its length.
    pub(super) async fn seal(mut self, finished_on: Timestamp) -> Result<u64, BackupError> {
        let (spaces, rows, bytes) = (self.whole_spaces, self.whole_rows, self.position());
        self.frame(&Frame::Seal(Seal { spaces, rows, bytes, finished_on })).await?;
        self.hand_on().await?;
        Ok(self.bytes)
    }

    /// How many bytes there are so far.
    pub(super) fn position(&self) -> u64 {
        self.bytes + self.piece.len() as u64
    }

    async fn end_rows(&mut self) -> Result<(), BackupError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.rows);
        self.payload(Kind::Rows, &payload).await?;
        // Its memory serves the next ones.
        self.rows = payload;
        self.rows.clear();
        Ok(())
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), BackupError> {
        self.payload(frame.kind(), &frame.encode()).await
    }

    async fn payload(&mut self, kind: Kind, payload: &[u8]) -> Result<(), BackupError> {
        let lead = format::lead(kind, payload);
        self.tag = self.key.tag(&self.tag, &[&lead, payload]);
        for part in [lead.as_slice(), payload, &self.tag] {
            self.piece.extend_from_slice(part);
        }
        if self.piece.len() >= PIECE_BYTES { self.hand_on().await } else { Ok(()) }
    }

    async fn hand_on(&mut self) -> Result<(), BackupError> {
        let piece = std::mem::take(&mut self.piece);
        self.bytes += piece.len() as u64;
        // One that is waited for is taken or its taker is gone.
        self.sink.send(piece).await.map_err(|_| BackupError::NotTaken)
    }
}
