//! The table of keys: what each is called, how it is read and how it is shown.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::de::DeValue;

use super::{ByteSize, CacheSize, Config, KekSource, TimeSpan};
use crate::domain::{Network, SecretNaming, WebAddress};

/// One key of the configuration.
pub struct Setting {
    path: &'static str,
    may_hold_secret: bool,
    set_text: fn(&mut Config, &str) -> Result<(), String>,
    set_toml: fn(&mut Config, &DeValue<'_>, &Path) -> Result<(), String>,
    show: fn(&Config) -> String,
}

impl Setting {
    /// As it is written in the file: `tls.certificate`.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Its variable: `TENURE_TLS_CERTIFICATE`.
    pub fn environment(&self) -> String {
        format!("TENURE_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// Its value in `config`, as TOML. An optional key that is not set shows as
    /// `""`, which is also how it is written.
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config)
    }

    /// Whether an error must not repeat its value: someone will paste the key
    /// itself where the name of its file belongs.
    pub fn may_hold_secret(&self) -> bool {
        self.may_hold_secret
    }

    /// From a variable or a flag.
    pub(super) fn set_text(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set_text)(config, text)
    }

    /// From the file in `folder`.
    pub(super) fn set_toml(
        &self,
        config: &mut Config,
        value: &DeValue<'_>,
        folder: &Path,
    ) -> Result<(), String> {
        (self.set_toml)(config, value, folder)
    }
}

/// Every key there is, in the order of `config/tenure.toml`.
pub fn keys() -> &'static [Setting] {
    SETTINGS
}

macro_rules! settings {
    ($($(#[$secret:ident])? $head:ident $(. $rest:ident)*;)*) => {
        &[$(Setting {
            path: concat!(stringify!($head) $(, ".", stringify!($rest))*),
            may_hold_secret: settings!(@secret $($secret)?),
            set_text: |config, text| {
                config.$head$(.$rest)* = Value::from_text(text)?;
                Ok(())
            },
            set_toml: |config, value, folder| {
                config.$head$(.$rest)* = Value::from_toml(value, folder)?;
                Ok(())
            },
            show: |config| config.$head$(.$rest)*.show(),
        }),*]
    };
    (@secret may_hold_secret) => { true };
    (@secret) => { false };
}

const SETTINGS: &[Setting] = settings! {
    data;
    listen;
    tls.certificate;
    tls.key;
    tls.terminated_elsewhere;
    http.trusted_proxies;
    http.max_connections;
    http.header_timeout;
    http.body_timeout;
    http.keep_alive;
    http.workers;
    http.shutdown_timeout;
    secrets.max_value_bytes;
    kek.source;
    #[may_hold_secret] kek.file;
    #[may_hold_secret] kek.env;
    #[may_hold_secret] kek.credential;
    kek.passphrase_fd;
    #[may_hold_secret] kek.command;
    kek.command_timeout;
    kek.start_sealed;
    store.cache_bytes;
    store.queue_bytes;
    store.full_floor_bytes;
    store.hard_floor_bytes;
    store.list_cache_bytes;
    store.compact_after;
    sweep.every;
    sweep.retain;
    backup.every;
    backup.folder;
    backup.keep;
    tokens.cache_entries;
    limits.address_rate;
    limits.address_burst;
    limits.credential_rate;
    limits.credential_burst;
    limits.failure_rate;
    limits.failure_burst;
    limits.new_token_rate;
    limits.new_token_burst;
    limits.tenant.secrets;
    limits.tenant.bytes;
    limits.tenant.requests_per_second;
    api_keys.max_per_tenant;
    dek.rotate_after;
    dek.rewrite;
    dek.rewrite_rate;
    #[may_hold_secret] notify.url;
    #[may_hold_secret] notify.secret_file;
    notify.ca_file;
    notify.expiring_within;
    notify.events;
    notify.tenants;
    notify.names;
    notify.every;
    memory.lock;
    log.level;
    log.format;
    log.requests;
    metrics.listen;
    metrics.allow_remote;
    metrics.on_main;
    audit.reads;
    audit.queue_bytes;
    audit.keep;
    audit.archive;
    audit.names;
    audit.file.path;
    audit.syslog.socket;
    audit.syslog.facility;
    audit.syslog.format;
    audit.journal.enabled;
};

/// A value that the file, a variable and a flag can hold. Errors are clauses
/// that follow the key's name.
trait Value: Sized {
    fn from_text(text: &str) -> Result<Self, String>;

    /// Most values are strings in TOML too.
    fn from_toml(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let _ = folder;
        Self::from_text(value.as_str().ok_or("must be a string, in quotes")?)
    }

    fn show(&self) -> String;
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|problem: T::Err| problem.to_string())
}

/// As a basic string of TOML.
fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

impl Value for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Value for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.into()) }
    }

    fn from_toml(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let text = value.as_str().ok_or("must be a path, in quotes")?;
        Self::from_text(text).map(|path| folder.join(path))
    }

    fn show(&self) -> String {
        quoted(self.display())
    }
}

/// Empty is none, so that a variable can take back what the file says.
impl Value for Option<PathBuf> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn from_toml(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        let text = value.as_str().ok_or("must be a path, in quotes")?;
        Self::from_text(text).map(|path| path.map(|path| folder.join(path)))
    }

    fn show(&self) -> String {
        quoted(self.as_deref().unwrap_or(Path::new("")).display())
    }
}

impl Value for SocketAddr {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "must be an IP address and a port, such as 127.0.0.1:7300 or [::1]:7300".to_owned()
        })
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

/// Empty is none, as with an optional path.
impl Value for Option<SocketAddr> {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { SocketAddr::from_text(text).map(Some) }
    }

    fn show(&self) -> String {
        self.map_or_else(|| quoted(""), quoted)
    }
}

impl Value for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }

    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "must be true or false, without quotes".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for usize {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be a whole number".to_owned())
    }

    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let number = value.as_integer().ok_or("must be a whole number, without quotes")?;
        Self::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| "must be a whole number from zero".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for TimeSpan {
    fn from_text(text: &str) -> Result<Self, String> {
        parse(text)
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Value for ByteSize {
    fn from_text(text: &str) -> Result<Self, String> {
        parse(text)
    }

    /// A number alone counts bytes.
    fn from_toml(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        match value {
            DeValue::Integer(_) => {
                let bytes = usize::from_toml(value, folder)?;
                Ok(Self::bytes(u64::try_from(bytes).unwrap_or(u64::MAX)))
            }
            other => Self::from_text(other.as_str().ok_or("must be a size, such as \"64KiB\"")?),
        }
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Value for CacheSize {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == Self::AUTO {
            return Ok(Self::Auto);
        }
        let bytes = ByteSize::from_text(text);
        bytes.map(Self::Bytes).map_err(|problem| format!("{problem}, or \"{}\"", Self::AUTO))
    }

    fn from_toml(value: &DeValue<'_>, folder: &Path) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => Self::from_text(text),
            None => ByteSize::from_toml(value, folder).map(Self::Bytes),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted(Self::AUTO),
            Self::Bytes(bytes) => bytes.show(),
        }
    }
}

impl CacheSize {
    const AUTO: &str = "auto";
}

/// What may stand in a list of strings, and an example of it.
trait Item: FromStr<Err: Display> + Display {
    const EXAMPLE: &str;
}

impl Item for Network {
    const EXAMPLE: &str = "10.0.0.0/8";
}

impl Item for TimeSpan {
    const EXAMPLE: &str = "30d";
}

impl Item for NoticeEvent {
    const EXAMPLE: &str = "expiring";
}

impl<T: Item> Value for Vec<T> {
    /// Separated by commas.
    fn from_text(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse).collect()
    }

    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let strings = || format!("must be a list of strings, such as [\"{}\"]", T::EXAMPLE);
        let list = value.as_array().ok_or_else(strings)?;
        list.iter().map(|item| parse(item.get_ref().as_str().ok_or_else(strings)?)).collect()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(quoted).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Empty is none, as with an optional path.
impl Value for Option<WebAddress> {
    fn from_text(text: &str) -> Result<Self, String> {
        let address = Some(text).filter(|text| !text.is_empty()).map(WebAddress::parse);
        address.transpose().map_err(|problem| problem.to_string())
    }

    fn show(&self) -> String {
        quoted(self.as_ref().map_or("", WebAddress::as_str))
    }
}

/// What is told of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEvent {
    Expiring,
    Expired,
    Swept,
}

impl NoticeEvent {
    pub const ALL: [Self; 3] = [Self::Expiring, Self::Expired, Self::Swept];

    fn as_str(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Swept => "swept",
        }
    }
}

impl FromStr for NoticeEvent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|event| event.as_str() == text);
        found.ok_or("must hold nothing but \"expiring\", \"expired\" and \"swept\"")
    }
}

impl Display for NoticeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Word for SecretNaming {
    const ALL: &[Self] = &[Self::Plain, Self::Hashed];
    const MUST_BE: &str = "must be \"plain\" or \"hashed\"";

    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hashed => "hashed",
        }
    }
}

/// The words of a command. In a variable or a flag the same list as in the file:
/// split at spaces, a path with one could not be said.
impl Value for Vec<String> {
    fn from_text(text: &str) -> Result<Self, String> {
        let list = DeValue::parse(text).map_err(|_| STRINGS.to_owned())?;
        Self::from_toml(list.get_ref(), Path::new(""))
    }

    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let list = value.as_array().ok_or(STRINGS)?;
        let words = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
        words.collect::<Option<_>>().ok_or_else(|| STRINGS.to_owned())
    }

    fn show(&self) -> String {
        let words: Vec<_> = self.iter().map(quoted).collect();
        format!("[{}]", words.join(", "))
    }
}

const STRINGS: &str = "must be a list of strings, such as [\"age\", \"--decrypt\"]";

/// Empty is none, as with an optional path.
impl Value for Option<u32> {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| NUMBER_OR_NONE.to_owned())
    }

    fn from_toml(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        match (value.as_integer(), value.as_str()) {
            (Some(number), _) => u32::from_str_radix(number.as_str(), number.radix())
                .map(Some)
                .map_err(|_| NUMBER_OR_NONE.to_owned()),
            (None, Some("")) => Ok(None),
            _ => Err(NUMBER_OR_NONE.to_owned()),
        }
    }

    fn show(&self) -> String {
        self.map_or_else(|| quoted(""), |number| number.to_string())
    }
}

const NUMBER_OR_NONE: &str = "must be a whole number from zero, without quotes";

impl Value for KekSource {
    fn from_text(text: &str) -> Result<Self, String> {
        parse(text)
    }

    fn show(&self) -> String {
        quoted(self.as_str())
    }
}

/// One of a few words.
trait Word: Copy + 'static {
    const ALL: &'static [Self];
    const MUST_BE: &'static str;

    fn word(self) -> &'static str;
}

impl<T: Word> Value for T {
    fn from_text(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|one| one.word() == text);
        found.ok_or_else(|| Self::MUST_BE.to_owned())
    }

    fn show(&self) -> String {
        quoted(self.word())
    }
}

/// How much of the memory is kept out of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLock {
    /// As much as this process may.
    Auto,
    /// All of it, or the server does not start.
    Required,
    Off,
}

impl Word for MemoryLock {
    const ALL: &[Self] = &[Self::Auto, Self::Required, Self::Off];
    const MUST_BE: &str = "must be \"auto\", \"required\" or \"off\"";

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

/// When reads are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditReads {
    /// Before they are answered.
    Durable,
    /// Within a second after.
    Buffered,
    Off,
}

impl Word for AuditReads {
    const ALL: &[Self] = &[Self::Durable, Self::Buffered, Self::Off];
    const MUST_BE: &str = "must be \"durable\", \"buffered\" or \"off\"";

    fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Buffered => "buffered",
            Self::Off => "off",
        }
    }
}

/// Which kind of program speaks to syslog, as RFC 5424 numbers them: one of its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyslogFacility(&'static str, u8);

impl SyslogFacility {
    pub const AUTHPRIV: Self = Self("authpriv", 10);

    pub fn code(self) -> u8 {
        self.1
    }
}

impl Word for SyslogFacility {
    const ALL: &[Self] = &[
        Self("user", 1),
        Self("daemon", 3),
        Self("auth", 4),
        Self::AUTHPRIV,
        Self("local0", 16),
        Self("local1", 17),
        Self("local2", 18),
        Self("local3", 19),
        Self("local4", 20),
        Self("local5", 21),
        Self("local6", 22),
        Self("local7", 23),
    ];
    const MUST_BE: &str = "must be \"user\", \"daemon\", \"auth\", \"authpriv\", or one of \"local0\" to \
                       \"local7\"";

    fn word(self) -> &'static str {
        self.0
    }
}

/// What stands before the text of a message of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyslogFormat {
    /// What syslog(3) writes.
    Local,
    Rfc5424,
}

impl Word for SyslogFormat {
    const ALL: &[Self] = &[Self::Local, Self::Rfc5424];
    const MUST_BE: &str = "must be \"local\" or \"rfc5424\"";

    fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Rfc5424 => "rfc5424",
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For the journal where standard error leads to it, else text.
    Auto,
    Text,
    /// An object in each line.
    Json,
    /// Text behind the priority that sd-daemon(3) describes, without the time.
    Journal,
}

impl Word for LogFormat {
    const ALL: &[Self] = &[Self::Auto, Self::Text, Self::Json, Self::Journal];
    const MUST_BE: &str = "must be \"auto\", \"text\", \"json\" or \"journal\"";

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        }
    }
}

/// The least important kind of message that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Word for LogLevel {
    const ALL: &[Self] =
        &[Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
    const MUST_BE: &str = "must be off, error, warn, info, debug or trace";

    /// In lower case, as the `log` crate reads it.
    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
