//! The audit: what was done, by whom, in a chain for each tenant and one for the
//! system.
//!
//! A change and its entry are one commit, so there is no change without its entry and
//! no entry without its change. Entries of a tenant's secrets are in the tenant's
//! chain, which goes when the tenant goes; those of credentials, keys and tenants are
//! in the system's, where the rows are that they are about. An entry names who acted
//! and by which credential, and never holds a value or a credential. What changes nothing
//! is recorded by way of a queue ([`recorder`]).

mod check;
mod checkpoint;
mod commands;
pub mod copies;
mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod growth;
mod looks;
mod proof;
mod query;
mod queue;
mod recorder;
mod refused;
mod retention;
mod scribe;

use std::sync::Arc;

pub(super) use check::check;
pub(super) use checkpoint::{Checkpointer, LastCheckpoint};
pub(super) use commands::{show_head, show_key, show_proof};
pub(super) use copies::Followers;
pub(super) use export::export;
pub(super) use growth::{Growth, Looker};
pub(super) use looks::Told;
pub use proof::{Trust, verify_copy, verify_export};
pub(super) use query::query;
pub use queue::{About, Act};
pub(super) use recorder::Recorder;
pub use recorder::{AuditPolicy, AuditVitals, Reads, Unrecorded};
pub use refused::TurnedAway;
pub use retention::OldAudit;
use scribe::{Facts, Who, text};

use super::seal::ledger_of;
use super::tenant::Tenant;
use super::{KeysError, Vault};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::Caller;
use crate::crypto::sha256;
use crate::domain::{SecretName, TenantName, Texts, Timestamp};
use crate::store::{Appended, Chain, Change, Space, StoreError};

/// The result of what was done.
const OK: &str = "ok";
pub(super) const NOT_FOUND: &str = "not_found";
/// Of what is recorded before it is done, since it is no commit beside its entry.
const BEGUN: &str = "begun";
const FAILED: &str = "failed";

/// What texts of others may take. It keeps every entry within `Block::ENTRY_MAX_BYTES`.
const TEXT_MAX_BYTES: usize = 256;

/// Who acts, and when by the wall clock.
#[derive(Clone, Copy)]
pub(super) struct By<'c> {
    pub(super) caller: &'c Caller,
    pub(super) at: Timestamp,
}

impl Vault {
    pub(super) fn by<'c>(&self, caller: &'c Caller) -> By<'c> {
        By { caller, at: self.time.now().wall() }
    }

    /// Records in the system's chain what is no change of a row; durable when it
    /// returns.
    pub(super) async fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.system.record(&[entry], self.time.floor()).await
    }

    /// The same of what happens whether or not it can be recorded.
    pub async fn note(&self, caller: &Caller, op: AuditOp) {
        self.note_entry(entry(self.by(caller), op)).await;
    }

    /// Where a tenant's chain ends, for the entry that says that the tenant went.
    pub(super) async fn end_of_audit(&self, tenant: &Tenant) -> Option<String> {
        let (space, seal) = (Space::Tenant(tenant.id), tenant.keys().1);
        let ledger = ledger_of(&*self.store, space, seal).await.ok()??;
        Some(format!("its {}", end_of(ledger.chain)))
    }

    pub(super) async fn note_entry(&self, entry: AuditEntry) {
        let op = entry.op;
        if let Err(error) = self.record(entry).await {
            log::error!("the audit has no entry of '{op}': {error}");
        }
    }
}

/// Where an audit ended, for an entry of another one that tells of it.
pub(super) fn end_of(Chain { next, head }: Chain) -> String {
    format!("audit had {next} entries; the last link is {}", hex::encode(head))
}

/// Does what changes the keyring, which is no commit beside its entry: so there is one
/// before, without which it does not begin, and one after.
pub(super) async fn recorded<T>(
    vault: &Vault,
    said: AuditEntry,
    work: impl Future<Output = Result<T, KeysError>>,
) -> Result<T, KeysError> {
    vault.record(AuditEntry { result: BEGUN.to_owned(), ..said.clone() }).await?;
    let outcome = work.await;
    let result = if outcome.is_ok() { said.result } else { FAILED.to_owned() };
    vault.note_entry(AuditEntry { result, ..said }).await;
    outcome
}

/// Somebody did `op`. The rest is added by who knows it.
pub(super) fn entry(by: By<'_>, op: AuditOp) -> AuditEntry {
    let By { caller: Caller { actor, origin }, at } = by;
    let Who { by, credential, subject, issuer } = Who::of(actor);
    AuditEntry {
        at: at.to_string(),
        op,
        tenant: None,
        name: None,
        result: OK.to_owned(),
        by,
        credential,
        subject,
        issuer,
        from: origin.address.map(|address| address.to_string()),
        request: origin.request.as_deref().map(str::to_owned),
        detail: None,
    }
}

/// The same, of a secret.
pub(super) fn of_secret(by: By<'_>, op: AuditOp, name: &SecretName) -> AuditEntry {
    AuditEntry { name: Some(name.as_str().to_owned()), ..entry(by, op) }
}

/// The same, in the system's chain and about a tenant.
pub(super) fn of_tenant(by: By<'_>, op: AuditOp, tenant: &TenantName) -> AuditEntry {
    AuditEntry { tenant: Some(tenant.to_string()), ..entry(by, op) }
}

/// A text as it is, or its hash where it is too long or could steer a terminal.
pub(super) fn bounded(text: &str) -> String {
    if text.len() <= TEXT_MAX_BYTES && !text.chars().any(char::is_control) {
        text.to_owned()
    } else {
        format!("sha256:{}", hex::encode(sha256(text.as_bytes())))
    }
}

/// What appends these entries.
pub(super) fn appending(said: &[AuditEntry]) -> Option<Change> {
    appending_texts(said.iter().map(text).collect())
}

/// What appends, for each of these secrets, that somebody did `op` to it.
pub(super) fn appending_of<'n>(
    by: By<'_>,
    op: AuditOp,
    secrets: impl Iterator<Item = &'n SecretName>,
) -> Option<Change> {
    let By { caller, at } = by;
    let mut entries = Texts::default();
    for name in secrets {
        let name = Some(name.as_str());
        let facts = Facts { at, op, tenant: None, name, result: OK, caller, detail: None };
        scribe::write(facts, |entry| entries.push(entry));
    }
    appending_texts(entries)
}

fn appending_texts(entries: Texts) -> Option<Change> {
    (!entries.is_empty()).then(|| Change::Append(Appended::Entries(Arc::new(entries))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::audit::AuditActor;
    use crate::store::Block;

    /// What can be printed takes at most twice its bytes in JSON.
    #[test]
    fn the_longest_entry_is_one_that_a_store_takes() {
        let longest = |bytes: usize| Some("\"".repeat(bytes));
        let entry = AuditEntry {
            at: "2030-01-02T03:04:05.123456Z".to_owned(),
            op: AuditOp::CredentialsSweep,
            tenant: longest(TenantName::MAX_LEN),
            name: longest(SecretName::MAX_LEN),
            result: "precondition_failed".to_owned(),
            by: AuditActor::AccessToken,
            credential: longest(TEXT_MAX_BYTES),
            subject: Some("😀".repeat(128)),
            issuer: longest(TEXT_MAX_BYTES),
            from: longest(45),
            request: longest(64),
            // The id of a token, and whom it is for.
            detail: Some(format!("{} for {}", "f".repeat(128), "😀".repeat(128))),
        };
        assert!(text(&entry).len() <= Block::ENTRY_MAX_BYTES, "{}", text(&entry).len());
    }

    /// A query that begins at an entry looks so far back for the block that holds it.
    #[test]
    fn no_entry_is_shorter_than_a_query_takes_it_to_be() {
        let entry = AuditEntry {
            at: "2030-01-02T03:04:05Z".to_owned(),
            op: AuditOp::ALL.into_iter().min_by_key(|op| op.word().len()).unwrap(),
            tenant: None,
            name: None,
            result: String::new(),
            by: AuditActor::Token,
            credential: None,
            subject: None,
            issuer: None,
            from: None,
            request: None,
            detail: None,
        };
        assert!(text(&entry).len() >= query::LEAST_BYTES, "{}", text(&entry));
    }

    #[test]
    fn a_text_that_is_too_long_is_named_by_its_hash() {
        assert_eq!(bounded("short"), "short");
        let long = "x".repeat(TEXT_MAX_BYTES + 1);
        assert!(bounded(&long).starts_with("sha256:"));
        assert_eq!(bounded(&long).len(), 7 + 64);
        assert!(bounded("\u{1b}[2J").starts_with("sha256:"));
    }
}
