//! What of a vault's options can be changed while it serves.

use std::sync::{Arc, PoisonError, RwLock};

use super::notices::NoticePolicy;
use super::{Vault, VaultOptions};
use crate::domain::TenantLimits;

pub(super) struct Adjustable {
    tenant_limits: RwLock<TenantLimits>,
    notices: RwLock<Option<Arc<NoticePolicy>>>,
}

impl Adjustable {
    pub(super) fn of(options: &VaultOptions) -> Self {
        let notices = options.notices.clone().map(Arc::new);
        Self { tenant_limits: RwLock::new(options.tenant_limits), notices: RwLock::new(notices) }
    }
}

impl Vault {
    /// Holds every tenant that has no limits of its own to others from now on. Returns when
    /// all that is written is held to them.
    pub async fn set_tenant_limits(&self, limits: TenantLimits) {
        // Neither a tenant that is being made nor a limit that is being set is passed over.
        let _one = self.administration.lock().await;
        let held = &self.adjustable.tenant_limits;
        let before =
            std::mem::replace(&mut *held.write().unwrap_or_else(PoisonError::into_inner), limits);
        if before == limits {
            return;
        }
        for tenant in self.all_tenants() {
            let (own, _) = tenant.quota.limits();
            tenant.quota.change(own, limits);
            self.note_rate(&tenant);
        }
    }

    /// Tells something else of secrets that come to their end, or nothing. Who is telling
    /// meanwhile tells what it began with.
    pub fn set_notices(&self, policy: Option<NoticePolicy>) {
        let held = &self.adjustable.notices;
        *held.write().unwrap_or_else(PoisonError::into_inner) = policy.map(Arc::new);
    }

    pub(super) fn tenant_limits(&self) -> TenantLimits {
        *self.adjustable.tenant_limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notices(&self) -> Option<Arc<NoticePolicy>> {
        self.adjustable.notices.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
