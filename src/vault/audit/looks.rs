//! What is recorded of an operator's commands beside the changes that they make: looks at
//! credentials, keys and tenants, and changes that were refused.

use std::sync::Arc;

use super::bounded;
use super::queue::{About, Act};
use crate::api::admin::{Command, Failure, FailureKind, Reply};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::vault::Vault;

/// A command that is about to be carried out.
pub(in crate::vault) struct Told {
    op: AuditOp,
    tenant: Option<Box<str>>,
    /// What it does has an entry in the commit that does it.
    is_change: bool,
}

impl Told {
    /// `None` where it is about nothing of the kind, or tells both its beginning and its
    /// end.
    pub(in crate::vault) fn of(command: &Command) -> Option<Self> {
        let change = |op, tenant: Option<&String>| Some(Self::new(op, tenant, true));
        let look = |op, tenant: Option<&String>| Some(Self::new(op, tenant, false));
        match command {
            Command::TenantCreate { name } => change(AuditOp::TenantCreate, Some(name)),
            Command::TenantDelete { name } => change(AuditOp::TenantDelete, Some(name)),
            Command::TenantLimit { name, .. } => change(AuditOp::TenantLimit, Some(name)),
            Command::TokenMint { tenant, .. } => change(AuditOp::TokenMint, Some(tenant)),
            Command::TokenMintServer { .. } => change(AuditOp::TokenMint, None),
            Command::TokenRevoke { .. } => change(AuditOp::TokenRevoke, None),
            Command::TokenRotateRoot { .. } => change(AuditOp::RootRotate, None),
            Command::ApiKeyCreate { tenant, .. } => change(AuditOp::ApiKeyCreate, Some(tenant)),
            Command::ApiKeyRevoke { .. } => change(AuditOp::ApiKeyRevoke, None),
            Command::ClockAccept => change(AuditOp::ClockAccept, None),
            Command::BackupCreate => change(AuditOp::BackupCreate, None),
            Command::BackupRestore { new_name, .. } => {
                change(AuditOp::TenantRestore, Some(new_name))
            }
            Command::TenantList => look(AuditOp::TenantList, None),
            Command::TenantShow { name } => look(AuditOp::TenantShow, Some(name)),
            Command::TokenRevocations { tenant, .. } => look(AuditOp::TokenList, tenant.as_ref()),
            Command::TokenRoots => look(AuditOp::RootList, None),
            Command::ApiKeyList { tenant } => look(AuditOp::ApiKeyList, tenant.as_ref()),
            Command::KekStatus => look(AuditOp::KekStatus, None),
            Command::DekList { tenant } => look(AuditOp::DekList, tenant.as_ref()),
            Command::Status
            | Command::Sweep { .. }
            | Command::AuditQuery { .. }
            | Command::AuditKey
            | Command::AuditHead
            | Command::AuditVerify { .. }
            | Command::AuditExport { .. }
            | Command::Seal
            | Command::Unseal { .. }
            | Command::KekReplace { .. }
            | Command::DekRotate { .. }
            | Command::Compact { .. }
            | Command::Verify { .. } => None,
        }
    }

    fn new(op: AuditOp, tenant: Option<&String>, is_change: bool) -> Self {
        Self { op, tenant: tenant.map(|name| bounded(name).into()), is_change }
    }
}

impl Vault {
    /// Within a second, or when the store is closed.
    pub(in crate::vault) fn record_command(
        self: &Arc<Self>,
        told: Told,
        caller: Caller,
        outcome: &Result<Reply, Failure>,
    ) {
        let Told { op, tenant, is_change } = told;
        let result = match outcome {
            Ok(_) if is_change => return,
            Ok(_) if !self.records_reads() => return,
            Ok(_) => Act::OK,
            Err(failure) => word(failure.kind),
        };
        let (at, about) = (self.time.now().wall(), About::System { tenant });
        self.record_soon(Act { at, op, about, result, caller, detail: None });
    }
}

fn word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Usage => "usage",
        FailureKind::NotFound => "not_found",
        FailureKind::Conflict => "conflict",
        FailureKind::Unavailable => "unavailable",
        FailureKind::ClockDisputed => "clock_disputed",
        FailureKind::Damaged => "damaged",
        FailureKind::Internal => "internal",
    }
}
