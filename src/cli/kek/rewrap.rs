//! `tenure kek rewrap`: a new KEK from another source.

use super::super::access::{self, DevStore};
use super::super::args::RewrapArgs;
use super::super::maintain::Output;
use super::super::shares;
use super::file::Place;
use super::passphrase;
use super::reach::{self, Reached};
use super::replace::{
    BACKUPS, Change, Mode, NewShares, Replaced, given, prove, put_in_shares, put_under,
    refuse_given, way_of,
};
use super::{CliError, NewKek, source};
use crate::config::{Config, KekSource};
use crate::crypto::{Kek, KekRecord, KekWay};

pub(super) async fn rewrap(args: RewrapArgs, output: Output) -> Result<(), CliError> {
    let (config, folder) = access::enter_for(&args.change.store)?;
    let _alone = reach::alone(&folder)?;
    let to = target(&config, &args)?;
    let given = args.new_kek.as_deref().map(given).transpose()?;
    let mode = Mode::of(args.change.dry_run);
    let (reached, present) = Reached::reach_with_kek(&folder, &config).await?;
    if to.kek.source == KekSource::Shamir {
        let next = change_configuration(&to);
        let new = NewShares { split: &args.change.split, next, mode, output };
        return put_in_shares(folder.path(), reached, present, new).await;
    }
    let new = new_for(&to, given, args.change.new_passphrase_fd, mode);
    let (reached, new) = reached.go_on(new).await?;
    let (source, next) = (to.kek.source, change_configuration(&to));
    let done = match new {
        Some(new) => {
            let refused = refuse_the_present(reached.record(), &new, source);
            let (reached, ()) = reached.go_on(refused).await?;
            let change = Change { source, new, next, mode };
            put_under(folder.path(), reached, present, change).await?
        }
        // It would be made, and nothing may be.
        None => {
            let record = reached.record().clone();
            reached.close().await;
            prove(present, folder.path(), &record)?;
            Replaced { next, dry_run: true, ..Replaced::of(&record, source) }
        }
    };
    let done = Replaced { kek_file: file_of(&to), ..done };
    output.show(&done, || done.text())
}

/// The configuration as it will be; judged like one that was written so.
fn target(config: &Config, args: &RewrapArgs) -> Result<Config, CliError> {
    let source = args.to.as_str();
    let mut flags = vec![("kek.source", source.to_owned())];
    if let Some(place) = &args.place {
        let key = match args.to {
            KekSource::File => "kek.file",
            KekSource::Env => "kek.env",
            KekSource::Credential => "kek.credential",
            KekSource::Passphrase | KekSource::Command | KekSource::Shamir => {
                return Err(CliError::usage(format!("--to {source} takes no place")));
            }
        };
        flags.push((key, place.clone()));
    }
    let to = access::configure(&args.change.store, DevStore::Allowed, flags)?;
    if to.kek == config.kek {
        return Err(CliError::usage(format!(
            "the KEK comes from there already (kek.source = \"{source}\"); 'tenure kek rotate' \
             replaces it"
        )));
    }
    if args.to == KekSource::Shamir {
        refuse_given(args.new_kek.is_some())?;
    } else {
        shares::refuse_split(&args.change.split)?;
    }
    if args.new_kek.is_some() && args.to == KekSource::Passphrase {
        return Err(CliError::usage("--to passphrase takes no --new-kek: the passphrase makes it"));
    }
    if args.change.new_passphrase_fd.is_some() && args.to != KekSource::Passphrase {
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
        KekSource::Shamir => {
            return format!(
                "before the next start, say so in the configuration; it starts sealed then, and \
                 'tenure unseal' takes the shares:\n  [kek]\n  source = \"shamir\"\n{BACKUPS}"
            );
        }
    };
    format!(
        "before the next start, say so in the configuration, and prove it with 'tenure kek \
         check':\n  [kek]\n  source = \"{}\"\n  {key} = {value}\n{BACKUPS}",
        source.as_str()
    )
}
