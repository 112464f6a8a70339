//! Which credential somebody presented, and whose it is.

use std::fmt;
use std::sync::Arc;

use super::{ApiKeyId, RevocationId, Subject};
use crate::crypto::sha256;

/// The kinds of credential that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKind {
    /// A token that one of this store's roots signed.
    Biscuit,
    ApiKey,
    /// An access token of an identity provider.
    Oidc,
}

/// Whose a credential is. Two are the same only where kind, issuer and subject
/// are: a subject of one identity provider is nobody at another, and nobody here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub kind: CredentialKind,
    /// The identity provider; `None` where this store vouches for the subject.
    pub issuer: Option<Arc<str>>,
    pub subject: Subject,
}

impl Identity {
    /// Somebody whom this store minted a token for.
    pub fn of_biscuit(subject: Subject) -> Self {
        Self { kind: CredentialKind::Biscuit, issuer: None, subject }
    }
}

/// Which credential it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialId {
    /// The revocation id of each block of a token, that of the block that was
    /// minted first.
    Biscuit(Box<[RevocationId]>),
    ApiKey(ApiKeyId),
    /// The `jti`, where the issuer gave one.
    Oidc(Option<Box<str>>),
}

impl CredentialId {
    pub(super) fn blocks(&self) -> &[RevocationId] {
        match self {
            Self::Biscuit(blocks) => blocks,
            Self::ApiKey(_) | Self::Oidc(_) => &[],
        }
    }
}

/// Which credentials count as one, for who counts: narrowing a token makes no new
/// one, and neither does asking an identity provider for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Family([u8; 32]);

impl Family {
    /// Of all tokens that begin with this block. Its signature is never the same for
    /// two blocks, and another one for the same block cannot be made without the
    /// root: whatever a holder does to the rest, this stays.
    pub(super) fn of_minted(authority: &RevocationId) -> Self {
        Self::hash(b"biscuit", authority.as_bytes())
    }

    pub(super) fn of(id: &CredentialId, identity: &Identity) -> Self {
        match id {
            CredentialId::Biscuit(blocks) => {
                blocks.first().map_or_else(Self::of_nobody, Self::of_minted)
            }
            CredentialId::ApiKey(id) => Self::hash(b"api-key", id.as_bytes()),
            CredentialId::Oidc(_) => {
                let issuer = identity.issuer.as_deref().unwrap_or_default();
                // An issuer is an address, and has no such byte.
                let subject = [issuer, identity.subject.as_str()].join("\0");
                Self::hash(b"oidc", subject.as_bytes())
            }
        }
    }

    /// No token is without a block.
    fn of_nobody() -> Self {
        Self::hash(b"", b"")
    }

    fn hash(kind: &[u8], which: &[u8]) -> Self {
        Self(sha256(&[kind, b"\0", which].concat()))
    }

    #[cfg(test)]
    pub(super) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Nobody needs it, and a log would only join what one holder did.
impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Family(..)")
    }
}
