//! From the text of a bearer token to a principal.
//!
//! Guaranteed here: a principal comes out only after every signature was checked
//! once, and after root, expiry and tenant were checked now. Refusals are not
//! remembered, so that a flood of bad tokens cannot push good ones out.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::crypto::sha256;
use crate::domain::{Now, TenantId, TenantName};

use super::biscuit::{Unverified, check_text};
use super::oidc::Issuers;
use super::{Principal, PublicRoot, Refusal, Roots};

/// Which tenant a name stands for at present.
pub trait TenantDirectory {
    /// Whether the tenant of this name is the one with this id: false for one
    /// that is gone, and for one made again under its name.
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool;
}

/// Verifies tokens and remembers those that were good.
pub struct Authenticator {
    roots: Roots,
    verified: Cache<Digest, Known, ByText>,
    issuers: Issuers,
}

/// SHA-256 (FIPS 180-4) of a token's text. The cache holds no tokens: who reads
/// its memory has nothing to present.
type Digest = [u8; 32];

#[derive(Clone)]
struct Known {
    root_id: u32,
    principal: Arc<Principal>,
    /// Of the token's text, in bytes.
    length: usize,
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
    pub fn new(roots: Roots, capacity: usize) -> Self {
        Self {
            roots,
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
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    pub fn public_roots(&self) -> Vec<PublicRoot> {
        self.roots.public()
    }

    /// Cheap refusals come first: size and shape need no key, a root is looked up
    /// before a signature is checked (75 µs a block).
    pub fn authenticate(
        &self,
        bearer: &str,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        // Before hashing, or the hash would be work that a stranger sets us.
        check_text(bearer)?;
        let digest = sha256(bearer.as_bytes());
        if let Some(known) = self.verified.get(&digest) {
            self.check_now(&known, now, directory)?;
            return Ok(known.principal);
        }
        let known = self.verify(bearer)?;
        self.check_now(&known, now, directory)?;
        self.verified.insert(digest, known.clone());
        Ok(known.principal)
    }

    fn verify(&self, bearer: &str) -> Result<Known, Refusal> {
        let token = Unverified::decode(bearer)?;
        let root_id = token.root_id();
        let root = self.roots.get(root_id).ok_or(Refusal::UnknownRoot)?;
        let principal = Arc::new(Principal::new(token.verify(root)?));
        Ok(Known { root_id, principal, length: bearer.len() })
    }

    /// What may change while a token is remembered.
    fn check_now(
        &self,
        known: &Known,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<(), Refusal> {
        let Known { root_id, principal, length: _ } = known;
        if self.roots.get(*root_id).is_none() {
            return Err(Refusal::UnknownRoot);
        }
        if principal.has_expired(now) {
            return Err(Refusal::Expired);
        }
        if !directory.is_current(principal.tenant(), principal.tenant_id()) {
            return Err(Refusal::TenantGone);
        }
        Ok(())
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { roots, verified, issuers } = self;
        f.debug_struct("Authenticator")
            .field("roots", roots)
            .field("remembered", &verified.len())
            .field("issuers", issuers)
            .finish()
    }
}
