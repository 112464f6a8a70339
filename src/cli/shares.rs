//! Shares of a KEK at the command line: handed out when a store is made, and gathered
//! where no server runs that could be given them.

use std::fs::DirBuilder;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{InitArgs, SplitArgs};
use super::clock::SystemClock;
use super::data::{DataFolder, cannot, write_private};
use super::failure::CliError;
use super::maintain::Output;
use super::serve::Made;
use super::{access, internal, prompt};
use crate::config::{Config, KekSource};
use crate::crypto::{Gathered, Gathering, Kek, KekWay, Share, ShareSet, StoreId, split};
use crate::store::Store;
use crate::vault::{OpenError, Vault};

/// A KEK for a new store that will be nowhere but in its shares.
pub(super) struct SplitKek {
    /// Where each share goes to a file of its own.
    folder: Option<PathBuf>,
    store: StoreId,
    set: ShareSet,
    kek: Kek,
    shares: Vec<Share>,
}

/// What a script gets of them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandedOut<'s> {
    data: &'s str,
    kek_created: Option<String>,
    threshold: u8,
    /// `None` where each went to a file.
    shares: Option<Vec<&'s str>>,
}

/// `None` where the KEK of a new store does not come from shares.
pub(super) fn wanted(args: &InitArgs, config: &Config) -> Result<Option<SplitKek>, CliError> {
    if config.kek.source == KekSource::Shamir {
        let set = set_of(&args.split, None)?;
        return Ok(Some(SplitKek::draw(StoreId::generate(), set, &args.split)));
    }
    refuse_split(&args.split)?;
    Ok(None)
}

/// What is said of shares means nothing where the KEK is not in any.
pub(super) fn refuse_split(args: &SplitArgs) -> Result<(), CliError> {
    let SplitArgs { shares, threshold, shares_dir } = args;
    if shares.is_none() && threshold.is_none() && shares_dir.is_none() {
        return Ok(());
    }
    Err(CliError::usage(
        "--shares, --threshold and --shares-dir are for a KEK in shares; set kek.source = \
         \"shamir\", or TENURE_KEK_SOURCE",
    ))
}

/// A new set; `before` is the one that it replaces.
pub(super) fn set_of(args: &SplitArgs, before: Option<ShareSet>) -> Result<ShareSet, CliError> {
    let (most, least) = before.map_or((5, 3), |set| (set.shares, set.threshold));
    let set = ShareSet::draw(args.threshold.unwrap_or(least), args.shares.unwrap_or(most));
    set.map_err(|error| CliError::usage(format!("--shares, --threshold: {error}")))
}

impl SplitKek {
    /// A KEK for a store, in shares of `set`.
    pub(super) fn draw(store: StoreId, set: ShareSet, args: &SplitArgs) -> Self {
        let kek = Kek::generate();
        let shares = split(&kek, store, set);
        Self { folder: args.shares_dir.clone(), store, set, kek, shares }
    }

    /// What a store is to come under, once its shares were handed out.
    pub(super) fn into_kek(self) -> (Kek, KekWay) {
        (self.kek, KekWay::Shamir(self.set))
    }

    /// Makes the store. The shares come first: a store without them could never be
    /// opened.
    pub(super) async fn make(
        &self,
        folder: &DataFolder,
        store: &Arc<dyn Store>,
        output: Output,
    ) -> Result<Made, CliError> {
        let failed = |error: OpenError| access::refused(&error, folder);
        if Vault::exists(&**store).await.map_err(failed)? {
            return Ok(Made::Before);
        }
        let begun = Vault::kek_record(&**store).await.map_err(failed)?;
        if begun.is_some_and(|record| record.origin.is_some()) {
            return Err(CliError::usage(format!(
                "the making of a store in {0} was interrupted, and the shares of then are of no \
                 use: remove {0}, which holds nothing yet, and run this again",
                folder.path().display()
            )));
        }
        self.hand_out(folder.path(), output)?;
        let (store, way) = (Arc::clone(store), KekWay::Shamir(self.set));
        let made = Vault::init_as(store, self.store, &self.kek, way, &SystemClock).await;
        made.map_err(failed).map(|()| Made::Split)
    }

    /// Shows each share, or writes each to a file.
    pub(super) fn hand_out(&self, data: &Path, output: Output) -> Result<(), CliError> {
        let texts: Vec<_> = self.shares.iter().map(Share::to_text).collect();
        let shown = match &self.folder {
            Some(folder) => write_each(folder, data, &texts).map(|()| None)?,
            None => Some(texts.as_slice()),
        };
        let data = data.display().to_string();
        let answer = HandedOut {
            data: &data,
            kek_created: None,
            threshold: self.set.threshold,
            shares: shown.map(|texts| texts.iter().map(|text| text.as_str()).collect()),
        };
        output.show(&answer, || self.explanation(shown.unwrap_or_default()))
    }

    /// Who should have them, and what comes of losing them.
    fn explanation(&self, shown: &[Zeroizing<String>]) -> String {
        let ShareSet { threshold, shares, .. } = self.set;
        let room: usize = shown.iter().map(|text| text.len() + 64).sum();
        // Reserved at once: a text that grows leaves shares behind.
        let mut text = String::with_capacity(room + 2048);
        for (number, share) in (1..).zip(shown) {
            text += &format!("share {number} of {shares}\n\n");
            text += share;
            text += "\n\n\n";
        }
        if let Some(folder) = &self.folder {
            text += &format!("wrote {shares} shares to {}, a file each\n\n", folder.display());
        }
        let lost = match shares - threshold {
            0 => "a single share is".to_owned(),
            1 => "more than one share is".to_owned(),
            spare => format!("more than {spare} shares are"),
        };
        text += &format!(
            "Any {threshold} of these {shares} shares are the key of the store; fewer say nothing \
             of it. Give each to\nanother person, who keeps it apart from the others and from the \
             data. Keep no copy.\nThe key itself is stored nowhere: if {lost} lost, nobody can ever \
             read the store\nagain, nor its backups, which need the same shares.\n\n"
        );
        text
    }
}

fn write_each(folder: &Path, data: &Path, texts: &[Zeroizing<String>]) -> Result<(), CliError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| cannot("make", folder, &error))?;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(folder).starts_with(real(data)) {
        return Err(CliError::usage(
            "--shares-dir lies inside the data folder, so a copy of the data would hold its key; \
             name another",
        ));
    }
    for (number, text) in (1..).zip(texts) {
        let path = folder.join(format!("share-{number}-of-{}.txt", texts.len()));
        if path.exists() {
            return Err(CliError::usage(format!(
                "{} exists, and may be a share of another store; name an empty folder",
                path.display()
            )));
        }
        let line = Zeroizing::new(format!("{}\n", text.as_str()));
        write_private(&path, line.as_bytes())?;
    }
    Ok(())
}

/// Asks whether every share is where it belongs: from the next step on, the store hangs
/// on them. Where nobody can be asked, who runs this has kept what was printed.
pub(super) fn confirm_kept() -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    let ask = "Type kept when each share is where it belongs; the old key holds until then: ";
    if prompt::typed(ask)?.trim() == "kept" {
        return Ok(());
    }
    Err(CliError::usage("nothing was changed: these shares are of no use, and the old key holds"))
}

/// Whether a command leaves standard input alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Free,
    /// It may hold the file that the command reads.
    Taken,
}

/// Asks for shares until they make up a KEK. At a terminal a wrong one is told and
/// asked for again.
pub(super) fn gather(mut gathering: Gathering, input: Input) -> Result<Kek, CliError> {
    let way_out = "or start 'tenure serve', give it the shares with 'tenure unseal', and run this \
                   again";
    let at_terminal = std::io::stdin().is_terminal();
    if input == Input::Taken && !at_terminal {
        return Err(CliError::usage(format!(
            "this store is opened with shares, and standard input may hold the file: run this at a \
             terminal, {way_out}"
        )));
    }
    loop {
        let missing = gathering.missing();
        let question = format!("{missing} shares are missing. One of them: ");
        let Some(line) = prompt::hidden_line(&question)? else {
            return Err(CliError::usage(format!(
                "{missing} more shares are needed to open this store: type them at a terminal, pipe \
                 them in, one on each line, {way_out}"
            )));
        };
        let share = Share::parse(&line).map_err(CliError::usage);
        match share.and_then(|share| gathering.give(share).map_err(CliError::usage)) {
            Ok(Gathered::Proved(kek)) => return Ok(kek),
            Ok(Gathered::Missing(_)) => {}
            Err(error) if at_terminal => say(&error.message)?,
            Err(error) => return Err(error),
        }
    }
}

fn say(message: &str) -> Result<(), CliError> {
    writeln!(std::io::stderr(), "{message}").map_err(internal)
}
