//! Files of secrets: dotenv, JSON and YAML, read and written.
//!
//! What is written reads back as the same names, values and windows. What different
//! readers would take for different values is refused, with what to write instead. No
//! fault repeats a value, nor what stands where a name should: either may be a secret.

mod dotenv;
mod json;
mod source;
mod tree;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

pub(in crate::cli) use source::{is_stdin, load, text};

use super::run::Variable;
use crate::domain::{SecretName, SecretValue, ValidityWindow};

/// A larger file is refused.
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// More secrets than these in one file are refused.
const MOST_SECRETS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    Dotenv,
    Json,
    Yaml,
}

impl Format {
    /// As the name of a file says: `.env`, `.env.local`, `x.env`, `x.json`, `x.yaml`, `x.yml`.
    pub(in crate::cli) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match name.rsplit_once('.')?.1 {
            _ if name.starts_with(".env.") => Some(Self::Dotenv),
            "env" => Some(Self::Dotenv),
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A secret of a file, by the name that it has there.
#[derive(Debug)]
pub(in crate::cli) struct Item {
    pub(in crate::cli) name: SecretName,
    /// `None` is `null`.
    pub(in crate::cli) value: Option<SecretValue>,
    pub(in crate::cli) window: ValidityWindow,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Fault(String);

impl Fault {
    fn at(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self(format!("{place}: {what}"))
    }

    fn of_all(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All secrets of a file, in its order.
fn read(text: &str, format: Format) -> Result<Vec<Item>, Fault> {
    // Editors of another system begin files with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let items = match format {
        Format::Dotenv => dotenv::read(text)?,
        Format::Json => tree::items(json::read(text)?)?,
        Format::Yaml => tree::items(yaml::read(text)?)?,
    };
    check(&items)?;
    Ok(items)
}

fn check(items: &[Item]) -> Result<(), Fault> {
    if items.len() > MOST_SECRETS {
        return Err(Fault::of_all(format!(
            "it holds {} secrets, and {MOST_SECRETS} are the most for one file; split it",
            items.len()
        )));
    }
    let mut seen = HashSet::new();
    for Item { name, value, .. } in items {
        let shown = name.as_str();
        if !seen.insert(shown) {
            return Err(Fault::of_all(format!("it says '{shown}' more than once")));
        }
        if value.as_ref().is_some_and(|value| value.len() > SecretValue::HARD_MAX_BYTES) {
            return Err(Fault::of_all(format!(
                "the value of '{shown}' is larger than a secret can be ({} bytes)",
                SecretValue::HARD_MAX_BYTES
            )));
        }
    }
    Ok(())
}

/// Which parts of a secret are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Detail {
    Values,
    /// Of JSON and YAML.
    WithWindows,
}

/// A file that reads back as these, in this order; in dotenv under the names of variables.
pub(in crate::cli) fn write(
    items: &[Item],
    format: Format,
    detail: Detail,
) -> Result<Zeroizing<String>, Fault> {
    match format {
        Format::Dotenv => dotenv::write(items),
        Format::Json => Ok(json::write(items, detail)),
        Format::Yaml => Ok(yaml::write(items, detail)),
    }
}

/// The name of a secret in such a file, where it has another there.
pub(in crate::cli) fn other_name(name: &SecretName, format: Format) -> Option<Variable> {
    let variable = Variable::of_secret(name.as_str()).filter(|_| format == Format::Dotenv);
    variable.filter(|variable| variable.as_str() != name.as_str())
}

pub(in crate::cli) fn counted(secrets: usize) -> String {
    match secrets {
        1 => "1 secret".to_owned(),
        many => format!("{many} secrets"),
    }
}
