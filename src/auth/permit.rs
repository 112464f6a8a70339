//! Proof that one act on one address was authorized.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::domain::{Now, Operation, ScopeSet, SecretName, TenantId};

use super::Forbidden;
use super::caveat::Caveats;

/// Reading one secret.
#[derive(Debug)]
pub enum Read {}
/// Writing or deleting one secret.
#[derive(Debug)]
pub enum Write {}

/// Proof that a credential may do `A` to one name of one tenant. Only a
/// principal mints it, and the vault takes its address from nowhere else: what
/// was authorized and what is touched cannot differ.
#[derive(Debug)]
pub struct Permit<A> {
    tenant: TenantId,
    name: SecretName,
    act: PhantomData<A>,
}

impl<A> Permit<A> {
    pub(super) fn new(tenant: TenantId, name: SecretName) -> Self {
        Self { tenant, name, act: PhantomData }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn name(&self) -> &SecretName {
        &self.name
    }
}

/// Proof that a credential may list a tenant's names, each of which it is asked
/// about on its own: a narrowed token lists only what it may read.
#[derive(Debug)]
pub struct ListPermit {
    tenant: TenantId,
    caveats: Arc<Caveats>,
}

impl ListPermit {
    pub(super) fn new(tenant: TenantId, caveats: Arc<Caveats>) -> Self {
        Self { tenant, caveats }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Whether every name may be shown, so that none need be asked about. What
    /// does not depend on the name was judged when this permit was minted.
    pub fn shows_all(&self) -> bool {
        !self.caveats.depend_on_name()
    }

    pub fn shows(&self, name: &SecretName, now: Now) -> bool {
        self.caveats.allow(Operation::Read, name, now)
    }
}

/// Proof that a credential may create, see and revoke the API keys of one tenant.
#[derive(Debug)]
pub struct ManagePermit {
    tenant: TenantId,
    /// What it has itself.
    scopes: ScopeSet,
}

impl ManagePermit {
    pub(super) fn new(tenant: TenantId, scopes: ScopeSet) -> Self {
        Self { tenant, scopes }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Nobody hands on more than they have.
    pub fn hand_on(&self, wanted: ScopeSet) -> Result<ScopeSet, Forbidden> {
        if self.scopes.covers(wanted) { Ok(wanted) } else { Err(Forbidden) }
    }
}
