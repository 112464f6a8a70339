//! A store without its KEK: open and locked, so that nobody else takes it, and
//! readable by nobody, this process included.
//!
//! A [`SealedVault`] has no key, nor a field for one. What it may hold is shares: fewer
//! than it takes to have the KEK, and for some minutes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::keyring::{Keyring, Phase};
use super::{OpenError, Vault, VaultOptions};
use crate::api::admin::{SealedStatus, ShareCount};
use crate::crypto::{Gathered, Gathering, Kek, KekRecord, Share, ShareError};
use crate::domain::Clock;
use crate::store::{Health, Store};

/// Operators who unseal together do it now, or begin anew: shares must not lie in
/// memory until somebody finds the others.
pub const SHARES_KEPT: Duration = Duration::from_secs(10 * 60);

pub struct SealedVault {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: VaultOptions,
    /// Why, where no operator sealed it.
    reason: Option<String>,
    record: KekRecord,
    /// `None` where the KEK does not come from shares.
    given: Option<Mutex<Given>>,
}

struct Given {
    gathering: Gathering,
    /// When the last share came, since boot.
    last: Duration,
}

/// The KEK of this store does not come from shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the KEK of this store does not come from shares; 'tenure status' says where from")]
pub struct NoShares;

impl SealedVault {
    /// A store that was made, sealed from the start; `reason` says why.
    pub async fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: VaultOptions,
        reason: Option<String>,
    ) -> Result<Self, OpenError> {
        let header = Keyring::header(&*store).await?;
        let header = header.filter(|header| header.phase == Phase::Complete);
        let header = header.ok_or(OpenError::NotInitialized)?;
        Ok(Self { reason, ..Self::of(store, clock, options, header.kek_record()) })
    }

    pub(super) fn of(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: VaultOptions,
        record: KekRecord,
    ) -> Self {
        let gathering = Gathering::of(&record);
        let given = gathering.map(|gathering| Given { gathering, last: Duration::ZERO });
        Self { store, clock, options, reason: None, record, given: given.map(Mutex::new) }
    }

    /// Opens it with its KEK; where that fails it stays as it is.
    pub async fn unseal(&self, kek: &Kek) -> Result<Arc<Vault>, OpenError> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Vault::open(store, kek, clock, self.options.clone()).await
    }

    /// What the store says of its KEK.
    pub fn kek_record(&self) -> &KekRecord {
        &self.record
    }

    /// Takes one share.
    pub fn give(&self, share: Share) -> Result<Result<Gathered, ShareError>, NoShares> {
        let mut given = self.given().ok_or(NoShares)?;
        let outcome = given.gathering.give(share);
        if let Ok(Gathered::Missing(_)) = outcome {
            given.last = self.clock.read().since_boot;
        }
        Ok(outcome)
    }

    /// Wipes the shares that were given so far. Answers how many.
    pub fn forget_shares(&self) -> usize {
        self.given().map_or(0, |mut given| given.gathering.forget())
    }

    /// The same where the last one came too long ago. The edge calls it every second.
    pub fn forget_stale_shares(&self) -> usize {
        let Some(mut given) = self.given() else { return 0 };
        let stale = self.clock.read().since_boot.saturating_sub(given.last) >= SHARES_KEPT;
        if stale { given.gathering.forget() } else { 0 }
    }

    pub async fn status(&self) -> SealedStatus {
        let shares = self.given().map(|given| ShareCount {
            shares: given.gathering.set().shares,
            threshold: given.gathering.set().threshold,
            given: given.gathering.given(),
            missing: given.gathering.missing(),
        });
        let Health { reason, free_bytes, .. } = self.store.health();
        SealedStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serving: false,
            sealed: true,
            reason: self.reason.clone().or(reason),
            data: self.options.place.clone(),
            data_bytes: self.store.size().await,
            free_bytes,
            source: self.record.origin.as_ref().map(|origin| origin.way.word().to_owned()),
            shares,
        }
    }

    pub async fn close(&self) {
        self.store.close().await;
    }

    fn given(&self) -> Option<MutexGuard<'_, Given>> {
        Some(self.given.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
