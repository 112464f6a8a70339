//! The keyring: which KEK this store belongs to, and each tenant's wrapped keys.
//!
//! | row | holds |
//! | --- | --- |
//! | `k` | format, phase, store id, the KEK's check value, where it comes from; not encrypted |
//! | `d` ‖ tenant id ‖ DEK id (4) | state, the wrapped DEK |
//! | `a` ‖ tenant id | the wrapped anchor keys |
//!
//! All rows are under the keyring's ledger, so that whoever can write the disk
//! cannot swap the header or drop a key unseen.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::codec::{Malformed, Reader};
use super::seal::SpaceSeal;
use super::{Export, OpenError};
use crate::crypto::{
    AnchorKeys, Dek, DekSet, DekState, Kek, KekOrigin, KekRecord, OldDeks, StoreId, StoreKeys,
};
use crate::domain::{Floor, TenantId, Timestamp};
use crate::store::{Batch, Change, Ledger, LedgerSeal, Row, RowKey, Space, Store, StoreError};

/// In the place of a tenant's id: the system's own keys.
pub(super) const SYSTEM: TenantId = TenantId::from_bytes([0; 16]);

/// Whose keys these are, as where its rows are.
pub(super) fn space_of(id: TenantId) -> Space {
    if id == SYSTEM { Space::System } else { Space::Tenant(id) }
}

/// The keys of one tenant, or of the system.
#[derive(Debug)]
pub(super) struct SpaceKeys {
    deks: RwLock<DekSet>,
    pub(super) anchor: Arc<AnchorKeys>,
}

impl SpaceKeys {
    pub(super) fn new(deks: DekSet, anchor: AnchorKeys) -> Self {
        Self { deks: RwLock::new(deks), anchor: Arc::new(anchor) }
    }

    /// The DEKs as they are now. What is encrypted under one guard is under one DEK.
    pub(super) fn deks(&self) -> RwLockReadGuard<'_, DekSet> {
        self.deks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// After the keyring did.
    pub(super) fn rotate(&self, new: Dek, old: OldDeks) {
        self.deks.write().unwrap_or_else(PoisonError::into_inner).rotate(new, old);
    }

    /// After the keyring did.
    pub(super) fn forget(&self, deks: &[u32]) {
        self.deks.write().unwrap_or_else(PoisonError::into_inner).forget(deks);
    }
}

/// A DEK's id, its state, and when it was made.
pub(super) type DekAge = (u32, DekState, Option<Timestamp>);

/// How far `init` came. The system's rows are written between the two, so that
/// a store without them is told from one that lost them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Initializing,
    Complete,
}

pub(super) struct Keyring {
    store: Arc<dyn Store>,
    under: RwLock<Under>,
    /// The rows as stored; writers hold the lock throughout.
    rows: tokio::sync::Mutex<Rows>,
}

/// What all rows are under. Only who holds the rows replaces it.
#[derive(Clone)]
struct Under {
    keys: Arc<StoreKeys>,
    seal: Arc<SpaceSeal>,
    /// `None`: the store was made before this was written down.
    origin: Option<KekOrigin>,
}

impl Under {
    fn new(keys: StoreKeys, origin: Option<KekOrigin>) -> Self {
        let keys = Arc::new(keys);
        Self { seal: Arc::new(SpaceSeal::Keyring(keys.clone())), keys, origin }
    }
}

struct Rows {
    by_key: BTreeMap<RowKey, Row>,
    next_version: u64,
}

/// How many rows of a commit a rotation fills before it makes the next: a third of
/// what one may weigh.
const ROWS_AT_ONCE: usize = 4_000;

/// Of format 1 are headers without the origin.
const HEADER_FORMAT: u8 = 2;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) phase: Phase,
    pub(super) store_id: StoreId,
    pub(super) check: [u8; 32],
    pub(super) origin: Option<KekOrigin>,
}

impl Header {
    pub(super) fn kek_record(self) -> KekRecord {
        let Self { phase: _, store_id, check, origin } = self;
        KekRecord { store_id, check, origin }
    }
}

impl Keyring {
    /// The header, as yet unproven; `None` where a store was never begun.
    pub(super) async fn header(store: &dyn Store) -> Result<Option<Header>, OpenError> {
        let Some(header) = store.get(Space::Keyring, &header_key()).await? else {
            return Ok(None);
        };
        parse_header(&header.bytes).map(Some).map_err(|_| damaged("header"))
    }

    /// How far the making of this store came, by its header; `None` where it was
    /// never begun. Nothing proves the header yet.
    pub(super) async fn phase(store: &dyn Store) -> Result<Option<Phase>, OpenError> {
        Ok(Self::header(store).await?.map(|header| header.phase))
    }

    /// Begins a new store under `kek`, with keys for the system.
    pub(super) async fn create(
        store: Arc<dyn Store>,
        id: StoreId,
        kek: &Kek,
        origin: KekOrigin,
    ) -> Result<Self, OpenError> {
        let dek = Dek::generate(1, origin.since);
        let under = Under::new(kek.for_store(id), Some(origin));
        let header = (header_key(), header(&under, Phase::Initializing));
        let anchor = AnchorKeys::generate(SYSTEM);
        let system = wrapped_rows(&under.keys, SYSTEM, &dek, &anchor);
        let rows = tokio::sync::Mutex::new(Rows { by_key: BTreeMap::new(), next_version: 1 });
        let keyring = Self { store, under: RwLock::new(under), rows };
        keyring.put([header].into_iter().chain(system), Floor::START).await?;
        Ok(keyring)
    }

    /// Opens a store's keyring: proves the KEK, then checks every row against
    /// the ledger.
    pub(super) async fn open(store: Arc<dyn Store>, kek: &Kek) -> Result<(Self, Phase), OpenError> {
        let header = Self::header(&*store).await?.ok_or(OpenError::NotInitialized)?;
        let Header { phase, store_id, check, origin } = header;
        let under = Under::new(kek.for_store(store_id), origin);
        if !under.keys.proves(&check) {
            return Err(OpenError::WrongKek);
        }
        let export = Export::at_open(&*store, Space::Keyring).await?;
        let ledger = export.prove(&*under.seal, "the keyring")?;
        let rows = Rows {
            by_key: export.rows.into_iter().collect(),
            next_version: ledger.highest_version.saturating_add(1),
        };
        let (under, rows) = (RwLock::new(under), tokio::sync::Mutex::new(rows));
        Ok((Self { store, under, rows }, phase))
    }

    /// Marks the store complete: from now on missing system rows are a loss.
    pub(super) async fn complete(&self) -> Result<(), StoreError> {
        self.put([(header_key(), header(&self.under(), Phase::Complete))], Floor::START).await
    }

    /// Draws keys for a tenant and stores them wrapped; durable when it returns.
    pub(super) async fn create_keys(
        &self,
        tenant: TenantId,
        now: Timestamp,
        floor: Floor,
    ) -> Result<SpaceKeys, StoreError> {
        let (dek, anchor) = (Dek::generate(1, now), AnchorKeys::generate(tenant));
        // Nobody may replace the KEK between the wrapping and the writing.
        let mut rows = self.rows.lock().await;
        let new = wrapped_rows(&self.under().keys, tenant, &dek, &anchor);
        self.put_into(&mut rows, new, floor).await?;
        Ok(SpaceKeys::new(DekSet::new(dek, Vec::new()), anchor))
    }

    /// Unwraps the keys of a tenant, or of [`SYSTEM`].
    pub(super) async fn keys(&self, tenant: TenantId) -> Result<SpaceKeys, OpenError> {
        let rows = self.rows.lock().await;
        unwrapped(&self.under().keys, &rows.by_key, tenant)
    }

    fn under(&self) -> Under {
        self.under.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the KEK is for this store.
    pub(super) fn store_keys(&self) -> Arc<StoreKeys> {
        self.under().keys
    }

    /// What is said of the KEK.
    pub(super) fn kek_record(&self) -> KekRecord {
        let Under { keys, seal: _, origin } = self.under();
        KekRecord { store_id: keys.store_id(), check: keys.check_value(), origin }
    }

    /// Wraps everything under another KEK. When it returns, the files that held the
    /// rows under the old one are unlinked.
    ///
    /// A crash leaves either all rows under the old KEK or all under the new. After an
    /// error the old one holds.
    pub(super) async fn rewrap(
        &self,
        kek: &Kek,
        origin: KekOrigin,
        floor: Floor,
    ) -> Result<(), OpenError> {
        let mut rows = self.rows.lock().await;
        let old = self.under();
        let new = Under::new(kek.for_store(old.keys.store_id()), Some(origin));
        let version = rows.next_version;
        let mut list = vec![(header_key(), header(&new, Phase::Complete))];
        list.extend(rewrapped(&old.keys, &new.keys, &rows.by_key, |_| true)?);
        let list: Vec<_> =
            list.into_iter().map(|(key, bytes)| (key, Row { version, bytes })).collect();
        let replaced = self.store.replace_keyring(list.clone(), floor, new.seal.clone()).await;
        if let Err(error) = replaced {
            // What is stored decides, not what was heard of it.
            match Self::header(&*self.store).await {
                Ok(Some(stored)) if new.keys.proves(&stored.check) => {
                    log::warn!("the files of the old keyring may be left: {error}");
                }
                _ => return Err(error.into()),
            }
        }
        *rows = Rows { by_key: list.into_iter().collect(), next_version: version + 1 };
        *self.under.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// All rows as they are stored now, with their sealed ledger.
    pub(super) async fn export(&self) -> Result<Export, StoreError> {
        // Whoever holds the rows keeps out who would replace them meanwhile.
        let _unchanged = self.rows.lock().await;
        Export::of(&*self.store, Space::Keyring).await
    }

    /// Every tenant that has keys here.
    pub(super) async fn tenants(&self) -> Vec<TenantId> {
        let rows = self.rows.lock().await;
        let anchors = rows.by_key.keys().filter_map(|key| parse_anchor_key(key).ok());
        anchors.filter(|tenant| *tenant != SYSTEM).collect()
    }

    pub(super) fn seal(&self) -> Arc<SpaceSeal> {
        self.under().seal
    }

    /// Whether a stored row is of a known form and its key unwraps, with a
    /// sentence where it does not.
    pub(super) fn examine(&self, key: &RowKey, row: &Row) -> Result<(), String> {
        let keys = self.store_keys();
        if *key == header_key() {
            let header =
                parse_header(&row.bytes).map_err(|_| "the header is damaged".to_owned())?;
            let ours = header.store_id == keys.store_id() && keys.proves(&header.check);
            return if ours { Ok(()) } else { Err("the header is another KEK's".to_owned()) };
        }
        if let Ok(tenant) = parse_anchor_key(key) {
            let opened = keys.unwrap_anchor(tenant, &row.bytes).map(drop);
            return opened.map_err(|_| format!("the anchor keys of {tenant} do not unwrap"));
        }
        let (tenant, id) = parse_dek_key(key).map_err(|_| "a row of no known kind".to_owned())?;
        let opened = split_state(&row.bytes).ok().and_then(|(state, wrapped)| {
            keys.unwrap_dek(tenant, id, state, wrapped).map(drop).ok()
        });
        opened.ok_or_else(|| format!("DEK {id} of {tenant} does not unwrap"))
    }

    /// Forgets the keys of these tenants. When it returns, the files that held
    /// them wrapped are unlinked: what was encrypted under them is lost for good.
    pub(super) async fn shred(&self, tenants: &[TenantId], floor: Floor) -> Result<(), StoreError> {
        let belongs = |key: &RowKey| {
            let owner =
                parse_anchor_key(key).or_else(|_| parse_dek_key(key).map(|(owner, _)| owner));
            owner.is_ok_and(|owner| tenants.contains(&owner))
        };
        self.destroy(belongs, floor).await
    }

    /// When it returns, the files that held these rows are unlinked.
    async fn destroy(
        &self,
        doomed: impl Fn(&RowKey) -> bool,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().await;
        let mut kept = rows.by_key.clone();
        kept.retain(|key, _| !doomed(key));
        let list = kept.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        self.store.replace_keyring(list, floor, self.seal()).await?;
        rows.by_key = kept;
        Ok(())
    }

    /// Draws a DEK for each of the first of `spaces`, to encrypt from now on; durable
    /// when it returns. Answers them, in that order: as many as fit one commit.
    pub(super) async fn rotate_deks(
        &self,
        spaces: &[TenantId],
        old: OldDeks,
        now: Timestamp,
        floor: Floor,
    ) -> Result<Vec<(TenantId, Dek)>, OpenError> {
        let mut rows = self.rows.lock().await;
        let keys = self.store_keys();
        let (mut new, mut drawn) = (Vec::new(), Vec::new());
        for space in spaces {
            if new.len() >= ROWS_AT_ONCE {
                break;
            }
            let mut highest = 0;
            for stored in deks_of(&keys, &rows.by_key, *space) {
                let StoredDek { key, state, dek } = stored?;
                highest = dek.id();
                if old.state(state) != state {
                    new.push((key.clone(), dek_row(&keys, *space, &dek, old.state(state))));
                }
            }
            let dek = Dek::generate(highest.saturating_add(1), now);
            new.push((dek_key(*space, dek.id()), dek_row(&keys, *space, &dek, DekState::Active)));
            drawn.push((*space, dek));
        }
        self.put_into(&mut rows, new, floor).await?;
        Ok(drawn)
    }

    /// The DEKs that are to leave, by whose they are.
    pub(super) async fn leaving(&self) -> BTreeMap<TenantId, Vec<u32>> {
        let rows = self.rows.lock().await;
        let leaving = rows.by_key.iter().filter(|(_, row)| is_leaving(row));
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (owner, id) in leaving.filter_map(|(key, _)| parse_dek_key(key).ok()) {
            found.entry(owner).or_default().push(id);
        }
        found
    }

    /// Destroys DEKs. When it returns, the files that held them wrapped are unlinked.
    pub(super) async fn drop_deks(
        &self,
        deks: &BTreeMap<TenantId, Vec<u32>>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let dropped = |key: &RowKey| {
            let dek = parse_dek_key(key);
            dek.is_ok_and(|(owner, id)| deks.get(&owner).is_some_and(|ids| ids.contains(&id)))
        };
        self.destroy(dropped, floor).await
    }

    /// The DEKs of a tenant or of [`SYSTEM`], from the oldest: id, state, and when it
    /// was made.
    pub(super) async fn deks(&self, space: TenantId) -> Result<Vec<DekAge>, OpenError> {
        let rows = self.rows.lock().await;
        let keys = self.store_keys();
        let age = |StoredDek { state, dek, .. }| (dek.id(), state, dek.made_on());
        deks_of(&keys, &rows.by_key, space).map(|stored| stored.map(age)).collect()
    }

    async fn put(
        &self,
        new: impl IntoIterator<Item = (RowKey, Vec<u8>)>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().await;
        self.put_into(&mut rows, new, floor).await
    }

    async fn put_into(
        &self,
        rows: &mut Rows,
        new: impl IntoIterator<Item = (RowKey, Vec<u8>)>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let version = rows.next_version;
        rows.next_version += 1;
        let new: Vec<_> =
            new.into_iter().map(|(key, bytes)| (key, Row { version, bytes })).collect();
        let put = |(key, row): &(RowKey, Row)| Change::Put { key: key.clone(), row: row.clone() };
        let seal: Arc<dyn LedgerSeal> = self.seal();
        let batch = Batch { changes: new.iter().map(put).collect(), floor, seal };
        self.store.commit(Space::Keyring, batch).await?;
        rows.by_key.extend(new);
        Ok(())
    }
}

fn wrapped_rows(
    keys: &StoreKeys,
    tenant: TenantId,
    dek: &Dek,
    anchor: &AnchorKeys,
) -> [(RowKey, Vec<u8>); 2] {
    [
        (dek_key(tenant, dek.id()), dek_row(keys, tenant, dek, DekState::Active)),
        (anchor_key(tenant), keys.wrap_anchor(tenant, anchor)),
    ]
}

/// The keys of `wanted` tenants and of the system, under another KEK; without the
/// header.
fn rewrapped(
    old: &StoreKeys,
    new: &StoreKeys,
    rows: &BTreeMap<RowKey, Row>,
    wanted: impl Fn(TenantId) -> bool,
) -> Result<Vec<(RowKey, Vec<u8>)>, OpenError> {
    let missing = || damaged("keys of a tenant");
    let mut out = Vec::with_capacity(rows.len());
    for (key, row) in rows {
        if let Ok(owner) = parse_anchor_key(key) {
            if owner == SYSTEM || wanted(owner) {
                let anchor = old.unwrap_anchor(owner, &row.bytes).map_err(|_| missing())?;
                out.push((key.clone(), new.wrap_anchor(owner, &anchor)));
            }
        } else if let Ok((owner, id)) = parse_dek_key(key)
            && (owner == SYSTEM || wanted(owner))
        {
            let (state, wrapped) = split_state(&row.bytes).map_err(|_| missing())?;
            let dek = old.unwrap_dek(owner, id, state, wrapped).map_err(|_| missing())?;
            out.push((key.clone(), dek_row(new, owner, &dek, state)));
        }
    }
    Ok(out)
}

/// A stored DEK.
struct StoredDek<'a> {
    key: &'a RowKey,
    state: DekState,
    dek: Dek,
}

/// A tenant's DEKs, from the oldest.
fn deks_of<'a>(
    keys: &'a StoreKeys,
    rows: &'a BTreeMap<RowKey, Row>,
    tenant: TenantId,
) -> impl Iterator<Item = Result<StoredDek<'a>, OpenError>> {
    let missing = || damaged("keys of a tenant");
    let rows = rows.range(dek_key(tenant, 0)..=dek_key(tenant, u32::MAX));
    rows.map(move |(key, row)| {
        let (_, id) = parse_dek_key(key).map_err(|_| missing())?;
        let (state, wrapped) = split_state(&row.bytes).map_err(|_| missing())?;
        let dek = keys.unwrap_dek(tenant, id, state, wrapped).map_err(|_| missing())?;
        Ok(StoredDek { key, state, dek })
    })
}

fn is_leaving(row: &Row) -> bool {
    split_state(&row.bytes).is_ok_and(|(state, _)| state == DekState::Leaving)
}

fn unwrapped(
    keys: &StoreKeys,
    rows: &BTreeMap<RowKey, Row>,
    tenant: TenantId,
) -> Result<SpaceKeys, OpenError> {
    let missing = || damaged("keys of a tenant");
    let anchor = rows.get(&anchor_key(tenant)).ok_or_else(missing)?;
    let anchor = keys.unwrap_anchor(tenant, &anchor.bytes).map_err(|_| missing())?;
    let (mut active, mut old) = (None, Vec::new());
    for stored in deks_of(keys, rows, tenant) {
        let StoredDek { state, dek, .. } = stored?;
        match state {
            DekState::Active => active = Some(dek),
            DekState::Retired | DekState::Leaving => old.push((dek, state)),
        }
    }
    Ok(SpaceKeys::new(DekSet::new(active.ok_or_else(missing)?, old), anchor))
}

/// The keyring of a store that is not open here: that of a backup.
pub(super) struct ForeignKeyring {
    keys: Arc<StoreKeys>,
    rows: BTreeMap<RowKey, Row>,
    ledger: Ledger,
}

impl ForeignKeyring {
    /// Proves the rows by their ledger.
    pub(super) fn prove(keys: Arc<StoreKeys>, export: Export) -> Result<Self, OpenError> {
        let ledger = export.prove(&SpaceSeal::Keyring(keys.clone()), "the keyring")?;
        Ok(Self { keys, rows: export.rows.into_iter().collect(), ledger })
    }

    pub(super) fn keys(&self, tenant: TenantId) -> Result<SpaceKeys, OpenError> {
        unwrapped(&self.keys, &self.rows, tenant)
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Makes it the keyring of `store`, wrapped anew under `kek`, with the keys of
    /// the system and of `tenants` alone. With this one act a store exists.
    pub(super) async fn settle(
        &self,
        store: Arc<dyn Store>,
        kek: &Kek,
        origin: KekOrigin,
        tenants: &HashSet<TenantId>,
        version: u64,
    ) -> Result<(), OpenError> {
        let new = Under::new(kek.for_store(self.keys.store_id()), Some(origin));
        let mut rows = vec![(header_key(), header(&new, Phase::Complete))];
        rows.extend(rewrapped(&self.keys, &new.keys, &self.rows, |id| tenants.contains(&id))?);
        let rows = rows.into_iter().map(|(key, bytes)| (key, Row { version, bytes })).collect();
        Ok(store.replace_keyring(rows, self.ledger.floor, new.seal).await?)
    }
}

fn header(under: &Under, phase: Phase) -> Vec<u8> {
    let Under { keys, origin, seal: _ } = under;
    let phase = match phase {
        Phase::Initializing => 0,
        Phase::Complete => 1,
    };
    let origin = origin.as_ref().map(KekOrigin::encode).unwrap_or_default();
    let head = [HEADER_FORMAT, phase];
    [&head, keys.store_id().as_bytes().as_slice(), &keys.check_value(), &origin].concat()
}

fn dek_row(keys: &StoreKeys, tenant: TenantId, dek: &Dek, state: DekState) -> Vec<u8> {
    [&[state.byte()], keys.wrap_dek(tenant, dek, state).as_slice()].concat()
}

fn split_state(bytes: &[u8]) -> Result<(DekState, &[u8]), Malformed> {
    let mut fields = Reader::new(bytes);
    let state = DekState::from_byte(fields.byte()?).ok_or(Malformed)?;
    Ok((state, fields.rest()))
}

pub(super) fn parse_header(bytes: &[u8]) -> Result<Header, Malformed> {
    let mut fields = Reader::new(bytes);
    let format = fields.byte()?;
    let phase = match fields.byte()? {
        0 => Phase::Initializing,
        1 => Phase::Complete,
        _ => return Err(Malformed),
    };
    let (store_id, check) = (StoreId::from_bytes(fields.array()?), fields.array()?);
    let origin = match format {
        1 => {
            fields.end()?;
            None
        }
        HEADER_FORMAT => Some(KekOrigin::decode(fields.rest()).map_err(|_| Malformed)?),
        _ => return Err(Malformed),
    };
    Ok(Header { phase, store_id, check, origin })
}

fn header_key() -> RowKey {
    RowKey::new(b"k".to_vec())
}

fn dek_key(tenant: TenantId, id: u32) -> RowKey {
    RowKey::new([b"d", tenant.as_bytes().as_slice(), &id.to_be_bytes()].concat())
}

fn parse_dek_key(key: &RowKey) -> Result<(TenantId, u32), Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    fields.format(b'd')?;
    let parsed = (TenantId::from_bytes(fields.array()?), fields.u32()?);
    fields.end()?;
    Ok(parsed)
}

fn anchor_key(tenant: TenantId) -> RowKey {
    RowKey::new([b"a", tenant.as_bytes().as_slice()].concat())
}

fn parse_anchor_key(key: &RowKey) -> Result<TenantId, Malformed> {
    let mut fields = Reader::new(key.as_bytes());
    fields.format(b'a')?;
    let tenant = TenantId::from_bytes(fields.array()?);
    fields.end()?;
    Ok(tenant)
}

fn damaged(what: &str) -> OpenError {
    OpenError::Store(StoreError::Corrupted { what: format!("the keyring ({what})") })
}
