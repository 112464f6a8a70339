//! New DEKs, and the encryption anew of what is under old ones, while others read
//! and write.
//!
//! A rotation is one commit to the keyring: the new DEK encrypts, the old one
//! decrypts. Where the old ones are to be *replaced*, their state says so
//! ([`DekState::Leaving`]), and that is all that is remembered of the work: whoever
//! looks for secrets under them finds what is left to do, after a crash as well. When
//! nothing is under them any more, they are destroyed with the files that held them.
//!
//! Why nothing can be under them then: a writer encrypts while it holds the lock of
//! its name (or the system's). Each of those locks is taken once after the new DEK
//! encrypts and before anything is looked at; so what was encrypted under an old DEK
//! is stored, and is found. Head and value of a version are under one DEK, so that
//! heads alone are looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::audit;
use super::keyring::{DekAge, SYSTEM, SpaceKeys};
use super::layout::Locator;
use super::pace::Pace;
use super::tenant::{Leaving, Tenant};
use super::{KeysError, OpenError, Vault, VaultError};
use crate::api::admin::{Progress, Reencrypted, Report};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::crypto::OldDeks;
use crate::domain::TenantId;
use crate::store::{Change, StoreError};

/// How many secrets are encrypted anew in one commit where nobody is to wait for it: the
/// engine reads nothing while it applies one, some 20 µs for each secret.
const FEW_AT_ONCE: usize = 8;
/// How many where it is to be over soon: some milliseconds of work, and a few hundred KiB
/// unless values are large.
const MANY_AT_ONCE: usize = 64;
/// At which weight of values a commit is made before that.
const BYTES_AT_ONCE: usize = 512 * 1024;
/// How many heads that are passed over cost as much as one that is written anew.
const PASSED_FOR_ONE: u64 = 20;
/// How often a commit that the store had no room for is tried.
const TRIES: u32 = 20;

/// What came of tending to keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tended {
    Done,
    /// By damage, or by something that takes its time.
    Hindered,
}

/// When DEKs are rotated by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DekPolicy {
    /// At which age of the active one; `None`: never.
    pub rotate_after: Option<Duration>,
    pub old: OldDeks,
    /// Secrets that are encrypted anew in a second; `None`: as many as can be.
    pub per_second: Option<u32>,
}

impl DekPolicy {
    pub const NEVER: Self = Self { rotate_after: None, old: OldDeks::Retire, per_second: None };
}

impl Vault {
    /// A new DEK for each of these tenants, or of [`SYSTEM`]; durable when it returns.
    /// Runs to its end, as [`Vault::write`] does.
    pub(super) async fn rotate_deks(
        self: &Arc<Self>,
        spaces: Vec<TenantId>,
        old: OldDeks,
    ) -> Result<(), KeysError> {
        self.change_keys(move |vault| async move {
            let _one = vault.administration.lock().await;
            let now = vault.now().wall();
            let exists = |space: &TenantId| *space == SYSTEM || vault.tenant(*space).is_ok();
            let spaces: Vec<_> = spaces.into_iter().filter(exists).collect();
            let mut left = spaces.as_slice();
            while !left.is_empty() {
                let floor = vault.time.floor();
                let drawn = vault.keyring.rotate_deks(left, old, now, floor).await;
                let drawn = drawn.map_err(OpenError::into_store_error)?;
                left = left.get(drawn.len()..).unwrap_or_default();
                for (space, dek) in drawn {
                    vault.with_keys(space, |keys| keys.rotate(dek, old));
                }
            }
            Ok(())
        })
        .await
    }

    /// Nothing, where the tenant was deleted.
    pub(super) fn with_keys(&self, space: TenantId, act: impl FnOnce(&SpaceKeys)) {
        if space == SYSTEM {
            return act(self.system.keys());
        }
        if let Ok(tenant) = self.tenant(space) {
            act(tenant.keys().0);
        }
    }

    /// Encrypts anew all that is under DEKs that leave, and destroys those under which
    /// nothing is left. One at a time; whoever comes meanwhile waits, and then finds
    /// little to do.
    pub(super) async fn reencrypt(
        self: &Arc<Self>,
        mut pace: Pace,
        report: &Report,
    ) -> Result<Reencrypted, KeysError> {
        let _one = self.reencryption.lock().await;
        // Those that another rotation adds meanwhile may be passed already.
        let mut leaving = {
            // Not between the keyring's part of a rotation and that of memory: what the one
            // says leaves may encrypt still.
            let _settled = self.keys_in_use.read().await;
            self.keyring.leaving().await
        };
        if leaving.is_empty() {
            return Ok(Reencrypted::default());
        }
        self.let_writers_finish().await;
        let mut all = Reencrypted::default();
        for space in leaving.keys().copied().collect::<Vec<_>>() {
            match self.reencrypt_space(space, &mut pace, report).await? {
                Some(Reencrypted { secrets, damaged }) => {
                    all.secrets += secrets;
                    all.damaged += damaged;
                    if damaged > 0 {
                        leaving.remove(&space);
                    }
                }
                // Deleted, keys and all; or it comes back, if that fails.
                None => drop(leaving.remove(&space)),
            }
        }
        self.drop_deks(leaving).await?;
        Ok(all)
    }

    /// Whoever encrypts holds the lock of a name, or the system's, which
    /// `System::reencrypt` waits for.
    async fn let_writers_finish(&self) {
        for lock in &self.name_locks {
            drop(lock.lock().await);
        }
    }

    async fn drop_deks(
        self: &Arc<Self>,
        deks: BTreeMap<TenantId, Vec<u32>>,
    ) -> Result<(), KeysError> {
        self.change_keys(move |vault| async move {
            vault.keyring.drop_deks(&deks, vault.time.floor()).await?;
            for (space, ids) in deks {
                vault.with_keys(space, |keys| keys.forget(&ids));
            }
            Ok(())
        })
        .await
    }

    /// `None` where there is no such tenant.
    async fn reencrypt_space(
        &self,
        space: TenantId,
        pace: &mut Pace,
        report: &Report,
    ) -> Result<Option<Reencrypted>, StoreError> {
        if space == SYSTEM {
            return match self.system.reencrypt(self.time.floor()).await {
                Ok(()) => Ok(Some(Reencrypted::default())),
                Err(StoreError::Corrupted { what }) => Ok(Some(damaged_space(&what))),
                Err(error) => Err(error),
            };
        }
        let Ok(tenant) = self.tenant(space) else { return Ok(None) };
        match self.reencrypt_tenant(&tenant, pace, report).await {
            Ok(done) => Ok(Some(done)),
            Err(StoreError::TenantGone) if self.tenant(space).is_err() => Ok(None),
            Err(StoreError::TenantGone) => Ok(Some(damaged_space(tenant.name.as_str()))),
            Err(StoreError::Corrupted { what }) => Ok(Some(damaged_space(&what))),
            Err(error) => Err(error),
        }
    }

    async fn reencrypt_tenant(
        &self,
        tenant: &Tenant,
        pace: &mut Pace,
        report: &Report,
    ) -> Result<Reencrypted, StoreError> {
        let (mut done, mut seen, mut after) = (Reencrypted::default(), 0, None);
        let at_once = if pace.is_bounded() { FEW_AT_ONCE } else { MANY_AT_ONCE };
        loop {
            let Leaving { secrets, heads, next } =
                tenant.leaving(after).await.map_err(inner_store_error)?;
            let mut batch = Rewriting::default();
            for (locator, head) in heads {
                match tenant.reencrypted(&locator, head).await {
                    Ok(None) => {}
                    Ok(Some(changes)) if moves_rows(&changes) => {
                        done.secrets += self.move_one(tenant, &locator).await?;
                    }
                    Ok(Some(changes)) => batch.add(changes),
                    Err(VaultError::Store(StoreError::Corrupted { what })) => {
                        log::warn!("it stays under its old DEK: {what} is corrupted");
                        done.damaged += 1;
                    }
                    Err(error) => return Err(inner_store_error(error)),
                }
                if batch.secrets.len() >= at_once || batch.bytes >= BYTES_AT_ONCE {
                    done.secrets += self.rewrite(tenant, &mut batch, pace).await?;
                }
            }
            done.secrets += self.rewrite(tenant, &mut batch, pace).await?;
            seen += secrets;
            let of = next.as_ref().map_or(seen, |next| estimate(seen, next.as_bytes()));
            report(Progress { what: tenant.name.to_string(), done: seen, of: Some(of) });
            if next.is_none() {
                return Ok(done);
            }
            after = next;
            pace.passed(secrets / PASSED_FOR_ONE).await;
        }
    }

    /// One whose rows get other keys, as those of an older layout do. Its writers must not
    /// hold the old ones: they would delete those, and leave the new.
    async fn move_one(&self, tenant: &Tenant, locator: &Locator) -> Result<u64, StoreError> {
        let _lock = self.lock_name(tenant, locator).await;
        let changes = tenant.reencrypted_now(locator).await.map_err(inner_store_error)?;
        match changes {
            None => Ok(0),
            Some(changes) => Ok(self.commit_unless_replaced(tenant, changes).await?.into()),
        }
    }

    /// Answers whether it was; where not, what is there is under the newest DEK.
    async fn commit_unless_replaced(
        &self,
        tenant: &Tenant,
        changes: Vec<Change>,
    ) -> Result<bool, StoreError> {
        match self.commit_patiently(tenant, changes).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Commits a batch, and empties it. Answers how many secrets it was.
    async fn rewrite(
        &self,
        tenant: &Tenant,
        batch: &mut Rewriting,
        pace: &mut Pace,
    ) -> Result<u64, StoreError> {
        let secrets = std::mem::take(batch).secrets;
        if secrets.is_empty() {
            return Ok(0);
        }
        let count = secrets.len() as u64;
        if !self.commit_unless_replaced(tenant, secrets.concat()).await? {
            // One of them was replaced meanwhile; which, is told one by one.
            for changes in secrets {
                self.commit_unless_replaced(tenant, changes).await?;
            }
        }
        pace.passed(count).await;
        Ok(count)
    }

    async fn commit_patiently(
        &self,
        tenant: &Tenant,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            // Whoever counts rows sees all of a secret's before this, or all after it.
            let writing = tenant.quota.enter().await;
            let outcome = tenant.commit(changes.clone(), self.time.floor()).await;
            drop(writing);
            match outcome {
                Err(StoreError::NotApplied { retry_after }) if tries < TRIES => {
                    tokio::time::sleep(retry_after).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// What has to be done about keys from time to time: rotates DEKs that are old
    /// enough, and goes on with what a rotation left to be encrypted anew. The edge
    /// calls it every minute; not so soon where it answers that something stands in the
    /// way.
    pub async fn tend_keys(self: &Arc<Self>) -> Tended {
        let DekPolicy { rotate_after, old, per_second } = self.options.deks;
        if let Some(age) = rotate_after {
            match self.rotate_aged(age, old).await {
                Ok(0) => {}
                Ok(rotated) => log::info!("drew new DEKs for {rotated} tenants, by age"),
                Err(error) => log::warn!("DEKs were not rotated by age: {error}"),
            }
        }
        match self.reencrypt(Pace::new(per_second), &|_| {}).await {
            Ok(Reencrypted { secrets: 0, damaged: 0 }) => return Tended::Done,
            Ok(Reencrypted { secrets, damaged: 0 }) => {
                log::info!("encrypted {secrets} secrets anew, and destroyed their old DEKs");
                return Tended::Done;
            }
            Ok(Reencrypted { secrets, damaged }) => log::warn!(
                "encrypted {secrets} secrets anew; {damaged} are damaged and keep their old DEKs: \
                 see 'tenure verify'"
            ),
            Err(error) => log::warn!("encrypting anew is tried again: {error}"),
        }
        Tended::Hindered
    }

    /// Answers for how many. While the clock is disputed nothing has an age.
    async fn rotate_aged(self: &Arc<Self>, age: Duration, old: OldDeks) -> Result<u64, KeysError> {
        let now = self.now();
        if self.time.is_disputed() {
            return Ok(0);
        }
        let tenants = self.all_tenants();
        let oldest = tenants.iter().map(|tenant| tenant.created_on).min();
        let system = oldest.map(|created_on| (SYSTEM, created_on));
        let spaces = tenants.iter().map(|tenant| (tenant.id, tenant.created_on)).chain(system);
        let mut due = Vec::new();
        for (space, created_on) in spaces {
            let mut made_on = None;
            self.with_keys(space, |keys| made_on = keys.deks().active_made_on());
            if made_on.unwrap_or(created_on).saturating_add(age) <= now.wall() {
                due.push(space);
            }
        }
        let count = due.len() as u64;
        if count > 0 {
            let said = audit::entry(self.by(&Caller::server()), AuditOp::DekRotate);
            audit::recorded(self, said, self.rotate_deks(due, old)).await?;
        }
        Ok(count)
    }

    /// The DEKs of a tenant, or of [`SYSTEM`].
    pub(super) async fn deks(&self, space: TenantId) -> Result<Vec<DekAge>, StoreError> {
        self.keyring.deks(space).await.map_err(OpenError::into_store_error)
    }
}

/// Secrets that are about to be written anew, each with its precondition.
#[derive(Default)]
struct Rewriting {
    secrets: Vec<Vec<Change>>,
    bytes: usize,
}

impl Rewriting {
    fn add(&mut self, changes: Vec<Change>) {
        let bytes = |change: &Change| match change {
            Change::Put { row, .. } => row.bytes.len(),
            Change::Append(entry) => entry.text().len(),
            Change::Expect { .. } | Change::Delete { .. } | Change::Forget { .. } => 0,
        };
        self.bytes += changes.iter().map(bytes).sum::<usize>();
        self.secrets.push(changes);
    }
}

fn moves_rows(changes: &[Change]) -> bool {
    changes.iter().any(|change| matches!(change, Change::Delete { .. }))
}

/// How many secrets there are, by how far in the space of all locators the first
/// `seen` of them reach: those are spread evenly.
fn estimate(seen: u64, head_key: &[u8]) -> u64 {
    let reached = head_key.get(1..).and_then(|locator| locator.first_chunk::<4>());
    let reached = reached.map_or(u32::MAX, |first| u32::from_be_bytes(*first));
    let all = u128::from(seen) << 32;
    u64::try_from(all / u128::from(reached.max(1))).unwrap_or(u64::MAX).max(seen)
}

fn damaged_space(what: &str) -> Reencrypted {
    log::warn!("its DEKs stay: {what} is corrupted");
    Reencrypted { secrets: 0, damaged: 1 }
}

fn inner_store_error(error: VaultError) -> StoreError {
    match error {
        VaultError::Store(error) => error,
        // Those of writers, which this is none of.
        _ => StoreError::Conflict,
    }
}
