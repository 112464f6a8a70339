//! Who is asking, and what they may do.
//!
//! A credential is verified into a [`Principal`]; only a principal mints a
//! [`Permit`]; only a permit opens the vault.

mod caveat;
mod permit;
mod principal;

pub use caveat::Caveats;
pub use permit::{ListPermit, Permit, Read, Write};
pub use principal::{Forbidden, Principal};

/// Why a credential was refused (401).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token is not well-formed")]
    Malformed,
    #[error("the token is larger than 4 KiB")]
    TooLarge,
    /// Something beside the documented shapes (docs/tokens.md).
    #[error("the token holds something that is not a documented check")]
    Shape,
    #[error("the token was not minted by this server")]
    UnknownRoot,
    #[error("the token's signature is not valid")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token's tenant no longer exists")]
    TenantGone,
}

/// A root key's public half, as `/.well-known/biscuit-keys` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicRoot {
    pub id: u32,
    pub public_key: [u8; 32],
}
