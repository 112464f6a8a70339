//! What a credential is for: a part of one tenant, or the server itself.
//!
//! Guaranteed here: the two have nothing in common by which one could be taken for the
//! other. What is for the server names no tenant and has no scopes; and since
//! [`ScopeSet`] cannot hold `Server.Admin`, neither `*` nor an API key nor a token of an
//! issuer can stand for it.

use crate::domain::{ScopeSet, TenantId, TenantName};

/// The scope of a token for the server, as it is written in one. It is no
/// [`Scope`](crate::domain::Scope).
pub(super) const SERVER_ADMIN: &str = "Server.Admin";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    Tenant(Tenancy),
    /// How the server fares; no tenant and no secret.
    Server,
}

/// What is granted in one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tenancy {
    pub tenant: TenantName,
    pub tenant_id: TenantId,
    pub scopes: ScopeSet,
}

impl Reach {
    pub fn tenancy(&self) -> Option<&Tenancy> {
        match self {
            Self::Tenant(tenancy) => Some(tenancy),
            Self::Server => None,
        }
    }

    /// As words.
    pub fn scopes(&self) -> Vec<&'static str> {
        match self {
            Self::Tenant(tenancy) => tenancy.scopes.iter().map(|scope| scope.as_str()).collect(),
            Self::Server => vec![SERVER_ADMIN],
        }
    }
}
