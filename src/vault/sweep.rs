//! The physical removal of what has expired.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::tenant::Tenant;
use super::{Vault, VaultError};
use crate::domain::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SweepError {
    #[error("the clock is disputed")]
    ClockDisputed,
    #[error(transparent)]
    Vault(#[from] VaultError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepMode {
    Remove,
    CountOnly,
}

impl Vault {
    /// The background sweep: every tenant, what expired longer ago than
    /// `retain`. Does nothing while the clock is disputed.
    pub async fn sweep_expired(&self, retain: Duration) {
        for tenant in self.all_tenants() {
            match self.sweep_tenant(&tenant, retain, SweepMode::Remove).await {
                Ok(0) => {}
                Ok(secrets) => log::info!("swept {secrets} expired secrets of '{}'", tenant.name),
                Err(SweepError::ClockDisputed) => {
                    log::warn!("no sweep: the clock is disputed; see 'tenure clock accept'");
                    return;
                }
                Err(error) => log::error!("sweeping tenant '{}' failed: {error}", tenant.name),
            }
        }
        self.note_sweep().await;
    }

    /// Remembers that every tenant was swept, over restarts too.
    pub(super) async fn note_sweep(&self) {
        let now = self.time.now().wall();
        *self.last_sweep.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
        if let Err(error) = self.system.record_sweep(now, self.floor_for_commit()).await {
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
    ) -> Result<u64, SweepError> {
        if self.time.is_disputed() {
            return Err(SweepError::ClockDisputed);
        }
        let cutoff = self.time.floor().at.saturating_sub(retain);
        let (mut removed, mut after) = (0, None);
        loop {
            let (page, more) = tenant.expiries(after).await?;
            after = page.last().map(|(key, ..)| key.clone());
            for (_, indexed, locator) in page {
                if indexed > cutoff {
                    return Ok(removed);
                }
                removed += u64::from(self.sweep_at(tenant, &locator, indexed, cutoff, mode).await?);
            }
            if !more {
                return Ok(removed);
            }
        }
    }

    async fn sweep_at(
        &self,
        tenant: &Arc<Tenant>,
        locator: &super::layout::Locator,
        indexed: Timestamp,
        cutoff: Timestamp,
        mode: SweepMode,
    ) -> Result<bool, SweepError> {
        match mode {
            SweepMode::CountOnly => Ok(tenant.expired_by(locator, cutoff).await?),
            SweepMode::Remove => {
                // Disputed since: what the floor said before still holds, so
                // this page may be finished.
                let _lock = self.lock_name(locator).await;
                let floor = self.floor_for_commit();
                Ok(tenant.sweep_one(locator, indexed, cutoff, floor).await?)
            }
        }
    }
}
