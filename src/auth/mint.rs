//! New tokens.
//!
//! Guaranteed here: what is minted has an end and at least one scope, and is
//! exactly the shape that the authenticator asks for.

use zeroize::Zeroizing;

use crate::domain::{ScopeSet, TenantId, TenantName, Timestamp};

use super::Roots;
use super::claims::{Claims, Subject};
use super::reach::{Reach, Tenancy};

/// What a token is to say. Both moments are cut to whole seconds, as biscuit's
/// dates are: a token never lasts longer than was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Mint<'a> {
    pub tenant: &'a TenantName,
    pub tenant_id: TenantId,
    pub subject: &'a Subject,
    pub scopes: ScopeSet,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

/// What a token for the server itself is to say: who has it, and for how long. It is
/// `Server.Admin` and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct MintServer<'a> {
    pub subject: &'a Subject,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("a token needs at least one scope")]
    NoScope,
    #[error("a token must expire at least a second after it is issued")]
    NoTerm,
    #[error("a token cannot begin before 1970")]
    BeforeEpoch,
    /// The token library refused what it was given; none of our inputs is known
    /// to do that.
    #[error("the token could not be built")]
    Library,
}

/// Signs a token with the newest root. Its text is url-safe base64.
pub fn mint(roots: &Roots, wanted: &Mint<'_>) -> Result<Zeroizing<String>, MintError> {
    let Mint { tenant, tenant_id, subject, scopes, issued, expires } = *wanted;
    if scopes == ScopeSet::NONE {
        return Err(MintError::NoScope);
    }
    let reach = Reach::Tenant(Tenancy { tenant: tenant.clone(), tenant_id, scopes });
    sign(roots, Claims { reach, subject: subject.clone(), issued, expires })
}

/// The same for a token that belongs to no tenant.
pub fn mint_server(roots: &Roots, wanted: &MintServer<'_>) -> Result<Zeroizing<String>, MintError> {
    let MintServer { subject, issued, expires } = *wanted;
    sign(roots, Claims { reach: Reach::Server, subject: subject.clone(), issued, expires })
}

fn sign(roots: &Roots, claims: Claims) -> Result<Zeroizing<String>, MintError> {
    let whole = |moment: Timestamp| Timestamp::from_unix_seconds(moment.unix_seconds());
    let (issued, expires) = (whole(claims.issued), whole(claims.expires));
    if expires <= issued {
        return Err(MintError::NoTerm);
    }
    let root = roots.newest();
    root.key.sign(root.id, &Claims { issued, expires, ..claims })
}
