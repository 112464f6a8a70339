//! What an operator asks about keys.

use std::sync::Arc;

use super::maintenance::failure;
use super::{KeysError, Vault};
use crate::api::admin::{Failure, FailureKind, HiddenText, KekStatus, Reply};
use crate::crypto::{Kek, KekOrigin, KekWay};

pub(super) fn status(vault: &Vault) -> KekStatus {
    let check = vault.keyring.store_keys().check_value();
    let origin = vault.keyring.origin();
    let set = origin.as_ref().and_then(|origin| match origin.way {
        KekWay::Shamir(set) => Some(set),
        _ => None,
    });
    KekStatus {
        fingerprint: hex::encode(&check[..4]),
        source: origin.as_ref().map(|origin| origin.way.word().to_owned()),
        since: origin.as_ref().map(|origin| origin.since.to_string()),
        threshold: set.map(|set| set.threshold),
        shares: set.map(|set| set.shares),
    }
}

pub(super) async fn replace_kek(
    vault: &Arc<Vault>,
    kek: &HiddenText,
    origin: &str,
) -> Result<Reply, Failure> {
    let usage = |message: String| failure(FailureKind::Usage, message);
    let kek = Kek::parse(kek.expose()).map_err(|error| usage(format!("the new KEK: {error}")))?;
    let origin = hex::decode(origin).ok().and_then(|bytes| KekOrigin::decode(&bytes).ok());
    let origin = origin.ok_or_else(|| usage("where the new KEK comes from is unclear".into()))?;
    vault.replace_kek(kek, origin).await?;
    Ok(Reply::KekReplaced(status(vault)))
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            KeysError::InUse => failure(
                FailureKind::Unavailable,
                format!("{error}, so no key was changed; try again when it has ended"),
            ),
        }
    }
}
