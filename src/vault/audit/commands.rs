//! What an operator asks of the audit's proofs.

use std::sync::Arc;

use crate::api::admin::{Failure, FailureKind, Reply, Report};
use crate::api::audit_export::{AuditKeyRow, SignedCheckpoint};
use crate::crypto::AuditPublicKey;

use super::super::Vault;
use super::super::maintenance::failure;
use super::proof::{Trust, verify_open};

pub(in crate::vault) async fn show_key(vault: &Vault) -> Result<Reply, Failure> {
    let key = vault.audit_public_key().await?;
    let (fingerprint, public_key) = (key.fingerprint(), key.to_string());
    Ok(Reply::AuditKey(AuditKeyRow { fingerprint, public_key }))
}

/// Signs what was done since, and answers the newest checkpoint.
pub(in crate::vault) async fn show_head(vault: &Arc<Vault>) -> Result<Reply, Failure> {
    vault.checkpoint().await?;
    let newest = vault.newest_checkpoint().await?;
    newest.map(Reply::AuditHead).ok_or_else(|| {
        let why = "nothing was recorded yet, so there is no checkpoint; the first change makes one";
        failure(FailureKind::NotFound, why.to_owned())
    })
}

pub(in crate::vault) async fn show_proof(
    vault: &Arc<Vault>,
    key: Option<&str>,
    head: Option<SignedCheckpoint>,
    report: &Report,
) -> Result<Reply, Failure> {
    let key = key.map(AuditPublicKey::parse).transpose();
    let key = key.map_err(|error| failure(FailureKind::Usage, format!("--key: {error}")))?;
    // Where nothing can be written, the ledgers prove what is not signed yet.
    if let Err(error) = vault.checkpoint().await {
        log::debug!("no checkpoint of the audit is signed yet: {error}");
    }
    let proof = verify_open(vault, &Trust { key, head }, report).await?;
    Ok(Reply::AuditProved(proof))
}
