//! Who is asking, and what they may do.
//!
//! A credential is verified into a [`Principal`]; only a principal mints a
//! [`Permit`]; only a permit opens the vault.
//!
//! Guaranteed here: a token counts only if one of our own Ed25519 roots signed
//! it, if it holds nothing but the documented shapes (docs/tokens.md), if it was
//! neither revoked nor has expired, and if its tenant is still the one that it was
//! minted for. What
//! its holder appended can only take away. No Datalog runs for a request: an
//! unsealed token can be narrowed into one that burns 7.5 s of CPU at a
//! `max_time` of 1 ms, and on a busy machine that limit refuses good tokens.
//!
//! An API key counts only if its HMAC is stored, under a key that is not on the disk
//! in the clear. It is found and proved in memory, with one HMAC whether or not
//! there is such a key.
//!
//! A token of another issuer counts only as [`oidc`] says.
//!
//! This layer knows nothing of HTTP, of what is stored, of where roots are kept, or of
//! where issuers' keys come from. Only `biscuit.rs` and `oidc/jwt.rs` name the token
//! libraries.

mod api_key;
mod authenticator;
mod biscuit;
mod bounded;
mod caller;
mod caveat;
mod claims;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod identity;
mod inspect;
mod limits;
mod mint;
mod narrow;
pub mod oidc;
mod permit;
mod principal;
mod reach;
mod remembered;
mod revocation;
mod roots;
#[cfg(test)]
mod tests;

pub use api_key::{ApiKey, ApiKeyId, ApiKeyIdError, ApiKeys, looks_like_api_key, mint_api_key};
pub use authenticator::{Authenticator, Standing, TenantDirectory};
pub use caller::{Actor, Caller, Holder, Origin};
pub use caveat::Caveats;
pub use claims::{Subject, SubjectError};
pub use identity::{CredentialId, CredentialKind, Family, Identity};
pub use inspect::{Inspection, inspect};
pub use limits::{Limited, Limits, Rates, Turnstile};
pub use mint::{Mint, MintError, MintServer, mint, mint_server};
pub use narrow::{NarrowError, Narrowing, narrow, seal};
pub use permit::{
    BatchPermit, ListPermit, ManagePermit, Permit, Read, ServerPermit, Write, WriterPermit,
};
pub use principal::{Forbidden, Principal};
pub use revocation::{Revocation, RevocationId, RevocationIdError, RevocationTarget, Revocations};
pub use roots::{PublicRoot, Roots, RootsError, TooManyRoots};

/// Why a credential was refused: 401, but for the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token is not well-formed")]
    Malformed,
    #[error("the token is too large")]
    TooLarge,
    /// Something beside the documented shapes (docs/tokens.md).
    #[error("the token holds something that is not a documented check")]
    Shape,
    #[error("the token was not minted by this server")]
    UnknownRoot,
    #[error("the token's signature is not valid")]
    Signature,
    /// No API key of ours, or not its secret; told apart neither here nor in time.
    #[error("the API key is none of this server's")]
    ApiKey,
    #[error("the API key has expired")]
    ApiKeyExpired,
    #[error("the credential was revoked")]
    Revoked,
    #[error("the token has expired")]
    Expired,
    #[error("the token's tenant no longer exists")]
    TenantGone,
    #[error("the token is by an issuer that is not configured")]
    UnknownIssuer,
    #[error("the token is no access token (typ at+jwt)")]
    TokenType,
    #[error("the token names no key of its issuer")]
    UnknownKey,
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token lacks a claim, or has one that cannot be honoured")]
    Claims,
    #[error("the token's tenant is not one that its issuer may name")]
    UnknownTenant,
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It cannot be judged: its issuer's keys could not be fetched for too long.
    #[error("the keys of the token's issuer are not at hand")]
    NoKeys,
    /// Not looked at: 429 rather than 401.
    #[error(transparent)]
    Limited(#[from] Limited),
}

impl Refusal {
    /// In a word, for who counts them.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Shape => "shape",
            Self::UnknownRoot => "unknown_root",
            Self::Signature => "signature",
            Self::ApiKey => "api_key",
            Self::ApiKeyExpired => "api_key_expired",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::TenantGone => "tenant_gone",
            Self::UnknownIssuer => "unknown_issuer",
            Self::TokenType => "token_type",
            Self::UnknownKey => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::UnknownTenant => "unknown_tenant",
            Self::NotYetValid => "not_yet_valid",
            Self::NoKeys => "no_keys",
            Self::Limited(_) => "limited",
        }
    }
}
