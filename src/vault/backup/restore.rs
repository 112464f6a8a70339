//! Makes a store, or one tenant, of a backup.
//!
//! A whole store: every tenant's rows as they were, then the system's, and last
//! the keyring, wrapped anew; a store without a keyring does not exist, so a
//! restore that stops half-way has restored nothing. Versions leap ahead of all
//! that the backup knew (see `layout`): a store that was used after the backup was
//! made has given versions that the backup does not know of, and whoever kept one
//! as an ETag must not see it name something else.
//!
//! One tenant: a new one, with keys of its own, whose secrets are decrypted and
//! encrypted anew. Its record is written when the whole backup was read and proved
//! and every secret is stored; until then it does not exist.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::super::audit::{self, By};
use super::super::check::WholeSecret;
use super::super::heads::Heads;
use super::super::keyring::{Keyring, SYSTEM};
use super::super::layout::{self, VERSION_LEAP};
use super::super::seal::SpaceSeal;
use super::super::system::{CredentialChange, System, SystemContents, TenantRecord};
use super::super::tenant::Tenant;
use super::super::{CreateError, OpenError, Vault, is_untouched, to_its_end};
use super::contents::{Contents, Passing, Visitor};
use super::frames::{Unlock, Unproven};
use super::{BackupError, Credentials, WantedStore};
use crate::api::admin::{
    BackupContents, BackupRestored, LeftOut, Progress, Report, RestoredTenant,
};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::Caller;
use crate::crypto::{Kek, KekOrigin, random};
use crate::domain::{Floor, TenantId, TenantName, Timestamp};
use crate::store::{Batch, Change, Ledger, LedgerSeal, Row, RowKey, Space, Store};

/// At which size a commit is made: half of what one may weigh, so that the largest
/// secret still fits on top.
const COMMIT_BYTES: usize = Batch::MAX_BYTES / 2;

/// Changes of credentials in one commit.
const CHANGES_AT_ONCE: usize = 1_000;

/// Reads all of a backup but some tenants, and restores nothing.
pub(super) async fn check(
    backup: Unproven,
    kek: &Kek,
    without: &[TenantName],
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupContents, BackupError> {
    let mut contents = Contents::open(backup, &Unlock::Kek(kek)).await?;
    refuse_unknown(&contents, without)?;
    let mut found = contents.pass(&mut Onlooker { without }, bytes, report).await?;
    found.left_out.extend(not_asked_for(without));
    Ok(found)
}

pub(super) async fn check_own(
    vault: &Vault,
    pieces: mpsc::Receiver<Vec<u8>>,
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupContents, BackupError> {
    let unlock = Unlock::Store(vault.keyring.store_keys());
    let mut contents = Contents::open(Unproven::read(pieces).await?, &unlock).await?;
    contents.pass(&mut Onlooker { without: &[] }, bytes, report).await
}

/// Makes `store`, which must be empty, what the backup holds.
pub(super) async fn whole(
    backup: Unproven,
    backup_kek: &Kek,
    store: Arc<dyn Store>,
    (kek, origin): (&Kek, KekOrigin),
    wanted: &WantedStore,
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupRestored, BackupError> {
    if Keyring::phase(&*store).await.map_err(open_error)?.is_some()
        || !is_untouched(&*store).await?
    {
        return Err(BackupError::NotEmpty);
    }
    let mut contents = Contents::open(backup, &Unlock::Kek(backup_kek)).await?;
    let WantedStore { credentials, without, caller, at } = wanted;
    refuse_unknown(&contents, without)?;
    let by = By { caller, at: *at };
    let (without, whole) = (without.clone(), HashSet::new());
    let (begun_on, said) = (contents.begun_on(), audit::entry(by, AuditOp::TenantRestore));
    let mut settler =
        Settler { store: store.clone(), filler: None, without, whole, begun_on, said };
    let mut found = contents.pass(&mut settler, bytes, report).await?;
    found.left_out.extend(not_asked_for(&wanted.without));
    let found = sound(found)?;
    let said = said_of_all(&contents, by);
    let system_version =
        settle_system(&contents, &store, &settler.whole, *credentials, said).await?;
    let keyring_version = contents.keyring.ledger().highest_version.saturating_add(VERSION_LEAP);
    let version = keyring_version.max(system_version);
    let settled = contents.keyring.settle(store, kek, origin, &settler.whole, version).await;
    settled.map_err(open_error)?;
    let credentials = credentials.outcome().to_owned();
    Ok(BackupRestored { dry_run: false, tenant: None, credentials, contents: found })
}

/// The system's rows, without the tenants that the backup is without. Answers the
/// version they leapt to.
async fn settle_system(
    contents: &Contents,
    store: &Arc<dyn Store>,
    whole: &HashSet<TenantId>,
    credentials: Credentials,
    said: AuditEntry,
) -> Result<u64, BackupError> {
    let keys = contents.keyring.keys(SYSTEM).map_err(open_error)?;
    let seal = Arc::new(SpaceSeal::Anchor(keys.anchor.clone()));
    let ledger = &contents.system_ledger;
    let mut filler = Filler::new(store.clone(), Space::System, seal, ledger.floor);
    for (key, row) in &contents.system_rows {
        filler.put(key.clone(), row.clone()).await?;
    }
    let version = filler.finish(ledger).await?;
    let system = System::settled(store.clone(), keys, version.saturating_add(1));
    for record in contents.system.tenants.iter().filter(|record| !whole.contains(&record.id)) {
        system.forget((&record.name, record.id), &[], ledger.floor, &[]).await?;
    }
    settle_credentials(&contents.system, &system, whole, credentials).await?;
    system.record(&[said], ledger.floor).await?;
    // Whoever served when the backup was made serves another store.
    system.leave_service(ledger.floor).await?;
    Ok(version)
}

/// The first entry of the system's audit in a store that was restored. A backup holds no
/// entries, but it knows how many there were.
fn said_of_all(contents: &Contents, by: By<'_>) -> AuditEntry {
    let from = format!("from a backup of {}; the system's", contents.begun_on());
    let detail = Some(format!("{from} {}", audit::end_of(contents.system_ledger.chain)));
    AuditEntry { detail, ..audit::entry(by, AuditOp::StoreRestore) }
}

/// What the first entry of a tenant's audit says of the one before; `from` names the
/// backup.
fn origin(from: &str, ledger: Option<&Ledger>) -> String {
    match ledger {
        Some(ledger) => format!("{from}; its {}", audit::end_of(ledger.chain)),
        None => from.to_owned(),
    }
}

/// Without those of tenants that are not there. To revoke is to end every credential
/// that hangs on these rows: a fresh root, and no API key. Revocations stay in either
/// case; what they are about may come from elsewhere.
async fn settle_credentials(
    contents: &SystemContents,
    system: &System,
    whole: &HashSet<TenantId>,
    credentials: Credentials,
) -> Result<(), BackupError> {
    let revoke = credentials == Credentials::Revoke;
    let keys = contents.api_keys.iter().map(|(key, _)| key);
    let keys = keys.filter(|key| revoke || !whole.contains(&key.tenant));
    let gone = |tenant: Option<TenantId>| tenant.is_some_and(|id| !whole.contains(&id));
    let said = contents.revocations.iter().filter(|(target, said)| gone(target.tenant(said)));
    let mut changes: Vec<_> = keys.map(|key| CredentialChange::DropApiKey(key.id)).collect();
    changes.extend(said.map(|(target, _)| CredentialChange::DropRevocation(target)));
    let fresh = contents.roots.replaced();
    if revoke {
        changes.push(CredentialChange::Roots(&fresh));
    }
    // Nothing is a store yet: these need not be one commit.
    for some in changes.chunks(CHANGES_AT_ONCE) {
        system.change_credentials(some, contents.floor, &[]).await?;
    }
    Ok(())
}

/// Whether one tenant is restored, or only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vault) enum Mode {
    Restore,
    DryRun,
}

/// Which tenant, and what it will be called.
#[derive(Debug, Clone)]
pub(in crate::vault) struct Wanted {
    pub(in crate::vault) tenant: TenantName,
    pub(in crate::vault) new_name: TenantName,
    pub(in crate::vault) mode: Mode,
    pub(in crate::vault) bytes: Option<u64>,
    /// Who wants it.
    pub(in crate::vault) caller: Caller,
}

/// Restores one tenant beside others. `kek`: the backup's, where it is not of this
/// store. Runs to its end even if the caller goes away, which ends the pieces: what
/// was begun is then taken back.
pub(in crate::vault) async fn one(
    vault: &Arc<Vault>,
    pieces: mpsc::Receiver<Vec<u8>>,
    kek: Option<Kek>,
    wanted: Wanted,
    report: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<BackupRestored, BackupError> {
    let vault = vault.clone();
    let work = async move {
        let unlock = match &kek {
            Some(kek) => Unlock::Kek(kek),
            None => Unlock::Store(vault.keyring.store_keys()),
        };
        let id = TenantId::from_bytes(random());
        match take_in(&vault, pieces, &unlock, &wanted, id, &report).await {
            Ok((guest, found)) => publish(&vault, guest, found, &wanted).await,
            Err(error) => {
                if vault.keyring.tenants().await.contains(&id) {
                    vault.doom(id);
                    vault.destroy_doomed().await;
                }
                Err(error)
            }
        }
    };
    to_its_end(work).await
}

/// Stores the secrets under a tenant that nobody sees yet.
async fn take_in(
    vault: &Arc<Vault>,
    pieces: mpsc::Receiver<Vec<u8>>,
    unlock: &Unlock<'_>,
    wanted: &Wanted,
    id: TenantId,
    report: &Report,
) -> Result<(Guest, BackupContents), BackupError> {
    let Wanted { tenant, new_name, mode, bytes, caller: _ } = wanted;
    if vault.tenant_named(new_name).is_some() {
        return Err(BackupError::TenantExists { name: new_name.clone() });
    }
    let mut contents = Contents::open(Unproven::read(pieces).await?, unlock).await?;
    let record = contents.system.tenants.iter().find(|record| record.name == *tenant);
    let Some(TenantRecord { limits, .. }) = record else {
        return Err(BackupError::NoSuchTenant { name: tenant.clone() });
    };
    let limits = *limits;
    let created_on = vault.now().wall();
    let mut guest = Guest {
        vault: vault.clone(),
        from: tenant.clone(),
        mode: *mode,
        tenant: None,
        record: TenantRecord { id, name: new_name.clone(), created_on, limits },
        begun_on: contents.begun_on(),
        said: audit::entry(vault.by(&wanted.caller), AuditOp::TenantRestore),
        changes: Vec::new(),
        weight: 0,
        secrets: 0,
    };
    let found = sound(contents.pass(&mut guest, *bytes, report).await?)?;
    match found.left_out.iter().find(|left| left.tenant == tenant.as_str()) {
        None => Ok((guest, found)),
        Some(left_out) => {
            let why = format!("it is without tenant '{tenant}': {}", left_out.why);
            Err(BackupError::Contents { why })
        }
    }
}

/// Gives the tenant its record: now it exists.
async fn publish(
    vault: &Arc<Vault>,
    guest: Guest,
    contents: BackupContents,
    wanted: &Wanted,
) -> Result<BackupRestored, BackupError> {
    if wanted.mode == Mode::Restore {
        let _one = vault.administration.lock().await;
        let exists = || BackupError::TenantExists { name: wanted.new_name.clone() };
        if vault.tenant_named(&wanted.new_name).is_some() {
            vault.doom(guest.record.id);
            return Err(exists());
        }
        let said = AuditEntry { tenant: Some(wanted.new_name.to_string()), ..guest.said };
        let made = vault.system.add(&guest.record, vault.time.floor(), said).await;
        match vault.admit_made(&guest.record, made).await {
            Ok(_) => {}
            Err(CreateError::Exists) => return Err(exists()),
            Err(CreateError::Store(error)) => return Err(error.into()),
        }
    }
    let tenant = RestoredTenant {
        name: wanted.tenant.to_string(),
        restored_as: wanted.new_name.to_string(),
        secrets: guest.secrets,
    };
    Ok(BackupRestored {
        dry_run: wanted.mode == Mode::DryRun,
        tenant: Some(tenant),
        credentials: "none".to_owned(),
        contents,
    })
}

fn refuse_unknown(contents: &Contents, names: &[TenantName]) -> Result<(), BackupError> {
    let known = |name: &&TenantName| contents.system.tenants.iter().any(|t| t.name == **name);
    match names.iter().find(|name| !known(name)) {
        Some(unknown) => Err(BackupError::NoSuchTenant { name: unknown.clone() }),
        None => Ok(()),
    }
}

fn not_asked_for(names: &[TenantName]) -> impl Iterator<Item = LeftOut> {
    let why = "it was not asked for";
    names.iter().map(move |name| LeftOut { tenant: name.to_string(), why: why.to_owned() })
}

fn sound(contents: BackupContents) -> Result<BackupContents, BackupError> {
    if contents.sound { Ok(contents) } else { Err(BackupError::Unsound(Box::new(contents))) }
}

fn open_error(error: OpenError) -> BackupError {
    match error {
        OpenError::Store(error) => error.into(),
        other => BackupError::Contents { why: other.to_string() },
    }
}

/// Looks, and does nothing.
struct Onlooker<'a> {
    without: &'a [TenantName],
}

#[async_trait]
impl Visitor for Onlooker<'_> {
    fn wants(&self, tenant: &TenantRecord) -> bool {
        !self.without.contains(&tenant.name)
    }

    async fn begin(&mut self, _: &Passing<'_>) -> Result<(), BackupError> {
        Ok(())
    }

    async fn rows(
        &mut self,
        _: Vec<(RowKey, Row)>,
        _: Vec<WholeSecret>,
    ) -> Result<(), BackupError> {
        Ok(())
    }

    async fn end(&mut self, _: &Passing<'_>) -> Result<(), BackupError> {
        Ok(())
    }

    async fn void(&mut self, _: &TenantRecord) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Puts every tenant's rows where they were.
struct Settler {
    store: Arc<dyn Store>,
    /// Of the tenant that passes.
    filler: Option<Filler>,
    without: Vec<TenantName>,
    whole: HashSet<TenantId>,
    begun_on: Timestamp,
    /// The first entry of each tenant's audit, but for what the backup knows of it.
    said: AuditEntry,
}

#[async_trait]
impl Visitor for Settler {
    fn wants(&self, tenant: &TenantRecord) -> bool {
        !self.without.contains(&tenant.name)
    }

    async fn begin(&mut self, tenant: &Passing<'_>) -> Result<(), BackupError> {
        let id = tenant.record.id;
        self.store.create_tenant(id).await?;
        let seal = Arc::new(SpaceSeal::Anchor(tenant.anchor.clone()));
        let floor = tenant.ledger.map_or(Floor::START, |ledger| ledger.floor);
        let mut filler = Filler::new(self.store.clone(), Space::Tenant(id), seal, floor);
        let from = format!("from a backup of {}", self.begun_on);
        let detail = Some(origin(&from, tenant.ledger.as_ref()));
        filler.append(&AuditEntry { detail, ..self.said.clone() });
        self.filler = Some(filler);
        Ok(())
    }

    async fn rows(
        &mut self,
        rows: Vec<(RowKey, Row)>,
        _: Vec<WholeSecret>,
    ) -> Result<(), BackupError> {
        if let Some(filler) = &mut self.filler {
            for (key, row) in rows {
                filler.put(key, row).await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, tenant: &Passing<'_>) -> Result<(), BackupError> {
        if let (Some(filler), Some(ledger)) = (self.filler.take(), &tenant.ledger) {
            filler.finish(ledger).await?;
            self.whole.insert(tenant.record.id);
        }
        Ok(())
    }

    async fn void(&mut self, tenant: &TenantRecord) -> Result<(), BackupError> {
        self.filler = None;
        Ok(self.store.drop_tenant(tenant.id).await?)
    }
}

/// Fills an empty space with rows as they were.
struct Filler {
    store: Arc<dyn Store>,
    space: Space,
    seal: Arc<dyn LedgerSeal>,
    floor: Floor,
    changes: Vec<Change>,
    weight: usize,
}

impl Filler {
    fn new(store: Arc<dyn Store>, space: Space, seal: Arc<dyn LedgerSeal>, floor: Floor) -> Self {
        Self { store, space, seal, floor, changes: Vec::new(), weight: 0 }
    }

    async fn put(&mut self, key: RowKey, row: Row) -> Result<(), BackupError> {
        let change = Change::Put { key, row };
        self.weight += weight(&change);
        self.changes.push(change);
        if self.weight >= COMMIT_BYTES { self.commit().await } else { Ok(()) }
    }

    /// With the rows that follow.
    fn append(&mut self, entry: &AuditEntry) {
        self.changes.extend(audit::appending(std::slice::from_ref(entry)));
    }

    /// Commits what is left, and lets the versions leap. Answers to where.
    async fn finish(mut self, ledger: &Ledger) -> Result<u64, BackupError> {
        self.commit().await?;
        let version = ledger.highest_version.saturating_add(VERSION_LEAP);
        let (key, row) = (layout::marker_key(), Row { version, bytes: Vec::new() });
        self.changes.push(Change::Put { key: key.clone(), row });
        self.commit().await?;
        self.changes.push(Change::Delete { key });
        self.commit().await?;
        Ok(version)
    }

    async fn commit(&mut self) -> Result<(), BackupError> {
        let changes = std::mem::take(&mut self.changes);
        self.weight = 0;
        let batch = Batch { changes, floor: self.floor, seal: self.seal.clone() };
        Ok(self.store.commit(self.space, batch).await?)
    }
}

/// What a change weighs in a batch, estimated high.
fn weight(change: &Change) -> usize {
    let payload = match change {
        Change::Put { key, row } => key.as_bytes().len() + row.bytes.len(),
        Change::Append(appended) => appended.weight(),
        Change::Expect { key, .. } | Change::Delete { key } => key.as_bytes().len(),
        Change::Forget { .. } => 0,
    };
    payload + size_of::<Change>()
}

/// Takes one tenant in under a new name.
struct Guest {
    vault: Arc<Vault>,
    from: TenantName,
    mode: Mode,
    record: TenantRecord,
    begun_on: Timestamp,
    /// The first entry of its audit, and what the system's has of it.
    said: AuditEntry,
    /// Open, but without a record.
    tenant: Option<Tenant>,
    changes: Vec<Change>,
    weight: usize,
    secrets: u64,
}

impl Guest {
    async fn make_room(&self) -> Result<Tenant, BackupError> {
        let (vault, record) = (&self.vault, self.record.clone());
        let id = record.id;
        let keys = match vault.keyring.keys(id).await {
            Ok(keys) => keys,
            Err(_) => vault.keyring.create_keys(id, vault.now().wall(), vault.time.floor()).await?,
        };
        vault.make_space(id, &keys).await?;
        let heads = Heads::new(vault.list_budget.clone());
        let store = vault.store.clone();
        // What is restored is not refused by a limit: nothing of this is counted.
        let quota = vault.quota(record.limits);
        Ok(Tenant::new(record, store, keys, Some(&Ledger::EMPTY), heads, quota))
    }

    async fn commit(&mut self) -> Result<(), BackupError> {
        let changes = std::mem::take(&mut self.changes);
        self.weight = 0;
        match &self.tenant {
            Some(tenant) => Ok(tenant.commit(changes, self.vault.time.floor()).await?),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Visitor for Guest {
    fn wants(&self, tenant: &TenantRecord) -> bool {
        tenant.name == self.from
    }

    async fn begin(&mut self, tenant: &Passing<'_>) -> Result<(), BackupError> {
        let from = format!("from '{}' of a backup of {}", self.from, self.begun_on);
        self.said.detail = Some(origin(&from, tenant.ledger.as_ref()));
        if self.mode == Mode::Restore {
            let tenant = self.make_room().await?;
            self.changes = audit::appending(std::slice::from_ref(&self.said)).into_iter().collect();
            self.tenant = Some(tenant);
        }
        Ok(())
    }

    async fn rows(
        &mut self,
        _: Vec<(RowKey, Row)>,
        secrets: Vec<WholeSecret>,
    ) -> Result<(), BackupError> {
        for WholeSecret { head, value } in secrets {
            self.secrets += 1;
            let Some(tenant) = &self.tenant else { continue };
            let rows = tenant.adopt(&head, value);
            self.weight += rows.iter().map(weight).sum::<usize>();
            self.changes.extend(rows);
            if self.weight >= COMMIT_BYTES {
                self.commit().await?;
            }
        }
        Ok(())
    }

    async fn end(&mut self, _: &Passing<'_>) -> Result<(), BackupError> {
        self.commit().await
    }

    async fn void(&mut self, _: &TenantRecord) -> Result<(), BackupError> {
        (self.tenant, self.changes, self.weight, self.secrets) = (None, Vec::new(), 0, 0);
        Ok(self.vault.store.drop_tenant(self.record.id).await?)
    }
}
