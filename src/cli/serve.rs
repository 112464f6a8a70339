//! `tenure init` and `tenure serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::access::{self, DevStore};
use super::args::{InitArgs, ServeArgs, StoreArgs};
use super::clock::SystemClock;
use super::data::DataFolder;
use super::failure::CliError;
use super::keeper::{Held, Keeper};
use super::kek::NewKek;
use super::maintain::Output;
use super::memory::Locking;
use super::{internal, kek, logging, memory, process, shares};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::config::{Config, Exposure, KekSource};
use crate::crypto::Gathering;
use crate::http::{
    AdminServer, AppState, Desk, MetricsServer, RequestLog, Running, Server, ServerOptions, Stop,
    TlsFiles, TlsReloader, Turn,
};
use crate::store::Store;
use crate::vault::{OpenError, Vault};

/// How often shares that were given are held against the time.
const SHARES_LOOKED_AT: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    data: String,
    /// Where the KEK was made; `None` where it was there.
    kek_created: Option<String>,
}

/// Makes a store.
pub(super) async fn init(args: &InitArgs, output: Output) -> Result<(), CliError> {
    let config = access::configure(&args.store, DevStore::Refused, Vec::new())?;
    logging::of_a_command();
    config.require_kek_apart_from_data()?;
    let split = shares::wanted(args, &config)?;
    let folder = DataFolder::create(&config.data)?;
    let store = folder.open(&config).await?;
    let made = match &split {
        Some(split) => split.make(&folder, &store, output).await,
        None => make(&config, &store).await,
    };
    store.close().await;
    let kek_created = match made? {
        Made::New { kek_created } => kek_created,
        // The shares were the answer.
        Made::Split if output.json => return Ok(()),
        Made::Split => None,
        Made::Before => return Err(access::refused(&OpenError::AlreadyInitialized, &folder)),
    };
    let first = if split.is_some() { Start::Sealed } else { Start::Ready };
    let answer = Initialized {
        data: folder.path().display().to_string(),
        kek_created: kek_created.map(|path| path.display().to_string()),
    };
    output
        .show(&answer, || initialized_text(&answer, first, &kek::protection(&config), &args.store))
}

/// Whether [`make`] had something to make.
pub(super) enum Made {
    New {
        kek_created: Option<PathBuf>,
    },
    /// Its KEK is in its shares alone.
    Split,
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

/// How a server starts.
#[derive(Clone, Copy)]
enum Start {
    Ready,
    Sealed,
}

fn initialized_text(
    answer: &Initialized,
    start: Start,
    protection: &str,
    args: &StoreArgs,
) -> String {
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
    let unseal = match start {
        Start::Ready => String::new(),
        Start::Sealed => format!("  tenure unseal{which}   # each who holds a share\n"),
    };
    text + &format!(
        "\n{protection}\n\nnext:\n  tenure serve{which}\n{unseal}  tenure tenant create acme{which}\n  tenure token mint \
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
    logging::of_a_server(&config.log);
    config.require_kek_apart_from_data()?;
    let locking = memory::lock(config.memory.lock)?;
    let service = Service::bind(&config)?;
    let folder = access::enter(&config)?;
    let held = match open(&folder, &config).await {
        Ok(held) => held,
        Err(error) => {
            service.abandon().await;
            return Err(error);
        }
    };
    let stop = StopSignals::listen()?;
    let sealed = matches!(held, Held::Sealed(_));
    let admitted = service.admit(Some(&folder), &config, held, Some(locking))?;
    let serving = Serving { address: service.url(), data: folder.path().display().to_string() };
    log::info!("serving {} on {}", serving.data, serving.address);
    if sealed {
        log::warn!("it is sealed: every call is answered with 503 until 'tenure unseal'");
    }
    // For people the log says it.
    output.show(&serving, String::new)?;
    service.until_stopped(stop, admitted).await
}

async fn open(folder: &DataFolder, config: &Config) -> Result<Held, CliError> {
    if config.kek.source == KekSource::Shamir {
        let store = folder.open(config).await?;
        access::or_close(&store, has_shares(folder, &*store).await).await?;
        return sealed(folder, config, store, None).await;
    }
    // Before the databases are opened: a missing KEK should not take that long.
    let sealed_for = async |store, error: CliError| {
        log::error!("it starts sealed: {}", error.message);
        sealed(folder, config, store, Some(error.message)).await
    };
    let kek = match kek::fetch(config) {
        Err(error) if config.kek.start_sealed => {
            return sealed_for(folder.open(config).await?, error).await;
        }
        fetched => fetched?,
    };
    let store = folder.open(config).await?;
    let opened = match access::proved(folder, kek, &store).await {
        Ok(kek) => access::open_under(folder, config, &kek, &store).await,
        Err(error) if config.kek.start_sealed => return sealed_for(store, error).await,
        Err(error) => Err(error),
    };
    let vault = access::or_close(&store, opened).await?;
    vault.note(&Caller::server(), AuditOp::Start).await;
    Ok(Held::Open(vault))
}

/// Where shares are to open a store, there must be some.
async fn has_shares(folder: &DataFolder, store: &dyn Store) -> Result<(), CliError> {
    let record = access::kek_record(folder, store).await?;
    if Gathering::of(&record).is_some() {
        return Ok(());
    }
    let source = record.origin.map_or("elsewhere", |origin| origin.way.word());
    Err(CliError::usage(format!(
        "kek.source is \"shamir\", and the KEK of the store in {} comes from {source}, not from \
         shares; set kek.source to where it is",
        folder.path().display()
    )))
}

async fn sealed(
    folder: &DataFolder,
    config: &Config,
    store: Arc<dyn Store>,
    reason: Option<String>,
) -> Result<Held, CliError> {
    let sealed = access::seal_vault(folder, config, store, reason).await?;
    Ok(Held::Sealed(Arc::new(sealed)))
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

/// What serves beside HTTP.
pub(super) struct Admitted<'c> {
    keeper: Keeper<'c>,
    admin: Option<AdminServer>,
    turns: mpsc::Receiver<Turn>,
}

/// A bound server, answering before the store is open.
pub(super) struct Service {
    pub(super) server: Running,
    state: AppState,
    tls: Option<TlsReloader>,
    metrics: Option<MetricsServer>,
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
        let metrics = listen_for_metrics(config, &state)?;
        Ok(Self { server, state, tls, metrics, hangup })
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

    /// Begins to serve secrets, and, over a `folder`, the admin socket.
    pub(super) fn admit<'c>(
        &self,
        folder: Option<&DataFolder>,
        config: &'c Config,
        held: Held,
        locking: Option<Locking>,
    ) -> Result<Admitted<'c>, CliError> {
        // One at a time is carried out.
        let (sender, turns) = mpsc::channel(1);
        let desk = Desk { state: self.state.clone(), turns: sender };
        let admin = folder.map(|folder| AdminServer::start(folder.path(), desk));
        let admin = admin.transpose().map_err(internal)?;
        let keeper = Keeper::begin(config, &self.state, locking, held)?;
        Ok(Admitted { keeper, admin, turns })
    }

    /// Serves until a signal stops it, then finishes what is under way: requests
    /// first, then the store.
    pub(super) async fn until_stopped(
        mut self,
        stop: StopSignals,
        admitted: Admitted<'_>,
    ) -> Result<(), CliError> {
        let Admitted { keeper, admin, turns } = admitted;
        let held = self.keep(keeper, turns, stop).await.rest().await;
        log::info!("stopping: finishing requests under way");
        let served = self.server.stop(Stop::Graceful).await;
        if let Some(metrics) = self.metrics {
            // What a scraper misses of a server that has stopped is nothing.
            let _ = metrics.stop().await;
        }
        let administered = match admin {
            Some(admin) => admin.stop().await,
            None => Ok(()),
        };
        held.close().await;
        log::info!("stopped");
        served.and(administered).map_err(internal)
    }

    /// A turn is taken to its end first: a signal to stop waits for it, as for any
    /// request.
    async fn keep<'c>(
        &mut self,
        mut keeper: Keeper<'c>,
        mut turns: mpsc::Receiver<Turn>,
        mut stop: StopSignals,
    ) -> Keeper<'c> {
        let mut every = tokio::time::interval(SHARES_LOOKED_AT);
        loop {
            tokio::select! {
                _ = stop.terminate.recv() => return keeper,
                _ = stop.interrupt.recv() => return keeper,
                _ = self.hangup.recv() => self.reload(),
                Some(turn) = turns.recv() => keeper = keeper.turn(turn).await,
                _ = every.tick() => keeper.forget_stale_shares(),
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

fn listen_for_metrics(
    config: &Config,
    state: &AppState,
) -> Result<Option<MetricsServer>, CliError> {
    let Some(listen) = config.metrics.listen else { return Ok(None) };
    let server = MetricsServer::start(listen, state.clone()).map_err(|error| {
        CliError::unavailable(format!(
            "cannot listen on {listen} for metrics: {error}; metrics.listen names another address"
        ))
    })?;
    log::info!("metrics are at http://{}/metrics", server.address());
    Ok(Some(server))
}

fn server_options(config: &Config, tls: Option<TlsReloader>) -> ServerOptions {
    let http = &config.http;
    let mut options = ServerOptions::new(config.listen);
    options.tls = tls;
    options.trusted_proxies = http.trusted_proxies.clone();
    options.request_log = if config.log.requests { RequestLog::Lines } else { RequestLog::Off };
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
