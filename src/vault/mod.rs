//! The vault: secrets by name, in their windows, encrypted into a store.

pub mod maintenance;

use std::sync::Arc;

use crate::auth::{ListPermit, Permit, Principal, PublicRoot, Read, Refusal, Write};
use crate::domain::{
    Now, SecretName, SecretValue, TenantId, TenantName, Timestamp, ValidityWindow,
};

/// What is read back.
#[derive(Debug)]
pub struct Secret {
    /// `None` is the JSON value `null`.
    pub value: Option<SecretValue>,
    /// Rises with every write of the tenant; its ETag.
    pub version: u64,
}

/// What is to be written.
#[derive(Debug)]
pub struct NewSecret {
    pub value: Option<SecretValue>,
    pub window: ValidityWindow,
}

/// What a caller requires of the state before a write (`If-Match`,
/// `If-None-Match: *`). A secret outside its window counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// There is a readable secret.
    Exists,
    /// The readable secret has this version.
    Version(u64),
    /// There is no readable secret.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was readable, and is gone.
    Removed,
    /// Nothing was readable; an expired secret, if there was one, is gone too.
    NothingThere,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("the precondition does not hold")]
    PreconditionFailed,
    #[error("the value is larger than the configured {max} bytes")]
    ValueTooLarge { max: usize },
    #[error("other writers changed this secret at the same time")]
    Conflict,
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Whether the vault can serve, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub writable: bool,
    pub reason: Option<String>,
}

pub struct Vault {}

impl Vault {
    /// The time of an act that begins now.
    pub fn now(&self) -> Now {
        todo!()
    }

    /// Whose credential this is: 401 where it is refused.
    pub fn authenticate(&self, bearer: &str, now: Now) -> Result<Arc<Principal>, Refusal> {
        todo!()
    }

    /// The roots by which anyone can verify or narrow a token.
    pub fn public_roots(&self) -> Vec<PublicRoot> {
        todo!()
    }

    pub async fn read(
        &self,
        permit: &Permit<Read>,
        now: Now,
    ) -> Result<Option<Secret>, VaultError> {
        todo!()
    }

    /// Sorted names of what is stored and not expired.
    pub async fn list(&self, permit: &ListPermit, now: Now) -> Result<Vec<SecretName>, VaultError> {
        todo!()
    }

    /// Stores or replaces; durable when it returns. Answers the new version.
    pub async fn write(
        &self,
        permit: &Permit<Write>,
        new: NewSecret,
        precondition: Precondition,
        now: Now,
    ) -> Result<u64, VaultError> {
        todo!()
    }

    pub async fn delete(
        &self,
        permit: &Permit<Write>,
        precondition: Precondition,
        now: Now,
    ) -> Result<Deleted, VaultError> {
        todo!()
    }

    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// The most a value may hold, in bytes of UTF-8.
    pub fn max_value_bytes(&self) -> usize {
        todo!()
    }

    /// Refuses further writes, finishes those under way, closes the files.
    pub async fn close(&self) {
        todo!()
    }
}

fn _unused(_: TenantId, _: TenantName, _: Timestamp) {}
