//! A check of everything that is stored, as of one commit of each space: every
//! row is counted and digested against the space's ledger, every head and value
//! is decrypted, the expiry index is held against the heads, and the audit against its
//! links.
//!
//! Damage to one part is told and hides no other. It changes nothing, keeps
//! nothing of what it reads, and leaves others time to be served.

use super::Vault;
use super::audit;
use super::check::{TenantChecker, compare};
use super::grouped::Grouped;
use super::maintenance::find_tenant;
use super::pace::Pace;
use super::seal::SpaceSeal;
use super::tenant::Tenant;
use crate::api::admin::{Failure, Progress, Report, Verification, VerifiedPart};
use crate::store::{Ledger, LedgerSeal, Row, RowKey, Space, StoreError};

/// How many rows are judged before others get a turn: some milliseconds' work.
const SLICE: u64 = 500;

/// Every row of a space, in the order of their keys.
const ALL: &[&[u8]] = &[b""];

/// Checks one tenant, or everything.
pub(super) async fn verify(
    vault: &Vault,
    only: Option<&str>,
    mut pace: Pace,
    report: &Report,
) -> Result<Verification, Failure> {
    let mut parts = Vec::new();
    let tenants = match only {
        Some(name) => vec![find_tenant(vault, name)?],
        None => {
            let _keys = vault.keys_in_use.read().await;
            parts.push(keyring(vault, &mut pace, report).await?);
            parts.push(system(vault, &mut pace, report).await?);
            vault.all_tenants()
        }
    };
    for tenant in tenants {
        let name = tenant.name.to_string();
        let part =
            VerifiedPart { tenant: Some(name), part: "secrets".into(), ..Default::default() };
        let _keys = vault.keys_in_use.read().await;
        // One that was deleted meanwhile is no part of the store any more.
        parts.extend(secrets(vault, &tenant, part, &mut pace, report).await?);
    }
    Ok(Verification { sound: parts.iter().all(|part| part.fault_count == 0), parts })
}

async fn keyring(
    vault: &Vault,
    pace: &mut Pace,
    report: &Report,
) -> Result<VerifiedPart, StoreError> {
    let mut part = VerifiedPart { part: "keyring".into(), ..Default::default() };
    let keyring = &vault.keyring;
    let examine = |key: &RowKey, row: &Row| keyring.examine(key, row);
    plain(vault, Space::Keyring, &keyring.seal(), &mut part, pace, report, examine).await?;
    Ok(part)
}

async fn system(
    vault: &Vault,
    pace: &mut Pace,
    report: &Report,
) -> Result<VerifiedPart, StoreError> {
    let mut part = VerifiedPart { part: "system".into(), ..Default::default() };
    let system = &vault.system;
    let examine = |key: &RowKey, row: &Row| system.examine(key, row);
    plain(vault, Space::System, system.seal(), &mut part, pace, report, examine).await?;
    audit::check(vault, Space::System, (system.keys(), system.seal()), &mut part, pace).await?;
    Ok(part)
}

/// A space whose rows are judged one by one.
async fn plain(
    vault: &Vault,
    space: Space,
    seal: &SpaceSeal,
    part: &mut VerifiedPart,
    pace: &mut Pace,
    report: &Report,
    examine: impl Fn(&RowKey, &Row) -> Result<(), String>,
) -> Result<(), StoreError> {
    let mut snapshot = match vault.store.snapshot(space, ALL).await {
        Err(StoreError::Corrupted { what }) => {
            part.fault(format!("{what} is corrupted"));
            return Ok(());
        }
        snapshot => snapshot?,
    };
    let ledger = snapshot.ledger().and_then(|sealed| seal.open(sealed).ok());
    let (of, mut counted) = (ledger.map(|ledger| ledger.rows), Ledger::EMPTY);
    loop {
        let page = match snapshot.next(0).await {
            Err(StoreError::Corrupted { what }) => {
                part.fault(format!("{what} is corrupted"));
                return Ok(());
            }
            page => page?,
        };
        for (key, row) in &page.rows {
            counted.add(&seal.digest_row(key, row));
            counted.highest_version = counted.highest_version.max(row.version);
            if let Err(fault) = examine(key, row) {
                part.fault(fault);
            }
        }
        part.rows = counted.rows;
        report(Progress { what: part.part.clone(), done: part.rows, of });
        if !page.more {
            break;
        }
        pace.passed(page.rows.len() as u64).await;
    }
    compare(part, &counted, ledger.as_ref());
    Ok(())
}

/// `None` where the tenant was deleted meanwhile.
async fn secrets(
    vault: &Vault,
    tenant: &Tenant,
    part: VerifiedPart,
    pace: &mut Pace,
    report: &Report,
) -> Result<Option<VerifiedPart>, StoreError> {
    let what = part.tenant.clone().unwrap_or_default();
    let mut damaged = part.clone();
    match walk(vault, tenant, part, &what, pace, report).await {
        Ok(part) => Ok(Some(part)),
        Err(StoreError::TenantGone) if vault.tenant(tenant.id).is_err() => Ok(None),
        Err(StoreError::TenantGone) => {
            damaged.fault("the rows are missing");
            Ok(Some(damaged))
        }
        Err(StoreError::Corrupted { what }) => {
            damaged.fault(format!("{what} is corrupted"));
            Ok(Some(damaged))
        }
        Err(error) => Err(error),
    }
}

async fn walk(
    vault: &Vault,
    tenant: &Tenant,
    part: VerifiedPart,
    what: &str,
    pace: &mut Pace,
    report: &Report,
) -> Result<VerifiedPart, StoreError> {
    let (keys, seal) = tenant.keys();
    let mut rows = Grouped::of(&*vault.store, Space::Tenant(tenant.id)).await?;
    let ledger = rows.ledger().and_then(|sealed| seal.open(sealed).ok());
    let of = ledger.map(|ledger| ledger.rows);
    let mut checker = TenantChecker::new(tenant.id, keys, seal, part);
    while let Some((key, row)) = rows.next().await? {
        checker.row(&key, &row);
        if checker.rows().is_multiple_of(SLICE) {
            report(Progress { what: what.to_owned(), done: checker.rows(), of });
            pace.passed(SLICE).await;
        }
    }
    pace.passed(checker.rows() % SLICE).await;
    let mut part = checker.finish(ledger.as_ref());
    audit::check(vault, Space::Tenant(tenant.id), (keys, seal), &mut part, pace).await?;
    Ok(part)
}
