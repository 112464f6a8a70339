//! A store whose KEK is in question: behind the server that runs on it, or opened here.

use std::fs::File;
use std::sync::Arc;

use super::super::access;
use super::super::data::{DataFolder, cannot};
use super::super::internal;
use super::{CliError, Fetched, NewKek, fetch};
use crate::api::admin::{Command, HiddenText, Reply};
use crate::config::Config;
use crate::crypto::{Kek, KekRecord};
use crate::http::{AdminClient, AdminError};
use crate::store::Store;
use crate::vault::key_commands;
use crate::vault::maintenance::{self, Exchange};

pub(super) struct Reached<'a> {
    folder: &'a DataFolder,
    config: &'a Config,
    record: KekRecord,
    way: Way,
}

enum Way {
    Server(AdminClient),
    Here(Arc<dyn Store>),
}

impl<'a> Reached<'a> {
    pub(super) async fn reach(
        folder: &'a DataFolder,
        config: &'a Config,
    ) -> Result<Self, CliError> {
        match AdminClient::connect(folder.path())? {
            Some(client) => Self::behind(client, folder, config),
            None => Self::here(folder, config).await,
        }
    }

    /// Also asks for the KEK that the store is under, where no server has it.
    pub(super) async fn reach_with_kek(
        folder: &'a DataFolder,
        config: &'a Config,
    ) -> Result<(Self, Option<Fetched>), CliError> {
        match AdminClient::connect(folder.path())? {
            Some(client) => Ok((Self::behind(client, folder, config)?, None)),
            None => {
                let kek = fetch(config)?;
                Ok((Self::here(folder, config).await?, Some(kek)))
            }
        }
    }

    fn behind(
        client: AdminClient,
        folder: &'a DataFolder,
        config: &'a Config,
    ) -> Result<Self, CliError> {
        let reply = client.send(&Command::KekStatus, None, None, &mut |_| {})?;
        let Reply::Kek(status) = reply else { return Err(misunderstood()) };
        let record = key_commands::record(&status).ok_or_else(misunderstood)?;
        Ok(Self { folder, config, record, way: Way::Server(client) })
    }

    async fn here(folder: &'a DataFolder, config: &'a Config) -> Result<Self, CliError> {
        let store = folder.open(config).await?;
        let record = access::kek_record(folder, &*store).await;
        let record = access::or_close(&store, record).await?;
        Ok(Self { folder, config, record, way: Way::Here(store) })
    }

    /// What the store said of its KEK when it was reached.
    pub(super) fn record(&self) -> &KekRecord {
        &self.record
    }

    /// Closes the store where there is nothing to go on with.
    pub(super) async fn go_on<T>(self, with: Result<T, CliError>) -> Result<(Self, T), CliError> {
        match with {
            Ok(with) => Ok((self, with)),
            Err(error) => {
                self.close().await;
                Err(error)
            }
        }
    }

    /// Puts the store under `new`, and closes it. `old`, which was proved, opens it where
    /// no server has it open.
    pub(super) async fn replace(self, old: Option<&Kek>, new: &NewKek) -> Result<(), CliError> {
        let command = Command::KekReplace {
            kek: HiddenText::new(&new.kek.to_text()),
            origin: hex::encode(new.origin().encode()),
        };
        match &self.way {
            Way::Server(client) => match client.send(&command, None, None, &mut |_| {}) {
                Ok(_) => Ok(()),
                Err(AdminError::Failed(failure)) => Err(failure.into()),
                Err(error) => {
                    let CliError { exit, message } = error.into();
                    let message = format!(
                        "{message}; whether the KEK was replaced is not known: give the same \
                         command again, it finds out and goes on"
                    );
                    Err(CliError { exit, message })
                }
            },
            Way::Here(store) => {
                let old = old.ok_or_else(|| internal("the store was reached without its KEK"))?;
                let opened = access::open_under(self.folder, self.config, old, store).await;
                let vault = access::or_close(store, opened).await?;
                let exchange = Exchange::none().for_caller(access::here_by());
                let done = maintenance::execute(&vault, command, exchange).await;
                vault.close().await;
                Ok(done.map(drop)?)
            }
        }
    }

    pub(super) async fn close(self) {
        if let Way::Here(store) = self.way {
            store.close().await;
        }
    }
}

fn misunderstood() -> CliError {
    CliError::unavailable(AdminError::Answer)
}

/// Keeps out others that would replace the KEK of the same store, as long as it lives:
/// two that write the next KEK at once could each lose the other's.
pub(super) fn alone(folder: &DataFolder) -> Result<File, CliError> {
    let failed = |error: std::io::Error| cannot("lock", folder.path(), &error);
    let lock = File::open(folder.path()).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(CliError::unavailable(
            "another 'tenure kek' replaces the KEK of this store; wait for it",
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(internal(error)),
    }
}
