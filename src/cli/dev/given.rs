//! What a local store is given at its start: files to import, and a folder of seeds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::super::args::DevRunArgs;
use super::super::failure::CliError;
use super::super::internal;
use super::super::secret::files::{self, Format, Item};
use super::home::Home;
use super::welcome::{Holds, Names};
use crate::auth::Principal;
use crate::domain::{NamePrefix, SecretName, SecretValue, TenantName, ValidityWindow};
use crate::vault::{ListRequest, NewSecret, Precondition, Secret, Vault, VaultError};

/// Of more rows than these nothing is listed: sorting their names takes longer than a start
/// may.
const MOST_ROWS: u64 = 5_000;

/// Read before the store is opened: what is wrong with a file is told first.
pub(super) struct Given {
    /// Stored where nothing is.
    seeds: Vec<Item>,
    /// Stored in any case, the last one last.
    imports: Vec<Item>,
}

impl Given {
    pub(super) fn read(args: &DevRunArgs) -> Result<Self, CliError> {
        let mut imports = Vec::new();
        for file in &args.import {
            imports.extend(files::load(file, None)?);
        }
        let seeds = args.seed.as_deref().map(seeds).transpose()?.unwrap_or_default();
        Ok(Self { seeds, imports })
    }

    pub(super) async fn store(self, shelf: &Shelf<'_>) -> Result<(), CliError> {
        let Self { seeds, imports } = self;
        let names = |items: &[Item]| -> Result<Vec<SecretName>, CliError> {
            items.iter().map(|item| shelf.whole(&item.name)).collect()
        };
        // Judged before anything is stored.
        let (of_seeds, of_imports) = (names(&seeds)?, names(&imports)?);
        seeds.iter().chain(&imports).try_for_each(|item| shelf.fits(item))?;
        // At once, since those that wait together are made durable together.
        let seeded = of_seeds.into_iter().zip(seeds).map(|(name, item)| shelf.seed(name, item));
        try_join_all(seeded).await?;
        for (name, item) in of_imports.into_iter().zip(imports) {
            shelf.replace(name, item).await?;
        }
        Ok(())
    }
}

/// Each file is a secret of its name, or a file of secrets.
fn seeds(folder: &Path) -> Result<Vec<Item>, CliError> {
    let mut items: Vec<Item> = Vec::new();
    for path in files_in(folder)? {
        let more = match Format::of(&path) {
            Some(format) => files::load(&path, Some(format))?,
            None => vec![of_file(&path)?],
        };
        for item in more {
            if items.iter().any(|other| other.name == item.name) {
                return Err(CliError::usage(format!(
                    "two files of {} have a secret '{}'",
                    folder.display(),
                    item.name.as_str()
                )));
            }
            items.push(item);
        }
    }
    Ok(items)
}

/// In order; without hidden ones and folders.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let unreadable = |error: io::Error| {
        CliError::usage(format!("--seed {} cannot be read: {error}", folder.display()))
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && fs::metadata(entry.path()).map_err(unreadable)?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Byte for byte.
fn of_file(path: &Path) -> Result<Item, CliError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = SecretName::parse(name).map_err(|error| {
        CliError::usage(format!("{}: the name of a secret {error}; rename it", path.display()))
    })?;
    let value = Some(SecretValue::new(files::text(path)?));
    Ok(Item { name, value, window: ValidityWindow::default() })
}

/// The secrets of a tenant, in this process.
pub(super) struct Shelf<'v> {
    vault: &'v Arc<Vault>,
    principal: Arc<Principal>,
    tenant: &'v TenantName,
    prefix: &'v NamePrefix,
}

impl<'v> Shelf<'v> {
    pub(super) fn open(
        vault: &'v Arc<Vault>,
        token: &str,
        home: &'v Home,
    ) -> Result<Self, CliError> {
        let principal = vault.authenticate(token, vault.now()).map_err(internal)?;
        Ok(Self { vault, principal, tenant: &home.tenant, prefix: &home.prefix })
    }

    fn whole(&self, name: &SecretName) -> Result<SecretName, CliError> {
        let prefix = self.prefix.as_str();
        SecretName::parse(&format!("{prefix}{}", name.as_str())).map_err(|error| {
            CliError::usage(format!("'{}' after '{prefix}': a name {error}", name.as_str()))
        })
    }

    fn fits(&self, item: &Item) -> Result<(), CliError> {
        let most = self.vault.max_value_bytes();
        match &item.value {
            Some(value) if value.len() > most => Err(CliError::usage(format!(
                "the value of '{}' has {} bytes, and one may have {most}; nothing was stored",
                item.name.as_str(),
                value.len()
            ))),
            _ => Ok(()),
        }
    }

    async fn seed(&self, name: SecretName, item: Item) -> Result<(), CliError> {
        self.write(name, item, Precondition::Absent).await
    }

    /// What is there already is not written again.
    async fn replace(&self, name: SecretName, item: Item) -> Result<(), CliError> {
        let now = self.vault.now();
        let permit = self.principal.may_read(self.tenant, name.clone(), now).map_err(internal)?;
        let there = self.vault.read(&permit, now).await.map_err(internal)?;
        if there.is_some_and(|there| is_same(&there, &item)) {
            return Ok(());
        }
        self.write(name, item, Precondition::None).await
    }

    /// Where the precondition holds.
    async fn write(
        &self,
        name: SecretName,
        item: Item,
        precondition: Precondition,
    ) -> Result<(), CliError> {
        let Item { name: shown, value, window } = item;
        let now = self.vault.now();
        let permit = self.principal.may_write(self.tenant, name, now).map_err(internal)?;
        let new = NewSecret { value, window };
        match self.vault.write(&permit, new, precondition, now).await {
            Ok(_) | Err(VaultError::PreconditionFailed) => Ok(()),
            Err(error) => Err(internal(format!("'{}' was not stored: {error}", shown.as_str()))),
        }
    }

    /// What there is to list; that it cannot be listed keeps no store from serving.
    pub(super) async fn holds(&self) -> Holds {
        match self.vault.rows_of(self.tenant).await {
            Some(rows) if rows > MOST_ROWS => Holds::Many,
            _ => self.listed().await,
        }
    }

    async fn listed(&self) -> Holds {
        let (mut names, now) = (Names::default(), self.vault.now());
        let request = ListRequest { prefix: self.prefix.clone(), ..ListRequest::default() };
        let Ok(permit) = self.principal.may_list(self.tenant, now) else {
            return Holds::These(names);
        };
        match self.vault.list(&permit, &request, now).await {
            Ok(page) if page.more => return Holds::Many,
            Ok(page) => page.names.iter().for_each(|name| names.add(self.shown(name))),
            Err(error) => log::warn!("the secrets could not be listed: {error}"),
        }
        Holds::These(names)
    }

    fn shown<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.prefix.as_str()).unwrap_or(name)
    }
}

fn is_same(there: &Secret, item: &Item) -> bool {
    let (old, new) = (there.value.as_ref(), item.value.as_ref());
    old.map(SecretValue::expose) == new.map(SecretValue::expose) && there.window == item.window
}
