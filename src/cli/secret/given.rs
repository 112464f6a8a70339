//! The value that a secret is given: typed, read, generated, or none.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::str::FromStr;

use clap::Args;
use zeroize::Zeroizing;

use super::super::failure::CliError;
use super::super::prompt;
use crate::crypto;
use crate::domain::SecretValue;

#[derive(Debug, Args)]
pub(in crate::cli) struct ValueArgs {
    /// Standard input if it is -, a file if it is @FILE (@@x is the text @x). Without it the
    /// value is asked for, and not shown; where standard input is no terminal, it is read from
    /// there
    #[arg(value_name = "VALUE", conflicts_with_all = ["null", "generate"])]
    value: Option<Typed>,
    /// Store the JSON value null
    #[arg(long, conflicts_with = "generate")]
    null: bool,
    /// Store so many random characters of A-Z a-z 0-9 - _, which nobody sees
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    generate: Option<u16>,
    /// Print what was generated, once it is stored
    #[arg(long, requires = "generate", conflicts_with = "value")]
    pub(super) show: bool,
}

impl ValueArgs {
    /// `None` is the JSON value `null`.
    pub(super) fn value(self, name: &str) -> Result<Option<SecretValue>, CliError> {
        let Self { value, null, generate, show: _ } = self;
        if null {
            return Ok(None);
        }
        if let Some(length) = generate {
            return Ok(Some(random(length.into())));
        }
        let value = match value {
            // Nobody wants to see it there either.
            Some(Typed(text)) if text.as_str() == "-" && io::stdin().is_terminal() => typed(name)?,
            Some(Typed(text)) => of_word(text)?,
            None if io::stdin().is_terminal() => typed(name)?,
            None => piped()?,
        };
        Ok(Some(value))
    }
}

/// A word of the command line that may be a secret.
#[derive(Clone)]
struct Typed(Zeroizing<String>);

impl FromStr for Typed {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed(..)")
    }
}

fn of_word(word: Zeroizing<String>) -> Result<SecretValue, CliError> {
    match word.strip_prefix('@') {
        _ if word.as_str() == "-" => read(io::stdin().lock(), "standard input"),
        None => Ok(SecretValue::new(word)),
        Some(text) if text.starts_with('@') => {
            Ok(SecretValue::new(Zeroizing::new(text.to_owned())))
        }
        Some(path) => {
            let file = File::open(path).map_err(|error| {
                CliError::usage(format!(
                    "the file after @ cannot be read: {error}; a value that begins with @ is \
                     written with @@"
                ))
            });
            read(file?, "the file")
        }
    }
}

/// One line, without its end.
fn typed(name: &str) -> Result<SecretValue, CliError> {
    let line = prompt::hidden_line(&format!("Value of '{name}' (not shown): "))?;
    let line = line.unwrap_or_default();
    if line.is_empty() {
        return Err(CliError::usage(
            "nothing was typed, and nothing is stored; '' after the name stores an empty value",
        ));
    }
    Ok(SecretValue::new(line))
}

/// Where nobody said that it is to be read, there must be something.
fn piped() -> Result<SecretValue, CliError> {
    let value = read(io::stdin().lock(), "standard input")?;
    if value.is_empty() {
        return Err(CliError::usage(
            "no value: standard input is empty; pipe it in, or say @FILE, --generate N or --null \
             ('' after the name stores an empty value)",
        ));
    }
    Ok(value)
}

/// All of it, as it is.
pub(super) fn read(source: impl Read, what: &str) -> Result<SecretValue, CliError> {
    let most = SecretValue::HARD_MAX_BYTES;
    let mut bytes = Zeroizing::new(Vec::new());
    let read = source.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::usage(format!("{what} cannot be read: {error}")))?;
    if bytes.len() > most {
        return Err(CliError::usage(format!(
            "{what} is longer than 1 MiB, the most that a secret holds"
        )));
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(SecretValue::new(Zeroizing::new(text))),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(CliError::usage(format!(
                "{what} is not UTF-8 text, which values are; store it encoded: base64 -w0 FILE | \
                 tenure put NAME -"
            )))
        }
    }
}

/// 64 characters: each is six random bits, and all are as likely.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn random(length: usize) -> SecretValue {
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let bytes = Zeroizing::new(crypto::random::<64>());
        let characters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 64)));
        let rest = length - text.len();
        text.extend(characters.take(rest).map(|character| char::from(*character)));
    }
    SecretValue::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_as_long_as_asked_and_uses_every_character() {
        for length in [1, 32, 64, 65, 4096] {
            assert_eq!(random(length).len(), length);
        }
        let text = random(64 * 64);
        let mut counts = [0_u32; 256];
        text.expose().bytes().for_each(|byte| counts[usize::from(byte)] += 1);
        let of_alphabet = ALPHABET.map(|byte| counts[usize::from(byte)]);
        // 64 of each are expected; that one is not among 24 to 120 has a chance below 1e-6.
        assert!(of_alphabet.iter().all(|count| (24..=120).contains(count)), "{of_alphabet:?}");
        assert_eq!(of_alphabet.iter().sum::<u32>(), 4096);
        assert!(random(32).expose() != random(32).expose());
    }

    #[test]
    fn bytes_are_kept_as_they_are_or_refused() {
        let value = |bytes: &[u8]| read(bytes, "it").map_err(|error| error.message);
        assert_eq!(value(b"a\r\n\n").unwrap().expose(), "a\r\n\n");
        assert!(value(b"hunter2\xff").unwrap_err().contains("base64"));
        let most = vec![b'x'; SecretValue::HARD_MAX_BYTES];
        assert_eq!(value(&most).unwrap().len(), most.len());
        assert!(value(&[&most[..], b"x"].concat()).unwrap_err().contains("1 MiB"));
    }

    #[test]
    fn a_word_that_may_be_a_secret_is_not_printed() {
        let typed: Typed = "hunter2".parse().unwrap();
        assert!(!format!("{typed:?}").contains("hunter2"));
        assert_eq!(of_word(typed.0).unwrap().expose(), "hunter2");
        assert_eq!(of_word(Zeroizing::new("@@x".to_owned())).unwrap().expose(), "@x");
    }
}
