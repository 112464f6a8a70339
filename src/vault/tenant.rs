//! The secrets of one tenant.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

use super::audit::{self, By, Growth};
use super::heads::{Filling, HeadChange, HeadEntry, Heads, Place, Window};
use super::keyring::SpaceKeys;
use super::layout::{self, Head, Locator, ValueShape};
use super::notices::Told;
use super::quota::{Quota, Usage, Writing};
use super::seal::SpaceSeal;
use super::system::TenantRecord;
use super::{Deleted, NewSecret, Planned, Precondition, Secret, VaultError};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::crypto::{Binding, EnvelopeStamp, Purpose, Undecryptable};
use crate::domain::{
    ByName, Floor, Now, SecretName, SecretValue, TenantId, TenantName, Timestamp, ValidityWindow,
    WindowState,
};
use crate::store::{
    Batch, Change, Ledger, LedgerSeal, Page, Row, RowKey, Scan, Space, Store, StoreError,
};

/// How often a write is tried again after losing to another writer. Writers of
/// one name queue for its lock, so only an engine shared with another process
/// makes a second try likely.
const TRIES: usize = 8;
/// Rows a scan asks for at a time, at most.
pub(super) const PAGE_ROWS: usize = 1_000;
/// What tells how much there is.
const COUNTED: &[&[u8]] = &[layout::HEAD_PREFIX, layout::VALUE_PREFIX];

/// One tenant, open: its keys, its version counter, its sorted names.
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) name: TenantName,
    pub(super) created_on: Timestamp,
    store: Arc<dyn Store>,
    keys: SpaceKeys,
    seal: Arc<SpaceSeal>,
    next_version: AtomicU64,
    pub(super) heads: Heads,
    pub(super) quota: Quota,
    /// Up to when notices of it were told.
    pub(super) told: Mutex<Option<Told>>,
    pub(super) growth: Growth,
    /// Whether its ledger was there at open and opened. Without one, rows that
    /// are missing could no longer be told; so nothing is written then.
    sound: bool,
}

/// A stretch of a tenant's secrets, looked at for what is under a DEK that leaves.
pub(super) struct Leaving {
    /// How many were looked at.
    pub(super) secrets: u64,
    /// Their heads, as they were read.
    pub(super) heads: Vec<(Locator, Row)>,
    /// After which row the next stretch begins; `None` at the end.
    pub(super) next: Option<RowKey>,
}

/// An entry of the expiry index.
pub(super) struct Expiring {
    pub(super) key: RowKey,
    /// In whole seconds.
    pub(super) at: Timestamp,
    pub(super) locator: Locator,
    /// Of the write that gave the secret this end.
    pub(super) version: u64,
}

/// A head as it stands in the store.
struct StoredHead {
    version: u64,
    /// Another with every writing, of the same version too.
    stamp: EnvelopeStamp,
    head: Head,
}

impl Tenant {
    pub(super) fn new(
        record: TenantRecord,
        store: Arc<dyn Store>,
        keys: SpaceKeys,
        ledger: Option<&Ledger>,
        heads: Heads,
        quota: Quota,
    ) -> Self {
        let TenantRecord { id, name, created_on, limits: _ } = record;
        let seal = Arc::new(SpaceSeal::Anchor(keys.anchor.clone()));
        let highest = ledger.map_or(0, |ledger| ledger.highest_version);
        let next_version = AtomicU64::new(highest.saturating_add(1));
        let sound = ledger.is_some();
        let told = Mutex::default();
        Self {
            id,
            name,
            created_on,
            store,
            keys,
            seal,
            next_version,
            heads,
            quota,
            told,
            growth: Growth::unseen(),
            sound,
        }
    }

    pub(super) async fn read(
        &self,
        name: &SecretName,
        now: Now,
    ) -> Result<Option<Secret>, VaultError> {
        let locator = self.locate(name);
        let Some(mut stored) = self.head(&locator).await? else { return Ok(None) };
        loop {
            if stored.head.window.state_at(now) != WindowState::Valid {
                return Ok(None);
            }
            let (version, window) = (stored.version, stored.head.window);
            if let Some(value) = self.value(name, &locator, &stored).await? {
                return Ok(Some(Secret { value, version, window }));
            }
            match self.newer(&locator, &stored).await? {
                None => return Ok(None),
                Some(newer) => stored = newer,
            }
        }
    }

    /// Stores or replaces all of them in one commit, or none. Answers their versions.
    /// The caller holds the locks of the names.
    pub(super) async fn write(
        &self,
        writes: &ByName<Planned>,
        locators: &[Locator],
        now: Now,
        floor: Floor,
        by: By<'_>,
    ) -> Result<Vec<u64>, VaultError> {
        let writing = self.writing().await?;
        let names = writes.iter().map(|(name, _)| name);
        let said = audit::appending_of(by, AuditOp::SecretWrite, names);
        for _ in 0..TRIES {
            let olds = self.old_heads(writes, locators, now).await?;
            let news = writes.iter().map(|(_, Planned { new, .. })| usage_of(new));
            let replaced = self.usage_of_all(&writing, &olds).await;
            let taken = writing.take(news.fold(Usage::default(), Usage::and), replaced)?;
            let (mut changes, mut versions) = (Vec::new(), Vec::with_capacity(olds.len()));
            let places = locators.iter().zip(&olds);
            for ((name, Planned { new, .. }), (locator, old)) in writes.iter().zip(places) {
                let version = self.next_version.fetch_add(1, Ordering::Relaxed);
                changes.extend(self.replacement(locator, name, new, old.as_ref(), version, now));
                versions.push(version);
            }
            changes.extend(said.clone());
            let outcome = self.commit(changes, floor).await;
            taken.settle(&outcome);
            match outcome {
                Ok(()) => {
                    for ((name, Planned { new, .. }), version) in writes.iter().zip(&versions) {
                        let entry = HeadEntry { version: *version, window: new.window };
                        self.heads.note(&HeadChange::Put(name.clone(), entry));
                    }
                    return Ok(versions);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(VaultError::Conflict)
    }

    /// Enters as a writer, with a count where a limit needs one.
    async fn writing(&self) -> Result<Writing<'_>, VaultError> {
        loop {
            let writing = self.quota.enter().await;
            if !writing.must_count() {
                return Ok(writing);
            }
            drop(writing);
            self.count(|_| ()).await?;
        }
    }

    /// Counts what the tenant has where a limit needs it, so that no writer must wait.
    pub(super) async fn prepare_count(&self) -> Result<(), VaultError> {
        drop(self.writing().await?);
        Ok(())
    }

    /// What the tenant has: counted row by row, unless that was done. Writers go on
    /// meanwhile. `tell`: how many rows were, where it takes more than one look.
    pub(super) async fn count(&self, tell: impl Fn(u64)) -> Result<Usage, VaultError> {
        let uncounted = match self.quota.counted().await {
            Ok(counted) => return Ok(counted),
            Err(uncounted) => uncounted,
        };
        let (count, mut snapshot) = {
            let alone = self.quota.alone().await;
            let snapshot = self.store.snapshot(self.space(), COUNTED).await;
            let snapshot = snapshot.map_err(|error| self.explain(error))?;
            (uncounted.begin(&alone), snapshot)
        };
        let (mut stored, mut done) = (Usage::default(), 0);
        for cursor in 0..COUNTED.len() {
            loop {
                let page = snapshot.next(cursor).await;
                let Page { rows, more } = page.map_err(|error| self.explain(error))?;
                let usages = rows.iter().map(|(key, row)| layout::usage_of(key, row));
                stored = usages.fold(stored, Usage::and);
                if !more {
                    break;
                }
                done += rows.len() as u64;
                tell(done);
                tokio::task::yield_now().await;
            }
        }
        Ok(count.end(stored))
    }

    /// What these secrets take; `None` where nobody can tell. Read only where it matters.
    async fn usage_of_all(
        &self,
        writing: &Writing<'_>,
        olds: &[Option<StoredHead>],
    ) -> Option<Usage> {
        if !writing.is_counted() {
            return Some(Usage::default());
        }
        let mut all = Usage::default();
        for old in olds.iter().flatten() {
            all = all.and(self.usage_of_old(old).await?);
        }
        Some(all)
    }

    /// The last of a value's rows says how long it is. `None` where it cannot be read.
    async fn usage_of_old(&self, old: &StoredHead) -> Option<Usage> {
        let locator = self.locate(&old.head.name);
        let last = layout::value_keys(&locator, old.version, old.head.value).last();
        let Some(last) = last else { return Some(Usage::one(0)) };
        let row = self.row(&last).await.ok()??;
        Some(Usage::one(layout::value_bytes(old.head.value, &row)))
    }

    /// What the writes replace, in their order, if all of their preconditions hold.
    async fn old_heads(
        &self,
        writes: &ByName<Planned>,
        locators: &[Locator],
        now: Now,
    ) -> Result<Vec<Option<StoredHead>>, VaultError> {
        let (mut olds, mut failed) = (Vec::with_capacity(writes.len()), Vec::new());
        let places = locators.iter().enumerate();
        for ((_, Planned { precondition, .. }), (place, locator)) in writes.iter().zip(places) {
            let old = self.head(locator).await?;
            if !holds(precondition, old.as_ref(), now) {
                failed.push(place);
            }
            olds.push(old);
        }
        if failed.is_empty() {
            Ok(olds)
        } else {
            Err(VaultError::PreconditionsFailed { of: failed })
        }
    }

    /// Deletes, expired or not. The caller holds the name's lock.
    pub(super) async fn delete(
        &self,
        name: &SecretName,
        precondition: &Precondition,
        now: Now,
        floor: Floor,
        by: By<'_>,
    ) -> Result<Deleted, VaultError> {
        let locator = self.locate(name);
        for _ in 0..TRIES {
            let old = self.head(&locator).await?;
            if !holds(precondition, old.as_ref(), now) {
                return Err(VaultError::PreconditionFailed);
            }
            let Some(old) = old else { return Ok(Deleted::NothingThere) };
            let expired = old.head.window.state_at(now) == WindowState::Expired;
            let mut said = audit::of_secret(by, AuditOp::SecretDelete, name);
            if expired {
                audit::NOT_FOUND.clone_into(&mut said.result);
            }
            match self.remove(&locator, &old, floor, said).await {
                Ok(()) => {
                    return Ok(if expired { Deleted::Expired } else { Deleted::Removed });
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(VaultError::Conflict)
    }

    /// Removes the secret at `locator` if its own, authenticated window says
    /// that it expired at or before `cutoff`; the index only told where to look.
    /// The caller holds the name's lock. Answers whether it was removed.
    pub(super) async fn sweep_one(
        &self,
        locator: &Locator,
        indexed: Timestamp,
        cutoff: Timestamp,
        floor: Floor,
        by: By<'_>,
    ) -> Result<bool, VaultError> {
        let old = self.head(locator).await?;
        let indexed_end = |old: &StoredHead| {
            let end = old.head.window.expires_on();
            end.filter(|end| end.unix_seconds() == indexed.unix_seconds())
        };
        let Some((old, end)) = old.and_then(|old| indexed_end(&old).map(|end| (old, end))) else {
            // Deleted or replaced since the index was read, and then the index
            // row went with it. One that stays disagrees with its record.
            let key = layout::expiry_key(indexed, locator);
            return match self.row(&key).await? {
                None => Ok(false),
                Some(_) => Err(self.corrupted("the expiry index")),
            };
        };
        if end > cutoff {
            return Ok(false);
        }
        let said = audit::of_secret(by, AuditOp::SecretSweep, &old.head.name);
        match self.remove(locator, &old, floor, said).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the secret at `locator` expired at or before `cutoff`.
    pub(super) async fn expired_by(
        &self,
        locator: &Locator,
        cutoff: Timestamp,
    ) -> Result<bool, VaultError> {
        let stored = self.head(locator).await?;
        Ok(stored.and_then(|s| s.head.window.expires_on()).is_some_and(|end| end <= cutoff))
    }

    /// A page of the expiry index, soonest first: when and whose.
    pub(super) async fn expiries(
        &self,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<(Vec<(RowKey, Timestamp, Locator)>, bool), VaultError> {
        let Page { rows, more } = self.page(layout::EXPIRY_PREFIX, after, limit).await?;
        let parse = |(key, _): (RowKey, Row)| {
            let (at, locator) =
                layout::parse_expiry_key(&key).map_err(|_| self.corrupted("the expiry index"))?;
            Ok((key, at, locator))
        };
        Ok((rows.into_iter().map(parse).collect::<Result<_, VaultError>>()?, more))
    }

    /// A page of the expiry index from one second to another, both included, soonest
    /// first; and whether there is more.
    pub(super) async fn expiring(
        &self,
        (from, to): (i64, i64),
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<(Vec<Expiring>, bool), VaultError> {
        let after = after.unwrap_or_else(|| layout::before_expiries(from));
        let Page { rows, more } = self.page(layout::EXPIRY_PREFIX, Some(after), limit).await?;
        let mut page = Vec::with_capacity(rows.len());
        for (key, Row { version, .. }) in rows {
            let parsed = layout::parse_expiry_key(&key);
            let (at, locator) = parsed.map_err(|_| self.corrupted("the expiry index"))?;
            if at.unix_seconds() > to {
                return Ok((page, false));
            }
            page.push(Expiring { key, at, locator, version });
        }
        Ok((page, more))
    }

    /// What the secret at `locator` is called, and when it is valid, if it is of this
    /// version still.
    pub(super) async fn described(
        &self,
        locator: &Locator,
        version: u64,
    ) -> Result<Option<(SecretName, ValidityWindow)>, VaultError> {
        let stored = self.head(locator).await?.filter(|stored| stored.version == version);
        Ok(stored.map(|stored| (stored.head.name, stored.head.window)))
    }

    #[cfg(test)]
    pub(super) fn draw_version(&self) {
        self.next_version.fetch_add(1, Ordering::Relaxed);
    }

    /// The highest version that was given to a write so far.
    pub(super) fn last_version(&self) -> u64 {
        self.next_version.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// A window of the sorted names with `place` in it, from `from` on if not all
    /// fit; see [`Heads::window`].
    pub(super) async fn window(
        &self,
        place: &Place,
        from: &Place,
        make_room: impl Fn(),
    ) -> Result<Window, VaultError> {
        let fill = async |filling: &mut Filling<'_>| {
            self.visit_heads(|heads| filling.add(heads, &make_room)).await
        };
        self.heads.window(place, from, fill).await
    }

    /// Calls `visit` for every secret, many at a time, in no order. Keeps nothing
    /// in memory.
    pub(super) async fn visit_heads(
        &self,
        mut visit: impl FnMut(Vec<(SecretName, HeadEntry)>),
    ) -> Result<(), VaultError> {
        let mut after = None;
        loop {
            let Page { rows, more } = self.page(layout::HEAD_PREFIX, after, PAGE_ROWS).await?;
            after = rows.last().filter(|_| more).map(|(last, _)| last.clone());
            let mut heads = Vec::with_capacity(rows.len());
            for (key, row) in rows {
                if layout::parse_value_key(&key).is_ok() {
                    continue;
                }
                let locator = layout::parse_head_key(&key).map_err(|_| self.corrupted("a head"))?;
                if let Some(StoredHead { version, head, .. }) =
                    self.head_as_read(&locator, row).await?
                {
                    heads.push((head.name, HeadEntry { version, window: head.window }));
                }
            }
            visit(heads);
            if after.is_none() {
                return Ok(());
            }
            // Decrypting is CPU work: let the requests of this thread go on.
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn locate(&self, name: &SecretName) -> Locator {
        self.keys.anchor.index().locate(name.as_str().as_bytes())
    }

    pub(super) fn keys(&self) -> (&SpaceKeys, &SpaceSeal) {
        (&self.keys, &self.seal)
    }

    fn space(&self) -> Space {
        Space::Tenant(self.id)
    }

    pub(super) async fn commit(
        &self,
        changes: Vec<Change>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        if !self.sound {
            let what = format!("the ledger of tenant '{}'", self.name);
            return Err(StoreError::Corrupted { what });
        }
        let seal: Arc<dyn LedgerSeal> = self.seal.clone();
        let outcome = self.store.commit(self.space(), Batch { changes, floor, seal }).await;
        if matches!(outcome, Err(StoreError::Unknown)) {
            self.heads.drop_all();
        }
        self.growth.note();
        outcome
    }

    /// Removes all rows of a secret, and its name from the sorted ones.
    async fn remove(
        &self,
        locator: &Locator,
        old: &StoredHead,
        floor: Floor,
        said: AuditEntry,
    ) -> Result<(), StoreError> {
        let writing = self.quota.enter().await;
        let freed = if writing.is_counted() { self.usage_of_old(old).await } else { None };
        let freed = writing.free(freed);
        let mut changes = removal(locator, old);
        changes.extend(audit::appending(&[said]));
        let outcome = self.commit(changes, floor).await;
        freed.settle(&outcome);
        outcome?;
        self.heads.note(&HeadChange::Delete(old.head.name.clone(), old.version));
        Ok(())
    }

    async fn page(
        &self,
        prefix: &[u8],
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Page, VaultError> {
        let scan = Scan { prefix: prefix.to_vec(), after, limit };
        self.store.scan(self.space(), scan).await.map_err(|error| self.explain(error))
    }

    async fn row(&self, key: &RowKey) -> Result<Option<Row>, VaultError> {
        self.store.get(self.space(), key).await.map_err(|error| self.explain(error))
    }

    /// A tenant that was there at open and is gone now was deleted; one that was
    /// not there at open was lost.
    fn explain(&self, error: StoreError) -> VaultError {
        match error {
            StoreError::TenantGone if !self.sound => self.corrupted("the rows"),
            other => other.into(),
        }
    }

    async fn head(&self, locator: &Locator) -> Result<Option<StoredHead>, VaultError> {
        let Some(row) = self.row(&layout::head_key(locator)).await? else { return Ok(None) };
        self.head_as_read(locator, row).await
    }

    /// A head of which the row was read. All may have been encrypted anew since, and
    /// the old DEK be destroyed: then it is read again.
    async fn head_as_read(
        &self,
        locator: &Locator,
        mut row: Row,
    ) -> Result<Option<StoredHead>, VaultError> {
        loop {
            let error = match self.open_head(locator, &row) {
                Ok(head) => return Ok(Some(head)),
                Err(error) => error,
            };
            match self.row(&layout::head_key(locator)).await? {
                None => return Ok(None),
                Some(newer) if newer != row => row = newer,
                Some(_) => return Err(error),
            }
        }
    }

    /// The head as it is by now, where the rows of its value were not those of `stored`:
    /// a writer replaced the head and removed the rows of the old version between our
    /// two reads, or all was encrypted anew; or rows are lost.
    async fn newer(
        &self,
        locator: &Locator,
        stored: &StoredHead,
    ) -> Result<Option<StoredHead>, VaultError> {
        let newer = self.head(locator).await?;
        if newer.as_ref().is_some_and(|newer| newer.stamp == stored.stamp) {
            return Err(self.corrupted("a value"));
        }
        Ok(newer)
    }

    fn open_head(&self, locator: &Locator, row: &Row) -> Result<StoredHead, VaultError> {
        let binding = self.head_binding(locator, row.version);
        let plaintext = self.keys.deks().decrypt(&binding, &row.bytes);
        let plaintext = plaintext.map_err(|Undecryptable| self.corrupted("a head"))?;
        let head = Head::decode(&plaintext).map_err(|_| self.corrupted("a head"))?;
        Ok(StoredHead { version: row.version, stamp: EnvelopeStamp::of(&row.bytes), head })
    }

    /// The value that belongs to a head, or the outer `None` where its rows are not
    /// there, or not those of one writing.
    async fn value(
        &self,
        name: &SecretName,
        locator: &Locator,
        stored: &StoredHead,
    ) -> Result<Option<Option<SecretValue>>, VaultError> {
        if stored.head.value == ValueShape::Null {
            return Ok(Some(None));
        }
        let mut envelope = Vec::new();
        for key in layout::value_keys(locator, stored.version, stored.head.value) {
            match self.row(&key).await? {
                // One row is the common case: no copy.
                Some(row) if envelope.is_empty() => envelope = row.bytes,
                Some(row) => envelope.extend_from_slice(&row.bytes),
                None => return Ok(None),
            }
        }
        let binding = self.value_binding(name, stored.version);
        let Ok(mut plaintext) = self.keys.deks().decrypt(&binding, &envelope) else {
            return Ok(None);
        };
        let text = String::from_utf8(std::mem::take(&mut *plaintext))
            .map_err(|_| self.corrupted("a value"))?;
        Ok(Some(Some(SecretValue::new(Zeroizing::new(text)))))
    }

    /// All of one PUT: head, value, expiry index, and the removal of what they
    /// replace.
    fn replacement(
        &self,
        locator: &Locator,
        name: &SecretName,
        new: &NewSecret,
        old: Option<&StoredHead>,
        version: u64,
        now: Now,
    ) -> Vec<Change> {
        let created_on = old.map_or(now.wall(), |old| old.head.created_on);
        let times = (created_on, now.wall());
        let mut changes = vec![Change::Expect {
            key: layout::head_key(locator),
            version: old.map(|o| o.version),
        }];
        changes.extend(self.insertion(locator, name, new, times, version));
        if let Some(old) = old {
            changes.extend(value_removal(locator, old));
        }
        let old_end = old.and_then(|old| old.head.window.expires_on());
        let old_row = old_end.map(|end| layout::expiry_key(end, locator));
        let new_row = new.window.expires_on().map(|end| layout::expiry_key(end, locator));
        if let Some(key) = old_row.filter(|key| Some(key) != new_row.as_ref()) {
            changes.push(Change::Delete { key });
        }
        changes
    }

    /// All rows of a secret. `times`: of creation and of the last update.
    fn insertion(
        &self,
        locator: &Locator,
        name: &SecretName,
        new: &NewSecret,
        times: (Timestamp, Timestamp),
        version: u64,
    ) -> Vec<Change> {
        // Under one DEK: whoever looks for what is under another looks at heads only.
        let deks = self.keys.deks();
        let envelope = new.value.as_ref().map(|value| {
            deks.encrypt(&self.value_binding(name, version), value.expose().as_bytes())
        });
        let laid_out = envelope.as_deref().map(layout::lay_out);
        let (value, pieces) =
            laid_out.map_or((ValueShape::Null, None), |(shape, pieces)| (shape, Some(pieces)));
        let (name, window, (created_on, updated_on)) = (name.clone(), new.window, times);
        let head = Head { name, window, created_on, updated_on, value };
        let head = deks.encrypt(&self.head_binding(locator, version), &head.encode());

        let put = |key, bytes: Vec<u8>| Change::Put { key, row: Row { version, bytes } };
        let mut changes = Vec::with_capacity(2 + usize::from(value.rows()));
        changes.push(put(layout::head_key(locator), head));
        let keys = layout::value_keys(locator, version, value);
        for (key, piece) in keys.zip(pieces.into_iter().flatten()) {
            changes.push(put(key, piece.to_vec()));
        }
        if let Some(end) = window.expires_on() {
            changes.push(put(layout::expiry_key(end, locator), Vec::new()));
        }
        changes
    }

    /// The next secrets after a row whose heads are under a DEK that leaves.
    pub(super) async fn leaving(&self, after: Option<RowKey>) -> Result<Leaving, VaultError> {
        let Page { rows, more } = self.page(layout::HEAD_PREFIX, after, PAGE_ROWS).await?;
        let next = rows.last().filter(|_| more).map(|(key, _)| key.clone());
        let (mut secrets, mut heads) = (0, Vec::new());
        let deks = self.keys.deks();
        for (key, row) in rows {
            let Ok(locator) = layout::parse_head_key(&key) else { continue };
            secrets += 1;
            if deks.is_leaving(&row.bytes) {
                heads.push((locator, row));
            }
        }
        Ok(Leaving { secrets, heads, next })
    }

    /// All rows of a secret, encrypted anew under the newest DEK. They keep their
    /// version: it is the same value, and its ETag holds. `head` is its head as it was
    /// read before. `None` where it is gone.
    pub(super) async fn reencrypted(
        &self,
        locator: &Locator,
        head: Row,
    ) -> Result<Option<Vec<Change>>, VaultError> {
        let Some(mut old) = self.head_as_read(locator, head).await? else { return Ok(None) };
        loop {
            if let Some(value) = self.value(&old.head.name, locator, &old).await? {
                return Ok(Some(self.rewriting(locator, old, value)));
            }
            match self.newer(locator, &old).await? {
                None => return Ok(None),
                Some(newer) => old = newer,
            }
        }
    }

    /// The same, of the head as it is now.
    pub(super) async fn reencrypted_now(
        &self,
        locator: &Locator,
    ) -> Result<Option<Vec<Change>>, VaultError> {
        match self.row(&layout::head_key(locator)).await? {
            None => Ok(None),
            Some(head) => self.reencrypted(locator, head).await,
        }
    }

    fn rewriting(
        &self,
        locator: &Locator,
        old: StoredHead,
        value: Option<SecretValue>,
    ) -> Vec<Change> {
        let StoredHead { version, head, stamp: _ } = old;
        let new = NewSecret { value, window: head.window };
        let times = (head.created_on, head.updated_on);
        let key = layout::head_key(locator);
        let mut changes = vec![Change::Expect { key, version: Some(version) }];
        changes.extend(self.insertion(locator, &head.name, &new, times, version));
        // An older format laid small values out in another way.
        let kept = |key: &RowKey| {
            changes
                .iter()
                .any(|change| matches!(change, Change::Put { key: put, .. } if put == key))
        };
        let moved: Vec<_> =
            layout::value_keys(locator, version, head.value).filter(|key| !kept(key)).collect();
        changes.extend(moved.into_iter().map(|key| Change::Delete { key }));
        changes
    }

    /// Stores a secret of another tenant, with its times, in a tenant that nobody
    /// else writes to and that does not have it: the rows, to be committed with
    /// others by [`Tenant::commit`].
    pub(super) fn adopt(&self, head: &Head, value: Option<SecretValue>) -> Vec<Change> {
        let version = self.next_version.fetch_add(1, Ordering::Relaxed);
        let new = NewSecret { value, window: head.window };
        let times = (head.created_on, head.updated_on);
        self.insertion(&self.locate(&head.name), &head.name, &new, times, version)
    }

    /// A head is bound to its locator, which is the name under the index key: a
    /// list must open heads before it knows any name.
    fn head_binding<'a>(&self, locator: &'a Locator, version: u64) -> Binding<'a> {
        Binding { purpose: Purpose::Head, tenant: self.id, name: locator, version }
    }

    fn value_binding<'a>(&self, name: &'a SecretName, version: u64) -> Binding<'a> {
        let name = name.as_str().as_bytes();
        Binding { purpose: Purpose::Value, tenant: self.id, name, version }
    }

    fn corrupted(&self, part: &str) -> VaultError {
        let what = format!("{part} of tenant '{}'", self.name);
        VaultError::Store(StoreError::Corrupted { what })
    }
}

/// What a secret that is about to be stored takes.
fn usage_of(new: &NewSecret) -> Usage {
    Usage::one(new.value.as_ref().map_or(0, SecretValue::len) as u64)
}

/// Judges a precondition. A secret is there if it is stored and not expired,
/// which is what a list shows.
fn holds(precondition: &Precondition, old: Option<&StoredHead>, now: Now) -> bool {
    let there = old.filter(|old| old.head.window.state_at(now) != WindowState::Expired);
    match precondition {
        Precondition::None => true,
        Precondition::Exists => there.is_some(),
        Precondition::Versions(any) => there.is_some_and(|old| any.contains(&old.version)),
        Precondition::Absent => there.is_none(),
    }
}

fn value_removal(locator: &Locator, old: &StoredHead) -> impl Iterator<Item = Change> + use<> {
    layout::value_keys(locator, old.version, old.head.value).map(|key| Change::Delete { key })
}

/// All rows of a secret, as one commit.
fn removal(locator: &Locator, old: &StoredHead) -> Vec<Change> {
    let key = layout::head_key(locator);
    let mut changes = vec![
        Change::Expect { key: key.clone(), version: Some(old.version) },
        Change::Delete { key },
    ];
    changes.extend(value_removal(locator, old));
    if let Some(end) = old.head.window.expires_on() {
        changes.push(Change::Delete { key: layout::expiry_key(end, locator) });
    }
    changes
}
