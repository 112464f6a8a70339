//! From the text of a credential to a principal.
//!
//! Guaranteed here: a principal comes out only after every signature was checked
//! once, and after revocations, root or issuer's key, expiry and tenant were checked
//! now. Refusals are not remembered, so that a flood of bad tokens cannot push good
//! ones out. API keys are proved each time, which costs what a look into the cache does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::crypto::sha256;
use crate::domain::{Now, TenantId, TenantName, Timestamp};

use super::biscuit::{Unverified, check_text};
use super::oidc::{self, Claimed, Issuers, Validity, Voucher};
use super::principal::Grant;
use super::{
    ApiKeys, Caveats, CredentialId, CredentialKind, Identity, Principal, PublicRoot, Refusal,
    Revocations, Roots,
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
    verified: Cache<Digest, Known, ByText>,
    issuers: Issuers,
}

/// SHA-256 (FIPS 180-4) of a token's text. The cache holds no tokens: who reads
/// its memory has nothing to present.
type Digest = [u8; 32];

#[derive(Clone)]
struct Known {
    vouched: Vouched,
    /// At which its root and the revocations were looked at.
    generation: u64,
    principal: Arc<Principal>,
    /// Of the token's text, in bytes.
    length: usize,
}

/// Who signed a token, and must be able to still.
#[derive(Clone)]
enum Vouched {
    /// One of our roots, which signs for nothing from `until` on.
    Root { id: u32, until: Option<Timestamp> },
    /// A key of an issuer, whose tokens need not be good at once.
    Issuer { voucher: Voucher, validity: Validity },
}

/// What a principal takes in memory follows the length of its token. Without
/// weights a holder who packs tokens with checks would have most of the cache.
#[derive(Clone)]
struct ByText;

impl Weighter<Digest, Known> for ByText {
    fn weight(&self, _: &Digest, known: &Known) -> u64 {
        1 + known.length as u64 / 512
    }
}

impl Authenticator {
    /// `capacity`: how many tokens of up to 512 bytes are remembered, each in some
    /// hundred bytes; a longer one counts once more for each 512 bytes.
    pub fn new(standing: Standing, capacity: usize) -> Self {
        Self {
            standing: RwLock::new(standing),
            generation: AtomicU64::new(0),
            verified: Cache::with_weighter(capacity, capacity as u64, ByText),
            issuers: Issuers::default(),
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
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        // Before hashing, or the hash would be work that a stranger sets us.
        let kind = Kind::of(bearer);
        kind.check_text(bearer)?;
        let digest = sha256(bearer.as_bytes());
        // Read before the standing is looked at: a change in between is seen again.
        let generation = self.generation.load(Ordering::SeqCst);
        if let Some(known) = self.verified.get(&digest) {
            if known.generation == generation {
                known.holds(now, directory)?;
                return Ok(known.principal);
            }
            return self.judge_again(digest, known, generation, now, directory);
        }
        let (vouched, principal) = match kind {
            Kind::Own => self.verify(bearer, now)?,
            Kind::OfAnIssuer => self.verify_of_issuer(bearer, now, directory)?,
        };
        let known =
            Known { vouched, generation, principal: Arc::new(principal), length: bearer.len() };
        self.look(|standing| known.stands(standing, now)).map(drop)?;
        known.holds(now, directory)?;
        self.verified.insert(digest, known.clone());
        Ok(known.principal)
    }

    /// Whose token this is, whether or not it has expired or was revoked: only its
    /// signatures are checked. For who revokes it.
    pub fn identify(&self, bearer: &str, now: Now) -> Result<Principal, Refusal> {
        let (token, roots) = (Unverified::decode(bearer)?, self.roots());
        let root = roots.get(token.root_id(), now).ok_or(Refusal::UnknownRoot)?;
        Ok(Principal::new(token.verify(&root.key)?.into_grant()))
    }

    /// What a revocation removed is not there: it needs no list of those.
    pub fn authenticate_api_key(
        &self,
        key: &str,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        let principal = self.look(|standing| standing.api_keys.judge(key))?.principal(now)?;
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
        known: Known,
        generation: u64,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        let vouched = match self.look(|standing| known.stands(standing, now)) {
            Ok(vouched) => vouched,
            Err(refusal) => {
                self.verified.remove(&digest);
                return Err(refusal);
            }
        };
        let known = Known { vouched, generation, ..known };
        known.holds(now, directory)?;
        self.verified.insert(digest, known.clone());
        Ok(known.principal)
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
            tenant,
            tenant_id,
            scopes,
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

impl Known {
    /// What may change while a token is remembered, and raises the generation.
    /// Answers who vouches for it now.
    fn stands(&self, standing: &Standing, now: Now) -> Result<Vouched, Refusal> {
        if standing.revocations.end(&self.principal) {
            return Err(Refusal::Revoked);
        }
        match &self.vouched {
            Vouched::Root { id, until: _ } => {
                let root = standing.roots.get(*id, now).ok_or(Refusal::UnknownRoot)?;
                Ok(Vouched::Root { id: *id, until: root.until })
            }
            issuer @ Vouched::Issuer { .. } => Ok(issuer.clone()),
        }
    }

    /// What may change with time, with tenants, and with the keys of others.
    fn holds(&self, now: Now, directory: &dyn TenantDirectory) -> Result<(), Refusal> {
        let Self { vouched, principal, .. } = self;
        vouched.holds(now)?;
        if principal.has_expired(now) {
            return Err(Refusal::Expired);
        }
        if !directory.is_current(principal.tenant(), principal.tenant_id()) {
            return Err(Refusal::TenantGone);
        }
        Ok(())
    }
}

impl Vouched {
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
        let Self { standing, generation: _, verified, issuers } = self;
        f.debug_struct("Authenticator")
            .field("standing", standing)
            .field("issuers", issuers)
            .field("remembered", &verified.len())
            .finish()
    }
}
