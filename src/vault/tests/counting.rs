//! A store that counts what is read of it, and holds back or refuses what is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::domain::{Floor, TenantId};
use crate::store::{
    Batch, ChainPage, Compacted, DatabaseUse, Health, LedgerSeal, MemoryStore, Page, Row, RowKey,
    Scan, Snapshot, Space, Store, StoreError,
};

pub(super) struct Counting {
    inner: Arc<MemoryStore>,
    calls: AtomicU64,
    rows: AtomicU64,
    held: Mutex<Option<Space>>,
    gate: tokio::sync::RwLock<()>,
    waiting: AtomicU64,
    refuses: Mutex<Option<StoreError>>,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reads {
    /// Of rows, one or many.
    pub(super) calls: u64,
    pub(super) rows: u64,
}

impl Counting {
    pub(super) fn over(inner: Arc<MemoryStore>) -> Arc<Self> {
        let (held, gate) = (Mutex::new(None), tokio::sync::RwLock::new(()));
        let [calls, rows, waiting] = [0; 3].map(AtomicU64::new);
        let refuses = Mutex::new(None);
        Arc::new(Self { inner, calls, rows, held, gate, waiting, refuses })
    }

    /// Since the last time that this was asked.
    pub(super) fn reads(&self) -> Reads {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::SeqCst);
        Reads { calls: taken(&self.calls), rows: taken(&self.rows) }
    }

    /// Commits to this space wait until what this answers is dropped.
    pub(super) async fn hold(&self, space: Space) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        *self.held.lock().unwrap() = Some(space);
        self.gate.write().await
    }

    /// Commits are answered so from now on, and change nothing; `None`: they are done.
    pub(super) fn refuse(&self, with: Option<StoreError>) {
        *self.refuses.lock().unwrap() = with;
    }

    /// Returns when a commit waits.
    pub(super) async fn holds_one(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn count(&self, rows: usize) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows as u64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for Counting {
    async fn get(&self, space: Space, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let row = self.inner.get(space, key).await?;
        self.count(usize::from(row.is_some()));
        Ok(row)
    }

    async fn scan(&self, space: Space, scan: Scan) -> Result<Page, StoreError> {
        let page = self.inner.scan(space, scan).await?;
        self.count(page.rows.len());
        Ok(page)
    }

    async fn commit(&self, space: Space, batch: Batch) -> Result<(), StoreError> {
        let held = *self.held.lock().unwrap() == Some(space);
        if held {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _passed = self.gate.read().await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        let refused = self.refuses.lock().unwrap().clone();
        match refused {
            Some(error) => Err(error),
            None => self.inner.commit(space, batch).await,
        }
    }

    async fn chain(&self, space: Space, from: u64) -> Result<ChainPage, StoreError> {
        self.inner.chain(space, from).await
    }

    async fn ledger(&self, space: Space) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.ledger(space).await
    }

    async fn snapshot(
        &self,
        space: Space,
        prefixes: &[&[u8]],
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot(space, prefixes).await
    }

    async fn create_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.inner.create_tenant(id).await
    }

    async fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.inner.drop_tenant(id).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.inner.tenants().await
    }

    async fn replace_keyring(
        &self,
        rows: Vec<(RowKey, Row)>,
        floor: Floor,
        seal: Arc<dyn LedgerSeal>,
    ) -> Result<(), StoreError> {
        self.inner.replace_keyring(rows, floor, seal).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn size(&self) -> u64 {
        self.inner.size().await
    }

    async fn usage(&self) -> Result<Vec<DatabaseUse>, StoreError> {
        self.inner.usage().await
    }

    async fn compact(
        &self,
        database: &str,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Compacted>, StoreError> {
        self.inner.compact(database, progress).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
