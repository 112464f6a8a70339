//! The vault: secrets by name, in their windows, encrypted into a store.
//!
//! Guarantees: what [`Vault::write`] and [`Vault::delete`] answered is durable;
//! nothing is read or written without a [`Permit`] for just that tenant and
//! name; an expired secret is never served again, whatever the clock does. It
//! knows nothing of HTTP, files or configuration.

mod adjust;
pub mod audit;
pub mod backup;
mod check;
mod codec;
mod compact;
mod credential_commands;
mod credential_rows;
pub mod credentials;
#[cfg(test)]
mod damage;
mod grouped;
mod heads;
pub mod key_commands;
mod keyring;
mod layout;
mod limit_commands;
mod list;
pub mod maintenance;
pub mod notices;
mod pace;
mod quota;
mod rotation;
mod seal;
mod sealed;
mod survey;
mod sweep;
mod system;
mod tenant;
#[cfg(test)]
mod tests;
mod timekeeper;
mod to_its_end;
#[cfg(test)]
mod vectors;
mod verify;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::oidc::{IssuerPolicy, Issuers};
use crate::auth::{
    ApiKeys, Authenticator, BatchPermit, Caller, Limits, Permit, Principal, PublicRoot, Rates,
    Read, Refusal, Standing, TenantDirectory, Write,
};
use crate::crypto::{Kek, KekOrigin, KekRecord, KekWay, StoreId, random};
use crate::domain::{
    ByName, Clock, Floor, Now, OwnLimits, SecretValue, Source, TenantId, TenantLimits, TenantName,
    Timestamp, ValidityWindow,
};
use crate::store::{
    Batch, Compacted, Health, Ledger, LedgerSeal, Row, RowKey, Scan, Space, Store, StoreError,
};

pub use crate::measure::Copying;
use adjust::Adjustable;
pub use audit::copies::{BadCursors, CopiesTo, CopyCursors, CopyTaker, Follower, Left};
#[cfg(any(test, fuzzing))]
pub use audit::fuzzing;
pub use audit::{
    About, Act, AuditPolicy, AuditVitals, OldAudit, Reads, Trust, TurnedAway, Unrecorded,
    verify_copy, verify_export,
};
use audit::{By, Checkpointer, Followers, Recorder};
use heads::{Budget, Heads};
use keyring::{Header, Keyring, Phase, SpaceKeys};
pub use list::{Detail, ListPage, ListRequest, PageSize, Shows};
use notices::NoticePolicy;
use quota::Quota;
pub use quota::TenantLimited;
pub use rotation::{DekPolicy, Tended};
use seal::{SpaceSeal, ledger_of};
pub use sealed::{NoShares, SHARES_KEPT, SealedVault};
pub use survey::{Survey, Vitals};
use system::{CredentialChange, System, TenantRecord};
use tenant::Tenant;
use timekeeper::Timekeeper;
use to_its_end::to_its_end;

/// What is read back.
#[derive(Debug)]
pub struct Secret {
    /// `None` is the JSON value `null`.
    pub value: Option<SecretValue>,
    /// Rises with every write of the tenant; its ETag.
    pub version: u64,
    pub window: ValidityWindow,
}

/// What is to be written.
#[derive(Debug)]
pub struct NewSecret {
    pub value: Option<SecretValue>,
    pub window: ValidityWindow,
}

/// What is to be written if its precondition holds.
#[derive(Debug)]
pub struct Planned {
    pub new: NewSecret,
    pub precondition: Precondition,
}

/// What a caller requires of the state before a write (`If-Match`,
/// `If-None-Match: *`). A secret is there if it is stored and not expired, which
/// is what a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    None,
    Exists,
    /// It has one of these versions.
    Versions(Vec<u64>),
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there, and is gone.
    Removed,
    /// It had expired, and is gone: whoever deletes is told that nothing was there.
    Expired,
    NothingThere,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("the precondition does not hold")]
    PreconditionFailed,
    /// Of several writes: of those at these places, from 0.
    #[error("preconditions of {} writes do not hold", of.len())]
    PreconditionsFailed { of: Vec<usize> },
    /// Several writes are more than one commit takes.
    #[error("the writes are too large to happen together")]
    TooLargeTogether,
    #[error("the value is larger than the configured {max} bytes")]
    ValueTooLarge { max: usize },
    /// The tenant would have more of them than it may.
    #[error("the tenant may have {max} secrets")]
    SecretsLimit { max: u64 },
    #[error("the values of the tenant may have {max} bytes together")]
    BytesLimit { max: u64 },
    #[error("other writers changed this secret at the same time")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store's contents could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the store is not initialized; run 'tenure init' first")]
    NotInitialized,
    #[error("the store is initialized already")]
    AlreadyInitialized,
    /// What was restored counts only when the keyring is there, at the end.
    #[error(
        "the store holds rows and no keyring: a restore was interrupted (run it again, into an \
         empty folder), or files are missing"
    )]
    WithoutKeyring,
    /// The check value tells this from damage.
    #[error("this is not the KEK of this store; look at kek.source and what it names")]
    WrongKek,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// For what is no opening, where nothing else than the store goes wrong.
    fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            _ => StoreError::Unknown,
        }
    }
}

/// Why keys were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("a backup or a check of the store is under way")]
    InUse,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the vault can serve, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub writable: bool,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct VaultOptions {
    /// Where the store is kept, as its operator knows it.
    pub place: String,
    /// At most [`SecretValue::HARD_MAX_BYTES`].
    pub max_value_bytes: usize,
    /// What the sorted names of all tenants may take in memory.
    pub list_cache_bytes: usize,
    /// How many verified tokens are remembered.
    pub token_cache_entries: usize,
    /// How often credentials may be used, shown and refused.
    pub rates: Rates,
    /// How many API keys a tenant may have; at most [`VaultOptions::MOST_API_KEYS`].
    pub max_api_keys: usize,
    /// Of each tenant that has none of its own.
    pub tenant_limits: TenantLimits,
    /// What is told of secrets that come to their end; `None`: nothing.
    pub notices: Option<NoticePolicy>,
    pub audit: AuditPolicy,
    /// Whose tokens are accepted beside our own.
    pub issuers: Vec<IssuerPolicy>,
    pub deks: DekPolicy,
}

impl VaultOptions {
    /// All keys of a tenant must fit into the commit that deletes it.
    pub const MOST_API_KEYS: usize = 10_000;
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            place: "memory".to_owned(),
            max_value_bytes: 64 * 1024,
            list_cache_bytes: 64 * 1024 * 1024,
            token_cache_entries: 131_072,
            rates: Rates::NONE,
            issuers: Vec::new(),
            deks: DekPolicy::NEVER,
            max_api_keys: 1_000,
            tenant_limits: TenantLimits::default(),
            notices: None,
            audit: AuditPolicy::default(),
        }
    }
}

/// Locks that order the writers of one name; two names may share one.
const NAME_LOCKS: usize = 4_096;
/// How long a change of keys waits for a backup or a check to end.
const KEYS_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 10_000 });
/// How stale the persisted floor may become.
const FLOOR_INTERVAL: Duration = Duration::from_secs(10);

/// A store, open under its KEK.
pub struct Vault {
    store: Arc<dyn Store>,
    options: VaultOptions,
    adjustable: Adjustable,
    time: Timekeeper,
    limits: Arc<Limits>,
    /// Whether a tenant was ever limited to so many requests a second.
    has_rated_tenant: AtomicBool,
    authenticator: Authenticator,
    keyring: Keyring,
    system: System,
    tenants: RwLock<Tenants>,
    /// Held by whoever changes which tenants there are.
    administration: tokio::sync::Mutex<()>,
    /// Held, shared, by who goes through all rows with the keys of its beginning, and
    /// alone by who changes keys.
    keys_in_use: Arc<tokio::sync::RwLock<()>>,
    /// Held by whoever encrypts anew.
    reencryption: tokio::sync::Mutex<()>,
    name_locks: Box<[tokio::sync::Mutex<()>]>,
    /// What the sorted names of all tenants take.
    list_budget: Arc<Budget>,
    /// Orders the uses of list caches, for eviction.
    list_ticks: AtomicU64,
    /// The highest floor that is durable.
    floor_persisted: Mutex<Floor>,
    last_sweep: RwLock<Option<Timestamp>>,
    opened_on: Timestamp,
    survey: RwLock<Option<Survey>>,
    checkpoints: Checkpointer,
    recorder: Recorder,
    followers: Followers,
    /// Tenants that exist no more, or never came to exist, and whose keys and
    /// rows are still to be destroyed.
    doomed: Mutex<Vec<TenantId>>,
    /// Closed when the last holder let go of the vault. Last, so that all keys are
    /// gone by then.
    held: watch::Sender<()>,
}

#[derive(Default)]
struct Tenants {
    by_name: HashMap<TenantName, Arc<Tenant>>,
    by_id: HashMap<TenantId, Arc<Tenant>>,
}

impl TenantDirectory for RwLock<Tenants> {
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool {
        let tenants = self.read().unwrap_or_else(PoisonError::into_inner);
        tenants.by_id.get(&id).is_some_and(|tenant| tenant.name == *name)
    }

    fn current(&self, name: &TenantName) -> Option<(TenantId, Timestamp)> {
        let tenants = self.read().unwrap_or_else(PoisonError::into_inner);
        tenants.by_name.get(name).map(|tenant| (tenant.id, tenant.created_on))
    }
}

impl Vault {
    /// What the values of several writes may take together, in bytes. With the rows
    /// around them, and the removal of those that they replace, they fit one commit,
    /// unless much larger ones are replaced.
    pub const MAX_TOGETHER_BYTES: usize = 2 * 1024 * 1024;

    /// Whether a store was made here, wholly.
    pub async fn exists(store: &dyn Store) -> Result<bool, OpenError> {
        Ok(Keyring::phase(store).await? == Some(Phase::Complete))
    }

    /// What the store says of its KEK, which nothing proves yet; `None` where there is
    /// no store.
    pub async fn kek_record(store: &dyn Store) -> Result<Option<KekRecord>, OpenError> {
        Ok(Keyring::header(store).await?.map(Header::kek_record))
    }

    /// Makes a new store under `kek`, which one comes by in this `way`. Finishes one
    /// that a crash interrupted.
    pub async fn init(
        store: Arc<dyn Store>,
        kek: &Kek,
        way: KekWay,
        clock: &dyn Clock,
    ) -> Result<(), OpenError> {
        Self::init_as(store, StoreId::generate(), kek, way, clock).await
    }

    /// The same with an id that was drawn before: shares of the KEK name it. One that
    /// is finished keeps its own.
    pub async fn init_as(
        store: Arc<dyn Store>,
        id: StoreId,
        kek: &Kek,
        way: KekWay,
        clock: &dyn Clock,
    ) -> Result<(), OpenError> {
        let since = clock.read().wall;
        let floor = Floor { epoch: 0, at: since };
        let keyring = if Keyring::phase(&*store).await?.is_some() {
            match Keyring::open(store.clone(), kek).await? {
                (_, Phase::Complete) => return Err(OpenError::AlreadyInitialized),
                (keyring, Phase::Initializing) => keyring,
            }
        } else if is_untouched(&*store).await? {
            Keyring::create(store.clone(), id, kek, KekOrigin { way, since }).await?
        } else {
            return Err(OpenError::WithoutKeyring);
        };
        System::create(store, keyring.keys(keyring::SYSTEM).await?, floor).await?;
        Ok(keyring.complete().await?)
    }

    /// Opens a store: proves the KEK, checks the system's and the keyring's
    /// ledgers, finishes what a crash interrupted, and unwraps every tenant's
    /// keys.
    pub async fn open(
        store: Arc<dyn Store>,
        kek: &Kek,
        clock: Arc<dyn Clock>,
        options: VaultOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let (keyring, phase) = Keyring::open(store.clone(), kek).await?;
        if phase == Phase::Initializing {
            return Err(OpenError::NotInitialized);
        }
        let system_keys = keyring.keys(keyring::SYSTEM).await?;
        let mut api_keys = ApiKeys::new(system_keys.anchor.api_keys());
        let (system, contents) = System::open(store.clone(), system_keys).await?;
        let mut floor = contents.floor;
        let mut tenants = Tenants::default();
        let list_budget = Arc::new(Budget::new(options.list_cache_bytes));
        for record in &contents.tenants {
            let heads = Heads::new(list_budget.clone());
            let quota = Quota::new(record.limits, options.tenant_limits, clock.clone());
            let opened = open_tenant(&store, &keyring, record, heads, quota).await?;
            let (tenant, tenant_floor) = opened;
            if let Some(told) = contents.told.get(&record.id) {
                tenant.resume_told(*told);
            }
            floor = floor.max(tenant_floor);
            tenants.insert(Arc::new(tenant));
        }
        for (key, last_used) in contents.api_keys {
            // A key goes in the commit that its tenant goes in.
            if let Some(tenant) = tenants.by_id.get(&key.tenant) {
                api_keys.insert(key, tenant.name.clone(), last_used);
            }
        }
        let limits = Arc::new(Limits::new(options.rates, &clock));
        let has_rated_tenant = tenants.by_id.values().any(|tenant| tenant.quota.is_rated());
        let since_boot = clock.read().since_boot;
        let checkpoints =
            Checkpointer::new(contents.audit_signer, contents.last_checkpoint, since_boot);
        let time = Timekeeper::start(clock, floor);
        let opened_on = time.now().for_expiry();
        let standing = Standing {
            roots: Arc::new(contents.roots),
            revocations: contents.revocations.into_iter().collect(),
            api_keys,
        };
        let remembered = options.token_cache_entries;
        let authenticator = Authenticator::new(standing, remembered, limits.clone())
            .trusting(Issuers::new(options.issuers.clone()));
        let recorder = Recorder::new(options.audit, contents.served_since);
        let vault = Arc::new(Self {
            authenticator,
            limits,
            has_rated_tenant: AtomicBool::new(has_rated_tenant),
            store,
            adjustable: Adjustable::of(&options),
            options,
            time,
            keyring,
            system,
            tenants: RwLock::new(tenants),
            administration: tokio::sync::Mutex::new(()),
            keys_in_use: Arc::default(),
            reencryption: tokio::sync::Mutex::new(()),
            name_locks: (0..NAME_LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
            list_budget,
            list_ticks: AtomicU64::new(0),
            floor_persisted: Mutex::new(floor),
            last_sweep: RwLock::new(contents.last_sweep),
            opened_on,
            survey: RwLock::default(),
            checkpoints,
            recorder,
            followers: Followers::default(),
            doomed: Mutex::new(Vec::new()),
            held: watch::Sender::new(()),
        });
        vault.doom_leftovers().await?;
        vault.destroy_doomed().await;
        let left = vault.doomed.lock().unwrap_or_else(PoisonError::into_inner).len();
        if left > 0 {
            log::warn!("the remains of {left} deleted tenants are not destroyed yet");
        }
        Ok(vault)
    }

    /// The time of an act that begins now.
    pub fn now(&self) -> Now {
        self.time.now()
    }

    /// Whose token this is: 401 where it is refused. For callers whose address nobody
    /// knows.
    pub fn authenticate(&self, bearer: &str, now: Now) -> Result<Arc<Principal>, Refusal> {
        self.authenticate_from(bearer, Source::UNKNOWN, now)
    }

    /// The same, counted as of `source`.
    pub fn authenticate_from(
        &self,
        bearer: &str,
        source: Source,
        now: Now,
    ) -> Result<Arc<Principal>, Refusal> {
        self.authenticator.authenticate(bearer, source, now, &self.tenants)
    }

    /// Who must not ask too often, and be told before anything costs.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A request with a good credential of this tenant. Where no tenant is limited so,
    /// it costs a look at what nobody writes to.
    pub fn tenant_may_ask(&self, tenant: TenantId) -> Result<(), TenantLimited> {
        if !self.has_rated_tenant.load(Ordering::Relaxed) {
            return Ok(());
        }
        // One that was deleted meanwhile is told by what it asks for.
        self.tenant(tenant).map_or(Ok(()), |tenant| tenant.quota.ask())
    }

    /// Limits by other rates from now on; what was counted is forgotten.
    pub fn set_rates(&self, rates: Rates) {
        self.limits.replace(rates, &self.time.clock());
    }

    /// How long the writer that is longest at one piece of work has been at it.
    pub fn at_work_for(&self) -> Duration {
        self.store.at_work_for()
    }

    /// The same two for an API key.
    pub fn authenticate_api_key(&self, key: &str, now: Now) -> Result<Arc<Principal>, Refusal> {
        self.authenticate_api_key_from(key, Source::UNKNOWN, now)
    }

    pub fn authenticate_api_key_from(
        &self,
        key: &str,
        source: Source,
        now: Now,
    ) -> Result<Arc<Principal>, Refusal> {
        self.authenticator.authenticate_api_key(key, source, now, &self.tenants)
    }

    /// Whose tokens are accepted beside our own. Somebody keeps their keys current.
    pub fn issuers(&self) -> &Issuers {
        self.authenticator.issuers()
    }

    /// The roots by which anyone can verify or narrow a token.
    pub fn public_roots(&self) -> Vec<PublicRoot> {
        self.authenticator.public_roots(self.now())
    }

    /// The secret, if there is one and its window is open.
    pub async fn read(
        &self,
        permit: &Permit<Read>,
        now: Now,
    ) -> Result<Option<Secret>, VaultError> {
        self.tenant(permit.tenant())?.read(permit.name(), now).await
    }

    /// Stores or replaces; durable when it returns. Answers the new version.
    ///
    /// Runs to its end even if the caller goes away: half a write would leave
    /// the sorted names behind the store.
    pub async fn write(
        self: &Arc<Self>,
        permit: &Permit<Write>,
        new: NewSecret,
        precondition: Precondition,
        now: Now,
    ) -> Result<u64, VaultError> {
        let write = ByName::one(permit.name().clone(), Planned { new, precondition });
        match self.write_together(permit.tenant(), write, now, permit.caller().clone()).await {
            Ok(versions) => Ok(*versions.first().expect("a version for each write")),
            Err(VaultError::PreconditionsFailed { .. }) => Err(VaultError::PreconditionFailed),
            Err(error) => Err(error),
        }
    }

    /// Stores or replaces all of them in one commit, or none; durable when it returns.
    /// Answers the new versions, in the order of the writes. Runs to its end, as
    /// [`Vault::write`] does.
    pub async fn write_all(
        self: &Arc<Self>,
        permit: BatchPermit<Planned>,
        now: Now,
    ) -> Result<Vec<u64>, VaultError> {
        let values = permit.writes().iter().filter_map(|(_, planned)| planned.new.value.as_ref());
        if values.map(SecretValue::len).sum::<usize>() > Self::MAX_TOGETHER_BYTES {
            return Err(VaultError::TooLargeTogether);
        }
        let (tenant, caller) = (permit.tenant(), permit.caller().clone());
        let written = self.write_together(tenant, permit.into_writes(), now, caller).await;
        written.map_err(|error| match error {
            VaultError::Store(StoreError::TooLarge) => VaultError::TooLargeTogether,
            other => other,
        })
    }

    async fn write_together(
        self: &Arc<Self>,
        tenant: TenantId,
        writes: ByName<Planned>,
        now: Now,
        caller: Caller,
    ) -> Result<Vec<u64>, VaultError> {
        let max = self.options.max_value_bytes;
        let is_too_large = |value: &SecretValue| value.len() > max;
        if writes.iter().any(|(_, planned)| planned.new.value.as_ref().is_some_and(is_too_large)) {
            return Err(VaultError::ValueTooLarge { max });
        }
        let (vault, tenant) = (self.clone(), self.tenant(tenant)?);
        to_its_end(async move {
            let locators: Vec<_> = writes.iter().map(|(name, _)| tenant.locate(name)).collect();
            let _locks = vault.lock_names(&tenant, &locators).await;
            let floor = vault.time.floor();
            let by = By { caller: &caller, at: now.wall() };
            let versions = tenant.write(&writes, &locators, now, floor, by).await?;
            vault.note_floor(floor);
            vault.trim_list_caches(&tenant);
            Ok(versions)
        })
        .await
    }

    /// Deletes what is there, expired or not; durable when it returns. Runs to
    /// its end, as [`Vault::write`] does.
    pub async fn delete(
        self: &Arc<Self>,
        permit: &Permit<Write>,
        precondition: Precondition,
        now: Now,
    ) -> Result<Deleted, VaultError> {
        let (vault, name, caller) = (self.clone(), permit.name().clone(), permit.caller().clone());
        let tenant = self.tenant(permit.tenant())?;
        to_its_end(async move {
            let _lock = vault.lock_name(&tenant, &tenant.locate(&name)).await;
            let floor = vault.time.floor();
            let by = By { caller: &caller, at: now.wall() };
            tenant.delete(&name, &precondition, now, floor, by).await
        })
        .await
    }

    pub fn readiness(&self) -> Readiness {
        let Health { writable, reason, .. } = self.store.health();
        Readiness { writable, reason }
    }

    /// The most a value may hold, in bytes of UTF-8.
    pub fn max_value_bytes(&self) -> usize {
        self.options.max_value_bytes
    }

    /// What has to be done from time to time: persists the floor if no commit did
    /// lately, and when API keys were last used, and goes on destroying what could
    /// not be destroyed at once. The edge calls it every second.
    pub async fn keep_house(self: &Arc<Self>) -> Result<(), StoreError> {
        self.time.now();
        let vault = self.clone();
        // Half of it would go on behind the back of who opens the store next.
        to_its_end(async move {
            vault.destroy_doomed().await;
            Ok::<_, StoreError>(())
        })
        .await?;
        if let Err(error) = self.store_uses().await {
            log::debug!("when API keys were last used is not stored yet: {error}");
        }
        if let Err(error) = self.checkpoint_when_due().await {
            log::debug!("no checkpoint of the audit is signed yet: {error}");
        }
        let floor = self.time.floor();
        let persisted = *self.floor_persisted.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = floor.at < persisted.at.saturating_add(FLOOR_INTERVAL);
        if floor.epoch == persisted.epoch && recent {
            return Ok(());
        }
        self.system.persist_floor(floor).await?;
        self.note_floor(floor);
        Ok(())
    }

    /// Writes anew the parts of the store that an opening after a crash would read for
    /// long, one after the other, while others read and write. The edge calls it every
    /// few seconds; not so soon after an error.
    pub async fn renew_worn(&self) -> Result<(), StoreError> {
        for part in self.store.worn() {
            match self.store.compact(&part, &|_, _| {}).await {
                Ok(Some(Compacted { before, after })) => {
                    log::info!("compacted database {part} from {before} to {after} bytes");
                }
                Ok(None) => {}
                Err(error) => {
                    log::warn!("database {part} was not compacted, and is tried later: {error}");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Persists the floor, refuses further writes, finishes those under way,
    /// closes the files.
    pub async fn close(&self) {
        self.settle().await;
        self.store.close().await;
    }

    /// Takes the keys out of memory, and leaves the store open. Returns when everyone
    /// else has let go of the vault, and so of every key of it: whoever holds it is
    /// given the time to finish.
    pub async fn seal(self: Arc<Self>) -> SealedVault {
        self.settle().await;
        let (store, clock) = (self.store.clone(), self.time.clock());
        let (options, record) = (self.options.clone(), self.keyring.kek_record());
        let mut held = self.held.subscribe();
        drop(self);
        // Nothing is ever sent: it ends with an error, when the sender is dropped.
        while held.changed().await.is_ok() {}
        // One of them may have replaced the KEK.
        let stored = Self::kek_record(&*store).await.ok().flatten();
        SealedVault::of(store, clock, options, stored.unwrap_or(record))
    }

    /// Stores what a stop would lose.
    async fn settle(&self) {
        self.time.now();
        if let Err(error) = self.store_uses().await {
            log::warn!("when API keys were last used was not stored: {error}");
        }
        self.settle_audit().await;
        if let Err(error) = self.checkpoint_here().await {
            log::warn!("no checkpoint of the audit was signed at this stop: {error}");
        }
        if let Err(error) = self.system.persist_floor(self.time.floor()).await {
            log::warn!("the time of this stop was not stored: {error}");
        }
    }

    fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>, StoreError> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.by_id.get(&id).cloned().ok_or(StoreError::TenantGone)
    }

    fn tenant_named(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.by_name.get(name).cloned()
    }

    /// Puts the store under another KEK, while others read and write; when it
    /// returns, the old one opens nothing of it. Runs to its end, as
    /// [`Vault::write`] does.
    pub async fn replace_kek(
        self: &Arc<Self>,
        kek: Kek,
        origin: KekOrigin,
    ) -> Result<(), KeysError> {
        self.change_keys(move |vault| async move {
            let rewrapped = vault.keyring.rewrap(&kek, origin, vault.time.floor()).await;
            Ok(rewrapped.map_err(OpenError::into_store_error)?)
        })
        .await
    }

    /// Changes keys while nobody goes through rows with those of before; to its end, as
    /// [`Vault::write`] does.
    async fn change_keys<F>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<(), KeysError>
    where
        F: Future<Output = Result<(), KeysError>> + Send + 'static,
    {
        let alone = self.keys_alone().await?;
        let changing = change(self.clone());
        to_its_end(async move {
            let _alone = alone;
            changing.await
        })
        .await
    }

    /// Nobody goes through rows with keys that may change meanwhile.
    async fn keys_alone(&self) -> Result<tokio::sync::OwnedRwLockWriteGuard<()>, KeysError> {
        let alone = self.keys_in_use.clone().write_owned();
        tokio::time::timeout(KEYS_WAIT, alone).await.map_err(|_| KeysError::InUse)
    }

    /// Every tenant, by name.
    fn all_tenants(&self) -> Vec<Arc<Tenant>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = tenants.by_id.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    async fn lock_name(
        &self,
        tenant: &Tenant,
        locator: &layout::Locator,
    ) -> tokio::sync::MutexGuard<'_, ()> {
        self.lock_slot(name_slot(tenant, locator)).await
    }

    /// The locks of several names, each once, in one order for all: whoever holds some
    /// waits only for later ones, and so never for one who waits for them.
    async fn lock_names(
        &self,
        tenant: &Tenant,
        locators: &[layout::Locator],
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let slots: BTreeSet<_> =
            locators.iter().map(|locator| name_slot(tenant, locator)).collect();
        let mut locks = Vec::with_capacity(slots.len());
        for slot in slots {
            locks.push(self.lock_slot(slot).await);
        }
        locks
    }

    async fn lock_slot(&self, slot: usize) -> tokio::sync::MutexGuard<'_, ()> {
        self.name_locks.get(slot).expect("the remainder of the length").lock().await
    }

    /// A commit that carried `floor` is durable.
    fn note_floor(&self, floor: Floor) {
        let mut held = self.floor_persisted.lock().unwrap_or_else(PoisonError::into_inner);
        *held = floor.max(*held);
    }

    /// Drops the sorted names that were listed longest ago until the rest fits,
    /// and as many of those of `current` as it takes where nothing else is left.
    fn trim_list_caches(&self, current: &Tenant) {
        let budget = &self.list_budget;
        if budget.excess() == 0 {
            return;
        }
        let mut others = self.list_caches_beside(current);
        others.sort_by_key(|tenant| tenant.heads.last_used());
        for tenant in others {
            if budget.is_roomy() {
                break;
            }
            tenant.heads.evict();
        }
        if budget.excess() > 0 {
            current.heads.shrink(budget.to_spare());
        }
    }

    fn list_caches_beside(&self, current: &Tenant) -> Vec<Arc<Tenant>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let others = tenants.by_id.values().filter(|tenant| tenant.id != current.id);
        others.filter(|tenant| tenant.heads.bytes() > 0).cloned().collect()
    }

    async fn create_tenant(
        &self,
        name: TenantName,
        caller: &Caller,
    ) -> Result<Arc<Tenant>, CreateError> {
        let _one = self.administration.lock().await;
        if self.tenant_named(&name).is_some() {
            return Err(CreateError::Exists);
        }
        let now = self.time.now();
        let record = TenantRecord {
            id: TenantId::from_bytes(random()),
            name,
            created_on: now.wall(),
            limits: OwnLimits::NONE,
        };
        let said = audit::of_tenant(self.by(caller), AuditOp::TenantCreate, &record.name);
        let made = self.bring_about(&record, said).await;
        self.admit_made(&record, made).await
    }

    /// Serves a tenant that was made, by how the making ended; or dooms what was
    /// made of it.
    async fn admit_made(
        &self,
        record: &TenantRecord,
        made: Result<(), StoreError>,
    ) -> Result<Arc<Tenant>, CreateError> {
        match made {
            Ok(()) => Ok(self.admit(record).await?),
            Err(StoreError::Conflict) => {
                self.doom(record.id);
                // There is a record that we do not know: an earlier creation
                // whose outcome was unknown.
                if let Some(earlier) = self.system.find(&record.name).await? {
                    self.admit(&earlier).await?;
                }
                Err(CreateError::Exists)
            }
            Err(error) => {
                // Unless it came to exist after all; what is doomed must not.
                match self.system.find(&record.name).await {
                    Ok(Some(found)) if found.id == record.id => Ok(self.admit(record).await?),
                    Ok(_) => {
                        self.doom(record.id);
                        Err(error.into())
                    }
                    Err(_) => Err(error.into()),
                }
            }
        }
    }

    /// Keys, then space, then the record that makes it exist: a crash in between
    /// leaves leftovers, which the next open destroys.
    async fn bring_about(&self, record: &TenantRecord, said: AuditEntry) -> Result<(), StoreError> {
        let keys =
            self.keyring.create_keys(record.id, record.created_on, self.time.floor()).await?;
        self.make_space(record.id, &keys).await?;
        self.system.add(record, self.time.floor(), said).await
    }

    async fn make_space(&self, id: TenantId, keys: &SpaceKeys) -> Result<(), StoreError> {
        self.store.create_tenant(id).await?;
        let seal: Arc<dyn LedgerSeal> = Arc::new(SpaceSeal::Anchor(keys.anchor.clone()));
        let first = Batch { changes: Vec::new(), floor: self.time.floor(), seal };
        self.store.commit(Space::Tenant(id), first).await
    }

    /// Opens a tenant that has a record, and serves it.
    async fn admit(&self, record: &TenantRecord) -> Result<Arc<Tenant>, StoreError> {
        let heads = Heads::new(self.list_budget.clone());
        let quota = self.quota(record.limits);
        let opened = open_tenant(&self.store, &self.keyring, record, heads, quota).await;
        let (tenant, _) = opened.map_err(OpenError::into_store_error)?;
        let tenant = Arc::new(tenant);
        self.note_rate(&tenant);
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone());
        Ok(tenant)
    }

    fn quota(&self, own: OwnLimits) -> Quota {
        Quota::new(own, self.tenant_limits(), self.time.clock())
    }

    fn note_rate(&self, tenant: &Tenant) {
        if tenant.quota.is_rated() {
            self.has_rated_tenant.store(true, Ordering::Relaxed);
        }
    }

    /// Once its record is gone a tenant does not exist. Its keys and rows are
    /// destroyed before this returns `Ok`, or later, by [`Vault::keep_house`]
    /// and the next open.
    async fn delete_tenant(&self, name: &TenantName, caller: &Caller) -> Result<(), DeleteError> {
        let _one = self.administration.lock().await;
        let tenant = self.tenant_named(name).ok_or(DeleteError::NoSuchTenant)?;
        // First from memory: nothing may be acknowledged to it any more.
        self.tenants.write().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        self.see_off(&tenant).await;
        let (keys, targets) = self.credentials_of(tenant.id);
        let with = keys.iter().map(|id| CredentialChange::DropApiKey(*id));
        let with: Vec<_> =
            with.chain(targets.iter().map(CredentialChange::DropRevocation)).collect();
        let said = AuditEntry {
            detail: self.end_of_audit(&tenant).await,
            ..audit::of_tenant(self.by(caller), AuditOp::TenantDelete, name)
        };
        let gone = (name, tenant.id);
        if let Err(error) = self.system.forget(gone, &with, self.time.floor(), &[said]).await {
            // It is there still, unless a read says otherwise.
            if self.system.find(name).await != Ok(None) {
                self.tenants.write().unwrap_or_else(PoisonError::into_inner).insert(tenant);
                return Err(DeleteError::Store(error));
            }
        }
        self.forget_credentials(&keys, &targets);
        self.doom(tenant.id);
        self.destroy(&[tenant.id]).await.map_err(DeleteError::Unfinished)
    }

    fn doom(&self, id: TenantId) {
        self.doomed.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// What remains of tenants without a record: creations and deletions that a
    /// crash interrupted.
    async fn doom_leftovers(&self) -> Result<(), StoreError> {
        let known = |id: &TenantId| self.tenant(*id).is_ok();
        let mut strays = self.keyring.tenants().await;
        strays.extend(self.store.tenants().await?);
        strays.retain(|id| !known(id));
        strays.sort_unstable();
        strays.dedup();
        strays.into_iter().for_each(|id| self.doom(id));
        Ok(())
    }

    /// Tries to; what fails is tried again. Whoever deleted was told.
    async fn destroy_doomed(&self) {
        let doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if doomed.is_empty() {
            return;
        }
        if let Err(error) = self.destroy(&doomed).await {
            log::debug!("what remains of deleted tenants is not destroyed yet: {error}");
        }
    }

    /// Keys first, so that what remains of the rows anywhere is unreadable.
    async fn destroy(&self, ids: &[TenantId]) -> Result<(), StoreError> {
        self.keyring.shred(ids, self.time.floor()).await?;
        for id in ids {
            self.store.drop_tenant(*id).await?;
        }
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.retain(|id| !ids.contains(id));
        Ok(())
    }
}

/// Which lock is that of a name.
fn name_slot(tenant: &Tenant, locator: &layout::Locator) -> usize {
    let ([a, b, ..], [c, d, ..]) = (*locator, *tenant.id.as_bytes());
    usize::from(u16::from_be_bytes([a ^ c, b ^ d])) % NAME_LOCKS
}

impl Tenants {
    fn insert(&mut self, tenant: Arc<Tenant>) {
        self.by_name.insert(tenant.name.clone(), tenant.clone());
        self.by_id.insert(tenant.id, tenant);
    }

    fn remove(&mut self, tenant: &Tenant) {
        self.by_name.remove(&tenant.name);
        self.by_id.remove(&tenant.id);
    }
}

#[derive(Debug)]
enum CreateError {
    Exists,
    Store(StoreError),
}

impl From<StoreError> for CreateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[derive(Debug)]
enum DeleteError {
    NoSuchTenant,
    /// It exists still.
    Store(StoreError),
    /// It does not exist any more; destroying what remains is tried again.
    Unfinished(StoreError),
}

impl From<StoreError> for DeleteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Unwraps a tenant's keys and opens its ledger, for its counter and floor.
async fn open_tenant(
    store: &Arc<dyn Store>,
    keyring: &Keyring,
    record: &TenantRecord,
    heads: Heads,
    quota: Quota,
) -> Result<(Tenant, Floor), OpenError> {
    let keys = keyring.keys(record.id).await?;
    let seal = SpaceSeal::Anchor(keys.anchor.clone());
    let ledger = ledger_of(&**store, Space::Tenant(record.id), &seal).await.ok().flatten();
    // Damage to one tenant must not keep the others from being served; this one
    // is read-only then.
    if ledger.is_none() {
        log::error!("the rows or the ledger of tenant '{}' are missing or damaged", record.name);
    }
    let store = store.clone();
    let tenant = Tenant::new(record.clone(), store, keys, ledger.as_ref(), heads, quota);
    Ok((tenant, ledger.map_or(Floor::START, |ledger| ledger.floor)))
}

/// Whether nothing but a keyring was ever stored.
async fn is_untouched(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.ledger(Space::System).await?.is_none() && store.tenants().await?.is_empty())
}

/// All rows of a space that is small, as of one commit, and its sealed ledger.
struct Export {
    rows: Vec<(RowKey, Row)>,
    sealed: Option<Vec<u8>>,
}

impl Export {
    /// For a store that nobody else has yet. It needs nothing but reads.
    async fn at_open(store: &dyn Store, space: Space) -> Result<Self, StoreError> {
        let sealed = store.ledger(space).await?;
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan(space, Scan { prefix: Vec::new(), after, limit: 1_000 }).await?;
            rows.extend(page.rows);
            after = rows.last().map(|(last, _): &(RowKey, Row)| last.clone());
            if !page.more {
                return Ok(Self { rows, sealed });
            }
        }
    }

    /// While others may write.
    async fn of(store: &dyn Store, space: Space) -> Result<Self, StoreError> {
        let mut snapshot = store.snapshot(space, &[b""]).await?;
        let (sealed, mut rows) = (snapshot.ledger().map(<[u8]>::to_vec), Vec::new());
        loop {
            let page = snapshot.next(0).await?;
            rows.extend(page.rows);
            if !page.more {
                return Ok(Self { rows, sealed });
            }
        }
    }

    /// Holds the rows against the ledger.
    fn prove(&self, seal: &dyn LedgerSeal, what: &str) -> Result<Ledger, OpenError> {
        let corrupted = || OpenError::Store(StoreError::Corrupted { what: what.to_owned() });
        let sealed = self.sealed.as_ref().ok_or_else(corrupted)?;
        let ledger = seal.open(sealed).map_err(|_| corrupted())?;
        let mut counted = Ledger::EMPTY;
        self.rows.iter().for_each(|(key, row)| counted.add(&seal.digest_row(key, row)));
        if (counted.rows, counted.digest) == (ledger.rows, ledger.digest) {
            Ok(ledger)
        } else {
            Err(corrupted())
        }
    }
}
