//! The store in memory: the model that every engine is held against, and what
//! `tenure dev --ephemeral` runs on. Nothing of it outlives the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;

use super::chain::ChainPageBuilder;
use super::staging::{PageBuilder, ledger_of, place, stage, weigh};
use super::{
    Batch, ChainPage, Change, Compacted, DatabaseUse, Health, Ledger, LedgerSeal, Page,
    PlacedBlock, Row, RowKey, Scan, Snapshot, Space, Store, StoreError,
};
use crate::domain::{Floor, TenantId};

/// Rows in ordered maps, one lock per space.
#[derive(Default)]
pub struct MemoryStore {
    system: Arc<RwLock<Rows>>,
    keyring: Arc<RwLock<Rows>>,
    tenants: RwLock<BTreeMap<TenantId, Arc<RwLock<Rows>>>>,
    closed: Arc<AtomicBool>,
}

#[derive(Default, Clone)]
struct Rows {
    rows: BTreeMap<RowKey, Row>,
    /// By their first entry.
    chain: BTreeMap<u64, PlacedBlock>,
    ledger: Option<Vec<u8>>,
    /// Set when the tenant is dropped, for a caller that found the space just
    /// before.
    dropped: bool,
}

/// A panic under a lock can only come from a `LedgerSeal`, which is asked before
/// anything changes; so what a poisoned lock guards is whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn refuse_if(closed: &AtomicBool) -> Result<(), StoreError> {
    if closed.load(Ordering::Acquire) {
        return Err(StoreError::NotApplied { retry_after: Duration::from_secs(1) });
    }
    Ok(())
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn refuse_if_closed(&self) -> Result<(), StoreError> {
        refuse_if(&self.closed)
    }

    fn space(&self, space: Space) -> Result<Arc<RwLock<Rows>>, StoreError> {
        self.refuse_if_closed()?;
        match space {
            Space::System => Ok(Arc::clone(&self.system)),
            Space::Keyring => Ok(Arc::clone(&self.keyring)),
            Space::Tenant(id) => {
                read(&self.tenants).get(&id).map(Arc::clone).ok_or(StoreError::TenantGone)
            }
        }
    }
}

#[cfg(test)]
impl MemoryStore {
    /// As somebody would who can write the disk.
    pub(crate) fn tamper(&self, space: Space, with: impl FnOnce(&mut BTreeMap<u64, PlacedBlock>)) {
        let rows = self.space(space).expect("the space is there");
        with(&mut write(&rows).chain);
    }
}

impl Rows {
    fn alive(&self) -> Result<&Self, StoreError> {
        if self.dropped { Err(StoreError::TenantGone) } else { Ok(self) }
    }

    fn page(&self, scan: &Scan) -> Page {
        let from = match &scan.after {
            Some(after) if after.as_bytes() >= scan.prefix.as_slice() => {
                Bound::Excluded(after.clone())
            }
            _ if scan.prefix.is_empty() => Bound::Unbounded,
            _ => Bound::Included(RowKey(scan.prefix.clone())),
        };
        let mut page = PageBuilder::new(scan);
        for (key, row) in self.rows.range((from, Bound::Unbounded)) {
            if !key.as_bytes().starts_with(&scan.prefix) {
                break;
            }
            if page.is_full() {
                return page.with_more();
            }
            page.push(key.clone(), row.clone());
        }
        page.last()
    }

    fn chain_page(&self, from: u64) -> ChainPage {
        let mut page = ChainPageBuilder::default();
        for (_, placed) in self.chain.range(from..) {
            if page.is_full() {
                return page.with_more();
            }
            page.push(placed.clone());
        }
        page.last()
    }

    fn commit(&mut self, batch: Batch, space: Space) -> Result<(), StoreError> {
        let ledger = match &self.ledger {
            None => Ledger::EMPTY,
            Some(sealed) => batch
                .seal
                .open(sealed)
                .map_err(|_| StoreError::Corrupted { what: format!("the ledger of {space}") })?,
        };
        let staged = stage(&batch, ledger, |key| Ok(self.rows.get(key).cloned()))?;
        let Some(mut ledger) = staged.ledger else { return Ok(()) };
        for (key, row) in staged.rows {
            match row {
                Some(row) => self.rows.insert(key.clone(), row.clone()),
                None => self.rows.remove(key),
            };
        }
        if staged.forgets {
            self.chain = self.chain.split_off(&ledger.kept_from.next);
        }
        let appended = batch.changes.into_iter().filter_map(Change::into_appended);
        let blocks = place(appended, &mut ledger.chain, &*batch.seal);
        self.chain.extend(blocks.into_iter().map(|placed| (placed.first, placed)));
        self.ledger = Some(batch.seal.seal(&ledger));
        Ok(())
    }
}

/// A copy of everything: nothing here is large.
struct MemorySnapshot {
    rows: Rows,
    cursors: Vec<Scan>,
    /// What was copied, and whether its store is closed: with them it ends.
    origin: Arc<RwLock<Rows>>,
    closed: Arc<AtomicBool>,
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn ledger(&self) -> Option<&[u8]> {
        self.rows.ledger.as_deref()
    }

    async fn next(&mut self, cursor: usize) -> Result<Page, StoreError> {
        refuse_if(&self.closed)?;
        read(&self.origin).alive()?;
        let Some(scan) = self.cursors.get_mut(cursor) else { return Ok(Page::default()) };
        let page = self.rows.page(scan);
        if let Some((last, _)) = page.rows.last() {
            scan.after = Some(last.clone());
        }
        Ok(page)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, space: Space, key: &RowKey) -> Result<Option<Row>, StoreError> {
        let rows = self.space(space)?;
        let rows = read(&rows);
        Ok(rows.alive()?.rows.get(key).cloned())
    }

    async fn scan(&self, space: Space, scan: Scan) -> Result<Page, StoreError> {
        let rows = self.space(space)?;
        let rows = read(&rows);
        Ok(rows.alive()?.page(&scan))
    }

    async fn commit(&self, space: Space, batch: Batch) -> Result<(), StoreError> {
        weigh(&batch)?;
        let rows = self.space(space)?;
        let mut rows = write(&rows);
        rows.alive()?;
        rows.commit(batch, space)
    }

    async fn chain(&self, space: Space, from: u64) -> Result<ChainPage, StoreError> {
        let rows = self.space(space)?;
        let rows = read(&rows);
        Ok(rows.alive()?.chain_page(from))
    }

    async fn ledger(&self, space: Space) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.space(space)?;
        let rows = read(&rows);
        Ok(rows.alive()?.ledger.clone())
    }

    async fn snapshot(
        &self,
        space: Space,
        prefixes: &[&[u8]],
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        let origin = self.space(space)?;
        let rows = read(&origin).alive()?.clone();
        let cursor = |prefix: &&[u8]| Scan { prefix: prefix.to_vec(), after: None, limit: 1_000 };
        let cursors = prefixes.iter().map(cursor).collect();
        let closed = Arc::clone(&self.closed);
        Ok(Box::new(MemorySnapshot { rows, cursors, origin, closed }))
    }

    async fn create_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.refuse_if_closed()?;
        let mut tenants = write(&self.tenants);
        if tenants.contains_key(&id) {
            return Err(StoreError::Conflict);
        }
        tenants.insert(id, Arc::default());
        Ok(())
    }

    async fn drop_tenant(&self, id: TenantId) -> Result<(), StoreError> {
        self.refuse_if_closed()?;
        let dropped = write(&self.tenants).remove(&id);
        if let Some(rows) = dropped {
            *write(&rows) = Rows { dropped: true, ..Rows::default() };
        }
        Ok(())
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.refuse_if_closed()?;
        Ok(read(&self.tenants).keys().copied().collect())
    }

    async fn replace_keyring(
        &self,
        rows: Vec<(RowKey, Row)>,
        floor: Floor,
        seal: Arc<dyn LedgerSeal>,
    ) -> Result<(), StoreError> {
        self.refuse_if_closed()?;
        let rows = rows.into_iter().collect();
        let ledger = ledger_of(&rows, floor, seal.as_ref())?;
        let ledger = Some(seal.seal(&ledger));
        *write(&self.keyring) = Rows { rows, ledger, ..Rows::default() };
        Ok(())
    }

    fn health(&self) -> Health {
        let closed = self.closed.load(Ordering::Acquire);
        Health {
            writable: !closed,
            free_bytes: None,
            reason: closed.then(|| "the store is closed".to_owned()),
        }
    }

    async fn size(&self) -> u64 {
        0
    }

    async fn usage(&self) -> Result<Vec<DatabaseUse>, StoreError> {
        self.refuse_if_closed()?;
        Ok(Vec::new())
    }

    async fn compact(
        &self,
        _database: &str,
        _progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Option<Compacted>, StoreError> {
        self.refuse_if_closed()?;
        Ok(None)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
