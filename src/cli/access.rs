//! How a command reaches a store: through the server that runs on it, or by
//! opening it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::args::StoreArgs;
use super::clock::SystemClock;
use super::data::{DataFolder, Enter, way_out};
use super::failure::CliError;
use super::kek::Fetched;
use super::progress::Bar;
use super::shares::Input;
use super::{internal, issuers, kek, logging, notices, secret};
use crate::api::admin::{Command, Reply};
use crate::auth::{Caller, Rates};
use crate::config::{self, AuditReads, Config, Loaded};
use crate::crypto::{Kek, KekRecord, OldDeks};
use crate::domain::{Bound, Rate, TenantLimits};
use crate::http::{AdminClient, AdminError};
use crate::store::{Store, StoreError};
use crate::vault::maintenance::{self, Ends, Exchange};
use crate::vault::{AuditPolicy, DekPolicy, OpenError, Reads, SealedVault, Vault, VaultOptions};

const SYSTEM_CONFIG: &str = "/etc/tenure/tenure.toml";
/// The KEK of a development store lies in its folder; nobody else's does.
pub(super) const DEV_KEK: &str = "kek";

/// Whether a folder that `tenure dev` made will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DevStore {
    Allowed,
    Refused,
}

/// Puts the configuration together from flags, environment and file.
pub(super) fn configure(
    args: &StoreArgs,
    dev: DevStore,
    flags: Vec<(&str, String)>,
) -> Result<Config, CliError> {
    load(args, dev, flags).map(|loaded| loaded.config)
}

/// The same, with where each value was said.
pub(super) fn load(
    args: &StoreArgs,
    dev: DevStore,
    mut flags: Vec<(&str, String)>,
) -> Result<Loaded, CliError> {
    let system = Path::new(SYSTEM_CONFIG);
    let file = match (&args.config, &args.data) {
        (Some(file), _) => Some(file.as_path()),
        (None, None) if system.exists() => Some(system),
        (None, _) => None,
    };
    let set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let mut data = args.data.clone();
    let dev_data = Path::new(".").join(secret::FOLDER);
    if data.is_none() && file.is_none() && dev == DevStore::Allowed && !set("TENURE_DATA") {
        data = Some(dev_data).filter(|data| data.exists());
    }
    let kek_said = file.is_some()
        || set("TENURE_KEK_FILE")
        || set("TENURE_KEK_SOURCE")
        || flags.iter().any(|(key, _)| *key == "kek.file");
    if let Some(data) = &data {
        flags.push(("data", data.display().to_string()));
        if !kek_said {
            flags.push(("kek.file", kek_beside(data, dev).display().to_string()));
        }
    }
    Ok(Loaded::load(file, config::environment(), &flags)?)
}

/// Where the KEK of `--data` is when nobody said: beside it, never in it, but for
/// a development store.
fn kek_beside(data: &Path, dev: DevStore) -> PathBuf {
    let inside = data.join(DEV_KEK);
    if dev == DevStore::Allowed && inside.exists() {
        return inside;
    }
    // "data/", "data" and "." have a last component once they are absolute.
    let whole = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let mut beside = whole.components().as_path().as_os_str().to_owned();
    beside.push(".kek");
    PathBuf::from(beside)
}

/// Takes an opened store for one that is sealed, for a `reason` or because it is
/// opened with shares.
pub(super) async fn seal_vault(
    folder: &DataFolder,
    config: &Config,
    store: Arc<dyn Store>,
    reason: Option<String>,
) -> Result<SealedVault, CliError> {
    let options = options(config, folder.path().display().to_string());
    let sealed = SealedVault::new(store.clone(), Arc::new(SystemClock), options, reason).await;
    or_close(&store, sealed.map_err(|error| refused(&error, folder))).await
}

/// Closes the store where there is nothing to go on with.
pub(super) async fn or_close<T>(
    store: &Arc<dyn Store>,
    outcome: Result<T, CliError>,
) -> Result<T, CliError> {
    if outcome.is_err() {
        store.close().await;
    }
    outcome
}

/// Opens the vault of an entered folder.
pub(super) async fn open_vault(
    folder: &DataFolder,
    config: &Config,
    kek: Fetched,
    store: Arc<dyn Store>,
) -> Result<Arc<Vault>, CliError> {
    let opened = match proved(folder, kek, &store).await {
        Ok(kek) => open_under(folder, config, &kek, &store).await,
        Err(error) => Err(error),
    };
    or_close(&store, opened).await
}

/// The KEK that was fetched, if it is that of the store.
pub(super) async fn proved(
    folder: &DataFolder,
    kek: Fetched,
    store: &Arc<dyn Store>,
) -> Result<Kek, CliError> {
    let record = kek_record(folder, &**store).await?;
    Ok(kek.prove(folder.path(), &record)?.kek)
}

/// What the store in a folder says of its KEK.
pub(super) async fn kek_record(
    folder: &DataFolder,
    store: &dyn Store,
) -> Result<KekRecord, CliError> {
    let record = Vault::kek_record(store).await.map_err(|error| refused(&error, folder))?;
    record.ok_or_else(|| refused(&OpenError::NotInitialized, folder))
}

/// Opens it under a KEK that was proved; the store stays open after an error.
pub(super) async fn open_under(
    folder: &DataFolder,
    config: &Config,
    kek: &Kek,
    store: &Arc<dyn Store>,
) -> Result<Arc<Vault>, CliError> {
    let place = folder.path().display().to_string();
    let opened = Vault::open(store.clone(), kek, Arc::new(SystemClock), options(config, place));
    opened.await.map_err(|error| refused(&error, folder))
}

pub(super) fn options(config: &Config, place: String) -> VaultOptions {
    VaultOptions {
        place,
        max_value_bytes: config.secrets.max_value_bytes.as_usize(),
        list_cache_bytes: config.store.list_cache_bytes.as_usize(),
        token_cache_entries: config.tokens.cache_entries,
        rates: rates(&config.limits),
        issuers: issuers::policies(config),
        max_api_keys: config.api_keys.max_per_tenant,
        tenant_limits: tenant_limits(&config.limits.tenant),
        notices: notices::policy(config),
        deks: dek_policy(&config.dek),
        audit: AuditPolicy {
            reads: audited_reads(config),
            queue_bytes: config.audit.queue_bytes.as_usize(),
        },
    }
}

pub(super) fn audited_reads(config: &Config) -> Reads {
    match config.audit.reads {
        AuditReads::Durable => Reads::Durable,
        AuditReads::Buffered => Reads::Buffered,
        AuditReads::Off => Reads::Off,
    }
}

fn dek_policy(dek: &config::Dek) -> DekPolicy {
    let config::Dek { rotate_after, rewrite, rewrite_rate } = *dek;
    DekPolicy {
        rotate_after: Some(rotate_after.as_duration()).filter(|age| !age.is_zero()),
        old: if rewrite { OldDeks::Replace } else { OldDeks::Retire },
        per_second: u32::try_from(rewrite_rate).ok(),
    }
}

pub(super) fn rates(limits: &config::Limits) -> Rates {
    let config::Limits {
        address_rate,
        address_burst,
        credential_rate,
        credential_burst,
        failure_rate,
        failure_burst,
        new_token_rate,
        new_token_burst,
        tenant: _,
    } = *limits;
    Rates {
        source: Rate::of(address_rate, address_burst),
        credential: Rate::of(credential_rate, credential_burst),
        failures: Rate::of(failure_rate, failure_burst),
        first_sights: Rate::of(new_token_rate, new_token_burst),
    }
}

fn tenant_limits(limits: &config::TenantLimits) -> TenantLimits {
    let config::TenantLimits { secrets, bytes, requests_per_second } = *limits;
    TenantLimits {
        secrets: Bound::of(secrets as u64),
        bytes: Bound::of(bytes.get()),
        requests_per_second: Bound::of(requests_per_second as u64),
    }
}

pub(super) fn refused(error: &OpenError, folder: &DataFolder) -> CliError {
    let place = folder.path().display();
    match error {
        OpenError::NotInitialized | OpenError::WithoutKeyring | OpenError::WrongKek => {
            CliError::usage(format!("{place}: {error}"))
        }
        OpenError::AlreadyInitialized => CliError {
            exit: super::failure::Exit::Conflict,
            message: format!("{place}: {error}; 'tenure serve' serves it"),
        },
        OpenError::Store(StoreError::Corrupted { .. }) => {
            internal(format!("{place}: {error}; {}", way_out(&place)))
        }
        OpenError::Store(_) => CliError::unavailable(format!("{place}: {error}")),
    }
}

/// Enters the folder of an existing store.
pub(super) fn enter(config: &Config) -> Result<DataFolder, CliError> {
    DataFolder::enter(&config.data).map_err(|why| match why {
        Enter::Absent => CliError {
            exit: super::failure::Exit::NotFound,
            message: format!(
                "there is no store in {0}; 'tenure init --data {0}' makes one, 'tenure dev' a \
                 local one",
                config.data.display()
            ),
        },
        Enter::Failed(error) => error,
    })
}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Failed(failure) => failure.into(),
            AdminError::File(_) => internal(error),
            other => Self::unavailable(other),
        }
    }
}

/// The folder of the store that a maintenance command is about.
pub(super) fn enter_for(args: &StoreArgs) -> Result<(Config, DataFolder), CliError> {
    let config = configure(args, DevStore::Allowed, Vec::new())?;
    logging::of_a_command();
    let folder = enter(&config)?;
    Ok((config, folder))
}

/// A file beside a command.
pub(super) enum Beside {
    Nothing,
    /// Read by the command.
    Upload(Box<dyn Read + Send>),
    /// Written by the command.
    Download(Box<dyn Write>),
}

/// Carries out one maintenance command, wherever the store is open.
pub(super) async fn execute(args: &StoreArgs, command: Command) -> Result<Reply, CliError> {
    execute_with(args, command, Beside::Nothing).await
}

/// The same for one that reads or writes a file, which is opened on this side:
/// the server may neither see this folder nor be allowed to enter it.
pub(super) async fn execute_with(
    args: &StoreArgs,
    command: Command,
    mut beside: Beside,
) -> Result<Reply, CliError> {
    let (config, folder) = enter_for(args)?;
    let bar = Bar::new();
    if let Some(client) = AdminClient::connect(folder.path())? {
        let (upload, download): (Option<&mut (dyn Read + Send)>, Option<&mut dyn Write>) =
            match &mut beside {
                Beside::Nothing => (None, None),
                Beside::Upload(file) => (Some(file.as_mut()), None),
                Beside::Download(file) => (None, Some(file.as_mut())),
            };
        let mut reply = client.send(&command, upload, download, &mut |now| bar.show(now))?;
        match &mut reply {
            Reply::Status(status) => status.serving = true,
            Reply::Sealed(status) => status.serving = true,
            _ => {}
        }
        return Ok(reply);
    }
    let input = if matches!(beside, Beside::Upload(_)) { Input::Taken } else { Input::Free };
    let kek = kek::fetch_beside(&config, input)?;
    let store = folder.open(&config).await?;
    let vault = open_vault(&folder, &config, kek, store).await?;
    let outcome = here(&vault, command, beside, &bar).await;
    vault.close().await;
    outcome
}

/// In this process.
async fn here(
    vault: &Arc<Vault>,
    command: Command,
    beside: Beside,
    bar: &Bar,
) -> Result<Reply, CliError> {
    let (exchange, Ends { mut progress, upload, mut download }) = Exchange::new();
    let exchange = exchange.for_caller(here_by());
    let mut written = None;
    let mut reading = None;
    match beside {
        Beside::Nothing => drop(upload),
        Beside::Upload(file) => reading = Some(std::thread::spawn(|| send_pieces(file, upload))),
        Beside::Download(file) => written = Some(file),
    }
    let work = maintenance::execute(vault, command, exchange);
    let flow = async {
        loop {
            tokio::select! {
                Some(piece) = download.recv() => if let Some(file) = &mut written {
                    file.write_all(&piece)?;
                },
                Some(now) = progress.recv() => bar.show(now),
                else => return Ok(()),
            }
        }
    };
    // A file that cannot be written ends the command; any other end of the flow is
    // that of the command.
    let (outcome, ()) = tokio::try_join!(async { Ok(work.await) }, flow)
        .map_err(|error: std::io::Error| internal(AdminError::File(error)))?;
    match (outcome, reading.map(std::thread::JoinHandle::join)) {
        (Err(_), Some(Ok(Err(error)))) => Err(internal(AdminError::File(error))),
        (outcome, _) => Ok(outcome?),
    }
}

/// The user of this process.
pub(super) fn here_by() -> Caller {
    Caller::local(Some(rustix::process::getuid().as_raw()))
}

/// Ends early where nobody takes more.
pub(super) fn send_pieces(
    mut file: Box<dyn Read + Send>,
    to: mpsc::Sender<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        file.as_mut().take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
        if piece.is_empty() || to.blocking_send(piece).is_err() {
            return Ok(());
        }
    }
}

const PIECE_BYTES: usize = 256 * 1024;
