//! API keys, revocations and token roots: what decides whether a credential holds.
//!
//! Guaranteed here: a change is durable before it is answered, and from the moment
//! it is answered the very next request is judged by it. Rows and memory change under
//! one lock, rows first; a change whose outcome is unknown is looked up.
//!
//! Only an operator or a [`ManagePermit`] gets here; who may have one is `auth`'s
//! affair.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::audit;
use super::system::CredentialChange;
use super::tenant::Tenant;
use super::{Vault, to_its_end};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::{
    ApiKey, ApiKeyId, ApiKeys, Caller, Identity, ManagePermit, Principal, Refusal, Revocation,
    RevocationTarget, Subject, TooManyRoots, mint_api_key,
};
use crate::domain::{Now, ScopeSet, TenantId, Timestamp};
use crate::store::StoreError;

/// The longest life of a token. What is revoked without its expiry being known is
/// remembered for as long.
pub(super) const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// For how long after its expiry a credential is remembered: longer than any clock
/// that is believed is wrong.
const AFTERLIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Revocations that are remembered at most. Each takes a row and some hundred bytes
/// of memory, and all of a tenant's must fit into the commit that deletes it.
pub(super) const MAX_REVOCATIONS: usize = 10_000;
/// What is changed in one commit where no order is asked for.
const CHANGES_AT_ONCE: usize = 1_000;

/// What an API key is to be.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub scopes: ScopeSet,
    pub name: Option<Subject>,
    /// `None`: until it is revoked.
    pub expires_on: Option<Timestamp>,
}

/// A key that was made, and its text, which nobody can be shown again.
#[derive(Debug)]
pub struct MadeApiKey {
    pub key: ApiKey,
    pub text: Zeroizing<String>,
}

/// A key as it is listed.
#[derive(Debug, Clone)]
pub struct ListedApiKey {
    pub key: ApiKey,
    /// The start of the hour in which it was last used.
    pub last_used: Option<Timestamp>,
}

/// Why credentials were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("an API key needs at least one scope")]
    NoScope,
    #[error("an API key must expire in the future")]
    ExpiresInThePast,
    #[error("the tenant has {max} API keys, which is as many as it may have")]
    TooManyApiKeys { max: usize },
    #[error("there is no such API key")]
    NoSuchApiKey,
    #[error("there are {MAX_REVOCATIONS} revocations, which is as many as there may be")]
    TooManyRevocations,
    #[error(transparent)]
    TooManyRoots(#[from] TooManyRoots),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether something is done, or only said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Do,
    DryRun,
}

/// What is to be revoked.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) target: RevocationTarget,
    /// Only what was issued before; `None`: all.
    pub(super) before: Option<Timestamp>,
    /// Of a token, where they are known.
    pub(super) token_tenant: Option<TenantId>,
    pub(super) token_expires: Option<Timestamp>,
}

impl Wanted {
    fn revocation(&self, now: Now) -> Revocation {
        let now_for_expiry = now.for_expiry();
        // What was issued before a moment lasts no longer than a token can from there.
        let last_issue = self.before.unwrap_or(now_for_expiry).max(now_for_expiry);
        let longest = last_issue.saturating_add(MAX_TTL);
        let lasts = self.token_expires.map_or(longest, |expires| expires.max(now_for_expiry));
        Revocation {
            before: self.before,
            token_tenant: self.token_tenant,
            revoked_on: now.wall(),
            keep_until: lasts.saturating_add(AFTERLIFE),
        }
    }

    /// Keys outlive any revocation that is forgotten, so that they end with it.
    fn ended_keys(&self, keys: &ApiKeys) -> Vec<ApiKey> {
        match (&self.target, self.before) {
            (RevocationTarget::Tenant(tenant), Some(before)) => {
                let of_tenant = keys.of_tenant(*tenant);
                of_tenant.filter(|key| key.created_on < before).cloned().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What a revocation came to.
pub(super) struct Revoked {
    pub(super) revocation: Revocation,
    /// API keys that ended with it.
    pub(super) api_keys: Vec<ApiKey>,
}

impl Vault {
    /// Makes a key for the permit's tenant. The caller asked the permit for the
    /// scopes.
    pub async fn create_api_key(
        self: &Arc<Self>,
        permit: &ManagePermit,
        new: NewApiKey,
    ) -> Result<MadeApiKey, CredentialError> {
        let tenant = self.tenant(permit.tenant())?;
        self.add_api_key(tenant, new, permit.caller().clone()).await
    }

    /// The keys of the permit's tenant, by id.
    pub fn api_keys(&self, permit: &ManagePermit) -> Vec<ListedApiKey> {
        let mut keys = self.listed_api_keys(|key| key.tenant == permit.tenant());
        keys.sort_by_key(|listed| listed.key.id);
        keys
    }

    /// One of them.
    pub fn api_key(&self, permit: &ManagePermit, id: ApiKeyId) -> Option<ListedApiKey> {
        let keys = self.listed_api_keys(|key| key.id == id && key.tenant == permit.tenant());
        keys.into_iter().next()
    }

    /// Ends one of them.
    pub async fn revoke_api_key(
        self: &Arc<Self>,
        permit: &ManagePermit,
        id: ApiKeyId,
    ) -> Result<(), CredentialError> {
        let caller = permit.caller().clone();
        self.drop_api_key(id, Some(permit.tenant()), Act::Do, caller).await.map(drop)
    }

    pub(super) fn listed_api_keys(&self, which: impl Fn(&ApiKey) -> bool) -> Vec<ListedApiKey> {
        self.authenticator.look(|standing| {
            let keys = standing.api_keys.iter().filter(|(key, _)| which(key));
            keys.map(|(key, last_used)| ListedApiKey { key: key.clone(), last_used }).collect()
        })
    }

    pub(super) async fn add_api_key(
        self: &Arc<Self>,
        tenant: Arc<Tenant>,
        new: NewApiKey,
        caller: Caller,
    ) -> Result<MadeApiKey, CredentialError> {
        let expired = |at: Timestamp| self.time.now().for_expiry() >= at;
        if new.scopes == ScopeSet::NONE {
            return Err(CredentialError::NoScope);
        }
        if new.expires_on.is_some_and(expired) {
            return Err(CredentialError::ExpiresInThePast);
        }
        let vault = self.clone();
        to_its_end(async move { vault.add_api_key_in_turn(&tenant, new, &caller).await }).await
    }

    async fn add_api_key_in_turn(
        &self,
        tenant: &Tenant,
        new: NewApiKey,
        caller: &Caller,
    ) -> Result<MadeApiKey, CredentialError> {
        let _one = self.administration.lock().await;
        // It may have been deleted meanwhile; then its keys were.
        self.tenant(tenant.id)?;
        let max = self.options.max_api_keys;
        let (held, (id, tag, text)) = self.authenticator.look(|standing| {
            let keys = &standing.api_keys;
            (keys.of_tenant(tenant.id).count(), mint_api_key(keys.mac()))
        });
        if held >= max {
            return Err(CredentialError::TooManyApiKeys { max });
        }
        let NewApiKey { scopes, name, expires_on } = new;
        let created_on = self.time.now().wall();
        let key = ApiKey { id, tenant: tenant.id, name, scopes, created_on, expires_on, tag };
        let put = [CredentialChange::PutApiKey(&key, None)];
        let said = AuditEntry {
            detail: Some(id.to_string()),
            ..audit::of_tenant(self.by(caller), AuditOp::ApiKeyCreate, &tenant.name)
        };
        self.system.change_credentials(&put, self.time.floor(), &[said]).await?;
        self.authenticator.change(|standing| {
            standing.api_keys.insert(key.clone(), tenant.name.clone(), None);
        });
        Ok(MadeApiKey { key, text })
    }

    /// `of`: only if it is this tenant's; another's is not there.
    pub(super) async fn drop_api_key(
        self: &Arc<Self>,
        id: ApiKeyId,
        of: Option<TenantId>,
        act: Act,
        caller: Caller,
    ) -> Result<ApiKey, CredentialError> {
        let vault = self.clone();
        to_its_end(async move {
            let _one = vault.administration.lock().await;
            let key = vault.authenticator.look(|standing| standing.api_keys.get(id).cloned());
            let key = key.filter(|key| of.is_none_or(|tenant| key.tenant == tenant));
            let key = key.ok_or(CredentialError::NoSuchApiKey)?;
            if act == Act::Do {
                let dropped = [CredentialChange::DropApiKey(id)];
                let said = AuditEntry {
                    detail: Some(id.to_string()),
                    tenant: vault.tenant(key.tenant).ok().map(|tenant| tenant.name.to_string()),
                    ..audit::entry(vault.by(&caller), AuditOp::ApiKeyRevoke)
                };
                vault.system.change_credentials(&dropped, vault.time.floor(), &[said]).await?;
                vault.authenticator.change(|standing| standing.api_keys.remove(id));
            }
            Ok(key)
        })
        .await
    }

    /// Whose token this is, if one of our roots signed it, whether or not it still
    /// holds otherwise.
    pub(super) fn identify(&self, token: &str) -> Result<Principal, Refusal> {
        self.authenticator.identify(token, self.time.now())
    }

    /// Adds to what was revoked before; nothing is ever taken back.
    pub(super) async fn revoke(
        self: &Arc<Self>,
        wanted: Wanted,
        act: Act,
        caller: Caller,
    ) -> Result<Revoked, CredentialError> {
        let vault = self.clone();
        to_its_end(async move { vault.revoke_in_turn(wanted, act, &caller).await }).await
    }

    async fn revoke_in_turn(
        &self,
        wanted: Wanted,
        act: Act,
        caller: &Caller,
    ) -> Result<Revoked, CredentialError> {
        let _one = self.administration.lock().await;
        let said = wanted.revocation(self.time.now());
        // A tenant that was deleted meanwhile took all this along.
        if let Some(tenant) = wanted.target.tenant(&said) {
            self.tenant(tenant)?;
        }
        let (held, earlier, api_keys) = self.authenticator.look(|standing| {
            let earlier = standing.revocations.get(&wanted.target).copied();
            (standing.revocations.len(), earlier, wanted.ended_keys(&standing.api_keys))
        });
        if earlier.is_none() && held >= MAX_REVOCATIONS {
            return Err(CredentialError::TooManyRevocations);
        }
        let revocation = earlier.map_or(said, |earlier| earlier.merged(said));
        if act == Act::Do {
            let target = wanted.target;
            let mut changes = vec![CredentialChange::PutRevocation(&target, &revocation)];
            changes.extend(api_keys.iter().map(|key| CredentialChange::DropApiKey(key.id)));
            let said = self.said_of_revocation(&target, &revocation, caller);
            self.system.change_credentials(&changes, self.time.floor(), &[said]).await?;
            self.authenticator.change(|standing| {
                api_keys.iter().for_each(|key| standing.api_keys.remove(key.id));
                standing.revocations.insert(target, revocation);
            });
        }
        Ok(Revoked { revocation, api_keys })
    }

    fn said_of_revocation(
        &self,
        target: &RevocationTarget,
        said: &Revocation,
        caller: &Caller,
    ) -> AuditEntry {
        let tenant = target.tenant(said).and_then(|id| self.tenant(id).ok());
        let what = match target {
            RevocationTarget::Token(id) => format!("token {id}"),
            RevocationTarget::Subject(_, who) => format!("subject {}", who.subject),
            RevocationTarget::Tenant(_) => "all of the tenant".to_owned(),
        };
        AuditEntry {
            tenant: tenant.map(|tenant| tenant.name.to_string()),
            detail: Some(what),
            ..audit::entry(self.by(caller), AuditOp::TokenRevoke)
        }
    }

    /// Draws a root that signs from now on; those of before are honoured until
    /// `until`, or until now.
    pub(super) async fn rotate_root(
        self: &Arc<Self>,
        until: Option<Timestamp>,
        caller: Caller,
    ) -> Result<(), CredentialError> {
        let vault = self.clone();
        to_its_end(async move {
            let _one = vault.administration.lock().await;
            let now = vault.time.now();
            let roots = vault.authenticator.roots();
            let rotated = Arc::new(match until {
                Some(until) => roots.rotated(until, now)?,
                None => roots.replaced(),
            });
            let put = [CredentialChange::Roots(&rotated)];
            let said = audit::entry(vault.by(&caller), AuditOp::RootRotate);
            vault.system.change_credentials(&put, vault.time.floor(), &[said]).await?;
            vault.authenticator.change(|standing| standing.roots = rotated);
            Ok(())
        })
        .await
    }

    /// From when on a token that is minted for a subject holds: now, or the end of
    /// the second in which what was issued before was revoked.
    pub(super) fn issuable_from(&self, tenant: TenantId, subject: &Subject) -> Timestamp {
        let (who, now) = (Identity::of_biscuit(subject.clone()), self.time.now());
        self.authenticator
            .look(|standing| standing.revocations.issuable_from(tenant, &who, now.for_expiry()))
    }

    /// Before which moment everything was issued that there is for a subject of a
    /// tenant, or for anybody.
    pub(super) fn all_issued_before(&self, tenant: TenantId, who: Option<&Identity>) -> Timestamp {
        let now = self.time.now().for_expiry();
        self.authenticator.look(|standing| standing.revocations.all_issued_before(tenant, who, now))
    }

    /// What goes with a tenant: its keys, and what was revoked in it.
    pub(super) fn credentials_of(
        &self,
        tenant: TenantId,
    ) -> (Vec<ApiKeyId>, Vec<RevocationTarget>) {
        self.authenticator.look(|standing| {
            let keys = standing.api_keys.of_tenant(tenant).map(|key| key.id).collect();
            let said = standing.revocations.iter(None);
            let of_tenant = said.filter(|(target, said)| target.tenant(said) == Some(tenant));
            (keys, of_tenant.map(|(target, _)| target.clone()).collect())
        })
    }

    /// Forgets them in memory, once their rows are gone.
    pub(super) fn forget_credentials(&self, keys: &[ApiKeyId], targets: &[RevocationTarget]) {
        self.authenticator.change(|standing| {
            keys.iter().for_each(|id| standing.api_keys.remove(*id));
            targets.iter().for_each(|target| standing.revocations.remove(target));
        });
    }

    /// Forgets revocations of what would not hold by itself either, and keys that
    /// expired long ago; neither while the clock is disputed.
    pub(super) async fn prune_credentials(&self) -> Result<u64, StoreError> {
        if self.time.is_disputed() {
            return Ok(0);
        }
        let _one = self.administration.lock().await;
        let floor = self.time.floor();
        let (keys, targets) = self.authenticator.look(|standing| {
            let long_expired = |key: &ApiKey| {
                key.expires_on.is_some_and(|at| at.saturating_add(AFTERLIFE) <= floor.at)
            };
            let keys = standing.api_keys.iter().filter(|(key, _)| long_expired(key));
            let said = standing.revocations.iter(None);
            let over = said.filter(|(_, said)| said.keep_until <= floor.at);
            let keys: Vec<_> = keys.map(|(key, _)| key.id).collect();
            (keys, over.map(|(target, _)| target.clone()).collect::<Vec<_>>())
        });
        let dropped = keys.iter().map(|id| CredentialChange::DropApiKey(*id));
        let dropped = dropped.chain(targets.iter().map(CredentialChange::DropRevocation));
        let dropped: Vec<_> = dropped.collect();
        let caller = Caller::server();
        for some in dropped.chunks(CHANGES_AT_ONCE) {
            let said = AuditEntry {
                detail: Some(format!("{} of them", some.len())),
                ..audit::entry(self.by(&caller), AuditOp::CredentialsSweep)
            };
            self.system.change_credentials(some, floor, &[said]).await?;
        }
        if !dropped.is_empty() {
            self.forget_credentials(&keys, &targets);
        }
        Ok(dropped.len() as u64)
    }

    /// Stores when keys were last used; those for which that fails are tried again.
    pub(super) async fn store_uses(&self) -> Result<(), StoreError> {
        let used = self.authenticator.look(|standing| standing.api_keys.take_used());
        if used.is_empty() {
            return Ok(());
        }
        let stored = self.store_uses_of(&used).await;
        if stored.is_err() {
            self.authenticator.look(|standing| standing.api_keys.give_back_used(used));
        }
        stored
    }

    async fn store_uses_of(&self, used: &[ApiKeyId]) -> Result<(), StoreError> {
        // Under the lock a key that is there cannot be revoked meanwhile, and so is
        // not put back.
        let _one = self.administration.lock().await;
        let keys: Vec<ListedApiKey> = self.authenticator.look(|standing| {
            let listed = |id: &ApiKeyId| {
                let key = standing.api_keys.get(*id)?.clone();
                Some(ListedApiKey { key, last_used: standing.api_keys.last_used(*id) })
            };
            used.iter().filter_map(listed).collect()
        });
        let put = keys.iter().map(|listed| (&listed.key, listed.last_used));
        let puts: Vec<_> =
            put.map(|(key, last_used)| CredentialChange::PutApiKey(key, last_used)).collect();
        for some in puts.chunks(CHANGES_AT_ONCE) {
            self.system.change_credentials(some, self.time.floor(), &[]).await?;
        }
        Ok(())
    }
}
