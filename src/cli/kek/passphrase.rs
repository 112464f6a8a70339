//! `kek.source = "passphrase"`: derived from what somebody types, or a descriptor holds.

use super::super::prompt::Answer;
use super::super::signals::interrupted;
use super::super::terminal;
use super::{CliError, Material, NewKek, Proved, prompt};
use crate::crypto::{Argon2Params, DeriveError, KekRecord, KekWay, Passphrase};

pub(super) struct Source {
    /// `kek.passphrase_fd`; `None` asks on the terminal.
    pub(super) descriptor: Option<u32>,
}

impl super::Source for Source {
    fn fetch(&self) -> Result<Box<dyn Material>, CliError> {
        let passphrase = match self.descriptor {
            Some(number) => from_descriptor(number, "kek.passphrase_fd")?,
            None => asked("Passphrase of the store: ")?,
        };
        Ok(Box::new(Typed(passphrase)))
    }

    fn create(&self) -> Result<NewKek, CliError> {
        new_kek(self.descriptor, "kek.passphrase_fd")
    }

    fn protection(&self) -> String {
        let Argon2Params { memory_kib, passes, .. } = Argon2Params::generate();
        format!(
            "The KEK is derived from a passphrase (Argon2id, {} MiB, {passes} passes) and stored \
             nowhere. Whoever has the data can try passphrases, so its strength is all that \
             protects it; and a server starts only when it is given the passphrase. If it is \
             forgotten, nothing that is stored can be read again, by anyone, and no backup of it \
             either: keep it in writing, apart from the data and its backups.",
            memory_kib / 1024
        )
    }
}

/// A KEK of a new passphrase, with a salt of its own. `option`: what names the
/// descriptor.
pub(super) fn new_kek(descriptor: Option<u32>, option: &str) -> Result<NewKek, CliError> {
    let passphrase = match descriptor {
        Some(number) => long_enough(from_descriptor(number, option)?)?,
        None => {
            let passphrase = long_enough(asked("New passphrase: ")?)?;
            if !asked("The same again: ")?.is(&passphrase) {
                return Err(CliError::usage(
                    "the two passphrases differ; nothing was changed, so begin again",
                ));
            }
            passphrase
        }
    };
    let params = Argon2Params::generate();
    let kek = passphrase.to_kek(&params).map_err(underivable)?;
    Ok(NewKek { kek, way: KekWay::Passphrase(params), created: None })
}

fn long_enough(passphrase: Passphrase) -> Result<Passphrase, CliError> {
    if passphrase.is_long_enough() {
        return Ok(passphrase);
    }
    Err(CliError::usage(format!(
        "the passphrase is too short: whoever has the data can try them, so take at least {} \
         characters, best six random words",
        Passphrase::LEAST_CHARS
    )))
}

fn from_descriptor(number: u32, option: &str) -> Result<Passphrase, CliError> {
    let line = prompt::line_of_descriptor(number, Passphrase::MAX_BYTES).map_err(|error| {
        CliError::usage(format!(
            "descriptor {number} ({option}) cannot be read: {error}; open it for this process, as \
             with 'tenure … {number}< FILE'"
        ))
    })?;
    Passphrase::parse(&line).map_err(|error| {
        CliError::usage(format!("descriptor {number} ({option}): {error}; it holds one line"))
    })
}

fn asked(prompt: &str) -> Result<Passphrase, CliError> {
    let terminal = terminal::of_this_process().map_err(|_| {
        CliError::usage(
            "there is no terminal to ask for the passphrase on: run this on one, or set \
             kek.passphrase_fd to a descriptor that holds it (0 is standard input; for a new one, \
             --new-passphrase-fd)",
        )
    })?;
    let typed = prompt::ask(&terminal, prompt, Passphrase::MAX_BYTES)
        .map_err(|error| CliError::unavailable(format!("the terminal cannot be read: {error}")))?;
    match typed {
        Answer::Line(line) => Passphrase::parse(&line).map_err(CliError::usage),
        Answer::End => Passphrase::parse(b"").map_err(CliError::usage),
        Answer::Interrupt => Err(interrupted()),
        Answer::Unclear(why) => Err(CliError::usage(why)),
    }
}

struct Typed(Passphrase);

impl Material for Typed {
    fn prove(self: Box<Self>, record: &KekRecord) -> Result<Option<Proved>, CliError> {
        let Some(way @ KekWay::Passphrase(params)) = record.origin.as_ref().map(|it| it.way) else {
            return Ok(None);
        };
        let kek = self.0.to_kek(&params).map_err(underivable)?;
        Ok(record.is_of(&kek).then_some(Proved { kek, way }))
    }
}

fn underivable(error: DeriveError) -> CliError {
    match error {
        DeriveError::OutOfBounds { .. } => super::super::internal(format!(
            "{error}: the store's header is damaged or was altered; restore it from a backup"
        )),
        DeriveError::Memory { .. } => CliError::unavailable(format!("{error}; free some")),
    }
}
