//! The secrets that a command is given, as a server has them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::several::read_all;
use super::super::target::Names;
use super::variables::{Others, Wanted};
use crate::client::{Client, ClientError, Description, State, Version};
use crate::domain::{
    NamePrefix, Now, SecretName, SecretValue, Timestamp, ValidityWindow, WindowState,
};

pub(super) type Secrets = BTreeMap<SecretName, Held>;

#[derive(Debug)]
pub(super) struct Held {
    pub(super) value: Option<SecretValue>,
    pub(super) window: ValidityWindow,
    /// `None` of one that comes from a copy.
    pub(super) version: Option<Version>,
}

/// Takes out what is outside its window. Whether there was any.
pub(super) fn drop_invalid(secrets: &mut Secrets, now: Timestamp) -> bool {
    let before = secrets.len();
    let now = Now::undisputed(now);
    secrets.retain(|_, held| held.window.state_at(now) == WindowState::Valid);
    secrets.len() < before
}

/// Where they come from.
pub(super) struct Source {
    pub(super) client: Client,
    pub(super) names: Names,
    pub(super) wanted: Wanted,
    /// What the others' names begin with.
    pub(super) below: NamePrefix,
}

/// What was read.
pub(super) struct Fetched {
    pub(super) secrets: Secrets,
    /// When the next one becomes valid, as far as a list says.
    pub(super) opens: Option<Timestamp>,
}

impl Source {
    pub(super) async fn fetch(&self) -> Result<Fetched, ClientError> {
        self.is_there()?;
        let mut asked: BTreeSet<SecretName> = self.wanted.named.values().cloned().collect();
        let mut opens = None;
        if self.wanted.others == Others::Given {
            let listed = self.client.all_descriptions(&self.below).await?;
            opens = opening(&listed);
            asked.extend(listed.into_iter().filter(is_valid).map(|described| described.name));
        }
        let asked: Vec<_> = asked.into_iter().collect();
        let read = read_all(&self.client, &asked).await?;
        // One that is not there any more is as one that was not listed.
        let secrets = asked.into_iter().zip(read).filter_map(|(name, secret)| {
            let secret = secret?;
            let version = Some(secret.version);
            Some((name, Held { value: secret.value, window: secret.window, version }))
        });
        Ok(Fetched { secrets: secrets.collect(), opens })
    }

    fn is_there(&self) -> Result<(), ClientError> {
        let place = &self.names.place;
        if place.source.is_there() {
            return Ok(());
        }
        let (address, cause) = (place.address.to_string(), "its server has ended".to_owned());
        Err(ClientError::Unreachable { address, cause })
    }

    /// Whether [`Self::fetch`] would find others than these; without their values.
    pub(super) async fn differs(&self, from: &Secrets) -> Result<Difference, ClientError> {
        self.is_there()?;
        let mut versions = BTreeMap::new();
        let mut opens = None;
        match self.wanted.others {
            Others::Given => {
                let listed = self.client.all_descriptions(&self.below).await?;
                opens = opening(&listed);
                let valid = listed.into_iter().filter(is_valid);
                versions.extend(valid.map(|described| (described.name, described.version)));
            }
            Others::LeftOut => {
                for name in self.wanted.named.values() {
                    let described = self.client.describe(name).await?;
                    versions.extend(described.map(|(version, _)| (name.clone(), version)));
                }
            }
        }
        let same = versions.len() == from.len()
            && from.iter().all(|(name, held)| versions.get(name) == held.version.as_ref());
        Ok(if same { Difference::None { opens } } else { Difference::Some })
    }
}

pub(super) enum Difference {
    None { opens: Option<Timestamp> },
    Some,
}

fn is_valid(described: &Description) -> bool {
    described.state == State::Valid
}

fn opening(listed: &[Description]) -> Option<Timestamp> {
    let later = listed.iter().filter(|described| !is_valid(described));
    later.filter_map(|described| described.window.not_before()).min()
}
