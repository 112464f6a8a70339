//! From the text of a credential to a principal.
//!
//! Guaranteed here: a principal comes out only after every signature was checked
//! once, and after revocations, root or issuer's key, expiry and tenant were checked
//! now. Refusals are not remembered, so that a flood of bad tokens cannot push good
//! ones out; they are counted, so that it does not cost a signature each. API keys are
//! proved each time, which costs what a look into the memory does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::crypto::sha256;
use crate::domain::{Now, Source, TenantId, TenantName, Timestamp};
use crate::measure::{self, Lookup};

use super::biscuit::{Unverified, check_text};
use super::oidc::{self, Claimed, Issuers, Validity, Voucher};
use super::principal::Grant;
use super::reach::{Reach, Tenancy};
use super::remembered::{Digest, Known, Remembered};
use super::{
    ApiKeys, Caveats, CredentialId, CredentialKind, Identity, Limits, Principal, PublicRoot,
    Refusal, Revocations, Roots,
};

/// Which tenant a name stands for at present.
pub trait TenantDirectory {
    /// Whether the tenant of this name is the one with this id: false for one
    /// that is gone, and for one made again under its name.
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool;

    /// The tenant of this name, and when it was created.
    fn current(&self, name: &TenantName) -> Option<(TenantId, Timestamp)>;
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
    remembered: Remembered<Judged>,
    issuers: Issuers,
    limits: Arc<Limits>,
}

/// How a token was judged when it was looked at.
#[derive(Clone)]
struct Judged {
    vouched: Vouched,
    /// At which its root and the revocations were looked at.
    generation: u64,
}

/// Who signed a token, and must be able to still.
#[derive(Clone)]
enum Vouched {
    /// One of our roots, which signs for nothing from `until` on.
    Root { id: u32, until: Option<Timestamp> },
    /// A key of an issuer, whose tokens need not be good at once.
    Issuer { voucher: Voucher, validity: Validity },
}

impl Authenticator {
    /// `capacity`: how many tokens are remembered, as [`Remembered::new`] counts.
    pub fn new(standing: Standing, capacity: usize, limits: Arc<Limits>) -> Self {
        Self {
            standing: RwLock::new(standing),
            generation: AtomicU64::new(0),
            remembered: Remembered::new(capacity),
            issuers: Issuers::default(),
            limits,
        }
    }

    /// Accepts the tokens of these issuers as well.
    pub fn trusting(self, issuers: Issuers) -> Self {
        Self { issuers, ..self }
    }

    pub fn issuers(&self) -> &Issuers {
        &self.issuers
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
        let kind = Kind::of(bearer);
        kind.check_text(bearer)?;
        let digest = sha256(bearer.as_bytes());
        // Read before the standing is looked at: a change in between is seen again.
        let generation = self.generation.load(Ordering::SeqCst);
        if let Some(known) = self.remembered.get(&digest) {
            measure::token_looked_up(Lookup::Hit);
            let vouched = if known.judged.generation == generation {
                known.judged.vouched
            } else {
                self.judge_again(digest, &known, generation, now)?
            };
            vouched.holds(now)?;
            holds(&known.principal, now, directory)?;
            return Ok(known.principal);
        }
        measure::token_looked_up(Lookup::Miss);
        self.limits.stranger(source)?;
        let judge = || {
            let (vouched, principal) = match kind {
                Kind::Own => self.verify(bearer, now)?,
                Kind::OfAnIssuer => self.verify_of_issuer(bearer, now, directory)?,
            };
            let vouched = self.look(|standing| vouched.stands(&principal, standing, now))?;
            vouched.holds(now)?;
            holds(&principal, now, directory)?;
            Ok((Judged { vouched, generation }, Arc::new(principal)))
        };
        let (judged, principal) = judge().inspect_err(|refusal| self.count(*refusal, source))?;
        self.remembered.insert(digest, judged, &principal, bearer.len());
        Ok(principal)
    }

    /// A refusal that its sender could have known.
    fn count(&self, refusal: Refusal, source: Source) {
        match refusal {
            // A good token may be among those that came too often, or that cannot be
            // judged for now.
            Refusal::Limited(_) | Refusal::NoKeys => {}
            _ => self.limits.failed(source),
        }
    }

    /// Whose token this is, whether or not it has expired or was revoked: only its
    /// signatures are checked. For who revokes it.
    pub fn identify(&self, bearer: &str, now: Now) -> Result<Principal, Refusal> {
        let (token, roots) = (Unverified::decode(bearer)?, self.roots());
        let root = roots.get(token.root_id(), now).ok_or(Refusal::UnknownRoot)?;
        Ok(Principal::new(token.verify(&root.key)?.into_grant()))
    }

    /// What a revocation removed is not there: it needs no list of those.
    ///
    /// A key is proved whatever else its address sent: that costs what looking a token
    /// up does, and who shares an address with an attacker is not locked out.
    pub fn authenticate_api_key(
        &self,
        key: &str,
        source: Source,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        let judge = || {
            let principal = self.look(|standing| standing.api_keys.judge(key))?.principal(now)?;
            holds(&principal, now, directory)?;
            Ok(principal)
        };
        judge().or_else(|refusal| {
            self.limits.stranger(source)?;
            self.count(refusal, source);
            Err(refusal)
        })
    }

    /// Something changed since this token was judged; perhaps nothing about it.
    fn judge_again(
        &self,
        digest: Digest,
        known: &Known<Judged>,
        generation: u64,
        now: Now,
    ) -> Result<Vouched, Refusal> {
        let Known { judged: Judged { vouched, .. }, principal, .. } = known;
        let vouched = self
            .look(|standing| vouched.stands(principal, standing, now))
            .inspect_err(|_| self.remembered.remove(&digest))?;
        let judged = Judged { vouched: vouched.clone(), generation };
        self.remembered.judge_again(digest, known, judged);
        Ok(vouched)
    }

    /// Nothing is locked while signatures are checked.
    fn verify(&self, bearer: &str, now: Now) -> Result<(Vouched, Principal), Refusal> {
        let token = Unverified::decode(bearer)?;
        let revoked =
            self.look(|standing| standing.revocations.end_a_block_of(token.revocation_ids()));
        if revoked {
            return Err(Refusal::Revoked);
        }
        let (id, roots) = (token.root_id(), self.roots());
        let root = roots.get(id, now).ok_or(Refusal::UnknownRoot)?;
        if let Some(family) = token.family() {
            self.limits.first_sight(family)?;
        }
        let principal = Principal::new(token.verify(&root.key)?.into_grant());
        Ok((Vouched::Root { id, until: root.until }, principal))
    }

    /// An issuer names a tenant by its name. What it issued before the tenant was
    /// created was for another of that name.
    fn verify_of_issuer(
        &self,
        bearer: &str,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<(Vouched, Principal), Refusal> {
        let (voucher, claimed) = self.issuers.verify(bearer, now)?;
        let (tenant_id, created) = directory.current(&claimed.tenant).ok_or(Refusal::TenantGone)?;
        // `iat` has whole seconds: that of the creation itself counts.
        if claimed.validity.issued.unix_seconds() < created.unix_seconds() {
            return Err(Refusal::TenantGone);
        }
        let Claimed { id, tenant, subject, scopes, validity } = claimed;
        let issuer = Some(voucher.issuer());
        let principal = Principal::new(Grant {
            id: CredentialId::Oidc(id),
            identity: Identity { kind: CredentialKind::Oidc, issuer, subject },
            reach: Reach::Tenant(Tenancy { tenant, tenant_id, scopes }),
            issued: validity.issued,
            expires: Some(validity.expires),
            caveats: Caveats::default(),
        });
        Ok((Vouched::Issuer { voucher, validity }, principal))
    }
}

/// No text may be two kinds of token, or checks made of the one could be escaped as
/// the other: what has a dot is by an issuer, and nothing else is.
#[derive(Clone, Copy)]
enum Kind {
    Own,
    OfAnIssuer,
}

impl Kind {
    fn of(bearer: &str) -> Self {
        if bearer.contains('.') { Self::OfAnIssuer } else { Self::Own }
    }

    fn check_text(self, bearer: &str) -> Result<(), Refusal> {
        match self {
            Self::Own => check_text(bearer),
            Self::OfAnIssuer => oidc::check_text(bearer),
        }
    }
}

/// What may change with time and with tenants, whoever vouches for it.
fn holds(principal: &Principal, now: Now, directory: &dyn TenantDirectory) -> Result<(), Refusal> {
    if principal.has_expired(now) {
        return Err(Refusal::Expired);
    }
    match principal.tenancy() {
        Some(Tenancy { tenant, tenant_id, .. }) if !directory.is_current(tenant, *tenant_id) => {
            Err(Refusal::TenantGone)
        }
        _ => Ok(()),
    }
}

impl Vouched {
    /// What may change while a token is remembered, and raises the generation.
    /// Answers who vouches for it now.
    fn stands(
        &self,
        principal: &Principal,
        standing: &Standing,
        now: Now,
    ) -> Result<Self, Refusal> {
        if standing.revocations.end(principal) {
            return Err(Refusal::Revoked);
        }
        match self {
            Self::Root { id, until: _ } => {
                let root = standing.roots.get(*id, now).ok_or(Refusal::UnknownRoot)?;
                Ok(Self::Root { id: *id, until: root.until })
            }
            issuer @ Self::Issuer { .. } => Ok(issuer.clone()),
        }
    }

    /// What may change with time, and with the keys of others.
    fn holds(&self, now: Now) -> Result<(), Refusal> {
        match self {
            Self::Root { until: Some(until), .. } if now.for_expiry() >= *until => {
                Err(Refusal::UnknownRoot)
            }
            Self::Root { .. } => Ok(()),
            Self::Issuer { voucher, validity } => {
                voucher.check(now)?;
                validity.check(now)
            }
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { standing, generation: _, remembered, issuers, limits } = self;
        f.debug_struct("Authenticator")
            .field("standing", standing)
            .field("issuers", issuers)
            .field("limits", limits)
            .field("remembered", &remembered.len())
            .finish()
    }
}
