//! Retention: what is old is moved out of the store, and then removed from it.
//!
//! What goes ends, in every chain, where a checkpoint signs that it did. So what was moved
//! can be verified by itself, and what stays begins at a place that was signed. It is
//! removed only when whoever took it has made it durable; a stop in between leaves it in
//! both.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::checkpoint::{CheckpointWalk, Extent, parse, parse_id};
use super::{By, entry, export};
use crate::api::admin::Failure;
use crate::api::audit::{AuditEntry, AuditOp};
use crate::api::audit_export::{Checkpoint, ExportMade};
use crate::auth::Caller;
use crate::domain::{TenantId, Timestamp};
use crate::store::{Chain, Change, Space, StoreError};
use crate::vault::keyring::{SYSTEM, space_of};
use crate::vault::seal::ledger_of;
use crate::vault::{Vault, to_its_end};

/// What was signed so long ago that it is to go.
pub struct OldAudit {
    /// The number of the newest checkpoint that is.
    pub(super) newest: u64,
    /// From what is kept of each chain to where it ended then.
    pub(super) chains: HashMap<TenantId, Extent>,
    /// Of the system's chain more may stay: the checkpoints that tell of every chain.
    system_end: Chain,
}

impl Vault {
    /// What was done, and signed, longer ago than `keep`, once some of it is older by
    /// `slack`. `None` where there is nothing of the kind, and while the clock is disputed,
    /// when nothing has an age.
    pub async fn old_audit(
        self: &Arc<Self>,
        keep: Duration,
        slack: Duration,
    ) -> Result<Option<OldAudit>, StoreError> {
        if self.older_audit(keep.saturating_add(slack)).await?.is_none() {
            return Ok(None);
        }
        // Of the system's chain all that follows the last one of these is kept.
        self.checkpoint_of_all().await?;
        self.older_audit(keep).await
    }

    async fn older_audit(&self, keep: Duration) -> Result<Option<OldAudit>, StoreError> {
        if self.time.is_disputed() {
            return Ok(None);
        }
        let before = self.time.now().wall().saturating_sub(keep);
        let Some(signed) = self.signed_before(before).await? else { return Ok(None) };
        let mut chains = HashMap::new();
        for (id, end) in signed.ends {
            let Some(begin) = self.kept_from(id).await? else { continue };
            if begin.next < end.next {
                chains.insert(id, Extent { begin, end });
            }
        }
        let (newest, system_end) = (signed.newest, signed.system_end);
        Ok((!chains.is_empty()).then_some(OldAudit { newest, chains, system_end }))
    }

    /// Writes it as an export, line by line.
    pub async fn export_old_audit(
        &self,
        old: &OldAudit,
        to: mpsc::Sender<Vec<u8>>,
    ) -> Result<ExportMade, Failure> {
        let system = self.kept_from(SYSTEM).await?.unwrap_or(Chain::EMPTY);
        export::old(self, old, system, to).await
    }

    /// Removes what was made durable elsewhere, and says in each chain where that is. Runs
    /// to its end even if the caller goes away.
    pub async fn forget_old_audit(
        self: &Arc<Self>,
        old: OldAudit,
        place: &str,
    ) -> Result<(), StoreError> {
        let (vault, place) = (self.clone(), place.to_owned());
        to_its_end(async move {
            for (id, Extent { begin, end }) in &old.chains {
                let end = if *id == SYSTEM { old.system_end } else { *end };
                if begin.next < end.next {
                    vault.forget_chain(*id, (*begin, end), &place).await?;
                }
            }
            // What begins later now is signed to do so.
            vault.checkpoint_here().await
        })
        .await
    }

    async fn forget_chain(
        &self,
        id: TenantId,
        (begin, end): (Chain, Chain),
        place: &str,
    ) -> Result<(), StoreError> {
        let caller = Caller::server();
        let by = By { caller: &caller, at: self.time.now().wall() };
        let detail = format!("entries {} to {} are in {place}", begin.next, end.next - 1);
        let said = AuditEntry { detail: Some(detail), ..entry(by, AuditOp::AuditArchive) };
        let forget = || Change::Forget { kept_from: end };
        let mut changes = vec![forget()];
        changes.extend(super::appending(&[said]));
        loop {
            match self.commit_to(id, changes).await {
                // The tenant was deleted meanwhile, and its chain with it.
                Err(StoreError::TenantGone) => return Ok(()),
                outcome => outcome?,
            }
            // One commit removes a part of many.
            let left = self.store.chain(space_of(id), 0).await?;
            if left.blocks.first().is_none_or(|placed| placed.first >= end.next) {
                return Ok(());
            }
            changes = vec![forget()];
        }
    }

    async fn commit_to(&self, id: TenantId, changes: Vec<Change>) -> Result<(), StoreError> {
        let floor = self.time.floor();
        if id == SYSTEM {
            return self.system.commit(changes, floor).await;
        }
        self.tenant(id)?.commit(changes, floor).await
    }

    /// `None` where there is no such chain any more, or its ledger is damaged.
    async fn kept_from(&self, id: TenantId) -> Result<Option<Chain>, StoreError> {
        let ledger = if id == SYSTEM {
            ledger_of(&*self.store, Space::System, self.system.seal()).await
        } else {
            let Ok(tenant) = self.tenant(id) else { return Ok(None) };
            ledger_of(&*self.store, Space::Tenant(id), tenant.keys().1).await
        };
        match ledger {
            Err(StoreError::TenantGone) => Ok(None),
            ledger => Ok(ledger?.map(|ledger| ledger.kept_from)),
        }
    }

    /// What the checkpoints up to a moment say together. `None`: there is none so old.
    async fn signed_before(&self, before: Timestamp) -> Result<Option<SignedBefore>, StoreError> {
        let Some(complete_from) = self.system.last_checkpoint().await?.map(|l| l.complete_from)
        else {
            return Ok(None);
        };
        let begin = self.kept_from(SYSTEM).await?.unwrap_or(Chain::EMPTY);
        let (mut walk, mut signed) = (CheckpointWalk::from(begin.next), None);
        while let Some(page) = walk.next(&*self.store).await? {
            for checkpoint in page.iter().filter_map(|read| parse(&read.text).ok()) {
                if Timestamp::parse(&checkpoint.at).map_or(true, |at| at >= before) {
                    return Ok(signed);
                }
                signed
                    .get_or_insert_with(|| SignedBefore::from(begin))
                    .learn(&checkpoint, complete_from);
            }
            tokio::task::yield_now().await;
        }
        Ok(signed)
    }
}

struct SignedBefore {
    newest: u64,
    ends: HashMap<TenantId, Chain>,
    system_end: Chain,
}

impl SignedBefore {
    fn from(begin: Chain) -> Self {
        Self { newest: 0, ends: HashMap::new(), system_end: begin }
    }

    fn learn(&mut self, checkpoint: &Checkpoint, complete_from: u64) {
        self.newest = checkpoint.number;
        for said in &checkpoint.chains {
            let (Some(id), Some(Extent { end, .. })) = (parse_id(&said.chain), Extent::parse(said))
            else {
                continue;
            };
            if id == SYSTEM && end.next <= complete_from {
                self.system_end = end;
            }
            self.ends.insert(id, end);
        }
    }
}
