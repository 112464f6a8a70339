//! What of the audit is copied out of the store.

use std::io;

use async_trait::async_trait;

use super::*;
use crate::api::audit::CopiedEntry;
use crate::vault::audit::copies::{CopiedNames, CopyCursors, CopyError, CopyTaker};

const VALUE: &str = "a-value-that-is-nowhere";

/// Takes so many times, then refuses.
struct Taker {
    taken: Vec<CopiedEntry>,
    times: usize,
}

impl Taker {
    fn willing() -> Self {
        Self { taken: Vec::new(), times: usize::MAX }
    }

    /// Chain and number of each.
    fn places(&self) -> Vec<(Option<&str>, u64)> {
        self.taken.iter().map(|copy| (copy.chain.as_deref(), copy.entry.number)).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.taken.iter().filter_map(|copy| copy.entry.entry.name.as_deref()).collect()
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.taken).unwrap()
    }
}

#[async_trait]
impl CopyTaker for Taker {
    async fn take(&mut self, entries: &[CopiedEntry]) -> io::Result<()> {
        self.times = self.times.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.taken.extend_from_slice(entries);
        Ok(())
    }
}

impl Bench {
    async fn copied(&self, names: CopiedNames) -> Taker {
        let mut taker = Taker::willing();
        let mut cursors = CopyCursors::default();
        self.vault.copy_audit(&mut taker, names, &mut cursors).await.unwrap();
        taker
    }
}

#[tokio::test]
async fn each_entry_is_copied_once_in_the_order_of_its_chain() {
    let bench = Bench::new().await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    bench.put("b", Some(VALUE), OPEN()).await.unwrap();
    let (mut taker, mut cursors) = (Taker::willing(), CopyCursors::default());
    let copy = async |taker: &mut Taker, cursors: &mut CopyCursors| {
        bench.vault.copy_audit(taker, CopiedNames::Plain, cursors).await.unwrap();
    };
    copy(&mut taker, &mut cursors).await;
    let of_acme: Vec<_> =
        taker.places().into_iter().filter_map(|(chain, number)| chain.map(|_| number)).collect();
    assert_eq!(of_acme, [0, 1]);
    let before = taker.taken.len();
    copy(&mut taker, &mut cursors).await;
    assert_eq!(taker.taken.len(), before, "nothing happened since");
    let principal = bench.principal().await;
    copy(&mut taker, &mut cursors).await;
    drop(principal);
    let mut places = taker.places();
    assert!(places.len() > before, "a token was minted");
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), taker.taken.len(), "one was copied twice");
    assert!(!taker.text().contains(VALUE));
}

#[tokio::test]
async fn what_was_not_taken_is_told_again_and_nothing_is_missing() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.put(name, Some(VALUE), OPEN()).await.unwrap();
    }
    let all = bench.copied(CopiedNames::Plain).await;
    let mut cursors = CopyCursors::default();
    let mut taker = Taker { taken: Vec::new(), times: 0 };
    let mut refusals = 0;
    // It takes one block each time.
    while let Err(error) =
        bench.vault.copy_audit(&mut taker, CopiedNames::Plain, &mut cursors).await
    {
        assert!(matches!(error, CopyError::Refused(_)), "{error}");
        refusals += 1;
        taker.times = 1;
    }
    assert!(refusals > 1, "it was taken at once");
    assert_eq!(taker.taken, all.taken);
}

#[tokio::test]
async fn a_hashed_name_tells_nothing_and_stays_the_same() {
    let mut bench = Bench::new().await;
    bench.put("the-name", Some(VALUE), OPEN()).await.unwrap();
    bench.put("another", Some(VALUE), OPEN()).await.unwrap();
    bench.put("the-name", Some(VALUE), OPEN()).await.unwrap();
    let before = bench.copied(CopiedNames::Hashed).await;
    assert!(!before.text().contains("the-name") && !before.text().contains("another"));
    let [one, other, again] = before.names()[..] else { panic!("{}", before.text()) };
    assert!(one == again && one != other && one.len() == 32);
    let rotate =
        Command::DekRotate { tenant: None, rewrite: false, per_second: None, dry_run: false };
    bench.run(rotate).await.unwrap();
    bench.reopen().await;
    assert_eq!(bench.copied(CopiedNames::Hashed).await.names(), before.names());
}

#[tokio::test]
async fn a_deleted_tenant_leaves_no_cursor() {
    let bench = Bench::new().await;
    bench.put("a", Some(VALUE), OPEN()).await.unwrap();
    let id = bench.vault.tenant_named(&acme()).unwrap().id;
    let (mut taker, mut cursors) = (Taker::willing(), CopyCursors::default());
    bench.vault.copy_audit(&mut taker, CopiedNames::Plain, &mut cursors).await.unwrap();
    assert_eq!(cursors.next(Some(id)), 1);
    bench.run(Command::TenantDelete { name: "acme".into() }).await.unwrap();
    bench.vault.copy_audit(&mut taker, CopiedNames::Plain, &mut cursors).await.unwrap();
    assert_eq!(cursors.next(Some(id)), 0);
}
