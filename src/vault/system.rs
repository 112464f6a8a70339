//! The system's own rows: which tenants there are, and what decides over
//! credentials.
//!
//! | row | holds, encrypted under the system's DEK |
//! | --- | --- |
//! | `t` ‖ HMAC(name) | a tenant: id, name, creation, limits of its own |
//! | `a` ‖ HMAC(id) | an API key: whose, what it may do, and its tag |
//! | `v` ‖ HMAC(target) | a revocation |
//! | `r` | the roots that sign tokens |
//! | `s` | when every tenant was last swept |
//! | `n` ‖ HMAC(tenant id) | up to when notices of a tenant were told |
//! | `k` | the key that signs checkpoints of the audit |
//! | `c` | which checkpoint of the audit is the newest |
//! | `w` | while a server serves, since when |
//!
//! Every row is bound to its key and version, and all are under the system's
//! ledger, which is checked at open: whoever can write the disk can neither
//! plant a root or a key nor drop a tenant or a revocation unseen. A row of a kind
//! that is not known here is damage: a later version's may be a revocation.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::audit::{self, Growth, LastCheckpoint};
use super::codec::{self, Malformed, Reader};
use super::credential_rows::{self, StoredApiKey};
use super::keyring::{SYSTEM, SpaceKeys};
use super::notices::Told;
use super::seal::SpaceSeal;
use super::{Export, OpenError};
use crate::api::audit::AuditEntry;
use crate::auth::{ApiKey, ApiKeyId, Revocation, RevocationTarget, Roots};
use crate::crypto::{AuditSigner, Binding, Purpose};
use crate::domain::{Bound, Floor, OwnLimits, TenantId, TenantName, Timestamp};
use crate::store::{Batch, Change, LedgerSeal, Row, RowKey, Space, Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TenantRecord {
    pub(super) id: TenantId,
    pub(super) name: TenantName,
    pub(super) created_on: Timestamp,
    pub(super) limits: OwnLimits,
}

pub(super) struct System {
    store: Arc<dyn Store>,
    keys: SpaceKeys,
    seal: Arc<SpaceSeal>,
    next_version: AtomicU64,
    /// Held, shared, from before something is encrypted until it is stored, and alone
    /// to know that nothing under way is under a DEK of before.
    writing: tokio::sync::RwLock<()>,
    pub(super) growth: Growth,
}

/// What the system's rows say at open.
pub(super) struct SystemContents {
    pub(super) roots: Roots,
    pub(super) tenants: Vec<TenantRecord>,
    pub(super) api_keys: Vec<StoredApiKey>,
    pub(super) revocations: Vec<(RevocationTarget, Revocation)>,
    pub(super) last_sweep: Option<Timestamp>,
    pub(super) told: HashMap<TenantId, Told>,
    pub(super) audit_signer: Option<AuditSigner>,
    pub(super) last_checkpoint: Option<LastCheckpoint>,
    /// Since when somebody serves who has not ended in good order.
    pub(super) served_since: Option<Timestamp>,
    pub(super) floor: Floor,
    pub(super) next_version: u64,
}

impl SystemContents {
    /// Proves the rows by their ledger, and decrypts them all.
    pub(super) fn prove(keys: &SpaceKeys, export: &Export) -> Result<Self, OpenError> {
        let seal = SpaceSeal::Anchor(keys.anchor.clone());
        let ledger = export.prove(&seal, "the system database")?;
        let (mut roots, mut last_sweep, mut tenants) = (None, None, Vec::new());
        let (mut api_keys, mut revocations) = (Vec::new(), Vec::new());
        let (mut told, mut served_since) = (HashMap::new(), None);
        let (mut audit_signer, mut last_checkpoint) = (None, None);
        for (key, row) in &export.rows {
            match Record::read(key, &decrypt(keys, key, row)?)? {
                Record::Tenant(tenant) => tenants.push(tenant),
                Record::ApiKey(api_key) => api_keys.push(api_key),
                Record::Revocation(target, said) => revocations.push((target, said)),
                Record::Roots(all) => roots = Some(all),
                Record::Sweep(at) => last_sweep = Some(at),
                Record::Told(tenant, up_to) => drop(told.insert(tenant, up_to)),
                Record::AuditSigner(signer) => audit_signer = Some(signer),
                Record::LastCheckpoint(last) => last_checkpoint = Some(last),
                Record::Service(since) => served_since = Some(since),
            }
        }
        let roots = roots.ok_or_else(|| damaged("token roots"))?;
        let next_version = ledger.highest_version.saturating_add(1);
        let floor = ledger.floor;
        Ok(Self {
            roots,
            tenants,
            api_keys,
            revocations,
            last_sweep,
            told,
            audit_signer,
            last_checkpoint,
            served_since,
            floor,
            next_version,
        })
    }
}

/// A row's contents, by the kind that its key says.
enum Record {
    Tenant(TenantRecord),
    ApiKey(StoredApiKey),
    Revocation(RevocationTarget, Revocation),
    Roots(Roots),
    Sweep(Timestamp),
    Told(TenantId, Told),
    AuditSigner(AuditSigner),
    LastCheckpoint(LastCheckpoint),
    Service(Timestamp),
}

impl Record {
    fn read(key: &RowKey, plaintext: &[u8]) -> Result<Self, OpenError> {
        match key.as_bytes() {
            ROOTS => Roots::decode(plaintext).map(Self::Roots).map_err(|_| damaged("token roots")),
            SERVICE => {
                decode_service(plaintext).map(Self::Service).map_err(|_| damaged("the service"))
            }
            SWEEP => decode_sweep(plaintext).map(Self::Sweep).map_err(|_| damaged("last sweep")),
            AUDIT_SIGNER => {
                let read = decode_audit_signer(plaintext).map(Self::AuditSigner);
                read.map_err(|_| damaged("the audit's key"))
            }
            LAST_CHECKPOINT => {
                let read = LastCheckpoint::decode(plaintext).map(Self::LastCheckpoint);
                read.map_err(|_| damaged("the audit's last checkpoint"))
            }
            [TENANT, ..] => {
                decode_tenant(plaintext).map(Self::Tenant).map_err(|_| damaged("a tenant"))
            }
            [TOLD, ..] => {
                let read = decode_told(plaintext).map_err(|_| damaged("what was told"));
                read.map(|(tenant, told)| Self::Told(tenant, told))
            }
            [API_KEY, ..] => {
                let read = credential_rows::decode_api_key(plaintext).map(Self::ApiKey);
                read.map_err(|_| damaged("an API key"))
            }
            [REVOCATION, ..] => {
                let read = credential_rows::decode_revocation(plaintext);
                let (target, said) = read.map_err(|_| damaged("a revocation"))?;
                Ok(Self::Revocation(target, said))
            }
            _ => Err(damaged("a row of no known kind")),
        }
    }
}

/// One change to what decides over credentials. The first of several tells
/// whether all of them were made.
pub(super) enum CredentialChange<'a> {
    Roots(&'a Roots),
    PutApiKey(&'a ApiKey, Option<Timestamp>),
    DropApiKey(ApiKeyId),
    PutRevocation(&'a RevocationTarget, &'a Revocation),
    DropRevocation(&'a RevocationTarget),
}

impl System {
    fn new(store: Arc<dyn Store>, keys: SpaceKeys, next_version: u64) -> Self {
        let seal = Arc::new(SpaceSeal::Anchor(keys.anchor.clone()));
        let (next_version, writing) = (AtomicU64::new(next_version), Default::default());
        Self { store, keys, seal, next_version, writing, growth: Growth::unseen() }
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
        let roots = Change::Put { key: roots_key(), row };
        let signer = system.put_audit_signer(&AuditSigner::generate());
        system.commit(vec![roots, signer], floor).await
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

    /// All or none of them. Where the outcome is unknown, it looks.
    pub(super) async fn change_credentials(
        &self,
        changes: &[CredentialChange<'_>],
        floor: Floor,
        said: &[AuditEntry],
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let changes = changes.iter().map(|change| self.credential_change(change));
        let changes: Vec<_> = changes.chain(audit::appending(said)).collect();
        let first = changes.first().cloned();
        let committed = self.commit(changes, floor).await;
        match (&committed, first) {
            (Err(StoreError::Unknown), Some(first)) if self.was_made(&first).await => Ok(()),
            _ => committed,
        }
    }

    fn credential_change(&self, change: &CredentialChange<'_>) -> Change {
        let put = |key: RowKey, plaintext: &[u8]| {
            let row = self.encrypt(&key, plaintext);
            Change::Put { key, row }
        };
        match change {
            CredentialChange::Roots(roots) => put(roots_key(), &roots.encode()),
            CredentialChange::PutApiKey(key, last_used) => {
                put(self.api_key_key(key.id), &credential_rows::encode_api_key(key, *last_used))
            }
            CredentialChange::DropApiKey(id) => Change::Delete { key: self.api_key_key(*id) },
            CredentialChange::PutRevocation(target, said) => {
                let plaintext = credential_rows::encode_revocation(target, said);
                put(self.revocation_key(target), &plaintext)
            }
            CredentialChange::DropRevocation(target) => {
                Change::Delete { key: self.revocation_key(target) }
            }
        }
    }

    async fn was_made(&self, change: &Change) -> bool {
        match change {
            Change::Put { key, row } => {
                let found = self.store.get(Space::System, key).await;
                found.is_ok_and(|found| found.is_some_and(|found| found.version == row.version))
            }
            Change::Delete { key } => self.store.get(Space::System, key).await == Ok(None),
            Change::Expect { .. } | Change::Append(_) | Change::Forget { .. } => false,
        }
    }

    pub(super) fn seal(&self) -> &SpaceSeal {
        &self.seal
    }

    pub(super) fn keys(&self) -> &SpaceKeys {
        &self.keys
    }

    /// Encrypts anew what is under a DEK that leaves; durable when it returns. A row
    /// keeps its version: it says the same.
    pub(super) async fn reencrypt(&self, floor: Floor) -> Result<(), StoreError> {
        // What was encrypted under a DEK of before is stored now.
        drop(self.writing.write().await);
        let export = self.export().await?;
        let leaving = |row: &Row| self.keys.deks().is_leaving(&row.bytes);
        for (key, row) in export.rows.iter().filter(|(_, row)| leaving(row)) {
            let damaged = || StoreError::Corrupted { what: "the system database (a row)".into() };
            let plaintext = self.decrypt(key, row).map_err(|_| damaged())?;
            let version = row.version;
            let bytes = self.keys.deks().encrypt(&binding(key, version), &plaintext);
            let expected = Change::Expect { key: key.clone(), version: Some(version) };
            let put = Change::Put { key: key.clone(), row: Row { version, bytes } };
            match self.commit(vec![expected, put], floor).await {
                // Replaced or removed meanwhile: what is there is under the newest DEK.
                Ok(()) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a stored row decrypts and is of a known form, with a sentence where
    /// it is not.
    pub(super) fn examine(&self, key: &RowKey, row: &Row) -> Result<(), String> {
        let plaintext = self.decrypt(key, row).map_err(|_| "a row does not decrypt".to_owned())?;
        let known = Record::read(key, &plaintext).is_ok_and(|record| match record {
            Record::Tenant(tenant) => self.tenant_key(&tenant.name) == *key,
            Record::ApiKey((api_key, _)) => self.api_key_key(api_key.id) == *key,
            Record::Revocation(target, _) => self.revocation_key(&target) == *key,
            Record::Told(tenant, _) => self.told_key(tenant) == *key,
            Record::Roots(_)
            | Record::Sweep(_)
            | Record::AuditSigner(_)
            | Record::LastCheckpoint(_)
            | Record::Service(_) => true,
        });
        if known { Ok(()) } else { Err("a row is of no known form".to_owned()) }
    }

    /// Adds a tenant; [`StoreError::Conflict`] where the name is taken.
    pub(super) async fn add(
        &self,
        tenant: &TenantRecord,
        floor: Floor,
        said: AuditEntry,
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let key = self.tenant_key(&tenant.name);
        let row = self.encrypt(&key, &encode_tenant(tenant));
        let absent = Change::Expect { key: key.clone(), version: None };
        let mut changes = vec![absent, Change::Put { key, row }];
        changes.extend(audit::appending(&[said]));
        self.commit(changes, floor).await
    }

    /// Replaces a tenant's record. Where the outcome is unknown, it looks. The caller
    /// knows that it exists, and that nobody else changes it.
    pub(super) async fn replace(
        &self,
        tenant: &TenantRecord,
        floor: Floor,
        said: &[AuditEntry],
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let key = self.tenant_key(&tenant.name);
        let row = self.encrypt(&key, &encode_tenant(tenant));
        let put = Change::Put { key, row };
        let mut changes = vec![put.clone()];
        changes.extend(audit::appending(said));
        match self.commit(changes, floor).await {
            Err(StoreError::Unknown) if self.was_made(&put).await => Ok(()),
            outcome => outcome,
        }
    }

    /// The record of a name, as it is stored.
    pub(super) async fn find(&self, name: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        let key = self.tenant_key(name);
        let Some(row) = self.store.get(Space::System, &key).await? else { return Ok(None) };
        let damaged = || StoreError::Corrupted { what: "the system database (a tenant)".into() };
        let plaintext = self.decrypt(&key, &row).map_err(|_| damaged())?;
        decode_tenant(&plaintext).map(Some).map_err(|_| damaged())
    }

    /// Removes a tenant's record, and what goes with it: from then on it does not
    /// exist.
    pub(super) async fn forget(
        &self,
        (name, id): (&TenantName, TenantId),
        with: &[CredentialChange<'_>],
        floor: Floor,
        said: &[AuditEntry],
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let mut changes = vec![
            Change::Delete { key: self.tenant_key(name) },
            Change::Delete { key: self.told_key(id) },
        ];
        changes.extend(with.iter().map(|change| self.credential_change(change)));
        changes.extend(audit::appending(said));
        self.commit(changes, floor).await
    }

    pub(super) async fn record_sweep(&self, at: Timestamp, floor: Floor) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let plaintext = [[SWEEP_FORMAT].as_slice(), &at.unix_micros().to_be_bytes()].concat();
        let row = self.encrypt(&sweep_key(), &plaintext);
        self.commit(vec![Change::Put { key: sweep_key(), row }], floor).await
    }

    /// Remembers up to when notices of a tenant were told.
    pub(super) async fn record_told(
        &self,
        tenant: TenantId,
        told: Told,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let key = self.told_key(tenant);
        let row = self.encrypt(&key, &encode_told(tenant, told));
        self.commit(vec![Change::Put { key, row }], floor).await
    }

    /// Remembers that somebody serves, which is true until [`System::leave_service`].
    pub(super) async fn enter_service(
        &self,
        since: Timestamp,
        floor: Floor,
        said: &[AuditEntry],
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let row = self.encrypt(&service_key(), &encode_service(since));
        let mut changes = vec![Change::Put { key: service_key(), row }];
        changes.extend(audit::appending(said));
        self.commit(changes, floor).await
    }

    pub(super) async fn leave_service(&self, floor: Floor) -> Result<(), StoreError> {
        self.commit(vec![Change::Delete { key: service_key() }], floor).await
    }

    /// Persists a floor and nothing else: the ledger keeps it.
    pub(super) async fn persist_floor(&self, floor: Floor) -> Result<(), StoreError> {
        self.commit(Vec::new(), floor).await
    }

    /// Appends to the audit, and persists a floor with it.
    pub(super) async fn record(&self, said: &[AuditEntry], floor: Floor) -> Result<(), StoreError> {
        self.commit(audit::appending(said).into_iter().collect(), floor).await
    }

    /// The key of the audit as it is stored now.
    pub(super) async fn audit_signer(&self) -> Result<Option<AuditSigner>, StoreError> {
        let plaintext = self.stored(AUDIT_SIGNER).await?;
        let read = plaintext.map(|plaintext| decode_audit_signer(&plaintext)).transpose();
        read.map_err(|_| StoreError::Corrupted { what: "the key of the audit".to_owned() })
    }

    /// Makes it a store from before there was one.
    #[cfg(test)]
    pub(super) async fn forget_audit_signer(&self) {
        let key = RowKey::new(AUDIT_SIGNER.to_vec());
        self.commit(vec![Change::Delete { key }], Floor::START).await.unwrap();
    }

    /// Gives a store from before there was one its key.
    pub(super) async fn add_audit_signer(
        &self,
        signer: &AuditSigner,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        self.commit(vec![self.put_audit_signer(signer)], floor).await
    }

    fn put_audit_signer(&self, signer: &AuditSigner) -> Change {
        let key = RowKey::new(AUDIT_SIGNER.to_vec());
        let row = self.encrypt(&key, &encode_audit_signer(signer));
        Change::Put { key, row }
    }

    /// The newest checkpoint as it is stored now.
    pub(super) async fn last_checkpoint(&self) -> Result<Option<LastCheckpoint>, StoreError> {
        let plaintext = self.stored(LAST_CHECKPOINT).await?;
        let read = plaintext.map(|plaintext| LastCheckpoint::decode(&plaintext)).transpose();
        read.map_err(|_| StoreError::Corrupted { what: "the last checkpoint".to_owned() })
    }

    /// Appends a checkpoint, and remembers it as the newest.
    pub(super) async fn append_checkpoint(
        &self,
        mut blocks: Vec<Change>,
        last: &LastCheckpoint,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let _writing = self.writing.read().await;
        let key = RowKey::new(LAST_CHECKPOINT.to_vec());
        let row = self.encrypt(&key, &last.encode());
        blocks.push(Change::Put { key, row });
        self.commit_rows(blocks, floor).await
    }

    async fn stored(&self, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let key = RowKey::new(key.to_vec());
        let Some(row) = self.store.get(Space::System, &key).await? else { return Ok(None) };
        self.decrypt(&key, &row).map(Some).map_err(OpenError::into_store_error)
    }

    pub(super) async fn commit(
        &self,
        changes: Vec<Change>,
        floor: Floor,
    ) -> Result<(), StoreError> {
        let appends = changes.iter().any(|change| matches!(change, Change::Append(_)));
        let outcome = self.commit_rows(changes, floor).await;
        if appends {
            self.growth.note();
        }
        outcome
    }

    async fn commit_rows(&self, changes: Vec<Change>, floor: Floor) -> Result<(), StoreError> {
        let seal: Arc<dyn LedgerSeal> = self.seal.clone();
        self.store.commit(Space::System, Batch { changes, floor, seal }).await
    }

    fn tenant_key(&self, name: &TenantName) -> RowKey {
        self.located(TENANT, name.as_str().as_bytes())
    }

    fn api_key_key(&self, id: ApiKeyId) -> RowKey {
        self.located(API_KEY, id.as_bytes())
    }

    fn revocation_key(&self, target: &RevocationTarget) -> RowKey {
        self.located(REVOCATION, &credential_rows::encode_target(target))
    }

    fn told_key(&self, tenant: TenantId) -> RowKey {
        self.located(TOLD, tenant.as_bytes())
    }

    fn located(&self, kind: u8, name: &[u8]) -> RowKey {
        let locator = self.keys.anchor.index().locate(name);
        RowKey::new([&[kind], locator.as_slice()].concat())
    }

    fn encrypt(&self, key: &RowKey, plaintext: &[u8]) -> Row {
        let version = self.next_version.fetch_add(1, Ordering::Relaxed);
        Row { version, bytes: self.keys.deks().encrypt(&binding(key, version), plaintext) }
    }

    fn decrypt(&self, key: &RowKey, row: &Row) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        decrypt(&self.keys, key, row)
    }
}

fn decrypt(keys: &SpaceKeys, key: &RowKey, row: &Row) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let decrypted = keys.deks().decrypt(&binding(key, row.version), &row.bytes);
    decrypted.map_err(|_| damaged("a row"))
}

fn binding(key: &RowKey, version: u64) -> Binding<'_> {
    Binding { purpose: Purpose::System, tenant: SYSTEM, name: key.as_bytes(), version }
}

const TENANT: u8 = b't';
const API_KEY: u8 = b'a';
const REVOCATION: u8 = b'v';
const TOLD: u8 = b'n';
const ROOTS: &[u8] = b"r";
const SWEEP: &[u8] = b"s";
const AUDIT_SIGNER: &[u8] = b"k";
const LAST_CHECKPOINT: &[u8] = b"c";
const SERVICE: &[u8] = b"w";

fn roots_key() -> RowKey {
    RowKey::new(ROOTS.to_vec())
}

fn sweep_key() -> RowKey {
    RowKey::new(SWEEP.to_vec())
}

fn service_key() -> RowKey {
    RowKey::new(SERVICE.to_vec())
}

const SERVICE_FORMAT: u8 = 1;

pub(super) fn encode_service(since: Timestamp) -> Vec<u8> {
    [[SERVICE_FORMAT].as_slice(), &since.unix_micros().to_be_bytes()].concat()
}

pub(super) fn decode_service(bytes: &[u8]) -> Result<Timestamp, Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(SERVICE_FORMAT)?;
    let since = fields.timestamp()?;
    fields.end()?;
    Ok(since)
}

const SWEEP_FORMAT: u8 = 1;

pub(super) fn decode_sweep(bytes: &[u8]) -> Result<Timestamp, Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(SWEEP_FORMAT)?;
    let at = fields.timestamp()?;
    fields.end()?;
    Ok(at)
}

const AUDIT_SIGNER_FORMAT: u8 = 1;

pub(super) fn encode_audit_signer(signer: &AuditSigner) -> Zeroizing<Vec<u8>> {
    // Reserved at once: a vector that grows leaves copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(1 + AuditSigner::LEN));
    out.push(AUDIT_SIGNER_FORMAT);
    out.extend_from_slice(signer.bytes());
    out
}

pub(super) fn decode_audit_signer(bytes: &[u8]) -> Result<AuditSigner, Malformed> {
    match bytes.split_first_chunk() {
        Some((&[AUDIT_SIGNER_FORMAT], seed)) => {
            seed.try_into().map(AuditSigner::from_bytes).map_err(|_| Malformed)
        }
        _ => Err(Malformed),
    }
}

const TOLD_FORMAT: u8 = 1;

pub(super) fn encode_told(tenant: TenantId, told: Told) -> Vec<u8> {
    let Told { at, version } = told;
    let mut out = vec![TOLD_FORMAT];
    out.extend_from_slice(tenant.as_bytes());
    out.extend_from_slice(&at.unix_micros().to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out
}

pub(super) fn decode_told(bytes: &[u8]) -> Result<(TenantId, Told), Malformed> {
    let mut fields = Reader::new(bytes);
    fields.format(TOLD_FORMAT)?;
    let tenant = TenantId::from_bytes(fields.array()?);
    let told = Told { at: fields.timestamp()?, version: fields.u64()? };
    fields.end()?;
    Ok((tenant, told))
}

/// Without limits of its own: what earlier versions wrote, and read.
const TENANT_FORMAT: u8 = 1;
/// With limits of its own behind the rest.
const LIMITED_TENANT_FORMAT: u8 = 2;

pub(super) fn encode_tenant(tenant: &TenantRecord) -> Vec<u8> {
    let TenantRecord { id, name, created_on, limits } = tenant;
    let limited = *limits != OwnLimits::NONE;
    let mut out = vec![if limited { LIMITED_TENANT_FORMAT } else { TENANT_FORMAT }];
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&created_on.unix_micros().to_be_bytes());
    codec::put_short_text(&mut out, name.as_str());
    if limited {
        let OwnLimits { secrets, bytes, requests_per_second } = limits;
        for bound in [secrets, bytes, requests_per_second] {
            put_bound(&mut out, *bound);
        }
    }
    out
}

fn put_bound(out: &mut Vec<u8>, bound: Option<Bound>) {
    out.push(u8::from(bound.is_some()));
    if let Some(bound) = bound {
        out.extend_from_slice(&bound.number().to_be_bytes());
    }
}

pub(super) fn decode_tenant(bytes: &[u8]) -> Result<TenantRecord, Malformed> {
    let mut fields = Reader::new(bytes);
    let format = fields.byte()?;
    let (id, created_on) = (TenantId::from_bytes(fields.array()?), fields.timestamp()?);
    let name = TenantName::parse(fields.short_text()?).map_err(|_| Malformed)?;
    let limits = match format {
        TENANT_FORMAT => OwnLimits::NONE,
        LIMITED_TENANT_FORMAT => read_limits(&mut fields)?,
        _ => return Err(Malformed),
    };
    fields.end()?;
    Ok(TenantRecord { id, name, created_on, limits })
}

fn read_limits(fields: &mut Reader<'_>) -> Result<OwnLimits, Malformed> {
    let mut bound = || match fields.byte()? {
        0 => Ok(None),
        1 => Ok(Some(Bound::of(fields.u64()?))),
        _ => Err(Malformed),
    };
    Ok(OwnLimits { secrets: bound()?, bytes: bound()?, requests_per_second: bound()? })
}

fn damaged(part: &str) -> OpenError {
    OpenError::Store(StoreError::Corrupted { what: format!("the system database ({part})") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{AnchorKeys, Dek, DekSet};

    async fn system() -> (System, impl AsyncFn() -> Result<SystemContents, OpenError>) {
        let store: Arc<dyn Store> = Arc::new(crate::store::MemoryStore::new());
        let dek = Dek::generate(1, Timestamp::from_unix_seconds(1));
        let anchor = AnchorKeys::generate(SYSTEM);
        let seed = crate::crypto::Kek::generate().for_store(crate::crypto::StoreId::generate());
        let wrapped = (
            seed.wrap_dek(SYSTEM, &dek, crate::crypto::DekState::Active),
            seed.wrap_anchor(SYSTEM, &anchor),
        );
        let keys = move || {
            let dek = seed.unwrap_dek(SYSTEM, 1, crate::crypto::DekState::Active, &wrapped.0);
            let anchor = seed.unwrap_anchor(SYSTEM, &wrapped.1);
            SpaceKeys::new(DekSet::new(dek.unwrap(), Vec::new()), anchor.unwrap())
        };
        System::create(store.clone(), keys(), Floor::START).await.unwrap();
        let (system, _) = System::open(store.clone(), keys()).await.unwrap();
        let open = async move || Ok(System::open(store.clone(), keys()).await?.1);
        (system, open)
    }

    /// A later version's might be a revocation.
    #[tokio::test]
    async fn a_row_of_no_known_kind_is_not_passed_over() {
        let (system, open) = system().await;
        assert!(open().await.is_ok());
        let key = RowKey::new(b"z-later".to_vec());
        let row = system.encrypt(&key, &[1, 2, 3]);
        assert!(system.examine(&key, &row).is_err());
        system.commit(vec![Change::Put { key, row }], Floor::START).await.unwrap();
        assert_eq!(open().await.err(), Some(damaged("a row of no known kind")));
    }

    #[tokio::test]
    async fn a_revocation_under_anothers_key_is_damage() {
        let (system, _) = system().await;
        let tenant = |byte| RevocationTarget::Tenant(TenantId::from_bytes([byte; 16]));
        let said = Revocation {
            before: None,
            token_tenant: None,
            revoked_on: Timestamp::from_unix_seconds(1),
            keep_until: Timestamp::from_unix_seconds(2),
        };
        let plaintext = credential_rows::encode_revocation(&tenant(1), &said);
        for (byte, sound) in [(1, true), (2, false)] {
            let key = system.revocation_key(&tenant(byte));
            let row = system.encrypt(&key, &plaintext);
            assert_eq!(system.examine(&key, &row).is_ok(), sound);
        }
    }

    #[test]
    fn a_tenant_record_survives_its_encoding() {
        let some = OwnLimits { bytes: Some(Bound::of(u64::MAX)), ..OwnLimits::NONE };
        for limits in [OwnLimits::NONE, OwnLimits::UNLIMITED, some] {
            let tenant = TenantRecord {
                id: TenantId::from_bytes([9; 16]),
                name: TenantName::parse("acme").unwrap(),
                created_on: Timestamp::from_unix_micros(1_234_567),
                limits,
            };
            let encoded = encode_tenant(&tenant);
            assert_eq!(decode_tenant(&encoded), Ok(tenant));
            for length in 0..encoded.len() {
                assert_eq!(decode_tenant(&encoded[..length]), Err(Malformed));
            }
        }
    }
}
