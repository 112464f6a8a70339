//! What values must be, and must be to one another.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::load::Origins;
use super::{
    ByteSize, CacheSize, Config, ConfigError, Kek, KekSource, Limits, Metrics, Notify, Origin,
    TimeSpan, Tls,
};
use crate::domain::TenantName;

/// How far what is said on the wire can be overheard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    Tls {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Plain HTTP, and the operator says that something in front encrypts.
    TerminatedElsewhere,
    /// Plain HTTP that does not leave the machine.
    Loopback,
}

const HOUR: TimeSpan = TimeSpan::seconds(3600);
const DAY: TimeSpan = TimeSpan::days(1);
const TEN_YEARS: TimeSpan = TimeSpan::seconds(3650 * 86_400);
const SHORTEST: TimeSpan = TimeSpan::millis(10);
/// What one value may be at all, whatever is configured.
const MOST_VALUE_BYTES: ByteSize = ByteSize::mib(1);
const MOST_A_SECOND: usize = 10_000_000;
/// One tenant has an eighth of the queue, and that must hold the largest write:
/// the engine takes no less.
const LEAST_QUEUE: ByteSize = ByteSize::mib(20);
/// Of Linux, less a zero at the end: unix(7).
const MOST_SOCKET_BYTES: usize = 107;

impl Config {
    /// How the server may be reached. Plain HTTP off loopback is refused: tokens
    /// and values would cross the network readable.
    pub fn exposure(&self) -> Result<Exposure, ConfigError> {
        match &self.tls {
            Tls { certificate: Some(certificate), key: Some(key), .. } => {
                Ok(Exposure::Tls { certificate: certificate.clone(), key: key.clone() })
            }
            _ if self.listen.ip().to_canonical().is_loopback() => Ok(Exposure::Loopback),
            Tls { terminated_elsewhere: true, .. } => Ok(Exposure::TerminatedElsewhere),
            _ => Err(ConfigError::Refused {
                origin: Origin::Configuration,
                key: "listen",
                problem: format!(
                    "is {}: plain HTTP there would show tokens and values to the network",
                    self.listen
                ),
                remedy: "set tls.certificate and tls.key, or listen on 127.0.0.1, or set \
                         tls.terminated_elsewhere = true where a proxy in front encrypts"
                    .to_owned(),
            }),
        }
    }

    /// Refuses a key that lies in the folder it protects: a copy or a backup of
    /// the folder would carry both. For servers; `tenure dev` does so knowingly.
    pub fn require_kek_apart_from_data(&self) -> Result<(), ConfigError> {
        let (KekSource::File, Some(file)) = (self.kek.source, &self.kek.file) else {
            return Ok(());
        };
        if !real_path(file).starts_with(real_path(&self.data)) {
            return Ok(());
        }
        Err(ConfigError::Refused {
            origin: Origin::Configuration,
            key: "kek.file",
            problem: "lies inside the data folder, so a copy of the data would hold its key".into(),
            remedy: "move it out, for example to /etc/tenure/kek, and set kek.file to that".into(),
        })
    }

    pub(super) fn validate(&self, origins: &Origins) -> Result<(), ConfigError> {
        let check = Check { origins };
        check.limits(self)?;
        check.tls(self)?;
        check.kek(self)?;
        check.backup(self)?;
        check.audit(self)?;
        check.notify(self)?;
        check.metrics(self)?;
        check.floors(self)
    }
}

struct Check<'a> {
    origins: &'a Origins,
}

impl Check<'_> {
    fn limits(&self, config: &Config) -> Result<(), ConfigError> {
        let Config { http, secrets, store, sweep, backup, tokens, limits, api_keys, dek, .. } =
            config;
        let zero = TimeSpan::ZERO;
        self.within("http.max_connections", http.max_connections, 1..=1_000_000)?;
        self.within("http.header_timeout", http.header_timeout, SHORTEST..=HOUR)?;
        self.within("http.body_timeout", http.body_timeout, SHORTEST..=HOUR)?;
        self.within("http.keep_alive", http.keep_alive, zero..=HOUR)?;
        self.within("http.workers", http.workers, 0..=1024)?;
        self.within("http.shutdown_timeout", http.shutdown_timeout, zero..=HOUR)?;
        let one = ByteSize::bytes(1);
        self.within("secrets.max_value_bytes", secrets.max_value_bytes, one..=MOST_VALUE_BYTES)?;
        let (most_memory, most_disk) = (ByteSize::mib(1 << 20), ByteSize::mib(1 << 30));
        let least_memory = ByteSize::mib(1);
        if let CacheSize::Bytes(cache_bytes) = store.cache_bytes {
            self.within("store.cache_bytes", cache_bytes, least_memory..=most_memory)?;
        }
        self.within("store.queue_bytes", store.queue_bytes, LEAST_QUEUE..=most_memory)?;
        self.within("store.list_cache_bytes", store.list_cache_bytes, least_memory..=most_memory)?;
        let least_audit = ByteSize::kib(64);
        self.within("audit.queue_bytes", config.audit.queue_bytes, least_audit..=most_memory)?;
        if !config.audit.keep.is_zero() {
            self.within("audit.keep", config.audit.keep, TimeSpan::seconds(1)..=TEN_YEARS)?;
        }
        if store.compact_after.get() > 0 {
            let least = ByteSize::mib(16);
            self.within("store.compact_after", store.compact_after, least..=most_disk)?;
        }
        // A disk that runs full under sled is not mended by freeing space, so
        // neither floor can be switched off.
        let least_floor = ByteSize::mib(1);
        self.within("store.full_floor_bytes", store.full_floor_bytes, least_floor..=most_disk)?;
        self.within("store.hard_floor_bytes", store.hard_floor_bytes, least_floor..=most_disk)?;
        if !sweep.every.is_zero() {
            self.within("sweep.every", sweep.every, TimeSpan::millis(100)..=TEN_YEARS)?;
        }
        self.within("sweep.retain", sweep.retain, zero..=TEN_YEARS)?;
        if !backup.every.is_zero() {
            self.within("backup.every", backup.every, TimeSpan::seconds(1)..=TEN_YEARS)?;
        }
        self.within("backup.keep", backup.keep, 1..=100_000)?;
        self.within("api_keys.max_per_tenant", api_keys.max_per_tenant, 0..=10_000)?;
        if !dek.rotate_after.is_zero() {
            self.within("dek.rotate_after", dek.rotate_after, HOUR..=TEN_YEARS)?;
        }
        self.within("dek.rewrite_rate", dek.rewrite_rate, 0..=1_000_000)?;
        self.within("tokens.cache_entries", tokens.cache_entries, 16..=10_000_000)?;
        self.rates(limits)
    }

    /// A rate may be zero, which is no limit; a burst of zero would let nothing pass.
    fn rates(&self, limits: &Limits) -> Result<(), ConfigError> {
        for (key, rate) in [
            ("limits.address_rate", limits.address_rate),
            ("limits.credential_rate", limits.credential_rate),
            ("limits.failure_rate", limits.failure_rate),
            ("limits.new_token_rate", limits.new_token_rate),
            ("limits.tenant.requests_per_second", limits.tenant.requests_per_second),
        ] {
            self.within(key, rate, 0..=MOST_A_SECOND)?;
        }
        for (key, burst) in [
            ("limits.address_burst", limits.address_burst),
            ("limits.credential_burst", limits.credential_burst),
            ("limits.failure_burst", limits.failure_burst),
            ("limits.new_token_burst", limits.new_token_burst),
        ] {
            self.within(key, burst, 1..=MOST_A_SECOND)?;
        }
        Ok(())
    }

    fn tls(&self, config: &Config) -> Result<(), ConfigError> {
        let (key, other) = match &config.tls {
            Tls { certificate: Some(_), key: None, .. } => ("tls.certificate", "tls.key"),
            Tls { certificate: None, key: Some(_), .. } => ("tls.key", "tls.certificate"),
            _ => return Ok(()),
        };
        let remedy = format!("set {other} too, or neither for plain HTTP on loopback");
        Err(self.refused(key, format!("is set without `{other}`"), remedy))
    }

    fn kek(&self, config: &Config) -> Result<(), ConfigError> {
        let Kek {
            source,
            file,
            env,
            credential,
            passphrase_fd: _,
            command,
            command_timeout,
            start_sealed: _,
        } = &config.kek;
        if *source == KekSource::File && file.is_none() {
            let remedy = "set kek.file to the key's path, or kek.source to \"env\"".to_owned();
            return Err(self.refused("kek.file", "is missing, and kek.source is \"file\"", remedy));
        }
        if !is_variable_name(env) {
            let remedy =
                "put the key into a variable and write the variable's name here".to_owned();
            return Err(self.refused("kek.env", "is not the name of a variable", remedy));
        }
        if !is_credential_name(credential) {
            let remedy = "write its name alone, as in the unit's LoadCredential=NAME:/path, of \
                          letters, digits, '.', '_' and '-'"
                .to_owned();
            return Err(self.refused("kek.credential", "is not the name of a credential", remedy));
        }
        if *source == KekSource::Command && command.is_empty() {
            let remedy = "name the program that prints the key, and its arguments".to_owned();
            let problem = "is \"command\" without `kek.command`";
            return Err(self.refused("kek.source", problem, remedy));
        }
        self.within("kek.command_timeout", *command_timeout, TimeSpan::millis(100)..=HOUR)
    }

    fn backup(&self, config: &Config) -> Result<(), ConfigError> {
        if config.backup.every.is_zero() || config.backup.folder.is_some() {
            return Ok(());
        }
        let remedy = "set backup.folder to where they go, best on another disk".to_owned();
        Err(self.refused("backup.every", "is set without `backup.folder`", remedy))
    }

    fn audit(&self, config: &Config) -> Result<(), ConfigError> {
        self.absolute("audit.file.path", config.audit.file.path.as_deref())?;
        self.socket("audit.syslog.socket", config.audit.syslog.socket.as_deref())?;
        if config.audit.keep.is_zero() || config.audit.archive.is_some() {
            return Ok(());
        }
        let remedy = "set audit.archive to where older entries go; they are removed from the \
                      store when they are there"
            .to_owned();
        Err(self.refused("audit.keep", "is set without `audit.archive`", remedy))
    }

    /// A service has no working directory that anybody has in mind.
    fn absolute(&self, key: &'static str, path: Option<&Path>) -> Result<(), ConfigError> {
        if path.is_none_or(Path::is_absolute) {
            return Ok(());
        }
        let remedy = "write the whole path, from / on".to_owned();
        Err(self.refused(key, "is not an absolute path", remedy))
    }

    fn socket(&self, key: &'static str, path: Option<&Path>) -> Result<(), ConfigError> {
        self.absolute(key, path)?;
        if path.is_none_or(|path| path.as_os_str().len() <= MOST_SOCKET_BYTES) {
            return Ok(());
        }
        let problem = "is longer than the path of a socket may be";
        Err(self.refused(key, problem, "name a shorter one".to_owned()))
    }

    fn notify(&self, config: &Config) -> Result<(), ConfigError> {
        let Notify { url, secret_file, expiring_within, tenants, every, .. } = &config.notify;
        self.within("notify.every", *every, TimeSpan::millis(100)..=DAY)?;
        for span in expiring_within {
            self.within("notify.expiring_within", *span, TimeSpan::seconds(1)..=TEN_YEARS)?;
        }
        self.within("notify.expiring_within", expiring_within.len(), 0..=10)?;
        if tenants.iter().any(|name| TenantName::parse(name).is_err()) {
            let remedy = "write the names of tenants, or [] for all".to_owned();
            let problem = "holds what is no name of a tenant";
            return Err(self.refused("notify.tenants", problem, remedy));
        }
        if url.is_some() && secret_file.is_none() {
            let remedy = "name a file with a key that is shared with the receiver \
                          (docs/notify.md says how to make one)";
            let problem = "is set without `notify.secret_file`";
            return Err(self.refused("notify.url", problem, remedy.to_owned()));
        }
        Ok(())
    }

    /// They hold no secret and no name, yet tell strangers what this server does.
    fn metrics(&self, config: &Config) -> Result<(), ConfigError> {
        let Metrics { listen, allow_remote, on_main: _ } = config.metrics;
        let Some(listen) = listen.filter(|listen| !listen.ip().to_canonical().is_loopback()) else {
            return Ok(());
        };
        if allow_remote {
            return Ok(());
        }
        let remedy = "listen on 127.0.0.1, or set metrics.allow_remote = true where a firewall \
                      lets only your monitoring through";
        let problem = format!("is {listen}: anyone who reaches it would read the metrics");
        Err(self.refused("metrics.listen", problem, remedy.to_owned()))
    }

    fn floors(&self, config: &Config) -> Result<(), ConfigError> {
        let (hard, full) = (config.store.hard_floor_bytes, config.store.full_floor_bytes);
        if hard <= full {
            return Ok(());
        }
        let problem = format!("is {hard}, more than store.full_floor_bytes ({full})");
        let remedy = "lower it or raise the other: deletes must still work where puts no longer do";
        Err(self.refused("store.hard_floor_bytes", problem, remedy.to_owned()))
    }

    fn within<T: PartialOrd + Display>(
        &self,
        key: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), ConfigError> {
        if range.contains(&value) {
            return Ok(());
        }
        let remedy = format!("set it to something from {} to {}", range.start(), range.end());
        Err(self.refused(key, format!("is {value}, which is out of range"), remedy))
    }

    fn refused(
        &self,
        key: &'static str,
        problem: impl Into<String>,
        remedy: String,
    ) -> ConfigError {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Configuration);
        ConfigError::Refused { origin, key, problem: problem.into(), remedy }
    }
}

fn is_variable_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// It is the name of a file in one folder, and must lead nowhere else.
fn is_credential_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && !text.contains("..") && text != "." && text.chars().all(plain)
}

/// Without symbolic links as far as the path exists.
fn real_path(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    absolute
}
