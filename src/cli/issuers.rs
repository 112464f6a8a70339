//! The issuers of the configuration, as the layers below take them.

use crate::auth::oidc::{IssuerPolicy, OtherTenants};
use crate::config::{Config, Oidc};
use crate::http::IssuerSource;

/// What their tokens are good for.
pub(super) fn policies(config: &Config) -> Vec<IssuerPolicy> {
    config.oidc.iter().map(policy).collect()
}

fn policy(configured: &Oidc) -> IssuerPolicy {
    let Oidc { issuer, audience, tenant_claim, tenants, every_tenant, scopes, .. } = configured;
    let tenants = tenants.iter().map(|(claim, tenant)| (claim.as_str().into(), tenant.clone()));
    let scopes = scopes.iter().map(|(word, scope)| (word.as_str().into(), *scope));
    IssuerPolicy {
        issuer: issuer.as_str().into(),
        audience: audience.as_str().into(),
        tenant_claim: tenant_claim.as_str().into(),
        tenants: tenants.collect(),
        other_tenants: if *every_tenant { OtherTenants::ByName } else { OtherTenants::Refused },
        scopes: scopes.collect(),
    }
}

/// Where their keys are.
pub(super) fn sources(config: &Config) -> Vec<IssuerSource> {
    config.oidc.iter().map(source).collect()
}

fn source(configured: &Oidc) -> IssuerSource {
    let Oidc { issuer, jwks_uri, ca_file, refresh, client_id, .. } = configured;
    IssuerSource {
        issuer: issuer.clone(),
        jwks_uri: jwks_uri.clone(),
        ca_file: ca_file.clone(),
        refresh: refresh.as_duration(),
        client_id: client_id.clone(),
    }
}
