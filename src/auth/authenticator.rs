//! From the text of a credential to a principal.
//!
//! Guaranteed here: a principal comes out only after every signature was checked
//! once, and after revocations, root, expiry and tenant were checked now. Refusals
//! are not remembered, so that a flood of bad tokens cannot push good ones out; they
//! are counted, so that it does not cost a signature each. API keys are proved each
//! time, which costs what a look among the remembered does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::sha256;
use crate::domain::{Now, Source, TenantId, TenantName, Timestamp};

use super::biscuit::{Unverified, check_text};
use super::remembered::{Digest, Judged, Known, Remembered};
use super::{ApiKeys, Limits, Principal, PublicRoot, Refusal, Revocations, Roots};

/// Which tenant a name stands for at present.
pub trait TenantDirectory {
    /// Whether the tenant of this name is the one with this id: false for one
    /// that is gone, and for one made again under its name.
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool;
}

/// What decides whether a credential still holds, and changes while it is held.
#[derive(Debug)]
pub struct Standing {
    pub roots: Arc<Roots>,
    pub revocations: Revocations,
    pub api_keys: ApiKeys,
}

/// Verifies tokens and remembers those that were good.
pub struct Authenticator {
    standing: RwLock<Standing>,
    /// Rises with every change of the standing, after it. A token that was judged at
    /// this one need not be judged again, which is one load for each request.
    generation: AtomicU64,
    remembered: Remembered,
    limits: Arc<Limits>,
}

impl Authenticator {
    /// `capacity`: how many tokens are remembered, as [`Remembered::new`] counts.
    pub fn new(standing: Standing, capacity: usize, limits: Arc<Limits>) -> Self {
        Self {
            standing: RwLock::new(standing),
            generation: AtomicU64::new(0),
            remembered: Remembered::new(capacity),
            limits,
        }
    }

    /// The root keys, to mint with.
    pub fn roots(&self) -> Arc<Roots> {
        self.look(|standing| Arc::clone(&standing.roots))
    }

    /// Those that sign, or did and are honoured still.
    pub fn public_roots(&self, now: Now) -> Vec<PublicRoot> {
        self.look(|standing| standing.roots.public(now))
    }

    pub fn look<T>(&self, at: impl FnOnce(&Standing) -> T) -> T {
        at(&self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Once it returns, every request is judged by what was changed.
    pub fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        let done = change(&mut self.standing.write().unwrap_or_else(PoisonError::into_inner));
        self.generation.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// Cheap refusals come first: size and shape need no key, nor do revocations; a
    /// root is looked up before a signature is checked (75 µs a block).
    pub fn authenticate(
        &self,
        bearer: &str,
        source: Source,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        // Before hashing, or the hash would be work that a stranger sets us.
        check_text(bearer)?;
        let digest = sha256(bearer.as_bytes());
        // Read before the standing is looked at: a change in between is seen again.
        let generation = self.generation.load(Ordering::SeqCst);
        if let Some(known) = self.remembered.get(&digest) {
            if known.judged.generation != generation {
                self.judge_again(digest, &known, generation, bearer.len(), now)?;
            }
            holds(known.judged, &known.principal, now, directory)?;
            return Ok(known.principal);
        }
        self.limits.stranger(source)?;
        let (judged, principal) = self
            .verify(bearer, generation, now)
            .and_then(|(judged, principal)| {
                self.look(|standing| stands(standing, judged.root_id, &principal, now))
                    .map(drop)?;
                holds(judged, &principal, now, directory)?;
                Ok((judged, principal))
            })
            .inspect_err(|refusal| self.count(*refusal, source))?;
        self.remembered.insert(digest, judged, &principal, bearer.len());
        Ok(principal)
    }

    /// Whose token this is, whether or not it has expired or was revoked: only its
    /// signatures are checked. For who revokes it.
    pub fn identify(&self, bearer: &str, now: Now) -> Result<Principal, Refusal> {
        let (token, roots) = (Unverified::decode(bearer)?, self.roots());
        let root = roots.get(token.root_id(), now).ok_or(Refusal::UnknownRoot)?;
        Ok(Principal::new(token.verify(&root.key)?.into_grant()))
    }

    fn count(&self, refusal: Refusal, source: Source) {
        match refusal {
            // A good token may be among those that came too often.
            Refusal::Limited(_) => {}
            _ => self.limits.failed(source),
        }
    }

    /// What a revocation removed is not there: it needs no list of those.
    pub fn authenticate_api_key(
        &self,
        key: &str,
        source: Source,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        // A key costs one HMAC, whoever sends it: bad ones are counted, and keep nobody
        // who shares their address from using a good one.
        let judged = self.look(|standing| standing.api_keys.judge(key));
        let principal = judged.and_then(|judgement| judgement.principal(now));
        let principal = principal.inspect_err(|refusal| self.count(*refusal, source))?;
        if directory.is_current(principal.tenant(), principal.tenant_id()) {
            Ok(principal)
        } else {
            Err(Refusal::TenantGone)
        }
    }

    /// Something changed since this token was judged; perhaps nothing about it.
    fn judge_again(
        &self,
        digest: Digest,
        known: &Known,
        generation: u64,
        length: usize,
        now: Now,
    ) -> Result<(), Refusal> {
        let Known { judged, principal, .. } = known;
        match self.look(|standing| stands(standing, judged.root_id, principal, now)) {
            Ok(root_until) => {
                let judged = Judged { root_until, generation, ..*judged };
                self.remembered.insert(digest, judged, principal, length);
                holds_root(root_until, now)
            }
            Err(refusal) => {
                self.remembered.remove(&digest);
                Err(refusal)
            }
        }
    }

    /// Nothing is locked while signatures are checked.
    fn verify(
        &self,
        bearer: &str,
        generation: u64,
        now: Now,
    ) -> Result<(Judged, Arc<Principal>), Refusal> {
        let token = Unverified::decode(bearer)?;
        let revoked =
            self.look(|standing| standing.revocations.end_a_block_of(token.revocation_ids()));
        if revoked {
            return Err(Refusal::Revoked);
        }
        let (root_id, roots) = (token.root_id(), self.roots());
        let root = roots.get(root_id, now).ok_or(Refusal::UnknownRoot)?;
        self.limits.first_sight(token.credential())?;
        let principal = Arc::new(Principal::new(token.verify(&root.key)?.into_grant()));
        Ok((Judged { root_id, root_until: root.until, generation }, principal))
    }
}

/// What may change while a token is remembered, and raises the generation. Answers
/// until when its root is honoured.
fn stands(
    standing: &Standing,
    root_id: u32,
    principal: &Principal,
    now: Now,
) -> Result<Option<Timestamp>, Refusal> {
    if standing.revocations.end(principal) {
        return Err(Refusal::Revoked);
    }
    let root = standing.roots.get(root_id, now).ok_or(Refusal::UnknownRoot)?;
    Ok(root.until)
}

/// What may change with time, and with tenants.
fn holds(
    judged: Judged,
    principal: &Principal,
    now: Now,
    directory: &dyn TenantDirectory,
) -> Result<(), Refusal> {
    holds_root(judged.root_until, now)?;
    if principal.has_expired(now) {
        return Err(Refusal::Expired);
    }
    if !directory.is_current(principal.tenant(), principal.tenant_id()) {
        return Err(Refusal::TenantGone);
    }
    Ok(())
}

fn holds_root(until: Option<Timestamp>, now: Now) -> Result<(), Refusal> {
    if until.is_some_and(|until| now.for_expiry() >= until) {
        return Err(Refusal::UnknownRoot);
    }
    Ok(())
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { standing, generation: _, remembered, limits } = self;
        f.debug_struct("Authenticator")
            .field("standing", standing)
            .field("limits", limits)
            .field("remembered", &remembered.len())
            .finish()
    }
}
