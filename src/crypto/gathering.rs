//! Shares on their way to a KEK: one after another, from several people.
//!
//! A share that does not belong is refused by itself and not kept. Whether those that do
//! are the KEK shows when enough are there: then they are proved by the store's check
//! value, and kept no longer either way.

use super::kek_origin::{KekOrigin, KekRecord, KekWay, ShareSet};
use super::keys::{Kek, StoreId};
use super::shamir::{Share, combine};

/// Shares of one set, of different numbers, and fewer than it takes.
pub struct Gathering {
    store: StoreId,
    check: [u8; 32],
    set: ShareSet,
    shares: Vec<Share>,
}

/// What came of a share.
#[derive(Debug)]
pub enum Gathered {
    /// So many more are needed.
    Missing(u8),
    /// Together they are the KEK; none of them is kept.
    Proved(Kek),
}

/// Why a share was refused. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
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
}

impl Gathering {
    /// By what a store, or a backup, says of its KEK; `None` where that does not come
    /// from shares.
    pub fn of(record: &KekRecord) -> Option<Self> {
        let KekRecord { store_id, check, origin } = record;
        match origin {
            Some(KekOrigin { way: KekWay::Shamir(set), .. }) => {
                // Reserved at once: a list that grows leaves its old shares behind.
                let shares = Vec::with_capacity(usize::from(set.threshold));
                Some(Self { store: *store_id, check: *check, set: *set, shares })
            }
            _ => None,
        }
    }

    pub fn set(&self) -> ShareSet {
        self.set
    }

    /// How many are there.
    pub fn given(&self) -> u8 {
        u8::try_from(self.shares.len()).unwrap_or(u8::MAX)
    }

    pub fn missing(&self) -> u8 {
        self.set.threshold.saturating_sub(self.given())
    }

    pub fn give(&mut self, share: Share) -> Result<Gathered, ShareError> {
        self.check(&share)?;
        self.shares.push(share);
        if self.missing() > 0 {
            return Ok(Gathered::Missing(self.missing()));
        }
        let kek = combine(&self.shares).ok();
        let given = self.forget();
        let proved = kek.filter(|kek| kek.for_store(self.store).proves(&self.check));
        proved.map(Gathered::Proved).ok_or(ShareError::Wrong { given })
    }

    /// Wipes what was given. Answers how many that were.
    pub fn forget(&mut self) -> usize {
        self.shares.drain(..).count()
    }

    /// All that can be told of one share alone.
    fn check(&self, share: &Share) -> Result<(), ShareError> {
        let ShareSet { id, threshold, shares } = self.set;
        let (said, number) = (share.threshold(), share.number());
        if share.store() != self.store {
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
        if self.shares.iter().any(|held| held.number() == number) {
            return Err(ShareError::Twice { number });
        }
        Ok(())
    }
}
