//! The keyring: which KEK this store belongs to, and each tenant's wrapped keys.
//!
//! | row | holds |
//! | --- | --- |
//! | `k` | format, phase, store id, the KEK's check value; not encrypted |
//! | `d` ‖ tenant id ‖ DEK id (4) | state, the wrapped DEK |
//! | `a` ‖ tenant id | the wrapped anchor keys |
//!
//! All rows are under the keyring's ledger, so that whoever can write the disk
//! cannot swap the header or drop a key unseen.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::codec::{Malformed, Reader};
use super::seal::SpaceSeal;
use super::{Export, OpenError};
use crate::crypto::{AnchorKeys, Dek, DekSet, DekState, Kek, StoreId, StoreKeys};
use crate::domain::{Floor, TenantId};
use crate::store::{Batch, Change, Ledger, LedgerSeal, Row, RowKey, Space, Store, StoreError};

/// In the place of a tenant's id: the system's own keys.
pub(super) const SYSTEM: TenantId = TenantId::from_bytes([0; 16]);

/// The keys of one tenant, or of the system.
#[derive(Debug)]
pub(super) struct SpaceKeys {
    pub(super) deks: DekSet,
    pub(super) anchor: Arc<AnchorKeys>,
}

/// How far `init` came. The system's rows are written between the two, so that
/// a store without them is told from one that lost them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Initializing,
    Complete,
}

pub(super) struct Keyring {
    store: Arc<dyn Store>,
    keys: Arc<StoreKeys>,
    seal: Arc<SpaceSeal>,
    /// The rows as stored; writers hold the lock throughout.
    rows: tokio::sync::Mutex<Rows>,
}

struct Rows {
    by_key: BTreeMap<RowKey, Row>,
    next_version: u64,
}

const HEADER_FORMAT: u8 = 1;

impl Keyring {
    /// How far the making of this store came, by its header; `None` where it was
    /// never begun. Nothing proves the header yet.
    pub(super) async fn phase(store: &dyn Store) -> Result<Option<Phase>, OpenError> {
        let Some(header) = store.get(Space::Keyring, &header_key()).await? else {
            return Ok(None);
        };
        let (phase, ..) = parse_header(&header.bytes).map_err(|_| damaged("header"))?;
        Ok(Some(phase))
    }

    /// Begins a new store under `kek`, with keys for the system.
    pub(super) async fn create(store: Arc<dyn Store>, kek: &Kek) -> Result<Self, OpenError> {
        let keys = Arc::new(kek.for_store(StoreId::generate()));
        let seal = Arc::new(SpaceSeal::Keyring(keys.clone()));
        let rows = tokio::sync::Mutex::new(Rows { by_key: BTreeMap::new(), next_version: 1 });
        let keyring = Self { store, keys, seal, rows };
        let header = (header_key(), header(&keyring.keys, Phase::Initializing));
        let system = keyring.wrapped_rows(SYSTEM, &Dek::generate(1), &AnchorKeys::generate(SYSTEM));
        keyring.put([header].into_iter().chain(system), Floor::START).await?;
        Ok(keyring)
    }

    /// Opens a store's keyring: proves the KEK, then checks every row against
    /// the ledger.
    pub(super) async fn open(store: Arc<dyn Store>, kek: &Kek) -> Result<(Self, Phase), OpenError> {
        let header = store.get(Space::Keyring, &header_key()).await?;
        let header = header.ok_or(OpenError::NotInitialized)?;
        let (phase, id, check) = parse_header(&header.bytes).map_err(|_| damaged("header"))?;
        let keys = Arc::new(kek.for_store(id));
        if !keys.proves(&check) {
            return Err(OpenError::WrongKek);
        }
        let seal = Arc::new(SpaceSeal::Keyring(keys.clone()));
        let export = Export::at_open(&*store, Space::Keyring).await?;
        let ledger = export.prove(&*seal, "the keyring")?;
        let rows = Rows {
            by_key: export.rows.into_iter().collect(),
            next_version: ledger.highest_version.saturating_add(1),
        };
        Ok((Self { store, keys, seal, rows: tokio::sync::Mutex::new(rows) }, phase))
    }

    /// Marks the store complete: from now on missing system rows are a loss.
    pub(super) async fn complete(&self) -> Result<(), StoreError> {
        self.put([(header_key(), header(&self.keys, Phase::Complete))], Floor::START).await
    }

    /// Draws keys for a tenant and stores them wrapped; durable when it returns.
    pub(super) async fn create_keys(
        &self,
        tenant: TenantId,
        floor: Floor,
    ) -> Result<SpaceKeys, StoreError> {
        let (dek, anchor) = (Dek::generate(1), AnchorKeys::generate(tenant));
        self.put(self.wrapped_rows(tenant, &dek, &anchor), floor).await?;
        Ok(SpaceKeys { deks: DekSet::new(dek, Vec::new()), anchor: Arc::new(anchor) })
    }

    /// Unwraps the keys of a tenant, or of [`SYSTEM`].
    pub(super) async fn keys(&self, tenant: TenantId) -> Result<SpaceKeys, OpenError> {
        unwrapped(&self.keys, &self.rows.lock().await.by_key, tenant)
    }

    /// What the KEK is for this store.
    pub(super) fn store_keys(&self) -> &Arc<StoreKeys> {
        &self.keys
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

    pub(super) fn seal(&self) -> &SpaceSeal {
        &self.seal
    }

    /// Whether a stored row is of a known form and its key unwraps, with a
    /// sentence where it does not.
    pub(super) fn examine(&self, key: &RowKey, row: &Row) -> Result<(), String> {
        if *key == header_key() {
            let (.., id, check) =
                parse_header(&row.bytes).map_err(|_| "the header is damaged".to_owned())?;
            let ours = id == self.keys.store_id() && self.keys.proves(&check);
            return if ours { Ok(()) } else { Err("the header is another KEK's".to_owned()) };
        }
        if let Ok(tenant) = parse_anchor_key(key) {
            let opened = self.keys.unwrap_anchor(tenant, &row.bytes).map(drop);
            return opened.map_err(|_| format!("the anchor keys of {tenant} do not unwrap"));
        }
        let (tenant, id) = parse_dek_key(key).map_err(|_| "a row of no known kind".to_owned())?;
        let opened = split_state(&row.bytes).ok().and_then(|(state, wrapped)| {
            self.keys.unwrap_dek(tenant, id, state, wrapped).map(drop).ok()
        });
        opened.ok_or_else(|| format!("DEK {id} of {tenant} does not unwrap"))
    }

    /// Forgets the keys of these tenants. When it returns, the files that held
    /// them wrapped are unlinked: what was encrypted under them is lost for good.
    pub(super) async fn shred(&self, tenants: &[TenantId], floor: Floor) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().await;
        let belongs = |key: &RowKey| {
            let owner =
                parse_anchor_key(key).or_else(|_| parse_dek_key(key).map(|(owner, _)| owner));
            owner.is_ok_and(|owner| tenants.contains(&owner))
        };
        let mut kept = rows.by_key.clone();
        kept.retain(|key, _| !belongs(key));
        let list = kept.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        self.store.replace_keyring(list, floor, self.seal.clone()).await?;
        rows.by_key = kept;
        Ok(())
    }

    async fn put(
        &self,
        new: impl IntoIterator<Item = (RowKey, Vec<u8>)>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().await;
        let version = rows.next_version;
        rows.next_version += 1;
        let new: Vec<_> =
            new.into_iter().map(|(key, bytes)| (key, Row { version, bytes })).collect();
        let put = |(key, row): &(RowKey, Row)| Change::Put { key: key.clone(), row: row.clone() };
        let seal: Arc<dyn LedgerSeal> = self.seal.clone();
        let batch = Batch { changes: new.iter().map(put).collect(), floor, seal };
        self.store.commit(Space::Keyring, batch).await?;
        rows.by_key.extend(new);
        Ok(())
    }

    fn wrapped_rows(
        &self,
        tenant: TenantId,
        dek: &Dek,
        anchor: &AnchorKeys,
    ) -> [(RowKey, Vec<u8>); 2] {
        [
            (dek_key(tenant, dek.id()), dek_row(&self.keys, tenant, dek, DekState::Active)),
            (anchor_key(tenant), self.keys.wrap_anchor(tenant, anchor)),
        ]
    }
}

fn unwrapped(
    keys: &StoreKeys,
    rows: &BTreeMap<RowKey, Row>,
    tenant: TenantId,
) -> Result<SpaceKeys, OpenError> {
    let missing = || damaged("keys of a tenant");
    let anchor = rows.get(&anchor_key(tenant)).ok_or_else(missing)?;
    let anchor = keys.unwrap_anchor(tenant, &anchor.bytes).map_err(|_| missing())?;
    let (mut active, mut retired) = (None, Vec::new());
    for (key, row) in rows.range(dek_key(tenant, 0)..=dek_key(tenant, u32::MAX)) {
        let (_, id) = parse_dek_key(key).map_err(|_| missing())?;
        let (state, wrapped) = split_state(&row.bytes).map_err(|_| missing())?;
        let dek = keys.unwrap_dek(tenant, id, state, wrapped).map_err(|_| missing())?;
        match state {
            DekState::Active => active = Some(dek),
            DekState::Retired => retired.push(dek),
        }
    }
    let deks = DekSet::new(active.ok_or_else(missing)?, retired);
    Ok(SpaceKeys { deks, anchor: Arc::new(anchor) })
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
        tenants: &HashSet<TenantId>,
        version: u64,
    ) -> Result<(), OpenError> {
        let (keys, floor) = (Arc::new(kek.for_store(self.keys.store_id())), self.ledger.floor);
        let mut rows = vec![(header_key(), header(&keys, Phase::Complete))];
        for (key, row) in &self.rows {
            if let Ok(owner) = parse_anchor_key(key) {
                if owner == SYSTEM || tenants.contains(&owner) {
                    let anchor = self.keys.unwrap_anchor(owner, &row.bytes);
                    let anchor = anchor.map_err(|_| damaged("keys of a tenant"))?;
                    rows.push((key.clone(), keys.wrap_anchor(owner, &anchor)));
                }
            } else if let Ok((owner, id)) = parse_dek_key(key)
                && (owner == SYSTEM || tenants.contains(&owner))
            {
                let missing = || damaged("keys of a tenant");
                let (state, wrapped) = split_state(&row.bytes).map_err(|_| missing())?;
                let dek = self.keys.unwrap_dek(owner, id, state, wrapped).map_err(|_| missing())?;
                rows.push((key.clone(), dek_row(&keys, owner, &dek, state)));
            }
        }
        let rows = rows.into_iter().map(|(key, bytes)| (key, Row { version, bytes })).collect();
        let seal = Arc::new(SpaceSeal::Keyring(keys));
        Ok(store.replace_keyring(rows, floor, seal).await?)
    }
}

fn header(keys: &StoreKeys, phase: Phase) -> Vec<u8> {
    let phase = match phase {
        Phase::Initializing => 0,
        Phase::Complete => 1,
    };
    let head = [HEADER_FORMAT, phase];
    [&head, keys.store_id().as_bytes().as_slice(), &keys.check_value()].concat()
}

fn dek_row(keys: &StoreKeys, tenant: TenantId, dek: &Dek, state: DekState) -> Vec<u8> {
    [&[state.byte()], keys.wrap_dek(tenant, dek, state).as_slice()].concat()
}

fn split_state(bytes: &[u8]) -> Result<(DekState, &[u8]), Malformed> {
    let mut fields = Reader::new(bytes);
    let state = DekState::from_byte(fields.byte()?).ok_or(Malformed)?;
    Ok((state, fields.rest()))
}

pub(super) fn parse_header(bytes: &[u8]) -> Result<(Phase, StoreId, [u8; 32]), Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(HEADER_FORMAT)?;
    let phase = match fields.byte()? {
        0 => Phase::Initializing,
        1 => Phase::Complete,
        _ => return Err(Malformed),
    };
    let (id, check) = (StoreId::from_bytes(fields.array()?), fields.array()?);
    fields.end()?;
    Ok((phase, id, check))
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
