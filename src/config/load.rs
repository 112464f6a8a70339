//! Putting a configuration together from what was said where.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::oidc::{self, Draft, oidc_keys};
use super::settings::{Setting, keys};
use super::{Config, ConfigError, Origin};

/// Variables of the command line as a client, of the key and of the tests; they
/// configure nothing here.
const NOT_CONFIGURATION: [&str; 10] = [
    "TENURE_ADDR",
    "TENURE_API_KEY",
    "TENURE_CA",
    "TENURE_COMPLETE",
    "TENURE_COMPLETE_NAMES",
    "TENURE_CONFIG",
    "TENURE_KEK",
    "TENURE_PROFILE",
    "TENURE_TENANT",
    "TENURE_TOKEN",
];
const TESTS: &str = "TENURE_TEST_";
const PREFIX: &str = "TENURE_";

/// Where each value that is not a default was said.
pub(super) type Origins = BTreeMap<&'static str, Origin>;

impl Config {
    /// Defaults, then `file`, then the `TENURE_*` of `environment`, then
    /// `overrides` (key and value, as flags give them); the last one wins, and
    /// what results is checked as a whole.
    ///
    /// Whether it may be served is another question: [`Config::exposure`].
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        Loaded::load(file, environment, overrides).map(|loaded| loaded.config)
    }
}

/// A configuration, and where it was said.
pub struct Loaded {
    pub config: Config,
    origins: Origins,
}

impl Loaded {
    /// As [`Config::load`] does.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut loading = Loading { config: Config::default(), origins: Origins::new() };
        if let Some(file) = file {
            loading.read_file(file)?;
        }
        let unknown = loading.read_environment(environment)?;
        loading.read_overrides(overrides)?;
        loading.refuse_unknown_variables(&unknown)?;
        loading.config.validate(&loading.origins)?;
        let Loading { config, origins } = loading;
        Ok(Self { config, origins })
    }

    /// Where a value was said; `None` for a default.
    pub fn origin(&self, key: &Setting) -> Option<&Origin> {
        self.origins.get(key.path())
    }
}

/// The variables of this process that may be configuration. A value that is not
/// UTF-8 is replaced in part and then refused by the key that it is for.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

struct Loading {
    config: Config,
    origins: Origins,
}

impl Loading {
    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { file: path.to_owned(), cause })?;
        let file = File { path, text: &text };
        let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            origin: file.origin(error.span().map_or(0, |span| span.start)),
            problem: error.message().to_owned(),
        })?;
        self.read_table(&file, "", table.get_ref())
    }

    /// `section` is empty or ends with a dot.
    fn read_table(
        &mut self,
        file: &File<'_>,
        section: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{section}{}", name.get_ref());
            let below = format!("{key}.");
            let has_dot = name.get_ref().contains('.');
            let setting = keys().iter().find(|setting| !has_dot && setting.path() == key);
            let is_section = !has_dot && keys().iter().any(|s| s.path().starts_with(&below));
            match (setting, value.get_ref()) {
                (Some(setting), value_here) => {
                    self.set_from_file(file, setting, value_here, value.span())?;
                }
                (None, DeValue::Table(inner)) if is_section => {
                    self.read_table(file, &below, inner)?;
                }
                (None, tables) if key == oidc::SECTION => {
                    self.read_issuers(file, tables, value.span().start)?;
                }
                _ => {
                    return Err(ConfigError::UnknownKey {
                        origin: file.origin(name.span().start),
                        nearest: nearest(&key, keys().iter().map(|s| s.path().to_owned())),
                        key,
                    });
                }
            }
        }
        Ok(())
    }

    fn set_from_file(
        &mut self,
        file: &File<'_>,
        setting: &'static Setting,
        value: &DeValue<'_>,
        span: std::ops::Range<usize>,
    ) -> Result<(), ConfigError> {
        let origin = file.origin(span.start);
        if let Err(problem) = setting.set_toml(&mut self.config, value, file.folder()) {
            let said = file.text.get(span).unwrap_or_default();
            return Err(invalid(setting, origin, problem, said));
        }
        self.origins.insert(setting.path(), origin);
        Ok(())
    }

    fn read_issuers(
        &mut self,
        file: &File<'_>,
        tables: &DeValue<'_>,
        at: usize,
    ) -> Result<(), ConfigError> {
        let not_tables = |at: usize| ConfigError::Invalid {
            origin: file.origin(at),
            key: oidc::SECTION,
            problem: "is a list of tables: write [[oidc]], with two brackets".to_owned(),
            said: None,
        };
        for table in tables.as_array().ok_or_else(|| not_tables(at))? {
            let (keys, at) = (table.get_ref().as_table(), table.span().start);
            let draft = read_issuer(file, keys.ok_or_else(|| not_tables(at))?)?;
            let refused = |(key, problem, remedy): oidc::Fault| ConfigError::Refused {
                origin: file.origin(at),
                key,
                problem: problem.to_owned(),
                remedy: remedy.to_owned(),
            };
            let issuer = draft.finish().map_err(refused)?;
            if self.config.oidc.iter().any(|other| other.issuer == issuer.issuer) {
                let twice = "is that of another [[oidc]] table";
                return Err(refused(("oidc.issuer", twice, "put all it may do into one")));
            }
            self.config.oidc.push(issuer);
        }
        Ok(())
    }

    /// Answers the variables that are no key's.
    fn read_environment(
        &mut self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (name, value) in environment.filter(|(name, _)| name.starts_with(PREFIX)) {
            match keys().iter().find(|setting| setting.environment() == name) {
                Some(setting) => self.set_from_text(setting, Origin::Environment(name), &value)?,
                None => unknown.push(name),
            }
        }
        Ok(unknown)
    }

    fn read_overrides(&mut self, overrides: &[(&str, String)]) -> Result<(), ConfigError> {
        for (key, value) in overrides {
            let setting = keys().iter().find(|setting| setting.path() == *key);
            let setting = setting.ok_or_else(|| ConfigError::UnknownKey {
                origin: Origin::CommandLine,
                key: (*key).to_owned(),
                nearest: nearest(key, keys().iter().map(|s| s.path().to_owned())),
            })?;
            self.set_from_text(setting, Origin::CommandLine, value)?;
        }
        Ok(())
    }

    fn set_from_text(
        &mut self,
        setting: &'static Setting,
        origin: Origin,
        text: &str,
    ) -> Result<(), ConfigError> {
        if let Err(problem) = setting.set_text(&mut self.config, text) {
            return Err(invalid(setting, origin, problem, &format!("{text:?}")));
        }
        self.origins.insert(setting.path(), origin);
        Ok(())
    }

    /// Judged last, because the file or a flag may name the key's variable.
    fn refuse_unknown_variables(&self, unknown: &[String]) -> Result<(), ConfigError> {
        let misspelt = unknown.iter().find(|name| {
            !NOT_CONFIGURATION.contains(&name.as_str())
                && !name.starts_with(TESTS)
                && **name != self.config.kek.env
        });
        misspelt.map_or(Ok(()), |name| {
            Err(ConfigError::UnknownKey {
                origin: Origin::Environment(name.clone()),
                key: name.clone(),
                nearest: nearest(name, keys().iter().map(Setting::environment)),
            })
        })
    }
}

fn read_issuer(file: &File<'_>, table: &DeTable<'_>) -> Result<Draft, ConfigError> {
    let mut draft = Draft::default();
    for (name, value) in table {
        let known = oidc_keys().iter().find(|key| key.name() == name.get_ref().as_ref());
        let key = known.ok_or_else(|| {
            let key = format!("{}.{}", oidc::SECTION, name.get_ref());
            ConfigError::UnknownKey {
                origin: file.origin(name.span().start),
                nearest: nearest(&key, oidc_keys().iter().map(|key| key.path().to_owned())),
                key,
            }
        })?;
        key.read(&mut draft, value.get_ref(), file.folder()).map_err(|problem| {
            let said = file.text.get(value.span()).unwrap_or_default();
            ConfigError::Invalid {
                origin: file.origin(value.span().start),
                key: key.path(),
                problem,
                said: Some(said.chars().take(80).collect()),
            }
        })?;
    }
    Ok(draft)
}

/// The file that is read, for saying where in it something stands.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.bytes().take(offset);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

fn invalid(setting: &Setting, origin: Origin, problem: String, said: &str) -> ConfigError {
    let said = (!setting.may_hold_secret()).then(|| said.chars().take(80).collect());
    ConfigError::Invalid { origin, key: setting.path(), problem, said }
}

/// The candidate that a slip of the hand may have meant: a third of it wrong at
/// most, or the same last word in another section.
fn nearest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (distance(word, &candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance * 3 <= candidate.len() || candidate.rsplit('.').next() == Some(word)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many characters to insert, drop or replace (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, from_char) in from.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (pair, to_char) in row.windows(2).zip(to.chars()) {
            let [diagonal, above] = pair else { continue };
            let replaced = diagonal + usize::from(from_char != to_char);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
