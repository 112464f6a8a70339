//! `tenure dev`: a store on this machine, in one command.
//!
//! It makes whatever is missing and keeps it: started again, it finds
//! yesterday's secrets. Its KEK lies beside the data, which protects nothing
//! from who has the folder; every other command that serves refuses that.

use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::access;
use super::args::DevArgs;
use super::clock::SystemClock;
use super::data::{DataFolder, write_private};
use super::failure::CliError;
use super::keeper::Held;
use super::maintain::Output;
use super::secret::ENV_FILE;
use super::serve::{self, Service, StopSignals};
use super::{internal, kek, memory, process};
use crate::api::admin::{Command, FailureKind, Reply};
use crate::config::{self, Config};
use crate::crypto::{Kek, KekWay};
use crate::domain::Scope;
use crate::store::MemoryStore;
use crate::vault::Vault;
use crate::vault::maintenance::{self, Exchange};

const TENANT: &str = "dev";
/// The token is minted anew at each start.
const TOKEN_DAYS: u64 = 30;

pub(super) async fn run(args: DevArgs, output: Output) -> Result<(), CliError> {
    process::log_to_stderr(log::LevelFilter::Warn);
    let config = configure(&args)?;
    if !config.listen.ip().is_loopback() {
        return Err(CliError::usage(format!(
            "'tenure dev' listens on loopback only, and {} is not; use 'tenure serve' with TLS",
            config.listen
        )));
    }
    // For people who try it out, what comes of it is not worth a line.
    memory::lock(config.memory.lock)?;
    let service = Service::bind(&config)?;
    let opened = if args.ephemeral { in_memory(&config).await } else { on_disk(&config).await };
    let (folder, vault) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            service.abandon().await;
            return Err(error);
        }
    };
    let token = mint(&vault).await?;
    let stop = StopSignals::listen()?;
    let admitted = service.admit(folder.as_ref(), &config, Held::Open(vault), None)?;
    let data = folder.as_ref().map(|folder| folder.path().display().to_string());
    let welcome = Welcome { address: service.url(), tenant: TENANT, token, data };
    if let Some(folder) = &folder {
        write_private(&folder.path().join(ENV_FILE), welcome.environment().as_bytes())?;
    }
    output.show(&welcome, || welcome.text())?;
    // The token is theirs now.
    drop(welcome);
    service.until_stopped(stop, admitted).await
}

fn configure(args: &DevArgs) -> Result<Config, CliError> {
    let kek = args.data.join(access::DEV_KEK);
    let flags = [
        ("listen", args.listen.to_string()),
        ("data", args.data.display().to_string()),
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
async fn mint(vault: &Arc<Vault>) -> Result<Zeroizing<String>, CliError> {
    let create = Command::TenantCreate { name: TENANT.to_owned() };
    match maintenance::execute(vault, create, Exchange::none()).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Conflict => {}
        Err(failure) => return Err(failure.into()),
    }
    let mint = Command::TokenMint {
        tenant: TENANT.to_owned(),
        scopes: vec![Scope::All.to_string()],
        ttl_seconds: TOKEN_DAYS * 24 * 60 * 60,
        subject: TENANT.to_owned(),
    };
    match maintenance::execute(vault, mint, Exchange::none()).await? {
        Reply::Token { token, .. } => Ok(Zeroizing::new(token)),
        _ => Err(internal("the mint answered with something else")),
    }
}

/// What a developer needs to go on.
#[derive(Serialize)]
struct Welcome {
    address: String,
    tenant: &'static str,
    #[serde(serialize_with = "shown")]
    token: Zeroizing<String>,
    /// `None` where it is kept in memory.
    data: Option<String>,
}

/// The one place where a token is printed besides the mint.
fn shown<S: Serializer>(token: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token)
}

impl Welcome {
    fn environment(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "export TENURE_ADDR={}\nexport TENURE_TENANT={TENANT}\nexport TENURE_TOKEN={}\n",
            self.address,
            self.token.as_str()
        ))
    }

    fn text(&self) -> String {
        let Self { address: url, tenant: _, token, data } = self;
        let token = token.as_str();
        let (kept, load) = match data {
            Some(folder) => {
                let file = Path::new(folder).join(ENV_FILE);
                let file = std::path::absolute(&file).unwrap_or(file);
                (folder.clone(), format!(". {}", shell_quoted(&file)))
            }
            None => {
                let variables = self.environment().replace("export ", "").replace('\n', " ");
                ("memory, until it stops".to_owned(), format!("export {}", variables.trim()))
            }
        };
        let secrets = "\"$TENURE_ADDR/api/$TENURE_TENANT/secrets";
        let bearer = "-H \"Authorization: Bearer $TENURE_TOKEN\"";
        format!(
            "tenure dev is ready\n\n  \
             address  {url}\n  tenant   {TENANT}\n  data     {kept}\n  docs     {url}/api/docs\n  \
             token    {token}\n\n\
             Store a secret, read it, list the names (paste into another shell):\n\n  \
             {load} && curl -sS -X PUT {secrets}/greeting\" {bearer} -H 'Content-Type: \
             application/json' -d '{{\"value\":\"hello\"}}'\n  \
             {load} && curl -sS {secrets}/greeting\" {bearer}\n  \
             {load} && curl -sS {secrets}\" {bearer}\n\n\
             Ctrl-C stops it.\n"
        )
    }
}

/// As one word of a POSIX shell.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
