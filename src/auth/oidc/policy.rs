//! What an operator lets one issuer's tokens say.
//!
//! An issuer vouches for its users and knows nothing of tenants and scopes: which
//! of its words mean which of ours is written down here, word by word, and
//! whatever is not written down means nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::auth::{Refusal, Subject};
use crate::domain::{Now, Scope, ScopeSet, TenantName, Timestamp};

use super::jwt::Verified;
use super::object::Object;

/// One issuer, and what its tokens are good for.
#[derive(Debug, Clone)]
pub struct IssuerPolicy {
    /// Exactly as it stands in `iss`.
    pub issuer: Arc<str>,
    /// What must stand in `aud`.
    pub audience: Box<str>,
    /// The claim that names the tenant.
    pub tenant_claim: Box<str>,
    /// Tenants by what stands in that claim.
    pub tenants: BTreeMap<Box<str>, TenantName>,
    pub other_tenants: OtherTenants,
    /// Scopes by the issuer's words for them.
    pub scopes: BTreeMap<Box<str>, Scope>,
}

/// What a claim means that is not among the tenants listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherTenants {
    Refused,
    /// The tenant of just that name: the issuer is trusted with all of them.
    ByName,
}

/// How far an issuer's clock may be ahead of ours. It loosens `nbf` and `iat` alone: a
/// token that has expired is never good.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(30);

/// When a token is good, judged again at each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub issued: Timestamp,
    pub not_before: Option<Timestamp>,
    pub expires: Timestamp,
}

impl Validity {
    pub fn check(&self, now: Now) -> Result<(), Refusal> {
        if now.for_expiry() >= self.expires {
            return Err(Refusal::Expired);
        }
        let latest = now.wall().saturating_add(NOT_BEFORE_LEEWAY);
        // What claims to be issued later than now would outlive a revocation of all that
        // was issued until now.
        if self.issued > latest || self.not_before.is_some_and(|from| from > latest) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }
}

/// What a verified token is worth under a policy.
pub(crate) struct Claimed {
    /// What the issuer calls this token, if anything (`jti`).
    pub id: Option<Box<str>>,
    pub tenant: TenantName,
    pub subject: Subject,
    pub scopes: ScopeSet,
    pub validity: Validity,
}

impl IssuerPolicy {
    /// Reads every claim that RFC 9068 asks for. Times are judged apart, by
    /// [`Validity::check`].
    pub(super) fn judge(&self, token: &Verified) -> Result<Claimed, Refusal> {
        let claims = token.claims();
        if claims.text("iss") != Some(&*self.issuer) {
            return Err(Refusal::UnknownIssuer);
        }
        if !names_audience(claims.get("aud"), &self.audience) {
            return Err(Refusal::Audience);
        }
        // Whoever presents a token that is bound to a key must prove that he has it
        // (RFC 8705, RFC 9449), and a bearer proves nothing.
        if claims.has("cnf") {
            return Err(Refusal::Claims);
        }
        let validity = Validity {
            issued: moment(claims, "iat")?.ok_or(Refusal::Claims)?,
            not_before: moment(claims, "nbf")?,
            expires: moment(claims, "exp")?.ok_or(Refusal::Claims)?,
        };
        let subject = claims.text("sub").and_then(|sub| Subject::parse(sub).ok());
        let subject = subject.ok_or(Refusal::Claims)?;
        let tenant = self.tenant(claims).ok_or(Refusal::UnknownTenant)?;
        let id = claims.text("jti").map(Into::into);
        Ok(Claimed { id, tenant, subject, scopes: self.scopes(claims), validity })
    }

    fn tenant(&self, claims: &Object) -> Option<TenantName> {
        let said = claims.text(&self.tenant_claim)?;
        match (self.tenants.get(said), self.other_tenants) {
            (Some(listed), _) => Some(listed.clone()),
            (None, OtherTenants::ByName) => TenantName::parse(said).ok(),
            (None, OtherTenants::Refused) => None,
        }
    }

    fn scopes(&self, claims: &Object) -> ScopeSet {
        let said = ["scope", "scp", "permissions"].into_iter().filter_map(|name| claims.get(name));
        said.flat_map(words).filter_map(|word| self.scopes.get(word)).copied().collect()
    }
}

/// Words separated by spaces, or a list of them.
fn words(said: &Value) -> Vec<&str> {
    match said {
        Value::String(words) => words.split(' ').collect(),
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A string, or a list of nothing but strings (RFC 7519, 4.1.3).
fn names_audience(said: Option<&Value>, ours: &str) -> bool {
    match said {
        Some(Value::String(one)) => one == ours,
        Some(Value::Array(list)) => {
            list.iter().all(Value::is_string) && list.iter().any(|one| one == ours)
        }
        _ => false,
    }
}

/// The last second of the year 9999, where RFC 3339 ends.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Seconds since 1970 (NumericDate, RFC 7519, 2), cut to whole ones. `None` where
/// there is no such claim.
fn moment(claims: &Object, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(said) = claims.get(name) else { return Ok(None) };
    let seconds = said.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
    let seconds = seconds.ok_or(Refusal::Claims)?;
    #[expect(clippy::cast_possible_truncation, reason = "within the bounds just above")]
    let whole = seconds as i64;
    Ok(Some(Timestamp::from_unix_seconds(whole)))
}
