//! A verified credential.

use crate::domain::{Now, SecretName, TenantId, TenantName};

use super::{ListPermit, Permit, Read, Write};

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
}

impl Principal {
    pub fn may_read(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Read>, Forbidden> {
        let _ = (tenant, name, now, &self.tenant, self.tenant_id);
        todo!()
    }

    pub fn may_write(
        &self,
        tenant: &TenantName,
        name: SecretName,
        now: Now,
    ) -> Result<Permit<Write>, Forbidden> {
        let _ = (tenant, name, now);
        todo!()
    }

    pub fn may_list(&self, tenant: &TenantName, now: Now) -> Result<ListPermit, Forbidden> {
        let _ = (tenant, now);
        todo!()
    }
}
