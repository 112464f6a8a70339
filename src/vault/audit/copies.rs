//! Entries that are copied out of the store, to where others read them.
//!
//! They are read from the chains by a cursor, behind the commits: whoever takes them may
//! be slow or dead, and no request waits. Guaranteed here: what was not taken is told
//! again, in the order of its chain, so each entry that the store still holds is taken at
//! least once. A cursor that was lost costs repeated entries and no missing ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use async_trait::async_trait;

use super::super::Vault;
use super::query::opened;
use crate::api::audit::{AuditEntry, CopiedEntry, NumberedEntry};
use crate::crypto::AuditNames;
use crate::domain::TenantId;
use crate::store::{PlacedBlock, Space, StoreError};

/// Who takes copies.
#[async_trait]
pub trait CopyTaker: Send {
    /// All of them, or an error, after which all of them are told again.
    async fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()>;
}

/// How secrets are called in copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopiedNames {
    Plain,
    /// As [`AuditNames::hide`] makes them.
    Hashed,
}

/// Of each chain, the number of the entry that is to be taken next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyCursors(BTreeMap<Option<TenantId>, u64>);

/// Why no more was copied. What was taken before stays taken.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the entries were not taken: {0}")]
    Refused(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CopyCursors {
    /// The system's chain is that of no tenant.
    pub fn next(&self, chain: Option<TenantId>) -> u64 {
        self.0.get(&chain).copied().unwrap_or(0)
    }
}

impl Vault {
    /// Copies what was appended to any chain since the cursors stood where they stand.
    pub async fn copy_audit(
        &self,
        taker: &mut dyn CopyTaker,
        names: CopiedNames,
        cursors: &mut CopyCursors,
    ) -> Result<(), CopyError> {
        let tenants = self.all_tenants();
        let there: BTreeSet<_> = tenants.iter().map(|tenant| tenant.id).collect();
        // The chain of a tenant goes with the tenant.
        cursors.0.retain(|chain, _| chain.is_none_or(|tenant| there.contains(&tenant)));
        let chains = tenants.iter().map(|tenant| Some(tenant.id));
        for chain in std::iter::once(None).chain(chains) {
            match self.copy_chain(chain, taker, names, cursors).await {
                // It was deleted meanwhile.
                Err(CopyError::Store(StoreError::TenantGone)) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// The same of one chain.
    pub async fn copy_chain(
        &self,
        chain: Option<TenantId>,
        taker: &mut dyn CopyTaker,
        names: CopiedNames,
        cursors: &mut CopyCursors,
    ) -> Result<(), CopyError> {
        let space = chain.map_or(Space::System, Space::Tenant);
        let hidden =
            (names == CopiedNames::Hashed).then(|| self.system.keys().anchor.audit_names());
        loop {
            let page = self.store.chain(space, cursors.next(chain)).await?;
            for placed in &page.blocks {
                let copies = self.copies(chain, placed, hidden.as_ref())?;
                taker.take(&copies).await?;
                // A cursor stands between blocks, since a block is taken whole.
                let entries = u64::from(placed.block.entries.get());
                cursors.0.insert(chain, placed.first.saturating_add(entries));
            }
            if !page.more {
                return Ok(());
            }
            // Decrypting is CPU work: let the requests of this thread go on.
            tokio::task::yield_now().await;
        }
    }

    fn copies(
        &self,
        chain: Option<TenantId>,
        placed: &PlacedBlock,
        hidden: Option<&AuditNames>,
    ) -> Result<Vec<CopiedEntry>, StoreError> {
        let tenant = chain.map(|id| self.tenant(id)).transpose()?;
        let opened = match &tenant {
            None => opened(Space::System, self.system.keys().anchor.audit(), placed)?,
            Some(tenant) => {
                opened(Space::Tenant(tenant.id), tenant.keys().0.anchor.audit(), placed)?
            }
        };
        let copied = |NumberedEntry { number, entry }| CopiedEntry {
            chain: tenant.as_ref().map(|tenant| tenant.name.to_string()),
            chain_id: chain.map(|id| id.to_string()),
            entry: NumberedEntry { number, entry: with_name_hidden(entry, chain, hidden) },
        };
        Ok(opened.into_iter().map(copied).collect())
    }
}

/// Only entries in chains of tenants are about secrets.
fn with_name_hidden(
    entry: AuditEntry,
    chain: Option<TenantId>,
    hidden: Option<&AuditNames>,
) -> AuditEntry {
    let (Some(tenant), Some(hidden)) = (chain, hidden) else { return entry };
    let name = entry.name.map(|name| hidden.hide(tenant, &name));
    AuditEntry { name, ..entry }
}
