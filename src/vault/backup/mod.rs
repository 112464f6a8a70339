//! Backups: everything that a store holds, as one stream that is restored or
//! checked anywhere that its KEK is.
//!
//! A backup holds ciphertext only, as the rows are stored: wrapped keys, the
//! system's rows, each tenant's as of one commit. On top of what each row proves
//! by itself, every frame is tagged over the one before it and the last frame is a
//! seal (docs/backup-format.md), so a backup that was altered, cut off, put
//! together from two or extended is refused, and where it is damaged is told.
//! Tenants are consistent each by itself, and with their keys; a tenant that is
//! deleted or damaged while the backup is made is left out, and that is said.
//!
//! | file | does |
//! | --- | --- |
//! | `format` | frames as bytes |
//! | `writer`, `frames` | writes them, reads and proves them |
//! | `create` | a vault to frames |
//! | `contents` | frames to keyring, system and tenants |
//! | `restore` | those to a store, or one to a tenant |
//!
//! It knows nothing of files: bytes come and go in pieces, so that they can cross
//! a socket. Memory is bounded by a frame and by keyring and system, whatever the
//! tenants hold.

mod contents;
pub(super) mod create;
mod format;
mod frames;
pub(super) mod restore;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use self::frames::Unproven;
use super::Vault;
use crate::api::admin::{BackupContents, BackupRestored, Report};
use crate::auth::Caller;
use crate::crypto::{Kek, KekOrigin};
use crate::domain::{TenantName, Timestamp};
use crate::store::{Store, StoreError};

/// Why a backup was not made, read or restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    #[error("this is no backup of tenure")]
    NotABackup,
    #[error(
        "the backup was made by a newer version of tenure (format {found}); restore it with that \
         version"
    )]
    NewerFormat { found: u16 },
    #[error("the backup was made under another KEK; name the one of its time")]
    OtherKek,
    #[error("the backup is damaged or was altered, at byte {at}; take another copy of it")]
    Damaged { at: u64 },
    #[error("the backup is not complete: it ends too early; take another copy of it")]
    Truncated,
    /// Every byte is as it was written, and what was written does not hold.
    #[error("what the backup holds is not right: {why}; take an earlier one")]
    Contents { why: String },
    /// Tenants in it were damaged when it was made.
    #[error(
        "the backup holds damaged secrets, so nothing was restored; take an earlier one, or leave \
         those tenants out (--without NAME): {}",
        faults(.0)
    )]
    Unsound(Box<BackupContents>),
    #[error("there is a store already; a backup is restored into an empty one")]
    NotEmpty,
    #[error("there is no tenant '{name}' in the backup; 'tenure backup verify' lists all")]
    NoSuchTenant { name: TenantName },
    #[error("tenant '{name}' exists already; choose another name")]
    TenantExists { name: TenantName },
    /// Whoever asked for the backup went away.
    #[error("the backup was not taken to its end")]
    NotTaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The first faults of each part, in a sentence.
fn faults(contents: &BackupContents) -> String {
    let parts = contents.parts.iter().filter(|part| part.fault_count > 0).map(|part| {
        let whose = part.tenant.as_ref().unwrap_or(&part.part);
        let first = part.faults.first().map_or("", String::as_str);
        format!("{whose}: {first} ({} in all)", part.fault_count)
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// What becomes of credentials that were good when a backup was made. One that was
/// revoked since must not come back unsaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Tokens and API keys of before the backup hold until they expire.
    Keep,
    /// No credential of before holds.
    Revoke,
}

impl Credentials {
    /// As a reply says it.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Keep => "kept",
            Self::Revoke => "revoked",
        }
    }
}

/// How a whole store is restored.
#[derive(Debug, Clone)]
pub struct WantedStore {
    pub credentials: Credentials,
    /// Tenants that are not wanted: their rows may be damaged.
    pub without: Vec<TenantName>,
    /// Who wants it, and when by the wall clock, for the audit.
    pub caller: Caller,
    pub at: Timestamp,
}

/// Reads how a backup begins: what it says of its KEK is needed to come by that.
pub async fn begin(pieces: mpsc::Receiver<Vec<u8>>) -> Result<Unproven, BackupError> {
    Unproven::read(pieces).await
}

/// Checks all of a backup but the tenants of `without`, and restores nothing. `bytes`
/// is its length where that is known, for the report. A backup that is whole may still
/// hold damaged secrets: see [`BackupContents::sound`].
pub async fn verify(
    backup: Unproven,
    kek: &Kek,
    without: &[TenantName],
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupContents, BackupError> {
    restore::check(backup, kek, without, bytes, report).await
}

/// The same for a backup of this very store, by the keys that the vault has now: one
/// that was made before the KEK was replaced is [`BackupError::OtherKek`].
pub async fn verify_own(
    vault: &Vault,
    pieces: mpsc::Receiver<Vec<u8>>,
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupContents, BackupError> {
    restore::check_own(vault, pieces, bytes, report).await
}

/// Makes `store`, which must be empty, what the backup holds: the same store and
/// tenants, under `kek`, which comes from where its origin says. After an error `store`
/// holds no store, but may not be empty.
pub async fn restore(
    backup: Unproven,
    backup_kek: &Kek,
    store: Arc<dyn Store>,
    kek: (&Kek, KekOrigin),
    wanted: &WantedStore,
    bytes: Option<u64>,
    report: &Report,
) -> Result<BackupRestored, BackupError> {
    restore::whole(backup, backup_kek, store, kek, wanted, bytes, report).await
}
