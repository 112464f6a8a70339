//! A new KEK for a store: what `tenure kek rotate` and `tenure kek rewrap` have in common.
//!
//! The new KEK is where it will be read from, or in the operator's hands, before the
//! store comes under it. So whatever breaks off, one of the two opens the store, and the
//! same command again finds out which and goes on.

use std::io::Read;
use std::path::Path;

use serde::Serialize;
use zeroize::Zeroizing;

use super::super::args::SplitArgs;
use super::super::maintain::Output;
use super::super::shares::{self, SplitKek};
use super::file;
use super::reach::Reached;
use super::{CliError, Fetched, NewKek};
use crate::config::KekSource;
use crate::crypto::{Gathering, Kek, KekRecord, KekWay};

/// What was done, or would be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replaced {
    pub(super) dry_run: bool,
    /// Not where an earlier run had replaced it.
    pub(super) replaced: bool,
    pub(super) source: &'static str,
    /// Of the new KEK; `None` where it is not made yet.
    pub(super) fingerprint: Option<String>,
    pub(super) old_fingerprint: String,
    /// Where the new KEK is, if that is a file.
    pub(super) kek_file: Option<String>,
    /// Where the old one is kept, if it was in a file.
    pub(super) old_kek_file: Option<String>,
    /// What is left to do, for people.
    #[serde(skip)]
    pub(super) next: String,
}

impl Replaced {
    pub(super) fn of(record: &KekRecord, source: KekSource) -> Self {
        Self {
            dry_run: false,
            replaced: true,
            source: source.as_str(),
            fingerprint: None,
            old_fingerprint: record.fingerprint(),
            kek_file: None,
            old_kek_file: None,
            next: String::new(),
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { dry_run, replaced, source, fingerprint, old_fingerprint, next, .. } = self;
        let new = fingerprint.as_ref().map_or(String::new(), |print| format!(" ({print})"));
        match (dry_run, replaced) {
            (true, _) => format!(
                "would put the store under a new KEK{new} from kek.source = \"{source}\", instead \
                 of {old_fingerprint}\n{next}"
            ),
            (false, true) => format!(
                "the store is under a new KEK{new} from kek.source = \"{source}\", and the old one \
                 ({old_fingerprint}) opens nothing of it any more\n{next}"
            ),
            (false, false) => {
                format!(
                    "the store was put under this KEK{new} before; nothing was left to replace\n{next}"
                )
            }
        }
    }
}

pub(super) const BACKUPS: &str =
    "backups made until now need the old KEK: keep it as long as them\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Replace,
    LookOnly,
}

impl Mode {
    pub(super) fn of(dry_run: bool) -> Self {
        if dry_run { Self::LookOnly } else { Self::Replace }
    }
}

/// What the store is to come under.
pub(super) struct Change {
    pub(super) source: KekSource,
    /// It is where it belongs, or in the operator's hands.
    pub(super) new: NewKek,
    /// What is left to do then, for people.
    pub(super) next: String,
    pub(super) mode: Mode,
}

/// Puts the store in `place` under another KEK, unless it is so already.
pub(super) async fn put_under(
    place: &Path,
    reached: Reached<'_>,
    present: Option<Fetched>,
    change: Change,
) -> Result<Replaced, CliError> {
    let Change { source, new, next, mode } = change;
    let record = reached.record().clone();
    let mut done = Replaced { next, ..Replaced::of(&record, source) };
    done.fingerprint = Some(record.fingerprint_of(&new.kek));
    done.dry_run = mode == Mode::LookOnly;
    if record.is_of(&new.kek) {
        reached.close().await;
        done.replaced = false;
        return Ok(done);
    }
    let (reached, old) = reached.go_on(prove(present, place, &record)).await?;
    match mode {
        Mode::LookOnly => reached.close().await,
        Mode::Replace => reached.replace(old.as_ref(), &new).await?,
    }
    Ok(done)
}

/// The shares that a store is to come under.
pub(super) struct NewShares<'a> {
    pub(super) split: &'a SplitArgs,
    /// What is left to do then, for people.
    pub(super) next: String,
    pub(super) mode: Mode,
    pub(super) output: Output,
}

/// Puts the store under a KEK in new shares, which are handed out first, and says so. For
/// a script the shares are the answer.
pub(super) async fn put_in_shares(
    place: &Path,
    reached: Reached<'_>,
    present: Option<Fetched>,
    new: NewShares<'_>,
) -> Result<(), CliError> {
    let NewShares { split, next, mode, output } = new;
    let record = reached.record().clone();
    let mut done = Replaced { next, ..Replaced::of(&record, KekSource::Shamir) };
    let before = Gathering::of(&record).map(|gathering| gathering.set());
    let (reached, set) = reached.go_on(shares::set_of(split, before)).await?;
    let (reached, old) = reached.go_on(prove(present, place, &record)).await?;
    if mode == Mode::LookOnly {
        reached.close().await;
        done.dry_run = true;
        done.next = format!(
            "it would be in {} shares, of which {} are needed, and they would be shown first\n",
            set.shares, set.threshold
        );
        return output.show(&done, || done.text());
    }
    let split = SplitKek::draw(record.store_id, set, split);
    let kept = split.hand_out(place, output).and_then(|()| shares::confirm_kept());
    let (reached, ()) = reached.go_on(kept).await?;
    let (kek, way) = split.into_kek();
    let new = NewKek { kek, way, created: None };
    done.fingerprint = Some(record.fingerprint_of(&new.kek));
    done.next += "shares of before are of no use any more, but for backups of before\n";
    reached.replace(old.as_ref(), &new).await?;
    if output.json {
        return Ok(());
    }
    output.show(&done, || done.text())
}

/// A KEK that somebody has as it is, is in no shares.
pub(super) fn refuse_given(given: bool) -> Result<(), CliError> {
    if given {
        return Err(CliError::usage(
            "--new-kek does not go with kek.source = \"shamir\": a KEK in shares is drawn here, and \
             nobody has it whole",
        ));
    }
    Ok(())
}

/// `None` where a server has the store open.
pub(super) fn prove(
    present: Option<Fetched>,
    place: &Path,
    record: &KekRecord,
) -> Result<Option<Kek>, CliError> {
    present.map(|present| Ok(present.prove(place, record)?.kek)).transpose()
}

/// Of what is given for a KEK.
const MOST_BYTES: usize = 1024;

/// The new KEK in a file, or on standard input.
pub(super) fn given(file: &Path) -> Result<Kek, CliError> {
    if file != Path::new("-") {
        return file::from_named_file(file);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MOST_BYTES));
    let read = std::io::stdin().lock().take(MOST_BYTES as u64).read_to_end(&mut text);
    read.map_err(|error| CliError::usage(format!("standard input cannot be read: {error}")))?;
    let text = std::str::from_utf8(&text).unwrap_or_default();
    Kek::parse(text).map_err(|error| CliError::usage(format!("--new-kek -: {error}")))
}

pub(super) fn way_of(source: KekSource) -> KekWay {
    match source {
        KekSource::Env => KekWay::Env,
        KekSource::Credential => KekWay::Credential,
        KekSource::Command => KekWay::Command,
        // Of a passphrase and of shares nobody is given a key.
        KekSource::File | KekSource::Passphrase | KekSource::Shamir => KekWay::File,
    }
}
