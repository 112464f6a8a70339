//! What an operator asks about keys.

use std::sync::Arc;

use super::audit;
use super::keyring::SYSTEM;
use super::maintenance::{failure, find_tenant};
use super::pace::Pace;
use super::{KeysError, Vault};
use crate::api::admin::{
    DekRow, Failure, FailureKind, HiddenText, KekStatus, Progress, Reencrypted, Reply,
};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::Caller;
use crate::crypto::{Kek, KekOrigin, KekRecord, KekWay, OldDeks, StoreId};
use crate::domain::TenantId;
use crate::store::StoreError;

pub(super) fn status(vault: &Vault) -> KekStatus {
    describe(vault.keyring.kek_record())
}

/// As an answer says it.
pub fn describe(record: KekRecord) -> KekStatus {
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

/// What [`describe`] said of the KEK, to prove one against elsewhere; `None` where it is
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
    caller: &Caller,
) -> Result<Reply, Failure> {
    let usage = |message: String| failure(FailureKind::Usage, message);
    let kek = Kek::parse(kek.expose()).map_err(|error| usage(format!("the new KEK: {error}")))?;
    let origin = hex::decode(origin).ok().and_then(|bytes| KekOrigin::decode(&bytes).ok());
    let origin = origin.ok_or_else(|| usage("where the new KEK comes from is unclear".into()))?;
    let said = audit::entry(vault.by(caller), AuditOp::KekRotate);
    let replaced = audit::recorded(vault, said, vault.replace_kek(kek, origin)).await;
    replaced.map_err(|error| match error {
        KeysError::Store(StoreError::Unknown) => failure(
            FailureKind::Unavailable,
            "whether the KEK was replaced is not known: keep both, the old and the new, until \
             'tenure kek check' or a start says which it is"
                .to_owned(),
        ),
        error => error.into(),
    })?;
    Ok(Reply::KekReplaced(status(vault)))
}

/// A rotation of DEKs that is asked for.
pub(super) struct Rotation {
    /// `None`: of all tenants, and of the system.
    pub(super) tenant: Option<String>,
    pub(super) old: OldDeks,
    pub(super) per_second: Option<u32>,
    pub(super) dry_run: bool,
}

pub(super) async fn rotate_deks(
    vault: &Arc<Vault>,
    wanted: Rotation,
    report: impl Fn(Progress) + Send + Sync + 'static,
    caller: &Caller,
) -> Result<Reply, Failure> {
    let Rotation { tenant, old, per_second, dry_run } = wanted;
    let spaces: Vec<_> =
        named_spaces(vault, tenant.as_deref())?.into_iter().map(|(_, space)| space).collect();
    let system = spaces.contains(&SYSTEM);
    let count = (spaces.len() - usize::from(system)) as u64;
    if dry_run {
        return Ok(Reply::DeksRotated { dry_run, tenants: count, system, reencrypted: None });
    }
    let said = AuditEntry { tenant, ..audit::entry(vault.by(caller), AuditOp::DekRotate) };
    audit::recorded(vault, said, vault.rotate_deks(spaces, old)).await?;
    let reencrypted = match old {
        OldDeks::Retire => None,
        OldDeks::Replace => Some(reencrypt(vault, per_second, report).await?),
    };
    Ok(Reply::DeksRotated { dry_run, tenants: count, system, reencrypted })
}

/// Where the caller goes away, or the vault is sealed, it is broken off; a server goes on
/// by itself in [`Vault::tend_keys`].
async fn reencrypt(
    vault: &Arc<Vault>,
    per_second: Option<u32>,
    report: impl Fn(Progress) + Send + Sync + 'static,
) -> Result<Reencrypted, Failure> {
    let pace = Pace::new(per_second.or(vault.options.deks.per_second));
    vault.reencrypt(pace, &report).await.map_err(|error| {
        let Failure { kind, message } = error.into();
        let message = format!(
            "the new DEKs encrypt, and encrypting the rest anew did not end: {message}; a running \
             server goes on by itself, and so does the next 'tenure dek rotate --rewrite'"
        );
        Failure { kind, message }
    })
}

pub(super) async fn list_deks(vault: &Vault, tenant: Option<&str>) -> Result<Reply, Failure> {
    let mut rows = Vec::new();
    for (tenant, space) in named_spaces(vault, tenant)? {
        let deks = vault.deks(space).await?;
        rows.extend(deks.into_iter().map(|(id, state, made_on)| DekRow {
            tenant: tenant.clone(),
            id,
            state: state.word().to_owned(),
            made_on: made_on.map(|at| at.to_string()),
        }));
    }
    Ok(Reply::Deks { deks: rows })
}

/// One tenant, or all by name and then the system.
fn named_spaces(
    vault: &Vault,
    tenant: Option<&str>,
) -> Result<Vec<(Option<String>, TenantId)>, Failure> {
    if let Some(name) = tenant {
        let tenant = find_tenant(vault, name)?;
        return Ok(vec![(Some(tenant.name.to_string()), tenant.id)]);
    }
    let tenants = vault.all_tenants().into_iter();
    let named = tenants.map(|tenant| (Some(tenant.name.to_string()), tenant.id));
    Ok(named.chain([(None, SYSTEM)]).collect())
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
