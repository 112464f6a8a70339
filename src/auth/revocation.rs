//! What was revoked, and which credentials that ends.
//!
//! Guaranteed here: a token is ended by the id of any of its blocks, so that
//! nothing that is narrowed from a revoked token outlives it; a subject or a
//! tenant is ended up to a moment, so that what is minted afterwards holds.
//!
//! Where revocations are kept, and how long, is the vault's affair.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use crate::domain::{TenantId, Timestamp};

use super::{Identity, Principal};

/// What names one block of a token, and with it the token that ends there and all
/// that is narrowed from it: the block's signature (biscuit specification,
/// "revocation identifier"). It cannot be changed without the key of the block
/// before it, and nobody can be recognized or impersonated by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationId([u8; Self::LEN]);

/// A text that is no revocation id. It never repeats the text, which may be a
/// token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 128 hexadecimal digits, as 'tenure token inspect' shows them")]
pub struct RevocationIdError;

impl RevocationId {
    /// Of an Ed25519 signature (RFC 8032).
    pub const LEN: usize = 64;

    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, RevocationIdError> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| RevocationIdError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationId({self})")
    }
}

/// What a revocation is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevocationTarget {
    /// The token that ends with this block, and everything narrowed from it.
    Token(RevocationId),
    /// What a subject holds in one tenant.
    Subject(TenantId, Identity),
    /// What anybody holds in one tenant.
    Tenant(TenantId),
}

/// What was said about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Only what was issued before this moment; `None`: whenever it was.
    pub before: Option<Timestamp>,
    /// Of a token, where it is known: the tenant that it was minted for.
    pub token_tenant: Option<TenantId>,
    pub revoked_on: Timestamp,
    /// From then on nothing that it ends would hold by itself either.
    pub keep_until: Timestamp,
}

impl Revocation {
    /// Both together: what either of them ends.
    pub fn merged(self, other: Self) -> Self {
        Self {
            before: self.before.zip(other.before).map(|(a, b)| a.max(b)),
            token_tenant: self.token_tenant.or(other.token_tenant),
            revoked_on: self.revoked_on.max(other.revoked_on),
            keep_until: self.keep_until.max(other.keep_until),
        }
    }

    fn ends(&self, issued: Timestamp) -> bool {
        self.before.is_none_or(|before| issued < before)
    }
}

impl RevocationTarget {
    /// The tenant whose end is also its own.
    pub fn tenant(&self, revocation: &Revocation) -> Option<TenantId> {
        match self {
            Self::Token(_) => revocation.token_tenant,
            Self::Subject(tenant, _) | Self::Tenant(tenant) => Some(*tenant),
        }
    }
}

/// All revocations there are.
#[derive(Default)]
pub struct Revocations(BTreeMap<RevocationTarget, Revocation>);

impl Revocations {
    /// In the place of what was said about the target before.
    pub fn insert(&mut self, target: RevocationTarget, revocation: Revocation) {
        self.0.insert(target, revocation);
    }

    pub fn remove(&mut self, target: &RevocationTarget) {
        self.0.remove(target);
    }

    pub fn get(&self, target: &RevocationTarget) -> Option<&Revocation> {
        self.0.get(target)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In one order, from behind `after` on.
    pub fn iter(
        &self,
        after: Option<&RevocationTarget>,
    ) -> impl Iterator<Item = (&RevocationTarget, &Revocation)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range((from, Bound::Unbounded))
    }

    /// Whether one of a token's blocks was revoked. It needs no key, and so is
    /// asked before a signature is checked.
    pub(super) fn end_a_block_of(&self, blocks: &[RevocationId]) -> bool {
        blocks.iter().any(|id| self.0.contains_key(&RevocationTarget::Token(*id)))
    }

    /// Whether the credential was revoked in any way.
    pub(super) fn end(&self, principal: &Principal) -> bool {
        !self.is_empty()
            && (self.end_a_block_of(principal.id().blocks())
                || principal.tenant_id().is_some_and(|tenant| self.end_in(tenant, principal)))
    }

    fn end_in(&self, tenant: TenantId, principal: &Principal) -> bool {
        let ended = |target| self.0.get(&target).is_some_and(|said| said.ends(principal.issued()));
        ended(RevocationTarget::Tenant(tenant))
            || ended(RevocationTarget::Subject(tenant, principal.identity().clone()))
    }

    /// From which moment on what is minted for a subject holds, if that is not past.
    ///
    /// A token's times are whole seconds, so that a revocation reaches to the end of
    /// its second; a token that is minted within it begins at the next.
    pub fn issuable_from(
        &self,
        tenant: TenantId,
        identity: &Identity,
        now: Timestamp,
    ) -> Timestamp {
        let of_subject = RevocationTarget::Subject(tenant, identity.clone());
        let said = [self.get(&of_subject), self.get(&RevocationTarget::Tenant(tenant))];
        let ends = said.into_iter().flatten().filter_map(|revocation| revocation.before);
        ends.fold(now, Timestamp::max)
    }

    /// Before which moment everything was issued that there is for a subject, or
    /// (`None`) for anybody. That is not only the end of this second: what was minted
    /// since the last revocation may have been issued after it.
    pub fn all_issued_before(
        &self,
        tenant: TenantId,
        identity: Option<&Identity>,
        now: Timestamp,
    ) -> Timestamp {
        let latest = match identity {
            Some(identity) => self.issuable_from(tenant, identity, now),
            None => {
                let of_tenant =
                    self.0.iter().filter(|(target, said)| target.tenant(said) == Some(tenant));
                of_tenant.filter_map(|(_, said)| said.before).fold(now, Timestamp::max)
            }
        };
        Timestamp::from_unix_seconds(latest.unix_seconds()).saturating_add(Duration::from_secs(1))
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({})", self.len())
    }
}

impl FromIterator<(RevocationTarget, Revocation)> for Revocations {
    fn from_iter<I: IntoIterator<Item = (RevocationTarget, Revocation)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Subject;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn before(seconds: i64, keep_until: i64) -> Revocation {
        Revocation {
            before: Some(at(seconds)),
            token_tenant: None,
            revoked_on: at(seconds),
            keep_until: at(keep_until),
        }
    }

    #[test]
    fn a_revocation_id_is_128_digits() {
        let id = RevocationId::from_bytes([0xab; 64]);
        assert_eq!(RevocationId::parse(&id.to_string()), Ok(id));
        assert_eq!(RevocationId::parse(&"AB".repeat(64)), Ok(id));
        for bad in [String::new(), "ab".repeat(63), "ab".repeat(65), "zz".repeat(64)] {
            assert_eq!(RevocationId::parse(&bad), Err(RevocationIdError), "{bad}");
        }
    }

    #[test]
    fn a_second_revocation_takes_nothing_back() {
        let (early, late) = (before(10, 500), before(20, 400));
        for merged in [early.merged(late), late.merged(early)] {
            assert_eq!((merged.before, merged.keep_until), (Some(at(20)), at(500)));
        }
        let whenever = Revocation { before: None, ..early };
        assert_eq!(whenever.merged(late).before, None);
        assert_eq!(late.merged(whenever).before, None);
    }

    #[test]
    fn all_that_was_issued_was_before_the_end_of_its_second() {
        let tenant = TenantId::from_bytes([7; 16]);
        let ci = Identity::of_biscuit(Subject::parse("ci").unwrap());
        let other = Identity::of_biscuit(Subject::parse("other").unwrap());
        let mut all = Revocations::default();
        let end = |all: &Revocations, who: Option<&Identity>, now| {
            all.all_issued_before(tenant, who, now).unix_seconds()
        };
        assert_eq!(end(&all, None, at(7)), 8);
        assert_eq!(end(&all, Some(&ci), Timestamp::from_unix_micros(7_999_999)), 8);
        // What is minted for ci after this is issued at 8.
        all.insert(RevocationTarget::Subject(tenant, ci.clone()), before(8, 0));
        assert_eq!((end(&all, Some(&ci), at(7)), end(&all, Some(&other), at(7))), (9, 8));
        assert_eq!(end(&all, None, at(7)), 9);
        all.insert(RevocationTarget::Tenant(tenant), before(9, 0));
        assert_eq!((end(&all, Some(&other), at(7)), end(&all, None, at(7))), (10, 10));
        assert_eq!(end(&all, None, at(20)), 21);
    }
}
