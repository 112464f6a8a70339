//! A token in plain words.

use serde::Serialize;

use super::Refusal;
use super::biscuit::Unverified;
use super::claims::Claims;
use super::reach::Tenancy;

/// What a token says about itself.
///
/// **No signature was checked**: there is no key here to check it with, so that
/// a token can be read anywhere. Anyone can write a token that says this; only a
/// server decides whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// `None`, and its id with it: it is for the server itself.
    pub tenant: Option<String>,
    /// Hexadecimal.
    pub tenant_id: Option<String>,
    pub subject: String,
    /// RFC 3339.
    pub issued: String,
    /// RFC 3339; at this moment the token has expired, narrowed or not.
    pub expires: String,
    pub scopes: Vec<&'static str>,
    /// Which of the server's roots is said to have signed it.
    pub root_id: u32,
    /// A sentence for each check that was appended; all of them apply.
    pub narrowed_to: Vec<String>,
    /// Whether it can be narrowed no further.
    pub sealed: bool,
    /// The first block included.
    pub blocks: usize,
    /// Of each block, hexadecimal. To revoke the first is to revoke the token and
    /// whatever was narrowed from it; the last, only what this text can still become.
    pub revocation_ids: Vec<String>,
}

/// Reads a token without a server and without keys. It is refused where a server
/// would refuse it for its shape.
pub fn inspect(token: &str) -> Result<Inspection, Refusal> {
    let token = Unverified::decode(token)?;
    let Claims { reach, subject, issued, expires } = token.claims();
    let of_tenant = |say: fn(&Tenancy) -> String| reach.tenancy().map(say);
    Ok(Inspection {
        tenant: of_tenant(|tenancy| tenancy.tenant.to_string()),
        tenant_id: of_tenant(|tenancy| tenancy.tenant_id.to_string()),
        subject: subject.to_string(),
        issued: issued.to_string(),
        expires: expires.to_string(),
        scopes: reach.scopes(),
        root_id: token.root_id(),
        narrowed_to: token.caveats().sentences(),
        sealed: token.is_sealed(),
        blocks: token.blocks(),
        revocation_ids: token.revocation_ids().iter().map(ToString::to_string).collect(),
    })
}
