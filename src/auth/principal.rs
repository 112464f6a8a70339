//! A verified credential.
//!
//! Guaranteed here: a permit exists only for the principal's own tenant, for an
//! operation that its scopes name, and for a name and a time that its caveats
//! leave. Every refusal is the same [`Forbidden`].

use std::sync::Arc;

use crate::domain::{Now, Operation, ScopeSet, SecretName, TenantId, TenantName, Timestamp};

use super::biscuit::Verified;
use super::caveat::Caveats;
use super::claims::{Claims, Subject};
use super::{CredentialId, ListPermit, Permit, Read, Write};

/// A good credential that does not allow the act (403). It says no more, so that
/// neither tenants nor names can be enumerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential does not allow this")]
pub struct Forbidden;

/// A verified credential: whose it is and what it may do.
#[derive(Debug)]
pub struct Principal {
    tenant: TenantName,
    tenant_id: TenantId,
    subject: Subject,
    scopes: ScopeSet,
    expires: Timestamp,
    caveats: Arc<Caveats>,
    credential: CredentialId,
}

impl Principal {
    /// Takes the proof that the signatures were checked.
    pub(super) fn new(verified: Verified) -> Self {
        let (claims, caveats, credential) = verified.into_parts();
        let Claims { tenant, tenant_id, subject, issued: _, expires, scopes } = claims;
        let caveats = Arc::new(caveats);
        Self { tenant, tenant_id, subject, scopes, expires, caveats, credential }
    }

    /// Of a tenant that is nobody's, for tests of what only holds principals.
    #[cfg(test)]
    pub(super) fn for_tests(credential: CredentialId) -> Self {
        let epoch = Timestamp::from_unix_seconds(0);
        Self {
            tenant: TenantName::parse("nobody").unwrap(),
            tenant_id: TenantId::from_bytes([0; 16]),
            subject: Subject::parse("nobody").unwrap(),
            scopes: ScopeSet::NONE,
            expires: epoch,
            caveats: Arc::default(),
            credential,
        }
    }

    pub fn may_read(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Read>, Forbidden> {
        self.may(Operation::Read, tenant, &name, now)?;
        Ok(Permit::new(self.tenant_id, name))
    }

    pub fn may_write(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Write>, Forbidden> {
        self.may(Operation::Write, tenant, &name, now)?;
        Ok(Permit::new(self.tenant_id, name))
    }

    /// A list passes where some name may be read; each name is then asked about
    /// through [`ListPermit::shows`].
    pub fn may_list(&self, tenant: &TenantName, now: Now) -> Result<ListPermit, Forbidden> {
        if !self.reaches(Operation::Read, tenant, now)
            || !self.caveats.allow_some_name(Operation::Read, now)
        {
            return Err(Forbidden);
        }
        Ok(ListPermit::new(self.tenant_id, Arc::clone(&self.caveats)))
    }

    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    pub fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub fn scopes(&self) -> ScopeSet {
        self.scopes
    }

    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    pub fn caveats(&self) -> &Caveats {
        &self.caveats
    }

    /// For who counts requests.
    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// At `expires` itself the token has expired.
    pub(super) fn has_expired(&self, now: Now) -> bool {
        now.for_expiry() >= self.expires
    }

    fn may(
        &self,
        operation: Operation,
        tenant: &TenantName,
        name: &SecretName,
        now: Now,
    ) -> Result<(), Forbidden> {
        if self.reaches(operation, tenant, now) && self.caveats.allow(operation, name, now) {
            Ok(())
        } else {
            Err(Forbidden)
        }
    }

    /// What the token as minted allows. Expiry is judged again, since a principal
    /// may be held for longer than the request that authenticated it.
    fn reaches(&self, operation: Operation, tenant: &TenantName, now: Now) -> bool {
        *tenant == self.tenant && self.scopes.allows(operation) && !self.has_expired(now)
    }
}
