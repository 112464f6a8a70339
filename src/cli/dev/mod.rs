//! `tenure dev`: a store on this machine, in one command.
//!
//! It makes whatever is missing and keeps it: started again, it finds
//! yesterday's secrets. Its KEK lies beside the data, which protects nothing
//! from who has the folder; every other command that serves refuses that.

mod given;
mod home;
mod ignored;
mod manage;
mod welcome;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::access;
use super::args::{DevArgs, DevCommand, DevRunArgs};
use super::clock::SystemClock;
use super::data::{DataFolder, write_private};
use super::failure::{CliError, Exit};
use super::keeper::Held;
use super::maintain::Output;
use super::secret::ENV_FILE;
use super::serve::{self, Orders, Service, StopSignals};
use super::{internal, kek, logging, memory};
use crate::api::admin::{Command, FailureKind, Reply};
use crate::api::audit::AuditOp;
use crate::auth::Caller;
use crate::config::{self, Config};
use crate::crypto::{Kek, KekWay};
use crate::domain::Scope;
use crate::http::AdminClient;
use crate::store::MemoryStore;
use crate::vault::Vault;
use crate::vault::maintenance::{self, Exchange};

use given::{Given, Shelf};
use home::Home;
use welcome::Welcome;

/// The token is minted anew at each start.
const TOKEN_DAYS: u64 = 30;
/// Of stores beside one another, unless --listen says otherwise.
const PORTS: std::ops::RangeInclusive<u16> = 7300..=7310;

pub(super) async fn run(args: DevArgs, output: Output) -> Result<(), CliError> {
    logging::of_a_command();
    match args.command {
        None => serve(args.run, output).await,
        Some(DevCommand::Status { data }) => manage::status(data, output),
        Some(DevCommand::Stop { data }) => manage::stop(data, output),
        Some(DevCommand::Reset(args)) => manage::reset(args, output),
    }
}

async fn serve(args: DevRunArgs, output: Output) -> Result<(), CliError> {
    let home = Home::find(args.data.clone())?;
    if !args.ephemeral {
        refuse_a_second(&home)?;
    }
    let given = Given::read(&args)?;
    let (config, service) = bind(&home, &args)?;
    match prepare(&home, &config, &args, given).await {
        Ok(prepared) => until_stopped(service, config, &home, prepared, output).await,
        Err(error) => {
            service.abandon().await;
            Err(error)
        }
    }
}

/// A store with its tenant, its token and what was to be in it.
struct Prepared {
    /// `None`: it is in memory.
    folder: Option<DataFolder>,
    vault: Arc<Vault>,
    token: Zeroizing<String>,
    holds: welcome::Holds,
}

async fn prepare(
    home: &Home,
    config: &Config,
    args: &DevRunArgs,
    given: Given,
) -> Result<Prepared, CliError> {
    let (folder, vault) =
        if args.ephemeral { in_memory(config).await? } else { on_disk(config).await? };
    vault.enter_service(&Caller::server(), AuditOp::Start).await;
    let stocked = async {
        let token = mint(&vault, home).await?;
        let shelf = Shelf::open(&vault, &token, home)?;
        given.store(&shelf).await?;
        Ok((token, shelf.holds().await))
    };
    match stocked.await {
        Ok((token, holds)) => Ok(Prepared { folder, vault, token, holds }),
        Err(error) => {
            vault.close().await;
            Err(error)
        }
    }
}

async fn until_stopped(
    service: Service,
    config: Config,
    home: &Home,
    Prepared { folder, vault, token, holds }: Prepared,
    output: Output,
) -> Result<(), CliError> {
    let stop = StopSignals::listen()?;
    let admitted = service.admit(folder.as_ref(), Arc::new(config), Held::Open(vault), None)?;
    let welcome = Welcome::of(service.url(), token, home, folder.as_ref(), holds);
    if let Some(folder) = &folder {
        ignored::by_git(folder.path());
        write_private(&folder.path().join(ENV_FILE), welcome.environment().as_bytes())?;
    }
    output.show(&welcome, || welcome.text())?;
    // The token is theirs now.
    drop(welcome);
    service.until_stopped(stop, admitted, None).await.map(drop)
}

fn refuse_a_second(home: &Home) -> Result<(), CliError> {
    if AdminClient::connect(&home.data)?.is_none() {
        return Ok(());
    }
    let at = home.address().map_or(String::new(), |address| format!(", at {address}"));
    Err(CliError {
        exit: Exit::Conflict,
        message: format!(
            "'tenure dev' runs on {} already{at}; 'tenure dev stop' stops it",
            home.data.display()
        ),
    })
}

/// Where to: another project's store may have the first port, or take it just now.
fn bind(home: &Home, args: &DevRunArgs) -> Result<(Config, Service), CliError> {
    let at = |address: SocketAddr| {
        let config = configure(home, address)?;
        let listener = serve::listen_on(&config)?;
        // For people who try it out, what comes of it is not worth a line.
        memory::lock(config.memory.lock)?;
        let service = Service::bind(&config, listener, Orders::listen()?)?;
        Ok((config, service))
    };
    match args.listen {
        Some(said) if said.ip().is_loopback() => return at(said),
        Some(said) => {
            return Err(CliError::usage(format!(
                "'tenure dev' listens on loopback only, and {said} is not; use 'tenure serve' with \
                 TLS"
            )));
        }
        None => {}
    }
    let mut local = PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free = local.find_map(|address| at(address).ok());
    free.ok_or_else(|| {
        CliError::unavailable(format!(
            "none of the ports {} to {} can be had; --listen 127.0.0.1:0 takes any that is free",
            PORTS.start(),
            PORTS.end()
        ))
    })
}

fn configure(home: &Home, listen: SocketAddr) -> Result<Config, CliError> {
    let kek = home.data.join(access::DEV_KEK);
    let flags = [
        ("listen", listen.to_string()),
        ("data", home.data.display().to_string()),
        ("kek.source", "file".to_owned()),
        ("kek.file", kek.display().to_string()),
    ];
    Ok(Config::load(None, config::environment(), &flags)?)
}

async fn on_disk(config: &Config) -> Result<(Option<DataFolder>, Arc<Vault>), CliError> {
    let folder = DataFolder::create(&config.data)?;
    let store = folder.open(config).await?;
    if let Err(error) = serve::make(config, &store).await {
        store.close().await;
        return Err(error);
    }
    let vault = access::open_vault(&folder, config, kek::fetch(config)?, store).await?;
    Ok((Some(folder), vault))
}

async fn in_memory(config: &Config) -> Result<(Option<DataFolder>, Arc<Vault>), CliError> {
    let (store, kek) = (Arc::new(MemoryStore::new()), Kek::generate());
    Vault::init(store.clone(), &kek, KekWay::File, &SystemClock).await.map_err(internal)?;
    let options = access::options(config, "memory".to_owned());
    let vault = Vault::open(store, &kek, Arc::new(SystemClock), options);
    Ok((None, vault.await.map_err(internal)?))
}

/// Makes the tenant where it is missing, and a token for all of it.
async fn mint(vault: &Arc<Vault>, home: &Home) -> Result<Zeroizing<String>, CliError> {
    let tenant = home.tenant.to_string();
    let create = Command::TenantCreate { name: tenant.clone() };
    match maintenance::execute(vault, create, Exchange::none()).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Conflict => {}
        Err(failure) => return Err(failure.into()),
    }
    let mint = Command::TokenMint {
        tenant,
        scopes: vec![Scope::All.to_string()],
        ttl_seconds: TOKEN_DAYS * 24 * 60 * 60,
        subject: "dev".to_owned(),
    };
    match maintenance::execute(vault, mint, Exchange::none()).await? {
        Reply::Token { token, .. } => Ok(Zeroizing::new(token)),
        _ => Err(internal("the mint answered with something else")),
    }
}
