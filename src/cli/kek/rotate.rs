//! `tenure kek rotate`: a new KEK from the same source.

use std::path::Path;

use super::super::access;
use super::super::args::RotateArgs;
use super::super::maintain::Output;
use super::super::shares;
use super::file::{Old, Place};
use super::passphrase;
use super::reach::{self, Reached};
use super::replace::{
    BACKUPS, Change, Mode, NewShares, Replaced, given, prove, put_in_shares, put_under,
    refuse_given, way_of,
};
use super::{CliError, Fetched, NewKek};
use crate::config::{Config, KekSource};
use crate::crypto::{Kek, KekRecord, KekWay};

pub(super) async fn rotate(args: RotateArgs, output: Output) -> Result<(), CliError> {
    let (config, folder) = access::enter_for(&args.change.store)?;
    let _alone = reach::alone(&folder)?;
    refuse_idle_options(&args, config.kek.source)?;
    let given = args.new_kek.as_deref().map(given).transpose()?;
    let old = if args.discard_old { Old::Removed } else { Old::Kept };
    let mode = Mode::of(args.change.dry_run);
    let done = match (config.kek.source, given) {
        (KekSource::File, given) => {
            let files = Files::look_at(Place::of(config.kek.file.as_deref())?)?;
            let reached = Reached::reach(&folder, &config).await?;
            files.rotate(folder.path(), reached, given, old, mode).await?
        }
        (KekSource::Passphrase, _) => {
            let descriptor = args.change.new_passphrase_fd;
            refuse_one_descriptor_for_two(config.kek.passphrase_fd, descriptor)?;
            let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
            rotate_passphrase(folder.path(), reached, present, descriptor, mode).await?
        }
        (KekSource::Shamir, _) => {
            let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
            let new = NewShares { split: &args.change.split, next: String::new(), mode, output };
            return put_in_shares(folder.path(), reached, present, new).await;
        }
        (source @ (KekSource::Env | KekSource::Credential | KekSource::Command), Some(kek)) => {
            let new = NewKek { kek, way: way_of(source), created: None };
            let change = Change { source, new, next: put_there(&config), mode };
            let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
            put_under(folder.path(), reached, present, change).await?
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

/// An option that would do nothing was meant for something else.
fn refuse_idle_options(args: &RotateArgs, source: KekSource) -> Result<(), CliError> {
    let (of_file, of_passphrase) = (source == KekSource::File, source == KekSource::Passphrase);
    if source == KekSource::Shamir {
        refuse_given(args.new_kek.is_some())?;
    } else {
        shares::refuse_split(&args.change.split)?;
    }
    for (is_idle, option, needs) in [
        (args.new_kek.is_some() && of_passphrase, "--new-kek", "another than \"passphrase\""),
        (
            args.change.new_passphrase_fd.is_some() && !of_passphrase,
            "--new-passphrase-fd",
            "\"passphrase\"",
        ),
        (args.discard_old && !of_file, "--discard-old", "\"file\""),
    ] {
        if is_idle {
            return Err(CliError::usage(format!(
                "{option} goes with kek.source = {needs}, and it is \"{}\"",
                source.as_str()
            )));
        }
    }
    Ok(())
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

/// What the operator does with a KEK that only they can put in its place.
fn put_there(config: &Config) -> String {
    let place = match config.kek.source {
        KekSource::Env => format!("into the variable {} (kek.env)", config.kek.env),
        KekSource::Credential => format!(
            "where the unit's LoadCredential={}:… reads it (kek.credential)",
            config.kek.credential
        ),
        KekSource::Command => "where kek.command reads it".to_owned(),
        KekSource::File | KekSource::Passphrase | KekSource::Shamir => {
            "where it is read".to_owned()
        }
    };
    format!(
        "before the next start, put the new KEK {place}, and prove it with 'tenure kek check'\n\
         {BACKUPS}"
    )
}

async fn rotate_passphrase(
    place: &Path,
    reached: Reached<'_>,
    present: Option<Fetched>,
    descriptor: Option<u32>,
    mode: Mode,
) -> Result<Replaced, CliError> {
    let record = reached.record().clone();
    let mut done = Replaced::of(&record, KekSource::Passphrase);
    done.next = "backups made until now need the old passphrase: keep it as long as them\n".into();
    // The old one is proved before anybody is asked for a new one.
    let (reached, old) = reached.go_on(prove(present, place, &record)).await?;
    if mode == Mode::LookOnly {
        reached.close().await;
        done.dry_run = true;
        return Ok(done);
    }
    let new = passphrase::new_kek(descriptor, "--new-passphrase-fd");
    let (reached, new) = reached.go_on(new).await?;
    done.fingerprint = Some(record.fingerprint_of(&new.kek));
    reached.replace(old.as_ref(), &new).await?;
    Ok(done)
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
        let step = step(data, &place, &record, (current, next), given);
        let (reached, step) = reached.go_on(step).await?;
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
                let (reached, ()) = reached.go_on(write_next(&place, &new.kek)).await?;
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

/// Before the store hangs on it, it is seen to be there.
fn write_next(place: &Place, new: &Kek) -> Result<(), CliError> {
    place.write_next(new)?;
    if place.next()?.is_some_and(|written| written.is(new)) {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "{} does not hold what was written there: does another rotation use the same file? \
         Nothing was changed",
        place.next_path().display()
    )))
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
