//! What a backup holds, in its order: the keyring, the system, the tenants.
//!
//! Keyring and system are small; they are read whole and proved by their ledgers
//! at once, so that every tenant's keys are at hand when its rows come. A tenant's
//! rows pass by once, through the checker that a live store is checked with.

use std::collections::HashMap;

use async_trait::async_trait;

use super::super::Export;
use super::super::check::{TenantChecker, WholeSecret};
use super::super::keyring::{ForeignKeyring, SYSTEM};
use super::super::seal::SpaceSeal;
use super::super::system::{SystemContents, TenantRecord};
use super::BackupError;
use super::format::{Frame, Header, Void};
use super::frames::{Frames, Unlock, Unproven};
use crate::api::admin::{BackupContents, LeftOut, Progress, Report, VerifiedPart};
use crate::crypto::AnchorKeys;
use crate::domain::{TenantId, Timestamp};
use crate::store::{Ledger, LedgerSeal, Row, RowKey, Space};

/// Who does something with what passes by.
#[async_trait]
pub(super) trait Visitor: Send {
    /// Whether this tenant's rows are of interest. Of others only the order is
    /// proved, not what is in them.
    fn wants(&self, tenant: &TenantRecord) -> bool;

    /// Its rows follow. It may begin again, and then nothing of before counts.
    async fn begin(&mut self, tenant: &Passing<'_>) -> Result<(), BackupError>;

    /// Rows, and the secrets that they complete.
    async fn rows(
        &mut self,
        rows: Vec<(RowKey, Row)>,
        secrets: Vec<WholeSecret>,
    ) -> Result<(), BackupError>;

    /// All rows passed, and what the checker found of them is sound.
    async fn end(&mut self, tenant: &Passing<'_>) -> Result<(), BackupError>;

    /// What passed since it began does not count.
    async fn void(&mut self, tenant: &TenantRecord) -> Result<(), BackupError>;
}

/// A tenant whose rows pass by.
pub(super) struct Passing<'a> {
    pub(super) record: &'a TenantRecord,
    pub(super) anchor: std::sync::Arc<AnchorKeys>,
    /// `None` where it is missing or forged; the checker tells.
    pub(super) ledger: Option<Ledger>,
}

pub(super) struct Contents {
    frames: Frames,
    header: Header,
    pub(super) keyring: ForeignKeyring,
    pub(super) system: SystemContents,
    /// The system's rows as they were.
    pub(super) system_rows: Vec<(RowKey, Row)>,
    pub(super) system_ledger: Ledger,
    parts: Vec<VerifiedPart>,
}

impl Contents {
    /// When the backup was begun.
    pub(super) fn begun_on(&self) -> Timestamp {
        self.header.begun_on
    }

    /// Reads and proves what comes before the tenants.
    pub(super) async fn open(backup: Unproven, unlock: &Unlock<'_>) -> Result<Self, BackupError> {
        let (mut frames, header, keys) = Frames::open(backup, unlock)?;
        let unsound = |error| BackupError::Contents { why: format!("{error}") };
        let export = small_space(&mut frames, Space::Keyring).await?;
        let keyring_rows = export.rows.len();
        let keyring = ForeignKeyring::prove(keys, export).map_err(unsound)?;
        let keys = keyring.keys(SYSTEM).map_err(unsound)?;
        let export = small_space(&mut frames, Space::System).await?;
        let system = SystemContents::prove(&keys, &export).map_err(unsound)?;
        let seal = SpaceSeal::Anchor(keys.anchor);
        let ledger = export.sealed.and_then(|sealed| seal.open(&sealed).ok());
        let part = |part: &str, rows: usize| VerifiedPart {
            part: part.to_owned(),
            rows: rows as u64,
            ..VerifiedPart::default()
        };
        Ok(Self {
            parts: vec![part("keyring", keyring_rows), part("system", export.rows.len())],
            frames,
            header,
            keyring,
            system,
            system_rows: export.rows,
            // It was opened a moment ago.
            system_ledger: ledger.unwrap_or(Ledger::EMPTY),
        })
    }

    /// Lets all tenants pass, up to the seal.
    pub(super) async fn pass(
        &mut self,
        visitor: &mut dyn Visitor,
        bytes: Option<u64>,
        report: &Report,
    ) -> Result<BackupContents, BackupError> {
        let mut records: HashMap<TenantId, TenantRecord> =
            self.system.tenants.iter().map(|record| (record.id, record.clone())).collect();
        let mut left_out = Vec::new();
        loop {
            let at = self.frames.position();
            let Some(frame) = self.frames.next().await? else { break };
            let tenant = match frame {
                Frame::Space { space: Space::Tenant(id), ledger } => {
                    records.get(&id).map(|record| (record.clone(), ledger))
                }
                Frame::Seal(_) => continue,
                _ => None,
            };
            // A space of no tenant, or of one that was whole before.
            let (record, ledger) = tenant.ok_or(BackupError::Damaged { at })?;
            let now = Progress { what: record.name.to_string(), done: at, of: bytes };
            report(now);
            let ended = if visitor.wants(&record) {
                self.tenant(&record, ledger, visitor, bytes, report).await?
            } else {
                self.skip().await?
            };
            let why = match ended {
                Ended::Void(Void::Again) => continue,
                Ended::Whole(part) => {
                    self.parts.extend(part);
                    None
                }
                Ended::Void(Void::Deleted) => Some("it was deleted while the backup was made"),
                Ended::Void(Void::Unreadable) => Some("it was damaged when the backup was made"),
            };
            if let Some(why) = why {
                let tenant = record.name.to_string();
                left_out.push(LeftOut { tenant, why: why.to_owned() });
            }
            records.remove(&record.id);
        }
        self.summary(records, left_out)
    }

    /// All rows of one tenant, checked.
    async fn tenant(
        &mut self,
        record: &TenantRecord,
        sealed: Option<Vec<u8>>,
        visitor: &mut dyn Visitor,
        bytes: Option<u64>,
        report: &Report,
    ) -> Result<Ended, BackupError> {
        let (what, part) = (record.name.to_string(), "secrets".to_owned());
        let mut part = VerifiedPart { tenant: Some(what.clone()), part, ..VerifiedPart::default() };
        let Ok(keys) = self.keyring.keys(record.id) else {
            part.fault("its keys are missing or do not unwrap");
            return Ok(match self.skip().await? {
                Ended::Whole(_) => Ended::Whole(Some(part)),
                void => void,
            });
        };
        let seal = SpaceSeal::Anchor(keys.anchor.clone());
        let ledger = sealed.and_then(|sealed| seal.open(&sealed).ok());
        let passing = Passing { record, anchor: keys.anchor.clone(), ledger };
        visitor.begin(&passing).await?;
        let mut checker = TenantChecker::new(record.id, &keys, &seal, part);
        loop {
            let at = self.frames.position();
            match self.frames.next().await? {
                Some(Frame::Rows(rows)) => {
                    let secrets = rows.iter().filter_map(|(key, row)| checker.row(key, row));
                    let secrets = secrets.collect();
                    visitor.rows(rows, secrets).await?;
                    report(Progress { what: what.clone(), done: at, of: bytes });
                    // Decrypting is CPU work: let others on this thread go on.
                    tokio::task::yield_now().await;
                }
                Some(Frame::EndOfSpace { .. }) => {
                    let part = checker.finish(ledger.as_ref());
                    if part.fault_count == 0 {
                        visitor.end(&passing).await?;
                    }
                    return Ok(Ended::Whole(Some(part)));
                }
                Some(Frame::Void(why)) => {
                    visitor.void(record).await?;
                    return Ok(Ended::Void(why));
                }
                _ => return Err(BackupError::Damaged { at }),
            }
        }
    }

    /// Passes over a tenant's rows.
    async fn skip(&mut self) -> Result<Ended, BackupError> {
        loop {
            let at = self.frames.position();
            match self.frames.next().await? {
                Some(Frame::Rows(_)) => {}
                Some(Frame::EndOfSpace { .. }) => return Ok(Ended::Whole(None)),
                Some(Frame::Void(why)) => return Ok(Ended::Void(why)),
                _ => return Err(BackupError::Damaged { at }),
            }
        }
    }

    fn summary(
        &mut self,
        missing: HashMap<TenantId, TenantRecord>,
        left_out: Vec<LeftOut>,
    ) -> Result<BackupContents, BackupError> {
        let seal = self.frames.sealed().ok_or(BackupError::Truncated)?;
        let mut parts = std::mem::take(&mut self.parts);
        for record in missing.into_values() {
            let (tenant, part) = (Some(record.name.to_string()), "secrets".to_owned());
            let mut part = VerifiedPart { tenant, part, ..VerifiedPart::default() };
            part.fault("its rows are not in the backup");
            parts.push(part);
        }
        Ok(BackupContents {
            sound: parts.iter().all(|part| part.fault_count == 0),
            begun_on: self.header.begun_on.to_string(),
            finished_on: seal.finished_on.to_string(),
            program: self.header.program.clone(),
            bytes: self.frames.position(),
            parts,
            left_out,
        })
    }
}

/// How a tenant's rows came to an end. A part where they were checked.
enum Ended {
    Whole(Option<VerifiedPart>),
    Void(Void),
}

/// The space that must come next, whole.
async fn small_space(frames: &mut Frames, wanted: Space) -> Result<Export, BackupError> {
    let at = frames.position();
    let sealed = match frames.next().await? {
        Some(Frame::Space { space, ledger }) if space == wanted => ledger,
        _ => return Err(BackupError::Damaged { at }),
    };
    let mut rows = Vec::new();
    loop {
        let at = frames.position();
        match frames.next().await? {
            Some(Frame::Rows(more)) => rows.extend(more),
            Some(Frame::EndOfSpace { .. }) => return Ok(Export { rows, sealed }),
            _ => return Err(BackupError::Damaged { at }),
        }
    }
}
