//! `tenure init` and `tenure serve`.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use super::access::{self, DevStore};
use super::args::{InitArgs, ServeArgs, StoreArgs};
use super::clock::SystemClock;
use super::data::DataFolder;
use super::failure::CliError;
use super::keeper::{Held, Keeper};
use super::kek::NewKek;
use super::maintain::Output;
use super::manager::Manager;
use super::memory::Locking;
use super::reload::Reread;
use super::signals::wait_for;
use super::upgrade::Successor;
use super::{internal, kek, logging, memory, notices, privileges, process, shares};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::config::{Config, Exposure, KekSource};
use crate::crypto::Gathering;
use crate::http::{
    AdminServer, AppState, Desk, Live, MetricsRoute, MetricsServer, RequestLog, Running, Server,
    ServerOptions, Stop, TlsFiles, TlsReloader, Turn, Webhook,
};
use crate::store::Store;
use crate::vault::{OpenError, Vault};

/// How often shares that were given are held against the time.
const SHARES_LOOKED_AT: Duration = Duration::from_secs(1);
/// How long who waits on a socket that was handed over is left waiting for the store.
const CLIENTS_WAIT: Duration = Duration::from_secs(10);

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

/// Serves a store until it is told to stop, or to become another program.
pub(super) async fn run(
    args: ServeArgs,
    mut manager: Manager,
    output: Output,
) -> Result<(), CliError> {
    let mut config = configured(&args)?;
    logging::of_a_server(&config.log);
    config.require_kek_apart_from_data()?;
    let successor = Successor::of_this_process();
    let locking = memory::lock(config.memory.lock)?;
    let orders = Orders::listen()?;
    let handed = manager.listener()?;
    let patience = handed.as_ref().map(|_| CLIENTS_WAIT);
    let listener = listener(&mut config, handed)?;
    privileges::give_up();
    let inherited = Mutex::new(Some(listener.try_clone().map_err(internal)?));
    let begin = || Service::bind(&config, listener, orders);
    let opening = begin_while_opening(patience, begin, &config);
    let (service, folder, held) = manager.patiently("opening the store", opening).await?;
    let stop = StopSignals::listen()?;
    let sealed = matches!(held, Held::Sealed(_));
    let admitted = service.admit(Some(&folder), Arc::new(config), held, Some(locking))?;
    let serving = Serving { address: service.url(), data: folder.path().display().to_string() };
    log::info!("serving {} on {}", serving.data, serving.address);
    if sealed {
        log::warn!("it is sealed: every call is answered with 503 until 'tenure unseal'");
    }
    // For people the log says it.
    output.show(&serving, String::new)?;
    let helm = Helm { args, manager, successor, inherited };
    helm.ready(&admitted.keeper, &service);
    let ended = service.until_stopped(stop, admitted, Some(&helm)).await?;
    match (ended, helm.take_inherited()) {
        (Ended::Succeeded, Some(socket)) => Err(helm.successor.become_it(socket, &helm.manager)),
        (Ended::Succeeded, None) => Err(internal("the listening socket is gone")),
        (Ended::Stopped, _) => Ok(()),
    }
}

/// `/healthz` answers while the store is opened. On a socket that was handed over,
/// clients of the server before wait there: for them the opening may take some
/// patience, before they are told that it goes on.
async fn begin_while_opening(
    patience: Option<Duration>,
    begin: impl FnOnce() -> Result<Service, CliError>,
    config: &Config,
) -> Result<(Service, DataFolder, Held), CliError> {
    let opening = async {
        let folder = access::enter(config)?;
        let held = open(&folder, config).await?;
        Ok((folder, held))
    };
    tokio::pin!(opening);
    if let Some(patience) = patience
        && let Ok(opened) = tokio::time::timeout(patience, &mut opening).await
    {
        let (folder, held) = opened?;
        return match begin() {
            Ok(service) => Ok((service, folder, held)),
            Err(error) => {
                held.close().await;
                Err(error)
            }
        };
    }
    let service = begin()?;
    match opening.await {
        Ok((folder, held)) => Ok((service, folder, held)),
        Err(error) => {
            service.abandon().await;
            Err(error)
        }
    }
}

fn configured(args: &ServeArgs) -> Result<Config, CliError> {
    let listen = args.listen.map(|address| ("listen", address.to_string()));
    access::configure(&args.store, DevStore::Refused, listen.into_iter().collect())
}

/// The socket that was handed over, whose address counts then; or one of ours.
fn listener(config: &mut Config, handed: Option<TcpListener>) -> Result<TcpListener, CliError> {
    let Some(handed) = handed else { return listen_on(config) };
    config.listen = handed.local_addr().map_err(internal)?;
    Ok(handed)
}

pub(super) fn listen_on(config: &Config) -> Result<TcpListener, CliError> {
    // Whether it may be listened on, before it is.
    config.exposure()?;
    crate::http::listen(config.listen).map_err(|error| {
        CliError::unavailable(format!(
            "cannot listen on {}: {error}; another server may hold it, --listen names another",
            config.listen
        ))
    })
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
    vault.enter_service(&Caller::server(), AuditOp::Start).await;
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

/// What a service is told to do beside. Heard from the start: neither a reload nor an
/// upgrade while the store is being opened must kill.
pub(super) struct Orders {
    reload: Signal,
    succeed: Signal,
}

impl Orders {
    pub(super) fn listen() -> Result<Self, CliError> {
        let reload = wait_for(SignalKind::hangup()).map_err(internal)?;
        let succeed = wait_for(SignalKind::user_defined2()).map_err(internal)?;
        Ok(Self { reload, succeed })
    }
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
        let terminate = wait_for(SignalKind::terminate()).map_err(internal)?;
        let interrupt = wait_for(SignalKind::interrupt()).map_err(internal)?;
        Ok(Self { terminate, interrupt })
    }
}

/// How a service came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    /// It makes way for the next program.
    Succeeded,
}

/// What serves beside HTTP.
pub(super) struct Admitted {
    keeper: Keeper,
    admin: Option<AdminServer>,
    turns: mpsc::Receiver<Turn>,
}

/// A bound server, answering before the store is open.
pub(super) struct Service {
    pub(super) server: Running,
    state: AppState,
    tls: Option<TlsReloader>,
    metrics: Option<MetricsServer>,
    orders: Orders,
}

impl Service {
    pub(super) fn bind(
        config: &Config,
        listener: TcpListener,
        orders: Orders,
    ) -> Result<Self, CliError> {
        let tls = tls_files(config)?.map(TlsReloader::load).transpose().map_err(CliError::usage)?;
        let state = AppState::starting();
        let options = server_options(config, tls.clone());
        let server = Server::start_on(listener, options, state.clone()).map_err(internal)?;
        let metrics = listen_for_metrics(config, &state)?;
        Ok(Self { server, state, tls, metrics, orders })
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
    pub(super) fn admit(
        &self,
        folder: Option<&DataFolder>,
        config: Arc<Config>,
        held: Held,
        locking: Option<Locking>,
    ) -> Result<Admitted, CliError> {
        // One at a time is carried out.
        let (sender, turns) = mpsc::channel(1);
        let desk = Desk { state: self.state.clone(), turns: sender };
        let admin = folder.map(|folder| AdminServer::start(folder.path(), desk));
        let admin = admin.transpose().map_err(internal)?;
        let keeper = Keeper::begin(config, &self.state, locking, held)?;
        Ok(Admitted { keeper, admin, turns })
    }

    /// Serves until a signal ends it, then finishes what is under way: requests
    /// first, then the store. Without a `helm` it is stopped and nothing else.
    pub(super) async fn until_stopped(
        mut self,
        stop: StopSignals,
        admitted: Admitted,
        helm: Option<&Helm>,
    ) -> Result<Ended, CliError> {
        let Admitted { keeper, admin, turns } = admitted;
        let vitals = self.server.vitals();
        let finish = async move {
            let (keeper, ended) = self.keep(keeper, turns, stop, helm).await?;
            if let Some(helm) = helm {
                helm.leaving(ended);
            }
            let held = keeper.rest().await;
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
            served.and(administered).map_err(internal).map(|()| ended)
        };
        let Some(helm) = helm else { return finish.await };
        tokio::select! {
            ended = finish => ended,
            never = helm.manager.keep_alive(&vitals) => match never {},
        }
    }

    /// A turn is taken to its end first: a signal to stop waits for it, as for any
    /// request.
    async fn keep(
        &mut self,
        mut keeper: Keeper,
        mut turns: mpsc::Receiver<Turn>,
        mut stop: StopSignals,
        helm: Option<&Helm>,
    ) -> Result<(Keeper, Ended), CliError> {
        let mut every = tokio::time::interval(SHARES_LOOKED_AT);
        loop {
            tokio::select! {
                _ = stop.terminate.recv() => return Ok((keeper, Ended::Stopped)),
                _ = stop.interrupt.recv() => return Ok((keeper, Ended::Stopped)),
                _ = self.orders.reload.recv() => if let Some(helm) = helm {
                    keeper = helm.reload(keeper, self).await?;
                },
                _ = self.orders.succeed.recv() => if let Some(helm) = helm
                    && helm.may_succeed(&keeper).await
                {
                    return Ok((keeper, Ended::Succeeded));
                },
                Some(turn) = turns.recv() => {
                    keeper = keeper.turn(turn).await;
                    if let Some(helm) = helm {
                        helm.ready(&keeper, self);
                    }
                }
                _ = every.tick() => keeper.forget_stale_shares(),
            }
        }
    }

    /// What of `config` can be changed while it serves. What fails changes nothing.
    fn adjust(&self, config: &Config) -> Result<(), CliError> {
        if let (Some(tls), Some(files)) = (&self.tls, tls_files(config)?) {
            tls.replace(&files).map_err(CliError::usage)?;
            log::info!("read the TLS certificate again");
        }
        self.server.adjust(Live {
            body_timeout: config.http.body_timeout.as_duration(),
            trusted_proxies: config.http.trusted_proxies.clone(),
        });
        logging::set_level(config.log.level);
        Ok(())
    }
}

fn tls_files(config: &Config) -> Result<Option<TlsFiles>, CliError> {
    Ok(match config.exposure()? {
        Exposure::Tls { certificate, key } => Some(TlsFiles { certificate, key }),
        Exposure::Loopback | Exposure::TerminatedElsewhere => None,
    })
}

/// What steers a server while it serves: who started it, and by what.
pub(super) struct Helm {
    args: ServeArgs,
    manager: Manager,
    successor: Successor,
    /// Keeps the listening socket open for a successor, until it is known that there is none.
    inherited: Mutex<Option<TcpListener>>,
}

impl Helm {
    fn ready(&self, keeper: &Keeper, service: &Service) {
        self.manager.ready(&status(keeper, service));
    }

    fn leaving(&self, ended: Ended) {
        match ended {
            Ended::Stopped => {
                // Who connects from now on learns at once that nobody is there, unless who
                // started this holds the socket too.
                drop(self.take_inherited());
                self.manager.stopping();
            }
            Ended::Succeeded => self.manager.reloading("changing over to the new program"),
        }
    }

    fn take_inherited(&self) -> Option<TcpListener> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads the configuration again, and the certificates.
    async fn reload(&self, keeper: Keeper, service: &Service) -> Result<Keeper, CliError> {
        self.manager.reloading("reading the configuration again");
        let (reread, webhook) = match self.reread(keeper.config(), service) {
            Ok(reread) => reread,
            Err(CliError { message, .. }) => {
                log::error!("nothing was changed: {message}");
                let status = status(&keeper, service);
                self.manager.ready(&format!("{status}; nothing was changed: {message}"));
                return Ok(keeper);
            }
        };
        let told = reread.told();
        let keeper = keeper.adopt(Arc::new(reread.config), webhook).await?;
        log::info!("read the configuration again: {told}");
        self.manager.ready(&format!("{}; {told}", status(&keeper, service)));
        Ok(keeper)
    }

    fn reread(
        &self,
        present: &Config,
        service: &Service,
    ) -> Result<(Reread, Option<Webhook>), CliError> {
        let fresh = configured(&self.args)?;
        fresh.require_kek_apart_from_data()?;
        fresh.exposure()?;
        let reread = Reread::of(present, &fresh);
        // Read before anything is changed, and whether or not the configuration names others:
        // what the files hold may have been replaced, as certificates are.
        let webhook = notices::webhook(&reread.config)?;
        service.adjust(&reread.config)?;
        Ok((reread, webhook))
    }

    async fn may_succeed(&self, keeper: &Keeper) -> bool {
        log::info!("an upgrade was asked for: trying the new program");
        let probed = self.successor.probe(&self.args.store, keeper.config().kek.source).await;
        if let Err(reason) = &probed {
            log::error!("no upgrade: {reason}; the program stays as it is");
        }
        probed.is_ok()
    }
}

fn status(keeper: &Keeper, service: &Service) -> String {
    let url = service.url();
    if keeper.is_sealed() {
        format!("sealed, on {url}: every call is 503 until 'tenure unseal'")
    } else {
        format!("serving on {url}")
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
    if !config.metrics.on_main {
        options.metrics = MetricsRoute::Absent;
    }
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
