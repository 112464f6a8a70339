//! `tenure config`: a configuration before a server has it.

use serde::Serialize;

use super::access::{self, DevStore};
use super::args::{ConfigArgs, ConfigCommand, StoreArgs};
use super::audit_copies;
use super::failure::CliError;
use super::maintain::Output;
use crate::config::{Config, Loaded, Origin, Setting, keys};

pub(super) fn run(args: &ConfigArgs, output: Output) -> Result<(), CliError> {
    match &args.command {
        ConfigCommand::Check { store } => check(store, output),
        ConfigCommand::Show { store } => show(store, output),
    }
}

#[derive(Serialize)]
struct Checked {
    data: String,
    listen: String,
}

/// Whether a server would take it. No key is read, and no store opened.
fn check(store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let config = fit_to_serve(store)?.config;
    audit_copies::check(&config)?;
    let Config { data, listen, .. } = &config;
    let checked = Checked { data: data.display().to_string(), listen: listen.to_string() };
    output.show(&checked, || {
        format!("the configuration is sound: {} on {}\n", checked.data, checked.listen)
    })
}

fn fit_to_serve(store: &StoreArgs) -> Result<Loaded, CliError> {
    let loaded = access::load(store, DevStore::Refused, Vec::new())?;
    loaded.config.require_kek_apart_from_data()?;
    loaded.config.exposure()?;
    Ok(loaded)
}

#[derive(Serialize)]
struct Shown {
    key: &'static str,
    /// As TOML.
    value: String,
    /// Where it was said; a default where nowhere.
    from: String,
}

fn show(store: &StoreArgs, output: Output) -> Result<(), CliError> {
    let loaded = access::load(store, DevStore::Allowed, Vec::new())?;
    let shown: Vec<_> = keys().iter().map(|key| shown(key, &loaded)).collect();
    output.show(&shown, || {
        let said = |Shown { key, value, from }: &Shown| format!("{key} = {value}  # {from}\n");
        shown.iter().map(said).collect()
    })
}

fn shown(key: &Setting, loaded: &Loaded) -> Shown {
    let from = loaded.origin(key).map_or_else(|| "default".to_owned(), Origin::to_string);
    let value = match loaded.origin(key) {
        // Somebody pastes the KEK where the name of its file belongs.
        Some(_) if key.may_hold_secret() => "\"(not shown)\"".to_owned(),
        _ => key.show(&loaded.config),
    };
    Shown { key: key.path(), value, from }
}
