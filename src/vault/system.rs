//! The system's own rows: which tenants there are, and the token roots.
//!
//! | row | holds, encrypted under the system's DEK |
//! | --- | --- |
//! | `t` ‖ HMAC(name) | a tenant: id, name, creation |
//! | `r` | the roots that sign tokens |
//! | `s` | when every tenant was last swept |
//!
//! Every row is bound to its key and version, and all are under the system's
//! ledger, which is checked at open: whoever can write the disk can neither
//! plant a root nor drop a tenant unseen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::codec::{self, Malformed, Reader};
use super::keyring::{SYSTEM, SpaceKeys};
use super::seal::SpaceSeal;
use super::{Export, OpenError};
use crate::auth::Roots;
use crate::crypto::{AnchorKeys, Binding, DekSet, Purpose};
use crate::domain::{Floor, TenantId, TenantName, Timestamp};
use crate::store::{Batch, Change, LedgerSeal, Row, RowKey, Space, Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TenantRecord {
    pub(super) id: TenantId,
    pub(super) name: TenantName,
    pub(super) created_on: Timestamp,
}

pub(super) struct System {
    store: Arc<dyn Store>,
    deks: DekSet,
    anchor: Arc<AnchorKeys>,
    seal: Arc<SpaceSeal>,
    next_version: AtomicU64,
}

/// What the system's rows say at open.
pub(super) struct SystemContents {
    pub(super) roots: Roots,
    pub(super) tenants: Vec<TenantRecord>,
    pub(super) last_sweep: Option<Timestamp>,
    pub(super) floor: Floor,
    pub(super) next_version: u64,
}

impl SystemContents {
    /// Proves the rows by their ledger, and decrypts them all.
    pub(super) fn prove(keys: &SpaceKeys, export: &Export) -> Result<Self, OpenError> {
        let seal = SpaceSeal::Anchor(keys.anchor.clone());
        let ledger = export.prove(&seal, "the system database")?;
        let (mut roots, mut last_sweep, mut tenants) = (None, None, Vec::new());
        for (key, row) in &export.rows {
            let plaintext = decrypt(&keys.deks, key, row)?;
            if *key == roots_key() {
                roots = Some(Roots::decode(&plaintext).map_err(|_| damaged("token roots"))?);
            } else if *key == sweep_key() {
                last_sweep = Some(decode_sweep(&plaintext).map_err(|_| damaged("last sweep"))?);
            } else {
                tenants.push(decode_tenant(&plaintext).map_err(|_| damaged("a tenant"))?);
            }
        }
        let roots = roots.ok_or_else(|| damaged("token roots"))?;
        let next_version = ledger.highest_version.saturating_add(1);
        Ok(Self { roots, tenants, last_sweep, floor: ledger.floor, next_version })
    }
}

impl System {
    fn new(store: Arc<dyn Store>, keys: SpaceKeys, next_version: u64) -> Self {
        let SpaceKeys { deks, anchor } = keys;
        let seal = Arc::new(SpaceSeal::Anchor(anchor.clone()));
        Self { store, deks, anchor, seal, next_version: AtomicU64::new(next_version) }
    }

    /// Writes the first rows of a new store, unless an interrupted `init` did.
    pub(super) async fn create(
        store: Arc<dyn Store>,
        keys: SpaceKeys,
        floor: Floor,
    ) -> Result<(), StoreError> {
        if store.ledger(Space::System).await?.is_some() {
            return Ok(());
        }
        let system = Self::new(store, keys, 1);
        let roots = Roots::generate();
        let row = system.encrypt(&roots_key(), &roots.encode());
        system.commit(vec![Change::Put { key: roots_key(), row }], floor).await
    }

    /// Checks the ledger and reads everything.
    pub(super) async fn open(
        store: Arc<dyn Store>,
        keys: SpaceKeys,
    ) -> Result<(Self, SystemContents), OpenError> {
        let export = Export::at_open(&*store, Space::System).await?;
        let contents = SystemContents::prove(&keys, &export)?;
        Ok((Self::new(store, keys, contents.next_version), contents))
    }

    /// A system whose rows were put into `store` as they were in another.
    pub(super) fn settled(store: Arc<dyn Store>, keys: SpaceKeys, next_version: u64) -> Self {
        Self::new(store, keys, next_version)
    }

    /// All rows as they are stored now, with their sealed ledger.
    pub(super) async fn export(&self) -> Result<Export, StoreError> {
        Export::of(&*self.store, Space::System).await
    }

    /// Ends every credential there is: each hangs on these rows.
    pub(super) async fn revoke_credentials(
        &self,
        roots: &Roots,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let row = self.encrypt(&roots_key(), &roots.replaced().encode());
        self.commit(vec![Change::Put { key: roots_key(), row }], floor).await
    }

    pub(super) fn seal(&self) -> &SpaceSeal {
        &self.seal
    }

    /// Whether a stored row decrypts and is of a known form, with a sentence where
    /// it is not.
    pub(super) fn examine(&self, key: &RowKey, row: &Row) -> Result<(), String> {
        let plaintext = self.decrypt(key, row).map_err(|_| "a row does not decrypt".to_owned())?;
        let known = if *key == roots_key() {
            Roots::decode(&plaintext).is_ok()
        } else if *key == sweep_key() {
            decode_sweep(&plaintext).is_ok()
        } else {
            decode_tenant(&plaintext).is_ok_and(|tenant| self.tenant_key(&tenant.name) == *key)
        };
        if known { Ok(()) } else { Err("a row is of no known form".to_owned()) }
    }

    /// Adds a tenant; [`StoreError::Conflict`] where the name is taken.
    pub(super) async fn add(&self, tenant: &TenantRecord, floor: Floor) -> Result<(), StoreError> {
        let key = self.tenant_key(&tenant.name);
        let row = self.encrypt(&key, &encode_tenant(tenant));
        let absent = Change::Expect { key: key.clone(), version: None };
        self.commit(vec![absent, Change::Put { key, row }], floor).await
    }

    /// The record of a name, as it is stored.
    pub(super) async fn find(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        let key = self.tenant_key(name);
        let Some(row) = self.store.get(Space::System, &key).await? else { return Ok(None) };
        let damaged = || StoreError::Corrupted { what: "the system database (a tenant)".into() };
        let plaintext = self.decrypt(&key, &row).map_err(|_| damaged())?;
        decode_tenant(&plaintext).map(Some).map_err(|_| damaged())
    }

    /// Removes a tenant's record: from then on it does not exist.
    pub(super) async fn forget(&self, name: &TenantName, floor: Floor) -> Result<(), StoreError> {
        self.commit(vec![Change::Delete { key: self.tenant_key(name) }], floor).await
    }

    pub(super) async fn record_sweep(&self, at: Timestamp, floor: Floor) -> Result<(), StoreError> {
        let plaintext = [[SWEEP_FORMAT].as_slice(), &at.unix_micros().to_be_bytes()].concat();
        let row = self.encrypt(&sweep_key(), &plaintext);
        self.commit(vec![Change::Put { key: sweep_key(), row }], floor).await
    }

    /// Persists a floor and nothing else: the ledger keeps it.
    pub(super) async fn persist_floor(&self, floor: Floor) -> Result<(), StoreError> {
        self.commit(Vec::new(), floor).await
    }

    async fn commit(&self, changes: Vec<Change>, floor: Floor) -> Result<(), StoreError> {
        let seal: Arc<dyn LedgerSeal> = self.seal.clone();
        self.store.commit(Space::System, Batch { changes, floor, seal }).await
    }

    fn tenant_key(&self, name: &TenantName) -> RowKey {
        let locator = self.anchor.index().locate(name.as_str().as_bytes());
        RowKey::new([b"t".as_slice(), &locator].concat())
    }

    fn encrypt(&self, key: &RowKey, plaintext: &[u8]) -> Row {
        let version = self.next_version.fetch_add(1, Ordering::Relaxed);
        Row { version, bytes: self.deks.encrypt(&binding(key, version), plaintext) }
    }

    fn decrypt(&self, key: &RowKey, row: &Row) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        decrypt(&self.deks, key, row)
    }
}

fn decrypt(deks: &DekSet, key: &RowKey, row: &Row) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    deks.decrypt(&binding(key, row.version), &row.bytes).map_err(|_| damaged("a row"))
}

fn binding(key: &RowKey, version: u64) -> Binding<'_> {
    Binding { purpose: Purpose::System, tenant: SYSTEM, name: key.as_bytes(), version }
}

fn roots_key() -> RowKey {
    RowKey::new(b"r".to_vec())
}

fn sweep_key() -> RowKey {
    RowKey::new(b"s".to_vec())
}

const SWEEP_FORMAT: u8 = 1;

pub(super) fn decode_sweep(bytes: &[u8]) -> Result<Timestamp, Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(SWEEP_FORMAT)?;
    let at = fields.timestamp()?;
    fields.end()?;
    Ok(at)
}

const TENANT_FORMAT: u8 = 1;

pub(super) fn encode_tenant(tenant: &TenantRecord) -> Vec<u8> {
    let TenantRecord { id, name, created_on } = tenant;
    let mut out = vec![TENANT_FORMAT];
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&created_on.unix_micros().to_be_bytes());
    codec::put_short_text(&mut out, name.as_str());
    out
}

pub(super) fn decode_tenant(bytes: &[u8]) -> Result<TenantRecord, Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(TENANT_FORMAT)?;
    let (id, created_on) = (TenantId::from_bytes(fields.array()?), fields.timestamp()?);
    let name = TenantName::parse(fields.short_text()?).map_err(|_| Malformed)?;
    fields.end()?;
    Ok(TenantRecord { id, name, created_on })
}

fn damaged(part: &str) -> OpenError {
    OpenError::Store(StoreError::Corrupted { what: format!("the system database ({part})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_record_survives_its_encoding() {
        let tenant = TenantRecord {
            id: TenantId::from_bytes([9; 16]),
            name: TenantName::parse("acme").unwrap(),
            created_on: Timestamp::from_unix_micros(1_234_567),
        };
        let encoded = encode_tenant(&tenant);
        assert_eq!(decode_tenant(&encoded), Ok(tenant));
        for length in 0..encoded.len() {
            assert_eq!(decode_tenant(&encoded[..length]), Err(Malformed));
        }
    }
}
