//! A verified credential.
//!
//! Guaranteed here: a permit exists only for the principal's own tenant, for an
//! operation that its scopes name, and for a name and a time that its caveats
//! leave. Every refusal is the same [`Forbidden`].

use std::sync::Arc;

use crate::domain::{Now, Operation, Scope, ScopeSet, SecretName, TenantId, TenantName, Timestamp};

use super::caveat::Caveats;
use super::reach::{Reach, Tenancy};
use super::{
    Caller, CredentialId, CredentialKind, Family, Holder, Identity, ListPermit, ManagePermit,
    Origin, Permit, Read, ServerPermit, Subject, Write, WriterPermit,
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
    pub reach: Reach,
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
    reach: Reach,
    issued: Timestamp,
    expires: Option<Timestamp>,
    caveats: Arc<Caveats>,
}

impl Principal {
    pub(super) fn new(grant: Grant) -> Self {
        let Grant { id, identity, reach, issued, expires, caveats } = grant;
        let (family, caveats) = (Family::of(&id, &identity), Arc::new(caveats));
        let holder = Arc::new(Holder { id, identity });
        Self { holder, family, reach, issued, expires, caveats }
    }

    /// Of a tenant that is nobody's, for tests of what only holds principals.
    #[cfg(test)]
    pub(super) fn for_tests(family: Family) -> Self {
        let epoch = Timestamp::from_unix_seconds(0);
        let grant = Grant {
            id: CredentialId::Oidc(None),
            identity: Identity::of_biscuit(Subject::parse("nobody").unwrap()),
            reach: Reach::Tenant(Tenancy {
                tenant: TenantName::parse("nobody").unwrap(),
                tenant_id: TenantId::from_bytes([0; 16]),
                scopes: ScopeSet::NONE,
            }),
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
        let tenant = self.may(Operation::Read, tenant, &name, now)?;
        Ok(Permit::new(tenant, name, self.caller()))
    }

    pub fn may_write(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Write>, Forbidden> {
        let tenant = self.may(Operation::Write, tenant, &name, now)?;
        Ok(Permit::new(tenant, name, self.caller()))
    }

    /// A list passes where some name may be read; each name is then asked about
    /// through [`ListPermit::shows`].
    pub fn may_list(&self, tenant: &TenantName, now: Now) -> Result<ListPermit, Forbidden> {
        let tenant = self.may_some(Operation::Read, tenant, now)?;
        Ok(ListPermit::new(tenant, Arc::clone(&self.caveats)))
    }

    /// Several writes pass where some name may be written; each name is then asked
    /// about through [`WriterPermit::all`].
    pub fn may_write_some(&self, tenant: &TenantName, now: Now) -> Result<WriterPermit, Forbidden> {
        let tenant = self.may_some(Operation::Write, tenant, now)?;
        Ok(WriterPermit::new(tenant, Arc::clone(&self.caveats), self.caller()))
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
        let Tenancy { tenant_id, scopes, .. } = self.within(tenant, now)?;
        if manages && scopes.contains(Scope::All) {
            Ok(ManagePermit::new(*tenant_id, *scopes, self.caller()))
        } else {
            Err(Forbidden)
        }
    }

    /// Whether it may see how the server fares: only a token that was minted for that,
    /// narrowed at most to a time. No tenant's credential can, whatever its scopes.
    pub fn may_see_server(&self, now: Now) -> Result<ServerPermit, Forbidden> {
        match &self.reach {
            Reach::Server if !self.has_expired(now) && self.caveats.allow_server(now) => {
                Ok(ServerPermit::new())
            }
            Reach::Server | Reach::Tenant(_) => Err(Forbidden),
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

    /// `None`: it is for the server itself, and belongs to no tenant.
    pub fn tenant(&self) -> Option<&TenantName> {
        self.tenancy().map(|tenancy| &tenancy.tenant)
    }

    pub fn tenant_id(&self) -> Option<TenantId> {
        self.tenancy().map(|tenancy| tenancy.tenant_id)
    }

    pub(super) fn tenancy(&self) -> Option<&Tenancy> {
        self.reach.tenancy()
    }

    pub fn subject(&self) -> &Subject {
        &self.holder.identity.subject
    }

    /// Within its tenant.
    pub fn scopes(&self) -> ScopeSet {
        self.tenancy().map_or(ScopeSet::NONE, |tenancy| tenancy.scopes)
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
    ) -> Result<TenantId, Forbidden> {
        let tenant = self.reaches(operation, tenant, now)?;
        if self.caveats.allow(operation, name, now) { Ok(tenant) } else { Err(Forbidden) }
    }

    fn may_some(
        &self,
        operation: Operation,
        tenant: &TenantName,
        now: Now,
    ) -> Result<TenantId, Forbidden> {
        let tenant = self.reaches(operation, tenant, now)?;
        if self.caveats.allow_some_name(operation, now) { Ok(tenant) } else { Err(Forbidden) }
    }

    /// What the credential allows, caveats aside.
    fn reaches(
        &self,
        operation: Operation,
        tenant: &TenantName,
        now: Now,
    ) -> Result<TenantId, Forbidden> {
        let Tenancy { tenant_id, scopes, .. } = self.within(tenant, now)?;
        if scopes.allows(operation) { Ok(*tenant_id) } else { Err(Forbidden) }
    }

    /// Its own tenant, if this is it. Expiry is judged again, since a principal may be held
    /// for longer than the request that authenticated it.
    fn within(&self, tenant: &TenantName, now: Now) -> Result<&Tenancy, Forbidden> {
        let own = self.tenancy().filter(|own| own.tenant == *tenant && !self.has_expired(now));
        own.ok_or(Forbidden)
    }
}
