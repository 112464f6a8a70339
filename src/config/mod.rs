//! Configuration: what a server is told before it starts.
//!
//! A value comes from the defaults, then the file, then `TENURE_*` variables,
//! then flags; the last one wins. One table ([`settings`]) knows every key, and
//! its environment name follows from its path, so no key can be had in one way
//! and not in another; only the tables of issuers ([`oidc`]) are of the file alone. Nothing is ever ignored: an unknown key or a misspelt
//! variable is an error, since the key it was meant for would keep a default
//! that nobody chose.
//!
//! A path in the file is relative to the file's folder, so that the file means
//! the same from everywhere; one in a variable or a flag is relative to the
//! working directory, as a shell user expects.
//!
//! This module knows what may be said, not what is done with it: it opens no
//! socket and reads no key.

mod error;
mod load;
mod oidc;
mod profiles;
mod project;
mod settings;
mod validate;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::domain::{Network, SecretNaming, WebAddress};

pub use crate::domain::{ByteSize, ByteSizeError, TimeSpan, TimeSpanError};
pub use error::{ConfigError, Origin};
pub use load::{Loaded, environment};
pub use oidc::{Oidc, OidcKey, oidc_keys};
pub use profiles::{CredentialPlace, Credentials, Profile, ProfileName, Profiles};
pub use project::{ProjectFile, project};
pub use settings::{
    AuditReads, LogFormat, LogLevel, MemoryLock, NoticeEvent, Setting, SyslogFacility,
    SyslogFormat, keys,
};
pub use validate::Exposure;

/// Everything that can be configured. `config/tenure.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The folder that holds everything stored.
    pub data: PathBuf,
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    pub tls: Tls,
    pub http: Http,
    pub secrets: Secrets,
    pub kek: Kek,
    pub store: Store,
    pub sweep: Sweep,
    pub backup: Backup,
    pub tokens: Tokens,
    pub limits: Limits,
    pub api_keys: ApiKeys,
    pub dek: Dek,
    pub notify: Notify,
    pub memory: Memory,
    pub log: Log,
    pub metrics: Metrics,
    pub audit: Audit,
    /// Issuers whose tokens are accepted beside our own.
    pub oidc: Vec<Oidc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM, the leaf first. Set together with `key`.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether something in front of the server encrypts.
    pub terminated_elsewhere: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// At most this many at once, over all workers.
    pub max_connections: usize,
    /// Until a request's head is complete; the TLS handshake has as long again.
    pub header_timeout: TimeSpan,
    /// Until a request's body is complete.
    pub body_timeout: TimeSpan,
    /// How long an idle connection stays open; zero closes after each answer.
    pub keep_alive: TimeSpan,
    /// Zero is one per core.
    pub workers: usize,
    /// How long requests under way may take to finish when the server stops.
    pub shutdown_timeout: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    pub max_value_bytes: ByteSize,
}

/// Where the key-encryption key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kek {
    pub source: KekSource,
    pub file: Option<PathBuf>,
    /// The name of a variable, never the key itself.
    pub env: String,
    /// The name of a file in systemd's `$CREDENTIALS_DIRECTORY`.
    pub credential: String,
    /// From which a passphrase is read; `None` asks on the terminal.
    pub passphrase_fd: Option<u32>,
    /// A program and its arguments.
    pub command: Vec<String>,
    pub command_timeout: TimeSpan,
    /// Whether a server whose source fails starts without it.
    pub start_sealed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KekSource {
    File,
    Env,
    Credential,
    Passphrase,
    Command,
    /// Several people have a share each.
    Shamir,
}

impl KekSource {
    const ALL: [Self; 6] =
        [Self::File, Self::Env, Self::Credential, Self::Passphrase, Self::Command, Self::Shamir];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Env => "env",
            Self::Credential => "credential",
            Self::Passphrase => "passphrase",
            Self::Command => "command",
            Self::Shamir => "shamir",
        }
    }
}

impl std::str::FromStr for KekSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|source| source.as_str() == text);
        found.ok_or_else(|| {
            let words = Self::ALL.map(|source| format!("\"{}\"", source.as_str()));
            format!("must be one of {}", words.join(", "))
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Rows and pages kept in memory, over all databases.
    pub cache_bytes: CacheSize,
    /// Writes waiting for the disk, per database; one tenant has at most an
    /// eighth.
    pub queue_bytes: ByteSize,
    /// Free space below which puts are refused.
    pub full_floor_bytes: ByteSize,
    /// Free space below which deletes and sweeps are refused too.
    pub hard_floor_bytes: ByteSize,
    /// Sorted names kept in memory, over all tenants.
    pub list_cache_bytes: ByteSize,
    /// How much is written to a database before it is written anew; zero: never.
    pub compact_after: ByteSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSize {
    /// As much as there is room for where it is read.
    Auto,
    Bytes(ByteSize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Zero is never.
    pub every: TimeSpan,
    /// What expired more recently than this is kept.
    pub retain: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Zero is never.
    pub every: TimeSpan,
    /// Set where `every` is not zero.
    pub folder: Option<PathBuf>,
    /// How many stay.
    pub keep: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// How many verified tokens are remembered.
    pub cache_entries: usize,
}

/// How often something may happen: so many times a second, and so many at once. Zero
/// a second is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests from one address.
    pub address_rate: usize,
    pub address_burst: usize,
    /// Requests with one credential, and with all that was narrowed from it.
    pub credential_rate: usize,
    pub credential_burst: usize,
    /// Refused credentials from one address.
    pub failure_rate: usize,
    pub failure_burst: usize,
    /// Tokens of one minting that are not remembered.
    pub new_token_rate: usize,
    pub new_token_burst: usize,
    pub tenant: TenantLimits,
}

/// What each tenant may have, and how often it may ask, unless it has limits of its own.
/// Zero is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantLimits {
    pub secrets: usize,
    /// Of its values, as UTF-8.
    pub bytes: ByteSize,
    pub requests_per_second: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// How many a tenant may have, those that have expired included.
    pub max_per_tenant: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dek {
    /// At which age of a tenant's DEK another is drawn; zero: never.
    pub rotate_after: TimeSpan,
    /// Whether what is under the old one is then encrypted anew.
    pub rewrite: bool,
    /// How many secrets are encrypted anew in a second; zero: as many as can be.
    pub rewrite_rate: usize,
}

/// Who is told of secrets that come to their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// `None`: nobody.
    pub url: Option<WebAddress>,
    /// The key that is shared with the receiver. Set together with `url`.
    pub secret_file: Option<PathBuf>,
    /// PEM; in place of the machine's.
    pub ca_file: Option<PathBuf>,
    pub expiring_within: Vec<TimeSpan>,
    pub events: Vec<NoticeEvent>,
    /// Of which tenants; empty: of all.
    pub tenants: Vec<String>,
    pub names: SecretNaming,
    /// How often it is looked at what is due.
    pub every: TimeSpan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What must not reach a swap device.
    pub lock: MemoryLock,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Whether each request gets a line.
    pub requests: bool,
}

/// Where what is measured is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Without a credential.
    pub listen: Option<SocketAddr>,
    /// Whether that may be off loopback.
    pub allow_remote: bool,
    /// Whether it is also where the secrets are, with a token for the server itself.
    pub on_main: bool,
}

/// What is recorded beside changes, which always are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    pub reads: AuditReads,
    /// What may wait to be recorded.
    pub queue_bytes: ByteSize,
    /// Zero is for good.
    pub keep: TimeSpan,
    /// Where older entries go. Set where `keep` is not zero.
    pub archive: Option<PathBuf>,
    /// How secrets are called in copies.
    pub names: SecretNaming,
    pub file: AuditFile,
    pub syslog: AuditSyslog,
    pub journal: AuditJournal,
}

/// A file that entries are copied to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFile {
    pub path: Option<PathBuf>,
}

/// A syslog of this machine that entries are copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSyslog {
    pub socket: Option<PathBuf>,
    pub facility: SyslogFacility,
    pub format: SyslogFormat,
}

/// Whether entries are copied to systemd's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditJournal {
    pub enabled: bool,
}

impl Audit {
    /// What says where copies go, and how they look.
    pub fn copies(&self) -> (SecretNaming, &AuditFile, &AuditSyslog, &AuditJournal) {
        (self.names, &self.file, &self.syslog, &self.journal)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/tenure"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7300)),
            tls: Tls::default(),
            http: Http {
                trusted_proxies: Vec::new(),
                max_connections: 4096,
                header_timeout: TimeSpan::seconds(10),
                body_timeout: TimeSpan::seconds(30),
                keep_alive: TimeSpan::seconds(60),
                workers: 0,
                shutdown_timeout: TimeSpan::seconds(30),
            },
            secrets: Secrets { max_value_bytes: ByteSize::kib(64) },
            kek: Kek {
                source: KekSource::File,
                file: Some(PathBuf::from("/etc/tenure/kek")),
                env: "TENURE_KEK".to_owned(),
                credential: "tenure-kek".to_owned(),
                passphrase_fd: None,
                command: Vec::new(),
                command_timeout: TimeSpan::seconds(10),
                start_sealed: false,
            },
            store: Store {
                cache_bytes: CacheSize::Auto,
                queue_bytes: ByteSize::mib(64),
                full_floor_bytes: ByteSize::mib(256),
                hard_floor_bytes: ByteSize::mib(64),
                list_cache_bytes: ByteSize::mib(64),
                compact_after: ByteSize::mib(256),
            },
            sweep: Sweep { every: TimeSpan::seconds(3600), retain: TimeSpan::seconds(24 * 3600) },
            backup: Backup { every: TimeSpan::ZERO, folder: None, keep: 7 },
            tokens: Tokens { cache_entries: 131_072 },
            limits: Limits {
                address_rate: 0,
                address_burst: 1_000,
                credential_rate: 0,
                credential_burst: 1_000,
                failure_rate: 20,
                failure_burst: 500,
                new_token_rate: 50,
                new_token_burst: 500,
                tenant: TenantLimits {
                    secrets: 0,
                    bytes: ByteSize::bytes(0),
                    requests_per_second: 0,
                },
            },
            api_keys: ApiKeys { max_per_tenant: 1_000 },
            dek: Dek {
                rotate_after: TimeSpan::seconds(365 * 86_400),
                rewrite: false,
                rewrite_rate: 1_000,
            },
            notify: Notify {
                url: None,
                secret_file: None,
                ca_file: None,
                expiring_within: [30, 7, 1].map(TimeSpan::days).to_vec(),
                events: NoticeEvent::ALL.to_vec(),
                tenants: Vec::new(),
                names: SecretNaming::Plain,
                every: TimeSpan::seconds(60),
            },
            memory: Memory { lock: MemoryLock::Auto },
            log: Log { level: LogLevel::Info, format: LogFormat::Auto, requests: false },
            metrics: Metrics { listen: None, allow_remote: false, on_main: true },
            audit: Audit {
                reads: AuditReads::Buffered,
                queue_bytes: ByteSize::mib(16),
                keep: TimeSpan::ZERO,
                archive: None,
                names: SecretNaming::Plain,
                file: AuditFile::default(),
                syslog: AuditSyslog {
                    socket: None,
                    facility: SyslogFacility::AUTHPRIV,
                    format: SyslogFormat::Local,
                },
                journal: AuditJournal { enabled: false },
            },
            oidc: Vec::new(),
        }
    }
}
