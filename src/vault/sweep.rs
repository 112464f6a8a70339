//! The physical removal of what has expired.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::tenant::{PAGE_ROWS, Tenant};
use super::{Vault, VaultError};
use crate::auth::Caller;
use crate::domain::Timestamp;
use crate::measure;
use crate::store::StoreError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SweepError {
    #[error("the clock is disputed")]
    ClockDisputed,
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What a sweep of one tenant came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Removed, or to be removed.
    pub(super) secrets: u64,
    /// Entries of the index that lead to a damaged record; left as they are.
    pub(super) damaged: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepMode {
    Remove,
    CountOnly,
}

/// Rows of the expiry index that are read first. Most sweeps find little, so the
/// pages grow with what was found.
const FIRST_ROWS: usize = 16;

impl Vault {
    /// The background sweep: every tenant, what expired longer ago than
    /// `retain`. Does nothing while the clock is disputed.
    pub async fn sweep_expired(&self, retain: Duration) {
        let caller = Caller::server();
        for tenant in self.all_tenants() {
            let retain = self.kept_for_notices(&tenant, retain);
            match self.sweep_tenant(&tenant, retain, SweepMode::Remove, &caller).await {
                Ok(Swept { secrets: 0, damaged: 0 }) => {}
                Ok(Swept { secrets, damaged }) => log::info!(
                    "swept {secrets} expired secrets of '{}' and left {damaged} damaged ones",
                    tenant.name
                ),
                Err(SweepError::ClockDisputed) => {
                    log::warn!("no sweep: the clock is disputed; see 'tenure clock accept'");
                    return;
                }
                Err(error) => log::error!("sweeping tenant '{}' failed: {error}", tenant.name),
            }
        }
        self.sweep_credentials().await;
        self.note_sweep().await;
    }

    /// Forgets revocations and API keys of which nobody could have use any more.
    pub(super) async fn sweep_credentials(&self) {
        match self.prune_credentials().await {
            Ok(0) => {}
            Ok(pruned) => log::info!("forgot {pruned} revocations and API keys past their time"),
            Err(error) => log::error!("forgetting old revocations failed: {error}"),
        }
    }

    /// Remembers that every tenant was swept, over restarts too.
    pub(super) async fn note_sweep(&self) {
        measure::sweep_ended();
        let now = self.time.now().wall();
        *self.last_sweep.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
        if let Err(error) = self.system.record_sweep(now, self.time.floor()).await {
            log::warn!("the time of this sweep was not stored: {error}");
        }
    }

    /// Walks the expiry index from its old end, and stops at what is still to be
    /// kept: the cost follows what has expired, not what exists.
    pub(super) async fn sweep_tenant(
        &self,
        tenant: &Arc<Tenant>,
        retain: Duration,
        mode: SweepMode,
        caller: &Caller,
    ) -> Result<Swept, SweepError> {
        if self.time.is_disputed() {
            return Err(SweepError::ClockDisputed);
        }
        let cutoff = self.time.floor().at.saturating_sub(retain);
        let (mut swept, mut after, mut rows) = (Swept::default(), None, FIRST_ROWS);
        loop {
            let (page, more) = tenant.expiries(after, rows).await?;
            rows = (rows * 2).min(PAGE_ROWS);
            after = page.last().map(|(key, ..)| key.clone());
            for (_, indexed, locator) in page {
                if indexed > cutoff {
                    return Ok(swept);
                }
                match self.sweep_at(tenant, (&locator, indexed), cutoff, mode, caller).await {
                    Ok(removed) => swept.secrets += u64::from(removed),
                    // One damaged record must not keep all newer ones for ever.
                    Err(VaultError::Store(StoreError::Corrupted { what })) => {
                        log::error!("sweeping: {what} is corrupted");
                        swept.damaged += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !more {
                return Ok(swept);
            }
        }
    }

    async fn sweep_at(
        &self,
        tenant: &Arc<Tenant>,
        (locator, indexed): (&super::layout::Locator, Timestamp),
        cutoff: Timestamp,
        mode: SweepMode,
        caller: &Caller,
    ) -> Result<bool, VaultError> {
        match mode {
            SweepMode::CountOnly => tenant.expired_by(locator, cutoff).await,
            SweepMode::Remove => {
                // Disputed since: what the floor said before still holds, so
                // this page may be finished.
                let _lock = self.lock_name(tenant, locator).await;
                let (floor, by) = (self.time.floor(), self.by(caller));
                let removed = tenant.sweep_one(locator, indexed, cutoff, floor, by).await;
                if removed == Ok(true) {
                    measure::swept();
                }
                removed
            }
        }
    }
}
