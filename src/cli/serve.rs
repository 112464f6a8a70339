//! `tenure init` and `tenure serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::access::{self, DevStore};
use super::args::{ServeArgs, StoreArgs};
use super::backup_schedule::Schedule;
use super::clock::SystemClock;
use super::data::DataFolder;
use super::failure::CliError;
use super::kek::NewKek;
use super::maintain::Output;
use super::{internal, issuers, kek, memory, process};
use crate::config::{Config, Exposure, LogLevel};
use crate::http::{
    AdminServer, AppState, IssuerWatch, Running, Server, ServerOptions, Stop, TlsFiles, TlsReloader,
};
use crate::store::Store;
use crate::vault::{OpenError, Vault};

/// How often the vault is kept in order.
const HOUSE_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked whether a database is worn.
const COMPACT_EVERY: Duration = Duration::from_secs(5);
/// How often it is asked whether keys are old, or something is to be encrypted anew.
const KEYS_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    data: String,
    /// Where the KEK was made; `None` where it was there.
    kek_created: Option<String>,
}

/// Makes a store.
pub(super) async fn init(args: &StoreArgs, output: Output) -> Result<(), CliError> {
    let config = access::configure(args, DevStore::Refused, Vec::new())?;
    process::log_to_stderr(log::LevelFilter::Warn);
    config.require_kek_apart_from_data()?;
    let folder = DataFolder::create(&config.data)?;
    let store = folder.open(&config).await?;
    let made = make(&config, &store).await;
    store.close().await;
    let kek_created = match made? {
        Made::New { kek_created } => kek_created,
        Made::Before => return Err(access::refused(&OpenError::AlreadyInitialized, &folder)),
    };
    let answer = Initialized {
        data: folder.path().display().to_string(),
        kek_created: kek_created.map(|path| path.display().to_string()),
    };
    output.show(&answer, || initialized_text(&answer, &kek::protection(&config), args))
}

/// Whether [`make`] had something to make.
pub(super) enum Made {
    New { kek_created: Option<PathBuf> },
    Before,
}

/// Makes a store, and its KEK where there is none.
///
/// The caller has the store open, and so its lock: two that begin at once cannot
/// make two KEKs. A store that exists has a KEK; another one in its place would
/// hide that it is missing, and could be taken for it.
pub(super) async fn make(config: &Config, store: &Arc<dyn Store>) -> Result<Made, CliError> {
    let failed = |error: OpenError| internal(error);
    if Vault::exists(&**store).await.map_err(failed)? {
        return Ok(Made::Before);
    }
    let NewKek { kek, way, created } = match Vault::kek_record(&**store).await.map_err(failed)? {
        // It was begun under this one.
        Some(record) => kek::fetch(config)?.prove(&config.data, &record)?.into(),
        None => kek::create(config)?,
    };
    Vault::init(store.clone(), &kek, way, &SystemClock).await.map_err(failed)?;
    Ok(Made::New { kek_created: created })
}

fn initialized_text(answer: &Initialized, protection: &str, args: &StoreArgs) -> String {
    let Initialized { data, kek_created } = answer;
    let which = match (&args.config, &args.data) {
        (Some(file), _) => format!(" --config {}", file.display()),
        (None, Some(data)) => format!(" --data {}", data.display()),
        (None, None) => String::new(),
    };
    let mut text = format!("made a store in {data}\n");
    if let Some(kek) = kek_created {
        text += &format!("made its KEK at {kek}\n");
    }
    text + &format!(
        "\n{protection}\n\nnext:\n  tenure serve{which}\n  tenure tenant create acme{which}\n  tenure token mint \
         --tenant acme --scope Secret.Read --scope Secret.Write{which}\n"
    )
}

/// What a script wants to know of a server that has begun to serve.
#[derive(Serialize)]
struct Serving {
    address: String,
    data: String,
}

/// Serves a store until it is told to stop.
pub(super) async fn run(args: ServeArgs, output: Output) -> Result<(), CliError> {
    let listen = args.listen.map(|address| ("listen", address.to_string()));
    let flags = listen.into_iter().collect();
    let config = access::configure(&args.store, DevStore::Refused, flags)?;
    process::log_to_stderr(level(config.log.level));
    config.require_kek_apart_from_data()?;
    let memory = memory::lock(config.memory.lock)?;
    let service = Service::bind(&config)?;
    let folder = access::enter(&config)?;
    let vault = match open(&folder, &config).await {
        Ok(vault) => vault,
        Err(error) => {
            service.abandon().await;
            return Err(error);
        }
    };
    memory.report();
    let stop = StopSignals::listen()?;
    let admin = service.admit(&folder, &vault).await?;
    let serving = Serving { address: service.url(), data: folder.path().display().to_string() };
    log::info!("serving {} on {}", serving.data, serving.address);
    // For people the log says it.
    output.show(&serving, String::new)?;
    service.until_stopped(stop, &config, vault, Some(admin)).await
}

async fn open(folder: &DataFolder, config: &Config) -> Result<Arc<Vault>, CliError> {
    // Before the databases are opened: a missing KEK should not take that long.
    let kek = kek::fetch(config)?;
    let store = folder.open(config).await?;
    access::open_vault(folder, config, kek, store).await
}

/// What ends a service in good order. From [`StopSignals::listen`] on they no
/// longer kill: before it nothing was acknowledged, and a long opening can be
/// broken off.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(super) fn listen() -> Result<Self, CliError> {
        let terminate = signal(SignalKind::terminate()).map_err(internal)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
        Ok(Self { terminate, interrupt })
    }
}

/// A bound server, answering before the store is open.
pub(super) struct Service {
    pub(super) server: Running,
    state: AppState,
    tls: Option<TlsReloader>,
    /// Listened to from the start: a reload while the store is being opened must
    /// not kill.
    hangup: Signal,
}

impl Service {
    pub(super) fn bind(config: &Config) -> Result<Self, CliError> {
        let hangup = signal(SignalKind::hangup()).map_err(internal)?;
        let tls = match config.exposure()? {
            Exposure::Tls { certificate, key } => {
                let files = TlsFiles { certificate, key };
                Some(TlsReloader::load(files).map_err(CliError::usage)?)
            }
            Exposure::Loopback | Exposure::TerminatedElsewhere => None,
        };
        let state = AppState::starting();
        let options = server_options(config, tls.clone());
        let server = Server::start(options, state.clone()).map_err(|error| {
            CliError::unavailable(format!(
                "cannot listen on {}: {error}; another server may hold it, --listen names another",
                config.listen
            ))
        })?;
        Ok(Self { server, state, tls, hangup })
    }

    /// Stops a server whose store did not open.
    pub(super) async fn abandon(self) {
        // Why the store did not open is what will be reported.
        let _ = self.server.stop(Stop::Now).await;
    }

    /// Where it is reached.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.address())
    }

    /// Begins to serve secrets, and the admin socket.
    pub(super) async fn admit(
        &self,
        folder: &DataFolder,
        vault: &Arc<Vault>,
    ) -> Result<AdminServer, CliError> {
        let admin = AdminServer::start(folder.path(), vault.clone()).map_err(internal)?;
        self.admit_requests(vault);
        Ok(admin)
    }

    pub(super) fn admit_requests(&self, vault: &Arc<Vault>) {
        self.state.set_ready(vault.clone());
    }

    /// Runs the background work until a signal stops it, then finishes what is
    /// under way: requests first, then the store.
    pub(super) async fn until_stopped(
        mut self,
        stop: StopSignals,
        config: &Config,
        vault: Arc<Vault>,
        admin: Option<AdminServer>,
    ) -> Result<(), CliError> {
        let housekeeping = tokio::spawn(keep_house(vault.clone()));
        let sweep = (config.sweep.every.as_duration(), config.sweep.retain.as_duration());
        let sweeping = tokio::spawn(keep_swept(vault.clone(), sweep.0, sweep.1));
        let backups = Schedule::start(&config.backup, &vault)?;
        let keys = tokio::spawn(keep_keys(vault.clone()));
        let compacting = tokio::spawn(keep_compact(vault.clone()));
        let issuers = IssuerWatch::start(issuers::sources(config), &vault, &self.state);
        self.wait_for(stop).await;
        housekeeping.abort();
        sweeping.abort();
        keys.abort();
        compacting.abort();
        drop(issuers);
        if let Some(backups) = backups {
            backups.stop().await;
        }
        log::info!("stopping: finishing requests under way");
        let served = self.server.stop(Stop::Graceful).await;
        let administered = match admin {
            Some(admin) => admin.stop().await,
            None => Ok(()),
        };
        vault.close().await;
        log::info!("stopped");
        served.and(administered).map_err(internal)
    }

    async fn wait_for(&mut self, mut stop: StopSignals) {
        loop {
            tokio::select! {
                _ = stop.terminate.recv() => return,
                _ = stop.interrupt.recv() => return,
                _ = self.hangup.recv() => self.reload(),
            }
        }
    }

    fn reload(&self) {
        let Some(tls) = &self.tls else { return };
        match tls.reload() {
            Ok(()) => log::info!("read the TLS certificate again"),
            Err(error) => log::error!("the TLS certificate stays the old one: {error}"),
        }
    }
}

async fn keep_house(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(HOUSE_EVERY);
    loop {
        every.tick().await;
        if let Err(error) = vault.keep_house().await {
            log::warn!("the latest undisputed time was not stored: {error}");
        }
    }
}

async fn keep_keys(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(KEYS_EVERY);
    loop {
        every.tick().await;
        vault.tend_keys().await;
    }
}

async fn keep_compact(vault: Arc<Vault>) {
    let mut every = tokio::time::interval(COMPACT_EVERY);
    loop {
        every.tick().await;
        vault.renew_worn().await;
    }
}

async fn keep_swept(vault: Arc<Vault>, every: Duration, retain: Duration) {
    if every.is_zero() {
        return;
    }
    let mut every = tokio::time::interval(every);
    loop {
        every.tick().await;
        vault.sweep_expired(retain).await;
    }
}

fn server_options(config: &Config, tls: Option<TlsReloader>) -> ServerOptions {
    let http = &config.http;
    let mut options = ServerOptions::new(config.listen);
    options.tls = tls;
    options.trusted_proxies = http.trusted_proxies.clone();
    options.header_timeout = http.header_timeout.as_duration();
    options.body_timeout = http.body_timeout.as_duration();
    options.keep_alive = http.keep_alive.as_duration();
    options.shutdown_timeout = http.shutdown_timeout.as_duration();
    // Zero workers are one per core, which is what the options begin with.
    if let Some(workers) = NonZeroUsize::new(http.workers) {
        options.workers = workers;
    }
    if let Some(connections) = NonZeroUsize::new(http.max_connections) {
        options.max_connections = connections.min(process::affordable_connections());
    }
    if options.max_connections.get() < http.max_connections {
        log::warn!(
            "http.max_connections is {} and the limit of open files allows {}; raise it \
             (LimitNOFILE= in a unit, or ulimit -n)",
            http.max_connections,
            options.max_connections
        );
    }
    options
}

pub(super) fn level(level: LogLevel) -> log::LevelFilter {
    match level {
        LogLevel::Off => log::LevelFilter::Off,
        LogLevel::Error => log::LevelFilter::Error,
        LogLevel::Warn => log::LevelFilter::Warn,
        LogLevel::Info => log::LevelFilter::Info,
        LogLevel::Debug => log::LevelFilter::Debug,
        LogLevel::Trace => log::LevelFilter::Trace,
    }
}
