//! Where the KEK comes from: one [`Source`] for each word that `kek.source` can be, and
//! what an operator does about the KEK.
//!
//! A source is asked before a store is opened, since a missing KEK should be told at
//! once; what it gave is held against the store's [`KekRecord`] afterwards. Whatever
//! goes wrong is said in a sentence that holds nothing of what was read.

mod check;
mod command;
mod credential;
mod env;
mod file;
mod passphrase;
mod prompt;
mod reach;
mod replace;
mod rewrap;
mod rotate;
mod shamir;

use std::path::{Path, PathBuf};

pub(in crate::cli) use check::run;
pub(in crate::cli) use file::from_named_file;

use super::clock::SystemClock;
use super::failure::CliError;
use super::shares::Input;
use crate::config::{Config, KekSource};
use crate::crypto::{Kek, KekOrigin, KekRecord, KekWay};
use crate::domain::Clock;

/// One way to come by a KEK.
trait Source {
    /// Gets what the KEK of an existing store is made of.
    fn fetch(&self) -> Result<Box<dyn Material>, CliError>;

    /// A KEK for a new store, made where this source can make one.
    fn create(&self) -> Result<NewKek, CliError>;

    /// How the KEK is protected, and what happens if it is lost, for people.
    fn protection(&self) -> String;
}

/// What a source gave, which becomes a KEK where it is known of which store.
trait Material {
    /// The KEK that the record is of; `None` where this gives another.
    fn prove(self: Box<Self>, record: &KekRecord) -> Result<Option<Proved>, CliError>;
}

/// The KEK of a store or of a backup.
pub(super) struct Proved {
    pub(super) kek: Kek,
    /// How it was come by now, which need not be how it was when the record was made.
    way: KekWay,
}

impl Proved {
    /// For a store that comes under it now.
    pub(super) fn origin(&self) -> KekOrigin {
        origin(self.way)
    }
}

/// A KEK that no store is under yet.
pub(super) struct NewKek {
    pub(super) kek: Kek,
    pub(super) way: KekWay,
    /// Where it was made; `None` where it was there.
    pub(super) created: Option<PathBuf>,
}

impl From<Proved> for NewKek {
    fn from(Proved { kek, way }: Proved) -> Self {
        Self { kek, way, created: None }
    }
}

impl NewKek {
    pub(super) fn origin(&self) -> KekOrigin {
        origin(self.way)
    }
}

fn origin(way: KekWay) -> KekOrigin {
    KekOrigin { way, since: SystemClock.read().wall }
}

fn source(config: &Config) -> Box<dyn Source> {
    source_beside(config, Input::Free)
}

fn source_beside(config: &Config, input: Input) -> Box<dyn Source> {
    let kek = &config.kek;
    match kek.source {
        KekSource::File => Box::new(file::Source(kek.file.clone())),
        KekSource::Env => Box::new(env::Source(kek.env.clone())),
        KekSource::Credential => Box::new(credential::Source(kek.credential.clone())),
        KekSource::Passphrase => Box::new(passphrase::Source { descriptor: kek.passphrase_fd }),
        KekSource::Command => {
            Box::new(command::Source { words: kek.command.clone(), timeout: kek.command_timeout })
        }
        KekSource::Shamir => Box::new(shamir::Source { input }),
    }
}

/// What a source gave.
pub(super) struct Fetched {
    material: Box<dyn Material>,
    /// `None`: a file that was named for this once.
    source: Option<KekSource>,
}

/// Asks the configured source for the KEK of an existing store.
pub(super) fn fetch(config: &Config) -> Result<Fetched, CliError> {
    fetch_beside(config, Input::Free)
}

/// The same for a command to which standard input may belong.
pub(super) fn fetch_beside(config: &Config, input: Input) -> Result<Fetched, CliError> {
    let material = source_beside(config, input).fetch()?;
    Ok(Fetched { material, source: Some(config.kek.source) })
}

/// The KEK in a file that was named instead of the configured source.
pub(super) fn fetch_from(file: &Path) -> Result<Fetched, CliError> {
    let kek = from_named_file(file)?;
    Ok(Fetched { material: Box::new(Plain { kek, way: KekWay::File }), source: None })
}

/// A KEK for a new store, from the configured source.
pub(super) fn create(config: &Config) -> Result<NewKek, CliError> {
    source(config).create()
}

/// How the configured KEK is protected, and what happens if it is lost.
pub(super) fn protection(config: &Config) -> String {
    source(config).protection()
}

impl Fetched {
    /// The KEK of the store in `place`.
    pub(super) fn prove(self, place: &Path, record: &KekRecord) -> Result<Proved, CliError> {
        let Self { material, source } = self;
        material.prove(record)?.ok_or_else(|| {
            let why = wrong(source, record, "this store");
            CliError::usage(format!("{}: {why}", place.display()))
        })
    }

    /// The KEK of a backup.
    pub(super) fn prove_backup(self, record: &KekRecord) -> Result<Proved, CliError> {
        let Self { material, source } = self;
        material.prove(record)?.ok_or_else(|| {
            CliError::usage(format!(
                "the backup was made under another KEK: {}; a file that holds the one of its time \
                 is named with --kek-file, in a restore with --backup-kek-file",
                wrong(source, record, "the backup")
            ))
        })
    }
}

/// Why what was given is another KEK, as far as the record tells.
fn wrong(source: Option<KekSource>, record: &KekRecord, of: &str) -> String {
    let what = match source {
        Some(KekSource::Passphrase) => {
            format!("this is not the passphrase, and so not the KEK of {of}")
        }
        _ => format!("this is not the KEK of {of}"),
    };
    match (source.map(KekSource::as_str), &record.origin) {
        (Some(here), Some(KekOrigin { way, since })) if way.word() != here => format!(
            "{what}: that comes from {0} since {since}, and kek.source is \"{here}\"; set \
             kek.source = \"{0}\" and what goes with it",
            way.word()
        ),
        (Some("passphrase"), Some(KekOrigin { since, .. })) => {
            format!("{what}; give the one that was chosen on {since}")
        }
        (_, Some(KekOrigin { since, .. })) => {
            format!("{what}, which is under its KEK since {since}; look at what kek.source names")
        }
        (_, None) => format!("{what}; look at kek.source and what it names"),
    }
}

/// A KEK that was read as it is.
struct Plain {
    kek: Kek,
    way: KekWay,
}

impl Material for Plain {
    fn prove(self: Box<Self>, record: &KekRecord) -> Result<Option<Proved>, CliError> {
        let Self { kek, way } = *self;
        Ok(record.is_of(&kek).then_some(Proved { kek, way }))
    }
}

/// Refuses what is the key itself where the name of its place belongs: every message
/// about the place would show it.
fn refuse_key_as_name(key: &str, name: &str) -> Result<(), CliError> {
    if Kek::parse(name).is_err() {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "{key} holds a key, and it must name the place that holds the key; as that key has been \
         in a configuration, do not use it"
    )))
}

const LOST: &str = "If it is lost, nothing that is stored can be read again, by anyone, and no \
                    backup of it either: keep a copy of the key apart from the data and its \
                    backups.";
