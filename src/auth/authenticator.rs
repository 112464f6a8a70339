//! From the text of a bearer token to a principal.
//!
//! Guaranteed here: a principal comes out only after every signature was checked
//! once, and after root, expiry and tenant were checked now. Refusals are not
//! remembered, so that a flood of bad tokens cannot push good ones out; they are
//! counted, so that it does not cost a signature each.

use std::fmt;
use std::sync::Arc;

use crate::crypto::sha256;
use crate::domain::{Now, Source, TenantId, TenantName};

use super::biscuit::{Unverified, check_text};
use super::remembered::Remembered;
use super::{Limits, Principal, PublicRoot, Refusal, Roots};

/// Which tenant a name stands for at present.
pub trait TenantDirectory {
    /// Whether the tenant of this name is the one with this id: false for one
    /// that is gone, and for one made again under its name.
    fn is_current(&self, name: &TenantName, id: TenantId) -> bool;
}

/// Verifies tokens and remembers those that were good.
pub struct Authenticator {
    roots: Roots,
    remembered: Remembered,
    limits: Arc<Limits>,
}

impl Authenticator {
    /// `capacity`: how many tokens are remembered, as [`Remembered::new`] counts.
    pub fn new(roots: Roots, capacity: usize, limits: Arc<Limits>) -> Self {
        Self { roots, remembered: Remembered::new(capacity), limits }
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
        source: Source,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<Arc<Principal>, Refusal> {
        // Before hashing, or the hash would be work that a stranger sets us.
        check_text(bearer)?;
        let digest = sha256(bearer.as_bytes());
        if let Some(known) = self.remembered.get(&digest) {
            self.check_now(known.root_id, &known.principal, now, directory)?;
            return Ok(known.principal);
        }
        self.limits.stranger(source)?;
        let (root_id, principal) = self
            .verify(bearer)
            .and_then(|(root_id, principal)| {
                self.check_now(root_id, &principal, now, directory)?;
                Ok((root_id, principal))
            })
            .inspect_err(|refusal| self.count(*refusal, source))?;
        self.remembered.insert(digest, root_id, &principal, bearer.len());
        Ok(principal)
    }

    fn verify(&self, bearer: &str) -> Result<(u32, Arc<Principal>), Refusal> {
        let token = Unverified::decode(bearer)?;
        let root_id = token.root_id();
        let root = self.roots.get(root_id).ok_or(Refusal::UnknownRoot)?;
        self.limits.first_sight(token.credential())?;
        Ok((root_id, Arc::new(Principal::new(token.verify(root)?))))
    }

    fn count(&self, refusal: Refusal, source: Source) {
        match refusal {
            // A good token may be among those that came too often.
            Refusal::Limited(_) => {}
            _ => self.limits.failed(source),
        }
    }

    /// What may change while a token is remembered.
    fn check_now(
        &self,
        root_id: u32,
        principal: &Principal,
        now: Now,
        directory: &dyn TenantDirectory,
    ) -> Result<(), Refusal> {
        if self.roots.get(root_id).is_none() {
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
        let Self { roots, remembered, limits } = self;
        f.debug_struct("Authenticator")
            .field("roots", roots)
            .field("limits", limits)
            .field("remembered", &remembered.len())
            .finish()
    }
}
