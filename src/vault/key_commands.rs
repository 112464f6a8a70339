//! What an operator asks about keys.

use std::sync::Arc;

use super::maintenance::failure;
use super::{KeysError, Vault};
use crate::api::admin::{Failure, FailureKind, HiddenText, KekStatus, Reply};
use crate::crypto::{Kek, KekOrigin, KekRecord, KekWay, StoreId};

pub(super) fn status(vault: &Vault) -> KekStatus {
    let record = vault.keyring.kek_record();
    let fingerprint = record.fingerprint();
    let KekRecord { store_id, check, origin } = record;
    let set = origin.as_ref().and_then(|origin| match origin.way {
        KekWay::Shamir(set) => Some(set),
        _ => None,
    });
    KekStatus {
        fingerprint,
        source: origin.as_ref().map(|origin| origin.way.word().to_owned()),
        since: origin.as_ref().map(|origin| origin.since.to_string()),
        threshold: set.map(|set| set.threshold),
        shares: set.map(|set| set.shares),
        store_id: hex::encode(store_id.as_bytes()),
        check: hex::encode(check),
        origin: origin.map(|origin| hex::encode(origin.encode())),
    }
}

/// What [`status`] said of the KEK, to prove one against elsewhere; `None` where it is
/// of no known form.
pub fn record(status: &KekStatus) -> Option<KekRecord> {
    let origin = status
        .origin
        .as_ref()
        .map(|origin| hex::decode(origin).ok().and_then(|bytes| KekOrigin::decode(&bytes).ok()));
    let origin = match origin {
        None => None,
        Some(known) => Some(known?),
    };
    Some(KekRecord {
        store_id: StoreId::from_bytes(bytes(&status.store_id)?),
        check: bytes(&status.check)?,
        origin,
    })
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode(text).ok()?.try_into().ok()
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
