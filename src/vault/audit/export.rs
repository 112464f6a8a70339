//! Writes the audit for somebody without keys: entries in clear, beside all that it
//! takes to follow them up to what is signed.
//!
//! It holds what a checkpoint signs and nothing beyond, so that whoever verifies it can
//! require that of every entry. A checkpoint is written first.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::api::admin::{Failure, FailureKind, Progress, Report};
use crate::api::audit::AuditEntry;
use crate::api::audit_export::{
    ExportEnd, ExportFrom, ExportHeader, ExportLine, ExportMade, ExportOf, ExportedBlock,
    ExportedChain, ExportedEntry, SignedCheckpoint,
};
use crate::crypto::{AuditKey, BlockDigest, Commitment, OpenedEntry};
use crate::domain::{TenantId, Timestamp};
use crate::store::{Chain, PlacedBlock, StoreError};

use super::super::Vault;
use super::super::keyring::{SYSTEM, space_of};
use super::super::maintenance::{failure, find_tenant};
use super::super::tenant::Tenant;
use super::checkpoint::{self, CheckpointWalk, Extent, Walk, is_piece};
use super::retention::OldAudit;

/// How much is sent on at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Writes the export, line by line.
pub(in crate::vault) async fn export(
    vault: &Arc<Vault>,
    of: &ExportOf,
    from: &ExportFrom,
    to: mpsc::Sender<Vec<u8>>,
    report: &Report,
) -> Result<ExportMade, Failure> {
    let start = Start::parse(from)?;
    let tenants = match of {
        ExportOf::Everything => vault.all_tenants(),
        ExportOf::System => Vec::new(),
        ExportOf::Tenant(name) => vec![find_tenant(vault, name)?],
    };
    // What can be read is exported even where nothing can be written.
    let unsigned = vault.checkpoint().await.err();
    let ends = vault.signed_ends().await?;
    let mut lines = Lines::new(to);
    lines.made.incomplete = unsigned
        .map(|error| format!("what was done since the newest checkpoint is not in it: {error}"));
    let complete = *of == ExportOf::Everything && matches!(start, Start::Beginning);
    lines.write(&ExportLine::Header(header(vault, complete).await?)).await?;
    let extent = ends.chains.get(&SYSTEM).copied().unwrap_or(Extent::EMPTY);
    checkpoints(vault, extent.begin, ends.newest, &mut lines).await?;
    let system = (!matches!(of, ExportOf::Tenant(_))).then(|| Whose::system(vault));
    let whose: Vec<_> = system.into_iter().chain(tenants.iter().map(Whose::of)).collect();
    let count = whose.len() as u64;
    for (whose, done) in whose.iter().zip(0..) {
        let what = whose.tenant.clone().unwrap_or_else(|| "system".to_owned());
        report(Progress { what, done, of: Some(count) });
        let extent = ends.chains.get(&whose.id).copied().unwrap_or(Extent::EMPTY);
        match chain(vault, whose, extent, &start, &mut lines).await {
            // One that was deleted meanwhile.
            Err(Halt::Store(StoreError::TenantGone)) if vault.tenant(whose.id).is_err() => {}
            done => done?,
        }
    }
    Ok(lines.finish().await?)
}

/// Writes what is to be removed, in the same form. `system`: where what is kept of the
/// system's chain begins.
pub(super) async fn old(
    vault: &Vault,
    old: &OldAudit,
    system: Chain,
    to: mpsc::Sender<Vec<u8>>,
) -> Result<ExportMade, Failure> {
    let mut lines = Lines::new(to);
    lines.write(&ExportLine::Header(header(vault, false).await?)).await?;
    checkpoints(vault, system, Some(old.newest), &mut lines).await?;
    let tenants = vault.all_tenants();
    let whose = std::iter::once(Whose::system(vault)).chain(tenants.iter().map(Whose::of));
    for whose in whose {
        let Some(extent) = old.chains.get(&whose.id) else { continue };
        match chain(vault, &whose, *extent, &Start::Beginning, &mut lines).await {
            Err(Halt::Store(StoreError::TenantGone)) if vault.tenant(whose.id).is_err() => {}
            done => done?,
        }
    }
    Ok(lines.finish().await?)
}

/// What the newest checkpoint and those before it sign.
pub(super) struct SignedEnds {
    pub(super) chains: HashMap<TenantId, Extent>,
    pub(super) newest: Option<u64>,
}

/// Where in each chain it begins.
enum Start {
    Beginning,
    Entry(u64),
    Since(Timestamp),
}

impl Start {
    fn parse(from: &ExportFrom) -> Result<Self, Failure> {
        Ok(match from {
            ExportFrom::Beginning => Self::Beginning,
            ExportFrom::Entry(number) => Self::Entry(*number),
            ExportFrom::Since(text) => Self::Since(
                Timestamp::parse(text)
                    .map_err(|error| failure(FailureKind::Usage, format!("--since {error}")))?,
            ),
        })
    }

    fn is_in(&self, placed: &PlacedBlock, opened: Option<&[OpenedEntry]>) -> bool {
        match self {
            Self::Beginning => true,
            Self::Entry(number) => placed.end() > *number,
            Self::Since(since) => opened.is_some_and(|entries| {
                entries.iter().any(|entry| written_on(entry).is_none_or(|at| at >= *since))
            }),
        }
    }
}

/// `None` where the clock was beyond the calendar.
fn written_on(entry: &OpenedEntry) -> Option<Timestamp> {
    let entry: AuditEntry = serde_json::from_str(&entry.text).ok()?;
    Timestamp::parse(&entry.at).ok()
}

async fn header(vault: &Vault, complete: bool) -> Result<ExportHeader, StoreError> {
    Ok(ExportHeader {
        tenure: ExportHeader::FORM.to_owned(),
        store: vault.store_id(),
        at: vault.time.now().wall().to_string(),
        key: vault.audit_public_key().await?.to_string(),
        complete,
    })
}

/// All that are kept, up to the newest: what each signs of one chain hangs on all others.
async fn checkpoints(
    vault: &Vault,
    begin: Chain,
    newest: Option<u64>,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let mut walk = CheckpointWalk::from(begin.next);
    while let Some(page) = walk.next(&*vault.store).await? {
        let is_wanted = |signed: &SignedCheckpoint| {
            checkpoint::parse(&signed.text).is_ok_and(|read| Some(read.number) <= newest)
        };
        for signed in page.into_iter().filter(is_wanted) {
            lines.made.checkpoints += 1;
            lines.write(&ExportLine::Checkpoint(signed)).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

struct Whose<'k> {
    id: TenantId,
    tenant: Option<String>,
    key: &'k AuditKey,
}

impl<'k> Whose<'k> {
    fn system(vault: &'k Vault) -> Self {
        Self { id: SYSTEM, tenant: None, key: vault.system.keys().anchor.audit() }
    }

    fn of(tenant: &'k Arc<Tenant>) -> Self {
        let name = tenant.name.to_string();
        Self { id: tenant.id, tenant: Some(name), key: tenant.keys().0.anchor.audit() }
    }
}

async fn chain(
    vault: &Vault,
    whose: &Whose<'_>,
    Extent { begin, end }: Extent,
    start: &Start,
    lines: &mut Lines,
) -> Result<(), Halt> {
    let mut walk = Walk::from(space_of(whose.id), begin.next);
    let (mut before, mut begun) = (begin, false);
    while let Some(blocks) = walk.next(&*vault.store).await? {
        for placed in blocks.iter().filter(|placed| placed.first < end.next) {
            let opened = open(whose.key, placed);
            begun = begun || {
                let begins = start.is_in(placed, opened.as_deref());
                if begins {
                    lines.begin(whose, before).await?;
                }
                begins
            };
            if begun {
                lines.made.damaged += u64::from(opened.is_none());
                let opened = opened.unwrap_or_default();
                lines.made.entries += opened.len() as u64;
                lines.write(&ExportLine::Block(shown(whose.id, placed, opened))).await?;
            }
            before = Chain { next: placed.end(), head: placed.link };
        }
        if before.next >= end.next {
            break;
        }
        // Decrypting is CPU work: let others on this thread go on.
        tokio::task::yield_now().await;
    }
    if begun { Ok(()) } else { lines.begin(whose, before).await }
}

/// Its entries; `None` where it is damaged.
fn open(key: &AuditKey, placed: &PlacedBlock) -> Option<Vec<OpenedEntry>> {
    let bytes = &placed.block.bytes;
    if is_piece(bytes) { Some(Vec::new()) } else { key.read(bytes).ok() }
}

fn shown(id: TenantId, placed: &PlacedBlock, opened: Vec<OpenedEntry>) -> ExportedBlock {
    let PlacedBlock { first, link, block } = placed;
    let BlockDigest { header, rest } = BlockDigest::of(&block.bytes);
    let mut commitment = Commitment::new();
    let entry = |OpenedEntry { text, salt }: OpenedEntry| {
        commitment = commitment.with(&salt, &text);
        let (salt, commitment) = (hex::encode(salt), hex::encode(commitment.as_bytes()));
        ExportedEntry { text, salt, commitment }
    };
    ExportedBlock {
        chain: id.to_string(),
        first: *first,
        count: block.entries.get(),
        header: hex::encode(header),
        envelope: hex::encode(rest),
        link: hex::encode(link),
        entries: opened.into_iter().map(entry).collect(),
    }
}

/// Why an export ended early.
enum Halt {
    Store(StoreError),
    NotTaken,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Store(error) => error.into(),
            Halt::NotTaken => failure(
                FailureKind::Unavailable,
                "nobody takes the export any more: it was not finished".to_owned(),
            ),
        }
    }
}

/// Gathers lines, and sends them on in pieces.
struct Lines {
    to: mpsc::Sender<Vec<u8>>,
    ready: Vec<u8>,
    written: u64,
    made: ExportMade,
}

impl Lines {
    fn new(to: mpsc::Sender<Vec<u8>>) -> Self {
        Self { to, ready: Vec::new(), written: 0, made: ExportMade::default() }
    }

    async fn begin(&mut self, whose: &Whose<'_>, before: Chain) -> Result<(), Halt> {
        self.made.chains += 1;
        let chain = ExportedChain {
            chain: whose.id.to_string(),
            tenant: whose.tenant.clone(),
            next: before.next,
            head: hex::encode(before.head),
        };
        self.write(&ExportLine::Chain(chain)).await
    }

    async fn write(&mut self, line: &impl Serialize) -> Result<(), Halt> {
        // Texts and numbers have JSON, and a vector takes all.
        let written = serde_json::to_writer(&mut self.ready, line);
        written.map_err(|_| Halt::NotTaken)?;
        self.ready.push(b'\n');
        self.written += 1;
        if self.ready.len() < PIECE_BYTES {
            return Ok(());
        }
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Halt> {
        let piece = std::mem::take(&mut self.ready);
        self.made.bytes += piece.len() as u64;
        self.to.send(piece).await.map_err(|_| Halt::NotTaken)
    }

    async fn finish(mut self) -> Result<ExportMade, Halt> {
        let end = ExportEnd { lines: self.written };
        self.write(&ExportLine::End(end)).await?;
        if !self.ready.is_empty() {
            self.send().await?;
        }
        Ok(self.made)
    }
}
