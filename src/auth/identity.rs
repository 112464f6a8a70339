//! Which credential somebody presented, and whose it is.

use std::sync::Arc;

use super::{ApiKeyId, RevocationId, Subject};

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
pub enum PresentedId {
    /// The revocation id of each block of a token, that of the block that was
    /// minted first.
    Biscuit(Box<[RevocationId]>),
    ApiKey(ApiKeyId),
    /// The `jti`, where the issuer gave one.
    Oidc(Option<Box<str>>),
}

impl PresentedId {
    pub(super) fn blocks(&self) -> &[RevocationId] {
        match self {
            Self::Biscuit(blocks) => blocks,
            Self::ApiKey(_) | Self::Oidc(_) => &[],
        }
    }
}
