//! What an operator asks about the limits of a tenant.

use std::sync::Arc;

use super::maintenance::find_tenant;
use super::system::TenantRecord;
use super::tenant::Tenant;
use super::{Vault, audit, to_its_end};
use crate::api::admin::{
    Failure, LimitChange, LimitRow, OtherLimits, Progress, Reply, Tenant as TenantRow,
    TenantLimitRows,
};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::domain::{Bound, OwnLimits};
use crate::store::StoreError;

/// A tenant, what it may have, and what it has.
pub(super) async fn show(
    vault: &Vault,
    name: &str,
    report: impl Fn(Progress),
) -> Result<Reply, Failure> {
    let tenant = find_tenant(vault, name)?;
    let tell = |done| report(Progress { what: format!("counting {name}"), done, of: None });
    let used = tenant.count(tell).await?;
    Ok(Reply::TenantShown {
        tenant: row(&tenant),
        secrets: used.secrets,
        bytes: used.bytes,
        limits: rows(&tenant),
    })
}

/// Changes the limits of a tenant; durable when it returns, and what is written from
/// then on is held against them.
pub(super) async fn limit(
    vault: &Arc<Vault>,
    name: &str,
    change: LimitChange,
    caller: Caller,
) -> Result<Reply, Failure> {
    let (vault, tenant) = (vault.clone(), find_tenant(vault, name)?);
    let limited = tenant.clone();
    to_its_end(async move { vault.limit_tenant(&limited, change, &caller).await }).await?;
    Ok(Reply::TenantLimited { name: tenant.name.to_string(), limits: rows(&tenant) })
}

impl Vault {
    async fn limit_tenant(
        &self,
        tenant: &Tenant,
        change: LimitChange,
        caller: &Caller,
    ) -> Result<(), StoreError> {
        let _one = self.administration.lock().await;
        // Deleted meanwhile, it must not get a record again.
        self.tenant(tenant.id)?;
        let (own, _) = tenant.quota.limits();
        let limits = changed(own, change);
        let (id, name, created_on) = (tenant.id, tenant.name.clone(), tenant.created_on);
        let record = TenantRecord { id, name, created_on, limits };
        let said = audit::of_tenant(self.by(caller), AuditOp::TenantLimit, &record.name);
        self.system.replace(&record, self.time.floor(), &[said]).await?;
        tenant.quota.change(limits, self.tenant_limits());
        self.note_rate(tenant);
        Ok(())
    }
}

fn changed(own: OwnLimits, change: LimitChange) -> OwnLimits {
    let LimitChange { secrets, bytes, requests_per_second, others } = change;
    let base = match others {
        OtherLimits::Kept => own,
        OtherLimits::Unlimited => OwnLimits::UNLIMITED,
        OtherLimits::Default => OwnLimits::NONE,
    };
    OwnLimits {
        secrets: secrets.map(Bound::of).or(base.secrets),
        bytes: bytes.map(Bound::of).or(base.bytes),
        requests_per_second: requests_per_second.map(Bound::of).or(base.requests_per_second),
    }
}

fn row(tenant: &Tenant) -> TenantRow {
    TenantRow {
        name: tenant.name.to_string(),
        id: tenant.id.to_string(),
        created_on: tenant.created_on.to_string(),
    }
}

fn rows(tenant: &Tenant) -> TenantLimitRows {
    let (own, limits) = tenant.quota.limits();
    let row = |own: Option<Bound>, limit: Bound| LimitRow { max: limit.get(), own: own.is_some() };
    TenantLimitRows {
        secrets: row(own.secrets, limits.secrets),
        bytes: row(own.bytes, limits.bytes),
        requests_per_second: row(own.requests_per_second, limits.requests_per_second),
    }
}
