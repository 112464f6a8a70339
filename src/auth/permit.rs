//! Proof that one act on one address was authorized.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::domain::{ByName, Now, Operation, ScopeSet, SecretName, TenantId};

use super::caveat::Caveats;
use super::{Caller, Forbidden, Origin};

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
    caller: Caller,
    act: PhantomData<A>,
}

impl<A> Permit<A> {
    pub(super) fn new(tenant: TenantId, name: SecretName, caller: Caller) -> Self {
        Self { tenant, name, caller, act: PhantomData }
    }

    /// Of a request that is known.
    pub fn requested_by(mut self, origin: Origin) -> Self {
        self.caller.origin = origin;
        self
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn name(&self) -> &SecretName {
        &self.name
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
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

/// Proof that a credential may write some names of a tenant, before it is known which
/// are meant. It writes nothing: [`WriterPermit::all`] asks about each of them.
#[derive(Debug)]
pub struct WriterPermit {
    tenant: TenantId,
    caveats: Arc<Caveats>,
    caller: Caller,
}

impl WriterPermit {
    pub(super) fn new(tenant: TenantId, caveats: Arc<Caveats>, caller: Caller) -> Self {
        Self { tenant, caveats, caller }
    }

    /// Of a request that is known.
    pub fn requested_by(mut self, origin: Origin) -> Self {
        self.caller.origin = origin;
        self
    }

    /// All of them or none.
    pub fn all<T>(self, writes: ByName<T>, now: Now) -> Result<BatchPermit<T>, Forbidden> {
        let allowed = |name| self.caveats.allow(Operation::Write, name, now);
        if writes.iter().all(|(name, _)| allowed(name)) {
            Ok(BatchPermit { tenant: self.tenant, writes, caller: self.caller })
        } else {
            Err(Forbidden)
        }
    }
}

/// Proof that a credential may write each of these names of one tenant. It holds what
/// is to be written, so that this cannot differ from what was authorized.
#[derive(Debug)]
pub struct BatchPermit<T> {
    tenant: TenantId,
    writes: ByName<T>,
    caller: Caller,
}

impl<T> BatchPermit<T> {
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub fn writes(&self) -> &ByName<T> {
        &self.writes
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn into_writes(self) -> ByName<T> {
        self.writes
    }
}

/// Proof that a credential may see how the server fares. It has no address: there is
/// nothing of a tenant's that it could open.
#[derive(Debug)]
pub struct ServerPermit(());

impl ServerPermit {
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// Proof that a credential may create, see and revoke the API keys of one tenant.
#[derive(Debug)]
pub struct ManagePermit {
    tenant: TenantId,
    /// What it has itself.
    scopes: ScopeSet,
    caller: Caller,
}

impl ManagePermit {
    pub(super) fn new(tenant: TenantId, scopes: ScopeSet, caller: Caller) -> Self {
        Self { tenant, scopes, caller }
    }

    /// Of a request that is known.
    pub fn requested_by(mut self, origin: Origin) -> Self {
        self.caller.origin = origin;
        self
    }

    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Nobody hands on more than they have.
    pub fn hand_on(&self, wanted: ScopeSet) -> Result<ScopeSet, Forbidden> {
        if self.scopes.covers(wanted) { Ok(wanted) } else { Err(Forbidden) }
    }
}
