//! Access tokens of other servers: OpenID Connect providers and OAuth 2
//! authorization servers (RFC 9068).
//!
//! Guaranteed here: a token counts only if a configured issuer names itself in it,
//! if a key that is in that issuer's set now signed it, with the algorithm of that
//! key, and if every claim that we rely on is there and says what it must
//! (docs/oidc.md). A set that nobody could renew for 24 hours is not used.
//!
//! Fetching is not done here, and never while a request waits: who fetches gives
//! each set to [`Issuer::install`] and is woken by [`Issuer::key_wanted`] when a
//! token names a key that is not at hand.

mod jwt;
mod keys;
mod object;
mod policy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::{Now, Timestamp};

use super::Refusal;
pub(super) use jwt::check_text;
use jwt::{IssuerKey, Unverified};
pub use keys::{KeySet, KeySetError};
pub(super) use policy::{Claimed, Validity};
pub use policy::{IssuerPolicy, OtherTenants};

/// How long a set is used that could not be renewed.
pub const KEYS_LIVE: Duration = Duration::from_secs(24 * 60 * 60);

/// Every issuer whose tokens are accepted.
#[derive(Debug, Default)]
pub struct Issuers(Box<[Arc<Issuer>]>);

/// One of them, with the keys it has now.
pub struct Issuer {
    policy: IssuerPolicy,
    held: RwLock<Option<Held>>,
    wanted: Notify,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    since: Timestamp,
}

/// What vouched for a token: as long as this key is its issuer's, it counts.
#[derive(Clone)]
pub(super) struct Voucher {
    issuer: Arc<Issuer>,
    key: Arc<IssuerKey>,
}

impl Issuers {
    pub fn new(policies: impl IntoIterator<Item = IssuerPolicy>) -> Self {
        Self(policies.into_iter().map(|policy| Arc::new(Issuer::new(policy))).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.0.iter()
    }

    /// Cheap refusals come first: of a token by nobody we know, or by a key that
    /// nobody has, no signature is checked. When the token is good is still to be
    /// judged ([`Validity::check`]).
    pub(super) fn verify(&self, text: &str, now: Now) -> Result<(Voucher, Claimed), Refusal> {
        let token = Unverified::decode(text)?;
        let name = token.issuer().ok_or(Refusal::UnknownIssuer)?;
        let issuer = self.0.iter().find(|issuer| issuer.name() == name);
        let issuer = issuer.ok_or(Refusal::UnknownIssuer)?;
        let key = issuer.key(token.key_id(), now)?;
        let claimed = issuer.policy.judge(&token.verify(&key)?)?;
        Ok((Voucher { issuer: Arc::clone(issuer), key }, claimed))
    }
}

impl Issuer {
    fn new(policy: IssuerPolicy) -> Self {
        Self { policy, held: RwLock::new(None), wanted: Notify::new() }
    }

    /// As it stands in `iss`.
    pub fn name(&self) -> &str {
        &self.policy.issuer
    }

    pub fn policy(&self) -> &IssuerPolicy {
        &self.policy
    }

    /// From now on these are its keys, and no others.
    pub fn install(&self, keys: KeySet, now: Now) {
        let held = Held { keys: Arc::new(keys), since: now.for_expiry() };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// Returns when a token named a key that is not at hand.
    pub async fn key_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether there are keys that may be used now.
    pub fn has_keys(&self, now: Now) -> bool {
        self.keys(now).is_ok()
    }

    fn keys(&self, now: Now) -> Result<Arc<KeySet>, Refusal> {
        // A poisoned lock is entered: what it holds is replaced whole or not at all.
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            held.as_ref().filter(|held| now.for_expiry() < held.since.saturating_add(KEYS_LIVE));
        fresh.map(|held| Arc::clone(&held.keys)).ok_or(Refusal::NoKeys)
    }

    fn key(&self, id: &str, now: Now) -> Result<Arc<IssuerKey>, Refusal> {
        let keys = self.keys(now)?;
        keys.get(id).cloned().ok_or_else(|| {
            self.wanted.notify_one();
            Refusal::UnknownKey
        })
    }
}

impl Voucher {
    /// Whether the key is still there, and not another under its id.
    pub fn check(&self, now: Now) -> Result<(), Refusal> {
        let Self { issuer, key } = self;
        let keys = issuer.keys(now)?;
        if keys.get(key.id()).is_some_and(|current| current.is(key)) {
            Ok(())
        } else {
            Err(Refusal::UnknownKey)
        }
    }

    pub fn issuer(&self) -> Arc<str> {
        Arc::clone(&self.issuer.policy.issuer)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("policy", &self.policy).finish_non_exhaustive()
    }
}
