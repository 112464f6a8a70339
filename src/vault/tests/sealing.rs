//! Sealing, and unsealing with shares.

use super::*;
use crate::crypto::{Gathered, Share, ShareError, ShareSet, split};
use crate::vault::{NoShares, SHARES_KEPT, SealedVault};

const STORE: StoreId = StoreId::from_bytes([3; 16]);

/// A sealed store, and what its shares were made of.
struct Sealed {
    vault: SealedVault,
    clock: Arc<Manual>,
    kek: Kek,
    set: ShareSet,
}

impl Sealed {
    async fn new() -> Self {
        let (store, kek, clock) =
            (Arc::new(MemoryStore::new()), Kek::generate(), Manual::at(START));
        let set = ShareSet::draw(3, 5).unwrap();
        let way = KekWay::Shamir(set);
        Vault::init_as(store.clone(), STORE, &kek, way, &*clock).await.unwrap();
        let vault = SealedVault::new(store, clock.clone(), VaultOptions::default(), None);
        Self { vault: vault.await.unwrap(), clock, kek, set }
    }

    /// By its number; `adapt` says what its set is like instead.
    fn share_of(&self, number: usize, adapt: impl FnOnce(&mut ShareSet)) -> Share {
        let mut set = self.set;
        adapt(&mut set);
        split(&self.kek, STORE, set).remove(number - 1)
    }

    /// Shares of one splitting.
    fn shares(&self) -> Vec<Share> {
        split(&self.kek, STORE, self.set)
    }

    fn give(&self, share: Share) -> Result<Gathered, ShareError> {
        self.vault.give(share).unwrap()
    }

    async fn given(&self) -> u8 {
        self.vault.status().await.shares.unwrap().given
    }
}

#[tokio::test]
async fn shares_given_one_after_another_unseal() {
    let sealed = Sealed::new().await;
    let mut shares = sealed.shares();
    for (place, missing) in [(4, 2), (1, 1)] {
        match sealed.give(shares.remove(place)).unwrap() {
            Gathered::Missing(left) => assert_eq!(left, missing),
            Gathered::Proved(_) => panic!("two of three are no KEK"),
        }
    }
    let status = sealed.vault.status().await;
    assert!(status.sealed && status.source.as_deref() == Some("shamir"));
    let count = status.shares.unwrap();
    assert_eq!((count.shares, count.threshold, count.given, count.missing), (5, 3, 2, 1));
    let Gathered::Proved(kek) = sealed.give(shares.remove(0)).unwrap() else {
        panic!("three of three are the KEK")
    };
    assert_eq!(sealed.given().await, 0, "none is kept");
    sealed.vault.unseal(&kek).await.unwrap();
}

#[tokio::test]
async fn a_share_that_does_not_belong_is_refused_by_its_reason_and_not_kept() {
    let sealed = Sealed::new().await;
    sealed.give(sealed.share_of(1, |_| {})).unwrap();
    let elsewhere = StoreId::from_bytes([4; 16]);
    for (share, expected) in [
        (split(&sealed.kek, elsewhere, sealed.set).remove(1), ShareError::OtherStore),
        (sealed.share_of(2, |set| set.id = [0; 8]), ShareError::OtherSet),
        (
            sealed.share_of(2, |set| set.threshold = 2),
            ShareError::OtherThreshold { said: 2, needed: 3 },
        ),
        (
            sealed.share_of(6, |set| set.shares = 6),
            ShareError::NoSuchNumber { number: 6, shares: 5 },
        ),
        (sealed.share_of(1, |_| {}), ShareError::Twice { number: 1 }),
    ] {
        assert_eq!(sealed.give(share).unwrap_err(), expected);
        assert_eq!(sealed.given().await, 1);
    }
}

#[tokio::test]
async fn shares_that_are_not_the_kek_are_all_dropped() {
    let sealed = Sealed::new().await;
    // Of another splitting that calls itself the same.
    let stranger = split(&Kek::generate(), STORE, sealed.set).remove(0);
    let mut shares = sealed.shares();
    sealed.give(stranger).unwrap();
    sealed.give(shares.remove(1)).unwrap();
    let refused = sealed.give(shares.remove(1)).unwrap_err();
    assert_eq!(refused, ShareError::Wrong { given: 3 });
    assert_eq!(sealed.given().await, 0);
    for share in sealed.shares().into_iter().take(3) {
        if let Gathered::Proved(kek) = sealed.give(share).unwrap() {
            return drop(sealed.vault.unseal(&kek).await.unwrap());
        }
    }
    panic!("three of three are the KEK");
}

#[tokio::test]
async fn shares_wait_ten_minutes_for_the_next() {
    let sealed = Sealed::new().await;
    let almost = SHARES_KEPT.as_secs() - 1;
    let mut shares = sealed.shares();
    for _ in 0..2 {
        sealed.give(shares.remove(0)).unwrap();
        sealed.clock.pass(almost);
        assert_eq!(sealed.vault.forget_stale_shares(), 0);
    }
    sealed.clock.pass(1);
    assert_eq!(sealed.vault.forget_stale_shares(), 2);
    assert_eq!(sealed.given().await, 0);
    sealed.give(shares.remove(0)).unwrap();
    assert_eq!(sealed.vault.forget_shares(), 1);
    assert_eq!(sealed.given().await, 0);
}

#[tokio::test]
async fn a_store_without_shares_takes_none() {
    let bench = Bench::new().await;
    let sealed = bench.vault.seal().await;
    assert_eq!(sealed.status().await.shares, None);
    let share = split(&bench.kek, STORE, ShareSet::draw(2, 2).unwrap()).remove(0);
    assert_eq!(sealed.give(share).unwrap_err(), NoShares);
    assert_eq!(sealed.unseal(&Kek::generate()).await.err(), Some(OpenError::WrongKek));
}

#[tokio::test]
async fn a_store_that_was_never_made_is_not_sealed() {
    let (store, clock) = (Arc::new(MemoryStore::new()), Manual::at(START));
    let sealed = SealedVault::new(store, clock, VaultOptions::default(), None).await;
    assert_eq!(sealed.err(), Some(OpenError::NotInitialized));
}

#[tokio::test]
async fn sealing_waits_for_those_who_hold_the_vault_and_then_no_key_is_left() {
    let mut bench = Bench::new().await;
    let token = bench.token("acme").await;
    bench.put("kept", Some("value"), OPEN()).await.unwrap();
    let (held, weak) = (bench.vault.clone(), Arc::downgrade(&bench.vault));
    let Bench { vault, kek, store, clock } = bench;
    let sealing = tokio::spawn(vault.seal());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sealing.is_finished());
    drop(held);
    let sealed = sealing.await.unwrap();
    assert!(weak.upgrade().is_none());
    let vault = sealed.unseal(&kek).await.unwrap();
    vault.authenticate(&token, vault.now()).unwrap();
    bench = Bench { vault, kek, store, clock };
    assert_eq!(bench.get("kept").await, Some(Some("value".to_owned())));
}
