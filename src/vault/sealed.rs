//! A store without its KEK: open and locked, so that nobody else takes it, and
//! readable by nobody, this process included.
//!
//! A [`SealedVault`] has no key, nor a field for one. What shares it was given are of
//! no use before there are enough of them; then they make a KEK, which is proved by
//! the store's check value or dropped with all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::keyring::{Header, Keyring, Phase};
use super::{OpenError, Vault, VaultOptions};
use crate::api::admin::{SealedStatus, ShareCount};
use crate::crypto::{Kek, KekOrigin, KekWay, Share, ShareSet, combine};
use crate::domain::Clock;
use crate::store::Store;

/// Operators who unseal together do it now, or begin anew: shares must not lie in
/// memory until somebody finds the others.
pub const SHARES_KEPT: Duration = Duration::from_secs(10 * 60);

pub struct SealedVault {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: VaultOptions,
    /// Why, where no operator sealed it.
    reason: Option<String>,
    given: Mutex<Given>,
}

/// Shares of the store's set, of different numbers, and fewer than it takes.
#[derive(Default)]
struct Given {
    shares: Vec<Share>,
    /// When the last one came, since boot.
    last: Duration,
}

/// What came of a share.
#[derive(Debug)]
pub enum Progress {
    /// So many more are needed.
    Missing(u8),
    /// Together they are the KEK of this store; none of them is kept.
    Proved(Kek),
}

/// Why a share was refused. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("the KEK of this store does not come from shares")]
    NoShares,
    #[error("this is a share of another store")]
    OtherStore,
    /// They were drawn anew since.
    #[error(
        "this share is of this store, but of another set than the present one: shares are drawn \
         anew with each KEK, and the older ones are of no use"
    )]
    OtherSet,
    #[error("this share says that {said} are needed, and of this store {needed} are")]
    OtherThreshold { said: u8, needed: u8 },
    #[error("there is no share number {number}: there are {shares}")]
    NoSuchNumber { number: u8, shares: u8 },
    #[error("share number {number} was given already; another one is needed")]
    Twice { number: u8 },
    #[error(
        "these {given} shares together are not the KEK of this store: at least one of them is \
         wrong; all were dropped, begin anew"
    )]
    Wrong { given: usize },
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl SealedVault {
    /// A store that was made, as yet sealed; `reason` says why.
    pub async fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: VaultOptions,
        reason: Option<String>,
    ) -> Result<Self, OpenError> {
        header(&*store).await?;
        Ok(Self::of(store, clock, options, reason))
    }

    pub(super) fn of(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: VaultOptions,
        reason: Option<String>,
    ) -> Self {
        Self { store, clock, options, reason, given: Mutex::default() }
    }

    /// Opens it with its KEK; where that fails it stays as it is.
    pub async fn unseal(&self, kek: &Kek) -> Result<Arc<Vault>, OpenError> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Vault::open(store, kek, clock, self.options.clone()).await
    }

    /// Takes one share.
    pub async fn give(&self, share: Share) -> Result<Progress, ShareError> {
        let header = header(&*self.store).await?;
        let set = set_of(&header).ok_or(ShareError::NoShares)?;
        let shares = {
            let mut given = self.given();
            given.take(share, &header, set)?;
            let missing = set.threshold.saturating_sub(given.count());
            if missing > 0 {
                given.last = self.clock.read().since_boot;
                return Ok(Progress::Missing(missing));
            }
            std::mem::take(&mut given.shares)
        };
        let kek = combine(&shares).ok();
        let proved = kek.filter(|kek| kek.for_store(header.store_id).proves(&header.check));
        proved.map(Progress::Proved).ok_or(ShareError::Wrong { given: shares.len() })
    }

    /// Wipes the shares that were given so far. Answers how many.
    pub fn forget_shares(&self) -> usize {
        std::mem::take(&mut self.given().shares).len()
    }

    /// The same where the last one came too long ago. The edge calls it every second.
    pub fn forget_stale_shares(&self) -> usize {
        let mut given = self.given();
        let stale = self.clock.read().since_boot.saturating_sub(given.last) >= SHARES_KEPT;
        if stale { std::mem::take(&mut given.shares).len() } else { 0 }
    }

    pub async fn status(&self) -> Result<SealedStatus, OpenError> {
        let header = header(&*self.store).await?;
        let given = self.given().count();
        let count = |set: ShareSet| ShareCount {
            shares: set.shares,
            threshold: set.threshold,
            given,
            missing: set.threshold.saturating_sub(given),
        };
        let health = self.store.health();
        Ok(SealedStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            serving: false,
            sealed: true,
            reason: self.reason.clone().or(health.reason),
            data: self.options.place.clone(),
            data_bytes: self.store.size().await,
            free_bytes: health.free_bytes,
            source: header.origin.as_ref().map(|origin| origin.way.word().to_owned()),
            shares: set_of(&header).map(count),
        })
    }

    pub async fn close(&self) {
        self.store.close().await;
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    fn take(&mut self, share: Share, header: &Header, set: ShareSet) -> Result<(), ShareError> {
        check(&share, header, set)?;
        if self.shares.iter().any(|held| held.number() == share.number()) {
            return Err(ShareError::Twice { number: share.number() });
        }
        // Reserved at once: a list that grows leaves its old shares behind.
        self.shares.reserve_exact(usize::from(set.threshold).saturating_sub(self.shares.len()));
        self.shares.push(share);
        Ok(())
    }

    fn count(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }
}

/// All that can be told of one share alone.
fn check(share: &Share, header: &Header, set: ShareSet) -> Result<(), ShareError> {
    let ShareSet { id, threshold, shares } = set;
    let (said, number) = (share.threshold(), share.number());
    if share.store() != header.store_id {
        return Err(ShareError::OtherStore);
    }
    if share.set() != id {
        return Err(ShareError::OtherSet);
    }
    if said != threshold {
        return Err(ShareError::OtherThreshold { said, needed: threshold });
    }
    if !(1..=shares).contains(&number) {
        return Err(ShareError::NoSuchNumber { number, shares });
    }
    Ok(())
}

fn set_of(header: &Header) -> Option<ShareSet> {
    match header.origin {
        Some(KekOrigin { way: KekWay::Shamir(set), .. }) => Some(set),
        _ => None,
    }
}

/// Of a store that was made wholly.
async fn header(store: &dyn Store) -> Result<Header, OpenError> {
    let header = Keyring::header(store).await?;
    header.filter(|header| header.phase == Phase::Complete).ok_or(OpenError::NotInitialized)
}
