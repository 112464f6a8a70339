//! The server within this process, over real sockets, with a clock that the test
//! sets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tenure::api::admin::{Command, HiddenText, LimitChange, OtherLimits, Reply, Revocable, When};
use tenure::api::audit::{AuditFilter, AuditFrom};
use tenure::auth::Rates;
use tenure::auth::oidc::{IssuerPolicy, KeySet, OtherTenants};
use tenure::crypto::{Kek, KekWay};
use tenure::domain::{Clock, ClockReading, Scope, Timestamp};
use tenure::http::{AppState, Running, Server, ServerOptions};
use tenure::store::{MemoryStore, Store};
use tenure::vault::maintenance::{self, Exchange};
use tenure::vault::{Vault, VaultOptions};
use tokio::runtime::{Builder, Runtime};

use super::fake_issuer::{self, Signer};
use super::http::{Answer, Client, Request};

/// 2030-01-01T00:00:00Z.
const BEGINNING: i64 = 1_893_456_000;

/// Wall clock and time since boot move together, so that it is never disputed.
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn read(&self) -> ClockReading {
        let since = self.0.load(Ordering::SeqCst);
        ClockReading {
            wall: Timestamp::from_unix_seconds(BEGINNING + since),
            since_boot: Duration::from_secs(1_000 + since.unsigned_abs()),
        }
    }
}

pub struct Inside {
    clock: Arc<HandClock>,
    vault: Arc<Vault>,
    server: Running,
    /// Of the one issuer that is configured.
    signer: Signer,
    /// Last, so that what runs on it ends first.
    runtime: Runtime,
}

impl Inside {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(adapt: impl FnOnce(&mut ServerOptions)) -> Self {
        Self::start_over(Arc::new(MemoryStore::new()), adapt)
    }

    /// Where credentials are limited to these rates.
    pub fn start_limited(rates: Rates, adapt: impl FnOnce(&mut ServerOptions)) -> Self {
        let vault = VaultOptions { rates, ..VaultOptions::default() };
        Self::begin(Arc::new(MemoryStore::new()), vault, adapt)
    }

    /// Over a store that is empty.
    pub fn start_over(store: Arc<dyn Store>, adapt: impl FnOnce(&mut ServerOptions)) -> Self {
        Self::begin(store, VaultOptions::default(), adapt)
    }

    fn begin(
        store: Arc<dyn Store>,
        vault_options: VaultOptions,
        adapt: impl FnOnce(&mut ServerOptions),
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(HandClock(AtomicI64::new(0)));
        let signer = Signer::new("inside");
        let (vault, server) = runtime.block_on(async {
            let kek = Kek::generate();
            Vault::init(store.clone(), &kek, KekWay::File, &*clock).await.expect("a new store");
            let options = VaultOptions { issuers: vec![policy()], ..vault_options };
            let vault = Vault::open(store, &kek, clock.clone(), options);
            let vault = vault.await.expect("a store that was just made");
            install(&vault, &signer);
            let mut options = ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
            options.workers = NonZeroUsize::MIN;
            adapt(&mut options);
            let server = Server::start(options, AppState::ready(vault.clone()));
            (vault, server.expect("a free port"))
        });
        Self { clock, vault, server, signer, runtime }
    }

    /// Closes the store's files.
    pub fn stop(self) {
        self.runtime.block_on(self.vault.close());
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }

    /// RFC 3339, so many seconds from now.
    pub fn at(&self, seconds: i64) -> String {
        let wall = self.clock.read().wall.unix_seconds();
        Timestamp::from_unix_seconds(wall + seconds).to_string()
    }

    pub fn mint_for(&self, tenant: &str, scopes: &[&str], ttl_seconds: u64) -> String {
        let (tenant, subject) = (tenant.to_owned(), "test".to_owned());
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        match self.execute(Command::TokenMint { tenant, scopes, ttl_seconds, subject }) {
            Reply::Token { token, .. } => token,
            _ => panic!("the mint answers with a token"),
        }
    }

    /// How many are stored that have expired.
    pub fn expired_secrets(&self) -> u64 {
        let sweep = Command::Sweep { tenant: None, retain_seconds: 0, dry_run: true };
        match self.execute(sweep) {
            Reply::Swept { tenants, .. } => tenants.iter().map(|tenant| tenant.secrets).sum(),
            _ => panic!("a sweep answers with counts"),
        }
    }

    /// A key that expires so many seconds from now.
    pub fn api_key_for(&self, tenant: &str, scopes: &[&str], seconds: Option<u64>) -> ApiKey {
        let (tenant, expires) = (tenant.to_owned(), seconds.map(When::InSeconds));
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        match self.execute(Command::ApiKeyCreate { tenant, scopes, name: None, expires }) {
            Reply::ApiKeyCreated { key, api_key } => ApiKey { id: api_key.id, key },
            _ => panic!("a creation answers with the key"),
        }
    }

    pub fn limit_rate(&self, tenant: &str, requests_per_second: u64) {
        let change = LimitChange {
            secrets: None,
            bytes: None,
            requests_per_second: Some(requests_per_second),
            others: OtherLimits::Kept,
        };
        self.execute(Command::TenantLimit { name: tenant.to_owned(), change });
    }

    pub fn rotate_root(&self, honour_old: When) {
        self.execute(Command::TokenRotateRoot { honour_old });
    }

    pub fn revoke(&self, what: Revocable) {
        self.execute(Command::TokenRevoke { what, dry_run: false });
    }

    /// Stores what waits to be recorded, as a server does several times a second.
    pub fn record(&self) {
        self.runtime.block_on(self.vault.record_waiting());
    }

    /// The entries of a chain, as JSON.
    pub fn audit(&self, tenant: Option<&str>) -> Vec<serde_json::Value> {
        let (filter, from) = (AuditFilter::default(), AuditFrom::Entry(0));
        let tenant = tenant.map(str::to_owned);
        match self.execute(Command::AuditQuery { tenant, filter, from, limit: 1_000 }) {
            Reply::Audit { entries, .. } => {
                let json = |entry| serde_json::to_value(entry).expect("an entry has JSON");
                entries.iter().map(json).collect()
            }
            _ => panic!("a query answers with entries"),
        }
    }

    fn execute(&self, command: Command) -> Reply {
        let done =
            self.runtime.block_on(maintenance::execute(&self.vault, command, Exchange::none()));
        done.expect("the operator's command is carried out")
    }
}

/// An issuer that is trusted with every tenant.
fn policy() -> IssuerPolicy {
    IssuerPolicy {
        issuer: ISSUER.into(),
        audience: fake_issuer::AUDIENCE.into(),
        tenant_claim: "tenant".into(),
        tenants: BTreeMap::new(),
        other_tenants: OtherTenants::ByName,
        scopes: Scope::EVERY.map(|scope| (scope.as_str().into(), scope)).into(),
    }
}

/// As if its keys had just been fetched.
fn install(vault: &Vault, signer: &Signer) {
    let set = serde_json::json!({ "keys": [signer.jwk()] }).to_string();
    let keys = KeySet::parse(set.as_bytes()).expect("a set of keys");
    let issuer = vault.issuers().iter().next().expect("it is configured");
    issuer.install(keys, vault.now());
}

pub const ISSUER: &str = "https://issuer.test";

/// What a token of an issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// Good, with these scopes, separated by spaces.
    With(&'static str),
    Expired,
    NotYetValid,
    /// For another audience.
    ForOthers,
    /// By an issuer that is not configured.
    ByOthers,
    /// Signed by a key of the right name that is not the issuer's.
    Forged,
}

/// An API key as its holder has it, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: String,
    pub key: String,
}

/// A server and its operator, wherever it runs.
pub trait Operated {
    /// A token of the issuer that is configured, where there is one.
    fn issue(&self, _tenant: &str, _said: Issued) -> Option<String> {
        None
    }

    fn address(&self) -> SocketAddr;
    /// Answers the tenant's id, hexadecimal.
    fn create_tenant(&self, name: &str) -> String;
    fn delete_tenant(&self, name: &str);
    fn mint(&self, tenant: &str, scopes: &[&str]) -> String;
    fn mint_server_admin(&self) -> String;
    fn api_key(&self, tenant: &str, scopes: &[&str]) -> ApiKey;
    fn revoke_api_key(&self, id: &str);
    fn revoke_token(&self, token: &str);

    fn send(&self, request: &Request) -> Answer {
        Client::new(self.address()).send(request)
    }
}

impl Operated for Inside {
    fn issue(&self, tenant: &str, said: Issued) -> Option<String> {
        let now = self.clock.read().wall.unix_seconds();
        let scope = if let Issued::With(scopes) = said { scopes } else { "*" };
        let issuer = if said == Issued::ByOthers { "https://others.test" } else { ISSUER };
        let mut claims = fake_issuer::claims(issuer, tenant, scope, now);
        match said {
            Issued::Expired => claims["exp"] = now.into(),
            Issued::NotYetValid => claims["nbf"] = (now + 60).into(),
            Issued::ForOthers => claims["aud"] = "https://others.test".into(),
            Issued::Forged => return Some(Signer::new(&self.signer.key_id).token(&claims)),
            Issued::With(_) | Issued::ByOthers => {}
        }
        Some(self.signer.token(&claims))
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn create_tenant(&self, name: &str) -> String {
        match self.execute(Command::TenantCreate { name: name.to_owned() }) {
            Reply::TenantCreated { id, .. } => id,
            _ => panic!("a creation answers with the tenant"),
        }
    }

    fn delete_tenant(&self, name: &str) {
        self.execute(Command::TenantDelete { name: name.to_owned() });
    }

    fn mint(&self, tenant: &str, scopes: &[&str]) -> String {
        self.mint_for(tenant, scopes, 3_600)
    }

    fn mint_server_admin(&self) -> String {
        let (ttl_seconds, subject) = (3_600, "test".to_owned());
        match self.execute(Command::TokenMintServer { ttl_seconds, subject }) {
            Reply::Token { token, .. } => token,
            _ => panic!("the mint answers with a token"),
        }
    }

    fn api_key(&self, tenant: &str, scopes: &[&str]) -> ApiKey {
        self.api_key_for(tenant, scopes, None)
    }

    fn revoke_api_key(&self, id: &str) {
        self.execute(Command::ApiKeyRevoke { id: id.to_owned(), dry_run: false });
    }

    fn revoke_token(&self, token: &str) {
        self.revoke(Revocable::Token { token: HiddenText::new(token) });
    }
}

impl Operated for super::Dev {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn create_tenant(&self, name: &str) -> String {
        let output = self.run(&["--json", "tenant", "create", name]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        reply["id"].as_str().expect("a tenant has an id").to_owned()
    }

    fn delete_tenant(&self, name: &str) {
        let output = self.run(&["tenant", "delete", name, "--yes"]);
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    fn mint(&self, tenant: &str, scopes: &[&str]) -> String {
        Self::mint(self, tenant, scopes)
    }

    fn mint_server_admin(&self) -> String {
        let output = self.run(&["token", "mint", "--server-admin"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.trim().to_owned()
    }

    fn api_key(&self, tenant: &str, scopes: &[&str]) -> ApiKey {
        let mut args = vec!["--json", "api-key", "create", "--tenant", tenant];
        scopes.iter().for_each(|scope| args.extend(["--scope", scope]));
        let output = self.run(&args);
        assert_eq!(output.code, Some(0), "{output:?}");
        let reply: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        ApiKey { id: text(&reply["apiKey"]["id"]), key: text(&reply["key"]) }
    }

    fn revoke_api_key(&self, id: &str) {
        let output = self.run(&["api-key", "revoke", id]);
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    fn revoke_token(&self, token: &str) {
        let mut command = super::tenure();
        command.args(["token", "revoke", "--token", "--data"]).arg(&self.data);
        let output = super::Output::of(command.env("TENURE_TOKEN", token));
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}
