//! `tenure kek rotate` and `tenure kek rewrap`: a new KEK, from the same source or from
//! another one.
//!
//! The new KEK is where it will be read from, or in the operator's hands, before the
//! store comes under it. So whatever breaks off, one of the two opens the store, and the
//! same command again finds out which and goes on.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

use super::super::access::{self, DevStore};
use super::super::args::{RewrapArgs, RotateArgs};
use super::super::maintain::Output;
use super::super::process;
use super::file::{self, Old, Place};
use super::passphrase;
use super::reach::{self, Reached};
use super::{CliError, Fetched, NewKek, source};
use crate::config::{Config, KekSource};
use crate::crypto::{Kek, KekRecord, KekWay};

/// What was done, or would be.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replaced {
    dry_run: bool,
    /// Not where an earlier run had replaced it.
    replaced: bool,
    source: &'static str,
    /// Of the new KEK; `None` where it is not made yet.
    fingerprint: Option<String>,
    old_fingerprint: String,
    /// Where the new KEK is, if that is a file.
    kek_file: Option<String>,
    /// Where the old one is kept, if it was in a file.
    old_kek_file: Option<String>,
    #[serde(skip)]
    next: String,
}

impl Replaced {
    fn of(record: &KekRecord, source: KekSource) -> Self {
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

    fn text(&self) -> String {
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

const BACKUPS: &str = "backups made until now need the old KEK: keep it as long as them\n";

pub(super) async fn rotate(args: RotateArgs, output: Output) -> Result<(), CliError> {
    let config = access::configure(&args.store, DevStore::Allowed, Vec::new())?;
    process::log_to_stderr(log::LevelFilter::Warn);
    let folder = access::enter(&config)?;
    let _alone = reach::alone(&folder)?;
    refuse_idle_options(&args, config.kek.source)?;
    let given = args.new_kek.as_deref().map(given).transpose()?;
    let old = if args.discard_old { Old::Removed } else { Old::Kept };
    let mode = if args.dry_run { Mode::LookOnly } else { Mode::Replace };
    let done = match (config.kek.source, given) {
        (KekSource::File, given) => {
            let files = Files::look_at(Place::of(config.kek.file.as_deref())?)?;
            let reached = Reached::reach(&folder, &config).await?;
            files.rotate(folder.path(), reached, given, old, mode).await?
        }
        (KekSource::Passphrase, _) => {
            let descriptor = args.new_passphrase_fd;
            refuse_one_descriptor_for_two(config.kek.passphrase_fd, descriptor)?;
            let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
            rotate_passphrase(folder.path(), reached, present, descriptor, mode).await?
        }
        (KekSource::Env | KekSource::Credential | KekSource::Command, Some(kek)) => {
            let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
            let new = NewKek { kek, way: way_of(config.kek.source), created: None };
            let next = put_there(&config);
            put_under(folder.path(), reached, present, (config.kek.source, new), next, mode).await?
        }
        (source, None) => {
            return Err(CliError::usage(format!(
                "kek.source is \"{}\", where no new KEK can be written from here: make one with \
                 'tenure kek generate', keep it, and name it with --new-kek FILE",
                source.as_str()
            )));
        }
    };
    output.show(&done, || done.text())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Replace,
    LookOnly,
}

fn refuse_idle_options(args: &RotateArgs, source: KekSource) -> Result<(), CliError> {
    let is = source.as_str();
    let refused = |option: &str, needs: &str| {
        Err(CliError::usage(format!("{option} goes with kek.source = {needs}, and it is \"{is}\"")))
    };
    match source {
        KekSource::Passphrase if args.new_kek.is_some() => {
            refused("--new-kek", "\"file\", \"env\", \"credential\" or \"command\"")
        }
        KekSource::Passphrase => Ok(()),
        _ if args.new_passphrase_fd.is_some() => refused("--new-passphrase-fd", "\"passphrase\""),
        KekSource::File => Ok(()),
        _ if args.discard_old => refused("--discard-old", "\"file\""),
        _ => Ok(()),
    }
}

/// Which of the two lines would be read first depends on whether a server runs.
fn refuse_one_descriptor_for_two(present: Option<u32>, new: Option<u32>) -> Result<(), CliError> {
    if new.is_none() || new != present {
        return Ok(());
    }
    Err(CliError::usage(
        "--new-passphrase-fd and kek.passphrase_fd name one descriptor: give each its own",
    ))
}

/// The new KEK in a file, or on standard input.
fn given(file: &Path) -> Result<Kek, CliError> {
    if file != Path::new("-") {
        return file::from_named_file(file);
    }
    const MOST_BYTES: usize = 1024;
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MOST_BYTES));
    let read = std::io::stdin().lock().take(MOST_BYTES as u64).read_to_end(&mut text);
    read.map_err(|error| CliError::usage(format!("standard input cannot be read: {error}")))?;
    let text = std::str::from_utf8(&text).unwrap_or_default();
    Kek::parse(text).map_err(|error| CliError::usage(format!("--new-kek -: {error}")))
}

fn way_of(source: KekSource) -> KekWay {
    match source {
        KekSource::Env => KekWay::Env,
        KekSource::Credential => KekWay::Credential,
        KekSource::Command => KekWay::Command,
        // Of a passphrase nobody is given a key.
        KekSource::File | KekSource::Passphrase => KekWay::File,
    }
}

/// What the operator does with a KEK that only they can put in its place.
fn put_there(config: &Config) -> String {
    let place = match config.kek.source {
        KekSource::Env => format!("into the variable {} (kek.env)", config.kek.env),
        KekSource::Credential => format!(
            "where the unit's LoadCredential={}:… reads it (kek.credential)",
            config.kek.credential
        ),
        KekSource::Command => "where kek.command reads it".to_owned(),
        KekSource::File | KekSource::Passphrase => "where it is read".to_owned(),
    };
    format!(
        "before the next start, put the new KEK {place}, and prove it with 'tenure kek check'\n\
         {BACKUPS}"
    )
}

/// Puts the store under a KEK that is where it belongs, or in the operator's hands.
async fn put_under(
    place: &Path,
    reached: Reached<'_>,
    present: Option<Fetched>,
    (to, new): (KekSource, NewKek),
    next: String,
    mode: Mode,
) -> Result<Replaced, CliError> {
    let record = reached.record().clone();
    let mut done = Replaced { next, ..Replaced::of(&record, to) };
    done.fingerprint = Some(record.fingerprint_of(&new.kek));
    done.dry_run = mode == Mode::LookOnly;
    if record.is_of(&new.kek) {
        reached.close().await;
        done.replaced = false;
        return Ok(done);
    }
    let old = match prove(present, place, &record) {
        Ok(old) => old,
        Err(error) => {
            reached.close().await;
            return Err(error);
        }
    };
    match mode {
        Mode::LookOnly => reached.close().await,
        Mode::Replace => reached.replace(old.as_ref(), &new).await?,
    }
    Ok(done)
}

/// `None` where a server has the store open.
fn prove(
    present: Option<Fetched>,
    place: &Path,
    record: &KekRecord,
) -> Result<Option<Kek>, CliError> {
    present.map(|present| Ok(present.prove(place, record)?.kek)).transpose()
}

async fn rotate_passphrase(
    place: &Path,
    reached: Reached<'_>,
    present: Option<Fetched>,
    descriptor: Option<u32>,
    mode: Mode,
) -> Result<Replaced, CliError> {
    let record = reached.record().clone();
    // The old one is proved before anybody is asked for a new one.
    let prepared = prove(present, place, &record).and_then(|old| match mode {
        Mode::LookOnly => Ok(None),
        Mode::Replace => {
            let new = passphrase::new_kek(descriptor, "--new-passphrase-fd")?;
            Ok(Some((old, new)))
        }
    });
    let mut done = Replaced::of(&record, KekSource::Passphrase);
    done.next = "backups made until now need the old passphrase: keep it as long as them\n".into();
    match prepared {
        Ok(Some((old, new))) => {
            done.fingerprint = Some(record.fingerprint_of(&new.kek));
            reached.replace(old.as_ref(), &new).await?;
            Ok(done)
        }
        Ok(None) => {
            reached.close().await;
            done.dry_run = true;
            Ok(done)
        }
        Err(error) => {
            reached.close().await;
            Err(error)
        }
    }
}

/// What stands in the file and beside it.
struct Files {
    place: Place,
    current: Result<Kek, CliError>,
    next: Option<Kek>,
}

/// How far a rotation of a file is.
enum Step {
    /// The new KEK is to be written, and all that follows.
    Write(Kek, NewKek),
    /// It is beside the file; the store is to come under it.
    Replace(Kek, NewKek),
    /// The store is under it; the file is to be renamed.
    Settle(Kek),
}

impl Files {
    fn look_at(place: Place) -> Result<Self, CliError> {
        let (current, next) = (place.current(), place.next()?);
        match (current, next) {
            (Err(error), None) => Err(error),
            (current, next) => Ok(Self { place, current, next }),
        }
    }

    async fn rotate(
        self,
        data: &Path,
        reached: Reached<'_>,
        given: Option<Kek>,
        old: Old,
        mode: Mode,
    ) -> Result<Replaced, CliError> {
        let Self { place, current, next } = self;
        let record = reached.record().clone();
        let step = match step(data, &place, &record, (current, next), given) {
            Ok(step) => step,
            Err(error) => {
                reached.close().await;
                return Err(error);
            }
        };
        let mut done = Replaced::of(&record, KekSource::File);
        done.kek_file = Some(place.path().display().to_string());
        if mode == Mode::LookOnly {
            reached.close().await;
            done.dry_run = true;
            done.next = plan(&place, &record, &step, old);
            return Ok(done);
        }
        let new = match step {
            Step::Write(present, new) => {
                if let Err(error) = place.write_next(&new.kek) {
                    reached.close().await;
                    return Err(error);
                }
                reached.replace(Some(&present), &new).await?;
                new.kek
            }
            Step::Replace(present, new) => {
                reached.replace(Some(&present), &new).await?;
                new.kek
            }
            Step::Settle(new) => {
                reached.close().await;
                done.replaced = false;
                new
            }
        };
        done.fingerprint = Some(record.fingerprint_of(&new));
        let kept = place.settle(&record, &new, old).map_err(|CliError { exit, message }| {
            let message = format!(
                "the store is under the new KEK, which is at {} still: {message}; then give the \
                 same command again",
                place.next_path().display()
            );
            CliError { exit, message }
        })?;
        done.next = settled(&place, kept.as_deref(), old);
        done.old_kek_file = kept.map(|kept| kept.display().to_string());
        Ok(done)
    }
}

/// What is left to do, by which KEK proves.
fn step(
    data: &Path,
    place: &Place,
    record: &KekRecord,
    (current, next): (Result<Kek, CliError>, Option<Kek>),
    given: Option<Kek>,
) -> Result<Step, CliError> {
    let unfinished = |what: &str| {
        CliError::usage(format!(
            "{} holds the KEK of a rotation that has not ended, and --new-kek is another: {what}",
            place.next_path().display()
        ))
    };
    if let Some(next) = &next
        && given.as_ref().is_some_and(|given| !given.is(next))
    {
        return Err(unfinished("give the command without it first, or remove that file"));
    }
    match (next, current) {
        (Some(next), _) if record.is_of(&next) => Ok(Step::Settle(next)),
        (next, Ok(present)) if record.is_of(&present) => {
            let of_file = |kek| NewKek { kek, way: KekWay::File, created: None };
            match (next, given) {
                (Some(next), _) => Ok(Step::Replace(present, of_file(next))),
                (None, Some(given)) if given.is(&present) => Err(CliError::usage(
                    "--new-kek is the KEK that the store is under; nothing was changed",
                )),
                (None, given) => {
                    Ok(Step::Write(present, of_file(given.unwrap_or_else(Kek::generate))))
                }
            }
        }
        (_, Err(error)) => Err(error),
        (_, Ok(_)) => {
            let why = super::wrong(Some(KekSource::File), record, "this store");
            Err(CliError::usage(format!("{}: {why}", data.display())))
        }
    }
}

fn plan(place: &Place, record: &KekRecord, step: &Step, old: Old) -> String {
    let (file, next) = (place.path().display(), place.next_path());
    let next = next.display();
    let begun = match step {
        Step::Write(..) => format!("the new KEK would be written to {next}"),
        Step::Replace(..) => format!("the new KEK is at {next}, of a rotation that was broken off"),
        Step::Settle(_) => format!("the store is under the KEK at {next} already"),
    };
    let kept = place.old_path(&record.fingerprint());
    let ended = match old {
        Old::Kept => format!("renamed to {file}, and the old one kept at {}", kept.display()),
        Old::Removed => format!("renamed to {file}, in place of the old one"),
    };
    format!("{begun}; at the end it would be {ended}\n")
}

fn settled(place: &Place, kept: Option<&Path>, old: Old) -> String {
    let file = place.path().display();
    match (kept, old) {
        (Some(kept), _) => {
            format!("the new KEK is at {file}, the old one at {}\n{BACKUPS}", kept.display())
        }
        (None, Old::Kept) => format!("the new KEK is at {file}\n{BACKUPS}"),
        (None, Old::Removed) => format!(
            "the new KEK is at {file}, and the old one was removed: backups made until now can \
             only be read with a copy of it\n"
        ),
    }
}

pub(super) async fn rewrap(args: RewrapArgs, output: Output) -> Result<(), CliError> {
    let config = access::configure(&args.store, DevStore::Allowed, Vec::new())?;
    process::log_to_stderr(log::LevelFilter::Warn);
    let folder = access::enter(&config)?;
    let _alone = reach::alone(&folder)?;
    let to = target(&config, &args)?;
    let given = args.new_kek.as_deref().map(given).transpose()?;
    let mode = if args.dry_run { Mode::LookOnly } else { Mode::Replace };
    let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
    let new = new_for(&to, given, args.new_passphrase_fd, mode);
    let next = change_configuration(&to);
    let new = match new {
        Ok(Some(new)) => new,
        Ok(None) => {
            let record = reached.record().clone();
            reached.close().await;
            prove(present, folder.path(), &record)?;
            let mut done = Replaced { next, dry_run: true, ..Replaced::of(&record, to.kek.source) };
            done.kek_file = file_of(&to);
            return output.show(&done, || done.text());
        }
        Err(error) => {
            reached.close().await;
            return Err(error);
        }
    };
    if let Err(error) = refuse_the_present(reached.record(), &new, to.kek.source) {
        reached.close().await;
        return Err(error);
    }
    let new = (to.kek.source, new);
    let mut done = put_under(folder.path(), reached, present, new, next, mode).await?;
    done.kek_file = file_of(&to);
    output.show(&done, || done.text())
}

/// The configuration as it will be.
fn target(config: &Config, args: &RewrapArgs) -> Result<Config, CliError> {
    let mut to = config.clone();
    to.kek.source = args.to;
    let source = args.to.as_str();
    match (args.to, &args.place) {
        (_, None) => {}
        (KekSource::File, Some(file)) => to.kek.file = Some(PathBuf::from(file)),
        (KekSource::Env, Some(variable)) => to.kek.env = variable.clone(),
        (KekSource::Credential, Some(name)) => to.kek.credential = name.clone(),
        (KekSource::Passphrase | KekSource::Command, Some(_)) => {
            return Err(CliError::usage(format!("--to {source} takes no place")));
        }
    }
    if args.to == config.kek.source {
        return Err(CliError::usage(format!(
            "kek.source is \"{source}\" already; 'tenure kek rotate' replaces its KEK"
        )));
    }
    if args.new_kek.is_some() && args.to == KekSource::Passphrase {
        return Err(CliError::usage("--to passphrase takes no --new-kek: the passphrase makes it"));
    }
    if args.new_passphrase_fd.is_some() && args.to != KekSource::Passphrase {
        return Err(CliError::usage("--new-passphrase-fd goes with --to passphrase"));
    }
    to.require_kek_apart_from_data()?;
    Ok(to)
}

/// From where it will be read from, or into there: so it is proved before the store
/// hangs on it. `None` where it would be made and nothing may be.
fn new_for(
    to: &Config,
    given: Option<Kek>,
    descriptor: Option<u32>,
    mode: Mode,
) -> Result<Option<NewKek>, CliError> {
    match (to.kek.source, given) {
        (KekSource::Passphrase, _) if mode == Mode::LookOnly => Ok(None),
        (KekSource::Passphrase, _) => {
            passphrase::new_kek(descriptor, "--new-passphrase-fd").map(Some)
        }
        (KekSource::File, given) => new_file(to, given, mode),
        (_, None) => source(to).create().map(Some),
        (source, Some(kek)) => Ok(Some(NewKek { kek, way: way_of(source), created: None })),
    }
}

fn new_file(to: &Config, given: Option<Kek>, mode: Mode) -> Result<Option<NewKek>, CliError> {
    let place = Place::of(to.kek.file.as_deref())?;
    match (place.path().exists(), given, mode) {
        (false, _, Mode::LookOnly) => Ok(None),
        (false, Some(given), Mode::Replace) => {
            let created = place.create(&given)?;
            Ok(Some(NewKek { kek: given, way: KekWay::File, created: Some(created) }))
        }
        (true, Some(given), _) if !place.current()?.is(&given) => Err(CliError::usage(format!(
            "{} holds another KEK than --new-kek; move it away, or name another place",
            place.path().display()
        ))),
        _ => source(to).create().map(Some),
    }
}

/// A new source takes a new KEK: the old place may have leaked it.
fn refuse_the_present(record: &KekRecord, new: &NewKek, to: KekSource) -> Result<(), CliError> {
    let came_from = record.origin.as_ref().map(|origin| origin.way.word());
    if !record.is_of(&new.kek) || came_from == Some(to.as_str()) {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "kek.source = \"{}\" would give the KEK that the store is under, and a new source takes a \
         new one: put there what 'tenure kek generate' prints",
        to.as_str()
    )))
}

fn file_of(config: &Config) -> Option<String> {
    let file = config.kek.file.as_ref().filter(|_| config.kek.source == KekSource::File);
    file.map(|file| file.display().to_string())
}

/// The lines that a start needs from now on.
fn change_configuration(to: &Config) -> String {
    let source = to.kek.source;
    let quoted = |text: &str| format!("{text:?}");
    let (key, value) = match source {
        KekSource::File => ("file", quoted(&file_of(to).unwrap_or_default())),
        KekSource::Env => ("env", quoted(&to.kek.env)),
        KekSource::Credential => ("credential", quoted(&to.kek.credential)),
        KekSource::Command => ("command", "[what prints this KEK]".to_owned()),
        KekSource::Passphrase => ("passphrase_fd", "\"\"   # or the descriptor to read".to_owned()),
    };
    format!(
        "before the next start, say so in the configuration, and prove it with 'tenure kek \
         check':\n  [kek]\n  source = \"{}\"\n  {key} = {value}\n{BACKUPS}",
        source.as_str()
    )
}
