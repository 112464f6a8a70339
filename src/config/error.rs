//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The defaults, or several places together.
    Configuration,
    File {
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    CommandLine,
}

/// Why a configuration is refused. Never holds the value of a key that may hold
/// a secret, nor of a key that is not known.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {cause}; name another file with --config, or write one from config/tenure.toml", .file.display())]
    Unreadable { file: PathBuf, cause: std::io::Error },
    #[error("{origin}: this is not TOML: {problem}")]
    Syntax { origin: Origin, problem: String },
    #[error("{origin}: there is no key `{key}`{}", suggestion(.nearest.as_deref()))]
    UnknownKey { origin: Origin, key: String, nearest: Option<String> },
    #[error("{origin}: `{key}` {problem}{}", instead_of(.said.as_deref()))]
    Invalid { origin: Origin, key: &'static str, problem: String, said: Option<String> },
    /// A value that is well-formed and cannot stand beside the others.
    #[error("{origin}: `{key}` {problem}; {remedy}")]
    Refused { origin: Origin, key: &'static str, problem: String, remedy: String },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; config/tenure.toml lists them all".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?"),
    )
}

fn instead_of(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!(", not {said}"))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
