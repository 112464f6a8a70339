//! Makes a backup of a vault that goes on serving.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::grouped::Grouped;
use super::super::tenant::Tenant;
use super::super::{Export, Vault};
use super::BackupError;
use super::format::{Header, Void};
use super::writer::Writer;
use crate::api::admin::{BackupMade, LeftOut, Progress, Report};
use crate::crypto::{KekRecord, random};
use crate::store::{Space, StoreError};

/// How often a store that is busy is asked for the same page, and how often a
/// tenant is then begun.
const PAGE_TRIES: u32 = 5;
const TENANT_TRIES: u32 = 3;

/// Writes everything into `sink`, as fast as it is taken.
pub(in crate::vault) async fn create(
    vault: &Vault,
    sink: mpsc::Sender<Vec<u8>>,
    report: &Report,
) -> Result<BackupMade, BackupError> {
    let begun_on = vault.now().wall();
    // The keyring that is taken now must hold every key of the rows that follow.
    let _keys = vault.keys_in_use.read().await;
    let (keyring, system, tenants) = {
        // Tenants and their keys agree: nobody creates or deletes one meanwhile.
        let _agreed = vault.administration.lock().await;
        let keyring = vault.keyring.export().await?;
        (keyring, vault.system.export().await?, vault.all_tenants())
    };
    let KekRecord { store_id, check, origin } = vault.keyring.kek_record();
    let header = Header {
        store_id,
        kek_check: check,
        backup_id: random(),
        begun_on,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        kek_origin: origin,
    };
    let mut writer = Writer::begin(sink, &vault.keyring.store_keys(), header).await?;
    small_space(&mut writer, Space::Keyring, &keyring).await?;
    small_space(&mut writer, Space::System, &system).await?;
    let mut made = BackupMade { begun_on: begun_on.to_string(), ..BackupMade::default() };
    for tenant in tenants {
        match space(vault, &tenant, &mut writer, report).await? {
            Copied::Whole { rows } => {
                made.tenants += 1;
                made.rows += rows;
            }
            // It is no part of the store any more.
            Copied::Deleted => {}
            Copied::Unreadable { why } => {
                log::error!("the backup goes without tenant '{}': {why}", tenant.name);
                made.left_out.push(LeftOut { tenant: tenant.name.to_string(), why });
            }
        }
    }
    made.bytes = writer.seal(vault.now().wall()).await?;
    Ok(made)
}

async fn small_space(
    writer: &mut Writer,
    space: Space,
    export: &Export,
) -> Result<(), BackupError> {
    writer.space(space, export.sealed.as_deref()).await?;
    for (key, row) in &export.rows {
        writer.row(key, row).await?;
    }
    writer.end_space().await
}

enum Copied {
    Whole { rows: u64 },
    Deleted,
    Unreadable { why: String },
}

/// One tenant, as of one commit.
async fn space(
    vault: &Vault,
    tenant: &Arc<Tenant>,
    writer: &mut Writer,
    report: &Report,
) -> Result<Copied, BackupError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match rows(vault, tenant, writer, report).await? {
            Ok(rows) => return Ok(Copied::Whole { rows }),
            Err(error) => error,
        };
        match error {
            StoreError::TenantGone if vault.tenant(tenant.id).is_err() => {
                writer.void(Void::Deleted).await?;
                return Ok(Copied::Deleted);
            }
            StoreError::TenantGone | StoreError::Corrupted { .. } => {
                writer.void(Void::Unreadable).await?;
                return Ok(Copied::Unreadable { why: error.to_string() });
            }
            StoreError::NotApplied { .. } if tries < TENANT_TRIES => {
                writer.void(Void::Again).await?;
            }
            other => return Err(other.into()),
        }
    }
}

/// The inner error is one of reading: what was written of this space does not
/// count then.
async fn rows(
    vault: &Vault,
    tenant: &Tenant,
    writer: &mut Writer,
    report: &Report,
) -> Result<Result<u64, StoreError>, BackupError> {
    let space = Space::Tenant(tenant.id);
    let mut rows = match Grouped::of(&*vault.store, space).await {
        Ok(rows) => rows,
        Err(error) => {
            // Every tenant of the system's rows is accounted for.
            writer.space(space, None).await?;
            return Ok(Err(error));
        }
    };
    writer.space(space, rows.ledger()).await?;
    let what = tenant.name.to_string();
    let mut count = 0u64;
    loop {
        match next(&mut rows).await {
            Ok(Some((key, row))) => writer.row(&key, &row).await?,
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
        count += 1;
        if count.is_multiple_of(1_000) {
            report(Progress { what: what.clone(), done: writer.position(), of: None });
            // A store in memory never waits: let others on this thread go on.
            tokio::task::yield_now().await;
        }
    }
    writer.end_space().await?;
    report(Progress { what, done: writer.position(), of: None });
    Ok(Ok(count))
}

type NextRow = Option<(crate::store::RowKey, crate::store::Row)>;

async fn next(rows: &mut Grouped) -> Result<NextRow, StoreError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match rows.next().await {
            Err(StoreError::NotApplied { retry_after }) if tries < PAGE_TRIES => {
                tokio::time::sleep(retry_after).await;
            }
            done => return done,
        }
    }
}
