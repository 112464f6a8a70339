//! What an operator asks of a vault. Whoever can call this owns the data folder;
//! it needs no credential.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::audit::{self, Told};
use super::backup::restore::{Mode, Wanted};
use super::backup::{self, BackupError};
use super::compact::{CompactMode, compact};
use super::credential_commands::{self, parse_scopes};
use super::credentials::{Act, MAX_TTL};
use super::key_commands::{self, Rotation};
use super::limit_commands;
use super::pace::Pace;
use super::survey::with_windows;
use super::sweep::{SweepError, SweepMode, Swept};
use super::tenant::Tenant;
use super::verify::verify;
use super::{CreateError, DeleteError, Vault, VaultError, to_its_end};
use crate::api::admin::{
    ClockStatus, Command, Failure, FailureKind, Progress, Reply, SecretCounts, Status, SweptTenant,
    Tenant as TenantRow,
};
use crate::api::audit::{AuditEntry, AuditOp};
use crate::auth::{self, Caller, CredentialId, Mint, MintError, MintServer, Subject};
use crate::crypto::{Kek, OldDeks};
use crate::domain::{Now, ScopeSet, TenantName, Timestamp, ValidityWindow, WindowState};
use crate::store::StoreError;

/// What flows beside a command while it is carried out.
#[derive(Debug)]
pub struct Exchange {
    progress: mpsc::Sender<Progress>,
    /// The file that the command reads, in pieces; closed at its end.
    pub upload: mpsc::Receiver<Vec<u8>>,
    /// The file that it writes.
    pub download: mpsc::Sender<Vec<u8>>,
    /// Who asked, for the audit.
    caller: Caller,
}

/// The other ends, for who asked.
#[derive(Debug)]
pub struct Ends {
    pub progress: mpsc::Receiver<Progress>,
    pub upload: mpsc::Sender<Vec<u8>>,
    pub download: mpsc::Receiver<Vec<u8>>,
}

/// Pieces of a file that may be under way.
const PIECES: usize = 8;

impl Exchange {
    pub fn new() -> (Self, Ends) {
        let (progress, heard) = mpsc::channel(16);
        let (upload, uploaded) = mpsc::channel(PIECES);
        let (download, downloaded) = mpsc::channel(PIECES);
        let ends = Ends { progress: heard, upload, download: downloaded };
        let caller = Caller::local(None);
        (Self { progress, upload: uploaded, download, caller }, ends)
    }

    /// Somebody who is known asked.
    pub fn for_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// For a command that neither reads nor writes a file, and nobody who wants to
    /// hear how far it is.
    pub fn none() -> Self {
        Self::new().0
    }

    /// Tells who asked how far it is, and never waits for them: where they are
    /// slow, they miss some.
    pub fn report(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let progress = self.progress.clone();
        move |now| drop(progress.try_send(now))
    }
}

/// Carries out one command. The exchange is let go of at its end, which tells who
/// asked that nothing more will flow.
pub async fn execute(
    vault: &Arc<Vault>,
    command: Command,
    exchange: Exchange,
) -> Result<Reply, Failure> {
    let (told, caller) = (Told::of(&command), exchange.caller.clone());
    let outcome = carry_out(vault, command, exchange).await;
    if let Some(told) = told {
        vault.record_command(told, caller, &outcome);
    }
    outcome
}

async fn carry_out(
    vault: &Arc<Vault>,
    command: Command,
    exchange: Exchange,
) -> Result<Reply, Failure> {
    let caller = exchange.caller.clone();
    match command {
        Command::Status => status(vault).await,
        Command::TenantCreate { name } => create_tenant(vault, &name, caller).await,
        Command::TenantList => Ok(list_tenants(vault)),
        Command::TenantDelete { name } => delete_tenant(vault, &name, caller).await,
        Command::TenantShow { name } => limit_commands::show(vault, &name, exchange.report()).await,
        Command::TenantLimit { name, change } => {
            limit_commands::limit(vault, &name, change, caller).await
        }
        Command::TokenMint { tenant, scopes, ttl_seconds, subject } => {
            let ttl = Duration::from_secs(ttl_seconds);
            mint(vault, &tenant, &scopes, ttl, &subject, &caller).await
        }
        Command::TokenMintServer { ttl_seconds, subject } => {
            mint_server(vault, Duration::from_secs(ttl_seconds), &subject, &caller).await
        }
        Command::TokenRevoke { what, dry_run } => {
            credential_commands::revoke(vault, what, act(dry_run), caller).await
        }
        Command::TokenRevocations { tenant, after, limit } => {
            credential_commands::revocations(vault, tenant.as_deref(), after.as_deref(), limit)
        }
        Command::TokenRotateRoot { honour_old } => {
            credential_commands::rotate_root(vault, honour_old, caller).await
        }
        Command::TokenRoots => Ok(credential_commands::roots(vault)),
        Command::ApiKeyCreate { tenant, scopes, name, expires } => {
            let name = name.as_deref();
            credential_commands::create_api_key(vault, &tenant, &scopes, name, expires, caller)
                .await
        }
        Command::ApiKeyList { tenant } => {
            credential_commands::list_api_keys(vault, tenant.as_deref())
        }
        Command::ApiKeyRevoke { id, dry_run } => {
            credential_commands::revoke_api_key(vault, &id, act(dry_run), caller).await
        }
        Command::DekRotate { tenant, rewrite, per_second, dry_run } => {
            let old = if rewrite { OldDeks::Replace } else { OldDeks::Retire };
            let wanted = Rotation { tenant, old, per_second, dry_run };
            key_commands::rotate_deks(vault, wanted, exchange.report(), &caller).await
        }
        Command::DekList { tenant } => key_commands::list_deks(vault, tenant.as_deref()).await,
        Command::Sweep { tenant, retain_seconds, dry_run } => {
            let retain = Duration::from_secs(retain_seconds);
            let mode = if dry_run { SweepMode::CountOnly } else { SweepMode::Remove };
            sweep(vault, tenant.as_deref(), retain, mode, &caller).await
        }
        Command::ClockAccept => accept_clock(vault, &caller).await,
        Command::AuditQuery { tenant, filter, from, limit } => {
            audit::query(vault, tenant.as_deref(), &filter, from, limit).await
        }
        Command::AuditKey => audit::show_key(vault).await,
        Command::AuditHead => audit::show_head(vault).await,
        Command::AuditVerify { key, head } => {
            let report = exchange.report();
            audit::show_proof(vault, key.as_deref(), head, &report).await
        }
        Command::AuditExport { of, from } => {
            let report = exchange.report();
            let made = audit::export(vault, &of, &from, exchange.download, &report).await?;
            Ok(Reply::AuditExported(made))
        }
        Command::Seal | Command::Unseal { .. } => Err(failure(
            FailureKind::Internal,
            "only who serves a store seals and unseals it".to_owned(),
        )),
        Command::KekStatus => Ok(Reply::Kek(key_commands::status(vault))),
        Command::KekReplace { kek, origin } => {
            key_commands::replace_kek(vault, &kek, &origin, &caller).await
        }
        Command::Compact { databases, dry_run } => {
            let mode = if dry_run { CompactMode::LookOnly } else { CompactMode::Compact };
            let report = exchange.report();
            let databases = compact(vault.store.as_ref(), &databases, mode, &report).await?;
            Ok(Reply::Compacted { dry_run, databases })
        }
        Command::Verify { tenant, rows_per_second } => {
            let (pace, report) = (Pace::new(rows_per_second), exchange.report());
            let found = verify(vault, tenant.as_deref(), pace, &report).await?;
            Ok(Reply::Verified(found))
        }
        Command::BackupCreate => {
            let report = exchange.report();
            let made = backup::create::create(vault, exchange.download, &report).await?;
            vault.record(audit::entry(vault.by(&caller), AuditOp::BackupCreate)).await?;
            Ok(Reply::BackupCreated(made))
        }
        Command::BackupRestore { tenant, new_name, dry_run, bytes, kek } => {
            let kek = kek.map(|kek| Kek::parse(kek.expose())).transpose().map_err(|error| {
                failure(FailureKind::Usage, format!("the backup's KEK: {error}"))
            })?;
            let (tenant, new_name) = (parse_tenant(&tenant)?, parse_tenant(&new_name)?);
            let mode = if dry_run { Mode::DryRun } else { Mode::Restore };
            let wanted = Wanted { tenant, new_name, mode, bytes, caller };
            let report = exchange.report();
            let restored = backup::restore::one(vault, exchange.upload, kek, wanted, report);
            Ok(Reply::BackupRestored(restored.await?))
        }
    }
}

fn act(dry_run: bool) -> Act {
    if dry_run { Act::DryRun } else { Act::Do }
}

async fn status(vault: &Vault) -> Result<Reply, Failure> {
    let health = vault.store.health();
    let tenants = vault.all_tenants();
    let mut secrets = SecretCounts::default();
    let now = vault.now();
    let mut reason = health.reason;
    for tenant in &tenants {
        // One damaged tenant must not hide the state of the others.
        match with_windows(&secrets, tenant, |sum, window| add(sum, window, now)).await {
            Ok(sum) => secrets = sum,
            Err(error) => drop(reason.get_or_insert_with(|| error.to_string())),
        }
    }
    let last_sweep = *vault.last_sweep.read().unwrap_or_else(PoisonError::into_inner);
    Ok(Reply::Status(Box::new(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: false,
        sealed: false,
        writable: health.writable,
        reason,
        data: vault.options.place.clone(),
        data_bytes: vault.store.size().await,
        free_bytes: health.free_bytes,
        tenants: tenants.len() as u64,
        secrets,
        clock: ClockStatus {
            now: now.wall().to_string(),
            floor: vault.time.floor().at.to_string(),
            disputed: vault.time.is_disputed(),
        },
        last_sweep: last_sweep.map(|at| at.to_string()),
    })))
}

fn add(counts: &mut SecretCounts, window: ValidityWindow, now: Now) {
    match window.state_at(now) {
        WindowState::Valid => counts.valid += 1,
        WindowState::Pending => counts.pending += 1,
        WindowState::Expired => counts.expired += 1,
    }
}

async fn create_tenant(vault: &Arc<Vault>, name: &str, caller: Caller) -> Result<Reply, Failure> {
    let name = parse_tenant(name)?;
    // On a task of its own: a caller who goes away must not leave it half done.
    let (worker, wanted) = (vault.clone(), name.clone());
    match to_its_end(async move { worker.create_tenant(wanted, &caller).await }).await {
        Ok(tenant) => {
            Ok(Reply::TenantCreated { name: name.to_string(), id: tenant.id.to_string() })
        }
        Err(CreateError::Exists) => Err(failure(
            FailureKind::Conflict,
            format!("tenant '{name}' exists already; 'tenure tenant list' shows all"),
        )),
        Err(CreateError::Store(error)) => Err(error.into()),
    }
}

fn list_tenants(vault: &Vault) -> Reply {
    let row = |tenant: Arc<Tenant>| TenantRow {
        name: tenant.name.to_string(),
        id: tenant.id.to_string(),
        created_on: tenant.created_on.to_string(),
    };
    Reply::Tenants { tenants: vault.all_tenants().into_iter().map(row).collect() }
}

async fn delete_tenant(vault: &Arc<Vault>, name: &str, caller: Caller) -> Result<Reply, Failure> {
    let name = parse_tenant(name)?;
    let (worker, doomed) = (vault.clone(), name.clone());
    match to_its_end(async move { worker.delete_tenant(&doomed, &caller).await }).await {
        Ok(()) => Ok(Reply::TenantDeleted { name: name.to_string() }),
        Err(DeleteError::NoSuchTenant) => Err(no_such_tenant(&name)),
        Err(DeleteError::Store(error)) => Err(error.into()),
        Err(DeleteError::Unfinished(error)) => Err(failure(
            FailureKind::Unavailable,
            format!(
                "tenant '{name}' does not exist any more, but its keys are not destroyed yet \
                 ({error}): the server tries again by itself, and so does its next start"
            ),
        )),
    }
}

async fn mint(
    vault: &Vault,
    tenant: &str,
    scopes: &[String],
    ttl: Duration,
    subject: &str,
    caller: &Caller,
) -> Result<Reply, Failure> {
    let tenant = find_tenant(vault, tenant)?;
    let subject = mintable(subject, ttl)?;
    let scopes = parse_scopes(scopes)?;
    if scopes == ScopeSet::NONE {
        let why = "a token needs at least one --scope";
        return Err(failure(FailureKind::Usage, why.to_owned()));
    }
    // A token's times are whole seconds: rounding them down never lengthens it.
    let issued = vault.issuable_from(tenant.id, &subject);
    let expires = issued.saturating_add(ttl);
    let token = auth::mint(
        &vault.authenticator.roots(),
        &Mint {
            tenant: &tenant.name,
            tenant_id: tenant.id,
            subject: &subject,
            scopes,
            issued,
            expires,
        },
    );
    let said = audit::of_tenant(vault.by(caller), AuditOp::TokenMint, &tenant.name);
    hand_out(vault, token, (&subject, expires), said).await
}

/// One that belongs to no tenant. Nothing but its own id, or the end of its root, revokes
/// it, so that it is issued now.
async fn mint_server(
    vault: &Vault,
    ttl: Duration,
    subject: &str,
    caller: &Caller,
) -> Result<Reply, Failure> {
    let subject = mintable(subject, ttl)?;
    let issued = vault.now().for_expiry();
    let expires = issued.saturating_add(ttl);
    let wanted = MintServer { subject: &subject, issued, expires };
    let token = auth::mint_server(&vault.authenticator.roots(), &wanted);
    let said = audit::entry(vault.by(caller), AuditOp::TokenMint);
    hand_out(vault, token, (&subject, expires), said).await
}

fn mintable(subject: &str, ttl: Duration) -> Result<Subject, Failure> {
    let usage = |message: String| failure(FailureKind::Usage, message);
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(usage("the lifetime must be between 1 second and 10 years".to_owned()));
    }
    Subject::parse(subject).map_err(|error| usage(format!("the subject {error}")))
}

/// Nobody has a token before it is durable that it was minted.
async fn hand_out(
    vault: &Vault,
    token: Result<Zeroizing<String>, MintError>,
    (subject, expires): (&Subject, Timestamp),
    said: AuditEntry,
) -> Result<Reply, Failure> {
    let mut token = token.map_err(|error| failure(FailureKind::Internal, error.to_string()))?;
    let detail = minted(vault, &token, subject);
    vault.record(AuditEntry { detail, ..said }).await?;
    let token = std::mem::take(&mut *token);
    Ok(Reply::Token { token, expires_on: expires.to_string() })
}

/// Which token it is, and whose.
fn minted(vault: &Vault, token: &str, subject: &Subject) -> Option<String> {
    match vault.identify(token).ok()?.id() {
        CredentialId::Biscuit(blocks) => blocks.last().map(|id| format!("{id} for {subject}")),
        CredentialId::ApiKey(_) | CredentialId::Oidc(_) => None,
    }
}

async fn sweep(
    vault: &Vault,
    only: Option<&str>,
    retain: Duration,
    mode: SweepMode,
    caller: &Caller,
) -> Result<Reply, Failure> {
    let tenants = match only {
        Some(name) => vec![find_tenant(vault, name)?],
        None => vault.all_tenants(),
    };
    let mut swept = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let Swept { secrets, damaged } = vault.sweep_tenant(&tenant, retain, mode, caller).await?;
        swept.push(SweptTenant { tenant: tenant.name.to_string(), secrets, damaged });
    }
    if only.is_none() && mode == SweepMode::Remove {
        vault.sweep_credentials().await;
        vault.note_sweep().await;
    }
    Ok(Reply::Swept { dry_run: mode == SweepMode::CountOnly, tenants: swept })
}

async fn accept_clock(vault: &Vault, caller: &Caller) -> Result<Reply, Failure> {
    let before = vault.time.floor();
    let accepted = vault.time.propose();
    let said = audit::entry(vault.by(caller), AuditOp::ClockAccept);
    vault.system.record(&[said], accepted).await?;
    vault.time.accept(accepted);
    vault.note_floor(accepted);
    Ok(Reply::ClockAccepted { now: accepted.at.to_string(), floor_before: before.at.to_string() })
}

fn parse_tenant(name: &str) -> Result<TenantName, Failure> {
    TenantName::parse(name)
        .map_err(|error| failure(FailureKind::Usage, format!("a tenant's name {error}")))
}

pub(super) fn find_tenant(vault: &Vault, name: &str) -> Result<Arc<Tenant>, Failure> {
    let name = parse_tenant(name)?;
    vault.tenant_named(&name).ok_or_else(|| no_such_tenant(&name))
}

fn no_such_tenant(name: &TenantName) -> Failure {
    failure(
        FailureKind::NotFound,
        format!("there is no tenant '{name}'; 'tenure tenant list' shows all"),
    )
}

pub(super) fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (kind, remedy) = match &error {
            StoreError::NotApplied { .. } => (FailureKind::Unavailable, "try again shortly"),
            StoreError::Conflict => (FailureKind::Unavailable, "try again"),
            StoreError::Full => (FailureKind::Unavailable, "free some space and try again"),
            StoreError::Unknown => {
                (FailureKind::Unavailable, "look at what is there before trying again")
            }
            StoreError::TenantGone => (FailureKind::NotFound, "it was deleted meanwhile"),
            StoreError::Corrupted { .. } => {
                let remedy = "'tenure verify' tells all that is damaged, and 'tenure backup restore' \
                              brings it back from a backup";
                (FailureKind::Internal, remedy)
            }
            StoreError::TooLarge => (FailureKind::Internal, "nothing was changed"),
        };
        failure(kind, format!("{error}; {remedy}"))
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let kind = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::NotABackup | BackupError::NewerFormat { .. } | BackupError::OtherKek => {
                FailureKind::Usage
            }
            BackupError::Damaged { .. }
            | BackupError::Truncated
            | BackupError::Contents { .. }
            | BackupError::Unsound(_) => FailureKind::Damaged,
            BackupError::NotEmpty | BackupError::TenantExists { .. } => FailureKind::Conflict,
            BackupError::NoSuchTenant { .. } => FailureKind::NotFound,
            BackupError::NotTaken => FailureKind::Unavailable,
        };
        failure(kind, error.to_string())
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            other => failure(FailureKind::Internal, other.to_string()),
        }
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        match error {
            SweepError::ClockDisputed => failure(
                FailureKind::ClockDisputed,
                "the clock is disputed, so nothing is swept: compare 'tenure status' with the \
                 real time, then run 'tenure clock accept'"
                    .to_owned(),
            ),
            SweepError::Vault(error) => error.into(),
        }
    }
}
