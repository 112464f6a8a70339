//! A verified credential.
//!
//! Guaranteed here: a permit exists only for the principal's own tenant, for an
//! operation that its scopes name, and for a name and a time that its caveats
//! leave. Every refusal is the same [`Forbidden`].

use std::sync::Arc;

use crate::domain::{Now, Operation, Scope, ScopeSet, SecretName, TenantId, TenantName, Timestamp};

use super::caveat::Caveats;
use super::{
    Caller, CredentialId, CredentialKind, Family, Holder, Identity, ListPermit, ManagePermit,
    Origin, Permit, Read, Subject, Write, WriterPermit,
};

/// A good credential that does not allow the act (403). It says no more, so that
/// neither tenants nor names can be enumerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential does not allow this")]
pub struct Forbidden;

/// All that a credential says, whatever its kind. Only what verified one makes it.
#[derive(Debug)]
pub(super) struct Grant {
    pub id: CredentialId,
    pub identity: Identity,
    pub tenant: TenantName,
    pub tenant_id: TenantId,
    pub scopes: ScopeSet,
    pub issued: Timestamp,
    /// `None`: it does not expire.
    pub expires: Option<Timestamp>,
    /// Of whoever narrowed it; only a biscuit can be.
    pub caveats: Caveats,
}

/// A verified credential: whose it is and what it may do.
#[derive(Debug)]
pub struct Principal {
    holder: Arc<Holder>,
    family: Family,
    tenant: TenantName,
    tenant_id: TenantId,
    scopes: ScopeSet,
    issued: Timestamp,
    expires: Option<Timestamp>,
    caveats: Arc<Caveats>,
}

impl Principal {
    pub(super) fn new(grant: Grant) -> Self {
        let Grant { id, identity, tenant, tenant_id, scopes, issued, expires, caveats } = grant;
        let (family, caveats) = (Family::of(&id, &identity), Arc::new(caveats));
        let holder = Arc::new(Holder { id, identity });
        Self { holder, family, tenant, tenant_id, scopes, issued, expires, caveats }
    }

    /// Of a tenant that is nobody's, for tests of what only holds principals.
    #[cfg(test)]
    pub(super) fn for_tests(family: Family) -> Self {
        let epoch = Timestamp::from_unix_seconds(0);
        let grant = Grant {
            id: CredentialId::Oidc(None),
            identity: Identity::of_biscuit(Subject::parse("nobody").unwrap()),
            tenant: TenantName::parse("nobody").unwrap(),
            tenant_id: TenantId::from_bytes([0; 16]),
            scopes: ScopeSet::NONE,
            issued: epoch,
            expires: Some(epoch),
            caveats: Caveats::default(),
        };
        Self { family, ..Self::new(grant) }
    }

    pub fn may_read(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Read>, Forbidden> {
        self.may(Operation::Read, tenant, &name, now)?;
        Ok(Permit::new(self.tenant_id, name, self.caller()))
    }

    pub fn may_write(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Write>, Forbidden> {
        self.may(Operation::Write, tenant, &name, now)?;
        Ok(Permit::new(self.tenant_id, name, self.caller()))
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

    /// Several writes pass where some name may be written; each name is then asked
    /// about through [`WriterPermit::all`].
    pub fn may_write_some(&self, tenant: &TenantName, now: Now) -> Result<WriterPermit, Forbidden> {
        if !self.reaches(Operation::Write, tenant, now)
            || !self.caveats.allow_some_name(Operation::Write, now)
        {
            return Err(Forbidden);
        }
        Ok(WriterPermit::new(self.tenant_id, Arc::clone(&self.caveats), self.caller()))
    }

    /// Whether it may manage the API keys of its tenant: with the scope `*`, and a
    /// token only as it was minted. What was narrowed was given away with less than
    /// that in mind. An API key makes no others: one that leaked could have left
    /// successors behind by the time it is revoked.
    pub fn may_manage_credentials(
        &self,
        tenant: &TenantName,
        now: Now,
    ) -> Result<ManagePermit, Forbidden> {
        let manages = match self.kind() {
            CredentialKind::Biscuit => !self.is_narrowed(),
            CredentialKind::Oidc => true,
            CredentialKind::ApiKey => false,
        };
        let own = *tenant == self.tenant && !self.has_expired(now);
        if manages && own && self.scopes.contains(Scope::All) {
            Ok(ManagePermit::new(self.tenant_id, self.scopes, self.caller()))
        } else {
            Err(Forbidden)
        }
    }

    pub fn kind(&self) -> CredentialKind {
        self.holder.identity.kind
    }

    pub fn id(&self) -> &CredentialId {
        &self.holder.id
    }

    pub fn identity(&self) -> &Identity {
        &self.holder.identity
    }

    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    pub fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    pub fn subject(&self) -> &Subject {
        &self.holder.identity.subject
    }

    pub fn scopes(&self) -> ScopeSet {
        self.scopes
    }

    pub fn issued(&self) -> Timestamp {
        self.issued
    }

    /// `None`: it does not.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    pub fn caveats(&self) -> &Caveats {
        &self.caveats
    }

    /// For who counts requests.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Who acts by it, for what is recorded of a request.
    pub fn requested_by(&self, origin: Origin) -> Caller {
        Caller { origin, ..self.caller() }
    }

    fn caller(&self) -> Caller {
        Caller::holder(&self.holder)
    }

    /// At `expires` itself it has expired.
    pub(super) fn has_expired(&self, now: Now) -> bool {
        self.expires.is_some_and(|expires| now.for_expiry() >= expires)
    }

    /// Whether blocks were appended to the token, even such as take nothing away.
    fn is_narrowed(&self) -> bool {
        self.holder.id.blocks().len() > 1 || !self.caveats.is_empty()
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

    /// What the credential allows, caveats aside. Expiry is judged again, since a principal
    /// may be held for longer than the request that authenticated it.
    fn reaches(&self, operation: Operation, tenant: &TenantName, now: Now) -> bool {
        *tenant == self.tenant && self.scopes.allows(operation) && !self.has_expired(now)
    }
}
